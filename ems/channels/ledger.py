"""The ledger: what controllers said about setpoints, judged once, whichever way it came, and kept before it counts."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from pydantic import ValidationError

from ems.clock import Clock
from ems.messages import (
    LONGEST_BYTES,
    Acknowledgement,
    AcknowledgementMessage,
    AcknowledgementState,
    carries_out,
    delivery_of,
)
from ems.metrics import Metrics
from ems.publishing import Delivery, DeliveryOutcome
from ems.setpoints import Setpoint
from ems.site import Site
from ems.store import DeliveredSetpoint, Store

log = logging.getLogger("ems.channels")

Known = TypeVar("Known")
Content = TypeVar("Content")
Listener = Callable[[Setpoint, Delivery], object]
REMEMBERED = 20_000
"""Setpoints and answers kept in memory; older ones are looked up."""


class Verdict(StrEnum):
    """What became of an acknowledgement."""

    RECORDED = "recorded"
    """On disk, and it counts."""
    DUPLICATE = "duplicate"
    """Said before; nothing changed."""
    LATE = "late"
    """On disk, but the setpoint had ended: it changes nothing."""
    UNKNOWN = "unknown"
    """The site has no such setpoint. Nothing was kept."""
    NOT_YOURS = "not_yours"
    """The site has no controller of that name, or it speaks through another channel. Nothing was kept."""
    MALFORMED = "malformed"
    """Not an acknowledgement. Nothing was kept."""


def read(payload: bytes) -> AcknowledgementMessage | None:
    """Read an acknowledgement; None when it is none."""
    if len(payload) > LONGEST_BYTES:
        return None
    try:
        return AcknowledgementMessage.model_validate_json(payload)
    except ValidationError:
        return None


class Ledger:
    """Keeps acknowledgements. Any thread may call; a call that returns has everything on disk, or raises StoreError."""

    def __init__(self, sites: Sequence[Site], *, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._sites: Mapping[str, Site] = {site.id: site for site in sites}
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._told: OrderedDict[str, Setpoint] = OrderedDict()
        self._answered: OrderedDict[tuple[str, str], AcknowledgementState] = OrderedDict()
        self._listener: Listener | None = None

    def listen(self, listener: Listener) -> None:
        """Name who is told of every answer that decides something, once it is on disk; called from any thread."""
        self._listener = listener

    def remember(self, told: Iterable[DeliveredSetpoint]) -> None:
        """Know setpoints that controllers are told, also those that still wait for the store."""
        for one in told:
            self._told[one.setpoint.id] = one.setpoint
            for said in one.acknowledgements:
                self._answered[said.setpoint_id, said.controller] = said.state
        _shorten(self._told)
        _shorten(self._answered)

    def answered(self, setpoint_id: str, controller: str) -> bool:
        """Tell whether a controller has said anything about a setpoint."""
        return (setpoint_id, controller) in self._answered

    def record(
        self,
        message: AcknowledgementMessage | None,
        *,
        site_id: str,
        channel: str,
        controller: str | None = None,
    ) -> Verdict:
        """Judge and keep what a controller said.

        Parameters
        ----------
        message
            What it said; None when it could not be read.
        site_id
            The site it spoke for: the one its key, topic or address belongs to.
        channel
            `mqtt`, `http` or `bacnet`.
        controller
            Who spoke, where the channel knows; the message must then say the same.
        """
        verdict = self._judge(message, site_id=site_id, channel=channel, controller=controller)
        if verdict is Verdict.RECORDED and message is not None:
            self._metrics.acknowledgements.labels(channel=channel, state=message.state).inc()
        else:
            self._metrics.acknowledgements_ignored.labels(channel=channel, verdict=verdict).inc()
        return verdict

    def _judge(
        self, message: AcknowledgementMessage | None, *, site_id: str, channel: str, controller: str | None
    ) -> Verdict:
        if message is None:
            return Verdict.MALFORMED
        site = self._sites.get(site_id)
        named = site.controllers.get(message.controller) if site is not None else None
        if site is None or named is None or (controller is not None and controller != message.controller):
            return Verdict.NOT_YOURS
        setpoint = self._setpoint(message.setpoint_id)
        if setpoint is None or setpoint.site_id != site_id:
            return Verdict.UNKNOWN
        now = self._clock.now()
        ended = now >= setpoint.valid_until and message.state is not AcknowledgementState.EXPIRED
        said = Acknowledgement(
            setpoint_id=setpoint.id,
            site_id=site_id,
            controller=message.controller,
            channel=channel,
            state=message.state,
            value_kw=message.value_kw,
            at=message.at,
            arrived_at=now,
            late=ended,
            detail=message.detail,
        )
        answers = carries_out(site, setpoint.asset, message.controller)
        delivery = delivery_of(said, setpoint) if answers else None
        new = self._store.save_acknowledgement(said, delivery)
        self._answered[said.setpoint_id, said.controller] = said.state
        _shorten(self._answered)
        if new and delivery is not None and self._listener is not None:
            self._listener(setpoint, delivery)
        return Verdict.DUPLICATE if not new else Verdict.LATE if ended else Verdict.RECORDED

    def ran_out(self, setpoint: Setpoint, *, controller: str, channel: str) -> None:
        """Note of a setpoint that ended without a successor that it is `expired`."""
        now = self._clock.now()
        said = Acknowledgement(
            setpoint_id=setpoint.id,
            site_id=setpoint.site_id,
            controller=controller,
            channel=channel,
            state=AcknowledgementState.EXPIRED,
            value_kw=None,
            at=setpoint.valid_until,
            arrived_at=now,
            late=False,
            detail="the service did not renew it",
        )
        if self._store.save_acknowledgement(said, None):
            self._metrics.acknowledgements.labels(channel=channel, state=said.state).inc()

    def unanswered(self, setpoint: Setpoint, *, controller: str, within_s: float) -> None:
        """Note of a setpoint that nobody said anything about it in time."""
        self._store.save_setpoints(
            (),
            (
                Delivery.of(
                    setpoint,
                    DeliveryOutcome.UNVERIFIED,
                    held_kw=None,
                    at=setpoint.valid_from,
                    written=True,
                    detail=f"controller {controller} did not acknowledge it within {within_s:g} s",
                ),
            ),
        )

    def _setpoint(self, setpoint_id: str) -> Setpoint | None:
        told = self._told.get(setpoint_id)
        if told is not None:
            return told
        kept = self._store.setpoint(setpoint_id)
        return None if kept is None else kept.setpoint


def _shorten(remembered: OrderedDict[Known, Content]) -> None:
    while len(remembered) > REMEMBERED:
        remembered.popitem(last=False)
