"""Whether a site has changed its ways: scored forecasts in, an alarm out.

A one-sided CUSUM (Page, Biometrika 41 (1954) 100) on daily losses: each day's pinball loss, relative to the
site's usual one, less an allowance, is added up and never falls below zero. A bad day does not raise the alarm,
a week of worse days does, and the good days after retraining bring it down again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from forecasting.metrics import pinball_loss
from forecasting.quantiles import gap_mean
from forecasting.types import BoolArray, FloatArray, History

REFERENCE_DAYS = 28
_ALLOWANCE = 0.25
_ALARM = 2.0
_CEILING = 3.0
_ALL_CLEAR = 0.5
_LARGEST_DAY = 1.5
_LATELY_DAYS = 14
_OLD_WAYS_WEIGHT = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """State of every site after the last scored day."""

    drifting: BoolArray
    """Whether the alarm stands, shape (S,)."""
    since_day: FloatArray
    """Index of the day the standing alarm was raised, nan without one, shape (S,)."""
    score: FloatArray
    """The sum after each day, shape (S, D); the alarm is raised at 2 and lowered at 0.5."""
    loss_ratio: FloatArray
    """Loss of the last 7 days over the usual one, shape (S,); nan while that is not known."""


def daily_losses(
    truth: FloatArray, quantiles: FloatArray, levels: tuple[float, ...], steps_per_day: int
) -> FloatArray:
    """Relative pinball loss per day of forecasts laid end to end: loss over the mean of truth and forecast.

    Relative, so that a site that draws more is not taken for one that is forecast worse.

    Parameters
    ----------
    truth : (S, T), nan where not known
    quantiles : (S, Q, T)

    Returns
    -------
    (S, T // steps_per_day); nan for a day less than half known
    """
    loss = pinball_loss(truth, quantiles, levels)
    middle = quantiles[:, int(np.argmin(np.abs(np.asarray(levels) - 0.5)))]
    size = 0.5 * (np.abs(truth) + np.abs(middle))
    days = loss.shape[1] // steps_per_day
    shape = (loss.shape[0], days, steps_per_day)
    folded = loss[:, : days * steps_per_day].reshape(shape)
    level = gap_mean(size[:, : days * steps_per_day].reshape(shape), axis=2)
    enough = (np.isfinite(folded).mean(axis=2) >= 0.5) & (level > 0)
    return np.where(enough, gap_mean(folded, axis=2) / np.where(enough, level, 1.0), np.nan)


def assess_drift(losses: FloatArray, *, reference_days: int = REFERENCE_DAYS) -> DriftReport:
    """Run the CUSUM over daily losses (S, D); the usual loss is the median of the first `reference_days`."""
    sites, days = losses.shape
    with np.errstate(all="ignore"):
        usual = np.array([_median(row[:reference_days]) for row in losses])
    score = np.zeros((sites, days))
    drifting = np.zeros(sites, dtype=np.bool_)
    since = np.full(sites, np.nan)
    sum_ = np.zeros(sites)
    for day in range(days):
        excess = losses[:, day] / np.where(usual > 0, usual, np.nan) - 1.0 - _ALLOWANCE
        excess = np.where(np.isfinite(excess), np.minimum(excess, _LARGEST_DAY), 0.0)
        sum_ = np.clip(sum_ + excess, 0.0, _CEILING)
        score[:, day] = sum_
        raised = ~drifting & (sum_ >= _ALARM) & (day >= reference_days)
        lowered = drifting & (sum_ <= _ALL_CLEAR)
        since = np.where(raised, day, np.where(lowered, np.nan, since))
        drifting = (drifting | raised) & ~lowered
        if day == reference_days - 1:
            sum_ = np.zeros(sites)
    recent = gap_mean(losses[:, -7:], axis=1) if days else np.full(sites, np.nan)
    return DriftReport(
        drifting=drifting,
        since_day=since,
        score=score,
        loss_ratio=recent / np.where(usual > 0, usual, np.nan),
    )


def lately(history: History, drifting: BoolArray | None) -> History:
    """The history with all but the last fortnight of the marked sites counting little."""
    if drifting is None or not drifting.any():
        return history
    before = np.zeros(history.columns.shape, dtype=np.bool_)
    before[drifting, : max(len(history) - _LATELY_DAYS * history.steps_per_day, 0)] = True
    trust = np.ones(before.shape) if history.reliability is None else np.atleast_2d(history.reliability)
    trust = np.where(before, _OLD_WAYS_WEIGHT * trust, trust)
    return replace(history, reliability=trust if history.is_fleet else trust[0])


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
