"""Nothing known after `issued_at` may change a forecast."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from forecast_series import SEOUL, home_load, plant_power

from forecasting import (
    Forecaster,
    History,
    LoadForecaster,
    PriceForecaster,
    SlotMean,
    SolarForecaster,
    Weather,
)


def shifted_future(history: History, issued_at: object) -> History:
    values = history.values.copy()
    first = history.index_of(issued_at)  # type: ignore[arg-type]
    values[..., first:] = values[..., first:] * 3.0 + 7.0
    return History(start_at=history.start_at, step=history.step, values=values, unit=history.unit)


@pytest.mark.parametrize("hour", [0.0, 9.5, 23.25])
@pytest.mark.parametrize("make", [SlotMean, LoadForecaster, SolarForecaster, PriceForecaster])
def test_a_changed_future_changes_nothing(make: type[Forecaster], hour: float) -> None:
    history = plant_power(days=50)[0] if make is SolarForecaster else home_load(days=50)
    issued_at = history.start_at + timedelta(days=45, hours=hour)
    model = make(SEOUL)  # type: ignore[call-arg]
    made = model.fit(history.until(issued_at)).predict(issued_at, 48, recent=history)
    other = model.predict(issued_at, 48, recent=shifted_future(history, issued_at))
    assert made.start_at >= issued_at
    assert np.array_equal(made.quantiles, other.quantiles)
    assert np.array_equal(made.mean, other.mean)


def test_predict_from_the_remembered_tail_equals_predict_from_recent() -> None:
    history = home_load(days=80)
    model = LoadForecaster(SEOUL).fit(history)
    assert np.allclose(
        model.predict(history.end_at, 24).quantiles,
        model.predict(history.end_at, 24, recent=history).quantiles,
    )


def test_inputs_and_model_are_unchanged_by_predict() -> None:
    history = home_load(days=50, sites=2)
    before = history.values.copy()
    model = LoadForecaster([SEOUL, SEOUL]).fit(history)
    first = model.predict(history.end_at, 30).quantiles
    second = model.predict(history.end_at, 30).quantiles
    assert np.array_equal(history.values, before)
    assert np.array_equal(first, second)


def test_weather_before_issue_only_matters_where_it_reaches() -> None:
    history, index = plant_power(days=50)
    issued_at = history.start_at + timedelta(days=45)
    clear = SolarForecaster(SEOUL).fit(history.until(issued_at))
    weather = Weather(start_at=history.start_at, step=history.step, ghi_w_m2=300.0 * index)
    without = clear.predict(issued_at, 24, recent=history)
    untaught = clear.predict(issued_at, 24, recent=history, weather=weather)
    assert np.array_equal(without.quantiles, untaught.quantiles)
