"""The whole service with a broker and a controller: killed, started again, stopped; nothing said to it is lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest

from ems.store import Store
from tests.ems.channels.conftest import CLOCK, ROOT, Broker, eventually, free_port, running
from tests.ems.channels.test_mqtt import acknowledgement, listening, say

BASE = "ems/v1/practice/bms"
TARGET = f"{BASE}/setpoint/battery/battery_net_consumption_kw"


def ready(port: int) -> bool:
    with suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).status == 200)
    return False


@asynccontextmanager
async def process(*words: object, **environment: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    started = await asyncio.to_thread(
        subprocess.Popen, [str(word) for word in words], cwd=ROOT, env=os.environ | environment
    )
    try:
        yield started
    finally:
        started.kill()
        await asyncio.to_thread(started.wait)


@pytest.mark.service
@pytest.mark.timeout(300)
async def test_a_service_killed_between_setpoint_and_answer_knows_the_answer_when_it_is_back(
    make_broker: Callable[..., Broker], tmp_path: Path, controller: ModuleType
) -> None:
    broker, port = make_broker(), free_port()
    database = f"sqlite:///{tmp_path / 'ems.sqlite'}"
    environment = {"EMS_STORE": database, "BROKER_PASSWORD": "anything goes here"}
    practice = [sys.executable, ROOT / "deploy/controller/practice.py", tmp_path, "--mqtt-port", broker.port]
    run = [sys.executable, "-m", "ems", "run", tmp_path / "mqtt.yaml", "--port", port]
    plant = controller.Plant(name="bms", ratings_kw={"battery": (-3.0, 3.0)})
    speaking = controller.speak_mqtt(
        plant, site="practice", broker=f"mqtt://127.0.0.1:{broker.port}", user="", ca_file=None
    )

    def outcomes() -> dict[str, str]:
        store = Store.open(database)
        try:
            recent = store.setpoints("practice", CLOCK.now().replace(year=2020), CLOCK.now())
            return {one.setpoint.id: str(one.delivery and one.delivery.outcome) for one in recent}
        finally:
            store.close()

    async with process(*practice), listening(broker) as heard:
        await eventually((tmp_path / "mqtt.yaml").exists, within_s=60)
        async with process(*run, **environment) as service:
            await eventually(lambda: heard.last.get(TARGET), within_s=120)
            service.send_signal(signal.SIGKILL)
        left = json.loads(heard.last[TARGET])["id"]
        await eventually(lambda: heard.last.get(f"{BASE}/status") == b"offline", within_s=60)
        assert outcomes()[left] in ("sent", "None")  # on record before it was told
        await say(broker, acknowledgement(left, controller="bms"), topic=f"{BASE}/acknowledgement")

        async with process(*run, **environment) as service, running(speaking):
            await eventually(lambda: outcomes()[left] == "applied", within_s=120)
            await eventually(lambda: ready(port), within_s=120)
            await eventually(lambda: "battery" in plant.following)
            service.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.wait) in (0, -signal.SIGTERM)
            # stopped on purpose: the battery was told to run its own mode, and it did, before the setpoint's end
            await eventually(lambda: "battery" not in plant.following)
        assert json.loads(heard.last[f"{BASE}/setpoint/battery/own_mode"])["source"] == "safety"
        assert heard.last[TARGET] == b""
        assert heard.last[f"{BASE}/status"] == b"offline"
    own_mode = next(one for one in outcomes() if ".own_mode." in one)
    assert outcomes()[own_mode] == "applied"  # the service waited for that word
