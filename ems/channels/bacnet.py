"""BACnet/IP: setpoints as commands in the priority array of a controller's objects, given back (Null) at their end.

A device that is commanded keeps the command for ever, whatever happens to who gave it. So everything written is given
back on expiry, on stop and, after a crash, at the next start; and a device with a `validity` object can let go by
itself. An object without a priority array accepts a command and forgets whose it was: it is refused here.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bacpypes3.apdu import ErrorRejectAbortNack
from bacpypes3.app import Application
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.pdu import Address
from bacpypes3.primitivedata import Null, ObjectIdentifier

from ems.channels.board import Change, Key
from ems.channels.protocol import Backoff, Heard, Told
from ems.clock import Clock
from ems.messages import ACKNOWLEDGEMENT_SCHEMA, AcknowledgementMessage, AcknowledgementState
from ems.setpoints import Setpoint, SetpointKind
from ems.site import BacnetController, BacnetPoint

log = logging.getLogger("ems.channels.bacnet")

OWN_INSTANCE = 4_194_300
"""Device instance the service shows itself as."""
APDU_TIMEOUT_MS = 1_000
APDU_RETRIES = 1
"""A dead peer costs two seconds, not the twelve of the standard's defaults."""
ANSWER_WITHIN_S = 5.0
"""Longest wait for one answer, whatever the stack does [s]."""
SETTLING_S = 1.0
"""Between two looks at a point whose feedback is not there yet [s]."""
COV_LIFETIME_S = 120
COV_RETRY_S = 60.0
"""A device that takes no subscription is asked again after this; its feedback is polled anyway [s]."""
TOLERANCE_KW, TOLERANCE_FRAC = 0.1, 0.05
"""Feedback this near to what was asked follows it."""

Answer = TypeVar("Answer")


class _Unreachable(Exception):
    """The device does not answer."""


class _Refused(Exception):
    """The device answered that it will not."""


@dataclass(kw_only=True, slots=True)
class _Place:
    """One point of the device."""

    name: str
    point: BacnetPoint
    dirty: bool = True
    """Not seen to hold what it should."""
    asked_s: float = 0.0
    """When the present setpoint was first written, by the event loop's clock [s]."""
    asked_id: str = ""
    """The present setpoint."""
    said: tuple[str, AcknowledgementState] | None = None
    """The last acknowledgement, so that it is not said again and again."""
    settling: bool = False
    """Written, and waiting for the feedback."""


class BacnetChannel:
    """The way to one controller that is commanded by BACnet/IP."""

    def __init__(
        self,
        controller: BacnetController,
        *,
        controller_name: str,
        clock: Clock,
        heard: Heard,
        told: Told,
    ) -> None:
        """Take what it needs; nothing is sent yet.

        Parameters
        ----------
        controller
            Address and points.
        controller_name
            Its name in the site file.
        clock
            Site time, for how long setpoints still hold.
        heard, told
            Who keeps acknowledgements; who is told whether the device can be reached.
        """
        self._settings = controller
        self._controller = controller_name
        self._clock = clock
        self._heard = heard
        self._told = told
        self._address = Address(controller.address)
        self._places = [_Place(name=name, point=point) for name, point in controller.points.items()]
        self._standing: dict[Key, Setpoint] = {}
        self._news = asyncio.Event()
        self._clean = asyncio.Event()
        self._backoff = Backoff()
        self._app: Application | None = None

    def offer(self, changes: Sequence[Change]) -> None:
        """Take changes; never waits, never fails."""
        for change in changes:
            if change.setpoint is None:
                self._standing.pop(change.key, None)
            else:
                self._standing[change.key] = change.setpoint
            for place in self._places:
                if _serves(place.name, change.key):
                    place.dirty = True
                    self._clean.clear()
        self._news.set()

    async def run(self) -> None:
        """Command, look back and hear what the device does until cancelled."""
        self._app = _application(self._settings.bind)
        following = [
            asyncio.create_task(self._follow(place))
            for place in self._places
            if place.point.feedback is not None
        ]
        try:
            while True:
                self._news.clear()
                try:
                    for place in self._places:
                        await self._carry(place)
                except _Unreachable as error:
                    self._told(str(error))
                    await self._backoff.pause()
                    continue
                self._told(None)
                self._backoff.worked()
                if not any(place.dirty for place in self._places):
                    self._clean.set()
                settling = any(place.settling for place in self._places)
                pause_s = min(SETTLING_S, self._settings.poll_s) if settling else self._settings.poll_s
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), pause_s)
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            self._app.close()

    async def finish(self, within_s: float) -> None:
        """Give back every point, as far as that works in time."""
        self._standing = {key: held for key, held in self._standing.items() if held.value_kw is None}
        for place in self._places:
            place.dirty = True
        self._clean.clear()
        self._news.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._clean.wait(), within_s)

    async def _carry(self, place: _Place) -> None:
        """Bring one point to what it should hold, and say what came of it."""
        wanted, lifted = self._wanted(place)
        try:
            if wanted is None:
                if place.dirty:
                    await self._write(place, Null(()))
                    place.settling = False
            else:
                await self._command(place, wanted)
        except _Refused as error:
            place.settling = False
            if wanted is not None:
                await self._say(place, wanted, AcknowledgementState.REFUSED, None, str(error))
            elif place.dirty:
                log.warning("bacnet.not_given_back point=%s cause=%s", place.name, error)
        else:
            for setpoint in lifted if place.dirty else ():
                await self._say(place, setpoint, AcknowledgementState.APPLIED, None, "given back")
        if self._wanted(place) == (wanted, lifted):
            place.dirty = False

    async def _command(self, place: _Place, wanted: Setpoint) -> None:
        point = place.point
        value = (wanted.value_kw or 0.0) * point.per_kw
        now_s = asyncio.get_running_loop().time()
        if place.asked_id != wanted.id:
            place.asked_id, place.asked_s = wanted.id, now_s
        left_s = self._clock.wall_seconds((wanted.valid_until - self._clock.now()).total_seconds())
        if point.validity is not None:
            await self._ask(
                self._stack.write_property(
                    self._address,
                    ObjectIdentifier(point.validity),
                    "present-value",
                    float(math.ceil(max(0.0, left_s))),
                )
            )
        if place.dirty:
            await self._write(place, value)
        held = await self._slot(place)
        if held is None:
            # the device has lost it, for instance by a restart
            await self._write(place, value)
            held = await self._slot(place)
        if held is None:
            raise _Refused(f"{point.object} does not hold a command at priority {point.priority}")
        shown = await self._read(point.object)
        place.settling = False
        if not _near(held, value):
            await self._say(
                place,
                wanted,
                AcknowledgementState.CLAMPED,
                held / point.per_kw,
                "the device holds another value",
            )
        elif shown is None or not _near(shown, value):
            kw = None if shown is None else shown / point.per_kw
            await self._say(
                place, wanted, AcknowledgementState.CLAMPED, kw, "another command of higher priority holds"
            )
        elif point.feedback is None:
            await self._say(place, wanted, AcknowledgementState.APPLIED, wanted.value_kw, "")
        else:
            await self._judge(place, wanted, now_s)

    async def _judge(self, place: _Place, wanted: Setpoint, now_s: float) -> None:
        """Say whether the feedback follows what the point holds."""
        point = place.point
        shown_now = await self._read(str(point.feedback))
        does_kw = None if shown_now is None else shown_now / point.per_kw
        if does_kw is not None and follows(wanted, does_kw):
            await self._say(place, wanted, AcknowledgementState.APPLIED, does_kw, "")
        elif now_s - place.asked_s < self._settings.acknowledge_within_s:
            place.settling = True
            await self._say(place, wanted, AcknowledgementState.RECEIVED, None, "")
        else:
            shown = "nothing" if does_kw is None else f"{does_kw:.2f} kW"
            await self._say(
                place, wanted, AcknowledgementState.CLAMPED, does_kw, f"{point.feedback} shows {shown}"
            )

    async def _follow(self, place: _Place) -> None:
        """Subscribe to the feedback (COV), so that what the device does is heard at once; polling goes on meanwhile."""
        feedback = ObjectIdentifier(str(place.point.feedback))
        while True:
            try:
                async with self._stack.change_of_value(
                    self._address, feedback, issue_confirmed_notifications=False, lifetime=COV_LIFETIME_S
                ) as changes:
                    while True:
                        await changes.get_value()
                        self._news.set()
            except (ErrorRejectAbortNack, Exception) as error:  # noqa: BLE001 - whatever the stack does, polling goes on
                log.debug("bacnet.no_cov point=%s cause=%s", place.name, error)
            await asyncio.sleep(COV_RETRY_S)

    def _wanted(self, place: _Place) -> tuple[Setpoint | None, tuple[Setpoint, ...]]:
        """Return the setpoint a point should hold, and those that ask it to hold none."""
        mine = [held for key, held in self._standing.items() if _serves(place.name, key)]
        now = self._clock.now()
        asking = [held for held in mine if held.value_kw is not None and held.valid_until > now]
        wanted = max(asking, key=lambda held: held.valid_from, default=None)
        return wanted, tuple(held for held in mine if held.value_kw is None) if wanted is None else ()

    async def _say(
        self,
        place: _Place,
        setpoint: Setpoint,
        state: AcknowledgementState,
        value_kw: float | None,
        detail: str,
    ) -> None:
        if place.said == (setpoint.id, state):
            return
        place.said = (setpoint.id, state)
        await self._heard(
            AcknowledgementMessage(
                schema_=ACKNOWLEDGEMENT_SCHEMA,
                setpoint_id=setpoint.id,
                state=state,
                value_kw=None if value_kw is None else round(value_kw, 3),
                at=self._clock.now(),
                detail=detail,
                controller=self._controller,
            )
        )

    async def _write(self, place: _Place, value: float | Null) -> None:
        point = place.point
        problem = await self._ask(
            self._stack.write_property(
                self._address, ObjectIdentifier(point.object), "present-value", value, priority=point.priority
            )
        )
        if problem is not None:  # the stack's own word, e.g. that it knows no such property
            raise _Refused(f"{point.object}: {problem}")

    async def _slot(self, place: _Place) -> float | None:
        """Return what our slot of the priority array holds; None when it is empty."""
        slot = await self._ask(
            self._stack.read_property(
                self._address, ObjectIdentifier(place.point.object), "priority-array", place.point.priority
            )
        )
        choice = slot._choice
        return None if choice in (None, "null") else float(getattr(slot, choice))

    async def _read(self, object_name: str) -> float | None:
        value = await self._ask(
            self._stack.read_property(self._address, ObjectIdentifier(object_name), "present-value")
        )
        return float(value) if isinstance(value, float | int) else None

    async def _ask(self, request: Awaitable[Answer]) -> Answer:
        """Return the answer; raises `_Unreachable` or `_Refused`. The stack's own errors are no `Exception`s."""
        try:
            answer = await asyncio.wait_for(request, ANSWER_WITHIN_S)
        except TimeoutError as error:
            raise _Unreachable(f"{self._settings.address}: no answer") from error
        except ErrorRejectAbortNack as error:
            text = str(error)
        else:
            if not isinstance(answer, ErrorRejectAbortNack):
                return answer
            text = str(answer)
        if "no-response" in text:
            raise _Unreachable(f"{self._settings.address}: no answer")
        raise _Refused(text)

    @property
    def _stack(self) -> Any:
        """The protocol stack; it has no types of its own."""
        return self._app


def follows(wanted: Setpoint, does_kw: float) -> bool:
    """Tell whether a measured power follows a setpoint: near a target, below a limit."""
    asked_kw = wanted.value_kw or 0.0
    slack_kw = max(TOLERANCE_KW, TOLERANCE_FRAC * abs(asked_kw))
    if wanted.kind is SetpointKind.LIMIT:
        return does_kw <= asked_kw + slack_kw
    return abs(does_kw - asked_kw) <= slack_kw


def _serves(point: str, key: Key) -> bool:
    """Tell whether a point is commanded by setpoints of a place; an asset's own mode concerns all its points."""
    asset, _, quantity = point.partition(".")
    return asset == key.asset and (not quantity or key.quantity in (quantity, "own_mode"))


def _near(value: float, other: float) -> bool:
    """Tell whether two values are one, in the single precision of the wire."""
    return math.isclose(value, other, rel_tol=1e-5, abs_tol=1e-5)


def _application(bind: str) -> Application:
    device = DeviceObject(
        objectIdentifier=("device", OWN_INSTANCE),
        objectName="ems",
        vendorIdentifier=999,
        apduTimeout=APDU_TIMEOUT_MS,
        numberOfApduRetries=APDU_RETRIES,
    )
    port = NetworkPortObject(f"{bind}:0", objectIdentifier=("network-port", 1), objectName="udp")
    return Application.from_object_list([device, port])
