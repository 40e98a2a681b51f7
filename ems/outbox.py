"""What waits for the store: written in order, kept while the store refuses, counted when it must be dropped."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from ems.errors import StoreError
from ems.metrics import Metrics

log = logging.getLogger("ems.store")

Answer = TypeVar("Answer")
Write = Callable[[], None]


class Outbox:
    """Writes to the store off the event loop, one at a time, oldest first.

    While the store refuses (disk full, locked) writes wait in memory, up to `limit`; the first refusal and the recovery
    are logged, and whoever asks `healthy` sees the state between.
    """

    def __init__(self, metrics: Metrics, *, limit: int = 20_000) -> None:
        self._waiting: deque[Write] = deque()
        self._limit = limit
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._flushes: set[asyncio.Future[bool]] = set()
        self.trouble: str | None = None
        """Why the store refuses; None while it accepts."""
        self.dropped = 0
        """Writes given up because too many waited."""

    @property
    def waiting(self) -> int:
        """Writes not yet accepted."""
        return len(self._waiting)

    async def put(self, write: Write) -> None:
        """Add a write and try to get everything waiting accepted; returns whether or not it was."""
        self._add(write)
        await self.flush()

    def post(self, write: Write) -> None:
        """Add a write and go on; it is accepted in its turn."""
        self._add(write)
        task = asyncio.ensure_future(self.flush())
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)

    def _add(self, write: Write) -> None:
        self._waiting.append(write)
        if len(self._waiting) > self._limit:
            self._waiting.popleft()
            self.dropped += 1

    async def flush(self) -> bool:
        """Write what waits, in order; False when the store refused."""
        async with self._turn:
            while self._waiting:
                # Out of the queue while it is written: what a full queue drops must not be the one at the store.
                write = self._waiting.popleft()
                try:
                    await asyncio.to_thread(write)
                except StoreError as error:
                    self._waiting.appendleft(write)
                    self._note(str(error))
                    return False
                except asyncio.CancelledError:
                    self._waiting.appendleft(write)
                    raise
                except Exception:
                    # a write that can never succeed must not hold back all others, nor the control that waits for them
                    log.exception("store.dropped a write that cannot be carried out")
                    self.dropped += 1
                    continue
                self._note(None)
            self._metrics.store_queue.set(len(self._waiting))
            return True

    def _note(self, trouble: str | None) -> None:
        self._metrics.store_queue.set(len(self._waiting))
        if trouble and not self.trouble:
            log.error("store.refuses cause=%s", trouble)
        if self.trouble and not trouble:
            log.warning("store.accepts_again waiting=%d", len(self._waiting))
        self.trouble = trouble
