"""From a fitted slot model to a path: day by day, from any instant, over days of any length.

What is known of today stands, the rest of today is the prediction, and tomorrow is predicted from both.
Everything here is in transformed space z; load, solar and price bring their own transforms.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecasting.calendars import LocalGrid, day_matrix, is_holiday, local_grid
from forecasting.design import MEMORY_DAYS, DayMatrix, design
from forecasting.slotmodel import (
    SlotModel,
    fit_slot_model,
    intraday_signals,
    join_slot_models,
    predict_z,
    residual_quantiles,
)
from forecasting.types import FloatArray, History, first_start

MEMORY = timedelta(days=MEMORY_DAYS + 1)
MAX_TRAINING_DAYS = 400
FIT_CHUNK_SITES = 64
_WARM_UP_DAYS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Calendar:
    """How instants become local days: one for a whole fleet."""

    zone: str
    """IANA time zone."""
    country: str | None = None
    """Country whose public holidays count as Sundays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Covariates:
    """Series known ahead, on the grid of the history and over the horizon, shape (S or 1, T, G)."""

    guides: FloatArray | None = None
    """See `DayMatrix.guides`."""
    drivers: FloatArray | None = None
    """See `DayMatrix.drivers`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZPaths:
    """A prediction in transformed space."""

    start_at: datetime
    """Start of the first interval."""
    centre: FloatArray
    """Shape (S, T)."""
    residual: FloatArray
    """Residual quantiles at slotmodel.GRID, shape (S, T, len(GRID)); add to `centre`."""


def fit_days(
    z: FloatArray, weight: FloatArray, history: History, calendar: Calendar, extra: Covariates | None = None
) -> SlotModel:
    """Fit a fleet on transformed readings (S, T) of the history's grid; weight 0 is "do not learn".

    Sites are taken in chunks, so that memory stays bounded for a city.
    """
    count = min(len(history), MAX_TRAINING_DAYS * history.steps_per_day)
    skipped = len(history) - count
    grid = local_grid(history.start_at + skipped * history.step, history.step, count, calendar.zone)
    models = []
    for first in range(0, z.shape[0], FIT_CHUNK_SITES):
        chunk = slice(first, first + FIT_CHUNK_SITES)
        matrix, first_day = day_matrix(z[chunk, skipped:], grid)
        weights = np.nan_to_num(day_matrix(weight[chunk, skipped:], grid)[0])
        days = _days(matrix, first_day, calendar, ahead=0)
        if extra is not None:
            days = _with_covariates(days, extra, chunk, skipped, grid)
        targets = np.arange(min(_WARM_UP_DAYS, matrix.shape[1] - 1), matrix.shape[1])
        models.append(
            fit_slot_model(
                design(days, targets), matrix[:, targets], weights[:, targets], step_h=history.step_h
            )
        )
    return join_slot_models(models)


def predict_days(
    model: SlotModel,
    z: FloatArray,
    known: History,
    calendar: Calendar,
    *,
    issued_at: datetime,
    horizon: int,
    extra: Covariates | None = None,
) -> ZPaths:
    """Predict from transformed readings (S, T) of `known`, which holds nothing that ended after `issued_at`.

    `extra` covers the grid of `known` and goes on to the end of the horizon.
    """
    start_at = first_start(known, issued_at)
    n_known = len(known)
    ahead = int((start_at - known.start_at) // known.step)
    grid = local_grid(known.start_at, known.step, ahead + horizon, calendar.zone)
    past = LocalGrid(day=grid.day[:n_known], slot=grid.slot[:n_known], steps_per_day=grid.steps_per_day)
    day, slot = grid.day[ahead:], grid.slot[ahead:]
    matrix, first_day = day_matrix(z, past)
    today, last_day, n = int(day[0]), int(day[-1]), grid.steps_per_day
    if n_known == 0:
        first_day = today
    missing = today - first_day + 1 - matrix.shape[1]
    if missing > 0:
        matrix = np.concatenate([matrix, np.full((z.shape[0], missing, n), np.nan)], axis=1)
    days = _days(matrix, first_day, calendar, ahead=last_day - today)
    if extra is not None:
        days = _with_covariates(days, extra, slice(None), 0, grid)
    centre, corrections = _roll_forward(model, days, int(slot[0]), last_day - today + 1, known.step_h)
    path = centre[:, day - today, slot]
    leads = min(corrections.shape[1], horizon)
    spread = np.ones((z.shape[0], horizon))
    spread[:, :leads] = model.lead_spread_frac[:, :leads]
    residual = residual_quantiles(model, path, slot) * spread[..., None]
    path[:, :leads] += corrections[:, :leads]
    return ZPaths(start_at=start_at, centre=path, residual=residual)


def _roll_forward(
    model: SlotModel, days: DayMatrix, first_slot: int, n_targets: int, step_h: float
) -> tuple[FloatArray, FloatArray]:
    """Predict today (the last day of the matrix) and the days after it in turn.

    Returns centres (S, n_targets, N) and the intraday correction per lead (S, J).
    """
    matrix = days.z
    sites, count, n = matrix.shape
    centre = np.empty((sites, n_targets, n))
    today = count - 1
    targets = np.arange(max(today - 1, 0), today + 1)
    latest = predict_z(model.coefficients, design(days.up_to(matrix[:, :today]), targets))
    errors = (matrix[:, targets] - latest).reshape(sites, -1)
    signals = intraday_signals(errors[:, : errors.shape[1] - n + first_slot], step_h)
    corrections = np.matmul(model.lead_coefficients, signals[..., None])[..., 0]
    centre[:, 0] = latest[:, -1]
    for ahead in range(1, n_targets):
        filled = centre[:, ahead - 1].copy()
        if ahead == 1:
            reach = min(n - first_slot, corrections.shape[1])
            filled[:, first_slot : first_slot + reach] += corrections[:, :reach]
            filled = np.where(np.isfinite(matrix[:, today]), matrix[:, today], filled)
            matrix = matrix[:, :today]
        matrix = np.concatenate([matrix, filled[:, None]], axis=1)
        centre[:, ahead] = predict_z(
            model.coefficients, design(days.up_to(matrix), np.array([today + ahead]))
        )[:, 0]
    return centre, corrections


def _days(matrix: FloatArray, first_day: int, calendar: Calendar, *, ahead: int) -> DayMatrix:
    ordinals = first_day + np.arange(matrix.shape[1] + ahead + 1)
    weekday = np.where(is_holiday(ordinals, calendar.country), 6, (ordinals + 6) % 7)
    return DayMatrix(z=matrix, weekday=weekday, rest=weekday >= 5)


def _with_covariates(
    days: DayMatrix, extra: Covariates, chunk: slice, skipped: int, grid: LocalGrid
) -> DayMatrix:
    def fold(series: FloatArray | None) -> FloatArray | None:
        if series is None:
            return None
        rows = series[chunk] if series.shape[0] > 1 else series
        folded = [day_matrix(rows[:, skipped:, index], grid)[0] for index in range(rows.shape[2])]
        return np.stack(folded, axis=-1)

    return DayMatrix(
        z=days.z,
        weekday=days.weekday,
        rest=days.rest,
        guides=fold(extra.guides),
        drivers=fold(extra.drivers),
    )
