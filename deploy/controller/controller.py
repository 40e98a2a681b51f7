"""A small building controller: the reference for those who connect their own, and what the tests speak to.

It follows setpoints for the assets it has, answers each one, and goes back to its own mode when one runs out, whatever
happened to the service, the broker or the line. It knows nothing of the service but docs/controllers.md; of Python
packages it needs aiomqtt (mqtt), httpx (http) and bacpypes3 (bacnet), each only for its own channel.

    python deploy/controller/controller.py mqtt    --site home-seoul --name bms --asset battery=-3:3 --broker mqtt://127.0.0.1:1883
    python deploy/controller/controller.py http    --site home-seoul --name bms --asset battery=-3:3 --url http://127.0.0.1:8080
    python deploy/controller/controller.py webhook --site home-seoul --name bms --asset battery=-3:3 --listen 127.0.0.1:9000
    python deploy/controller/controller.py bacnet  --asset battery=-3:3 --listen 127.0.0.1:47808

Secrets come from the environment: CONTROLLER_PASSWORD (mqtt), CONTROLLER_KEY (http), CONTROLLER_SECRET (webhook).
Every event is one line of JSON on standard output.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPLAY_WINDOW_S = 300
"""A webhook older or newer than this is not ours, or somebody sends it again [s]."""
KNOWN = {
    "battery_net_consumption_kw",
    "generation_limit_kw",
    "vehicle_charge_limit_kw",
    "import_limit_kw",
    "export_limit_kw",
    "own_mode",
}


def now() -> datetime:
    """Return the time; the controller's clock must be right to the second (NTP)."""
    return datetime.now(UTC)


def instant(text: str) -> datetime:
    """Read an instant of a message."""
    return datetime.fromisoformat(text)


def tell(event: str, **what: object) -> None:
    """Write one event."""
    sys.stdout.write(json.dumps({"at": now().isoformat(), "event": event} | what) + "\n")
    sys.stdout.flush()


@dataclass
class Plant:
    """What the building has: assets with ratings, and what each one follows at present."""

    name: str
    """Name of this controller in the site file."""
    ratings_kw: dict[str, tuple[float, float]]
    """Least and most power of each asset it carries out [kW]."""
    following: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The setpoint each asset follows; an asset that is not in it runs its own mode."""
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last answer to each setpoint of late, so that the same question gets the same answer."""

    def take(self, setpoint: dict[str, Any]) -> dict[str, Any] | None:
        """Follow a setpoint as far as possible and return the acknowledgement; None for an asset of somebody else."""
        asset = setpoint["asset"]
        if asset not in self.ratings_kw:
            return None
        if setpoint["id"] in self.said:
            return self.said[setpoint["id"]]
        held = self.following.get(asset)
        if held is not None and instant(setpoint["valid_from"]) < instant(held["valid_from"]):
            return None  # an old one that came late; the newest stands
        if not setpoint.get("schema", "").startswith("ems.setpoint/1"):
            return self._say(setpoint, "refused", detail="unknown schema")
        if setpoint["quantity"] not in KNOWN:
            return self._say(setpoint, "refused", detail=f"unknown quantity {setpoint['quantity']}")
        if instant(setpoint["valid_until"]) <= now():
            return self._say(setpoint, "expired")
        value_kw = setpoint["value_kw"]
        if setpoint["kind"] == "mode" or value_kw is None:
            self.following.pop(asset, None)
            return self._say(setpoint, "applied", detail="own mode")
        low_kw, high_kw = self.ratings_kw[asset]
        possible_kw = min(max(value_kw, low_kw), high_kw)
        self.following[asset] = setpoint | {"value_kw": possible_kw}
        state = "applied" if possible_kw == value_kw else "clamped"
        return self._say(
            setpoint, state, possible_kw, "" if state == "applied" else f"rated {low_kw} to {high_kw} kW"
        )

    def run_out(self) -> list[dict[str, Any]]:
        """Go back to own mode where a setpoint has ended; returns what to say about it."""
        over = [held for held in self.following.values() if instant(held["valid_until"]) <= now()]
        for held in over:
            del self.following[held["asset"]]
        return [self._say(held, "expired", detail="own mode") for held in over]

    def _say(
        self, setpoint: dict[str, Any], state: str, value_kw: float | None = None, detail: str = ""
    ) -> dict[str, Any]:
        answer = {
            "schema": "ems.acknowledgement/1",
            "setpoint_id": setpoint["id"],
            "state": state,
            "value_kw": value_kw,
            "at": now().isoformat(),
            "detail": detail,
            "controller": self.name,
        }
        tell(state, asset=setpoint["asset"], value_kw=value_kw, setpoint_id=setpoint["id"], detail=detail)
        self.said[setpoint["id"]] = answer
        while len(self.said) > 1000:
            del self.said[next(iter(self.said))]
        return answer


# -- MQTT ---------------------------------------------------------------------------------------------------------------


async def speak_mqtt(plant: Plant, *, site: str, broker: str, user: str, ca_file: str | None) -> None:
    """Follow the retained setpoints under our topics; answer on the acknowledgement topic."""
    import aiomqtt

    scheme, _, address = broker.partition("://")
    host, _, port = address.partition(":")
    base = f"ems/v1/{site}/{plant.name}"
    while True:
        try:
            async with aiomqtt.Client(
                host,
                int(port or (8883 if scheme == "mqtts" else 1883)),
                username=user or None,
                password=os.environ.get("CONTROLLER_PASSWORD"),
                tls_context=ssl.create_default_context(cafile=ca_file) if scheme == "mqtts" else None,
                protocol=aiomqtt.ProtocolVersion.V5,
                identifier=f"controller-{site}-{plant.name}",
            ) as client:

                async def answer(said: dict[str, Any] | None, client: aiomqtt.Client = client) -> None:
                    if said is not None:
                        await client.publish(f"{base}/acknowledgement", json.dumps(said), qos=1)

                await client.subscribe(f"{base}/setpoint/#", qos=1)
                tell("connected", broker=broker)
                watching = asyncio.create_task(watch(plant, answer))
                try:
                    async for message in client.messages:
                        if message.payload:  # an empty one only clears the topic
                            await answer(plant.take(json.loads(bytes(message.payload))))
                finally:
                    watching.cancel()
        except (aiomqtt.MqttError, OSError) as error:
            tell("disconnected", cause=str(error))
            plant.run_out()
            await asyncio.sleep(1.0)


async def watch(plant: Plant, answer: Callable[[dict[str, Any] | None], Any]) -> None:
    """Let go of what has ended, also when nobody says anything any more."""
    while True:
        for said in plant.run_out():
            await answer(said)
        await asyncio.sleep(0.2)


# -- HTTP: ask, or follow the stream; answer by POST -----------------------------------------------------------------------


async def speak_http(plant: Plant, *, site: str, url: str) -> None:
    """Follow the stream of setpoints; when it ends, ask again."""
    import httpx

    headers = {"Authorization": f"Bearer {os.environ['CONTROLLER_KEY']}"}
    async with httpx.AsyncClient(base_url=f"{url}/v1/sites/{site}", headers=headers, timeout=30.0) as client:

        async def answer(said: dict[str, Any] | None) -> None:
            if said is not None:
                (await client.post("/acknowledgements", json=said)).raise_for_status()

        async def obey(told: dict[str, Any]) -> None:
            for setpoint in told["setpoints"]:
                if setpoint["id"] not in plant.said:
                    await answer(plant.take(setpoint))

        while True:
            watching = asyncio.create_task(watch(plant, answer))
            try:
                async with client.stream("GET", "/setpoints/stream") as stream:
                    stream.raise_for_status()
                    tell("connected", url=url)
                    async for line in stream.aiter_lines():
                        if line.startswith("data: "):
                            await obey(json.loads(line.removeprefix("data: ")))
            except httpx.HTTPError as error:
                tell("disconnected", cause=f"{type(error).__name__}: {error}")
            finally:
                watching.cancel()
            plant.run_out()
            await asyncio.sleep(1.0)


# -- Webhook -----------------------------------------------------------------------------------------------------------


def is_genuine(secret: str, headers: Any, body: bytes) -> bool:
    """Tell whether a webhook is from the service, and from now."""
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    sent_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > REPLAY_WINDOW_S:
        return False
    wanted = base64.b64encode(hmac.digest(key, f"{sent_id}.{sent_at}.".encode() + body, hashlib.sha256))
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(wanted, one.removeprefix("v1,").encode()) for one in given)


def serve_webhook(plant: Plant, *, host: str, port: int, secret: str) -> ThreadingHTTPServer:
    """Return a server that takes signed setpoints; the answer to one is in the response."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("content-length", 0)), 65_536))
            if not is_genuine(secret, self.headers, body):
                self.send_error(401)
                return
            said = json.dumps(plant.take(json.loads(body))).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            """Be quiet; events tell what matters."""

    return ThreadingHTTPServer((host, port), Handler)


async def speak_webhook(plant: Plant, *, listen: str, secret: str) -> None:
    """Take webhooks until stopped. What runs out is let go of; there is no way to say so on this channel."""
    host, _, port = listen.rpartition(":")
    server = serve_webhook(plant, host=host, port=int(port), secret=secret)
    tell("listening", address=listen)
    serving = asyncio.create_task(asyncio.to_thread(server.serve_forever))
    try:
        while True:
            plant.run_out()
            await asyncio.sleep(0.2)
    finally:
        server.shutdown()
        server.server_close()
        await serving


# -- BACnet/IP ---------------------------------------------------------------------------------------------------------


class BacnetDevice:
    """A BACnet device for one asset: analog-value 1 (command), analog-value 2 (seconds left), analog-input 1 (power)."""

    def __init__(self, plant: Plant, *, listen: str, priority: int = 10) -> None:
        from bacpypes3.app import Application
        from bacpypes3.local.analog import AnalogInputObject, AnalogValueObject
        from bacpypes3.local.cmd import Commandable
        from bacpypes3.local.device import DeviceObject
        from bacpypes3.local.networkport import NetworkPortObject

        class CommandableValue(Commandable, AnalogValueObject):  # type: ignore[misc]
            """An analog value with a priority array."""

        ((self.asset, (self.low_kw, self.high_kw)),) = plant.ratings_kw.items()
        self.priority = priority
        self.command = CommandableValue(
            objectIdentifier=("analog-value", 1), objectName="command", presentValue=0.0, relinquishDefault=0.0,
            units="kilowatts", covIncrement=0.01,
        )  # fmt: skip
        self.seconds_left = AnalogValueObject(
            objectIdentifier=("analog-value", 2), objectName="seconds left", presentValue=0.0, units="seconds"
        )
        self.power = AnalogInputObject(
            objectIdentifier=("analog-input", 1), objectName="power", presentValue=0.0, units="kilowatts",
            covIncrement=0.01,
        )  # fmt: skip
        self.app = Application.from_object_list(
            [
                DeviceObject(
                    objectIdentifier=("device", 1001), objectName="controller", vendorIdentifier=999
                ),
                NetworkPortObject(listen, objectIdentifier=("network-port", 1), objectName="udp"),
                self.command,
                self.seconds_left,
                self.power,
            ]
        )
        self._seen_left: float | None = None
        self._ends_s = 0.0

    def step(self) -> None:
        """Do what the priority array says, unless the time that came with it is over."""
        left = float(self.seconds_left.presentValue)
        if left != self._seen_left:
            self._seen_left, self._ends_s = left, time.monotonic() + left
        slot = self.command.priorityArray[self.priority - 1]
        commanded = slot._choice not in (None, "null")
        if commanded and time.monotonic() >= self._ends_s:
            tell("expired", asset=self.asset, detail="own mode")
            self.command.priorityArray[self.priority - 1] = type(slot)(null=())
            self.command.presentValue = self.command.relinquishDefault
            commanded = False
        asked_kw = float(self.command.presentValue) if commanded else 0.0
        does_kw = min(max(asked_kw, self.low_kw), self.high_kw)
        if does_kw != float(self.power.presentValue):
            tell("follows" if commanded else "own_mode", asset=self.asset, value_kw=does_kw)
            self.power.presentValue = does_kw

    async def run(self) -> None:
        """Go on until stopped."""
        try:
            while True:
                self.step()
                await asyncio.sleep(0.2)
        finally:
            self.app.close()


# -- Command line ------------------------------------------------------------------------------------------------------


def ratings(texts: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Read `battery=-3:3` into the least and most power of each asset [kW]."""
    found = {}
    for text in texts:
        asset, _, span = text.partition("=")
        low_kw, _, high_kw = span.partition(":")
        found[asset] = (float(low_kw), float(high_kw))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Speak one channel until stopped."""
    parser = argparse.ArgumentParser(description="A small building controller; see the top of this file.")
    parser.add_argument("channel", choices=("mqtt", "http", "webhook", "bacnet"))
    parser.add_argument("--site", default="home-seoul", help="id of the site")
    parser.add_argument("--name", default="bms", help="name of this controller in the site file")
    parser.add_argument(
        "--asset", action="append", required=True, help="asset and its power [kW], e.g. battery=-3:3"
    )
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883")
    parser.add_argument("--user", default="")
    parser.add_argument("--ca-file")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--listen", default="127.0.0.1:9000")
    given = parser.parse_args(arguments)
    plant = Plant(name=given.name, ratings_kw=ratings(given.asset))

    async def speak() -> None:
        match given.channel:
            case "mqtt":
                await speak_mqtt(
                    plant, site=given.site, broker=given.broker, user=given.user, ca_file=given.ca_file
                )
            case "http":
                await speak_http(plant, site=given.site, url=given.url)
            case "webhook":
                await speak_webhook(plant, listen=given.listen, secret=os.environ["CONTROLLER_SECRET"])
            case _:
                tell("listening", address=given.listen)
                await BacnetDevice(plant, listen=given.listen).run()

    try:
        asyncio.run(speak())
    except KeyboardInterrupt:
        tell("stopped")


if __name__ == "__main__":
    main()
