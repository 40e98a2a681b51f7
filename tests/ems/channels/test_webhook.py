"""Webhooks to a real HTTP server: signed, again until taken, in order, never after their end."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

from ems.channels import webhook
from ems.channels.webhook import signature
from ems.errors import ConfigError
from ems.messages import SetpointMessage
from ems.publishing import DeliveryOutcome
from ems.site import HttpController, SecretRef
from tests.ems.channels.conftest import CLOCK, Rig, eventually, free_port, rigged

SECRET = "a secret of more than 24 characters"


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Receiver:
    """Answers with the given statuses in turn, the last one for ever, and keeps what it got."""

    def __init__(self, *statuses: int, port: int = 0, slow_s: tuple[float, ...] = ()) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        got, left, waits_s = self.got, list(statuses), list(slow_s)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                time.sleep(waits_s.pop(0) if waits_s else 0.0)
                got.append(({name.lower(): text for name, text in self.headers.items()}, body))
                self.send_response(left.pop(0) if len(left) > 1 else left[0])
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/setpoints"

    @property
    def values(self) -> list[float | None]:
        return [json.loads(body)["value_kw"] for _, body in self.got]


@asynccontextmanager
async def told_by_webhook(folder: Path, url: str, secret: str = SECRET) -> AsyncIterator[Rig]:
    settings = HttpController(channel="http", webhook=url, secret=SecretRef(file="secret"))
    (folder / "secret").write_text(secret + "\n", encoding="utf-8")
    async with rigged(folder, {"bms": settings}) as rig:
        yield rig


async def test_the_reference_controller_takes_it_and_its_answer_counts(
    tmp_path: Path, controller: ModuleType
) -> None:
    plant = controller.Plant(name="bms", ratings_kw={"store": (-3.0, 2.0)})
    server = controller.serve_webhook(plant, host="127.0.0.1", port=0, secret=SECRET)
    with serving(server):
        async with told_by_webhook(tmp_path, f"http://127.0.0.1:{server.server_address[1]}/") as rig:
            asked = await rig.ask(3.0)
            await eventually(lambda: rig.states(asked))
            assert rig.states(asked) == ["clamped"]
            assert (rig.delivery(asked).outcome, rig.delivery(asked).held_kw) == (
                DeliveryOutcome.CLAMPED,
                2.0,
            )


async def test_it_is_signed_over_id_time_and_body_and_keeps_its_id_when_sent_again(tmp_path: Path) -> None:
    receiver = Receiver(500, 503, 204)
    with serving(receiver.server):
        async with told_by_webhook(tmp_path, receiver.url) as rig:
            asked = await rig.ask(1.0)
            await eventually(lambda: rig.states(asked) == ["received"])
            await eventually(lambda: rig.edges()[:1] == [("controller.bms", "unreachable")])
    assert len(receiver.got) == 3
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {asked.id}
    headers, body = receiver.got[-1]
    assert SetpointMessage.model_validate_json(body).id == asked.id
    signed = f"{asked.id}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert abs(CLOCK.now().timestamp() - int(headers["webhook-timestamp"])) < 60


def test_the_signature_is_that_of_the_standard() -> None:
    # the example of the specification: https://github.com/standard-webhooks/standard-webhooks
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = signature(
        secret,
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("changed", "genuine"),
    [
        pytest.param({}, True, id="as sent"),
        pytest.param({"webhook-id": "another"}, False, id="another id"),
        pytest.param({"webhook-timestamp": "0"}, False, id="played again much later"),
        pytest.param({"webhook-signature": "v1,AAAA"}, False, id="another signature"),
        pytest.param({"webhook-signature": "v1,AAAA {own}"}, True, id="two keys while one is exchanged"),
    ],
)
def test_the_reference_controller_believes_only_what_is_signed_and_new(
    controller: ModuleType, changed: dict[str, str], genuine: bool
) -> None:
    body, at = b'{"id": "x"}', int(CLOCK.now().timestamp())
    own = signature(SECRET, message_id="x", timestamp_s=at, body=body)
    headers = {"webhook-id": "x", "webhook-timestamp": str(at), "webhook-signature": own}
    headers |= {name: text.replace("{own}", own) for name, text in changed.items()}
    assert controller.is_genuine(SECRET, headers, body) is genuine


async def test_a_receiver_that_is_too_slow_is_asked_again_and_gets_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.5)
    receiver = Receiver(200, slow_s=(3.0,))
    with serving(receiver.server):
        async with told_by_webhook(tmp_path, receiver.url) as rig:
            await rig.ask(1.0)
            await eventually(lambda: ("controller.bms", "unreachable") in rig.edges())
            newest = await rig.ask(2.0)
            await eventually(lambda: rig.states(newest) == ["received"])
    assert 2.0 in receiver.values


async def test_a_refusal_is_the_last_word_and_a_redirect_is_not_followed(tmp_path: Path) -> None:
    receiver = Receiver(422)
    with serving(receiver.server):
        async with told_by_webhook(tmp_path, receiver.url) as rig:
            asked = await rig.ask(1.0)
            await eventually(lambda: rig.states(asked) == ["refused"])
            assert rig.delivery(asked).detail == "HTTP 422"
    assert len(receiver.got) == 1


@pytest.mark.slow
async def test_while_the_receiver_is_away_the_newest_waits_and_what_ran_out_is_never_sent(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with told_by_webhook(tmp_path, f"http://127.0.0.1:{port}/") as rig:
        over = await rig.ask(0.5, lasts_s=1.0)
        await eventually(lambda: rig.states(over) == ["expired"])
        for kw in (1.0, 2.0):
            await rig.ask(kw)
        receiver = Receiver(200, port=port)
        with serving(receiver.server):
            await eventually(lambda: receiver.values)
            await asyncio.sleep(0.2)
    assert receiver.values == [2.0]


async def test_a_secret_that_is_missing_or_short_is_named_without_being_shown(tmp_path: Path) -> None:
    settings = HttpController(
        channel="http", webhook="https://192.0.2.1/", secret=SecretRef(env="HOOK_SECRET")
    )
    for environment, problem in (({}, "not set"), ({"HOOK_SECRET": "short one"}, "shorter than 24")):
        with pytest.raises(ConfigError, match=problem) as caught:
            async with rigged(tmp_path, {"bms": settings}, environment=environment):
                raise AssertionError("it must not start")
        assert "short one" not in str(caught.value)
        assert "home-01.controllers.bms.secret" in str(caught.value)
