"""Day-ahead features from a matrix of local days, for many sites at once.

Everything about target day d is made from days before d, and is relative to a base profile (an
exponentially weighted mean of the same slot), so that a gap becomes "no deviation known" and not a number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    sites, count, n = z.shape
    every = np.arange(count + 1)
    smooth = _smoothed(z)
    known = np.isfinite(smooth)
    filled = np.where(known, smooth, 0.0)
    weight = known.astype(np.float64)
    base = _ewma(filled, weight, _decay(every, count, 7.0))
    base = _patched(base, z)
    deviation = z - base[:, :count]
    near = _boxed(deviation, half=max(n // 12, 1))
    daily = gap_mean(deviation, axis=2)
    evening = gap_mean(deviation[:, :, n - n // 6 :], axis=2)
    at = base[:, targets]

    recency7 = _decay(targets, count, 7.0)
    same_type = days.rest[targets][:, None] == days.rest[None, :count]
    rest_recency = np.where(days.rest[targets][:, None], _decay(targets, count, 14.0), recency7)
    same_weekday = days.weekday[targets][:, None] == days.weekday[None, :count]
    level28 = _ewma(filled, weight, _decay(targets, count, 28.0))
    columns = [
        _ewma(filled, weight, _decay(targets, count, 3.0)) - at,
        level28 - at,
        _ewma(filled, weight, rest_recency * same_type) - at,
        _ewma(filled, weight, _decay(targets, count, 21.0) * same_weekday) - at,
        *(_lagged(z, targets, lag) - at for lag in (1, 2, 7)),
        *(_lagged(near, targets, lag) for lag in (1, 2, 7)),
        *(_lagged(daily, targets, lag)[..., None] for lag in (1, 2, 7)),
        _lagged(evening, targets, 1)[..., None],
        gap_mean(at - level28, axis=2)[..., None],
    ]
    if days.guides is not None:
        for guide in np.moveaxis(days.guides[:, targets], -1, 0):
            columns += [guide - at, (guide - at) * np.clip(guide, -3.0, 3.0)]
    if days.drivers is not None:
        for driver in np.moveaxis(days.drivers, -1, 0):
            seen = np.isfinite(driver[:, :count])
            recent = _ewma(np.where(seen, driver[:, :count], 0.0), seen * 1.0, recency7)
            columns.append(driver[:, targets] - recent)
    x = np.empty((sites, len(targets), n, len(columns)))
    for index, column in enumerate(columns):
        x[..., index] = column
    return Design(base=at, x=np.where(np.isfinite(x), x, 0.0))


def _decay(targets: IntArray, count: int, tau_days: float) -> FloatArray:
    """Weights of source days 0..count-1 for each target day, 0 for days not before it; (T, D)."""
    age = targets[:, None] - np.arange(count)[None, :]
    return np.where((age >= 1) & (age < MEMORY_DAYS), np.exp(-np.maximum(age, 0) / tau_days), 0.0)


def _ewma(filled: FloatArray, weight: FloatArray, decay: FloatArray) -> FloatArray:
    """Weighted mean over days, (S, T, N); nan where no day has weight."""
    total = np.matmul(decay, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0.0, np.matmul(decay, filled) / total, np.nan)


def _patched(base: FloatArray, z: FloatArray) -> FloatArray:
    """Fill slots of the base never seen with the day's mean of the base, then with the site's mean."""
    if np.isfinite(base).all():
        return base
    base = np.where(np.isfinite(base), base, gap_mean(base, axis=2)[..., None])
    return np.where(np.isfinite(base), base, gap_mean(z, axis=(1, 2))[:, None, None])


def _smoothed(z: FloatArray) -> FloatArray:
    """Weights 1/4, 1/2, 1/4 over neighbouring slots of the same day."""
    known = np.isfinite(z)
    filled = np.where(known, z, 0.0)
    total, weight = 0.5 * filled, 0.5 * known
    total[..., 1:] += 0.25 * filled[..., :-1]
    weight[..., 1:] += 0.25 * known[..., :-1]
    total[..., :-1] += 0.25 * filled[..., 1:]
    weight[..., :-1] += 0.25 * known[..., 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


def _boxed(values: FloatArray, *, half: int) -> FloatArray:
    """Mean over the slots within `half` of each, same day."""
    n = values.shape[-1]
    known = np.isfinite(values)
    lead = [(0, 0)] * (values.ndim - 1)
    total = np.cumsum(np.pad(np.where(known, values, 0.0), [*lead, (1, 0)]), axis=-1)
    count = np.cumsum(np.pad(known.astype(np.float64), [*lead, (1, 0)]), axis=-1)
    low = np.maximum(np.arange(n) - half, 0)
    high = np.minimum(np.arange(n) + half + 1, n)
    seen = count[..., high] - count[..., low]
    return np.where(seen > 0, (total[..., high] - total[..., low]) / np.maximum(seen, 1.0), np.nan)


def _lagged(days: FloatArray, targets: IntArray, lag: int) -> FloatArray:
    """The day `lag` before each target; nan before the first day."""
    source = targets - lag
    picked = days[:, np.maximum(source, 0)]
    if (source >= 0).all():
        return picked
    gone = (source < 0).reshape((1, -1) + (1,) * (days.ndim - 2))
    return np.where(gone, np.nan, picked)
