from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import forecasting
from forecasting import BrokenSeries, Forecast, History, Quality, Unit, Weather

T0 = datetime(2025, 3, 1, tzinfo=UTC)
H = timedelta(hours=1)


def forecast(unit: Unit = Unit.KW) -> Forecast:
    return Forecast(
        issued_at=T0,
        start_at=T0,
        step=H,
        levels=(0.1, 0.5, 0.9),
        quantiles=np.array([[1.0, 2.0], [3.0, 4.0], [9.0, 8.0]]),
        mean=np.array([4.0, 5.0]),
        sources=("m",),
        qualities=(Quality.GOOD,),
        unit=unit,
    )


def test_every_public_name_exists() -> None:
    assert forecasting.__all__ == sorted(forecasting.__all__, key=forecasting.__all__.index)
    assert len(set(forecasting.__all__)) == len(forecasting.__all__)
    for name in forecasting.__all__:
        assert hasattr(forecasting, name)


def test_naive_start_is_refused() -> None:
    with pytest.raises(BrokenSeries, match="start_at"):
        History(start_at=datetime(2025, 3, 1), step=H, values=np.zeros(3))  # noqa: DTZ001


@pytest.mark.parametrize("minutes", [7, 0, 1441])
def test_step_must_divide_a_day(minutes: int) -> None:
    with pytest.raises(BrokenSeries, match="step"):
        History(start_at=T0, step=timedelta(minutes=minutes), values=np.zeros(3))


def test_until_keeps_only_ended_intervals() -> None:
    history = History(start_at=T0, step=H, values=np.arange(10.0))
    known = history.until(T0 + timedelta(hours=4, minutes=59))
    assert known.values.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert known.end_at == T0 + timedelta(hours=4)
    assert history.until(T0 + 6 * H, last=2 * H).values.tolist() == [4.0, 5.0]
    assert len(history.until(T0 - H)) == 0


def test_since_starts_at_or_after() -> None:
    history = History(start_at=T0, step=H, values=np.arange(4.0))
    assert history.since(T0 + timedelta(minutes=61)).values.tolist() == [2.0, 3.0]
    assert history.since(T0 + H).values.tolist() == [1.0, 2.0, 3.0]


def test_usable_drops_bad_and_curtailed_readings() -> None:
    history = History(
        start_at=T0,
        step=H,
        values=np.array([1.0, 2.0, 3.0]),
        reliability=np.array([1.0, 0.0, 0.5]),
        curtailed=np.array([True, False, False]),
    )
    assert np.isnan(history.usable[0]).tolist() == [True, True, False]


def test_median_mean_and_levels_between() -> None:
    made = forecast()
    assert made.median_kw.tolist() == [3.0, 4.0]
    assert made.mean_kw.tolist() == [4.0, 5.0]
    assert made.quantile(0.7).tolist() == pytest.approx([6.0, 6.0])
    with pytest.raises(BrokenSeries, match="level"):
        made.quantile(0.95)


def test_a_price_forecast_is_not_kilowatts() -> None:
    with pytest.raises(BrokenSeries, match="per_kwh"):
        _ = forecast(Unit.PER_KWH).median_kw


def test_weather_on_a_coarser_grid_is_the_mean_and_outside_it_is_missing() -> None:
    weather = Weather(start_at=T0, step=timedelta(minutes=30), outdoor_degc=np.array([0.0, 2.0, 4.0, 6.0]))
    got = weather.temperature_on(T0 - H, H, 4)
    assert np.isnan(got[0, 0])
    assert got[0, 1:3].tolist() == [1.0, 5.0]
    assert np.isnan(got[0, 3])
    assert np.isnan(weather.irradiance_on(T0, H, 2)).all()
