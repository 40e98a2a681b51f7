"""Rolling-origin backtest: what the forecasts would have been, and how good.

Day-ahead forecasts are issued at every local midnight of the test days from what was known then; models
are fitted anew every week on what was known then. All models are scored on the same intervals: those where
the truth and every model's forecast exist.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecasting.baseline import SlotMean
from forecasting.calendars import local_grid
from forecasting.errors import BrokenSeries
from forecasting.metrics import Scores, score
from forecasting.types import (
    DEFAULT_LEVELS,
    BoolArray,
    FloatArray,
    Forecast,
    Forecaster,
    History,
    SiteContext,
    Weather,
)

YARDSTICK = "mean-7d"
"""The model that ratios are taken against."""
_YESTERDAYS = ("yesterday", "last-week")


@dataclass(frozen=True, kw_only=True, slots=True)
class LeadScores:
    """Scores of the intervals that start `from_h` to `to_h` after the instant of issue."""

    from_h: float
    """Start of the bucket [h]."""
    to_h: float
    """End of the bucket [h]."""
    scores: Scores
    """All sites together."""
    mae_ratios: Mapping[str, float]
    """MAE over that of each yardstick on the same intervals, by its name."""
    pinball_ratio: float
    """Pinball loss over that of the 7-day mean's own seven values on the same intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelReport:
    """One model's backtest."""

    name: str
    """The model."""
    overall: Scores
    """Day-ahead, all sites together."""
    per_site: tuple[Scores, ...]
    """Day-ahead, each site."""
    per_lead: tuple[LeadScores, ...]
    """Issued every hour and corrected within the day; empty when not asked for."""
    mae_ratio: float
    """Mean over sites of MAE / that of the 7-day mean, same intervals."""
    pinball_ratio: float
    """Mean over sites of pinball loss / that of the 7-day mean's own seven values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BacktestReport:
    """All models on the same days."""

    first_at: datetime
    """First issue, aware UTC."""
    last_at: datetime
    """Last issue."""
    test_days: int
    """How many issues."""
    levels: tuple[float, ...]
    """Quantile levels scored."""
    models: tuple[ModelReport, ...]
    """The yardsticks first, then the models."""
    last_week: LastWeek
    """Truth and the last model's forecast of the last test week, for the chart."""

    def model(self, name: str) -> ModelReport:
        """One model by name."""
        for report in self.models:
            if report.name == name:
                return report
        raise KeyError(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class LastWeek:
    """What the chart shows: the first site's last test days."""

    start_at: datetime
    """First interval."""
    step: timedelta
    """Interval length."""
    truth: FloatArray
    """Shape (T,)."""
    low: FloatArray
    """Lowest level, shape (T,)."""
    median: FloatArray
    """Shape (T,)."""
    high: FloatArray
    """Highest level, shape (T,)."""


@dataclass(slots=True)
class _Collected:
    """Forecasts of one model laid on the history's grid."""

    quantiles: FloatArray
    mean: FloatArray


def yardsticks(context: SiteContext | Sequence[SiteContext]) -> dict[str, Forecaster]:
    """Yesterday, last week and the 7-day mean."""
    return {
        _YESTERDAYS[0]: SlotMean(context, days=1),
        _YESTERDAYS[1]: SlotMean(context, days=1, offset_days=6),
        YARDSTICK: SlotMean(context, days=7),
    }


def backtest_report(
    history: History,
    models: Mapping[str, Forecaster],
    *,
    context: SiteContext | Sequence[SiteContext],
    test_days: int | None = None,
    warm_up_days: int = 28,
    refit_days: int = 7,
    levels: Sequence[float] = DEFAULT_LEVELS,
    lead_hours: Sequence[float] = (),
    weather: Weather | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BacktestReport:
    """Backtest models beside the yardsticks.

    Parameters
    ----------
    history : truth and past, one or many sites
    models : name to forecaster; the last one is drawn in the chart
    test_days : only the last so many days; None takes every day after the warm-up
    warm_up_days : days of history before the first issue
    refit_days : days between fits
    lead_hours : increasing bucket ends [h]; when given, each model (not the yardsticks) is also issued every
        hour and scored per lead, e.g. (1, 2, 4, 8)
    progress : called with (days done, days in all)
    """
    zone = (context if isinstance(context, SiteContext) else context[0]).time_zone
    issues = _midnights(history, zone, warm_up_days)
    if test_days is not None:
        issues = issues[-test_days:]
    if not issues:
        raise BrokenSeries(
            f"history: {len(history) / history.steps_per_day:.1f} days is too short for a backtest with "
            f"{warm_up_days} days of warm-up"
        )
    everyone = {**yardsticks(context), **models}
    asked = tuple(float(level) for level in levels)
    shape = (history.n_sites, len(asked), len(history))
    collected = {
        name: _Collected(quantiles=np.full(shape, np.nan), mean=np.full((shape[0], shape[2]), np.nan))
        for name in everyone
    }
    buckets = list(zip((0.0, *lead_hours[:-1]), lead_hours, strict=True)) if lead_hours else []
    per_lead = {
        name: [_Collected(np.full(shape, np.nan), np.full((shape[0], shape[2]), np.nan)) for _ in buckets]
        for name in models
    }
    for day, (first, stop) in enumerate(issues):
        issued_at = history.start_at + first * history.step
        for name, forecaster in everyone.items():
            if day % refit_days == 0:
                forecaster.fit(history.until(issued_at), weather=weather)
            recent = history.until(issued_at, last=forecaster.memory)
            made = forecaster.predict(issued_at, stop - first, asked, recent=recent, weather=weather)
            _lay(made, collected[name], first, stop - first)
            if name in per_lead and buckets:
                _roll_hours(forecaster, history, first, stop, asked, buckets, per_lead[name], weather)
        if progress is not None:
            progress(day + 1, len(issues))
    truth = history.usable
    shared: BoolArray = np.isfinite(truth)
    for found in collected.values():
        shared &= np.isfinite(found.mean) & np.isfinite(found.quantiles).all(axis=1)
    return _report(history, truth, shared, collected, per_lead, buckets, asked, issues, list(models))


def _report(
    history: History,
    truth: FloatArray,
    shared: BoolArray,
    collected: Mapping[str, _Collected],
    per_lead: Mapping[str, list[_Collected]],
    buckets: Sequence[tuple[float, float]],
    levels: tuple[float, ...],
    issues: Sequence[tuple[int, int]],
    asked_models: Sequence[str],
) -> BacktestReport:
    per_site = {
        name: tuple(
            score(truth[s], found.quantiles[s], found.mean[s], levels, shared[s])
            for s in range(history.n_sites)
        )
        for name, found in collected.items()
    }
    reference = per_site[YARDSTICK]
    # the 7-day mean is judged by its mean, not by the median of its seven values
    reference_mae = [
        float(np.abs(truth[s] - collected[YARDSTICK].mean[s])[shared[s]].mean())
        if shared[s].any()
        else np.nan
        for s in range(history.n_sites)
    ]
    reports = []
    for name, found in collected.items():
        own = per_site[name]
        leads = tuple(
            _lead(low, high, truth, at, collected, levels, shared & np.isfinite(at.mean))
            for (low, high), at in zip(buckets, per_lead.get(name, []), strict=False)
        )
        maes = [s.mae for s in own] if name != YARDSTICK else reference_mae
        reports.append(
            ModelReport(
                name=name,
                overall=score(truth, found.quantiles, found.mean, levels, shared),
                per_site=own,
                per_lead=leads,
                mae_ratio=_mean_ratio(maes, reference_mae),
                pinball_ratio=_mean_ratio([s.pinball for s in own], [s.pinball for s in reference]),
            )
        )
    first, last = issues[0][0], issues[-1][0]
    begin = issues[max(len(issues) - 7, 0)][0]
    span = slice(begin, issues[-1][1])
    shown = collected[asked_models[-1] if asked_models else YARDSTICK]
    middle = int(np.argmin(np.abs(np.asarray(levels) - 0.5)))
    return BacktestReport(
        first_at=history.start_at + first * history.step,
        last_at=history.start_at + last * history.step,
        test_days=len(issues),
        levels=levels,
        models=tuple(reports),
        last_week=LastWeek(
            start_at=history.start_at + begin * history.step,
            step=history.step,
            truth=truth[0, span],
            low=shown.quantiles[0, 0, span],
            median=shown.quantiles[0, middle, span],
            high=shown.quantiles[0, -1, span],
        ),
    )


def _lead(
    from_h: float,
    to_h: float,
    truth: FloatArray,
    at: _Collected,
    collected: Mapping[str, _Collected],
    levels: tuple[float, ...],
    where: BoolArray,
) -> LeadScores:
    """One bucket beside the yardsticks, which know as much at every lead up to a day."""
    own = score(truth, at.quantiles, at.mean, levels, where)
    ratios = {}
    for name in (*_YESTERDAYS, YARDSTICK):
        mae = float(np.abs(truth - collected[name].mean)[where].mean()) if where.any() else float("nan")
        ratios[name] = own.mae / mae if mae > 0 else float("nan")
    week = score(truth, collected[YARDSTICK].quantiles, collected[YARDSTICK].mean, levels, where)
    return LeadScores(
        from_h=from_h,
        to_h=to_h,
        scores=own,
        mae_ratios=ratios,
        pinball_ratio=own.pinball / week.pinball if week.pinball > 0 else float("nan"),
    )


def _midnights(history: History, zone: str, warm_up_days: int) -> list[tuple[int, int]]:
    """Index of each local midnight after the warm-up and of the next one."""
    grid = local_grid(history.start_at, history.step, len(history) + 1, zone)
    starts = np.flatnonzero(np.diff(grid.day, prepend=grid.day[0] - (grid.slot[0] == 0)) != 0)
    pairs = itertools.pairwise(starts)
    least = warm_up_days * history.steps_per_day
    return [(int(first), int(stop)) for first, stop in pairs if first >= least]


def _lay(made: Forecast, onto: _Collected, first: int, count: int, skip: int = 0) -> None:
    quantiles = made.quantiles if made.is_fleet else made.quantiles[None]
    mean = made.mean if made.is_fleet else made.mean[None]
    onto.quantiles[..., first : first + count] = quantiles[..., skip : skip + count]
    onto.mean[..., first : first + count] = mean[..., skip : skip + count]


def _roll_hours(
    forecaster: Forecaster,
    history: History,
    first: int,
    stop: int,
    levels: tuple[float, ...],
    buckets: Sequence[tuple[float, float]],
    onto: Sequence[_Collected],
    weather: Weather | None,
) -> None:
    """Issue every hour of the day; lay each bucket's intervals."""
    hour = max(round(1.0 / history.step_h), 1)
    reach = round(buckets[-1][1] / history.step_h)
    for at in range(first, stop, hour):
        issued_at = history.start_at + at * history.step
        recent = history.until(issued_at, last=forecaster.memory)
        made = forecaster.predict(issued_at, reach, levels, recent=recent, weather=weather)
        for (low, high), found in zip(buckets, onto, strict=True):
            begin = round(low / history.step_h)
            # of a wide bucket keep its last hour, so that every interval is predicted once
            begin = max(begin, round(high / history.step_h) - hour)
            count = min(round(high / history.step_h) - begin, len(history) - at - begin)
            if count > 0:
                _lay(made, found, at + begin, count, begin)


def _mean_ratio(own: Sequence[float], reference: Sequence[float]) -> float:
    ratios = [a / b for a, b in zip(own, reference, strict=True) if b > 0 and np.isfinite(a)]
    return float(np.mean(ratios)) if ratios else float("nan")
