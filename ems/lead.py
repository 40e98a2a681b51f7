"""Who acts: of several instances on one store one leads, the others stand by."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ems.bounded import apart
from ems.errors import StoreError
from ems.metrics import Metrics
from ems.store import Lease

log = logging.getLogger("ems.lead")

ANSWER_S = 3.0
"""An answer about the lead that takes longer is a no [s]."""

Answer = TypeVar("Answer")


class Lead:
    """The lease of this instance, asked off the event loop; what is slow or silent counts as lost."""

    def __init__(self, lease: Lease, metrics: Metrics) -> None:
        self._lease = lease
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._hangs: Future[object] | None = None
        self.mine = False
        """Whether this instance led when it was last asked."""
        self.holder = ""
        """Who leads instead, in words; empty while this instance does."""

    async def take(self) -> bool:
        """Take the lead if it is free; True when this instance leads now. The change is logged once."""
        try:
            mine = await self._ask(self._lease.take, otherwise=False)
        except StoreError as error:
            self._tell(str(error))
            return False
        if mine:
            self._metrics.leader.set(1)
            log.info("lead.taken")
            self.mine, self.holder = True, ""
        else:
            self._tell(await self._ask(self._lease.holder, otherwise="unknown, the store does not answer"))
        return mine

    async def still(self) -> bool:
        """Ask, not remember, whether this instance leads."""
        if self.mine and not await self._ask(self._lease.holds, otherwise=False):
            self.mine = False
            self._metrics.leader.set(0)
            log.error("lead.lost nothing is written to devices from now on")
        return self.mine

    async def awaited(self) -> bool:
        """Tell whether another instance is ready to take over."""
        return await self._ask(self._lease.awaited, otherwise=False)

    async def give_up(self) -> None:
        """Let another instance lead."""
        self.mine = False
        self._metrics.leader.set(0)
        await self._ask(self._lease.release, otherwise=None)

    def _tell(self, holder: str) -> None:
        if holder != self.holder:
            log.info("lead.stands_by leader=%r", holder)
        self.holder = holder

    async def _ask(self, question: Callable[[], Answer], *, otherwise: Answer) -> Answer:
        async with self._turn:
            if self._hangs is not None and not self._hangs.done():
                return otherwise
            asked = apart(question)
            done, _ = await asyncio.wait([asyncio.wrap_future(asked)], timeout=ANSWER_S)
            self._hangs = None if done else asked  # type: ignore[assignment]
            return done.pop().result() if done else otherwise
