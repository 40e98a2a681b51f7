"""A consumer that is off or takes at least its least: what the bus has left over is not enough to run it.

A relaxed answer runs such a consumer at the share of its least that sun or a generator leaves over, and pays for nothing.
A plan runs it at its least and fetches the rest from a store or the grid. For any choice of feeds F, counted at their most,

    power[t] <= max(0, sum of most[t] over F - load[t]) * on[t] + sum of the other feeds[t]:

off, it takes nothing; on, the balance of the bus says so, as whatever else draws draws no less than nothing. These are the
flow cover inequalities of a single node (Padberg, Van Roy and Wolsey, "Valid Linear Inequalities for Fixed Charge
Problems", Operations Research 33 (1985)), read off the compiled rows, so that they hold for any asset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.arrays import FloatArray, IntArray
from optimizer.formulation.site import GRID
from optimizer.highs import Row
from optimizer.template import Template, Vectors, positions

_LEAST_CUT_KW = 1e-3
"""An inequality that a relaxed answer breaks by less is not worth a row [kW]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Feeds:
    """What stands in the rows of the bus: one entry for each column of each interval."""

    interval: IntArray
    column: IntArray
    coefficient: FloatArray
    load_kw: FloatArray
    """What they add up to, (T,)."""


def broken_covers(template: Template, vectors: Vectors, x: FloatArray) -> list[Row]:
    """For each switched consumer and interval the choice of feeds that a relaxed answer breaks most, where it breaks one."""
    feeds = _feeds(template, vectors)
    found: list[Row] = []
    for switch, power in template.switched.items():
        found += _broken(feeds, vectors, x, positions(template.columns[power]), positions(template.columns[switch]))
    return found


def _feeds(template: Template, vectors: Vectors) -> _Feeds:
    rows = positions(template.rows[GRID, "bus"])
    interval = np.full(template.row_count, -1)
    interval[rows] = np.arange(rows.size)
    entries = np.flatnonzero((interval[template.index] >= 0) & (vectors.matrix != 0.0))
    return _Feeds(
        interval=interval[template.index[entries]],
        column=np.searchsorted(template.starts, entries, side="right") - 1,
        coefficient=vectors.matrix[entries],
        load_kw=vectors.row_upper[rows],
    )


def _broken(feeds: _Feeds, vectors: Vectors, x: FloatArray, power: IntArray, on: IntArray) -> list[Row]:
    """The inequalities of one consumer: columns of its power and of its switch, (T,)."""
    count, at, column = feeds.load_kw.size, feeds.interval, feeds.column
    ends = feeds.coefficient * np.vstack((vectors.lower[column], vectors.upper[column]))
    most, least = ends.max(axis=0), ends.min(axis=0)
    drawn = column == power[at]
    given = feeds.coefficient * x[column]
    with np.errstate(invalid="ignore"):  # endless at a share of nothing: not counted
        cheaper = most * x[on][at] < given
    feeding = ~drawn & (most > 0.0)
    # what may draw as well cannot stand for itself: off, the consumer would have to feed it
    counted = feeding & ((least < 0.0) | cheaper)
    itself = feeding & ~counted
    spare = np.maximum(0.0, np.bincount(at, np.where(counted, most, 0.0), count) - feeds.load_kw)
    taken = -np.bincount(at, np.where(drawn, given, 0.0), count)
    with np.errstate(invalid="ignore"):
        beyond = taken - spare * x[on] - np.bincount(at, np.where(itself, given, 0.0), count)
    rows: list[Row] = []
    for t in np.flatnonzero(beyond > _LEAST_CUT_KW):
        here = (itself | drawn) & (at == t)
        columns, entries = np.append(column[here], on[t]), np.append(feeds.coefficient[here], spare[t])
        rows.append((columns, entries, 0.0))
    return rows
