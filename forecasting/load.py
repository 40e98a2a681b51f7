"""Load: what a site will draw, without what the service itself controls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.dayahead import MEMORY, Calendar, fit_days, predict_days
from forecasting.errors import NotFitted
from forecasting.quantiles import gap_mean
from forecasting.slotmodel import SlotModel, levels_of, mean_of
from forecasting.types import (
    DEFAULT_LEVELS,
    FloatArray,
    Forecast,
    History,
    Quality,
    SiteContext,
    Weather,
    as_utc,
    checked_levels,
)


class LoadForecaster:
    """Ridge on day features in asinh space with residual quantiles and intraday correction.

    Parameters
    ----------
    context : the site, or one per site of a fleet (time zone and country are taken from the first)
    """

    def __init__(self, context: SiteContext | Sequence[SiteContext]) -> None:
        self.context = context
        self.model_: SlotModel | None = None
        self.scale_: FloatArray = np.ones(0)
        self.history_: History | None = None

    @property
    def name(self) -> str:
        """Stable name."""
        return "load-ridge"

    @property
    def memory(self) -> timedelta:
        """Recent history that `predict` wants."""
        return MEMORY

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn from history."""
        self.scale_ = scale_of(history)
        z = np.arcsinh(history.usable / self.scale_[:, None])
        weight = np.ones_like(z)
        if history.reliability is not None:
            weight = np.reshape(history.reliability, z.shape)
        self.model_ = fit_days(z, weight, history, self._calendar)
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
        """Quantiles for the horizon."""
        history = recent if recent is not None else self.history_
        if history is None or self.model_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        issued_at = as_utc(issued_at, field="issued_at")
        wanted = checked_levels(levels)
        known = history.until(issued_at, last=MEMORY)
        z = np.arcsinh(known.usable / self.scale_[:, None])
        paths = predict_days(self.model_, z, known, self._calendar, issued_at=issued_at, horizon=horizon)
        grid = self.scale_[:, None, None] * np.sinh(paths.centre[..., None] + paths.residual)
        grid = np.maximum(grid, 0.0)
        bands, mean = levels_of(grid, wanted), mean_of(grid)
        return Forecast(
            issued_at=issued_at,
            start_at=paths.start_at,
            step=history.step,
            levels=wanted,
            quantiles=bands if history.is_fleet else bands[0],
            mean=mean if history.is_fleet else mean[0],
            sources=(self.name,) * history.n_sites,
            qualities=(Quality.GOOD,) * history.n_sites,
            unit=history.unit,
        )

    @property
    def _calendar(self) -> Calendar:
        first = self.context if isinstance(self.context, SiteContext) else self.context[0]
        return Calendar(zone=first.time_zone, country=first.country)


def scale_of(history: History) -> FloatArray:
    """Scale of the asinh transform: half the mean size of a series, 1 where nothing is known; (S,)."""
    size = gap_mean(np.abs(history.usable), axis=1)
    return np.where(np.isfinite(size) & (size > 0), 0.5 * size, 1.0)
