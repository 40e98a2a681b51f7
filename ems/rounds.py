"""Rounds: every site in turn, evenly spread over a period, each in a task of its own.

Work that comes evenly is done at once: a site that is looked at is decided and written while the others wait for their
moment, and one whose devices are slow is late alone.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise

PARTS = 50
"""Most parts a round is cut into; the sites of one begin together."""


class Rounds:
    """Goes round the sites until stopped.

    Parameters
    ----------
    site_ids
        The sites, in the order of their turns.
    period_s
        Time between two beginnings at the same site [s].
    beside
        Done once a round while it goes on; skipped where the last one has not ended yet.
    part
        Told when a part of a round begins, with its share of the period [s].
    follow
        Done for each site. One that is still under way when its turn comes again is left to end.
    """

    def __init__(
        self,
        site_ids: Sequence[str],
        *,
        period_s: float,
        beside: Callable[[], Awaitable[None]],
        part: Callable[[float], None],
        follow: Callable[[str], Awaitable[None]],
    ) -> None:
        count = max(1, min(PARTS, len(site_ids)))
        cuts = [len(site_ids) * part // count for part in range(count + 1)]
        self._parts = [site_ids[low:high] for low, high in pairwise(cuts)]
        self._part_s = period_s / count
        self._beside, self._part, self._follow = beside, part, follow
        self._stopped = asyncio.Event()
        self._began_s: dict[str, float] = {}
        self._again: set[str] = set()
        self._group: asyncio.TaskGroup | None = None

    @property
    def longest_s(self) -> float:
        """How long the oldest piece of work under way has taken [s]; 0 when there is none."""
        return max((time.monotonic() - began_s for began_s in self._began_s.values()), default=0.0)

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is under way has ended."""
        self._stopped.set()

    def at_once(self, site_ids: Iterable[str]) -> None:
        """Look at sites out of turn; at one that is being looked at, once more afterwards."""
        for site_id in site_ids:
            if site_id in self._began_s:
                self._again.add(site_id)
            self._begin(site_id, self._follow, site_id)

    async def run(self) -> None:
        """Go round until `stop`."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        async with asyncio.TaskGroup() as self._group:
            while True:
                self._begin("", self._beside)
                for part in self._parts:
                    with contextlib.suppress(TimeoutError):
                        # `wait_for` would make a task for each part of each round
                        async with asyncio.timeout_at(max(due_s, loop.time())):
                            await self._stopped.wait()
                    if self._stopped.is_set():
                        return
                    self._part(self._part_s)
                    for site_id in part:
                        self._begin(site_id, self._follow, site_id)
                    # what could not begin in time is not made up for: that would make the next ones late too
                    due_s = max(due_s + self._part_s, loop.time())

    def _begin(self, what: str, work: Callable[..., Awaitable[None]], *arguments: str) -> None:
        if what in self._began_s or self._group is None or self._stopped.is_set():
            return
        self._began_s[what] = time.monotonic()
        self._group.create_task(self._end(what, work(*arguments)))

    async def _end(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            del self._began_s[what]
        if what in self._again:
            self._again.discard(what)
            self._begin(what, self._follow, what)
