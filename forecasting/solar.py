"""Solar: the clear-sky index of a plant, learned from what it delivered.

    power = index * clear-sky power,     0 <= power <= inverter,     exactly 0 while the sun is down

Shading shows as a lower index at the same time of day and is learned with it. Where the place is not known
the clear-sky power is the plant's own recent best instead of geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.clearsky import clear_sky, default_mix, fit_mix, planes_of, solar_zone
from forecasting.dayahead import MEMORY, Calendar, fit_days, predict_days
from forecasting.errors import NotFitted
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

_INDEX_CAP = 1.6
_DIM_FRAC = 0.03
_MIN_DAYS = 10.0


class SolarForecaster:
    """Clear-sky index with the slot engine.

    Parameters
    ----------
    context : the plant, or one per plant of a fleet (each with its own place)
    """

    def __init__(self, context: SiteContext | Sequence[SiteContext]) -> None:
        self.context = context
        self.plain_: SlotModel | None = None
        self.guided_: SlotModel | None = None
        self.mix_: list[FloatArray] = []
        self.cap_kw_: FloatArray = np.ones(0)
        self.history_: History | None = None

    @property
    def name(self) -> str:
        """Stable name."""
        return "solar-index"

    @property
    def memory(self) -> timedelta:
        """Recent history that `predict` wants."""
        return MEMORY

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn orientation, shading and the index, and, with weather, what it says about the index."""
        usable = history.usable
        contexts = self._contexts(history.n_sites)
        n = history.steps_per_day
        self.mix_ = []
        for row, context in enumerate(contexts):
            sky = self._sky(context, history.start_at, history.step, len(history))
            mix = fit_mix(usable[row], sky, n)
            self.mix_.append(mix if mix.any() else default_mix(context, planes_of(context)))
        seen = np.nanmax(np.where(np.isfinite(usable), usable, 0.0), axis=1, initial=0.0)
        rated = np.array([c.nameplate_kw if c.nameplate_kw is not None else np.inf for c in contexts])
        self.cap_kw_ = np.where(np.isfinite(rated), rated, seen)
        clear = self._clear_kw(history.start_at, history.step, len(history), contexts)
        index, weight = self._index(usable, clear)
        calendar = self._calendar(contexts)
        self.plain_ = fit_days(index, weight, history, calendar)
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
        """Quantiles of available power."""
        history = recent if recent is not None else self.history_
        if history is None or self.plain_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        issued_at = as_utc(issued_at, field="issued_at")
        wanted = checked_levels(levels)
        contexts = self._contexts(history.n_sites)
        known = history.until(issued_at, last=MEMORY)
        clear = self._clear_kw(known.start_at, known.step, len(known), contexts)
        index, _ = self._index(known.usable, clear)
        paths = predict_days(
            self.plain_, index, known, self._calendar(contexts), issued_at=issued_at, horizon=horizon
        )
        ahead = self._clear_kw(paths.start_at, known.step, horizon, contexts)
        grid = np.clip(paths.centre[..., None] + paths.residual, 0.0, _INDEX_CAP) * ahead[..., None]
        grid = np.minimum(grid, self.cap_kw_[:, None, None])
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
        )

    def _contexts(self, count: int) -> Sequence[SiteContext]:
        return [self.context] * count if isinstance(self.context, SiteContext) else self.context

    def _calendar(self, contexts: Sequence[SiteContext]) -> Calendar:
        return Calendar(zone=solar_zone(contexts[0].longitude, contexts[0].time_zone))

    def _sky(self, context: SiteContext, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        return clear_sky(
            latitude=context.latitude or 0.0, longitude=context.longitude or 0.0,
            planes=planes_of(context), start_at=start_at, step=step, count=count,
        ).planes_kw_m2  # fmt: skip

    def _clear_kw(
        self, start_at: datetime, step: timedelta, count: int, contexts: Sequence[SiteContext]
    ) -> FloatArray:
        rows = [
            self._sky(context, start_at, step, count) @ mix
            for context, mix in zip(contexts, self.mix_, strict=True)
        ]
        return np.stack(rows)

    def _index(self, usable: FloatArray, clear: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Index and its weight; dim intervals carry no index."""
        bright = clear > _DIM_FRAC * np.maximum(clear.max(axis=1, keepdims=True, initial=0.0), 1e-9)
        index = np.where(bright, np.clip(usable / np.where(bright, clear, 1.0), 0.0, _INDEX_CAP), np.nan)
        scale = np.maximum(clear.max(axis=1, keepdims=True, initial=0.0), 1e-9)
        return index, np.where(bright, clear / scale, 0.0)
