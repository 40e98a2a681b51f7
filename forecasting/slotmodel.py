"""The engine under load, solar and price: ridge on day features, residual quantiles, intraday correction.

It works on a transformed series z (asinh of load or price, clear-sky index of solar):

    z[day, slot] = base + x . c[block of slot] + e,       e ~ table(slot, level of the prediction)

- `c` by ridge, one common vector per site and small deviations for four blocks of the day;
- the quantiles of `e` are weighted empirical ones: recent days count more, slots close by are borrowed,
  and days with a similar prediction count more (a high forecast errs differently from a low one);
- within the day the last hours' errors move the path, by coefficients learned per lead, and narrow it.

The fitted model is a handful of plain arrays per site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from forecasting.calendars import IntArray
from forecasting.design import Design
from forecasting.quantiles import GRID, weighted_quantiles, widened
from forecasting.types import FloatArray

NODES = 3
"""Levels of the prediction at which residual quantiles are kept."""
BLOCKS = 4
_RIDGE = 0.3
_RIDGE_BLOCK = 1.0
_RESIDUAL_DAYS = 180
_RESIDUAL_TAU_DAYS = 90.0
_NEIGHBOUR_H = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
_VOLATILITY_TAU_DAYS = 10.0
_LIKENESS_FRAC = 0.4
_ERRORS_PER_DAY = 3.0  # neighbouring hours of one day err together; this many count as independent
_INTRADAY_H = 8
_SIGNAL_H = (0.0, 1.0, 3.0, 12.0)  # 0: the last interval alone
_RIDGE_INTRADAY = 0.0003


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotModel:
    """Fitted parameters for S sites."""

    coefficients: FloatArray
    """Ridge coefficients, shape (S, BLOCKS, F)."""
    nodes: FloatArray
    """Predicted levels at which `table` holds, increasing, shape (S, N, NODES)."""
    table: FloatArray
    """Residual quantiles at GRID, shape (S, N, NODES, len(GRID))."""
    lead_coefficients: FloatArray
    """Weights of the recent mean errors (`intraday_signals`) per lead, shape (S, J, K)."""
    lead_spread_frac: FloatArray
    """Spread left after the correction, per lead, in (0, 1], shape (S, J)."""

    def of(self, sites: slice) -> SlotModel:
        """The parameters of some sites."""
        return SlotModel(**{field.name: getattr(self, field.name)[sites] for field in fields(self)})


def fit_slot_model(design: Design, z: FloatArray, weight: FloatArray, *, step_h: float) -> SlotModel:
    """Fit all sites of a batch.

    Parameters
    ----------
    design : features of D days
    z : what happened on those days, shape (S, D, N); nan missing
    weight : importance of each reading, >= 0, shape (S, D, N)
    step_h : length of a slot [h]
    """
    weight = np.where(np.isfinite(z), weight, 0.0)
    target = np.where(np.isfinite(z), z - design.base, 0.0)
    target = np.where(np.isfinite(target), target, 0.0)
    coefficients, predicted = _ridge(design, target, weight)
    residual = np.where(weight > 0, z - predicted, np.nan)
    nodes, table = _residual_table(residual, predicted, weight, step_h)
    lead_coefficients, lead_spread = _fit_intraday(residual, weight, step_h)
    return SlotModel(
        coefficients=coefficients,
        nodes=nodes,
        table=table,
        lead_coefficients=lead_coefficients,
        lead_spread_frac=lead_spread,
    )


def join_slot_models(models: Sequence[SlotModel]) -> SlotModel:
    """Stack fitted fleets along the site axis."""
    if len(models) == 1:
        return models[0]
    names = [field.name for field in fields(SlotModel)]
    return SlotModel(**{name: np.concatenate([getattr(m, name) for m in models]) for name in names})


def predict_z(coefficients: FloatArray, design: Design) -> FloatArray:
    """Centre of the prediction, shape (S, T, N)."""
    by_slot = coefficients[:, block_of_slot(design.x.shape[2])]
    return np.asarray(
        design.base + np.matmul(design.x[..., None, :], by_slot[:, None, :, :, None])[..., 0, 0]
    )


def block_of_slot(n: int) -> IntArray:
    """Which block of the day each of n slots lies in, shape (N,)."""
    return np.arange(n) * BLOCKS // n


def residual_quantiles(model: SlotModel, predicted: FloatArray, slots: IntArray) -> FloatArray:
    """Residual quantiles at GRID for predictions (S, T) in the given slots (T,): shape (S, T, len(GRID))."""
    nodes = model.nodes[:, slots]
    table = model.table[:, slots]
    value = np.clip(predicted, nodes[..., 0], nodes[..., -1])
    upper = np.clip((value[..., None] > nodes).sum(axis=-1), 1, NODES - 1)[..., None]
    low = np.take_along_axis(nodes, upper - 1, axis=-1)
    high = np.take_along_axis(nodes, upper, axis=-1)
    share = np.clip((value[..., None] - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)
    below = np.take_along_axis(table, (upper - 1)[..., None], axis=2)[:, :, 0]
    above = np.take_along_axis(table, upper[..., None], axis=2)[:, :, 0]
    return np.asarray(below + share * (above - below))


def intraday_signals(residual: FloatArray, step_h: float) -> FloatArray:
    """Mean error of the last interval, 1 h, 3 h and 12 h up to the end of (S, T), shape (S, K); 0 where not known.

    K is 3 where an interval is an hour, else 4.
    """
    count = residual.shape[1]
    widths = _widths(step_h)
    signals = np.zeros((residual.shape[0], len(widths)))
    for index, width in enumerate(widths):
        tail = residual[:, max(count - width, 0) :]
        known = np.isfinite(tail)
        total = np.where(known, tail, 0.0).sum(axis=1)
        signals[:, index] = total / np.maximum(known.sum(axis=1), 1)
    return signals


def _widths(step_h: float) -> tuple[int, ...]:
    return tuple(dict.fromkeys(max(round(hours / step_h), 1) for hours in _SIGNAL_H))


def _ridge(design: Design, target: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients per site and block, and what each week would have been told without itself.

    A common vector per site, and deviations of the blocks shrunk towards it. The second value, shape
    (S, D, N), comes from coefficients fitted on all other weeks: its errors are honest ones, where errors
    on the training days would promise too narrow a band.
    """
    sites, days, n, features = design.x.shape
    weeks = _fold_weeks(days)
    gram = np.zeros((sites, len(weeks), BLOCKS, features, features))
    moment = np.zeros((sites, len(weeks), BLOCKS, features, 1))
    for block in range(BLOCKS):
        own = np.flatnonzero(block_of_slot(n) == block)
        inside = slice(own[0], own[-1] + 1)
        for index, week in enumerate(weeks):
            xs = design.x[:, week, inside].reshape(sites, -1, features)
            weighted = np.swapaxes(xs * weight[:, week, inside].reshape(sites, -1, 1), 1, 2)
            gram[:, index, block] = np.matmul(weighted, xs)
            moment[:, index, block] = np.matmul(weighted, target[:, week, inside].reshape(sites, -1, 1))
    whole_gram, whole_moment = gram.sum(axis=1), moment.sum(axis=1)
    coefficients = _solve_blocks(whole_gram, whole_moment)
    predicted = predict_z(coefficients, design)
    if len(weeks) > 1:
        without = _solve_blocks(whole_gram[:, None] - gram, whole_moment[:, None] - moment)
        for index, week in enumerate(weeks):
            part = Design(base=design.base[:, week], x=design.x[:, week])
            predicted[:, week] = predict_z(without[:, index], part)
    return coefficients, predicted


def _fold_weeks(days: int) -> list[slice]:
    """Days in runs of seven; the first run takes the remainder too."""
    first = days % 7 + 7 if days >= 7 else days
    return [slice(0, first), *(slice(day, day + 7) for day in range(first, days, 7))]


def _solve_blocks(gram: FloatArray, moment: FloatArray) -> FloatArray:
    """Ridge from normal equations per block (..., BLOCKS, F, F): coefficients (..., BLOCKS, F)."""
    features = gram.shape[-1]
    eye = np.eye(features)
    whole = gram.sum(axis=-3)
    size = np.trace(whole, axis1=-2, axis2=-1)[..., None, None] / features * eye + 1e-9 * eye
    common = np.linalg.solve(whole + _RIDGE * size, moment.sum(axis=-3))[..., None, :, :]
    rest = moment - np.matmul(gram, common)
    deviation = np.linalg.solve(gram + (_RIDGE_BLOCK / BLOCKS) * size[..., None, :, :], rest)
    return np.asarray((common + deviation)[..., 0])


def _residual_table(
    residual: FloatArray, predicted: FloatArray, weight: FloatArray, step_h: float
) -> tuple[FloatArray, FloatArray]:
    """Weighted residual quantiles per slot and level of the prediction."""
    residual = residual * _to_present_volatility(residual, weight)
    residual = residual[:, -_RESIDUAL_DAYS:]
    predicted = predicted[:, -_RESIDUAL_DAYS:]
    sites, days, n = residual.shape
    offsets = np.unique(np.round(np.array(_NEIGHBOUR_H) / step_h).astype(np.int64))
    recency = np.exp(-np.arange(days, 0, -1) / _RESIDUAL_TAU_DAYS)
    habit = _slot_habit(residual, weight[:, -days:], recency)
    residual = residual - habit[:, None]
    flat = residual.reshape(sites, -1), predicted.reshape(sites, -1), weight[:, -days:].reshape(sites, -1)
    centre = (np.arange(days) * n)[None, :, None] + np.arange(n)[:, None, None] + offsets[None, None, :]
    inside = (centre >= 0) & (centre < days * n)
    index = np.clip(centre, 0, days * n - 1).reshape(n, -1)
    nearness = (np.where(offsets == 0, 1.0, 0.5) * recency[:, None])[None] * inside
    sample, level = flat[0][:, index], flat[1][:, index]
    base_weight = nearness.reshape(n, -1) * np.where(np.isfinite(sample), flat[2][:, index], 0.0)
    own = np.moveaxis(predicted, 1, 2)
    nodes = np.quantile(np.where(np.isfinite(own), own, 0.0), (0.1, 0.5, 0.9), axis=-1)
    nodes = np.moveaxis(nodes, 0, -1)
    spread = np.nanstd(np.where(np.isfinite(flat[1]), flat[1], 0.0), axis=1)[:, None, None]
    bandwidth = np.maximum(_LIKENESS_FRAC * spread, 1e-3)
    order = np.argsort(np.where(np.isfinite(sample), sample, np.inf), axis=-1)
    sample = np.where(np.isfinite(sample), sample, 0.0)
    sample = np.take_along_axis(sample, order, axis=-1)
    level = np.take_along_axis(level, order, axis=-1)
    base_weight = np.take_along_axis(base_weight, order, axis=-1)
    table = np.empty((sites, n, NODES, len(GRID)))
    days_behind = _ERRORS_PER_DAY * np.square(recency.sum()) / np.square(recency).sum()
    for node in range(NODES):
        likeness = np.exp(-0.5 * ((level - nodes[..., node, None]) / bandwidth) ** 2)
        mass = base_weight * (likeness + 1e-3)
        share = mass.sum(axis=-1) / np.maximum(base_weight.sum(axis=-1), 1e-12)
        own_shape = widened(weighted_quantiles(sample, mass), days_behind * share)
        table[:, :, node] = habit[..., None] + own_shape
    return nodes, table


def _slot_habit(residual: FloatArray, weight: FloatArray, recency: FloatArray) -> FloatArray:
    """Mean error of each slot by itself, drawn towards 0 by a week's weight, shape (S, N).

    The base profile and the shape of the errors borrow from neighbouring slots; what starts sharp on the
    hour, a water heater or a tariff timer, must not be smeared over them.
    """
    known = np.isfinite(residual)
    mass = np.where(known, weight, 0.0) * recency[:, None]
    total = (np.where(known, residual, 0.0) * mass).sum(axis=1)
    typical = weight.max(axis=(1, 2), initial=0.0)[:, None]
    return np.asarray(total / np.maximum(mass.sum(axis=1) + 7.0 * typical, 1e-12))


def _to_present_volatility(residual: FloatArray, weight: FloatArray) -> FloatArray:
    """Factor per day that brings its errors to the size they have now, shape (S, D, 1).

    The size is an exponentially weighted mean absolute error of the days before, drawn towards the
    long-run one by two days' weight; a calm month then does not inherit the width of a stormy one.
    """
    known = np.isfinite(residual)
    mass = np.where(known, weight, 0.0)
    size = (np.abs(np.where(known, residual, 0.0)) * mass).sum(axis=2)
    daily_mass = mass.sum(axis=2)
    days = residual.shape[1]
    age = np.arange(days + 1)[:, None] - np.arange(days)[None, :]
    decay = np.where(age >= 1, np.exp(-np.maximum(age, 0) / _VOLATILITY_TAU_DAYS), 0.0)
    prior = 2.0 * daily_mass.mean(axis=1, keepdims=True)
    long_run = size.sum(axis=1, keepdims=True) / np.maximum(daily_mass.sum(axis=1, keepdims=True), 1e-12)
    now = (size @ decay.T + prior * long_run) / np.maximum(daily_mass @ decay.T + prior, 1e-12)
    return np.asarray((now[:, -1:] / np.maximum(now[:, :-1], 1e-9))[..., None])


def _fit_intraday(residual: FloatArray, weight: FloatArray, step_h: float) -> tuple[FloatArray, FloatArray]:
    """Per lead, how much of the recent mean errors to add, and what spread remains."""
    sites, days, n = residual.shape
    leads = max(round(_INTRADAY_H / step_h), 1)
    flat = residual.reshape(sites, -1)
    mass = weight.reshape(sites, -1)
    total = days * n
    known = np.isfinite(flat)
    sums = np.cumsum(np.pad(np.where(known, flat, 0.0), ((0, 0), (1, 0))), axis=1)
    counts = np.cumsum(np.pad(known.astype(np.float64), ((0, 0), (1, 0))), axis=1)
    widths = _widths(step_h)
    # signals[t] uses residuals of the intervals before t
    signals = np.zeros((sites, total, len(widths)))
    for index, width in enumerate(widths):
        first = np.maximum(np.arange(total) - width, 0)
        seen = counts[:, :total] - counts[:, first]
        signals[..., index] = (sums[:, :total] - sums[:, first]) / np.maximum(seen, 1.0)
    coefficients = np.zeros((sites, leads, len(widths)))
    spread = np.ones((sites, leads))
    eye = np.eye(len(widths))
    for lead in range(leads):
        rows = slice(0, total - lead)
        y = flat[:, lead:]
        w = np.where(np.isfinite(y), mass[:, lead:], 0.0)
        y = np.where(np.isfinite(y), y, 0.0)
        weighted = signals[:, rows] * w[..., None]
        gram = np.matmul(np.swapaxes(weighted, 1, 2), signals[:, rows])
        moment = np.matmul(np.swapaxes(weighted, 1, 2), y[..., None])
        size = np.trace(gram, axis1=1, axis2=2)[:, None, None] * eye
        c = np.linalg.solve(gram + _RIDGE_INTRADAY * size + 1e-9 * eye, moment)
        left = np.abs(y - np.matmul(signals[:, rows], c)[..., 0])
        before = (np.abs(y) * w).sum(axis=1)
        after = (left * w).sum(axis=1)
        coefficients[:, lead] = c[..., 0]
        spread[:, lead] = np.where(before > 0, np.clip(after / np.maximum(before, 1e-12), 0.2, 1.0), 1.0)
    return coefficients, spread
