"""Geometry and clear sky: what a panel could give if no cloud came, and when it is night.

Sun position and clear-sky irradiance come from pvlib (simplified Solis, which needs no turbidity tables).
A site's clear-sky power is a non-negative mix of a few plane-of-array irradiances, fitted to its own best
hours, so that unknown tilt, azimuth and several roof faces need no questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import pandas as pd
from pvlib import clearsky, irradiance, solarposition
from scipy.optimize import nnls

from forecasting.errors import BrokenSeries
from forecasting.place import place_of
from forecasting.types import BoolArray, FloatArray, SiteContext

_BLOCK_S = 32 * 86_400
_SAMPLES_PER_H = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """Orientation of a collector."""

    tilt_deg: float
    """From horizontal."""
    azimuth_deg: float
    """Clockwise from north."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sky:
    """Clear-sky irradiance per plane on an interval grid."""

    planes_kw_m2: FloatArray
    """Mean plane-of-array irradiance, shape (T, P); exactly 0 while the sun is down."""
    horizontal_kw_m2: FloatArray
    """Mean global horizontal irradiance, shape (T,)."""


def planes_of(context: SiteContext) -> tuple[Plane, ...]:
    """The planes a site's clear-sky power is mixed from: its own if given, else a fan of directions."""
    flat = Plane(tilt_deg=0.0, azimuth_deg=180.0)
    if context.tilt_deg is not None and context.azimuth_deg is not None:
        return (Plane(tilt_deg=context.tilt_deg, azimuth_deg=context.azimuth_deg), flat)
    south = place_of(context)[0] >= 0.0
    towards = (90.0, 135.0, 180.0, 225.0, 270.0) if south else (90.0, 45.0, 0.0, 315.0, 270.0)
    fan = tuple(Plane(tilt_deg=35.0, azimuth_deg=azimuth) for azimuth in towards)
    return (*fan, Plane(tilt_deg=70.0, azimuth_deg=towards[2]), flat)


def clear_sky(context: SiteContext, *, start_at: datetime, step: timedelta, count: int) -> Sky:
    """Clear-sky irradiance at a site over `count` intervals; months are computed once and kept."""
    latitude, longitude = place_of(context)
    planes = planes_of(context)
    step_s = int(step.total_seconds())
    first_s = int(start_at.timestamp())
    parts = [
        _block(round(latitude, 2), round(longitude, 2), planes, step_s, first_s % step_s, block)
        for block in range(first_s // _BLOCK_S, (first_s + max(count - 1, 0) * step_s) // _BLOCK_S + 1)
    ]
    table = parts[0] if len(parts) == 1 else np.concatenate(parts)
    skip = (first_s - first_s // _BLOCK_S * _BLOCK_S) // step_s
    table = table[skip : skip + count]
    return Sky(planes_kw_m2=table[:, :-1], horizontal_kw_m2=table[:, -1])


def lit_intervals(
    contexts: Sequence[SiteContext], start_at: datetime, step: timedelta, count: int
) -> BoolArray:
    """Whether the sun is up at some time of each interval, shape (S, count)."""
    skies = {
        context: clear_sky(context, start_at=start_at, step=step, count=count).horizontal_kw_m2 > 0.0
        for context in dict.fromkeys(contexts)
    }
    return np.stack([skies[context] for context in contexts])


def solar_zone(context: SiteContext) -> str:
    """A zone without clock changes whose days hold one daylight each: the sun keeps no summer time."""
    hours = round(place_of(context)[1] / 15.0)
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"


def fit_mix(power_kw: FloatArray, planes_kw_m2: FloatArray, steps_per_day: int) -> FloatArray:
    """Non-negative weights [kW per kW/m2] that reproduce a site's best hours, shape (P,).

    Best hours: per time of day and fortnight, the second-highest reading (the highest may be a cloud-edge
    spike). Zeros when there is no production to learn from.
    """
    n, window = steps_per_day, 14
    days = len(power_kw) // n
    best: list[int] = []
    for first in range(0, days, window):
        block = power_kw[first * n : min(first + window, days) * n].reshape(-1, n)
        ranked = np.argsort(np.where(np.isfinite(block), block, -1.0), axis=0)
        pick = ranked[max(len(block) - 2, 0)]
        best += list((first + pick) * n + np.arange(n))
    rows = np.asarray(best, dtype=np.int64)
    if len(rows):
        rows = rows[np.isfinite(power_kw[rows]) & (power_kw[rows] > 0)]
    if len(rows) < planes_kw_m2.shape[1]:
        return np.zeros(planes_kw_m2.shape[1])
    weights, _ = nnls(planes_kw_m2[rows], power_kw[rows])
    return np.asarray(weights)


def default_mix(context: SiteContext) -> FloatArray:
    """Weights before any reading: the nameplate at 1 kW/m2, less usual losses, in the given or usual plane."""
    if context.nameplate_kw is None:
        raise BrokenSeries("nameplate_kw: a plant without history needs its rating")
    planes = planes_of(context)
    weights = np.zeros(len(planes))
    weights[0 if len(planes) == 2 else 2] = 0.85 * context.nameplate_kw
    return weights


@lru_cache(maxsize=256)
def _block(
    latitude: float, longitude: float, planes: tuple[Plane, ...], step_s: int, phase_s: int, block: int
) -> FloatArray:
    """One block of the table: planes and, last, global horizontal [kW/m2], shape (intervals, P + 1)."""
    inner = max(math.ceil(step_s / 3600 * _SAMPLES_PER_H), 3)
    count = _BLOCK_S // step_s
    sample_s = step_s / inner
    first = datetime.fromtimestamp(block * _BLOCK_S + phase_s, UTC) + timedelta(seconds=sample_s / 2)
    times = pd.date_range(first, periods=count * inner, freq=pd.Timedelta(seconds=sample_s))
    sun = solarposition.spa_python(times, latitude, longitude)
    zenith = sun["apparent_zenith"].to_numpy()
    azimuth = sun["azimuth"].to_numpy()
    up = zenith < 90.0
    sky = clearsky.simplified_solis(90.0 - zenith)
    dni, ghi, dhi = (np.where(up, np.nan_to_num(sky[key]), 0.0) for key in ("dni", "ghi", "dhi"))
    columns = []
    for plane in planes:
        total = irradiance.get_total_irradiance(
            plane.tilt_deg, plane.azimuth_deg, zenith, azimuth, dni, ghi, dhi
        )["poa_global"]
        columns.append(np.where(up, np.nan_to_num(np.asarray(total)), 0.0))
    columns.append(ghi)
    table = np.stack(columns, axis=1).reshape(count, inner, -1).mean(axis=1) / 1000.0
    table.flags.writeable = False
    return np.asarray(table)
