"""The planning schedule fires on the grid of site time, whatever speed that runs at."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.clock import day_edges
from ems.schedule import GridTrigger
from tests.ems.made import AT, STEP_S

WALL = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass
class Standing:
    """A clock that stands at an instant and runs at a speed."""

    at: datetime
    speed: float

    def now(self) -> datetime:
        return self.at

    def wall_seconds(self, site_seconds: float) -> float:
        return site_seconds / self.speed


@pytest.mark.parametrize(
    ("seconds", "wait_s"),
    [
        pytest.param(60, 840, id="a minute after a boundary"),
        pytest.param(0, 900, id="on a boundary: the next one"),
        pytest.param(895, 905, id="a trifle before: that one counts as reached"),
    ],
)
def test_the_next_boundary(seconds: float, wait_s: float) -> None:
    trigger = GridTrigger(Standing(AT + timedelta(seconds=seconds), 1.0), STEP_S)
    assert trigger.get_next_fire_time(None, WALL) == WALL + timedelta(seconds=wait_s)


@given(offset_s=st.floats(0, 86_400), speed=st.sampled_from([1.0, 144.0, 600.0]))
def test_it_fires_when_site_time_reaches_a_boundary(offset_s: float, speed: float) -> None:
    clock = Standing(AT + timedelta(seconds=offset_s), speed)
    trigger = GridTrigger(clock, STEP_S)
    wait_s = (trigger.get_next_fire_time(None, WALL) - WALL).total_seconds()
    assert 0.0 < wait_s * speed <= 1.01 * STEP_S + 1e-3
    clock.at += timedelta(seconds=wait_s * speed)
    boundary = trigger.boundary()
    assert boundary.timestamp() % STEP_S == 0
    assert abs((boundary - clock.at).total_seconds()) < 1e-3


@pytest.mark.parametrize(
    ("day", "intervals"),
    [
        pytest.param(date(2026, 3, 29), 92, id="spring: 23 hours"),
        pytest.param(date(2026, 10, 25), 100, id="autumn: 25 hours"),
    ],
)
def test_a_day_on_which_local_clocks_change_has_every_interval_once(day: date, intervals: int) -> None:
    first, following = day_edges(day, "Europe/Berlin")
    clock = Standing(first - timedelta(seconds=STEP_S / 2), 1.0)
    trigger = GridTrigger(clock, STEP_S)
    fired = []
    while clock.at < following:
        wait = trigger.get_next_fire_time(None, WALL) - WALL
        clock.at += wait
        fired.append(trigger.boundary())
    assert [at for at in fired if first <= at < following] == [
        first + n * timedelta(seconds=STEP_S) for n in range(intervals)
    ]
