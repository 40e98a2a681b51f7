from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

import numpy as np
from forecast_series import SEOUL, home_load

from forecasting import History, Quality, Weather
from forecasting.bestof import Choice, choose, predict_chosen
from forecasting.candidates import GridPaths
from forecasting.quantiles import GRID


class Shifted:
    """Predicts the truth plus an offset per site, or breaks on order."""

    min_days = 0.0

    def __init__(self, name: str, truth: History, offset_kw: list[float], broken: str = "") -> None:
        self.name = name
        self.truth = truth
        self.offset_kw = np.array(offset_kw)
        self.broken = broken
        self.fits = 0

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        self.fits += 1
        if self.broken == "fit":
            raise np.linalg.LinAlgError("Singular matrix")
        return self

    def predict_grid(
        self, issued_at: datetime, horizon: int, recent: History, weather: Weather | None
    ) -> GridPaths:
        if self.broken == "predict":
            raise ZeroDivisionError
        first = self.truth.index_of(issued_at)
        path = self.truth.columns[:, first : first + horizon] + self.offset_kw[:, None]
        if self.broken == "nan":
            path = path * np.nan
        return GridPaths(start_at=issued_at, values=np.repeat(path[..., None], len(GRID), axis=-1))


def contest(
    history: History, first: list[float], second: list[float], incumbent: Choice | None = None
) -> Choice:
    candidates = [Shifted("simple", history, first), Shifted("rich", history, second)]
    return choose(candidates, history, zone="Asia/Seoul", incumbent=incumbent)


def test_each_site_gets_the_model_that_measured_best() -> None:
    history = home_load(days=30, sites=2)
    choice = contest(history, [0.1, 1.0], [1.0, 0.1])
    assert choice.chosen.tolist() == [0, 1]


def test_the_simpler_model_must_be_clearly_better() -> None:
    history = home_load(days=30, sites=3)
    choice = contest(history, [0.094, 0.096, 0.2], [0.1, 0.1, 0.1])
    assert choice.chosen.tolist() == [0, 1, 1]


def test_the_incumbent_stays_unless_clearly_beaten() -> None:
    history = home_load(days=30, sites=1)
    simple = contest(history, [0.1], [1.0])
    assert simple.chosen.tolist() == [0]
    later = home_load(days=40, sites=1)
    assert contest(later, [0.097], [0.100]).chosen.tolist() == [1]
    assert contest(later, [0.097], [0.100], simple).chosen.tolist() == [0]
    assert contest(later, [0.100], [0.100], simple).chosen.tolist() == [1]


def test_the_contest_is_held_once_a_week() -> None:
    history = home_load(days=40, sites=1)
    candidates = [Shifted("simple", history, [0.1]), Shifted("rich", history, [1.0])]
    choice = None
    for day in range(28, 40):
        known = history.until(history.start_at + timedelta(days=day))
        choice = choose(candidates, known, zone="Asia/Seoul", incumbent=choice)
    # daily fits, and two rounds of each of two contests
    assert candidates[0].fits == 12 + 2 * 2


def test_a_broken_model_falls_back_flagged() -> None:
    history = home_load(days=30, sites=2)
    at = history.start_at + timedelta(days=28)
    for broken in ("predict", "nan"):
        candidates = [Shifted("simple", history, [1.0, 1.0]), Shifted("rich", history, [0.0, 0.0], broken)]
        choice = Choice(
            chosen=np.array([1, 0]), pinball=np.full((2, 2), np.nan), known_days=np.array([30.0, 30.0])
        )
        paths, names, qualities = predict_chosen(
            candidates,
            choice,
            issued_at=at,
            horizon=4,
            recent=history,
            weather=None,
            bounds=(np.zeros(2), np.full(2, np.inf)),
        )
        assert names == ["simple", "simple"]
        assert qualities == [Quality.FALLBACK, Quality.GOOD]
        assert np.isfinite(paths.values).all()


def test_a_model_that_cannot_be_fitted_is_not_chosen() -> None:
    history = home_load(days=10, sites=1)
    candidates = [Shifted("simple", history, [1.0]), Shifted("rich", history, [0.0], "fit")]
    assert choose(candidates, history, zone=SEOUL.time_zone).chosen.tolist() == [0]
