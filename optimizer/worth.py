"""What energy in one battery is worth when the loads and suns to come are uncertain: a recursion from the horizon's end.

Several courses of the day may come, and from one interval to the next the day may turn from one to another. With
probability `stay` it stays on its course c; else it goes on along any course d with its weight w[d] (its own among them):

    U[t, c](s) = max over moves m of  gain[t, c](m) + W[t, c](s + m)
    W[t-1, c](s) = stay[t] * U[t, c](s) + (1 - stay[t]) * sum over d of w[d] * U[t, d](s) - band[t-1](s)

W[t, c](s) is the worth of s kWh after interval t. Each interval's course is seen before its move is made, as the fast loop
sees the meter. Never staying makes the hours independent, always staying is the mean over courses that are each known to
their end. Every function here is concave and straight between its points, so the best of two of them combined is found
exactly, by sorting slopes; a mean over courses is kept at evenly spaced fillings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from optimizer.arrays import FloatArray

_POINTS = 101
"""Fillings at which the mean over courses is kept, from empty to full."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredWorth:
    """What energy in the battery is worth after an interval: concave, straight between its points."""

    stored_kwh: FloatArray
    """Points, rising [kWh], shape (K,)."""
    worth: FloatArray
    """Worth at each point, up to a constant [currency], shape (K,)."""
    later: StoredWorth | None = None
    """The same after the next interval; None in what is itself a `later`."""

    def per_kwh(self, stored_kwh: float) -> float:
        """Worth of one more kWh [currency/kWh]."""
        right = int(np.clip(np.searchsorted(self.stored_kwh, stored_kwh, "right"), 1, len(self.worth) - 1))
        rise = self.worth[right] - self.worth[right - 1]
        return float(rise / (self.stored_kwh[right] - self.stored_kwh[right - 1]))


class Moves(NamedTuple):
    """What each interval can do with stored energy on each course: from the most it can store down, in straight pieces."""

    most_kwh: FloatArray
    """Most it can store [kWh], shape (T, C)."""
    gain_at_most: FloatArray
    """What that earns, below 0 where it costs [currency], shape (T, C)."""
    pieces_kwh: FloatArray
    """Lengths of the pieces, from there down [kWh], shape (T, C, P); some may be 0."""
    gains_per_kwh: FloatArray
    """What storing less earns in each piece, falling [currency/kWh], shape (T, C, P)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Levels the stored energy should keep to after each interval, and what leaving them costs."""

    floor_kwh: FloatArray
    """Least it should hold [kWh], shape (T,)."""
    floor_cost: FloatArray
    """Per kWh below [currency/kWh], shape (T,)."""
    ceiling_kwh: FloatArray
    """Most it should hold [kWh], shape (T,)."""
    ceiling_cost: FloatArray
    """Per kWh above [currency/kWh], shape (T,)."""

    def cost(self, t: int, stored_kwh: FloatArray) -> FloatArray:
        """What it costs to hold this much after interval `t` [currency]."""
        below = np.maximum(self.floor_kwh[t] - stored_kwh, 0.0)
        above = np.maximum(stored_kwh - self.ceiling_kwh[t], 0.0)
        cost: FloatArray = self.floor_cost[t] * below + self.ceiling_cost[t] * above
        return cost


def worth_after_first(
    moves: Moves,
    weights: FloatArray,
    stays: FloatArray,
    *,
    capacity_kwh: float,
    band: Band,
    end_value_per_kwh: float,
) -> StoredWorth:
    """Return what stored energy is worth after the first interval, before it is known on which course the day goes on.

    On the way there the recursion finds the same for the second interval: `later`.

    Parameters
    ----------
    moves
        What each interval can do on each course; the first interval's are not asked for.
    weights
        Probability of each course, shape (C,).
    stays
        Probability that the day stays on its course from the interval before into this one, shape (T,).
    capacity_kwh
        What the battery holds.
    band, end_value_per_kwh
        Where its filling should be meanwhile, and what a kWh is worth at the end.
    """
    intervals, courses = moves.most_kwh.shape
    even = np.linspace(0.0, capacity_kwh, _POINTS if courses > 1 else 2)
    points = _with_bends(even, band, intervals - 1)
    # one row per course: what is stored is worth the same on all of them at the end
    after = np.tile(end_value_per_kwh * points - band.cost(intervals - 1, points), (courses, 1))
    later = None
    for t in range(intervals - 1, 0, -1):
        if t == 1:
            later = StoredWorth(stored_kwh=points, worth=weights @ after)
        bends, values = _best_before(points, after, Moves(*(series[t] for series in moves)))
        points = _with_bends(even if courses > 1 else _between(bends[0], capacity_kwh), band, t - 1)
        found = _at(points, bends, values)
        stay = stays[t] if t > 1 else 0.0
        after = stay * found + (1.0 - stay) * (weights @ found) - band.cost(t - 1, points)
    return StoredWorth(stored_kwh=points, worth=after[0], later=later)


def _best_before(stored_kwh: FloatArray, worth: FloatArray, moves: Moves) -> tuple[FloatArray, FloatArray]:
    """Return points, rising, and values of the worth before an interval from that after it, one row per course.

    The best sum of two concave functions runs through the pieces of both in the order of their slopes.
    """
    lengths = np.diff(stored_kwh)
    pieces = np.concatenate([np.broadcast_to(lengths, (len(worth), len(lengths))), moves.pieces_kwh], axis=1)
    slopes = np.concatenate([(worth[:, 1:] - worth[:, :-1]) / lengths, moves.gains_per_kwh], axis=1)
    order = np.arange(len(worth))[:, None], np.argsort(-slopes, axis=1)
    pieces = pieces[order]
    return (
        _summed(stored_kwh[0] - moves.most_kwh, pieces),
        _summed(worth[:, 0] + moves.gain_at_most, pieces * slopes[order]),
    )


def _summed(start: FloatArray, steps: FloatArray) -> FloatArray:
    """Return the running sums of each row from its start."""
    sums = np.empty((len(steps), steps.shape[1] + 1))
    sums[:, 0], sums[:, 1:] = start, steps
    np.cumsum(sums, axis=1, out=sums)
    return sums


def _at(points: FloatArray, bends: FloatArray, values: FloatArray) -> FloatArray:
    """Return each row's value at the points."""
    return np.array([np.interp(points, *row) for row in zip(bends, values, strict=True)])


def _between(bends: FloatArray, top: float) -> FloatArray:
    """Return 0, the bends above it and below `top`, and `top`, each once."""
    inner = bends[(bends > SAME_KWH) & (bends < top - SAME_KWH)]
    apart = np.diff(inner, prepend=0.0) > SAME_KWH
    return np.concatenate([[0.0], inner[apart], [top]])


SAME_KWH = 1e-9
"""Fillings nearer to each other than this are one [kWh]."""


def _with_bends(points: FloatArray, band: Band, t: int) -> FloatArray:
    """Return the points with those at which the band's cost bends."""
    bends = [
        kwh for kwh in (band.floor_kwh[t], band.ceiling_kwh[t])
        if points[0] < kwh < points[-1] and np.abs(points - kwh).min() > SAME_KWH
    ]  # fmt: skip
    return np.sort(np.concatenate([points, bends])) if bends else points
