"""How wrong forecasts were: absolute, squared, signed, pinball, coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.types import BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Scores over a set of intervals; unit is that of the series unless said otherwise."""

    intervals: int
    """How many intervals were scored."""
    mean_level: float
    """Mean of the truth over them."""
    mae: float
    """Mean absolute error of the median."""
    nmae_frac: float
    """mae / mean_level."""
    rmse: float
    """Root mean squared error of the mean path."""
    bias: float
    """Mean of (mean path - truth); positive: forecast too high."""
    pinball: float
    """Mean pinball loss over the levels."""
    coverage_frac: float
    """Share of truths inside the outermost levels, among intervals with a band of any width (not the night)."""


def pinball_loss(truth: FloatArray, quantiles: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Mean over levels of max(l (y - q), (l - 1) (y - q)).

    Parameters
    ----------
    truth : (..., T)
    quantiles : (..., Q, T)

    Returns
    -------
    (..., T), unit of the truth
    """
    level = np.asarray(levels)[:, None]
    error = truth[..., None, :] - quantiles
    return np.asarray(np.maximum(level * error, (level - 1.0) * error).mean(axis=-2))


def score(
    truth: FloatArray, quantiles: FloatArray, mean: FloatArray, levels: tuple[float, ...], where: BoolArray
) -> Scores:
    """Scores over the intervals marked in `where`.

    Parameters
    ----------
    truth, mean, where : (..., T); `where` is boolean
    quantiles : (..., Q, T)
    """
    count = int(where.sum())
    if count == 0:
        nan = float("nan")
        return Scores(
            intervals=0, mean_level=nan, mae=nan, nmae_frac=nan, rmse=nan, bias=nan, pinball=nan,
            coverage_frac=nan,
        )  # fmt: skip
    middle = quantiles[..., int(np.argmin(np.abs(np.asarray(levels) - 0.5))), :]
    y, path = truth[where], mean[where]
    low, high = quantiles[..., 0, :][where], quantiles[..., -1, :][where]
    banded = high > low
    inside = (y >= low) & (y <= high)
    mae, level = float(np.abs(y - middle[where]).mean()), float(y.mean())
    return Scores(
        intervals=count,
        mean_level=level,
        mae=mae,
        nmae_frac=mae / level if level else float("nan"),
        rmse=float(np.sqrt(np.square(path - y).mean())),
        bias=float((path - y).mean()),
        pinball=float(pinball_loss(truth, quantiles, levels)[where].mean()),
        coverage_frac=float(inside[banded].mean()) if banded.any() else float("nan"),
    )
