"""Oracles and strong peers for `forecast_ceiling.py`: forecasters that are no part of the product.

Those named `Boosted..` are gradient-boosted trees by LightGBM, which is handed in as a module: it is installed beside
the project, never with it. They see what our own engine sees (`forecasting.design`), and the slot, the weekday and the
site besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, Self

import numpy as np

from forecasting import (
    DEFAULT_LEVELS,
    FloatArray,
    Forecast,
    Forecaster,
    History,
    Quality,
    SiteContext,
    Weather,
)
from forecasting.calendars import IntArray, day_matrix, is_holiday, local_grid
from forecasting.clearsky import solar_zone
from forecasting.dayahead import MEMORY
from forecasting.design import DayMatrix, Design, design
from forecasting.plant import Plants, learn_plants
from forecasting.quantiles import gap_mean, gap_quantiles
from forecasting.slotmodel import fit_slot_model, predict_z
from forecasting.types import first_start

WARM_UP_DAYS = 7
SPREAD_DAYS = 28
SPREAD_LEVELS = (0.1, 0.5, 0.9)
LAST_ERRORS = 6
TREES = 100
LEARNING = {
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "seed": 1,
    "verbosity": -1,
}


class Remembered:
    """A forecaster whose forecasts over a day are kept, laid on the grid of a history."""

    def __init__(self, inner: Forecaster, history: History, levels: Sequence[float]) -> None:
        self.inner = inner
        self.history = history
        self.quantiles: FloatArray = np.full((history.n_sites, len(levels), len(history)), np.nan)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def memory(self) -> timedelta:
        return self.inner.memory

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        self.inner.fit(history, weather=weather)
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
        made = self.inner.predict(issued_at, horizon, levels, recent=recent, weather=weather)
        first = self.history.index_of(made.start_at)
        self.quantiles[..., first : first + horizon] = made.quantiles
        return made


class Averaged:
    """The mean of the quantiles of models that stand before it in the same backtest, and are fitted there."""

    def __init__(self, parts: Sequence[Forecaster]) -> None:
        self.parts = parts
        self.name = " + ".join(part.name for part in parts)
        self.memory = max(part.memory for part in parts)

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
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
        made = [
            part.predict(issued_at, horizon, levels, recent=recent, weather=weather) for part in self.parts
        ]
        return replace(
            made[0],
            quantiles=np.mean([one.quantiles for one in made], axis=0),
            mean=np.mean([one.mean for one in made], axis=0),
        )


class SurroundingDays:
    """An oracle: quantiles of the same slot over so many days before and as many days AFTER the one asked for."""

    name = "surrounding days"
    memory = timedelta(days=1)

    def __init__(self, truth: History, context: SiteContext, *, days: int) -> None:
        self.truth = truth
        self.days = days
        self.zone = context.time_zone
        grid = local_grid(truth.start_at, truth.step, len(truth), self.zone)
        self.matrix, self.first_day = day_matrix(truth.usable, grid)

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
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
        grid = local_grid(issued_at, self.truth.step, horizon, self.zone)
        day = int(grid.day[0]) - self.first_day
        nearby = range(max(day - self.days, 0), min(day + self.days + 1, self.matrix.shape[1]))
        around = [each for each in nearby if each != day]
        samples = np.moveaxis(self.matrix[:, around], 1, -1)[:, grid.slot]
        return _forecast(self.name, self.truth, issued_at, levels, gap_quantiles(samples, levels))


class _Boosted:
    """Trees of LightGBM over a fleet, grown anew at every so many fits."""

    memory = MEMORY

    def __init__(self, lightgbm: ModuleType, context: SiteContext, train_every: int) -> None:
        self.lightgbm = lightgbm
        self.context = context
        self.train_every = train_every
        self.fits = 0
        self.scale: FloatArray = np.zeros(0)

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        if self.fits % self.train_every == 0:
            self._train(history)
        self.fits += 1
        return self

    def _train(self, history: History) -> None:
        raise NotImplementedError


class BoostedQuantiles(_Boosted):
    """One LightGBM quantile model per level, all sites of a fleet together; day-ahead, issued at midnight.

    Parameters
    ----------
    lightgbm : the module
    context : place, clock and holidays of the fleet
    solar : learn the share of the clear-sky power instead of the power
    train_every : fits that share one training; the trees are the long part of a run
    """

    name = "LightGBM"

    def __init__(
        self, lightgbm: ModuleType, context: SiteContext, *, solar: bool = False, train_every: int = 1
    ) -> None:
        # the sun keeps no summer time
        own = replace(context, time_zone=solar_zone(context)) if solar else context
        super().__init__(lightgbm, own, train_every)
        self.solar = solar
        self.plants: Plants | None = None
        self.trees: dict[float, Any] = {}

    def _train(self, history: History) -> None:
        if self.solar:
            self.plants = learn_plants(history, [self.context] * history.n_sites)
        self.scale = 0.5 * gap_mean(np.abs(history.usable), axis=1)
        share, weight = self._share(history)
        days = days_of(share, history, self.context)
        weights = np.nan_to_num(day_matrix(weight, _grid(history, self.context))[0])
        targets = np.arange(WARM_UP_DAYS, days.z.shape[1])
        asked = design(days, targets)
        features = tree_features(days, asked, targets)
        rise = np.sinh(days.z[:, targets]) - np.sinh(asked.base)
        told = np.isfinite(rise) & (weights[:, targets] > 0)
        rows = self.lightgbm.Dataset(
            features[told], rise[told], weight=weights[:, targets][told], free_raw_data=False
        )
        for level in DEFAULT_LEVELS:
            asks = {**LEARNING, "objective": "quantile", "alpha": level}
            self.trees[level] = self.lightgbm.train(asks, rows, TREES)

    def predict(
        self,
        issued_at: datetime,
        horizon: int,
        levels: Sequence[float] = DEFAULT_LEVELS,
        *,
        recent: History | None = None,
        weather: Weather | None = None,
    ) -> Forecast:
        assert recent is not None
        known = recent.until(issued_at, last=MEMORY)
        days = days_of(self._share(known)[0], known, self.context)
        targets = np.array([days.z.shape[1]])
        asked = design(days, targets)
        features = tree_features(days, asked, targets)
        rise = [self.trees[level].predict(features.reshape(-1, features.shape[-1])) for level in levels]
        day = np.sort(np.reshape(rise, (len(levels), *asked.base.shape)), axis=0) + np.sinh(asked.base)
        slots = local_grid(issued_at, known.step, horizon, self._zone).slot
        paths = np.moveaxis(day[:, :, 0], 0, -1)[:, slots]
        if self.plants is not None:
            clear = self.plants.clear_kw(issued_at, known.step, horizon)[..., None]
            paths = np.minimum(paths * clear, self.plants.cap_kw[:, None, None])
        else:
            paths = paths * self.scale[:, None, None]
        return _forecast(self.name, recent, issued_at, levels, np.maximum(paths, 0.0))

    @property
    def _zone(self) -> str:
        return self.context.time_zone

    def _share(self, history: History) -> tuple[FloatArray, FloatArray]:
        """The series in the space of the features, and its weight; (S, T) each."""
        if self.plants is not None:
            clear = self.plants.clear_kw(history.start_at, history.step, len(history))
            index, weight = self.plants.index(history.usable, clear)
            return np.arcsinh(index), weight
        return np.arcsinh(history.usable / self.scale[:, None]), np.ones(history.usable.shape)


class BoostedNextHour(_Boosted):
    """A forecaster of ours whose next interval is told by LightGBM from its last errors, when that is all that is asked.

    Longer horizons are those of the forecaster beneath, which stands before it in the same backtest and is fitted there.
    """

    name = "LightGBM, next hour"

    def __init__(
        self, lightgbm: ModuleType, context: SiteContext, beneath: Forecaster, *, train_every: int = 1
    ) -> None:
        super().__init__(lightgbm, context, train_every)
        self.beneath = beneath
        self.coefficients: FloatArray = np.zeros(0)
        self.tree: Any = None

    def _train(self, history: History) -> None:
        self.scale = 0.5 * gap_mean(np.abs(history.usable), axis=1)
        days = days_of(np.arcsinh(history.usable / self.scale[:, None]), history, self.context)
        targets = np.arange(WARM_UP_DAYS, days.z.shape[1])
        asked = design(days, targets)
        z = days.z[:, targets]
        self.coefficients = fit_slot_model(asked, z, np.ones(z.shape), step_h=history.step_h).coefficients
        centre, features = self._features(days, asked, targets)
        rise = np.sinh(z) - np.sinh(centre)
        told = np.isfinite(rise)
        rows = self.lightgbm.Dataset(features[told], rise[told])
        self.tree = self.lightgbm.train({**LEARNING, "objective": "l1"}, rows, TREES)

    def predict(
        self,
        issued_at: datetime,
        horizon: int,
        levels: Sequence[float] = DEFAULT_LEVELS,
        *,
        recent: History | None = None,
        weather: Weather | None = None,
    ) -> Forecast:
        assert recent is not None
        if horizon > 1:
            return self.beneath.predict(issued_at, horizon, levels, recent=recent, weather=weather)
        known = recent.until(issued_at, last=MEMORY)
        slot = int(local_grid(issued_at, known.step, 1, self.context.time_zone).slot[0])
        days = days_of(np.arcsinh(known.usable / self.scale[:, None]), known, self.context, open_day=slot > 0)
        count = days.z.shape[1]
        targets = np.arange(count - 3, count)
        asked = design(days, targets)
        centre, features = self._features(days, asked, targets)
        rise = self.tree.predict(features[:, -1, slot])
        path = np.maximum((np.sinh(centre[:, -1, slot]) + rise) * self.scale, 0.0)
        quantiles = np.broadcast_to(path[:, None, None], (len(path), 1, len(levels)))
        return _forecast(self.name, recent, issued_at, levels, quantiles)

    def _features(self, days: DayMatrix, asked: Design, targets: IntArray) -> tuple[FloatArray, FloatArray]:
        """What the ridge says of each slot, (S, T, N), and what the tree may split on besides, (S, T, N, F)."""
        centre = predict_z(self.coefficients, asked)
        errors = _errors_before(days.z[:, targets] - centre)
        return centre, np.concatenate(
            [tree_features(days, asked, targets), centre[..., None], errors], axis=-1
        )


def days_of(z: FloatArray, known: History, context: SiteContext, *, open_day: bool = True) -> DayMatrix:
    """Local days of a series (S, T) on the grid of `known`; one blank day more where the last is not the open one."""
    matrix, first_day = day_matrix(z, _grid(known, context))
    if not open_day:
        matrix = np.concatenate([matrix, np.full_like(matrix[:, :1], np.nan)], axis=1)
    ordinals = first_day + np.arange(matrix.shape[1] + 1)
    weekday = np.where(is_holiday(ordinals, context.country), 6, (ordinals + 6) % 7)
    return DayMatrix(z=matrix, weekday=weekday, rest=weekday >= 5)


def tree_features(days: DayMatrix, asked: Design, targets: IntArray) -> FloatArray:
    """What the trees may split on, shape (S, T, N, F): the design, the base, the spread of the slot, calendar and site."""
    sites, _, n = asked.base.shape
    before = np.full((sites, SPREAD_DAYS, n), np.nan)
    padded = np.concatenate([before, days.z], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, SPREAD_DAYS, axis=1)[:, targets]
    spread = gap_quantiles(windows, SPREAD_LEVELS) - asked.base[..., None]
    shape = asked.base.shape
    told = [
        asked.base,
        np.broadcast_to(np.arange(n), shape),
        np.broadcast_to(days.weekday[targets][:, None], shape),
        np.broadcast_to(np.arange(sites)[:, None, None], shape),
    ]
    return np.concatenate([asked.x, spread, np.stack(told, axis=-1)], axis=-1)


def _errors_before(errors: FloatArray) -> FloatArray:
    """The last errors before each slot and those around it yesterday, shape (S, T, N, F); nan where not known."""
    sites, days, n = errors.shape
    flat = errors.reshape(sites, -1)
    ages = [*range(1, LAST_ERRORS + 1), n - 1, n, n + 1]
    columns = [np.concatenate([np.full((sites, age), np.nan), flat[:, :-age]], axis=1) for age in ages]
    return np.stack(columns, axis=-1).reshape(sites, days, n, -1)


def _grid(known: History, context: SiteContext) -> Any:
    return local_grid(known.start_at, known.step, len(known), context.time_zone)


def _forecast(
    name: str, history: History, issued_at: datetime, levels: Sequence[float], paths: FloatArray
) -> Forecast:
    """Quantile paths (S, T, Q) as the public type; the mean is that of the levels."""
    quantiles = np.swapaxes(paths, 1, 2)
    mean = quantiles.mean(axis=1)
    return Forecast(
        issued_at=issued_at,
        start_at=first_start(history, issued_at),
        step=history.step,
        levels=tuple(levels),
        quantiles=quantiles if history.is_fleet else quantiles[0],
        mean=mean if history.is_fleet else mean[0],
        sources=(name,) * history.n_sites,
        qualities=(Quality.GOOD,) * history.n_sites,
    )
