"""Together: what many ask for at about the same time, done for all of them at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Together(Generic[Item]):
    """Passes items on; those that come while others are being worked on go together afterwards.

    So that a commit that takes its time delays each of many by two of them at most, however many they are.

    Parameters
    ----------
    work
        Done with all items that wait; what it raises, everybody hears whose items were among them.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[None]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._waiting: list[Item] = []
        self._next: asyncio.Task[None] | None = None

    async def __call__(self, items: Sequence[Item]) -> None:
        """Return when the work has been done with these items."""
        self._waiting += items
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        # one who gives up waiting does not end it for the others
        await asyncio.shield(self._next)

    async def _run(self) -> None:
        async with self._turn:
            items, self._waiting, self._next = self._waiting, [], None
            await self._work(items)
