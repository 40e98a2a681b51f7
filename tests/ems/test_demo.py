"""The demo as its user runs it: real processes, real sockets, `kill -9`, a client that is not ours."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from pymodbus.client import ModbusTcpClient

from ems.demo.run import Demo, DemoError
from ems.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ALWAYS = (datetime(2016, 1, 1, tzinfo=UTC), datetime(2017, 1, 1, tzinfo=UTC))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def cycles(store: Store) -> int:
    return len(store.cycles(*ALWAYS))


def test_kill_9_loses_nothing_and_the_service_goes_on(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo", homes=3, speed=300.0, port=free_port())
    with demo.running(tell=lambda text: None):
        store = Store.open(f"sqlite:///{tmp_path / 'demo' / 'ems.sqlite'}")
        wait_until(lambda: cycles(store) >= 3)
        for _ in range(2):
            seen = {cycle.at for cycle in store.cycles(*ALWAYS)}
            enough = len(seen) + 2
            restarts = demo.restarts
            kept = {home.id: len(store.setpoints(home.id, *ALWAYS, limit=100_000)) for home in demo.homes}
            os.kill(demo.service_pid, signal.SIGKILL)
            wait_until(lambda before=restarts: tended(demo).restarts > before)
            wait_until(lambda count=enough: cycles(store) >= count)
            assert seen <= {cycle.at for cycle in store.cycles(*ALWAYS)}
            for home in demo.homes:
                assert len(store.setpoints(home.id, *ALWAYS, limit=100_000)) >= kept[home.id]
        store.close()
        end_at = demo.clock.now()
        demo.stop()
        figures = demo.key_figures(end_at)

    assert figures.restarts == 2
    assert figures.lost_intervals == 0
    assert figures.undelivered == 0
    assert figures.lost_kwh == 0.0
    assert figures.violation_s == 0.0
    assert figures.sound


def tended(demo: Demo) -> Demo:
    """The supervisor's turn, as the command takes it once a second."""
    demo.tend()
    return demo


def test_a_foreign_client_sees_the_setpoint_the_service_wrote(tmp_path: Path) -> None:
    """pymodbus by hand walks the SunSpec models of an inverter and reads model 124's rates against the store."""
    demo = Demo(tmp_path / "demo", homes=1, speed=60.0, port=free_port())
    with demo.running(tell=lambda text: None):
        store = Store.open(f"sqlite:///{tmp_path / 'demo' / 'ems.sqlite'}")
        wait_until(lambda: cycles(store) >= 1)
        host, port = demo.endpoint("home-01", "inverter")
        with ModbusTcpClient(host, port=port, timeout=5) as client:
            for _ in range(5):
                held_kw = battery_window_kw(client)
                asked = [
                    one.setpoint
                    for one in store.setpoints("home-01", *ALWAYS, limit=10_000)
                    if one.setpoint.asset == "battery" and one.delivery is not None
                ]
                latest = max(asked, key=lambda setpoint: setpoint.valid_from)
                if latest.value_kw is not None and held_kw == pytest.approx(latest.value_kw, abs=0.02):
                    break
                time.sleep(1.0)
            else:
                pytest.fail(f"the inverter holds {held_kw} kW, the service asked {latest.value_kw} kW")
        store.close()


def battery_window_kw(client: ModbusTcpClient) -> float | None:
    """The charging power [kW] model 124 holds the battery at, charging positive; None when it is not held."""
    at = 40002
    while True:
        model, length = registers(client, at, 2)
        if model == 0xFFFF:
            pytest.fail("no model 124")
        if model == 124:
            block = registers(client, at + 2, length)
            break
        at += 2 + length
    most_kw = block[0] * 10.0 ** signed(block[16]) / 1000.0
    scale = 10.0 ** signed(block[23]) / 100.0
    if block[3] & 0b11 != 0b11:
        return None
    out_frac, in_frac = signed(block[10]) * scale, signed(block[11]) * scale
    return in_frac * most_kw if in_frac > 0 else -out_frac * most_kw if out_frac > 0 else 0.0


def registers(client: ModbusTcpClient, address: int, count: int) -> list[int]:
    answer = client.read_holding_registers(address, count=count, device_id=1)
    assert not answer.isError(), answer
    return list(answer.registers)


def signed(register: int) -> int:
    return int(struct.unpack(">h", struct.pack(">H", register))[0])


def test_the_command_prints_key_figures_and_exits_0(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ems", "demo", "--homes", "2", "--speed", "600", "--for", "2h",
         "--folder", str(tmp_path / "demo"), "--port", str(free_port())],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with storage idle" in done.stdout
    assert "no limit broken, nothing lost" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_page_of_a_home_answers_and_live_state_is_served(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo", homes=1, speed=60.0, port=free_port())
    with demo.running(tell=lambda text: None):
        landing = httpx.get(demo.url, headers={"Accept-Language": "en"}, timeout=10)
        assert landing.status_code == httpx.codes.OK
        assert "Home 1" in landing.text
        health = httpx.get(f"{demo.url}healthz", timeout=10).json()
        assert health["status"] == "ready"
        metrics = httpx.get(f"{demo.url}metrics", timeout=10).text
        assert "ems_cycles_total" in metrics


def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "ems", "demo", "--folder", str(tmp_path / "demo"), "--port", str(port)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {port} is in use" in done.stderr


def test_the_demo_never_clears_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with (
        pytest.raises(DemoError, match=r"thesis\.txt"),
        Demo(tmp_path, homes=1, speed=60.0, port=free_port()).running(tell=lambda text: None),
    ):
        pytest.fail("it began")
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_a_demo_that_is_ended_leaves_no_process_behind(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "ems", "demo", "--homes", "1", "--speed", "60", "--port", str(port)]
    demo = subprocess.Popen([*command, "--folder", str(tmp_path / "demo")], stdout=subprocess.DEVNULL)
    wait_until(lambda: answers(port))
    demo.send_signal(signal.SIGTERM)
    demo.wait(timeout=60)
    assert not answers(port), "the service of the demo still runs"


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz/live", timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False
