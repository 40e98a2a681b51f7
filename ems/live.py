"""The present, in memory: what the fast loop saw last, and a way to be told when that changes.

Nothing here is a record; the store keeps those. A subscriber that is slow never delays the loop and never grows a
queue: it is handed the set of sites that changed since it last asked.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from ems.conduct import Conduct
from ems.orders import Order
from ems.readings import Quality
from ems.setpoints import Setpoint
from ems.state import GridState, SitePowers


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveState:
    """One site as the fast loop saw it last."""

    at: datetime
    """When the devices were read (aware UTC)."""
    powers: SitePowers
    """Present powers; None is unknown."""
    stored_kwh: Mapping[str, float]
    """Energy per battery [kWh]; a battery whose state is unknown is not in it."""
    setpoints: Mapping[str, Setpoint]
    """What is asked of each asset now, by asset."""
    troubles: Mapping[str, str]
    """Devices that do not answer, with the cause in one line."""
    signal: tuple[Order, ...]
    """What the grid operator's device said last."""
    conduct: Mapping[str, Conduct] = field(default_factory=dict)
    """How assets follow what they are asked, by asset; one that is not in it was never judged."""
    grid: GridState = GridState.PRESENT
    """Whether the public grid carries the site."""
    quality: Quality
    """`good` when all that the powers rest on was read, else `estimated` or `bad`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What happened since a subscriber last asked."""

    site_ids: frozenset[str]
    """Sites with a newer `LiveState`."""
    recorded: bool
    """Whether records changed: a planning cycle ended, or somebody paused or resumed a site."""


@dataclass(kw_only=True, slots=True, eq=False)
class Subscription:
    """One listener's unseen changes."""

    _site_ids: set[str] = field(default_factory=set)
    _recorded: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    """The loop it is awaited in."""

    async def changes(self) -> Changes:
        """Wait until something changed, and return all of it."""
        await self._news.wait()
        seen = Changes(site_ids=frozenset(self._site_ids), recorded=self._recorded)
        self._site_ids.clear()
        self._recorded = False
        self._news.clear()
        return seen

    def note(self, site_id: str | None) -> None:
        """Remember that a site's present changed, or with None that records did."""
        if site_id is None:
            self._recorded = True
        else:
            self._site_ids.add(site_id)
        self._news.set()


class Live:
    """Latest state of every site; `publish` and `subscribe` from the service's event loop only."""

    def __init__(self) -> None:
        self._latest: dict[str, LiveState] = {}
        self._subscriptions: set[Subscription] = set()

    def publish(self, site_id: str, state: LiveState) -> None:
        """Replace the state of a site and tell whoever listens."""
        self._latest[site_id] = state
        for subscription in self._subscriptions:
            subscription.note(site_id)

    def announce(self) -> None:
        """Tell whoever listens that records changed: a cycle ended, or a person paused or resumed a site.

        May be called from any thread.
        """
        for subscription in tuple(self._subscriptions):
            subscription.loop.call_soon_threadsafe(subscription.note, None)

    def latest(self, site_id: str) -> LiveState | None:
        """Return the latest state of a site; None before the first pass."""
        return self._latest.get(site_id)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Listen for as long as the block lasts."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
