"""Turns: who decides and writes at a site. Each site has its own, so that none waits for another's slow device."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """The turn of every site: taken one by one, or all at once by whoever acts on all of them.

    `async with turns.of(site_id)` waits for others at that site only; `async with turns` begins when nobody acts at any
    site, and nobody begins meanwhile.
    """

    def __init__(self) -> None:
        self._sites: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._everywhere = asyncio.Lock()
        self._acting = 0
        self._quiet, self._open = asyncio.Event(), asyncio.Event()
        self._quiet.set()
        self._open.set()

    @asynccontextmanager
    async def of(self, site_id: str) -> AsyncIterator[None]:
        """Take the turn of one site."""
        async with self._sites[site_id]:
            while not self._open.is_set():
                await self._open.wait()
            self._acting += 1
            self._quiet.clear()
            try:
                yield
            finally:
                self._acting -= 1
                if not self._acting:
                    self._quiet.set()

    async def __aenter__(self) -> None:
        """Take the turns of all sites."""
        await self._everywhere.acquire()
        self._open.clear()
        try:
            await self._quiet.wait()
        except BaseException:
            self._hand_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Let others act."""
        self._hand_on()

    def _hand_on(self) -> None:
        self._open.set()
        self._everywhere.release()
