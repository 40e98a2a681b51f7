"""What waits for the store: written in order, kept while the store refuses, counted when it must be dropped."""

import asyncio
import logging
import time
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
    are logged, and whoever asks `trouble` and `behind_s` sees the state between.

    Parameters
    ----------
    metrics
        Where the queue is counted.
    limit
        Writes that may wait.
    patience_s
        How long `put` waits for a store that neither accepts nor refuses [s]; the write then waits with the others.
    """

    def __init__(self, metrics: Metrics, *, limit: int = 20_000, patience_s: float = 2.0) -> None:
        self._waiting: deque[tuple[Write, float]] = deque()
        self._limit = limit
        self._patience_s = patience_s
        self._writing_since: float | None = None
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._flushes: set[asyncio.Future[bool]] = set()
        self._next: asyncio.Future[bool] | None = None
        self.trouble: str | None = None
        """Why the store refuses; None while it accepts."""
        self.dropped = 0
        """Writes given up because too many waited."""

    @property
    def waiting(self) -> int:
        """Writes not yet accepted."""
        return len(self._waiting) + (self._writing_since is not None)

    @property
    def behind_s(self) -> float:
        """How long the oldest write that is not accepted has been waiting [s]."""
        since = self._writing_since
        if since is None:
            since = self._waiting[0][1] if self._waiting else None
        return 0.0 if since is None else time.monotonic() - since

    async def put(self, write: Write) -> None:
        """Add a write and try to get everything waiting accepted; returns whether or not it was.

        A store that has kept others waiting is waited for no longer than patience has left: what comes to a device every
        second is held up once, not every time.
        """
        left_s = max(0.0, self._patience_s - self.behind_s)
        self._add(write)
        await asyncio.wait([self._begin_flush()], timeout=left_s)

    def post(self, write: Write) -> None:
        """Add a write and go on; it is accepted in its turn."""
        self._add(write)
        self._begin_flush()

    def retry(self) -> None:
        """Ask again for what waits, if nobody is asking just now."""
        if self._waiting and not self._flushes:
            self._begin_flush()

    def _begin_flush(self) -> "asyncio.Future[bool]":
        """Write what waits, once the flush under way has ended; one that has not begun yet serves all who ask for one."""
        if self._next is None or self._next.done():
            self._next = task = asyncio.ensure_future(self.flush())
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)
        return self._next

    def _add(self, write: Write) -> None:
        self._waiting.append((write, time.monotonic()))
        if len(self._waiting) > self._limit:
            self._waiting.popleft()
            self.dropped += 1

    async def flush(self) -> bool:
        """Write what waits, in order; False when the store refused."""
        async with self._turn:
            self._next = None
            while self._waiting:
                # Out of the queue while it is written: what a full queue drops must not be the one at the store.
                write, since = self._waiting.popleft()
                self._writing_since = since
                try:
                    await asyncio.to_thread(write)
                except StoreError as error:
                    self._waiting.appendleft((write, since))
                    self._note(str(error))
                    return False
                except asyncio.CancelledError:
                    self._waiting.appendleft((write, since))
                    raise
                except Exception:
                    # a write that can never succeed must not hold back all others, nor the control that waits for them
                    log.exception("store.dropped a write that cannot be carried out")
                    self.dropped += 1
                    continue
                finally:
                    self._writing_since = None
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
