"""Clocks, the interval grid, and local days of 23, 24 and 25 hours."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.clock import (
    JumpWatch,
    ManualClock,
    ScaledClock,
    day_edges,
    grid_epochs,
    interval_start,
    local_day,
    next_interval_start,
)

ZONES = ["Asia/Seoul", "Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe", "America/Sao_Paulo",
         "America/Havana", "Asia/Kathmandu", "Pacific/Auckland", "UTC"]  # fmt: skip
EARLIEST_S, LATEST_S = 1262304000, 2051222400  # 2010 to 2035
instants = st.floats(EARLIEST_S, LATEST_S).map(lambda epoch_s: datetime.fromtimestamp(epoch_s, UTC))
steps = st.sampled_from([60, 300, 900, 1800, 3600])
SECOND = timedelta(seconds=1)


@given(at=instants, step_s=steps)
def test_the_grid_holds_every_instant_in_one_interval(at: datetime, step_s: int) -> None:
    start_at, following = interval_start(at, step_s), next_interval_start(at, step_s)
    assert start_at <= at < following
    assert following - start_at == timedelta(seconds=step_s)
    assert start_at.timestamp() % step_s == 0
    assert interval_start(start_at, step_s) == start_at
    assert next_interval_start(start_at, step_s) == following


def test_grid_epochs_are_starts_one_step_apart() -> None:
    assert grid_epochs(datetime(2026, 1, 1, tzinfo=UTC), 3, 900).tolist() == [
        1767225600, 1767226500, 1767227400,
    ]  # fmt: skip


@given(at=instants, zone=st.sampled_from(ZONES))
def test_the_edges_of_a_local_day_hold_all_of_it_and_nothing_else(at: datetime, zone: str) -> None:
    day = local_day(at, zone)
    first, last = day_edges(day, zone)
    assert first <= at < last
    assert local_day(first, zone) == local_day(last - SECOND, zone) == day
    assert local_day(first - SECOND, zone) < day < local_day(last, zone)
    assert last == day_edges(day + timedelta(days=1), zone)[0]


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        pytest.param(date(2026, 3, 29), "Europe/Berlin", 23.0, id="spring"),
        pytest.param(date(2026, 10, 25), "Europe/Berlin", 25.0, id="autumn"),
        pytest.param(date(2026, 4, 5), "Australia/Lord_Howe", 24.5, id="half an hour"),
        pytest.param(date(2018, 11, 4), "America/Sao_Paulo", 23.0, id="midnight never came"),
        pytest.param(date(2026, 11, 1), "America/Havana", 25.0, id="midnight comes twice"),
        pytest.param(date(2026, 6, 1), "Asia/Seoul", 24.0, id="ordinary"),
    ],
)
def test_hours_of_a_local_day(day: date, zone: str, hours: float) -> None:
    first, last = day_edges(day, zone)
    assert (last - first) / timedelta(hours=1) == hours


def test_a_scaled_clock_is_the_same_in_every_process_that_is_handed_it() -> None:
    clock = ScaledClock(
        site_start_at=datetime(2016, 10, 3, 7, tzinfo=UTC), wall_start_at=datetime(2026, 1, 1, tzinfo=UTC), speed=144.5
    )  # fmt: skip
    assert ScaledClock.parse(str(clock)) == clock
    assert clock.wall_seconds(289.0) == 2.0


def test_a_scaled_clock_stands_until_its_replay_begins() -> None:
    start_at = datetime(2016, 10, 3, 7, tzinfo=UTC)
    clock = ScaledClock(site_start_at=start_at, wall_start_at=datetime(2999, 1, 1, tzinfo=UTC), speed=600.0)
    assert clock.now() == start_at


def test_a_scaled_clock_runs_at_its_speed() -> None:
    wall_start_at = datetime(2026, 1, 1, tzinfo=UTC)
    slow, fast = (
        ScaledClock(site_start_at=wall_start_at, wall_start_at=wall_start_at, speed=speed) for speed in (1.0, 2.0)
    )  # fmt: skip
    elapsed_slow, elapsed_fast = (clock.now() - wall_start_at for clock in (slow, fast))
    assert timedelta(0) <= elapsed_fast - 2 * elapsed_slow < timedelta(seconds=30)


@pytest.mark.parametrize("text", ["", "2016-10-03T00:00:00+00:00", "a,b,c", "a,b,c,d"])
def test_a_clock_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ScaledClock.parse(text)


def test_a_manual_clock_moves_when_told_and_costs_no_time() -> None:
    clock = ManualClock(at=datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.wall_seconds(86_400.0) == 0.0
    clock.advance(90)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)


class Passing:
    """A clock somebody may set, and a count of seconds nobody can."""

    def __init__(self, speed: float = 1.0) -> None:
        self.at, self.s, self.speed = datetime(2026, 3, 29, 0, 59, tzinfo=UTC), 100.0, speed

    def now(self) -> datetime:
        return self.at

    def wall_seconds(self, site_seconds: float) -> float:
        return site_seconds / self.speed

    def pass_s(self, wall_s: float, *, set_by_s: float = 0.0) -> None:
        self.s += wall_s
        self.at += timedelta(seconds=wall_s * self.speed + set_by_s)


@pytest.mark.parametrize("speed", [1.0, 60.0])
@pytest.mark.parametrize("set_by_s", [-3600.0, 3600.0])
def test_a_clock_that_was_set_is_found_out_once(set_by_s: float, speed: float) -> None:
    clock = Passing(speed)
    watch = JumpWatch(clock, lambda: clock.s)
    clock.pass_s(1.0)
    assert watch.jumped() is None
    clock.pass_s(1.0, set_by_s=set_by_s)
    assert watch.jumped() == timedelta(seconds=set_by_s)
    clock.pass_s(1.0)
    assert watch.jumped() is None


@pytest.mark.parametrize(
    ("wall_s", "set_by_s"),
    [
        pytest.param(1.0, 0.0005, id="slewed by NTP"),
        pytest.param(90.0, 0.0, id="the service was busy: both went on"),
        pytest.param(3600.0, 0.0, id="daylight saving sets local clocks, not this one"),
    ],
)
def test_what_is_no_jump(wall_s: float, set_by_s: float) -> None:
    clock = Passing()
    watch = JumpWatch(clock, lambda: clock.s)
    clock.pass_s(wall_s, set_by_s=set_by_s)
    assert watch.jumped() is None


def test_a_machine_that_slept_looks_like_a_clock_set_forward() -> None:
    clock = Passing()
    watch = JumpWatch(clock, lambda: clock.s)
    clock.pass_s(0.0, set_by_s=7200.0)
    assert watch.jumped() == timedelta(hours=2)


def test_a_clock_that_is_moved_by_hand_never_jumps() -> None:
    clock = ManualClock(at=datetime(2026, 1, 1, tzinfo=UTC))
    watch = JumpWatch(clock)
    clock.advance(86_400.0)
    assert watch.jumped() is None
