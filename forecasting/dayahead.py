"""A series on local days, predicted day-ahead and corrected within the day: the estimator under load and price.

`issued_at` may be any instant. Days still to come are predicted one after the other: what is known of today
stands, the rest of today is the prediction, and tomorrow is predicted from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecasting.calendars import IntArray, LocalGrid, day_matrix, is_holiday, local_grid
from forecasting.design import FEATURES, MEMORY_DAYS, DayMatrix, Design, design
from forecasting.quantiles import at_levels, gap_mean
from forecasting.slotmodel import (
    GRID,
    SlotModel,
    fit_slot_model,
    intraday_signals,
    predict_z,
    residual_quantiles,
)
from forecasting.types import FloatArray, History, SiteContext, first_start

MEMORY = timedelta(days=MEMORY_DAYS + 1)
MAX_TRAINING_DAYS = 400
FIT_CHUNK_SITES = 64
_WARM_UP_DAYS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class DayAheadModel:
    """A fitted fleet: parameters and the transform of each site."""

    slots: SlotModel
    """Parameters in transformed space."""
    scale: FloatArray
    """Scale of the asinh transform, unit of the series, shape (S,)."""
    floor: FloatArray
    """Lowest value a forecast may take (0 for a load that was never negative), shape (S,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """What a model says about the horizon, at the levels of GRID."""

    start_at: datetime
    """Start of the first interval."""
    grid_quantiles: FloatArray
    """Shape (S, T, len(GRID)), unit of the series."""


def fit_day_ahead(history: History, context: SiteContext, extras: FloatArray | None = None) -> DayAheadModel:
    """Fit every site of the fleet; sites share the time zone and holidays of `context`.

    Parameters
    ----------
    extras : further features (weather), shape (S or 1, D, N, E), on the local days of the history
    """
    history = history.until(history.end_at, last=timedelta(days=MAX_TRAINING_DAYS))
    models = []
    for first in range(0, history.n_sites, FIT_CHUNK_SITES):
        chunk = slice(first, first + FIT_CHUNK_SITES)
        models.append(_fit_chunk(history, context, chunk))
    return join_models(models)


def join_models(models: Sequence[DayAheadModel]) -> DayAheadModel:
    """Stack fitted fleets along the site axis."""
    names = SlotModel.__dataclass_fields__
    return DayAheadModel(
        slots=SlotModel(**{k: np.concatenate([getattr(m.slots, k) for m in models]) for k in names}),
        scale=np.concatenate([m.scale for m in models]),
        floor=np.concatenate([m.floor for m in models]),
    )


def _fit_chunk(history: History, context: SiteContext, chunk: slice) -> DayAheadModel:
    values = history.usable[chunk]
    grid = local_grid(history.start_at, history.step, len(history), context.time_zone)
    scale = _scale_of(values)
    matrix, first_day = day_matrix(np.arcsinh(values / scale[:, None]), grid)
    weight = np.ones_like(matrix)
    if history.reliability is not None:
        rows = np.reshape(history.reliability, history.columns.shape)[chunk]
        weight = np.nan_to_num(day_matrix(rows, grid)[0])
    days = _kinds(matrix, first_day, context, ahead=0)
    targets = np.arange(min(_WARM_UP_DAYS, matrix.shape[1] - 1), matrix.shape[1])
    fitted = fit_slot_model(
        design(days, targets), matrix[:, targets], weight[:, targets], step_h=history.step_h
    )
    lowest = np.nanmin(np.where(np.isfinite(values), values, np.inf), axis=1, initial=np.inf)
    return DayAheadModel(slots=fitted, scale=scale, floor=np.where(lowest >= 0.0, 0.0, -np.inf))


def predict_day_ahead(
    model: DayAheadModel, recent: History, context: SiteContext, issued_at: datetime, horizon: int
) -> Paths:
    """Predict every site from what `recent` knew at `issued_at`."""
    known = recent.until(issued_at, last=MEMORY)
    values = known.usable
    late = max(recent.index_of(issued_at) - recent.index_of(known.end_at), 0)
    if late:
        values = np.concatenate([values, np.full((values.shape[0], late), np.nan)], axis=1)
    start_at = first_start(recent, issued_at)
    n_known = values.shape[1]
    gap = int((start_at - known.start_at) // recent.step) - n_known
    grid = local_grid(known.start_at, recent.step, n_known + gap + horizon, context.time_zone)
    past = LocalGrid(day=grid.day[:n_known], slot=grid.slot[:n_known], steps_per_day=grid.steps_per_day)
    day, slot = grid.day[n_known + gap :], grid.slot[n_known + gap :]
    z = np.arcsinh(values / model.scale[:, None])
    matrix, first_day = day_matrix(z, past)
    today = int(grid.day[min(n_known, len(grid.day) - 1)])
    last_day = int(day[-1])
    sites, _, n = matrix.shape
    missing = today - first_day + 1 - matrix.shape[1]
    if missing > 0:
        matrix = np.concatenate([matrix, np.full((sites, missing, n), np.nan)], axis=1)
    centre, corrections = _roll_forward(
        model, matrix, _kinds(matrix, first_day, context, ahead=last_day - today + 1),
        first_slot=int(slot[0]) if int(day[0]) == today else n,
        now_slot=int(grid.slot[n_known - 1]) + 1 if int(grid.day[n_known - 1]) == today else 0,
        n_targets=last_day - today + 1, step_h=recent.step_h,
    )  # fmt: skip
    path = centre[:, day - today, slot]
    leads = min(corrections.shape[1], horizon)
    spread = np.ones((sites, horizon))
    spread[:, :leads] = model.slots.lead_spread_frac[:, :leads]
    residual = residual_quantiles(model.slots, path, slot) * spread[..., None]
    path[:, :leads] += corrections[:, :leads]
    bands = model.scale[:, None, None] * np.sinh(path[..., None] + residual)
    return Paths(start_at=start_at, grid_quantiles=np.maximum(bands, model.floor[:, None, None]))


def _roll_forward(
    model: DayAheadModel,
    matrix: FloatArray,
    kinds: DayMatrix,
    *,
    first_slot: int,
    now_slot: int,
    n_targets: int,
    step_h: float,
) -> tuple[FloatArray, FloatArray]:
    """Predict today and the days after it in turn; returns centres (S, days, N) and corrections (S, J)."""
    sites, count, n = matrix.shape
    centre = np.empty((sites, n_targets, n))
    coefficients = model.slots.coefficients
    today = count - 1
    targets = np.array([today - 1, today]) if today > 0 else np.array([today])
    days = DayMatrix(z=matrix[:, :today], weekday=kinds.weekday, rest=kinds.rest)
    latest = predict_z(coefficients, design(days, targets))
    errors = matrix[:, targets] - latest
    errors = errors.reshape(sites, -1)[:, : (len(targets) - 1) * n + now_slot]
    signals = intraday_signals(errors, step_h)
    corrections = np.matmul(model.slots.lead_coefficients, signals[..., None])[..., 0]
    centre[:, 0] = latest[:, -1]
    for ahead in range(1, n_targets):
        filled = centre[:, ahead - 1].copy()
        if ahead == 1:
            reach = min(n - first_slot, corrections.shape[1])
            filled[:, first_slot : first_slot + reach] += corrections[:, :reach]
            filled = np.where(np.isfinite(matrix[:, today]), matrix[:, today], filled)
            matrix = np.concatenate([matrix[:, :today], filled[:, None]], axis=1)
        else:
            matrix = np.concatenate([matrix, filled[:, None]], axis=1)
        days = DayMatrix(z=matrix, weekday=kinds.weekday, rest=kinds.rest)
        centre[:, ahead] = predict_z(coefficients, design(days, np.array([today + ahead])))[:, 0]
    return centre, corrections


def mean_of(grid_quantiles: FloatArray) -> FloatArray:
    """Expected value from quantiles at GRID, shape (S, T): trapezoid rule, flat tails."""
    edges = np.concatenate([[0.0], 0.5 * (GRID[1:] + GRID[:-1]), [1.0]])
    return np.asarray(grid_quantiles @ np.diff(edges))


def levels_of(grid_quantiles: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Quantiles at the asked levels, shape (S, Q, T)."""
    return np.swapaxes(at_levels(grid_quantiles, GRID, levels), 1, 2)


def _kinds(matrix: FloatArray, first_day: int, context: SiteContext, *, ahead: int) -> DayMatrix:
    ordinals: IntArray = first_day + np.arange(matrix.shape[1] + ahead + 1)
    weekday = (ordinals + 6) % 7
    holiday = is_holiday(ordinals, context.country)
    weekday = np.where(holiday, 6, weekday)
    return DayMatrix(z=matrix, weekday=weekday, rest=weekday >= 5)


def _scale_of(values: FloatArray) -> FloatArray:
    size = gap_mean(np.abs(values), axis=1)
    return np.where(np.isfinite(size) & (size > 0), 0.5 * size, 1.0)


__all__ = ["FEATURES", "DayAheadModel", "Design", "Paths", "fit_day_ahead", "predict_day_ahead"]
