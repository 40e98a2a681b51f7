"""Baselines that need no training: the yardsticks, and what a broken model falls back to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.calendars import local_grid
from forecasting.errors import BrokenSeries, NotFitted
from forecasting.quantiles import gap_mean, gap_quantiles
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
    first_start,
)


class SlotMean:
    """Mean of the same local slot over the last `days` days; quantiles are those days' own.

    `days=7` is the yardstick "7-day mean" (the CLI's `naive`); `SlotMean(context, days=1)` is
    "yesterday", `SlotMean(context, days=1, offset_days=6)` "last week".

    Parameters
    ----------
    context : the site, or one per site of a fleet (the time zone of the first is used)
    days : how many past values of a slot are taken
    offset_days : skip this many of the most recent days first
    """

    def __init__(
        self, context: SiteContext | Sequence[SiteContext], *, days: int = 7, offset_days: int = 0
    ) -> None:
        if days < 1 or offset_days < 0:
            raise BrokenSeries(
                f"days: {days} with offset_days {offset_days}; needs days >= 1, offset_days >= 0"
            )
        self.context = context
        self.days = days
        self.offset_days = offset_days
        self.history_: History | None = None

    @property
    def name(self) -> str:
        """Stable name."""
        if self.days == 1:
            return "yesterday" if self.offset_days == 0 else f"day-{self.offset_days + 1}-ago"
        return f"mean-{self.days}d"

    @property
    def memory(self) -> timedelta:
        """The days it averages and one more for a clock change."""
        return timedelta(days=self.days + self.offset_days + 1)

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Remember the tail of history."""
        self.history_ = history.until(history.end_at, last=self.memory)
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
        """Repeat the mean day; a slot never seen takes the mean of all slots, nan without history."""
        history = recent if recent is not None else self.history_
        if history is None:
            raise NotFitted(f"{self.name}: call fit first or pass recent")
        issued_at = as_utc(issued_at, field="issued_at")
        known = history.until(issued_at, last=self.memory)
        start_at = first_start(history, issued_at)
        zone = (self.context if isinstance(self.context, SiteContext) else self.context[0]).time_zone
        samples = last_of_each_slot(known, zone, self.days, self.offset_days)
        ahead = local_grid(start_at, history.step, horizon, zone)
        wanted = checked_levels(levels)
        mean = gap_mean(samples, axis=-1)
        spread = gap_quantiles(samples, wanted)
        anywhere = gap_mean(mean, axis=-1)[:, None]
        mean = np.where(np.isfinite(mean), mean, anywhere)
        spread = np.where(np.isfinite(spread), spread, anywhere[..., None])
        path, bands = mean[:, ahead.slot], np.swapaxes(spread[:, ahead.slot], 1, 2)
        quality = Quality.GOOD if len(known) >= self.days * history.steps_per_day else Quality.ESTIMATED
        return Forecast(
            issued_at=issued_at,
            start_at=start_at,
            step=history.step,
            levels=wanted,
            quantiles=bands if history.is_fleet else bands[0],
            mean=path if history.is_fleet else path[0],
            sources=(self.name,) * history.n_sites,
            qualities=(quality,) * history.n_sites,
            unit=history.unit,
        )


def last_of_each_slot(known: History, zone: str, days: int, offset_days: int = 0) -> FloatArray:
    """The most recent values of every local slot, newest day last, shape (S, N, days)."""
    n = known.steps_per_day
    values = known.usable
    skip = offset_days * n
    values = values[:, : values.shape[1] - skip] if skip else values
    count = values.shape[1]
    grid = local_grid(known.start_at, known.step, count, zone)
    if count < days * n:
        missing = np.full((values.shape[0], days * n - count), np.nan)
        values = np.concatenate([missing, values], axis=1)
        grid = local_grid(known.start_at - (days * n - count) * known.step, known.step, days * n, zone)
        count = days * n
    tail, slots = values[:, -days * n :], grid.slot[-days * n :]
    samples = np.full((values.shape[0], n, days), np.nan)
    samples[:, slots, np.repeat(np.arange(days), n)] = tail
    return samples
