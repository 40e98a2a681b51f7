"""Readings that a healthy meter does not give: frozen values and impossible spikes.

Only what cannot be consumption is taken out. Zeros may be an empty house and stay; a site that is constant by
nature stays too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forecasting.calendars import IntArray, local_grid
from forecasting.quantiles import gap_quantiles
from forecasting.types import BoolArray, FloatArray, History

_FROZEN_H = 24.0
_NATURALLY_CONSTANT_FRAC = 0.3
_SPIKE_FACTOR = 8.0
_SPIKE_LEVEL = 0.995
_MIN_DAYS_FOR_SPIKES = 7
_SURGE_FACTOR = 2.0
_SURGE_LEVEL = 0.98
_TWILIGHT_H = 1.0
_MOONSHINE_FRAC = 0.05
_SILENT_FRAC = 0.003
_KNOWN_LIGHT_FRAC = 0.5
_LIT_SHARE = 0.4
_DAYLIGHT_OVER_FRAC = 0.9


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


def without_sunless(history: History, lit: BoolArray, zone: str) -> History:
    """Solar readings of days on which the meter cannot have measured the sun made missing.

    That is a day with power while the sun was well down (a counter that stood still and is filled in, a wrong clock), or
    one without any power under the sun. A series with less than a week of other days stays as it is: it is all there is.

    Parameters
    ----------
    lit : whether the sun was up at some time of the interval, shape (S, T)
    zone : a zone without clock changes whose days hold one daylight each
    """
    values = history.usable
    n = history.steps_per_day
    if not len(history):
        return history
    grid = local_grid(history.start_at, history.step, len(history), zone)
    day = grid.day - grid.day[0]
    usual = gap_quantiles(np.where(lit & (values > 0), values, np.nan), [_SURGE_LEVEL])
    night = ~(lit | _near(lit, max(round(_TWILIGHT_H / history.step_h), 1)))
    moonshine = night & (values > _MOONSHINE_FRAC * usual)
    shown = _per_day(lit & (values > _SILENT_FRAC * usual), day)
    known = _per_day(lit & np.isfinite(values), day) >= _KNOWN_LIGHT_FRAC * np.maximum(_per_day(lit, day), 1)
    broken = (_per_day(moonshine, day) > 0) | (known & (shown == 0))
    left = (~broken[:, day] & lit & np.isfinite(values)).sum(axis=1) / n
    broken[left < _MIN_DAYS_FOR_SPIKES * _LIT_SHARE] = False
    if not broken.any():
        return history
    masked = np.where(broken[:, day], np.nan, history.columns)
    return replace(history, values=masked if history.is_fleet else masked[0])


def silent_days(history: History, lit: BoolArray, zone: str, top_kw: FloatArray) -> FloatArray:
    """For how many days up to the end of the history a plant gave nothing under the sun, shape (S,).

    The day at hand does not count before sunset, many a roof wakes late; but it ends the count when it gave something.

    Parameters
    ----------
    lit, zone : see `without_sunless`
    top_kw : highest power of each plant [kW], shape (S,)
    """
    values = history.usable
    if not len(history):
        return np.zeros(values.shape[0])
    grid = local_grid(history.start_at, history.step, len(history), zone)
    day = grid.day - grid.day[0]
    shown = _per_day(lit & (values > _SILENT_FRAC * top_kw[:, None]), day) > 0
    seen = _per_day(lit & np.isfinite(values), day) * history.step_h >= 1.0
    # the day at hand is over when about as much of it was lit as of the day before
    light = _per_day(lit, day)
    seen[:, -1] &= light[:, -1] >= _DAYLIGHT_OVER_FRAC * light[:, max(light.shape[1] - 2, 0)]
    count = np.zeros(values.shape[0])
    going = np.ones(values.shape[0], dtype=np.bool_)
    for index in range(shown.shape[1] - 1, -1, -1):
        going &= ~shown[:, index]
        count += going & seen[:, index]
    return count


def _near(marked: BoolArray, reach: int) -> BoolArray:
    """Intervals within `reach` of a marked one."""
    near = marked.copy()
    for shift in range(1, reach + 1):
        near[:, shift:] |= marked[:, :-shift]
        near[:, :-shift] |= marked[:, shift:]
    return near


def _per_day(marked: BoolArray, day: IntArray) -> IntArray:
    """Marked intervals of each day, shape (S, D)."""
    first = np.flatnonzero(np.diff(day, prepend=-1))
    return np.asarray(np.add.reduceat(marked.astype(np.int64), first, axis=1))


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
