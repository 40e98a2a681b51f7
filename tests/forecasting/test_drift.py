from __future__ import annotations

from datetime import timedelta

import numpy as np
from forecast_series import SEOUL, home_load

from forecasting import DEFAULT_LEVELS, History, LoadForecaster, assess_drift, daily_losses


def laid_end_to_end(
    history: History, first_day: int, fitted: dict[int, LoadForecaster], stale: bool
) -> np.ndarray:
    """Day-ahead quantiles from `first_day` on; models change on the days of `fitted`."""
    pieces, model = [], None
    for day in range(first_day, len(history) // 24):
        model = fitted.get(day, model)
        assert model is not None
        issued_at = history.start_at + timedelta(days=day)
        recent = history.until(history.start_at + timedelta(days=60)) if stale else history
        pieces.append(model.predict(issued_at, 24, recent=recent.until(issued_at)).quantiles)
    return np.concatenate(pieces, axis=1)[None]


def test_home_office_shows_as_drift_and_recovers_after_retraining() -> None:
    history = home_load(days=130, at_home_from_day=91, seed=11)

    def fit(day: int) -> LoadForecaster:
        return LoadForecaster(SEOUL).fit(history.until(history.start_at + timedelta(days=day)))

    first, change, retrained = 60, 91, 105
    frozen = fit(first)
    before = [frozen.predict(history.start_at + timedelta(days=day), 24, recent=history.until(
        history.start_at + timedelta(days=min(day, change)))).quantiles for day in range(first, retrained)]  # fmt: skip
    renewed = laid_end_to_end(history, retrained, {retrained: fit(retrained)}, stale=False)
    quantiles = np.concatenate([np.concatenate(before, axis=1)[None], renewed], axis=2)
    losses = daily_losses(history.columns[:, first * 24 :], quantiles, DEFAULT_LEVELS, 24)
    calm = assess_drift(losses[:, : change - first])
    assert not calm.drifting[0]
    alarmed = assess_drift(losses[:, : retrained - first])
    assert alarmed.drifting[0]
    assert change - first <= alarmed.since_day[0] < change - first + 7
    assert alarmed.loss_ratio[0] > 1.5
    recovered = assess_drift(losses)
    assert not recovered.drifting[0]
    assert recovered.loss_ratio[0] < 1.3


def test_one_bad_day_is_not_drift() -> None:
    losses = np.ones((1, 60))
    losses[0, 50] = 30.0
    assert not assess_drift(losses).drifting[0]


def test_days_without_truth_neither_raise_nor_lower() -> None:
    losses = np.ones((2, 60))
    losses[0, 40:50] = 2.0
    losses[0, 50:] = np.nan
    losses[1, :] = np.nan
    report = assess_drift(losses)
    assert report.drifting.tolist() == [True, False]
    assert report.score[0, -1] == report.score[0, 49]
    assert np.isnan(report.loss_ratio[1])
