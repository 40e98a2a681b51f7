"""The best of several models per site, by measured skill, with hysteresis; a broken one falls back, flagged.

The contest also measures how often the truth fell outside the 80 % band, and the bands are
stretched or drawn in by that, per site: residuals know the past, the contest knows how the next days went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecasting.calendars import IntArray, local_grid
from forecasting.candidates import Candidate, GridPaths
from forecasting.quantiles import GRID, stretched
from forecasting.types import BoolArray, FloatArray, History, Quality, Weather

VALIDATION_DAYS = 14
MAX_ROUNDS = 2
REVALIDATE_AFTER = timedelta(days=7)
_TAIL = timedelta(days=60)
_MARGIN_FRAC = 0.05
_INERTIA_FRAC = 0.03
_OUTER = (int(np.argmin(np.abs(GRID - 0.1))), int(np.argmin(np.abs(GRID - 0.9))))
_MISS = 0.2
_RIM_FRAC = 0.01
_MISS_PER_LOG_WIDTH = 0.3
_DAMPING = 0.75
_WIDEST, _NARROWEST = 1.5, 0.85
_NEW_EVIDENCE_FRAC = 0.6


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
    missed_frac: FloatArray | None = None
    """Share of truths outside the 0.1 to 0.9 band, shape (candidates, S); None unmeasured."""
    drifting: BoolArray | None = None
    """Sites that have changed their ways, served by the simplest candidate and flagged, shape (S,); None: none."""

    @property
    def stretch(self) -> FloatArray:
        """Factor on the distance from the median that would have covered as announced, damped, shape (S,)."""
        if self.missed_frac is None:
            return np.ones(len(self.chosen))
        own = np.take_along_axis(self.missed_frac, self.chosen[None], axis=0)[0]
        factor = np.exp(_DAMPING * (own - _MISS) / _MISS_PER_LOG_WIDTH)
        return np.where(np.isfinite(factor), np.clip(factor, _NARROWEST, _WIDEST), 1.0)


def choose(
    candidates: Sequence[Candidate],
    history: History,
    *,
    zone: str,
    incumbent: Choice | None = None,
    weather: Weather | None = None,
    drifting: BoolArray | None = None,
) -> Choice:
    """Fit every candidate and pick one per site.

    Candidates are listed from simplest to best expected. With enough history each is fitted on all but the
    last weeks and predicts those day by day. The lowest pinball loss wins, where a simpler model than the
    last one eligible has to be 5 % better (the contest is day-ahead, the better models also correct within
    the day) and the incumbent has 3 % in hand, so that a site does not flap. The contest is held once a
    week, however often models are fitted. With less history the last candidate whose `min_days` are there is
    taken. A `drifting` site is not put to the contest: what won there was measured on its old ways.
    """
    known = np.isfinite(history.usable).sum(axis=1) / history.steps_per_day
    eligible = np.stack([known >= candidate.min_days for candidate in candidates])
    eligible[0] = True
    pinball = np.full((len(candidates), history.n_sites), np.nan)
    longest = max(candidate.min_days for candidate in candidates)
    measured_at = None
    missed = None
    if incumbent is not None and len(incumbent.chosen) != history.n_sites:
        incumbent = None
    if (
        incumbent is not None
        and incumbent.measured_at is not None
        and timedelta(0) <= history.end_at - incumbent.measured_at < REVALIDATE_AFTER
    ):
        pinball, measured_at = incumbent.pinball, incumbent.measured_at
        missed = incumbent.missed_frac
    elif len(history) // history.steps_per_day >= longest + VALIDATION_DAYS:
        pinball, missed = _validate(candidates, history, zone, weather)
        measured_at = history.end_at
        before = None if incumbent is None else incumbent.missed_frac
        if before is not None and before.shape == missed.shape:
            blend = _NEW_EVIDENCE_FRAC * missed + (1.0 - _NEW_EVIDENCE_FRAC) * before
            missed = np.where(np.isfinite(blend), blend, missed)
    for index, candidate in enumerate(candidates):
        if not eligible[index].any():
            continue
        try:
            candidate.fit(history, weather=weather)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            if index == 0:
                raise
            eligible[index] = False
    rank = np.where(eligible, np.arange(len(candidates))[:, None], -1)
    preferred = rank.max(axis=0)
    score = np.where(eligible & np.isfinite(pinball), pinball, np.inf)
    score = score * np.where(rank < preferred, 1.0 + _MARGIN_FRAC, 1.0)
    if incumbent is not None:
        place = np.arange(history.n_sites)
        score[incumbent.chosen, place] *= 1.0 - _INERTIA_FRAC
    measured = np.isfinite(score).any(axis=0)
    chosen = np.where(measured, score.argmin(axis=0), preferred)
    if drifting is not None:
        chosen = np.where(drifting, 0, chosen)
    return Choice(
        chosen=chosen,
        pinball=pinball,
        known_days=known,
        measured_at=measured_at,
        missed_frac=missed,
        drifting=drifting,
    )


def predict_chosen(
    candidates: Sequence[Candidate],
    choice: Choice,
    *,
    issued_at: datetime,
    horizon: int,
    recent: History,
    weather: Weather | None,
    bounds: tuple[FloatArray, FloatArray],
) -> tuple[GridPaths, list[str], list[Quality]]:
    """Predict each site with its own candidate; where that gives no numbers the simplest one stands in.

    `bounds` are the lowest and highest value each site can have, shape (S,) each.
    """
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
    values = stretched(values, choice.stretch)
    values = np.clip(values, bounds[0][:, None, None], bounds[1][:, None, None])
    stands_in = broken & (chosen != 0)
    if choice.drifting is not None:
        stands_in = stands_in | choice.drifting
    qualities = [
        _quality(bool(stands_in[site]), float(days), candidates[-1].min_days)
        for site, days in enumerate(np.broadcast_to(choice.known_days, (recent.n_sites,)))
    ]
    names = [candidates[index].name for index in served]
    return GridPaths(start_at=first.start_at, values=values), names, qualities


def _quality(stands_in: bool, days: float, full_days: float) -> Quality:
    if stands_in:
        return Quality.FALLBACK
    if days <= 0.0:
        return Quality.COLD
    return Quality.GOOD if days >= full_days else Quality.ESTIMATED


def _gather(found: dict[int, GridPaths], served: IntArray) -> FloatArray:
    return np.stack([found[int(index)].values[site] for site, index in enumerate(served)])


def _validate(
    candidates: Sequence[Candidate], history: History, zone: str, weather: Weather | None
) -> tuple[FloatArray, FloatArray]:
    """Day-ahead predictions over the last weeks, issued at local midnight: pinball loss and misses.

    One round of two weeks, or two rounds (each with its own fit) where the history is long enough.
    """
    n = history.steps_per_day
    grid = local_grid(history.start_at, history.step, len(history), zone)
    midnights = np.flatnonzero(np.diff(grid.day) != 0) + 1
    midnights = midnights[midnights + n <= len(history)]
    least = max(candidate.min_days for candidate in candidates)
    rounds = min(MAX_ROUNDS, max(int((len(history) / n - least) // VALIDATION_DAYS), 1))
    truth = history.usable
    shape = (len(candidates), history.n_sites)
    loss, count, banded, outside, on_edge = (np.zeros(shape) for _ in range(5))
    for issues in np.array_split(midnights[-rounds * VALIDATION_DAYS :], rounds):
        head = history.until(history.start_at + int(issues[0]) * history.step)
        for index, candidate in enumerate(candidates):
            try:
                candidate.fit(head, weather=weather)
                for midnight in issues:
                    issued_at = history.start_at + int(midnight) * history.step
                    recent = history.until(issued_at, last=_TAIL)
                    values = candidate.predict_grid(issued_at, n, recent, weather).values
                    actual = truth[:, midnight : midnight + n]
                    error = actual[..., None] - values
                    each = np.maximum(GRID * error, (GRID - 1.0) * error).mean(axis=2)
                    low, high = values[..., _OUTER[0]], values[..., _OUTER[1]]
                    known = np.isfinite(each)
                    loss[index] += np.where(known, each, 0.0).sum(axis=1)
                    count[index] += known.sum(axis=1)
                    wide = known & (high > low)
                    rim = _RIM_FRAC * (high - low)
                    banded[index] += wide.sum(axis=1)
                    outside[index] += (wide & ((actual < low) | (actual > high))).sum(axis=1)
                    on_edge[index] += (wide & ((actual <= low + rim) | (actual >= high - rim))).sum(axis=1)
            except (ArithmeticError, ValueError, np.linalg.LinAlgError):
                loss[index] = np.inf
    seen = (count > 0) & np.isfinite(loss)
    total = np.maximum(banded, 1)
    # a meter that counts in steps puts many truths on the very edge: drawing the band in would lose them all
    missed = np.where(outside / total >= _MISS, outside / total, np.minimum(on_edge / total, _MISS))
    missed = np.where(seen & (banded > 0), missed, np.nan)
    return np.where(seen, loss / np.maximum(count, 1), np.nan), missed
