"""Quantiles of samples with gaps, column-wise, without a Python loop over sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forecasting.types import FloatArray

GRID: FloatArray = np.array([0.025, *np.arange(0.05, 0.96, 0.05), 0.975])
"""Levels at which residual quantiles are kept; any level asked for is read off between them."""
MEDIAN = int(np.argmin(np.abs(GRID - 0.5)))
"""Place of the median in GRID."""


def gap_mean(samples: FloatArray, axis: int | tuple[int, ...]) -> FloatArray:
    """Mean along `axis` over what is known; nan where nothing is."""
    known = np.isfinite(samples)
    count = known.sum(axis=axis)
    total = np.where(known, samples, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def gap_quantiles(samples: FloatArray, levels: Sequence[float] | FloatArray) -> FloatArray:
    """Quantiles along the last axis over what is known, linear between order statistics.

    Parameters
    ----------
    samples : (..., K), nan where missing
    levels : Q levels in [0, 1]

    Returns
    -------
    (..., Q); nan where no sample is known. Same definition as `numpy.nanquantile(method="linear")`,
    about fifty times faster on many short rows.
    """
    ordered = np.sort(samples, axis=-1)
    count = np.isfinite(ordered).sum(axis=-1)[..., None]
    position = np.asarray(levels) * np.maximum(count - 1, 0)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    share = position - low
    below = np.take_along_axis(ordered, low, axis=-1)
    above = np.take_along_axis(ordered, high, axis=-1)
    return np.asarray(below + share * (above - below))


def widened(quantiles: FloatArray, count: FloatArray) -> FloatArray:
    """Quantiles at GRID moved outwards so that they cover as announced though only `count` errors back them.

    The l-quantile of n exchangeable errors covers a new one with probability about (n - 1) / (n + 1) of what
    was asked, seen from the median (split conformal prediction: Vovk, Gammerman, Shafer 2005).

    Parameters
    ----------
    quantiles : (..., len(GRID))
    count : (...,), > 0
    """
    n = np.maximum(count, 3.0)[..., None]
    level = np.clip(0.5 + (GRID - 0.5) * (n + 1.0) / (n - 1.0), GRID[0], GRID[-1])
    upper = np.clip(np.searchsorted(GRID, level.ravel() - 1e-12).reshape(level.shape), 1, len(GRID) - 1)
    share = (level - GRID[upper - 1]) / (GRID[upper] - GRID[upper - 1])
    below = np.take_along_axis(quantiles, upper - 1, axis=-1)
    above = np.take_along_axis(quantiles, upper, axis=-1)
    return np.asarray(below + share * (above - below))


def at_levels(quantiles: FloatArray, held: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Read quantiles at `levels` off quantiles at `held` levels (last axis), linear between them.

    Beyond the outermost held level the outermost quantile stands.
    """
    wanted = np.clip(np.asarray(levels, dtype=np.float64), held[0], held[-1])
    upper = np.clip(np.searchsorted(held, wanted - 1e-12), 1, len(held) - 1)
    share = (wanted - held[upper - 1]) / (held[upper] - held[upper - 1])
    return np.asarray((1.0 - share) * quantiles[..., upper - 1] + share * quantiles[..., upper])


def weighted_quantiles(sample: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted quantiles at GRID, shape (..., len(GRID)).

    Parameters
    ----------
    sample : (..., K), increasing along the last axis; entries without weight come last
    weight : (..., K), >= 0
    """
    total = weight.sum(axis=-1, keepdims=True)
    share = (np.cumsum(weight, axis=-1) - 0.5 * weight) / np.maximum(total, 1e-12)
    last = np.maximum((weight > 0).sum(axis=-1) - 1, 0)
    found = np.empty((*sample.shape[:-1], len(GRID)))
    for index, level in enumerate(GRID):
        high = np.minimum((share < level).sum(axis=-1), last)[..., None]
        low = np.maximum(high - 1, 0)
        s0, s1 = np.take_along_axis(share, low, axis=-1), np.take_along_axis(share, high, axis=-1)
        v0, v1 = np.take_along_axis(sample, low, axis=-1), np.take_along_axis(sample, high, axis=-1)
        part = np.clip((level - s0) / np.maximum(s1 - s0, 1e-12), 0.0, 1.0)
        found[..., index] = (v0 + part * (v1 - v0))[..., 0]
    return found


def levels_of(grid_quantiles: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Quantiles at the asked levels from quantiles at GRID (S, T, len(GRID)), shape (S, Q, T)."""
    return np.swapaxes(at_levels(grid_quantiles, GRID, levels), 1, 2)


def mean_of(grid_quantiles: FloatArray) -> FloatArray:
    """Expected value from quantiles at GRID, shape (S, T): each stands for the levels nearest to it."""
    edges = np.concatenate([[0.0], 0.5 * (GRID[1:] + GRID[:-1]), [1.0]])
    return np.asarray(grid_quantiles @ np.diff(edges))


def stretched(quantiles: FloatArray, factor: FloatArray) -> FloatArray:
    """Quantiles at GRID (S, T, len(GRID)) with their distance from the median scaled per site (S,)."""
    middle = quantiles[..., MEDIAN, None]
    return np.asarray(middle + factor[:, None, None] * (quantiles - middle))
