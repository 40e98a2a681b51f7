"""Solar: the clear-sky index of a plant, learned from what it delivered.

    power = index * clear-sky power,     0 <= power <= inverter,     exactly 0 while the sun is down

Shading shows as a lower index at the same time of day and is learned with it. Curtailed intervals are gaps.
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
from forecasting.clearsky import lit_intervals, solar_zone
from forecasting.dayahead import MEMORY, Calendar, Covariates, ZPaths, fit_days, predict_days
from forecasting.drift import lately
from forecasting.errors import NotFitted
from forecasting.plant import INDEX_CAP, Plants, learn_plants
from forecasting.quantiles import GRID, at_levels
from forecasting.recentdays import slot_table
from forecasting.screening import silent_days, without_sunless, without_surges
from forecasting.slotmodel import SlotModel
from forecasting.types import (
    DEFAULT_LEVELS,
    BoolArray,
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

_RECENT_DAYS = 42
_TAU_DAYS = 10.0
_PRIOR_LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
_PRIOR_INDEX = (0.05, 0.15, 0.35, 0.70, 0.92, 1.00, 1.05)


class RecentIndex:
    """Weighted quantiles of the last weeks' clear-sky index per time of day, backed by a usual sky."""

    name = "solar-recent"
    min_days = 0.0

    def __init__(self, contexts: Sequence[SiteContext]) -> None:
        self.contexts = contexts
        self.plants_: Plants | None = None
        self.table_: FloatArray = np.zeros(0)

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Make the table, shape (S, N, len(GRID))."""
        self.plants_ = learn_plants(history, self.contexts)
        recent = history.until(history.end_at, last=timedelta(days=_RECENT_DAYS))
        clear = self.plants_.clear_kw(recent.start_at, recent.step, len(recent))
        index, _ = self.plants_.index(recent.usable, clear)
        grid = local_grid(recent.start_at, recent.step, len(recent), solar_zone(self.contexts[0]))
        matrix, _ = day_matrix(index, grid)
        age = np.arange(matrix.shape[1], 0, -1)
        prior = np.interp(GRID, _PRIOR_LEVELS, _PRIOR_INDEX)
        prior = np.broadcast_to(prior, (matrix.shape[0], matrix.shape[2], len(GRID)))
        self.table_ = slot_table(matrix, np.exp(-age / _TAU_DAYS), prior)
        return self

    def predict_grid(
        self, issued_at: datetime, horizon: int, recent: History, weather: Weather | None
    ) -> GridPaths:
        """Index quantiles of the time of day, times the clear sky."""
        if self.plants_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        start_at = first_start(recent, issued_at)
        grid = local_grid(start_at, recent.step, horizon, solar_zone(self.contexts[0]))
        clear = self.plants_.clear_kw(start_at, recent.step, horizon)
        return GridPaths(start_at=start_at, values=_power(self.table_[:, grid.slot], clear, self.plants_))


class RidgeIndex:
    """The slot engine on the clear-sky index; with weather a second, guided model serves where it reaches."""

    name = "solar-ridge"
    min_days = 21.0

    def __init__(self, contexts: Sequence[SiteContext]) -> None:
        self.contexts = contexts
        self.plants_: Plants | None = None
        self.plain_: SlotModel | None = None
        self.guided_: SlotModel | None = None

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn geometry, shading, the index, and what the weather says about it."""
        self.plants_ = learn_plants(history, self.contexts)
        clear = self.plants_.clear_kw(history.start_at, history.step, len(history))
        index, weight = self.plants_.index(history.usable, clear)
        if history.reliability is not None:
            weight = weight * np.reshape(history.reliability, weight.shape)
        self.plain_ = fit_days(index, weight, history, self._calendar)
        self.guided_ = None
        if weather is not None:
            guides = self.plants_.sky_index(weather, history.start_at, history.step, len(history))
            told = np.asarray(np.isfinite(guides).any(axis=2))
            if (told & (weight > 0)).sum() >= self.min_days * history.steps_per_day / 4:
                extra = Covariates(guides=guides)
                self.guided_ = fit_days(index, weight * told, history, self._calendar, extra)
        return self

    def predict_grid(
        self, issued_at: datetime, horizon: int, recent: History, weather: Weather | None
    ) -> GridPaths:
        """Index quantiles times the clear sky; guided where the weather covers the interval."""
        if self.plants_ is None or self.plain_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        known = recent.until(issued_at, last=MEMORY)
        clear = self.plants_.clear_kw(known.start_at, known.step, len(known))
        index, _ = self.plants_.index(known.usable, clear)
        paths = predict_days(self.plain_, index, known, self._calendar, issued_at=issued_at, horizon=horizon)
        levels = _levels(paths)
        if weather is not None and self.guided_ is not None:
            ahead = int((paths.start_at - known.start_at) // known.step)
            guides = self.plants_.sky_index(weather, known.start_at, known.step, ahead + horizon)
            guided = predict_days(
                self.guided_, index, known, self._calendar,
                issued_at=issued_at, horizon=horizon, extra=Covariates(guides=guides),
            )  # fmt: skip
            told = np.asarray(np.isfinite(guides[:, ahead:]).any(axis=2))
            levels = np.where(told[..., None], _levels(guided), levels)
        sky = self.plants_.clear_kw(paths.start_at, known.step, horizon)
        return GridPaths(start_at=paths.start_at, values=_power(levels, sky, self.plants_))

    @property
    def _calendar(self) -> Calendar:
        return Calendar(zone=solar_zone(self.contexts[0]))


class SolarForecaster:
    """Available solar power of a fleet from the first minute: usual sky, recent index, ridge; best per site.

    Parameters
    ----------
    context : the plant, or one per plant (each with its own place; days are cut at the first one's solar
        midnight, so a fleet should lie within a few time zones). Without history it needs `nameplate_kw`.
    """

    name = "solar"
    memory: timedelta = MEMORY

    def __init__(self, context: SiteContext | Sequence[SiteContext]) -> None:
        self.context = context
        self.candidates_: list[Candidate] = []
        self.choice_: Choice | None = None
        self.history_: History | None = None

    def fit(
        self, history: History, *, weather: Weather | None = None, drifting: BoolArray | None = None
    ) -> Self:
        """Learn from history (and the weather forecasts that went with it); `drifting` as for load."""
        contexts = contexts_of(self.context, history.n_sites)
        zone = solar_zone(contexts[0])
        lit = lit_intervals(contexts, history.start_at, history.step, len(history))
        history = lately(without_sunless(without_surges(history), lit, zone), drifting)
        self.candidates_ = [RecentIndex(contexts), RidgeIndex(contexts)]
        self.choice_ = choose(
            self.candidates_, history, zone=zone, incumbent=self.choice_, weather=weather,
            drifting=drifting,
        )  # fmt: skip
        self.history_ = history.until(history.end_at, last=MEMORY)
        return self

    @property
    def knows_weather(self) -> bool:
        """Whether it has learned what the weather does to this fleet."""
        return any(
            isinstance(candidate, RidgeIndex) and candidate.guided_ is not None
            for candidate in self.candidates_
        )

    def predict(
        self,
        issued_at: datetime,
        horizon: int,
        levels: Sequence[float] = DEFAULT_LEVELS,
        *,
        recent: History | None = None,
        weather: Weather | None = None,
    ) -> Forecast:
        """Quantiles of available power [kW]; see `Forecaster`."""
        history = recent if recent is not None else self.history_
        if history is None or self.choice_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        issued_at = as_utc(issued_at, field="issued_at")
        paths, names, qualities = predict_chosen(
            self.candidates_, self.choice_,
            issued_at=issued_at, horizon=horizon, recent=history, weather=weather,
            bounds=(np.zeros(history.n_sites), self._plants().cap_kw),
        )  # fmt: skip
        contexts = contexts_of(self.context, history.n_sites)
        latest = history.until(issued_at, last=timedelta(days=_RECENT_DAYS))
        lit = lit_intervals(contexts, latest.start_at, latest.step, len(latest))
        silent = silent_days(latest, lit, solar_zone(contexts[0]), self._plants().cap_kw)
        paths = replace(paths, values=_perhaps_nothing(paths.values, silent))
        qualities = [
            Quality.FALLBACK if days > 0 else quality for days, quality in zip(silent, qualities, strict=True)
        ]
        return to_forecast(
            paths, history=history, issued_at=issued_at, levels=checked_levels(levels),
            sources=names, qualities=qualities,
        )  # fmt: skip

    def clear_kw(self, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        """Clear-sky power [kW] as learned, shape (S, count); exactly 0 while the sun is down."""
        return self._plants().clear_kw(start_at, step, count)

    def _plants(self) -> Plants:
        for candidate in self.candidates_:
            if isinstance(candidate, RecentIndex) and candidate.plants_ is not None:
                return candidate.plants_
        raise NotFitted(f"{self.name}: call fit first")


def _perhaps_nothing(values: FloatArray, silent: FloatArray) -> FloatArray:
    """Quantile paths of plants that gave nothing for some days: so it goes on, or the plant comes back.

    After k silent days the next one is silent with probability k / (k + 2): a single one is as a rule snow or a fuse.
    """
    if not (silent > 0).any():
        return values
    values = values.copy()
    for site in np.flatnonzero(silent > 0):
        stays = silent[site] / (silent[site] + 2.0)
        inner = (GRID - stays) / (1.0 - stays)
        back = at_levels(values[site], GRID, np.clip(inner, 0.0, 1.0).tolist())
        values[site] = np.where(inner > 0.0, back, 0.0)
    return values


def _levels(paths: ZPaths) -> FloatArray:
    return paths.centre[..., None] + paths.residual


def _power(index: FloatArray, clear_kw: FloatArray, plants: Plants) -> FloatArray:
    """Power [kW] from index quantiles (S, T, len(GRID)), within 0 and the plant's bound."""
    power_kw = np.clip(index, 0.0, INDEX_CAP) * clear_kw[..., None]
    return np.minimum(power_kw, plants.cap_kw[:, None, None])
