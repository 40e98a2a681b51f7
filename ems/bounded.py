"""Work that may hang, outside everybody's way: in a thread that neither holds up the service nor the end of the process."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from ems.errors import Overdue

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def apart(work: Callable[[], Answer]) -> "Future[Answer]":
    """Run work in a thread of its own; one that hangs is left behind when the process ends."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, as an executor does
            future.set_exception(error)

    threading.Thread(target=run, name="ems-apart", daemon=True).start()
    return future


class Bounded(Generic[Asked, Answer]):
    """A call that must come back in time: else its caller goes on without it, and nobody asks again before it did.

    Parameters
    ----------
    work
        What may hang.
    within_s
        Longest wait for one call [s].
    what
        What to call it in messages.
    """

    def __init__(
        self, work: Callable[[Sequence[Asked]], Sequence[Answer]], *, within_s: float, what: str
    ) -> None:
        self._work = work
        self._within_s = within_s
        self._what = what
        self._running: Future[Sequence[Answer]] | None = None
        self._began_s = 0.0

    def __call__(self, batch: Sequence[Asked]) -> Sequence[Answer]:
        """Do the work; raises Overdue when it takes too long or an earlier call has not come back yet."""
        if self.hangs_s > 0.0:
            raise Overdue(f"{self._what} has not come back for {self.hangs_s:.0f} s")
        self._began_s = time.monotonic()
        self._running = apart(lambda: self._work(batch))
        try:
            return self._running.result(self._within_s)
        except TimeoutError:
            if self._running.done():
                raise
            raise Overdue(f"{self._what} did not come back within {self._within_s:.0f} s") from None

    @property
    def hangs_s(self) -> float:
        """How long a call that came back to nobody has been running [s]; 0 when there is none."""
        running = self._running
        return 0.0 if running is None or running.done() else time.monotonic() - self._began_s
