from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from forecast_series import SEOUL, home_load

from forecasting import BrokenSeries, History, PriceForecaster, Unit


def prices(days: int) -> History:
    shape = home_load(days=days, seed=20)
    return replace(shape, values=0.15 * (shape.values - 0.6), unit=Unit.PER_KWH)


def test_published_prices_stand_and_the_rest_is_forecast() -> None:
    history = prices(62)
    issued_at = history.end_at - timedelta(hours=11)
    model = PriceForecaster(SEOUL).fit(history.until(issued_at))
    made = model.predict(issued_at, 36, published=history)
    assert made.unit is Unit.PER_KWH
    assert np.allclose(made.quantiles[:, :11], history.values[-11:])
    assert (made.quantiles[-1, 11:] > made.quantiles[0, 11:]).all()
    assert made.horizon == 36


def test_what_is_published_moves_what_follows() -> None:
    history = prices(62)
    issued_at = history.end_at - timedelta(hours=11)
    model = PriceForecaster(SEOUL).fit(history.until(issued_at))
    values = history.values.copy()
    values[-11:] += 0.5
    calm = model.predict(issued_at, 14, published=history).median
    high = model.predict(issued_at, 14, published=replace(history, values=values)).median
    assert high[11] > calm[11]


def test_negative_prices_are_forecast_negative() -> None:
    history = prices(60)
    made = PriceForecaster(SEOUL).fit(history).predict(history.end_at, 24)
    assert history.values.min() < 0
    assert made.quantiles[0].min() < 0
    assert made.median.max() > 0


def test_everything_published_needs_no_model_width() -> None:
    history = prices(40)
    issued_at = history.end_at - timedelta(hours=30)
    model = PriceForecaster(SEOUL).fit(history.until(issued_at))
    made = model.predict(issued_at, 24, published=history)
    assert np.allclose(made.quantiles[0], history.values[-30:-6])
    assert np.allclose(made.quantiles[-1], history.values[-30:-6])


def test_a_tariff_without_a_single_price_is_refused() -> None:
    history = prices(3)
    with pytest.raises(BrokenSeries, match="without one price"):
        PriceForecaster(SEOUL).fit(replace(history, values=np.full(len(history), np.nan)))
