"""Day-ahead features from a matrix of local days, for many sites at once.

Everything about target day d is made from days before d, and is relative to a base profile (an
exponentially weighted mean of the same slot), so that a gap becomes "no deviation known" and not a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from forecasting.calendars import IntArray
from forecasting.quantiles import gap_mean
from forecasting.types import BoolArray, FloatArray

MEMORY_DAYS = 57
"""Days of history the features look back on."""

FEATURES: tuple[str, ...] = (
    "ewma3", "ewma28", "ewma_daytype", "ewma_weekday",
    "lag1", "lag2", "lag7", "near1", "near2", "near7",
    "day1", "day2", "day7", "evening1", "level",
)  # fmt: skip
"""Names along the last axis of a design, in order; extra (weather) features follow."""

_LAGS = (1, 2, 7)


@dataclass(frozen=True, kw_only=True, slots=True)
class DayMatrix:
    """Transformed readings of whole local days and what kind of day each is."""

    z: FloatArray
    """Shape (S, D, N); nan is missing."""
    weekday: IntArray
    """Monday 0 .. Sunday 6, a public holiday counts as 6, shape (D + targets ahead,)."""
    rest: BoolArray
    """Saturday, Sunday or holiday, shape as `weekday`."""
    guides: FloatArray | None = None
    """Series that foretell z itself (another service's forecast, an index from irradiance), known for the
    target days too, shape (S or 1, days, N, G); nan where not known."""
    drivers: FloatArray | None = None
    """Series that move z from its usual level (heating and cooling degrees), shape (S or 1, days, N, G)."""

    def up_to(self, z: FloatArray) -> DayMatrix:
        """The same days with other readings."""
        return replace(self, z=z)


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """Features and base profile of some target days."""

    base: FloatArray
    """Base profile, shape (S, T, N); nan only where a site has no reading at all."""
    x: FloatArray
    """Features, shape (S, T, N, F), 0 where not known."""


def design(days: DayMatrix, targets: IntArray) -> Design:
    """Features of the day indices `targets` (each <= D), from earlier days only."""
    z = days.z
    count, n = z.shape[1:]
    sources = targets[:, None] - np.array(_LAGS)
    needed = np.unique(np.concatenate([sources[sources >= 0], targets]))
    rest, weekday = days.rest[:count], days.weekday[:count]
    recency7 = _decay(tuple(targets), count, 7.0)
    slow = np.where(days.rest[targets][:, None], _decay(tuple(targets), count, 14.0), recency7)
    means = _weighted_days(
        z,
        [
            _decay(tuple(needed), count, 7.0),
            _decay(tuple(targets), count, 3.0),
            _decay(tuple(targets), count, 28.0),
            slow * (days.rest[targets][:, None] == rest),
            _decay(tuple(targets), count, 21.0) * (days.weekday[targets][:, None] == weekday),
        ],
    )
    base = _patched(means[0], z)
    at = base[:, np.searchsorted(needed, targets)]
    past = needed[needed < count]
    deviation = z[:, past] - base[:, : len(past)]
    near = _boxed(deviation, half=max(n // 12, 1))
    daily = gap_mean(deviation, axis=2)[..., None]
    evening = gap_mean(deviation[:, :, n - n // 6 :], axis=2)[..., None]
    columns = [
        *(mean - at for mean in means[1:]),
        *(_picked(z[:, past], past, sources[:, lag]) - at for lag in range(3)),
        *(_picked(near, past, sources[:, lag]) for lag in range(3)),
        *(_picked(daily, past, sources[:, lag]) for lag in range(3)),
        _picked(evening, past, sources[:, 0]),
        gap_mean(at - means[2], axis=2)[..., None],
    ]
    if days.guides is not None:
        for guide in np.moveaxis(days.guides[:, targets], -1, 0):
            columns += [guide - at, (guide - at) * np.clip(guide, -3.0, 3.0)]
    if days.drivers is not None:
        for driver in np.moveaxis(days.drivers, -1, 0):
            usual = _weighted_days(driver[:, :count], [recency7])[0]
            columns.append(driver[:, targets] - usual)
    x = np.empty((*at.shape, len(columns)))
    for index, column in enumerate(columns):
        x[..., index] = column
    return Design(base=at, x=np.where(np.isfinite(x), x, 0.0))


@lru_cache(maxsize=256)
def _decay(targets: tuple[int, ...], count: int, tau_days: float) -> FloatArray:
    """Weights of source days 0..count-1 for each target day, 0 for days not before it; (T, D)."""
    age = np.asarray(targets)[:, None] - np.arange(count)[None, :]
    weight = np.where((age >= 1) & (age < MEMORY_DAYS), np.exp(-np.maximum(age, 0) / tau_days), 0.0)
    weight.flags.writeable = False
    return weight


def _weighted_days(z: FloatArray, decays: Sequence[FloatArray]) -> list[FloatArray]:
    """Weighted mean over days, and over neighbouring slots, for each set of decays; (S, T, N) each.

    nan where nothing has weight.
    """
    known = np.isfinite(z)
    stacked = np.concatenate(decays)
    if known.all():
        total = _smoothed(np.matmul(stacked, z))
        mass = _smoothed(np.broadcast_to(stacked.sum(axis=1)[:, None], total.shape))
    else:
        total = _smoothed(np.matmul(stacked, np.where(known, z, 0.0)))
        mass = _smoothed(np.matmul(stacked, known.astype(np.float64)))
    mean = np.where(mass > 0.0, total / np.where(mass > 0.0, mass, 1.0), np.nan)
    return np.split(mean, np.cumsum([len(decay) for decay in decays])[:-1], axis=1)


def _patched(base: FloatArray, z: FloatArray) -> FloatArray:
    """Fill slots of the base never seen with the day's mean of the base, then with the site's mean."""
    if np.isfinite(base).all():
        return base
    base = np.where(np.isfinite(base), base, gap_mean(base, axis=2)[..., None])
    return np.where(np.isfinite(base), base, gap_mean(z, axis=(1, 2))[:, None, None])


def _smoothed(rows: FloatArray) -> FloatArray:
    """Weights 1/4, 1/2, 1/4 over neighbouring slots of the same day."""
    total = 0.5 * rows
    total[..., 1:] += 0.25 * rows[..., :-1]
    total[..., :-1] += 0.25 * rows[..., 1:]
    return total


def _boxed(values: FloatArray, *, half: int) -> FloatArray:
    """Mean over the slots within `half` of each, same day."""
    n = values.shape[-1]
    known = np.isfinite(values)
    total, count = (np.zeros((*values.shape[:-1], n + 1)) for _ in range(2))
    np.cumsum(np.where(known, values, 0.0), axis=-1, out=total[..., 1:])
    np.cumsum(known, axis=-1, out=count[..., 1:])
    low = np.maximum(np.arange(n) - half, 0)
    high = np.minimum(np.arange(n) + half + 1, n)
    seen = count[..., high] - count[..., low]
    return np.where(seen > 0, (total[..., high] - total[..., low]) / np.maximum(seen, 1.0), np.nan)


def _picked(values: FloatArray, held: IntArray, wanted: IntArray) -> FloatArray:
    """The days `wanted` of values whose axis 1 holds the days `held`; nan where not held."""
    place = np.searchsorted(held, wanted)
    inside = (wanted >= 0) & (place < len(held))
    if inside.all():
        return values[:, place]
    if not len(held):
        return np.full((values.shape[0], len(wanted), values.shape[2]), np.nan)
    picked = values[:, np.where(inside, place, 0)]
    picked[:, ~inside] = np.nan
    return picked
