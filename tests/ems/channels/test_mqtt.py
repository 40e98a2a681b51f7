"""MQTT on a real broker: what arrives, what survives, and what happens while nobody is there."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import aiomqtt
import pytest

from ems.errors import StoreError
from ems.messages import SetpointMessage
from ems.publishing import DeliveryOutcome
from ems.setpoints import Quantity, SetpointKind
from ems.site import HomeAssistant, MqttController, SecretRef
from tests.ems.channels.conftest import CLOCK, ROOT, Broker, eventually, rigged, running
from tests.ems.made import reading

pytestmark = pytest.mark.service
BASE = "ems/v1/home-01/bms"
BROKERS = Callable[..., Broker]


def mqtt(broker: Broker, **changes: object) -> MqttController:
    return MqttController(channel="mqtt", broker=f"mqtt://127.0.0.1:{broker.port}", **changes)  # type: ignore[arg-type]


class Heard:
    """Everything on a broker, as the last payload per topic and as a list."""

    def __init__(self) -> None:
        self.all: list[tuple[str, bytes]] = []
        self.last: dict[str, bytes] = {}

    def setpoints(
        self, topic: str = f"{BASE}/setpoint/store/battery_net_consumption_kw"
    ) -> list[float | None]:
        return [json.loads(payload)["value_kw"] for name, payload in self.all if name == topic and payload]


@asynccontextmanager
async def listening(broker: Broker, topic: str = "#", **login: object):
    heard = Heard()
    async with aiomqtt.Client("127.0.0.1", broker.port, **login) as client:  # type: ignore[arg-type]
        await client.subscribe(topic, qos=1)

        async def listen() -> None:
            async for message in client.messages:
                heard.all.append((str(message.topic), bytes(message.payload)))
                heard.last[str(message.topic)] = bytes(message.payload)

        task = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def say(
    broker: Broker, payload: bytes, *, topic: str = f"{BASE}/acknowledgement", **login: object
) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port, **login) as client:  # type: ignore[arg-type]
        await client.publish(topic, payload, qos=1)


def acknowledgement(setpoint_id: str, state: str = "applied", **changes: object) -> bytes:
    said = {"schema": "ems.acknowledgement/1", "setpoint_id": setpoint_id, "state": state, "value_kw": None,
            "at": CLOCK.now().isoformat(), "controller": "bms"} | changes  # fmt: skip
    return json.dumps(said).encode()


async def run(*words: object, folder: Path | None = None) -> None:
    """Run a program to its end."""
    await asyncio.to_thread(
        subprocess.run, [str(word) for word in words], check=True, capture_output=True, cwd=folder
    )


async def test_a_controller_that_comes_late_finds_the_setpoint_and_what_it_answers_is_on_record(
    make_broker: BROKERS, tmp_path: Path, controller: ModuleType
) -> None:
    broker = make_broker()
    plant = controller.Plant(name="bms", ratings_kw={"store": (-3.0, 2.0)})
    async with rigged(tmp_path, {"bms": mqtt(broker)}) as rig:
        first = await rig.ask(1.25)
        async with listening(broker) as heard:
            await eventually(lambda: f"{BASE}/setpoint/store/battery_net_consumption_kw" in heard.last)
        message = SetpointMessage.model_validate_json(heard.all[-1][1])
        assert (message.id, message.value_kw, message.valid_until) == (first.id, 1.25, first.valid_until)
        assert rig.delivery(first).outcome is DeliveryOutcome.SENT

        speaking = controller.speak_mqtt(
            plant, site="home-01", broker=f"mqtt://127.0.0.1:{broker.port}", user="", ca_file=None
        )
        async with running(speaking):
            await eventually(lambda: rig.states(first))
            assert plant.following["store"]["value_kw"] == 1.25
            second = await rig.ask(3.0)
            await eventually(lambda: rig.states(second))
        applied, clamped = rig.delivery(first), rig.delivery(second)
        assert (applied.outcome, applied.held_kw) == (DeliveryOutcome.APPLIED, 1.25)
        assert (clamped.outcome, clamped.held_kw) == (DeliveryOutcome.CLAMPED, 2.0)
        assert "rated" in clamped.detail


async def test_while_the_broker_is_away_the_newest_setpoint_waits_and_the_older_ones_are_never_sent(
    make_broker: BROKERS, tmp_path: Path
) -> None:
    broker = make_broker()
    async with rigged(tmp_path, {"bms": mqtt(broker)}) as rig:
        await rig.ask(0.5)
        async with listening(broker) as heard:
            await eventually(heard.setpoints)
        broker.kill()
        await eventually(lambda: ("controller.bms", "unreachable") in rig.edges())
        for kw in (1.0, 1.5, 2.0):
            await rig.ask(kw)
        broker.start()
        async with listening(broker) as heard:
            await eventually(heard.setpoints)
            await rig.ask(2.5)
            await eventually(lambda: 2.5 in heard.setpoints())
        assert heard.setpoints() == [2.0, 2.5]
        assert [became for _, became in rig.edges() if became != "silent"] == ["unreachable", "reachable"]


async def test_a_setpoint_that_ran_out_while_the_broker_was_away_never_arrives(
    make_broker: BROKERS, tmp_path: Path
) -> None:
    broker = make_broker()
    async with rigged(tmp_path, {"bms": mqtt(broker)}) as rig:
        await eventually(
            lambda: rig.counted("ems_controllers_away", channel="mqtt", trouble="unreachable") == 0
        )
        broker.kill()
        over = await rig.ask(1.0, lasts_s=1.5)
        await eventually(lambda: rig.states(over) == ["expired"])
        broker.start()
        async with listening(broker) as heard:
            await eventually(lambda: heard.last.get(f"{BASE}/status") == b"online")
            marker = await rig.ask(0.25)
            await eventually(heard.setpoints)
        assert heard.setpoints() == [0.25]
        assert rig.states(marker) == []


async def test_the_broker_itself_forgets_a_setpoint_at_its_end(make_broker: BROKERS, tmp_path: Path) -> None:
    broker = make_broker()
    async with rigged(tmp_path, {"bms": mqtt(broker)}, gently=False) as rig:
        await rig.ask(1.0, lasts_s=2.0)
        async with listening(broker) as heard:
            await eventually(heard.setpoints)
    await asyncio.sleep(3.0)  # the service is dead; only the broker's own clock goes on
    async with listening(broker) as heard:
        await eventually(lambda: f"{BASE}/status" in heard.last)
        await asyncio.sleep(0.5)
    assert heard.setpoints() == []


async def test_a_service_that_stops_says_so_and_leaves_the_word_to_run_ones_own_mode(
    make_broker: BROKERS, tmp_path: Path
) -> None:
    broker = make_broker()
    async with rigged(tmp_path, {"bms": mqtt(broker)}) as rig:
        await rig.ask(2.0)
        async with listening(broker) as heard:
            await eventually(heard.setpoints)
        await rig.ask(None, kind=SetpointKind.MODE, quantity=Quantity.OWN_MODE)
    async with listening(broker) as heard:
        await eventually(lambda: f"{BASE}/setpoint/store/own_mode" in heard.last)
    assert heard.setpoints() == []  # the target's retained message is cleared
    assert json.loads(heard.last[f"{BASE}/setpoint/store/own_mode"])["kind"] == "mode"
    assert heard.last[f"{BASE}/status"] == b"offline"


async def test_a_denied_topic_is_silent_and_shows_as_unverified(make_broker: BROKERS, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    for user in ("ems", "home-01/bms", "home-02/bms"):
        create = [] if passwords.exists() else ["-c"]
        await run("mosquitto_passwd", "-b", *create, passwords, user, f"secret of {user}")
    acl = tmp_path / "acl"
    acl.write_text((ROOT / "deploy" / "mosquitto" / "acl").read_text(encoding="utf-8"), encoding="utf-8")
    broker = make_broker(
        "listener {port} 127.0.0.1", f"password_file {passwords}", f"acl_file {acl}", "allow_anonymous false"
    )
    settings = mqtt(broker, username="home-02/bms", password=SecretRef(env="PW"), acknowledge_within_s=1.0)

    # our own user may not write here: the broker takes the publish and drops it
    async with rigged(tmp_path, {"bms": settings}, environment={"PW": "secret of home-02/bms"}) as rig:
        lost = await rig.ask(1.0)
        await eventually(lambda: rig.delivery(lost).outcome is DeliveryOutcome.UNVERIFIED)
        await eventually(lambda: ("controller.bms", "silent") in rig.edges())
        assert rig.counted("ems_setpoints_unverified_total", channel="mqtt") == 1

    own = {"username": "home-01/bms", "password": "secret of home-01/bms"}
    other = {"username": "home-02/bms", "password": "secret of home-02/bms"}
    settings = mqtt(broker, username="ems", password=SecretRef(env="PW"))
    async with rigged(tmp_path, {"bms": settings}, environment={"PW": "secret of ems"}) as rig:
        async with listening(broker, **own) as mine, listening(broker, **other) as others:
            told = await rig.ask(1.5)
            await eventually(mine.setpoints)
            await say(broker, acknowledgement(told.id, "refused", detail="forged"), **other)
            await say(broker, acknowledgement(told.id, "applied"), **own)
            await eventually(lambda: rig.states(told))
        assert rig.states(told) == ["applied"]  # the neighbour's word was dropped by the broker
        assert others.all == []


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_trusts_who_it_should_and_nobody_else(make_broker: BROKERS, tmp_path: Path) -> None:
    for name in ("ca", "stranger"):
        await run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}",
                  "-keyout", f"{name}.key", "-out", f"{name}.pem", folder=tmp_path)  # fmt: skip
    await run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key",
              "-out", "server.csr", folder=tmp_path)  # fmt: skip
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost\n")
    await run("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
              "-days", 2, "-extfile", "names", "-out", "server.pem", folder=tmp_path)  # fmt: skip
    broker = make_broker(
        "listener {port} 127.0.0.1", f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem",
        f"keyfile {tmp_path}/server.key", "allow_anonymous true",
    )  # fmt: skip

    def settings(ca_file: str) -> MqttController:
        return MqttController(channel="mqtt", broker=f"mqtts://localhost:{broker.port}", ca_file=ca_file)

    async with rigged(tmp_path, {"bms": settings("stranger.pem")}) as rig:
        await eventually(lambda: ("controller.bms", "unreachable") in rig.edges())
        (edge,) = rig.store.edges("home-01", CLOCK.now() - timedelta(hours=1))
        assert "certificate verify failed" in edge.cause
    async with rigged(tmp_path, {"bms": settings("ca.pem")}) as rig:
        wanted = await rig.ask(1.0)
        trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        async with aiomqtt.Client("localhost", broker.port, tls_context=trusted) as client:
            await client.subscribe(f"{BASE}/setpoint/#", qos=1)
            message = await asyncio.wait_for(anext(client.messages), 20)
        assert json.loads(bytes(message.payload))["id"] == wanted.id


async def test_what_is_no_answer_to_us_changes_nothing(make_broker: BROKERS, tmp_path: Path) -> None:
    broker = make_broker()
    controllers = {"bms": mqtt(broker), "other": mqtt(broker)}
    async with rigged(tmp_path, controllers, carries={"store": "bms", "roof": "bms"}) as rig:
        asked = await rig.ask(1.0)
        over = await rig.ask(1.0, asset="roof", lasts_s=0.2, quantity=Quantity.GENERATION_LIMIT)
        await asyncio.sleep(0.3)
        for payload in (
            b"not json",
            b"\xff" * 100,
            b"{}",
            acknowledgement(asked.id, "done"),
            acknowledgement(asked.id, at=1780000000),
            acknowledgement(asked.id, value_kw=True),
            acknowledgement(asked.id, note="more than the schema knows"),
            acknowledgement(asked.id, controller="other"),
            acknowledgement("home-02.store.battery.1"),
            acknowledgement(over.id),
            acknowledgement(asked.id),
            acknowledgement(asked.id, "applied", value_kw=0.3),
        ):
            await say(broker, payload)
        count = "ems_acknowledgements_ignored_total"
        await eventually(lambda: rig.counted(count, channel="mqtt", verdict="duplicate") == 1)

        assert rig.counted(count, channel="mqtt", verdict="malformed") == 7
        assert rig.counted(count, channel="mqtt", verdict="not_yours") == 1
        assert rig.counted(count, channel="mqtt", verdict="unknown") == 1
        assert rig.counted(count, channel="mqtt", verdict="late") == 1
        assert rig.counted("ems_acknowledgements_total", channel="mqtt", state="applied") == 1
        assert (rig.delivery(asked).outcome, rig.delivery(asked).held_kw) == (DeliveryOutcome.APPLIED, 1.0)
        (late,) = [said for said in rig.answers(over) if said.state == "applied"]
        assert late.late


async def test_an_answer_given_while_the_service_is_dead_or_its_store_refuses_is_not_lost(
    make_broker: BROKERS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make_broker()
    async with rigged(tmp_path, {"bms": mqtt(broker)}, gently=False) as rig:
        one, two = await rig.ask(1.0), await rig.ask(1.1)
        async with listening(broker) as heard:
            await eventually(heard.setpoints)
        tried: list[str] = []

        def refuse(message: object, **_: object) -> None:
            tried.append("refused")
            raise StoreError("the disk is full")

        monkeypatch.setattr(rig.ledger, "record", refuse)
        await say(broker, acknowledgement(one.id))
        await eventually(lambda: tried)
    # the service is gone without having had it on disk, so it never sent a PUBACK
    await say(broker, acknowledgement(two.id))
    async with rigged(tmp_path, {"bms": mqtt(broker)}) as rig:
        await eventually(lambda: rig.states(one) and rig.states(two))
        assert rig.delivery(one).outcome is rig.delivery(two).outcome is DeliveryOutcome.APPLIED


async def test_two_controllers_see_everything_and_answer_for_their_own(
    make_broker: BROKERS, tmp_path: Path, controller: ModuleType
) -> None:
    broker = make_broker()
    url = f"mqtt://127.0.0.1:{broker.port}"
    plants = [
        controller.Plant(name="bms", ratings_kw={"store": (-3.0, 3.0)}),
        controller.Plant(name="solar", ratings_kw={"roof": (0.0, 6.0)}),
    ]
    controllers = {"bms": mqtt(broker), "solar": mqtt(broker)}
    async with rigged(tmp_path, controllers, carries={"store": "bms", "roof": "solar"}) as rig:
        speaking = [
            controller.speak_mqtt(plant, site="home-01", broker=url, user="", ca_file=None)
            for plant in plants
        ]
        async with listening(broker) as heard, running(speaking[0]), running(speaking[1]):
            store = await rig.ask(1.0)
            roof = await rig.ask(
                2.0, asset="roof", kind=SetpointKind.LIMIT, quantity=Quantity.GENERATION_LIMIT
            )
            await eventually(lambda: rig.states(store) and rig.states(roof))
        for name in ("bms", "solar"):
            assert f"ems/v1/home-01/{name}/setpoint/store/battery_net_consumption_kw" in heard.last
            assert f"ems/v1/home-01/{name}/setpoint/roof/generation_limit_kw" in heard.last
        assert [said.controller for said in rig.answers(store)] == ["bms"]
        assert [said.controller for said in rig.answers(roof)] == ["solar"]


async def test_home_assistant_finds_the_home_and_finds_it_again_after_a_restart(
    make_broker: BROKERS, tmp_path: Path
) -> None:
    broker = make_broker()
    settings = mqtt(broker, home_assistant=HomeAssistant(every_s=0.5))
    topic = "homeassistant/device/ems_home-01/config"
    async with rigged(tmp_path, {"bms": settings}) as rig:
        counters = reading({"meter.import_kwh": 120.5, "meter.export_kwh": 3.25})
        rig.store.save_readings([counters], CLOCK.now())
        async with listening(broker) as heard:
            await eventually(lambda: b"grid_import_kwh" in heard.last.get(topic, b""))
            announced = len([name for name, _ in heard.all if name == topic])
            await say(broker, b"online", topic="homeassistant/status")
            await eventually(lambda: len([name for name, _ in heard.all if name == topic]) > announced)
            await eventually(lambda: b"120.5" in heard.last.get(f"{BASE}/values", b""))
        told = json.loads(heard.last[topic])
        values = json.loads(heard.last[f"{BASE}/values"])
    components = told["components"]
    assert components["grid_import_kwh"]["state_class"] == "total_increasing"
    assert components["grid_import_kwh"]["unit_of_measurement"] == "kWh"
    assert "solar_kwh" not in components  # no device counts it, so none is made up
    assert {"grid_kw", "load_kw", "solar_kw", "battery_kw", "battery_pct", "next_action"} <= set(components)
    assert set(values) == set(components)
    assert (values["grid_import_kwh"], values["grid_kw"]) == (120.5, None)
    assert told["availability_topic"] == f"{BASE}/status"


async def test_a_service_that_may_only_read_tells_controllers_nothing(
    make_broker: BROKERS, tmp_path: Path
) -> None:
    broker = make_broker()
    async with rigged(tmp_path, {"bms": mqtt(broker)}, read_only=True) as rig:
        asked = await rig.ask(1.0)
        async with listening(broker) as heard:
            await eventually(lambda: heard.last.get(f"{BASE}/status") == b"online")
            await eventually(lambda: rig.delivery(asked).outcome is DeliveryOutcome.REFUSED)
        assert heard.setpoints() == []
        assert "read_only" in rig.delivery(asked).detail
