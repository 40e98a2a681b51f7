"""What a channel is: it is offered changes, keeps the newest of each place, and carries them when it can."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ems.channels.board import Change, Key
from ems.channels.ledger import Verdict
from ems.messages import AcknowledgementMessage
from ems.setpoints import Setpoint
from ems.site import Site

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Shortest and longest pause between two attempts at a peer that does not answer [s]."""

Heard = Callable[[AcknowledgementMessage | None], Awaitable[Verdict]]
"""Keeps an acknowledgement durably, None for one that cannot be read; returns once it is, raises nothing."""
Told = Callable[[str | None], None]
"""Notes why the controller cannot be reached, or with None that it can."""


class Channel(Protocol):
    """The way to one controller."""

    def offer(self, changes: Sequence[Change]) -> None:
        """Take changes; never waits, never fails."""
        ...

    async def run(self) -> None:
        """Carry changes and hear answers until cancelled, whatever the peer does."""
        ...

    async def finish(self, within_s: float) -> None:
        """Carry what is left, as far as that works within so many seconds."""
        ...


Link = Callable[[Site, str, Heard, Told], Channel | None]
"""Makes the way to a controller of a site; None for one that asks by itself."""


class Waiting:
    """Changes not carried yet: at most one per place, the newest. So it is bounded by what the site has."""

    def __init__(self) -> None:
        self._changes: dict[Key, Setpoint | None] = {}
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, changes: Sequence[Change]) -> None:
        """Add changes; a newer one of the same place takes the older one's turn."""
        for change in changes:
            self._changes[change.key] = change.setpoint
        if self._changes:
            self._news.set()
            self._empty.clear()

    async def first(self) -> tuple[Key, Setpoint | None]:
        """Wait for a change and return the oldest; it stays until `done`."""
        await self._news.wait()
        return next(iter(self._changes.items()))

    def done(self, key: Key, carried: Setpoint | None) -> None:
        """Forget a change that was carried, unless a newer one has come meanwhile."""
        if key in self._changes and self._changes[key] is carried:
            del self._changes[key]
        if not self._changes:
            self._news.clear()
            self._empty.set()

    def last(self, key: Key) -> None:
        """Let the others go first: this one could not be carried."""
        if key in self._changes:
            self._changes[key] = self._changes.pop(key)

    async def emptied(self, within_s: float) -> bool:
        """Wait until everything was carried; False when it was not in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), within_s)
        return self._empty.is_set()


class Backoff:
    """Pauses between attempts: doubled each time, spread so that many do not come back at once."""

    def __init__(self) -> None:
        self._next_s = FIRST_WAIT_S
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing

    def worked(self) -> None:
        """Begin anew after a success."""
        self._next_s = FIRST_WAIT_S

    async def pause(self) -> None:
        """Wait before the next attempt."""
        pause_s = self._next_s * self._random.uniform(0.75, 1.0)
        self._next_s = min(2.0 * self._next_s, LONGEST_WAIT_S)
        await asyncio.sleep(pause_s)
