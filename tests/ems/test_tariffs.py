"""Price curves against a naive reading of the calendar, minute by minute, in every kind of zone."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.clock import grid_epochs
from ems.tariffs import (
    FlatRate,
    Period,
    PriceSeries,
    Season,
    SeriesRate,
    TimeOfUseRate,
    price_curve,
)

DAY = timedelta(days=1)
SERIES = SeriesRate(kind="series", file="prices.csv")
ZONES = {
    "Asia/Seoul": datetime(2026, 6, 1, tzinfo=UTC),
    "Europe/Berlin": datetime(2026, 3, 28, 12, tzinfo=UTC),  # 23 hours on the 29th
    "America/Los_Angeles": datetime(2026, 10, 31, 12, tzinfo=UTC),  # 25 hours on 1 November
    "Australia/Lord_Howe": datetime(2026, 4, 4, 6, tzinfo=UTC),  # clocks move by half an hour
    "Asia/Kolkata": datetime(2026, 12, 31, 6, tzinfo=UTC),  # half an hour off, new year
    "Asia/Kathmandu": datetime(2026, 2, 28, 6, tzinfo=UTC),  # three quarters off
    "America/Havana": datetime(2026, 11, 1, 0, tzinfo=UTC),  # midnight comes twice
}
"""Zones with an instant shortly before something awkward happens there."""

minutes = st.integers(0, 24 * 60 - 1).map(lambda m: time(m // 60, m % 60))
prices = st.floats(-1000, 1000, allow_nan=False).map(lambda p: round(p, 3))
periods = st.builds(
    Period, days=st.sampled_from(["all", "weekday", "weekend"]), from_local=minutes, to_local=minutes, per_kwh=prices
)  # fmt: skip


@st.composite
def calendars(draw: st.DrawFn) -> TimeOfUseRate:
    months = draw(st.permutations(range(1, 13)))
    cut = draw(st.integers(0, 12))
    return TimeOfUseRate(
        kind="time_of_use",
        seasons=tuple(
            Season(
                name="season",
                months=tuple(part),
                periods=tuple(draw(st.lists(periods, max_size=4))),
                otherwise_per_kwh=draw(prices),
            )
            for part in (months[:cut], months[cut:])
        ),
    )


def naive_price(rate: TimeOfUseRate, at: datetime) -> float:
    """What a person reads off the calendar for one local minute."""
    (season,) = (season for season in rate.seasons if at.month in season.months)
    now = at.time().replace(tzinfo=None)
    for period in season.periods:
        weekend = at.weekday() in (5, 6)
        if (period.days == "weekday" and weekend) or (period.days == "weekend" and not weekend):
            continue
        if period.to_local == time(0):
            inside = now >= period.from_local
        elif period.from_local < period.to_local:
            inside = period.from_local <= now < period.to_local
        else:
            inside = now >= period.from_local or now < period.to_local
        if inside:
            return period.per_kwh
    return season.otherwise_per_kwh


@given(rate=calendars(), zone=st.sampled_from(sorted(ZONES)), shift_min=st.integers(0, 60 * 24 * 3))
def test_a_calendar_reads_as_a_person_reads_it(rate: TimeOfUseRate, zone: str, shift_min: int) -> None:
    start_at = ZONES[zone] + timedelta(minutes=shift_min)
    starts_s = grid_epochs(start_at, 25 * 12, 5 * 60)
    found = price_curve(rate, starts_s, zone=zone)
    assert found.assumed == 0
    assert found.per_kwh.tolist() == [
        naive_price(rate, datetime.fromtimestamp(int(start_s), ZoneInfo(zone))) for start_s in starts_s
    ]


def peak(days: str = "all", *, start: str = "16:00", end: str = "21:00") -> TimeOfUseRate:
    return TimeOfUseRate(
        kind="time_of_use",
        seasons=(
            Season(
                name="year",
                months=tuple(range(1, 13)),
                periods=(
                    Period(
                        days=days,  # type: ignore[arg-type]
                        from_local=time.fromisoformat(start),
                        to_local=time.fromisoformat(end),
                        per_kwh=300.0,
                    ),
                ),
                otherwise_per_kwh=100.0,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("rate", "local", "price"),
    [
        pytest.param(peak(), "2026-03-02T15:59", 100.0, id="a minute before the peak"),
        pytest.param(peak(), "2026-03-02T16:00", 300.0, id="first minute of the peak"),
        pytest.param(peak(), "2026-03-02T20:59", 300.0, id="last minute of the peak"),
        pytest.param(peak(), "2026-03-02T21:00", 100.0, id="end is exclusive"),
        pytest.param(peak("weekday"), "2026-03-06T16:00", 300.0, id="Friday is a weekday"),
        pytest.param(peak("weekday"), "2026-03-07T16:00", 100.0, id="Saturday is not"),
        pytest.param(peak(start="22:00", end="00:00"), "2026-03-02T23:59", 300.0, id="00:00 ends the day"),
        pytest.param(peak(start="22:00", end="00:00"), "2026-03-03T00:00", 100.0, id="and not a minute later"),
        pytest.param(peak(start="22:00", end="06:00"), "2026-03-03T05:59", 300.0, id="across midnight"),
        pytest.param(peak("weekday", start="22:00", end="06:00"), "2026-03-07T01:00", 100.0,
                     id="past midnight a minute counts as its own day"),
        pytest.param(peak(start="00:00", end="00:00"), "2026-03-02T12:00", 300.0, id="whole day"),
    ],
)  # fmt: skip
def test_edges_of_a_period(rate: TimeOfUseRate, local: str, price: float) -> None:
    at = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Asia/Seoul"))
    assert price_curve(rate, np.array([int(at.timestamp())]), zone="Asia/Seoul").per_kwh.tolist() == [price]


@pytest.mark.parametrize(
    ("day", "dear_h"),
    [
        pytest.param("2026-03-28", 2.0, id="24 hours"),
        pytest.param("2026-03-29", 1.0, id="23 hours: 02:00 never comes"),
        pytest.param("2026-10-25", 3.0, id="25 hours: 02:00 comes twice"),
    ],
)
def test_a_peak_over_a_clock_change_lasts_as_long_as_the_clock_shows_it(day: str, dear_h: float) -> None:
    start_at = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    starts_s = grid_epochs(start_at, 12 * 4, 900)
    curve = price_curve(peak(start="01:00", end="03:00"), starts_s, zone="Europe/Berlin")
    assert np.count_nonzero(curve.per_kwh == 300.0) / 4 == dear_h


def test_the_first_period_that_fits_counts() -> None:
    both = tuple(
        Period(days="all", from_local=time(8), to_local=time(20), per_kwh=price) for price in (1.0, 2.0)
    )
    rate = TimeOfUseRate(
        kind="time_of_use",
        seasons=(Season(name="y", months=tuple(range(1, 13)), periods=both, otherwise_per_kwh=0.0),),
    )
    noon_s = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp())
    assert price_curve(rate, np.array([noon_s]), zone="UTC").per_kwh.tolist() == [1.0]


def test_a_flat_rate_is_flat() -> None:
    curve = price_curve(
        FlatRate(per_kwh=-3.5), grid_epochs(datetime(2026, 1, 1, tzinfo=UTC), 5, 900), zone="UTC"
    )
    assert curve.per_kwh.tolist() == [-3.5] * 5
    assert curve.assumed == 0


MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def hourly(hours: int, *, first: float = 0.0) -> PriceSeries:
    """Prices that name their own hour: 0, 1, 2 ..."""
    return PriceSeries(
        starts_s=grid_epochs(MIDNIGHT, hours, 3600),
        per_kwh=first + np.arange(hours, dtype=float),
        step_s=3600,
    )


@pytest.mark.parametrize(
    ("hours", "asked_h", "price", "assumed"),
    [
        pytest.param(48, 5.0, 5.0, 0, id="published"),
        pytest.param(48, 5.75, 5.0, 0, id="within its hour"),
        pytest.param(48, 47.75, 47.0, 0, id="last published quarter"),
        pytest.param(48, 48.0, 24.0, 1, id="first beyond: same time of the last day"),
        pytest.param(48, 71.75, 47.0, 1, id="a day beyond"),
        pytest.param(48, 72.0, 24.0, 1, id="two days beyond: still the last day"),
        pytest.param(48, 48.0 + 24 * 400, 24.0, 1, id="a year beyond"),
        pytest.param(48, -0.25, 23.0, 1, id="just before: same time of the first day"),
        pytest.param(48, -24.0, 0.0, 1, id="a day before"),
        pytest.param(12, 12.0, 11.0, 1, id="half a day published: its latest price"),
        pytest.param(12, 25.0, 1.0, 1, id="half a day published, a time it holds"),
        pytest.param(12, -1.0, 11.0, 1, id="half a day published, asked before it"),
    ],
)
def test_a_series_answers_beyond_its_ends_and_says_that_it_assumes(
    hours: int, asked_h: float, price: float, assumed: int
) -> None:
    asked_s = np.array([int((MIDNIGHT + timedelta(hours=asked_h)).timestamp())])
    curve = price_curve(SERIES, asked_s, zone="UTC", series=hourly(hours))
    assert (curve.per_kwh.tolist(), curve.assumed) == ([price], assumed)


def test_a_series_that_begins_days_later_is_refused() -> None:
    with pytest.raises(ValueError, match="begins more than a day after"):
        price_curve(SERIES, grid_epochs(MIDNIGHT - 2 * DAY, 4, 900), zone="UTC", series=hourly(48))


@pytest.mark.parametrize("series", [None, hourly(0)])
def test_a_series_without_prices_is_refused_by_name(series: PriceSeries | None) -> None:
    with pytest.raises(ValueError, match=r"prices\.csv"):
        price_curve(SERIES, grid_epochs(MIDNIGHT, 4, 900), zone="UTC", series=series)


@given(
    hours=st.integers(1, 80),
    start_h=st.integers(-24, 200),
    count=st.integers(1, 60),
)
def test_assumed_prices_are_counted_and_come_from_the_series(hours: int, start_h: int, count: int) -> None:
    starts_s = grid_epochs(MIDNIGHT + timedelta(hours=start_h), count, 3600)
    series = hourly(hours, first=1000.0)
    curve = price_curve(SERIES, starts_s, zone="UTC", series=series)
    published = (starts_s >= series.starts_s[0]) & (starts_s < series.starts_s[-1] + 3600)
    assert curve.assumed == np.count_nonzero(~published)
    hour = (starts_s[published] - series.starts_s[0]) // 3600
    assert curve.per_kwh[published].tolist() == (1000.0 + hour).tolist()
    assert set(curve.per_kwh) <= set(series.per_kwh)
    if hours >= 24:
        assert np.all((curve.per_kwh - 1000.0 - start_h - np.arange(count)) % 24 == 0)  # the same time of day
