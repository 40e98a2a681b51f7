"""The evidence beside missed targets, on the measured homes of the demo; LightGBM is left out."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from forecast_accuracy import CALIFORNIA, Case, backtest
from forecast_ceiling import LEVELS, Band, coverage_of, nearest_to
from forecast_peers import Averaged, SurroundingDays

from forecasting import FloatArray, History, LoadForecaster, SlotMean
from optimizer.bench import HOMES, read_homes

START = datetime.fromisoformat("2016-09-01T00:00:00-07:00")


@pytest.fixture(scope="module")
def home() -> Case:
    load, _ = read_homes(HOMES)[0]
    history = History(start_at=START, step=timedelta(hours=1), values=load[None])
    return Case(name="demo home", history=history, context=CALIFORNIA, model=LoadForecaster(CALIFORNIA))


def band(truth: FloatArray, quantiles: FloatArray) -> Band:
    at = np.datetime64("2025-01-01T00") + np.arange(len(truth)) * np.timedelta64(1, "h")
    return Band(
        truth=truth, quantiles=np.broadcast_to(quantiles, (len(truth), len(LEVELS))), at=at, step_h=1.0
    )


def test_a_meter_with_three_values_covers_by_rank_what_its_forecast_announces() -> None:
    """0 for an eighth, 1 for three quarters, 2 for an eighth of the time, and the forecast says just that."""
    levels = np.array(LEVELS)
    told = np.where(levels < 0.15, 0.0, np.where(levels <= 0.85, 1.0, 2.0))
    found = band(np.repeat([0.0, 1.0, 2.0], [125, 750, 125]), told)
    assert found.closed.mean() == 1.0
    assert found.between.mean() == pytest.approx(0.75)
    assert found.by_rank().mean() == pytest.approx(0.80)
    assert nearest_to(np.array([0.0, 1.0, 2.0]), np.array([125, 750, 125]), 0.8) == "0.75 or 0.88"


def test_without_ties_the_rank_says_what_the_edges_say() -> None:
    truth = np.random.default_rng(0).random(2000)
    found = band(truth, np.array(LEVELS))
    assert found.by_rank().mean() == pytest.approx(found.closed.mean(), abs=0.01)


def test_few_independent_weeks_leave_the_coverage_open() -> None:
    """Four weeks wholly inside and one wholly outside: a right band can measure anything from half to all."""
    truth = np.where(np.arange(5 * 168) < 168, 2.0, 0.5)
    low, high = band(truth, np.array(LEVELS)).right_band()
    assert low < 0.5
    assert high == 1.0


def test_the_oracle_is_told_the_days_after_and_not_the_day_itself(home: Case) -> None:
    days = np.repeat(np.arange(20.0), 24)[None]
    told = History(start_at=START, step=timedelta(hours=1), values=days)
    made = SurroundingDays(told, CALIFORNIA, days=2).predict(
        START + timedelta(days=10), 24, (0.0, 0.5, 1.0), recent=told
    )
    assert made.quantiles[0, :, 0].tolist() == [8.0, 10.0, 12.0]
    after = days.copy()
    after[:, 10 * 24 : 11 * 24] = 99.0
    blind = SurroundingDays(
        History(start_at=START, step=timedelta(hours=1), values=after), CALIFORNIA, days=2
    )
    same = blind.predict(START + timedelta(days=10), 24, (0.0, 0.5, 1.0), recent=told)
    assert np.array_equal(same.quantiles, made.quantiles)


def test_peers_stand_in_the_same_backtest(home: Case) -> None:
    week, fortnight = SlotMean(CALIFORNIA), SlotMean(CALIFORNIA, days=14)
    models = {"a": week, "b": fortnight, "both": Averaged([week, fortnight])}
    report = backtest(home, models, days=7, lead_hours=())
    scores = [report.model(name).overall.mae for name in models]
    assert report.test_days == 7
    assert scores[2] < max(scores[:2])


def test_the_coverage_of_a_measured_home_is_told(home: Case) -> None:
    lines = list(coverage_of(home, 14))
    assert lines[0].startswith("80 % band             demo home")
    assert "14 days" in lines[1]
