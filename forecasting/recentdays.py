"""Weighted quantiles of the last weeks' readings in the same slot: right from the first minute.

With no reading at all this is the household profile; every day of readings outweighs more of it. It is
also the fallback of the load model, and on erratic series sometimes its better.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.calendars import IntArray, day_matrix, is_rest_day, local_grid
from forecasting.candidates import GridPaths
from forecasting.errors import NotFitted
from forecasting.profiles import expected_level_kw, profile_quantiles
from forecasting.quantiles import GRID, gap_mean, weighted_quantiles
from forecasting.types import FloatArray, History, SiteContext, Weather, first_start

_DAYS = 56
_TAU_DAYS = 7.0
_SAME_TYPE_WEIGHT = 3.0
_NEIGHBOUR_WEIGHT = 0.5
_PRIOR_WEIGHT = 1.5
_LEVEL_PRIOR_DAYS = 0.25


class RecentDays:
    """Recency-weighted slot quantiles, backed by a profile.

    Parameters
    ----------
    contexts : one per site; the time zone and country of the first hold for all
    """

    name = "recent-days"
    min_days = 0.0

    def __init__(self, contexts: Sequence[SiteContext]) -> None:
        self.contexts = contexts
        self.table_: FloatArray | None = None

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Make the two tables (working days, rest days), shape (S, 2, N, len(GRID))."""
        first = self.contexts[0]
        n = history.steps_per_day
        recent = history.until(history.end_at, last=timedelta(days=_DAYS))
        grid = local_grid(recent.start_at, recent.step, len(recent), first.time_zone)
        matrix, first_day = day_matrix(recent.usable, grid)
        ordinals = first_day + np.arange(matrix.shape[1])
        rest = is_rest_day(ordinals, first.country)
        prior = self._prior(history, matrix, n)
        age = np.arange(len(rest), 0, -1)
        recency = np.exp(-age / _TAU_DAYS)
        tables = [
            slot_table(matrix, recency * np.where(rest == kind, _SAME_TYPE_WEIGHT, 1.0), prior[:, int(kind)])
            for kind in (False, True)
        ]
        self.table_ = np.stack(tables, axis=1)
        return self

    def predict_grid(
        self, issued_at: datetime, horizon: int, recent: History, weather: Weather | None
    ) -> GridPaths:
        """Read the tables for the slots ahead."""
        if self.table_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        first = self.contexts[0]
        start_at = first_start(recent, issued_at)
        grid = local_grid(start_at, recent.step, horizon, first.time_zone)
        kind = _kind_of(grid.day, first.country)
        return GridPaths(start_at=start_at, values=self.table_[:, kind, grid.slot])

    def _prior(self, history: History, matrix: FloatArray, n: int) -> FloatArray:
        """Profile quantiles per site and kind of day, scaled to the level seen so far, (S, 2, N, len(GRID))."""
        slots = np.arange(n)
        seen_kw = gap_mean(matrix, axis=(1, 2))
        days = np.isfinite(matrix).sum(axis=(1, 2)) / n
        rows = []
        for row, context in enumerate(self.contexts):
            level = expected_level_kw(context)
            if np.isfinite(seen_kw[row]):
                mass = days[row] + _LEVEL_PRIOR_DAYS
                level = (days[row] * seen_kw[row] + _LEVEL_PRIOR_DAYS * level) / mass
            shapes = [profile_quantiles(context, slots, np.full(n, kind), n) for kind in (False, True)]
            rows.append(level * np.stack(shapes))
        return np.stack(rows)


def slot_table(matrix: FloatArray, day_weight: FloatArray, prior: FloatArray) -> FloatArray:
    """Weighted quantiles of each slot's own and neighbouring readings, and of a prior.

    Parameters
    ----------
    matrix : (S, D, N), nan where missing
    day_weight : (D,)
    prior : (S, N, len(GRID)), worth one and a half recent days in all

    Returns
    -------
    (S, N, len(GRID))
    """
    before = np.concatenate([matrix[:, :, :1] * np.nan, matrix[:, :, :-1]], axis=2)
    after = np.concatenate([matrix[:, :, 1:], matrix[:, :, :1] * np.nan], axis=2)
    sample = np.moveaxis(np.concatenate([matrix, before, after], axis=1), 1, 2)
    weight = np.concatenate([day_weight, _NEIGHBOUR_WEIGHT * day_weight, _NEIGHBOUR_WEIGHT * day_weight])
    mass = np.concatenate([weight * np.isfinite(sample), np.full(prior.shape, _PRIOR_WEIGHT / len(GRID))], -1)
    both = np.concatenate([sample, prior], axis=-1)
    order = np.argsort(np.where(np.isfinite(both), both, np.inf), axis=-1)
    values = np.take_along_axis(np.nan_to_num(both), order, axis=-1)
    return weighted_quantiles(values, np.take_along_axis(mass, order, axis=-1))


def _kind_of(days: IntArray, country: str | None) -> IntArray:
    return is_rest_day(days, country).astype(np.int64)
