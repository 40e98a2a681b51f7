"""One owner per endpoint: every request to it passes here, one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from drivers.protocols import Clock


@dataclass(slots=True)
class LinkCounters:
    """What happened on one endpoint since start; plain numbers for metrics."""

    requests: int = 0
    answers: int = 0
    timeouts: int = 0
    garbled: int = 0
    exceptions: int = 0
    connects: int = 0
    failed_connects: int = 0
    skipped: int = 0
    """Requests not sent because the endpoint was backing off."""
    writes: int = 0


class LinkPool:
    """Owns one link per endpoint string.

    Parameters
    ----------
    clock
        Aware UTC; stamps samples and runs validity of setpoints. Time-outs use the event loop's own time.
    read_only
        Refuse write function codes on every link, in the transport.
    timeout_s
        Longest wait for an answer [s, wall time].
    """

    def __init__(self, *, clock: Clock, read_only: bool = False, timeout_s: float = 1.0) -> None:
        self.clock = clock
        self.read_only = read_only
        self.timeout_s = timeout_s

    async def close(self) -> None:
        """Close every connection."""

    @property
    def counters(self) -> Mapping[str, LinkCounters]:
        """By endpoint string."""
        return {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
