"""Dynamic prices beyond what is published yet.

Where a price is published the forecast is that price, at every level; after it the model goes on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.bestof import Choice, choose, predict_chosen
from forecasting.calendars import day_matrix, local_grid
from forecasting.candidates import Candidate, GridPaths, contexts_of, to_forecast
from forecasting.dayahead import MEMORY, Calendar
from forecasting.errors import BrokenSeries, NotFitted
from forecasting.quantiles import GRID, gap_quantiles
from forecasting.recentdays import slot_table
from forecasting.ridgeseries import RidgeSeries
from forecasting.types import (
    DEFAULT_LEVELS,
    FloatArray,
    Forecast,
    History,
    SiteContext,
    Unit,
    Weather,
    as_utc,
    checked_levels,
    first_start,
)

_RECENT_DAYS = 28
_TAU_DAYS = 7.0


class RecentPrices:
    """Weighted quantiles of the last weeks' prices per time of day."""

    name = "price-recent"
    min_days = 0.0

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.table_: FloatArray | None = None

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Make the table, shape (S, N, len(GRID)); needs at least one price per series."""
        recent = history.until(history.end_at, last=timedelta(days=_RECENT_DAYS))
        usable = recent.usable
        if not np.isfinite(usable).any(axis=1).all():
            raise BrokenSeries("history: a price series without one price in the last four weeks")
        grid = local_grid(recent.start_at, recent.step, len(recent), self.zone)
        matrix, _ = day_matrix(usable, grid)
        anywhere = gap_quantiles(usable, GRID)[:, None]
        prior = np.broadcast_to(anywhere, (matrix.shape[0], matrix.shape[2], len(GRID)))
        self.table_ = slot_table(matrix, np.exp(-np.arange(matrix.shape[1], 0, -1) / _TAU_DAYS), prior)
        return self

    def predict_grid(
        self, issued_at: datetime, horizon: int, recent: History, weather: Weather | None
    ) -> GridPaths:
        """Read the table for the slots ahead."""
        if self.table_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        start_at = first_start(recent, issued_at)
        grid = local_grid(start_at, recent.step, horizon, self.zone)
        return GridPaths(start_at=start_at, values=self.table_[:, grid.slot])


class PriceForecaster:
    """Prices per kWh with quantiles; published ones stand.

    Parameters
    ----------
    context : the market's place (time zone and country)
    """

    name = "price"
    memory: timedelta = MEMORY

    def __init__(self, context: SiteContext | Sequence[SiteContext]) -> None:
        self.context = context
        self.candidates_: list[Candidate] = []
        self.choice_: Choice | None = None
        self.history_: History | None = None

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn from past prices."""
        first = contexts_of(self.context, history.n_sites)[0]
        calendar = Calendar(zone=first.time_zone, country=first.country)
        self.candidates_ = [RecentPrices(first.time_zone), RidgeSeries("price-ridge", calendar)]
        self.choice_ = choose(
            self.candidates_, history, zone=first.time_zone, incumbent=self.choice_, weather=weather
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
        published: History | None = None,
    ) -> Forecast:
        """Quantiles of the price [currency per kWh]; see `Forecaster`.

        Parameters
        ----------
        published : past and future prices known at `issued_at`, on the same grid; unlike `recent` it is
            believed beyond `issued_at`, so pass only what had been published by then. It takes the place of
            `recent`.
        """
        history = published if published is not None else recent if recent is not None else self.history_
        if history is None or self.choice_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        issued_at = as_utc(issued_at, field="issued_at")
        start_at = first_start(history, issued_at)
        given = history.since(start_at) if published is not None else history.until(start_at).since(start_at)
        given = given.until(start_at + horizon * history.step)
        from_at = max(given.end_at, start_at) if len(given) else issued_at
        missing = horizon - len(given)
        paths, names, qualities = predict_chosen(
            self.candidates_, self.choice_,
            issued_at=from_at, horizon=max(missing, 1), recent=history, weather=weather,
            bounds=(np.full(history.n_sites, -np.inf), np.full(history.n_sites, np.inf)),
        )  # fmt: skip
        certain = np.repeat(given.columns[..., None], len(GRID), axis=-1)
        values = np.concatenate([certain, paths.values[:, :missing]], axis=1)
        return to_forecast(
            GridPaths(start_at=start_at, values=values),
            history=replace(history, unit=Unit.PER_KWH), issued_at=issued_at, levels=checked_levels(levels),
            sources=names, qualities=qualities,
        )  # fmt: skip
