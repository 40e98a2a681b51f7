"""The best of several models per site, by measured skill, with hysteresis; a broken one falls back, flagged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecasting.calendars import IntArray, local_grid
from forecasting.candidates import Candidate, GridPaths
from forecasting.quantiles import GRID
from forecasting.types import FloatArray, History, Quality, Weather

VALIDATION_DAYS = 14
REVALIDATE_AFTER = timedelta(days=7)
_TAIL = timedelta(days=60)
_MARGIN_FRAC = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which candidate serves each site, and the evidence."""

    chosen: IntArray
    """Index of the candidate, shape (S,)."""
    pinball: FloatArray
    """Mean pinball loss over the validation days, unit of the series, shape (candidates, S); nan unmeasured."""
    known_days: FloatArray
    """Days' worth of usable readings, shape (S,)."""
    measured_at: datetime | None = None
    """Up to when the readings behind `pinball` reached; None: never measured."""


def choose(
    candidates: Sequence[Candidate],
    history: History,
    *,
    zone: str,
    incumbent: Choice | None = None,
    weather: Weather | None = None,
) -> Choice:
    """Fit every candidate and pick one per site.

    Candidates are listed from simplest to best expected. With enough history each is fitted on all but the
    last two weeks, predicts those day by day, and the lowest pinball loss wins; the incumbent keeps its place
    unless beaten by more than 5 %, so that a site does not flap. The contest is held once a week, however
    often models are fitted. With less history the last candidate whose `min_days` are there is taken.
    """
    known = np.isfinite(history.usable).sum(axis=1) / history.steps_per_day
    eligible = np.stack([known >= candidate.min_days for candidate in candidates])
    eligible[0] = True
    pinball = np.full((len(candidates), history.n_sites), np.nan)
    longest = max(candidate.min_days for candidate in candidates)
    measured_at = None
    if incumbent is not None and len(incumbent.chosen) != history.n_sites:
        incumbent = None
    if (
        incumbent is not None
        and incumbent.measured_at is not None
        and timedelta(0) <= history.end_at - incumbent.measured_at < REVALIDATE_AFTER
    ):
        pinball, measured_at = incumbent.pinball, incumbent.measured_at
    elif len(history) // history.steps_per_day >= longest + VALIDATION_DAYS:
        pinball = _validate(candidates, history, zone, weather)
        measured_at = history.end_at
    for index, candidate in enumerate(candidates):
        if not eligible[index].any():
            continue
        try:
            candidate.fit(history, weather=weather)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            if index == 0:
                raise
            eligible[index] = False
    chosen = np.zeros(history.n_sites, dtype=np.int64)
    for index in range(1, len(candidates)):
        chosen = np.where(eligible[index], index, chosen)
    if incumbent is not None:
        usable = np.take_along_axis(eligible, incumbent.chosen[None], axis=0)[0]
        measured = np.isfinite(pinball).all(axis=0)
        chosen = np.where(usable & measured, incumbent.chosen, chosen)
    score = np.where(eligible, np.where(np.isfinite(pinball), pinball, np.inf), np.inf)
    own = np.take_along_axis(score, chosen[None], axis=0)[0]
    best = score.argmin(axis=0)
    better = score.min(axis=0) < (1.0 - _MARGIN_FRAC) * own
    chosen = np.where(better & np.isfinite(own), best, chosen)
    return Choice(chosen=chosen, pinball=pinball, known_days=known, measured_at=measured_at)


def predict_chosen(
    candidates: Sequence[Candidate],
    choice: Choice,
    *,
    issued_at: datetime,
    horizon: int,
    recent: History,
    weather: Weather | None,
) -> tuple[GridPaths, list[str], list[Quality]]:
    """Predict each site with its own candidate; where that gives no numbers the simplest one stands in."""
    chosen = np.broadcast_to(choice.chosen, (recent.n_sites,)).copy()
    found: dict[int, GridPaths] = {}
    for index in np.unique(chosen):
        try:
            found[int(index)] = candidates[index].predict_grid(issued_at, horizon, recent, weather)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            if index == 0:
                raise
    broken = np.array(
        [
            index not in found or not np.isfinite(found[index].values[site]).all()
            for site, index in enumerate(chosen)
        ]
    )
    if (broken & (chosen != 0)).any() and 0 not in found:
        found[0] = candidates[0].predict_grid(issued_at, horizon, recent, weather)
    served = np.where(broken, 0, chosen)
    first = found[int(served[0])]
    values = first.values if (served == served[0]).all() else _gather(found, served)
    qualities = [
        _quality(bool(broken[site] and chosen[site] != 0), float(days), candidates[-1].min_days)
        for site, days in enumerate(np.broadcast_to(choice.known_days, (recent.n_sites,)))
    ]
    names = [candidates[index].name for index in served]
    return GridPaths(start_at=first.start_at, values=values), names, qualities


def _quality(broken: bool, days: float, full_days: float) -> Quality:
    if broken:
        return Quality.FALLBACK
    if days <= 0.0:
        return Quality.COLD
    return Quality.GOOD if days >= full_days else Quality.ESTIMATED


def _gather(found: dict[int, GridPaths], served: IntArray) -> FloatArray:
    return np.stack([found[int(index)].values[site] for site, index in enumerate(served)])


def _validate(
    candidates: Sequence[Candidate], history: History, zone: str, weather: Weather | None
) -> FloatArray:
    """Pinball loss of day-ahead predictions over the last two weeks, issued at local midnight."""
    n = history.steps_per_day
    grid = local_grid(history.start_at, history.step, len(history), zone)
    midnights = np.flatnonzero(np.diff(grid.day) != 0) + 1
    midnights = midnights[midnights + n <= len(history)][-VALIDATION_DAYS:]
    head = history.until(history.start_at + int(midnights[0]) * history.step)
    truth = history.usable
    loss = np.zeros((len(candidates), history.n_sites))
    count = np.zeros((len(candidates), history.n_sites))
    for index, candidate in enumerate(candidates):
        try:
            candidate.fit(head, weather=weather)
            for midnight in midnights:
                issued_at = history.start_at + int(midnight) * history.step
                recent = history.until(issued_at, last=_TAIL)
                paths = candidate.predict_grid(issued_at, n, recent, weather)
                error = truth[:, midnight : midnight + n, None] - paths.values
                each = np.maximum(GRID * error, (GRID - 1.0) * error).mean(axis=2)
                known = np.isfinite(each)
                loss[index] += np.where(known, each, 0.0).sum(axis=1)
                count[index] += known.sum(axis=1)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            count[index] = 0.0
    return np.where(count > 0, loss / np.maximum(count, 1), np.nan)
