"""A plant as geometry sees it: power under a clear sky, the index of what it delivers, its upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecasting.clearsky import clear_sky, default_mix, fit_mix
from forecasting.types import FloatArray, History, SiteContext, Weather

INDEX_CAP = 1.6
_DIM_FRAC = 0.03
_MIN_DAYS_TO_LEARN_MIX = 10
_CAP_HEADROOM = 1.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Plants:
    """Learned orientation and bound of S plants."""

    contexts: tuple[SiteContext, ...]
    """What was said about each plant."""
    mixes: tuple[FloatArray, ...]
    """Weight of each plane [kW per kW/m2], one array per plant."""
    cap_kw: FloatArray
    """Highest power [kW]: the nameplate, else a little above the highest seen; shape (S,)."""

    def clear_kw(self, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        """Clear-sky power [kW], shape (S, count); exactly 0 while the sun is down."""
        return np.stack(
            [
                clear_sky(context, start_at=start_at, step=step, count=count).planes_kw_m2 @ mix
                for context, mix in zip(self.contexts, self.mixes, strict=True)
            ]
        )

    def sky_index(self, weather: Weather, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        """What the weather says the index is, per plant: shape (S, count, 2), nan where it says nothing.

        First from horizontal irradiance over its clear-sky value, then from another service's power.
        """
        ghi = weather.irradiance_on(start_at, step, count) / 1000.0
        guide = weather.guide_on(start_at, step, count)
        clear = self.clear_kw(start_at, step, count)
        top = np.maximum(self.cap_kw[:, None], 1e-9)
        found = np.full((len(self.contexts), count, 2), np.nan)
        for row, context in enumerate(self.contexts):
            horizontal = clear_sky(context, start_at=start_at, step=step, count=count).horizontal_kw_m2
            lit = horizontal > _DIM_FRAC
            mine = ghi[min(row, ghi.shape[0] - 1)]
            found[row, lit, 0] = np.clip(mine[lit] / horizontal[lit], 0.0, INDEX_CAP)
        bright = clear > _DIM_FRAC * top
        rows = np.broadcast_to(guide, clear.shape)
        found[..., 1] = np.where(bright, np.clip(rows / np.where(bright, clear, 1.0), 0.0, INDEX_CAP), np.nan)
        return found

    def index(self, usable: FloatArray, clear_kw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Clear-sky index and its weight (S, T); dim intervals carry none."""
        top = np.maximum(self.cap_kw[:, None], 1e-9)
        bright = clear_kw > _DIM_FRAC * top
        index = np.where(bright, np.clip(usable / np.where(bright, clear_kw, 1.0), 0.0, INDEX_CAP), np.nan)
        return index, np.where(bright, clear_kw / top, 0.0)


def learn_plants(history: History, contexts: Sequence[SiteContext]) -> Plants:
    """Fit orientation from delivered power; with too little of it take the nameplate in the usual plane."""
    usable = history.usable
    n = history.steps_per_day
    mixes = []
    for row, context in enumerate(contexts):
        mix = np.zeros(0)
        if np.isfinite(usable[row]).sum() >= _MIN_DAYS_TO_LEARN_MIX * n or context.nameplate_kw is None:
            sky = clear_sky(context, start_at=history.start_at, step=history.step, count=len(history))
            mix = fit_mix(usable[row], sky.planes_kw_m2, n)
        silent = context.nameplate_kw is None and np.isfinite(usable[row]).any()
        mixes.append(mix if mix.any() or silent else default_mix(context))
    seen = np.max(np.where(np.isfinite(usable), usable, 0.0), axis=1, initial=0.0)
    rated = np.array([np.nan if c.nameplate_kw is None else c.nameplate_kw for c in contexts])
    cap_kw = np.where(np.isfinite(rated), rated, _CAP_HEADROOM * seen)
    return Plants(contexts=tuple(contexts), mixes=tuple(mixes), cap_kw=cap_kw)
