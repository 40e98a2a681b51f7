from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from forecast_series import PARIS, SEOUL, home_load, midnight

from forecasting import History, LoadForecaster, NotFitted, SlotMean


def test_mean_of_the_last_seven_values_of_each_slot() -> None:
    history = home_load(days=9)
    issued_at = history.end_at - timedelta(hours=5)
    made = SlotMean(SEOUL, days=7).fit(history.until(issued_at)).predict(issued_at, 24)
    known = history.until(issued_at).values
    assert made.mean == pytest.approx(known[-168:].reshape(7, 24).mean(axis=0))
    assert made.quantiles[0] == pytest.approx(np.quantile(known[-168:].reshape(7, 24), 0.1, axis=0))


def test_yesterday_and_last_week() -> None:
    history = home_load(days=9)
    yesterday = SlotMean(SEOUL, days=1).fit(history).predict(history.end_at, 24)
    last_week = SlotMean(SEOUL, days=1, offset_days=6).fit(history).predict(history.end_at, 24)
    assert yesterday.median.tolist() == history.values[-24:].tolist()
    assert last_week.median.tolist() == history.values[-168:-144].tolist()


def test_the_clock_change_keeps_the_slot() -> None:
    start_at = midnight(PARIS, 2025, 3, 20)
    step = timedelta(hours=1)
    change = midnight(PARIS, 2025, 3, 31)
    count = int((change - start_at) / step)
    wall_clock = [((start_at + k * step).astimezone(PARIS.zone)).hour for k in range(count)]
    history = History(start_at=start_at, step=step, values=np.array(wall_clock, dtype=float))
    made = SlotMean(PARIS, days=7).fit(history).predict(change, 24)
    assert made.mean.tolist() == pytest.approx(list(range(24)), abs=0.2)


def test_gaps_are_left_out_not_counted_as_zero() -> None:
    history = home_load(days=8)
    values = history.values.copy()
    values[-24:] = np.nan
    holed = History(start_at=history.start_at, step=history.step, values=values)
    made = SlotMean(SEOUL, days=7).fit(holed).predict(holed.end_at, 24)
    assert made.mean == pytest.approx(values[-168:-24].reshape(6, 24).mean(axis=0))


def test_prediction_before_fit_is_a_broken_promise() -> None:
    history = home_load(days=3)
    with pytest.raises(NotFitted):
        SlotMean(SEOUL).predict(history.end_at, 4)
    with pytest.raises(NotFitted):
        LoadForecaster(SEOUL).predict(history.end_at, 4)
