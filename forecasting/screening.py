"""Readings that a healthy meter does not give: frozen values and impossible spikes.

Only what cannot be consumption is taken out. Zeros may be an empty house and stay; a site that is constant by
nature stays too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forecasting.quantiles import gap_quantiles
from forecasting.types import BoolArray, FloatArray, History

_FROZEN_H = 24.0
_NATURALLY_CONSTANT_FRAC = 0.3
_SPIKE_FACTOR = 8.0
_SPIKE_LEVEL = 0.995
_MIN_DAYS_FOR_SPIKES = 7
_SURGE_FACTOR = 2.0
_SURGE_LEVEL = 0.98


def screened(history: History, *, for_spikes: bool = True) -> History:
    """The history with frozen and (unless told otherwise) impossible readings missing.

    The same object if there are none.
    """
    values = history.usable
    suspect = frozen(values, max(round(_FROZEN_H / history.step_h), 2))
    if for_spikes and len(history) >= _MIN_DAYS_FOR_SPIKES * history.steps_per_day:
        suspect |= spikes(values)
    if not suspect.any():
        return history
    masked = np.where(suspect, np.nan, history.columns)
    return replace(history, values=masked if history.is_fleet else masked[0])


def without_surges(history: History) -> History:
    """Solar readings above twice all but one in fifty of the lit ones made missing: counters that caught up."""
    values = history.usable
    if len(history) < _MIN_DAYS_FOR_SPIKES * history.steps_per_day:
        return history
    lit = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    usual = gap_quantiles(lit, [_SURGE_LEVEL])
    surges = np.isfinite(values) & (values > _SURGE_FACTOR * usual)
    if not surges.any():
        return history
    masked = np.where(surges, np.nan, history.columns)
    return replace(history, values=masked if history.is_fleet else masked[0])


def frozen(values: FloatArray, least: int) -> BoolArray:
    """Runs of at least `least` identical non-zero readings, shape (S, T); none on a site that is mostly so."""
    found = np.zeros(values.shape, dtype=np.bool_)
    same = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] != 0.0)
    for site in np.flatnonzero(same.sum(axis=1) >= least - 1):
        padded = np.concatenate([[False], same[site], [False]])
        begin, end = np.flatnonzero(padded[1:] & ~padded[:-1]), np.flatnonzero(padded[:-1] & ~padded[1:])
        for first, last in zip(begin, end, strict=True):
            if last - first + 1 >= least:
                found[site, first : last + 1] = True
    known = np.maximum(np.isfinite(values).sum(axis=1), 1)
    found[found.sum(axis=1) > _NATURALLY_CONSTANT_FRAC * known] = False
    return found


def spikes(values: FloatArray) -> BoolArray:
    """Readings more than 8 times as large as all but one in two hundred, shape (S, T)."""
    size = np.abs(values)
    known = np.isfinite(size)
    count = known.sum(axis=1)
    ordered = np.sort(np.where(known, size, np.inf), axis=1)
    place = np.clip((_SPIKE_LEVEL * (count - 1)).astype(np.int64), 0, values.shape[1] - 1)
    usual = np.take_along_axis(ordered, place[:, None], axis=1)
    return known & (size > _SPIKE_FACTOR * usual) & (usual > 0)
