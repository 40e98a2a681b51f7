"""Hindsight on forecasts: every one the service made, held against what was measured, day by day.

A local day of a site is scored once it is over. Each interval of it was forecast many times, by every cycle of the two
days before; each of these forecasts counts, in the bucket of its lead. What comes of it is kept as sums in the store, from
where operators see skill and coverage, and from where drift shows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from ems.clock import day_edges, grid_epochs, local_day
from ems.codec import FloatArray, IntArray
from ems.feedback import Edge
from ems.site import Site
from ems.store import DayLoss, ForecastScore, LoadPvHistory, ScoredDay, Store, StoredForecast
from forecasting import History, SiteContext, SlotMean, assess_drift, pinball_loss

LEADS_H = (1, 2, 4, 8, 24, 48)
"""Ends of the lead buckets [h]; an interval belongs to the first that is above the hours from issue to its start."""
DAY_AHEAD_H = 24
"""The bucket whose losses tell of drift [h]."""
LEVELS = (0.1, 0.5, 0.9)
GOOD = 3
"""Code of a measured interval that a forecast may be judged by; what was filled in judges nothing."""
SETTLED_AFTER = timedelta(hours=1)
"""How long after its end the intervals of a day may still come in."""
REACH_BACK_DAYS = 5
"""Days that are caught up on after a stand-still; issued forecasts are kept for seven."""
NAIVE_DAYS = 7
SITES_AT_ONCE = 100
DRIFT_WINDOW_DAYS = 56
"""Days an alarm looks back on; the first 28 of them say what is usual, so that new ways become usual in time."""
DRIFT_AFTER_DAYS = 35
"""Scored days before which nothing is called drift."""
SERIES = ("load", "pv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Series that are forecast worse than they used to be."""

    standing: frozenset[tuple[str, str]]
    """(Site id, series) whose alarm stands."""
    edges: tuple[Edge, ...]
    """Alarms raised or lowered by the latest scored day."""


class Scorer:
    """Scores what has ended; remembers how far it came, so that a day without truth is not tried for ever."""

    def __init__(self, sites: Sequence[Site], store: Store, *, step_s: int) -> None:
        self._store = store
        self._step_s = step_s
        self._zones: dict[str, list[Site]] = {}
        for site in sites:
            self._zones.setdefault(site.time_zone, []).append(site)
        self._done: dict[str, datetime] = {}

    def score_ended(self, now: datetime, *, stop: Callable[[], bool] = lambda: False) -> int:
        """Score every local day that is over; return how many site-days were. Blocks; `stop` ends it between sites."""
        scored = 0
        for zone, sites in self._zones.items():
            today = local_day(now - SETTLED_AFTER, zone)
            for back in range(REACH_BACK_DAYS, 0, -1):
                start, end = day_edges(today - timedelta(days=back), zone)
                for first in range(0, len(sites), SITES_AT_ONCE):
                    part = sites[first : first + SITES_AT_ONCE]
                    due = self._due(part, start)
                    if due:
                        scored += self._score_day(due, start, end, stop)
                    if stop():
                        return scored
        return scored

    def _due(self, sites: Sequence[Site], start: datetime) -> list[Site]:
        """Leave out sites whose day is on record already, by this process or the one before."""
        unknown = [site.id for site in sites if site.id not in self._done]
        for site_id, day_at in self._store.last_scored(unknown).items():
            self._done[site_id] = day_at
        return [site for site in sites if site.id not in self._done or self._done[site.id] < start]

    def _score_day(
        self, sites: Sequence[Site], start: datetime, end: datetime, stop: Callable[[], bool]
    ) -> int:
        truth = self._store.load_pv_history(
            [site.id for site in sites],
            start - timedelta(days=NAIVE_DAYS + 2),
            end,
            self._step_s,
        )
        naive = NaivePaths.of(truth, sites, start, end)
        scored = 0
        for row, site in enumerate(sites):
            if stop():
                return scored
            names = ["load", *(f"pv.{pv.name}" for pv in site.pvs)]
            issued = self._store.forecasts_issued(site.id, names, start - timedelta(hours=LEADS_H[-1]), end)
            days = tuple(
                score_day(site.id, issued, naive.truth(truth, row), naive.row(row), start, end, self._step_s)
            )
            if days:
                self._store.save_scores(days)
                scored += 1
            self._done[site.id] = start
        return scored


@dataclass(frozen=True, kw_only=True, slots=True)
class NaivePaths:
    """The 7-day mean for one local day, as it was known the day before and the day before that."""

    count: int
    """Intervals of the day, n."""
    mean: Mapping[str, FloatArray]
    """By series, shape (2, S, n): known less than 24 h and less than 48 h ahead."""
    quantiles: Mapping[str, FloatArray]
    """By series, shape (2, S, 3, n)."""

    @classmethod
    def of(cls, past: LoadPvHistory, sites: Sequence[Site], start: datetime, end: datetime) -> "NaivePaths":
        """Make it for sites of one time zone from the days before `start`."""
        step = timedelta(seconds=past.step_s)
        count = int((end - start) / step)
        context = SiteContext(time_zone=sites[0].time_zone)
        before = day_edges(local_day(start - timedelta(hours=1), sites[0].time_zone), sites[0].time_zone)[0]
        mean, quantiles = {}, {}
        for name, values in (("load", past.load_kw), ("pv", past.pv_kw)):
            known = np.where(past.quality >= GOOD, values, np.nan)
            history = History(start_at=past.start_at, step=step, values=known)
            means, bands = [], []
            for issued_at in (start, before):
                forecast = SlotMean(context, days=NAIVE_DAYS).predict(
                    issued_at, int((end - issued_at) / step), LEVELS, recent=history.until(issued_at)
                )
                means.append(forecast.mean[:, -count:])
                bands.append(forecast.quantiles[..., -count:])
            mean[name], quantiles[name] = np.stack(means), np.stack(bands)
        return cls(count=count, mean=mean, quantiles=quantiles)

    def row(self, row: int) -> Mapping[str, tuple[FloatArray, FloatArray]]:
        """Return mean (2, n) and quantiles (2, 3, n) of one site, by series."""
        return {name: (self.mean[name][:, row], self.quantiles[name][:, row]) for name in self.mean}

    def truth(self, past: LoadPvHistory, row: int) -> Mapping[str, FloatArray]:
        """Return what was measured of one site on the day, by series, shape (n,); nan where it judges nothing."""
        good = past.quality[row, -self.count :] >= GOOD
        sunny = good & (past.curtailed[row, -self.count :] == 0)
        return {
            "load": np.where(good, past.load_kw[row, -self.count :], np.nan),
            "pv": np.where(sunny, past.pv_kw[row, -self.count :], np.nan),
        }


def score_day(
    site_id: str,
    issued: Sequence[StoredForecast],
    truth: Mapping[str, FloatArray],
    naive: Mapping[str, tuple[FloatArray, FloatArray]],
    start: datetime,
    end: datetime,
    step_s: int,
) -> Iterator[ScoredDay]:
    """Hold the forecasts of one site against one local day [start, end), by series, lead and model.

    Parameters
    ----------
    issued
        Every forecast that may reach into the day.
    truth
        What was measured, by series, shape (n,); nan is not known.
    naive
        The 7-day mean and its quantiles by series, shapes (2, n) and (2, 3, n), see `NaivePaths`.
    """
    starts_s = grid_epochs(start, int((end - start).total_seconds()) // step_s, step_s)
    for series in SERIES:
        if not np.isfinite(truth[series]).any():
            continue
        by_source: dict[str, list[_Laid]] = {}
        for laid in _together(issued, series, step_s):
            by_source.setdefault(laid.source, []).append(laid)
        for source, own in sorted(by_source.items()):
            for score in _scores(series, source, own, starts_s, truth[series], *naive[series]):
                yield ScoredDay(site_id=site_id, day_at=start, score=score)


def drift_of(losses: Sequence[DayLoss]) -> Drift:
    """Tell which series are forecast worse than they used to be, and what the latest scored day changed in that."""
    by_series: dict[tuple[str, str], list[DayLoss]] = {}
    for day in losses:
        by_series.setdefault((day.site_id, day.series), []).append(day)
    standing, edges = set(), []
    for key, days in sorted(by_series.items()):
        latest = days[-1].day_at
        now, before = _alarmed(days), _alarmed(days[:-1])
        if now:
            standing.add(key)
        if now != before:
            edges.append(
                Edge(
                    at=latest + timedelta(days=1),
                    site_id=key[0],
                    subject=f"forecast.{key[1]}",
                    became="drifting" if now else "usual",
                    cause=(
                        "forecasts have become worse than they used to be; a simpler model stands in"
                        if now
                        else "forecasts are as good as usual again"
                    ),
                )
            )
    return Drift(standing=frozenset(standing), edges=tuple(edges))


def _alarmed(days: Sequence[DayLoss]) -> bool:
    """Tell whether the alarm stands after the last of some days, which are in order; a day without truth is no day."""
    since = days[-1].day_at - timedelta(days=DRIFT_WINDOW_DAYS) if days else None
    losses = np.array([day.loss for day in days if since is not None and day.day_at > since])
    if len(losses) < DRIFT_AFTER_DAYS:
        return False
    return bool(assess_drift(losses[None]).drifting[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Laid:
    """One issue of one series."""

    issued_s: int
    start_s: int
    source: str
    paths: FloatArray
    """Expected path and quantiles at LEVELS, shape (4, T)."""


def _together(issued: Sequence[StoredForecast], series: str, step_s: int) -> Iterator[_Laid]:
    """Yield one path set per issue; the roofs of a site add up as they were split."""
    by_issue: dict[datetime, list[StoredForecast]] = {}
    for forecast in issued:
        if forecast.series.partition(".")[0] == series and forecast.step_s == step_s:
            by_issue.setdefault(forecast.issued_at, []).append(forecast)
    for issued_at, parts in by_issue.items():
        paths = [
            np.stack([part.mean, part.low, part.mean if part.median is None else part.median, part.high])
            for part in parts
            if part.low is not None and part.high is not None
        ]
        if paths:
            yield _Laid(
                issued_s=int(issued_at.timestamp()),
                start_s=int(parts[0].starts_s[0]),
                source=parts[0].source,
                paths=np.sum(paths, axis=0),
            )


def _scores(
    series: str,
    source: str,
    own: Sequence[_Laid],
    starts_s: IntArray,
    truth: FloatArray,
    naive_mean: FloatArray,
    naive_quantiles: FloatArray,
) -> Iterator[ForecastScore]:
    """Score the issues of one model, lead by lead."""
    step_s = int(starts_s[1] - starts_s[0])
    laid = np.full((len(own), 4, len(starts_s)), np.nan)
    lead_h = np.empty((len(own), len(starts_s)))
    for index, issue in enumerate(own):
        place = (starts_s - issue.start_s) // step_s
        inside = (place >= 0) & (place < issue.paths.shape[1])
        laid[index][:, inside] = issue.paths[:, place[inside]]
        lead_h[index] = (starts_s - issue.issued_s) / 3600.0
    known = np.isfinite(laid).all(axis=1) & np.isfinite(truth) & (lead_h >= 0)
    bucket = np.searchsorted(LEADS_H, lead_h, side="right")
    path, quantiles = laid[:, 0], laid[:, 1:]
    error = path - truth
    abs_error = np.abs(quantiles[:, 1] - truth)
    pinball = pinball_loss(np.broadcast_to(truth, path.shape), quantiles, LEVELS)
    banded = quantiles[:, 2] > quantiles[:, 0]
    covered = (truth >= quantiles[:, 0]) & (truth <= quantiles[:, 2])
    for which_lead, end_h in enumerate(LEADS_H):
        here = known & (bucket == which_lead)
        if not here.any():
            continue
        which = 0 if end_h <= DAY_AHEAD_H else 1
        naive_abs = np.broadcast_to(np.abs(naive_mean[which] - truth), path.shape)
        naive_pinball = np.broadcast_to(pinball_loss(truth, naive_quantiles[which], LEVELS), path.shape)
        both = here & np.isfinite(naive_abs) & np.isfinite(naive_pinball)
        yield ForecastScore(
            series=series,
            source=source,
            lead_h=end_h,
            scored=int(here.sum()),
            truth_kw=_sum(np.broadcast_to(truth, path.shape), here),
            size_kw=_sum(0.5 * (np.abs(quantiles[:, 1]) + np.abs(truth)), here),
            error_kw=_sum(error, here),
            abs_error_kw=_sum(abs_error, here),
            squared_error_kw2=_sum(np.square(error), here),
            pinball_kw=_sum(pinball, here),
            banded=int((here & banded).sum()),
            inside=int((here & banded & covered).sum()),
            compared=int(both.sum()),
            compared_abs_error_kw=_sum(abs_error, both),
            naive_abs_error_kw=_sum(naive_abs, both),
            compared_pinball_kw=_sum(pinball, both),
            naive_pinball_kw=_sum(naive_pinball, both),
        )


def _sum(values: FloatArray, where: NDArray[np.bool_]) -> float:
    return float(values[where].sum())
