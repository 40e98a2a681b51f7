"""Time as an argument: clocks, the interval grid, local-day edges.

Aware UTC inside. Local time appears only where a person or a tariff calendar asks for it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, Self
from zoneinfo import ZoneInfo

import numpy as np

from ems.codec import IntArray


class Clock(Protocol):
    """Where the service gets its time from."""

    def now(self) -> datetime:
        """Return the present instant of site time (aware UTC)."""
        ...

    def wall_seconds(self, site_seconds: float) -> float:
        """Return how many wall-clock seconds pass while `site_seconds` pass on site [s]."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemClock:
    """Site time is the machine's time."""

    def now(self) -> datetime:
        """Return the machine's time."""
        return datetime.now(UTC)

    def wall_seconds(self, site_seconds: float) -> float:
        """Site and wall seconds are the same."""
        return site_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledClock:
    """Site time runs `speed` times faster than the machine's, from a fixed pair of instants.

    The pair, not a moment of construction, defines it: a process that is killed and started again
    finds itself at the right site time.
    """

    site_start_at: datetime
    """Site time at `wall_start_at`."""
    wall_start_at: datetime
    """Machine time at which the replay began."""
    speed: float
    """Site seconds per wall second, > 0."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `SITE_START,WALL_START,SPEED` as `str` writes it; raises ValueError."""
        site_start, wall_start, speed = text.split(",")
        return cls(
            site_start_at=datetime.fromisoformat(site_start),
            wall_start_at=datetime.fromisoformat(wall_start),
            speed=float(speed),
        )

    def __str__(self) -> str:
        """Return the form `parse` reads: how one clock is handed to several processes."""
        return f"{self.site_start_at.isoformat()},{self.wall_start_at.isoformat()},{self.speed!r}"

    def now(self) -> datetime:
        """Return the site time the replay has reached; it stands still until the replay begins."""
        elapsed = max(timedelta(0), datetime.now(UTC) - self.wall_start_at)
        return self.site_start_at + elapsed * self.speed

    def wall_seconds(self, site_seconds: float) -> float:
        """Return the wall time in which `site_seconds` pass [s]."""
        return site_seconds / self.speed


@dataclass(kw_only=True, slots=True)
class ManualClock:
    """A clock that stands until it is moved: simulation and tests."""

    at: datetime
    """The present instant (aware UTC)."""

    def now(self) -> datetime:
        """Return the instant the clock was set to."""
        return self.at

    def wall_seconds(self, site_seconds: float) -> float:
        """No wall time passes."""
        return 0.0 * site_seconds

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds` [s]."""
        self.at += timedelta(seconds=seconds)


JUMP_S = 2.0
"""A clock that moved this much more or less than time passed was set, or the machine slept [wall s]."""


class JumpWatch:
    """Compares a clock with the time that passed. Slewing, as NTP does it, is no jump.

    Parameters
    ----------
    clock
        The clock that may be set.
    passed_s
        A count of seconds nobody can set; it may stand while the machine sleeps.
    """

    def __init__(self, clock: Clock, passed_s: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._passed_s = passed_s
        self._seen = (clock.now(), passed_s())

    def jumped(self) -> timedelta | None:
        """Return by how much site time was set forward (or back, below zero) since the last call; None if it was not."""
        (at_before, s_before), self._seen = self._seen, (self._clock.now(), self._passed_s())
        wall_per_site_s = self._clock.wall_seconds(1.0)
        if wall_per_site_s <= 0.0:
            return None
        at, s = self._seen
        jump = at - at_before - timedelta(seconds=(s - s_before) / wall_per_site_s)
        return jump if abs(jump.total_seconds()) * wall_per_site_s > JUMP_S else None


class StageWatch:
    """Measures a course of stages one after the other, in wall time."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.laps_ms: dict[str, float] = {}
        """By stage [ms]."""

    def lap(self, stage: str) -> None:
        """End a stage that began where the one before ended."""
        now = time.perf_counter()
        self.laps_ms[stage] = (now - self._last) * 1e3
        self._last = now

    @property
    def total_ms(self) -> float:
        """Time since the start [ms]."""
        return (time.perf_counter() - self._began) * 1e3


def interval_start(at: datetime, step_s: int) -> datetime:
    """Return the start of the interval of the UTC grid that holds `at`."""
    epoch_s = int(at.timestamp())
    return datetime.fromtimestamp(epoch_s - epoch_s % step_s, UTC)


def next_interval_start(at: datetime, step_s: int) -> datetime:
    """Return the first grid instant strictly after `at`."""
    return interval_start(at, step_s) + timedelta(seconds=step_s)


def grid_epochs(start_at: datetime, count: int, step_s: int) -> IntArray:
    """Return `count` interval starts from `start_at` as epoch seconds, shape (count,)."""
    return int(start_at.timestamp()) + step_s * np.arange(count, dtype=np.int64)


def local_day(at: datetime, zone: str) -> date:
    """Return the local calendar day `at` falls on."""
    return at.astimezone(ZoneInfo(zone)).date()


def day_edges(day: date, zone: str) -> tuple[datetime, datetime]:
    """Return the first instant of a local day and of the next; 23 or 25 hours apart on clock changes."""
    tz = ZoneInfo(zone)
    first = datetime(day.year, day.month, day.day, tzinfo=tz)
    following = day + timedelta(days=1)
    last = datetime(following.year, following.month, following.day, tzinfo=tz)
    return first.astimezone(UTC), last.astimezone(UTC)
