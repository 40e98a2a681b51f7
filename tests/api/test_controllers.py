"""What building controllers do over HTTP: ask, follow, answer; by the reference controller, on a real server."""

import asyncio
import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from api.app import create_app
from ems.messages import SCHEMAS, AcknowledgementMessage, SetpointMessage, message_schema
from ems.publishing import DeliveryOutcome

ROOT = Path(__file__).parents[2]
ASKED = "home-01.battery.1780460100"
URL = "/v1/sites/home-01/acknowledgements"


def said(**changes: object) -> dict[str, object]:
    return {"schema": "ems.acknowledgement/1", "setpoint_id": ASKED, "state": "clamped", "value_kw": 0.9,
            "at": "2026-06-03T04:19:59Z", "detail": "breaker", "controller": "bms"} | changes  # fmt: skip


def test_an_answer_is_on_record_when_it_is_acknowledged_and_the_same_again_changes_nothing(
    client: TestClient, street: Any
) -> None:
    headers = street.headers("controller")
    verdicts = [client.post(URL, json=said(), headers=headers).json()["verdict"] for _ in range(2)]
    assert verdicts == ["recorded", "duplicate"]
    assert client.post(URL, json=said(value_kw=0.1), headers=headers).json()["verdict"] == "duplicate"
    kept = street.service.store.setpoint(ASKED)
    assert (kept.delivery.outcome, kept.delivery.held_kw) == (DeliveryOutcome.CLAMPED, 0.9)
    (listed,) = client.get(URL, headers=headers).json()["acknowledgements"]
    assert (listed["state"], listed["channel"], listed["late"]) == ("clamped", "http", False)
    (told,) = client.get("/v1/sites/home-01/setpoints", headers=headers).json()["setpoints"]
    assert (told["id"], told["delivery"]["outcome"]) == (ASKED, "clamped")
    assert [one["detail"] for one in told["acknowledgements"]] == ["breaker"]


def test_an_answer_after_the_end_is_kept_but_changes_nothing(client: TestClient, street: Any) -> None:
    street.service.clock.advance(3600)
    answer = client.post(URL, json=said(), headers=street.headers("controller")).json()
    assert answer["verdict"] == "late"
    assert street.service.store.setpoint(ASKED).delivery.outcome is DeliveryOutcome.APPLIED


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        pytest.param({"setpoint_id": "home-01.battery.0"}, 404, "unknown-setpoint", id="no such setpoint"),
        pytest.param(
            {"setpoint_id": "home-02.battery.1780460100"}, 404, "unknown-setpoint", id="another home's"
        ),
        pytest.param({"controller": "boiler"}, 409, "not-possible", id="no such controller"),
        pytest.param({"state": "done"}, 422, "invalid", id="no such state"),
        pytest.param({"schema": "ems.acknowledgement/2"}, 422, "invalid", id="another version"),
        pytest.param({"value_kw": True}, 422, "invalid", id="a truth value for a power"),
        pytest.param({"at": 1780460100}, 422, "invalid", id="a number for an instant"),
        pytest.param({"at": "2026-06-03T04:19:59"}, 422, "invalid", id="no offset"),
        pytest.param({"note": ""}, 422, "invalid", id="more than the schema knows"),
    ],
)
def test_what_is_no_answer_is_refused_and_nothing_is_kept(
    client: TestClient, street: Any, changes: dict[str, object], status: int, problem: str
) -> None:
    answer = client.post(URL, json=said(**changes), headers=street.headers("controller"))
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:ems:problem:{problem}")
    assert client.get(URL, headers=street.headers("controller")).json()["acknowledgements"] == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_is_published_and_says_what_the_wire_says(
    client: TestClient, street: Any, name: str
) -> None:
    published = client.get(f"/v1/schemas/{name}", headers=street.headers("controller")).json()
    assert published == json.loads(json.dumps(message_schema(name)))
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    valid = jsonschema_rs.validator_for(published)
    headers = street.headers("controller")
    if name == "setpoint":
        (example,) = client.get("/v1/sites/home-01/setpoints/current", headers=headers).json()["setpoints"]
        assert (
            SetpointMessage.model_validate(example).to_json()
            == json.dumps(example, separators=(",", ":")).encode()
        )
    else:
        example = said()
        assert AcknowledgementMessage.model_validate(example).state == "clamped"
    assert valid.is_valid(example)
    assert not valid.is_valid({key: value for key, value in example.items() if key != "schema"})
    assert not valid.is_valid(example | {"more": 1})


def test_every_setpoint_of_the_page_shows_what_controllers_said(client: TestClient, street: Any) -> None:
    client.post(URL, json=said(), headers=street.headers("controller"))
    client.post("/signin", data={"key": street.keys["operator"]})
    page = client.get("/operator/sites/home-01").text
    assert "clamped" in page
    assert "bms" in page


@contextmanager
def served(app: Any, port: int) -> Iterator[None]:
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield
    finally:
        server.should_exit = True
        thread.join()


async def until(holds: Any) -> None:
    for _ in range(400):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to pass")


@pytest.fixture
def controller(street: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "controller", ROOT / "deploy" / "controller" / "controller.py"
    )
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    monkeypatch.setitem(__import__("sys").modules, "controller", module)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    monkeypatch.setattr(module, "now", street.service.clock.now)
    monkeypatch.setenv("CONTROLLER_KEY", street.keys["controller"])
    return module


async def test_the_reference_controller_follows_the_stream_and_finds_it_again_after_a_restart(
    street: Any, kit: ModuleType, controller: ModuleType
) -> None:
    service, site = street.service, street.service.sites[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    plant = controller.Plant(name="bms", ratings_kw={"battery": (-3.0, 1.5)})
    speaking = asyncio.create_task(
        controller.speak_http(plant, site="home-01", url=f"http://127.0.0.1:{port}")
    )

    def stored(setpoint_id: str) -> list[str]:
        return [str(one.state) for one in service.store.setpoint(setpoint_id).acknowledgements]

    try:
        with served(street.app, port):
            await until(lambda: stored(ASKED) == ["applied"])
            second, _ = kit.make_setpoint(site, kit.AT + timedelta(minutes=4), 2.0)
            service.store.save_setpoints([second], [])
            service.loop.call_soon_threadsafe(service.live.announce)
            await until(lambda: stored(second.id) == ["clamped"])
        third, _ = kit.make_setpoint(site, kit.AT + timedelta(minutes=5), 1.0)
        service.store.save_setpoints([third], [])
        with served(create_app(service), port):
            await until(lambda: stored(third.id) == ["applied"])
            service.clock.advance(3600)
            await until(lambda: stored(third.id) == ["applied", "expired"])
        assert plant.following == {}
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


def test_a_setpoint_that_never_left_a_service_that_may_only_read_is_not_handed_on(
    client: TestClient, street: Any, kit: ModuleType
) -> None:
    setpoint, delivery = kit.make_setpoint(street.service.sites[0], kit.AT + timedelta(minutes=3), 2.0)
    refused = replace(delivery, outcome=DeliveryOutcome.REFUSED, written=False, held_kw=None)
    street.service.store.save_setpoints([setpoint], [refused])
    current = client.get("/v1/sites/home-01/setpoints/current", headers=street.headers("controller")).json()
    assert [one["id"] for one in current["setpoints"]] == [ASKED]
