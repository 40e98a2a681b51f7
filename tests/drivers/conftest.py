import asyncio
import selectors
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from drivers import LinkPool, Pacing
from drivers.twin.image import RegisterImage
from drivers.twin.server import Station, serve_tcp

QUICK = Pacing(
    timeout_s=0.15,
    connect_timeout_s=0.5,
    first_pause_s=0.1,
    longest_pause_s=0.4,
    settle_s=0.01,
    forget_late_s=5.0,
)


class SkippingSelector(selectors.DefaultSelector):
    """Does not wait for timers: when nothing is under way on any socket or line, time is skipped."""

    GRACE_S = 0.1
    """What the kernel is given to hand over bytes that were sent [s, real]; a pseudo terminal on a busy machine needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout=None):
        if timeout is None or timeout <= 0.0:
            return super().select(timeout)
        events = super().select(min(timeout, self.GRACE_S))
        if not events:
            self.skipped_s += timeout
        return events


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it waits: a busy machine makes nothing late."""

    def __init__(self) -> None:
        self._skipping = SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped_s


SKIPPING = ("test_faults.py", "test_link.py")
"""Modules about being late or silent; both ends of their connections live in the same loop, and no thread works for it."""


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item):
    return {"loop": SkippingLoop if item.path.name in SKIPPING else asyncio.new_event_loop}


class SteppedClock:
    """Site time that moves only when told to."""

    def __init__(self) -> None:
        self.at = datetime(2025, 6, 1, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **span: float) -> None:
        self.at += timedelta(**span)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def links(clock: SteppedClock) -> AsyncIterator[LinkPool]:
    async with LinkPool(clock=clock, pacing=QUICK) as pool:
        yield pool


@pytest.fixture
async def patient_links(clock: SteppedClock) -> AsyncIterator[LinkPool]:
    """For what must get through: a machine with other things to do takes its time, too."""
    async with LinkPool(clock=clock, pacing=replace(QUICK, timeout_s=2.0)) as pool:
        yield pool


@pytest.fixture
def on_air():
    """Serve one image on TCP; gives its endpoint and station."""

    @asynccontextmanager
    async def served(
        image: RegisterImage, *, rtu: bool = False, transparent: bool = False, unit: int = 1
    ) -> AsyncIterator[tuple[str, Station]]:
        station = Station(units={unit: image})
        server = await serve_tcp(station, "127.0.0.1", 0, rtu=rtu, transparent=transparent)
        scheme = "rtu+tcp" if rtu else "tcp"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", station
        server.close()
        for client in tuple(station.clients):
            client.abort()

    return served
