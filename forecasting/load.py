"""Load: what a site will draw, without what the service itself controls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.bestof import Choice, choose, predict_chosen
from forecasting.candidates import Candidate, GridPaths, contexts_of, to_forecast
from forecasting.dayahead import MEMORY, Calendar, Covariates, fit_days, predict_days
from forecasting.errors import NotFitted
from forecasting.quantiles import gap_mean
from forecasting.recentdays import RecentDays
from forecasting.slotmodel import SlotModel
from forecasting.types import (
    DEFAULT_LEVELS,
    FloatArray,
    Forecast,
    History,
    SiteContext,
    Weather,
    as_utc,
    checked_levels,
)

_HEATING_BELOW_DEGC = 15.0
_COOLING_ABOVE_DEGC = 22.0
_DEGREES_SCALE = 10.0


class RidgeLoad:
    """Ridge on day features in asinh space, residual quantiles, intraday correction.

    asinh acts like a logarithm on large loads, so that the many small hours of a home count as much as its
    few large ones, and unlike it stands zeros and exports.

    Parameters
    ----------
    contexts : one per site; the time zone and country of the first hold for all
    """

    name = "load-ridge"
    min_days = 21.0

    def __init__(self, contexts: Sequence[SiteContext]) -> None:
        self.contexts = contexts
        self.model_: SlotModel | None = None
        self.scale_: FloatArray = np.ones(0)
        self.floor_: FloatArray = np.zeros(0)
        self.warm_: bool = False

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn from history, and from the weather that went with it."""
        usable = history.usable
        self.scale_ = _scale_of(usable)
        lowest = np.min(np.where(np.isfinite(usable), usable, np.inf), axis=1, initial=np.inf)
        self.floor_ = np.where(lowest >= 0.0, 0.0, -np.inf)
        z = np.arcsinh(usable / self.scale_[:, None])
        weight = np.ones_like(z)
        if history.reliability is not None:
            weight = np.reshape(history.reliability, z.shape)
        extra = _degrees(weather, history.start_at, history.step, len(history))
        self.warm_ = extra is not None
        self.model_ = fit_days(z, weight, history, self._calendar, extra)
        return self

    def predict_grid(
        self, issued_at: datetime, horizon: int, recent: History, weather: Weather | None
    ) -> GridPaths:
        """Quantile paths from what `recent` knew at `issued_at`."""
        if self.model_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        known = recent.until(issued_at, last=MEMORY)
        z = np.arcsinh(known.usable / self.scale_[:, None])
        extra = None
        if self.warm_:
            count = len(known) + horizon + int((issued_at - known.end_at) // known.step) + 1
            extra = _degrees(weather, known.start_at, known.step, count) or _no_degrees(count)
        paths = predict_days(
            self.model_, z, known, self._calendar, issued_at=issued_at, horizon=horizon, extra=extra
        )
        values = self.scale_[:, None, None] * np.sinh(paths.centre[..., None] + paths.residual)
        return GridPaths(start_at=paths.start_at, values=np.maximum(values, self.floor_[:, None, None]))

    @property
    def _calendar(self) -> Calendar:
        return Calendar(zone=self.contexts[0].time_zone, country=self.contexts[0].country)


class LoadForecaster:
    """Load of a fleet from the first minute: profile, recent days, ridge; the best per site by measured skill.

    Parameters
    ----------
    context : the site, or one per site of a fleet; the time zone and country of the first hold for all
    """

    name = "load"
    memory: timedelta = MEMORY

    def __init__(self, context: SiteContext | Sequence[SiteContext]) -> None:
        self.context = context
        self.candidates_: list[Candidate] = []
        self.choice_: Choice | None = None
        self.history_: History | None = None

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn from history; an empty one gives the first-day profile."""
        contexts = contexts_of(self.context, history.n_sites)
        self.candidates_ = [RecentDays(contexts), RidgeLoad(contexts)]
        self.choice_ = choose(
            self.candidates_, history, zone=contexts[0].time_zone, incumbent=self.choice_, weather=weather
        )
        self.history_ = history.until(history.end_at, last=MEMORY)
        return self

    def predict(
        self,
        issued_at: datetime,
        horizon: int,
        levels: Sequence[float] = DEFAULT_LEVELS,
        *,
        recent: History | None = None,
        weather: Weather | None = None,
    ) -> Forecast:
        """Quantiles of the load [kW]; see `Forecaster`."""
        history = recent if recent is not None else self.history_
        if history is None or self.choice_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        issued_at = as_utc(issued_at, field="issued_at")
        paths, names, qualities = predict_chosen(
            self.candidates_, self.choice_,
            issued_at=issued_at, horizon=horizon, recent=history, weather=weather,
        )  # fmt: skip
        return to_forecast(
            paths, history=history, issued_at=issued_at, levels=checked_levels(levels),
            sources=names, qualities=qualities,
        )  # fmt: skip


def _scale_of(usable: FloatArray) -> FloatArray:
    """Scale of the asinh transform: half the mean size of a series, 1 where nothing is known; (S,)."""
    size = gap_mean(np.abs(usable), axis=1)
    return np.where(np.isfinite(size) & (size > 0), 0.5 * size, 1.0)


def _degrees(weather: Weather | None, start_at: datetime, step: timedelta, count: int) -> Covariates | None:
    """Heating and cooling degrees on the grid, or None without a temperature."""
    if weather is None or weather.outdoor_degc is None:
        return None
    degc = weather.temperature_on(start_at, step, count)
    cold = np.maximum(_HEATING_BELOW_DEGC - degc, 0.0)
    hot = np.maximum(degc - _COOLING_ABOVE_DEGC, 0.0)
    return Covariates(drivers=np.stack([cold, hot], axis=-1) / _DEGREES_SCALE)


def _no_degrees(count: int) -> Covariates:
    return Covariates(drivers=np.full((1, count, 2), np.nan))
