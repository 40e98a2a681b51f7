"""A stock that runs down and is filled in lots: the inequalities that say what it must hold while nothing fills it.

A relaxed answer fills such a stock with a little of a lot in every interval and so keeps it at its floor. Whole lots
cannot: what is needed before the first of them must be there already. For any stretch of intervals k..l,

    stock[k-1] + sum of given[t] >= sum of need[t] * (1 - on[k] - .. - on[t]),

all of it counted as of the beginning of the stretch: if the first lot comes in interval f, the right side is at most
the need of k..f-1. These are the (l, S) inequalities of Barany, Van Roy and Wolsey, "Strong Formulations for
Multi-Item Capacitated Lot Sizing", Management Science 30 (1984). Where others give to the stock as well, each interval
counts either what they give, or the need that is left when they give the most they can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.arrays import BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Stock:
    """A stock and what a relaxed answer does with it, per interval, (T,)."""

    keep: FloatArray
    """Share of the stock at the beginning of an interval that is left at its end."""
    need: FloatArray
    """What each interval takes from the stock; negative where it fills by itself."""
    most_given: FloatArray
    """What others than the lots can give at most."""
    given: FloatArray
    """What others give; infinite where some of them may take."""
    slack: FloatArray
    """How far the stock is allowed below its floor at the end of an interval."""
    before: FloatArray
    """Stock above its floor, slack included, at the beginning of an interval; 0 at first, where it is part of `need`."""
    on: FloatArray
    """Lots that begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """One inequality, over a stretch of intervals."""

    first: int
    """First interval."""
    weight: FloatArray
    """What one unit at the end of each interval is worth at the beginning of the stretch."""
    counted: BoolArray
    """Whether what others give is counted, else the most they can give."""
    on: FloatArray
    """Entries of the lots."""
    least: float
    """Right side when nothing is on."""


def broken_stretches(stock: Stock, tolerance: float) -> list[Stretch]:
    """For each first interval the stretch that a relaxed answer breaks most, if by more than the tolerance."""
    count = stock.keep.size
    left = stock.need - stock.most_given
    total, weight, lots = -stock.before, np.ones(count), np.zeros(count)
    most, last = np.full(count, tolerance), np.full(count, -1)
    weights, counted = np.zeros((count, count)), np.zeros((count, count), dtype=bool)
    for length in range(count):
        starts, at = slice(0, count - length), slice(length, count)
        lots[starts] += stock.on[at]
        alive = lots[starts] < 1.0
        if not alive.any():
            break
        weight[starts] /= stock.keep[at]
        without = 1.0 - lots[starts]
        gives = _needed(stock.need[at], without) - stock.given[at]
        at_most = _needed(left[at], without)
        total[starts] += np.where(
            alive, weight[starts] * (np.maximum(gives, at_most) - stock.slack[at]), -np.inf
        )
        weights[starts, length], counted[starts, length] = weight[starts], gives >= at_most
        better = total[starts] > most[starts]
        most[starts] = np.where(better, total[starts], most[starts])
        last[starts] = np.where(better, length, last[starts])
    found = []
    for first in np.flatnonzero(last >= 0):
        span = slice(0, int(last[first]) + 1)
        at = slice(int(first), int(first) + span.stop)
        need = weights[first, span] * np.where(counted[first, span], stock.need[at], left[at])
        found.append(
            Stretch(
                first=int(first),
                weight=weights[first, span],
                counted=counted[first, span],
                on=np.cumsum(np.maximum(need, 0.0)[::-1])[::-1],
                least=float(need.sum()),
            )
        )
    return found


def _needed(need: FloatArray, without: FloatArray) -> FloatArray:
    """A need weighs as much as it is likely that no lot has begun; what fills by itself always counts."""
    result: FloatArray = np.maximum(need, 0.0) * without + np.minimum(need, 0.0)
    return result
