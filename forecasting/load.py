"""Load: what a site will draw, without what the service itself controls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

from forecasting.dayahead import (
    MEMORY,
    DayAheadModel,
    fit_day_ahead,
    levels_of,
    mean_of,
    predict_day_ahead,
)
from forecasting.errors import NotFitted
from forecasting.types import (
    DEFAULT_LEVELS,
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
        self.model_: DayAheadModel | None = None
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
        self.model_ = fit_day_ahead(history, self._calendar)
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
        paths = predict_day_ahead(self.model_, history, self._calendar, issued_at, horizon)
        bands, mean = levels_of(paths.grid_quantiles, wanted), mean_of(paths.grid_quantiles)
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
    def _calendar(self) -> SiteContext:
        return self.context if isinstance(self.context, SiteContext) else self.context[0]
