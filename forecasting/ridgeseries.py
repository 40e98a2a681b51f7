"""The slot engine on a series in asinh space: load and price.

asinh acts like a logarithm on large values, so that the many small hours of a home count as much as its few
large ones, and unlike a logarithm it stands zeros, exports and negative prices.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.candidates import GridPaths
from forecasting.dayahead import MEMORY, Calendar, Covariates, fit_days, predict_days
from forecasting.errors import NotFitted
from forecasting.quantiles import gap_mean
from forecasting.slotmodel import SlotModel
from forecasting.types import FloatArray, History, Weather, first_start

_HEATING_BELOW_DEGC = 15.0
_COOLING_ABOVE_DEGC = 22.0
_DEGREES_SCALE = 10.0


class RidgeSeries:
    """Ridge on day features, residual quantiles, intraday correction.

    Parameters
    ----------
    name : stable name of the candidate
    calendar : time zone and holidays of the fleet
    """

    min_days = 21.0

    def __init__(self, name: str, calendar: Calendar) -> None:
        self.name = name
        self.calendar = calendar
        self.model_: SlotModel | None = None
        self.scale_: FloatArray = np.ones(0)
        self.floor_: FloatArray = np.zeros(0)
        self.warm_: bool = False

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn from history, and from the weather that went with it."""
        usable = history.usable
        self.scale_ = _scale_of(usable)
        self.floor_ = lowest_of(history)
        z = np.arcsinh(usable / self.scale_[:, None])
        weight = np.ones_like(z)
        if history.reliability is not None:
            weight = np.reshape(history.reliability, z.shape)
        extra = _degrees(weather, history.start_at, history.step, len(history))
        self.warm_ = extra is not None
        self.model_ = fit_days(z, weight, history, self.calendar, extra)
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
            start_at = first_start(known, issued_at)
            count = int((start_at - known.start_at) // known.step) + horizon
            extra = _degrees(weather, known.start_at, known.step, count) or _no_degrees(count)
        paths = predict_days(
            self.model_, z, known, self.calendar, issued_at=issued_at, horizon=horizon, extra=extra
        )
        values = self.scale_[:, None, None] * np.sinh(paths.centre[..., None] + paths.residual)
        return GridPaths(start_at=paths.start_at, values=np.maximum(values, self.floor_[:, None, None]))


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


def lowest_of(history: History) -> FloatArray:
    """0 for a series that was never negative, else no bound; shape (S,)."""
    usable = history.usable
    lowest = np.min(np.where(np.isfinite(usable), usable, np.inf), axis=1, initial=np.inf)
    return np.where(lowest >= 0.0, 0.0, -np.inf)
