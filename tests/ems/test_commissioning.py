"""`ems scan`, `ems check --probe` and `ems share` on a running street."""

import asyncio
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pymodbus.client import AsyncModbusTcpClient
from typer.testing import CliRunner

from drivers.device_file import DEVICES
from drivers.file_device import load_device_file
from drivers.twin import ServedHome, serve
from drivers.twin.file_image import FileImage
from drivers.twin.server import Station, serve_tcp
from ems.cli import app
from ems.clock import ScaledClock
from ems.commissioning import LoadStep, probe_sites
from ems.config import load_sites
from ems.demo.field import endpoints
from ems.demo.street import home_spec, recording, site_file, street, vehicle_sessions
from ems.service import make_service
from ems.settings import Settings
from tests.ems.street import NOON, served_street

SPEED = 600.0


async def ems(*arguments: str):
    """Run a command beside the street, which goes on answering."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


@asynccontextmanager
async def living_street(folder: Path, count: int = 2) -> AsyncIterator[tuple[Path, tuple[ServedHome, ...]]]:
    """The demo's street in time that runs; gives its site file."""
    clock = ScaledClock(site_start_at=NOON, wall_start_at=datetime.now(UTC), speed=SPEED)
    homes, recorded, sessions = street(count), recording(), vehicle_sessions()
    async with serve([home_spec(home, recorded, sessions) for home in homes], clock=clock.now) as served:
        path = folder / "street.yaml"
        path.write_text(site_file(homes, endpoints(served)), encoding="utf-8")
        yield path, served


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def edit(path: Path, old: str, new: str) -> None:
    """Change the first place of a file."""
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")


def written(homes: tuple[ServedHome, ...]) -> int:
    return sum(station.writes for home in homes for _, station in home.stations.values())


async def test_a_scan_of_every_unit_finds_each_device_of_the_street(tmp_path: Path) -> None:
    async with living_street(tmp_path) as (_, homes):
        for home in homes:
            for device in home.devices:
                done = await ems("scan", urlsplit(device.endpoint).netloc, "--units", "1-247")
                assert done.exit_code == 0, done.output
                assert f"driver: {device.driver}" in done.output and "1 unit answered" in done.output
        assert written(homes) == 0


async def test_a_scan_shows_every_point_on_demand(tmp_path: Path) -> None:
    async with living_street(tmp_path, count=1) as (_, (home,)):
        inverter = next(d for d in home.devices if d.role == "inverter")
        done = await ems("scan", urlsplit(inverter.endpoint).netloc, "--units", "1", "--points")
    assert "  1.Mn = EMS Twin" in done.output
    assert "  120.WRtg = 5000 W" in done.output
    assert "  160.module[3].IDStr = StCha 3" in done.output


async def test_a_scan_tells_the_units_behind_one_gateway_apart() -> None:
    units = {
        3: FileImage(load_device_file("eastron-sdm630").spec).image,
        40: FileImage(load_device_file("abb-terra-ac").spec).image,
        247: FileImage(load_device_file("keba-p30").spec).image,
    }
    server = await serve_tcp(Station(units=units), "127.0.0.1", 0)
    done = await ems("scan", f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "--units", "1-247")
    server.close()
    assert [line.split(":")[0] for line in done.output.splitlines() if line.startswith("unit")] == [
        "unit 3", "unit 40", "unit 247",
    ]  # fmt: skip
    for driver in ("eastron-sdm630", "abb-terra-ac", "keba-p30"):
        assert f"driver: {driver}" in done.output


async def test_a_probe_proves_the_street_and_shows_what_it_would_write_without_writing(
    tmp_path: Path,
) -> None:
    async with living_street(tmp_path) as (path, homes):
        done = await ems("check", str(path), "--probe", "--probe-s", "900", "--speed", str(SPEED))
        assert written(homes) == 0
    assert done.exit_code == 0, done.output
    for rule in (
        "phases against their sum",
        "power against volts x amperes",
        "meter direction against the inverters",
    ):
        assert rule in done.output
    assert "proven" in done.output and "wrong" not in done.output
    assert (
        "would write for battery_power 1 kW: 124.OutWRte, 124.InWRte, 124.InOutWRte_WinTms, "
        "124.InOutWRte_RvrtTms = f830 07d0 0000 0384 (now 2710 2710 0000 0000)" in done.output
    )


async def test_a_probe_finds_the_meter_that_was_mounted_the_wrong_way_round(tmp_path: Path) -> None:
    """Power and counters are swapped alike, so they agree; but nobody feeds in more than there is."""
    async with living_street(tmp_path, count=1) as (path, (home,)):
        home.faults("meter").swap_sign = True
        home.physics.orders.battery_low_kw = home.physics.orders.battery_high_kw = 5.0  # it draws, for sure
        home.physics.settle()
        done = await ems("check", str(path), "--probe", "--probe-s", "60", "--speed", str(SPEED))
        assert done.exit_code == 1, done.output
        assert "wrong, meter direction against the inverters" in done.output
        assert "swap_direction: true" in done.output
        edit(path, "role: grid_meter", "role: grid_meter, swap_direction: true")
        mended = await ems("check", str(path), "--probe", "--probe-s", "60", "--speed", str(SPEED))
        assert mended.exit_code == 0, mended.output
        assert "proven, meter direction against the inverters" in mended.output


@pytest.mark.parametrize(
    ("swapped", "said", "sound"),
    [(False, "proven, known load step", True), (True, "set swap_direction", False)],
)
async def test_a_load_step_is_guided_on_the_terminal(
    tmp_path: Path, swapped: bool, said: str, sound: bool
) -> None:
    async with served_street(tmp_path, count=1) as home:
        (served,) = home.homes
        served.faults("meter").swap_sign = swapped
        orders = served.physics.orders
        orders.battery_low_kw = orders.battery_high_kw = 0.0
        served.physics.settle()

        def switch_on(question: str) -> str:
            asked.append(question)
            orders.battery_low_kw = orders.battery_high_kw = 2.0  # what draws does not matter to the meter
            served.physics.settle()
            return ""

        asked: list[str] = []
        told: list[str] = []
        sites = load_sites(
            tmp_path / "street.yaml", known_drivers={"sunspec", "eastron-sdm630", "abb-terra-ac"}
        )
        step = LoadStep(power_kw=2.0, ask=switch_on)
        outcome = await asyncio.to_thread(
            probe_sites, sites, told.append, seconds=1.0, speed=100.0, step=step
        )
    assert asked == ["home-01: switch on a load of 2 kW, then press Enter"]
    assert any(said in line for line in told), told
    assert outcome is sound


async def test_ems_share_lets_two_readers_at_a_device_and_refuses_their_writes() -> None:
    station = Station(units={1: FileImage(load_device_file("eastron-sdm630").spec).image})
    server = await serve_tcp(station, "127.0.0.1", 0)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ems", "share", f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "--port", str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert f"tcp://127.0.0.1:{port}" in line and "read only" in line
    guests = [AsyncModbusTcpClient("127.0.0.1", port=port, retries=0) for _ in range(2)]
    for guest in guests:
        assert await guest.connect()
    answers = await asyncio.gather(*(g.read_input_registers(52, count=2, device_id=1) for g in guests))
    assert [a.isError() for a in answers] == [False, False] and answers[0].registers == answers[1].registers
    assert (await guests[0].write_register(0, 1, device_id=1)).exception_code == 1
    assert len(station.clients) == 1, "the device sees one connection"
    assert station.writes == 0
    for guest in guests:
        guest.close()
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    server.close()


async def test_a_running_service_shares_the_device_its_site_file_says(tmp_path: Path) -> None:
    port = free_port()
    async with served_street(tmp_path, count=1, taught=False) as home:
        path = tmp_path / "street.yaml"
        edit(path, "role: hybrid_inverter", f"share: {{port: {port}}}, role: hybrid_inverter")
        settings = Settings(
            site_files=(path,),
            store_url=f"sqlite:///{tmp_path / 'ems.sqlite'}",
            fast_loop_s=0.0,
            clock=ScaledClock(site_start_at=NOON, wall_start_at=datetime.now(UTC), speed=1.0),
        )
        service = make_service(settings)
        await service.start()
        station = home.homes[0].stations["inverter"][1]
        writes = station.writes
        guest = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
        assert await guest.connect()
        marker = await guest.read_holding_registers(40000, count=2, device_id=1)
        assert b"".join(r.to_bytes(2, "big") for r in marker.registers) == b"SunS"
        refused = await guest.write_register(40000, 1, device_id=1)
        assert refused.exception_code == 1 and station.writes == writes
        assert len(station.clients) == 1, "ours and the guest's requests take one connection"
        guest.close()
        elsewhere = replace(settings, store_url=f"sqlite:///{tmp_path / 'other.sqlite'}")
        blocked = make_service(elsewhere)
        await blocked.start()
        assert any(f"not shared on 127.0.0.1:{port}" in problem for problem in blocked.problems())
        await blocked.stop()
        await service.stop()


# what `ems check` says of the file alone


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[Path]:
    async with living_street(tmp_path, count=1) as (path, _):
        yield path


async def test_a_device_nobody_uses_is_named(file: Path) -> None:
    spare = "      spare: {endpoint: 'tcp://192.0.2.9', driver: sunspec, role: pv_inverter}\n"
    edit(file, "    devices:\n", f"    devices:\n{spare}")
    done = await ems("check", str(file))
    assert done.exit_code == 0
    assert "warning" in done.output and "home-01.devices.spare" in done.output
    assert "no asset is behind it" in done.output


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param(
            "tcp://127.0.0.1", "rtu:///dev/ttyUSB0?baud=fast#", "whole numbers", id="endpoint option"
        ),
        pytest.param(
            "driver: sunspec", "driver: mine.yaml", "no such device file", id="file that is not there"
        ),
    ],
)
async def test_what_cannot_be_addressed_is_a_mistake_of_the_file(
    file: Path, old: str, new: str, says: str
) -> None:
    edit(file, old, new)
    done = await ems("check", str(file))
    assert done.exit_code == 2 and says in done.output, done.output


async def test_a_device_file_of_ones_own_is_found_beside_the_site_file_and_checked(file: Path) -> None:
    shutil.copy(DEVICES / "eastron-sdm120.yaml", file.parent / "mine.yaml")
    edit(file, "driver: sunspec", "driver: mine.yaml")
    assert (await ems("check", str(file))).exit_code == 0
    shutil.copy(DEVICES / "eastron-sdm120.yaml", file.parent / "broken.yaml")
    edit(file.parent / "broken.yaml", "maker:", "makker:")
    edit(file, "driver: mine.yaml", "driver: broken.yaml")
    done = await ems("check", str(file))
    assert done.exit_code == 2 and "makker" in done.output
