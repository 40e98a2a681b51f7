"""MQTT 5: setpoints as retained messages under a controller's own topics, acknowledgements from there.

    ems/v1/<site>/<controller>/setpoint/<asset>/<quantity>   retained, QoS 1; the broker drops it at its end
    ems/v1/<site>/<controller>/acknowledgement               from the controller, QoS 1
    ems/v1/<site>/<controller>/status                        retained `online`, or `offline` as the last will

A broker answers a publish that its ACL denies like any other, so only an acknowledgement proves that a setpoint arrived.
The other way round a PUBACK is our word that an acknowledgement is on disk: it is sent after that, and the session
outlives a restart, so that the broker keeps what arrives meanwhile.
"""

import asyncio
import logging
import math
import ssl
from collections.abc import Sequence
from typing import Protocol

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ems.channels.board import Change, Key
from ems.channels.ledger import read
from ems.channels.protocol import Backoff, Heard, Told, Waiting
from ems.clock import Clock
from ems.messages import setpoint_message
from ems.setpoints import Setpoint
from ems.site import MqttController

log = logging.getLogger("ems.channels.mqtt")

TOPICS = "ems/v1"
"""Where all topics begin; the number is that of their layout."""
KEEP_ALIVE_S = 20
TIMEOUT_S = 10.0
SESSION_S = 24 * 3600
"""How long the broker keeps acknowledgements for a service that is away [s]."""
LONGEST_PACKET_BYTES = 65_536
"""The broker keeps longer ones to itself."""
LEAVE_WITHIN_S = 2.0
"""What saying good-bye may take when the service stops [s]."""


class Aside(Protocol):
    """Something else that is published on the same connection."""

    async def run(self, client: aiomqtt.Client, heard: "asyncio.Queue[aiomqtt.Message]") -> None:
        """Publish until cancelled; `heard` brings the messages it subscribed to."""
        ...

    def wants(self, topic: str) -> bool:
        """Tell whether a message is for it."""
        ...


def base_topic(site_id: str, controller: str) -> str:
    """Return where a controller's own topics begin."""
    return f"{TOPICS}/{site_id}/{controller}"


class MqttChannel:
    """The way to one controller through a broker."""

    def __init__(
        self,
        controller: MqttController,
        *,
        site_id: str,
        controller_name: str,
        password: str | None,
        tls: ssl.SSLContext | None,
        clock: Clock,
        heard: Heard,
        told: Told,
        aside: Aside | None = None,
    ) -> None:
        """Take what it needs; nothing is sent yet.

        Parameters
        ----------
        controller
            Broker and user.
        site_id, controller_name
            Whose topics.
        password, tls
            What the broker wants to see; TLS where its URL says `mqtts`.
        clock
            Site time, for what has expired already.
        heard, told
            Who keeps acknowledgements; who is told whether the broker can be reached.
        aside
            What else goes over this connection.
        """
        scheme, _, address = controller.broker.partition("://")
        host, _, port = address.partition(":")
        self._host, self._port = host, int(port or (8883 if scheme == "mqtts" else 1883))
        self._user = controller.username or None
        self._password = password
        self._tls = tls
        self._base = base_topic(site_id, controller_name)
        self._identifier = f"ems-{site_id}-{controller_name}"
        self._clock = clock
        self._heard = heard
        self._told = told
        self._aside = aside
        self._waiting = Waiting()
        self._standing: dict[Key, Setpoint] = {}
        self._backoff = Backoff()
        self._leaving = asyncio.Event()
        self._left = asyncio.Event()

    def offer(self, changes: Sequence[Change]) -> None:
        """Take changes; never waits, never fails."""
        for change in changes:
            if change.setpoint is None:
                self._standing.pop(change.key, None)
            else:
                self._standing[change.key] = change.setpoint
        self._waiting.put(changes)

    async def run(self) -> None:
        """Keep a connection; what changed while there was none is told by its newest."""
        try:
            while not self._leaving.is_set():
                try:
                    await self._connected()
                except* (aiomqtt.MqttError, OSError) as group:
                    cause = _first(group)
                    self._told(f"{self._host}:{self._port}: {cause}")
                    log.debug("mqtt.away broker=%s:%d cause=%s", self._host, self._port, cause)
                    await self._backoff.pause()
        finally:
            self._left.set()

    async def finish(self, within_s: float) -> None:
        """Carry what is left and say good-bye, as far as that works in time."""
        await self._waiting.emptied(within_s)
        self._leaving.set()
        try:
            await asyncio.wait_for(self._left.wait(), LEAVE_WITHIN_S)
        except TimeoutError:
            log.debug("mqtt.left_without_a_word broker=%s:%d", self._host, self._port)

    async def _connected(self) -> None:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_S
        session.MaximumPacketSize = LONGEST_PACKET_BYTES
        client = aiomqtt.Client(
            self._host,
            self._port,
            username=self._user,
            password=self._password,
            identifier=self._identifier,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=session,
            will=aiomqtt.Will(f"{self._base}/status", b"offline", qos=1, retain=True),
            keepalive=KEEP_ALIVE_S,
            timeout=TIMEOUT_S,
            tls_context=self._tls,
        )
        # aiomqtt has no word for it: a PUBACK must not leave before the acknowledgement is on disk
        client._client.manual_ack_set(True)
        async with client:
            await client.subscribe(f"{self._base}/acknowledgement", qos=1)
            await client.publish(f"{self._base}/status", b"online", qos=1, retain=True)
            # a broker that came back may have lost what it retained
            self._waiting.put([Change(key=key, setpoint=held) for key, held in self._standing.items()])
            self._told(None)
            self._backoff.worked()
            asides: asyncio.Queue[aiomqtt.Message] = asyncio.Queue(maxsize=100)
            async with asyncio.TaskGroup() as tasks:
                working = [
                    tasks.create_task(self._send(client)),
                    tasks.create_task(self._listen(client, asides)),
                ]
                if self._aside is not None:
                    working.append(tasks.create_task(self._aside.run(client, asides)))
                await self._leaving.wait()
                for task in working:
                    task.cancel()
            await client.publish(f"{self._base}/status", b"offline", qos=1, retain=True)

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            key, setpoint = await self._waiting.first()
            topic = f"{self._base}/setpoint/{key.asset}/{key.quantity}"
            left_s = 0.0
            if setpoint is not None:
                left_s = self._clock.wall_seconds((setpoint.valid_until - self._clock.now()).total_seconds())
            if setpoint is None or left_s <= 0.0:
                await client.publish(topic, b"", qos=1, retain=True)
            else:
                message = setpoint_message(setpoint).to_json()
                await client.publish(topic, message, qos=1, retain=True, properties=_expiring(left_s))
            self._waiting.done(key, setpoint)

    async def _listen(self, client: aiomqtt.Client, asides: "asyncio.Queue[aiomqtt.Message]") -> None:
        async for message in client.messages:
            if self._aside is not None and self._aside.wants(str(message.topic)):
                if not asides.full():
                    asides.put_nowait(message)
            elif not message.retain:  # what was said long ago, to nobody in particular, is no answer
                await self._heard(read(message.payload))
            client._client.ack(message.mid, message.qos)


def _expiring(left_s: float) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = max(1, math.ceil(left_s))
    return properties


def _first(group: BaseExceptionGroup[Exception]) -> str:
    """Return the cause of a failed connection in one line."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
