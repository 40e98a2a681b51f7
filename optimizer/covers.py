"""Consumers that are off or take at least their least: what the bus has left over is not enough to run them.

A relaxed answer runs such a consumer at the share of its least that sun or a generator leaves over, and pays for nothing.
A plan runs it at its least and fetches the rest from a store or the grid. For any choice of feeds F, counted at their most,
and of consumers C, in any interval

    W = max(0, sum of most over F - load);  sum of (draw - W * on) over C <= sum of the other feeds:

with all of them off the left side is 0; with some on, it is at most what they draw less W, and that the balance of the bus
says, as whatever else draws draws no less than nothing. These are the flow cover inequalities of a single node (Padberg, Van
Roy and Wolsey, "Valid Linear Inequalities for Fixed Charge Problems", Operations Research 33 (1985)). They are read off the
compiled rows, so that they hold for any asset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from optimizer.arrays import BoolArray, FloatArray, IntArray
from optimizer.formulation.builder import Family
from optimizer.formulation.site import GRID
from optimizer.highs import Row
from optimizer.template import Template, Vectors, positions

_LEAST_CUT_KW = 1e-3
"""An inequality that a relaxed answer breaks by less is not worth a row [kW]."""

_CHOICES = 2
"""Times that feeds are chosen for the consumers, and consumers for the feeds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bus:
    """What stands in the rows of the bus: one entry for each column of each interval; powers of a relaxed answer [kW]."""

    load_kw: FloatArray
    """What the entries of each interval add up to, (T,)."""
    interval: IntArray
    column: IntArray
    coefficient: FloatArray
    given_kw: FloatArray
    most_kw: FloatArray
    """What the column can feed at most; not above 0 for what only draws."""
    draws: BoolArray
    """True if the column can draw."""
    switch: IntArray
    """Column that is 1 where this one draws; -1 where there is none."""
    on: FloatArray
    """What the relaxed answer says it is."""

    def total(self, values: FloatArray) -> FloatArray:
        """Sum per interval."""
        sums: FloatArray = np.bincount(self.interval, values, self.load_kw.size).astype(np.float64)
        return sums


def broken_covers(template: Template, vectors: Vectors, x: FloatArray) -> list[Row]:
    """The inequalities that a relaxed answer breaks: for each kind of consumer, and for all of them, the best choice."""
    bus = _read(template, vectors, x)
    kinds = [np.isin(bus.switch, positions(template.columns[switch])) for switch in _switches(template)]
    if not kinds:
        return []
    kinds.append(np.logical_or.reduce(kinds))
    return [row for kind in kinds for row in _broken(bus, kind)]


def _switches(template: Template) -> dict[Family, Family]:
    """Binary families and what they switch: a run is its own switch."""
    return {**template.switched, **{family: family for family in sorted(template.once)}}


def _read(template: Template, vectors: Vectors, x: FloatArray) -> _Bus:
    rows = positions(template.rows[GRID, "bus"])
    interval = np.full(template.row_count, -1)
    interval[rows] = np.arange(rows.size)
    entries = np.flatnonzero((interval[template.index] >= 0) & (vectors.matrix != 0.0))
    column = np.searchsorted(template.starts, entries, side="right") - 1
    coefficient = vectors.matrix[entries]
    ends = coefficient * np.vstack((vectors.lower[column], vectors.upper[column]))
    least, most = ends.min(axis=0), ends.max(axis=0)
    switch_of = np.full(template.column_count, -1)
    for family, power in _switches(template).items():
        switch_of[template.columns[power]] = positions(template.columns[family])
    switch = np.where(most <= 0.0, switch_of[column], -1)
    return _Bus(
        load_kw=vectors.row_upper[rows],
        interval=interval[template.index[entries]],
        column=column,
        coefficient=coefficient,
        given_kw=coefficient * x[column],
        most_kw=most,
        draws=least < 0.0,
        switch=switch,
        on=np.where(switch < 0, 0.0, x[switch]),
    )


def _broken(bus: _Bus, kind: BoolArray) -> Iterator[Row]:
    """The inequalities of some consumers, at most one for each interval."""
    chosen, feeding = kind, bus.most_kw > 0.0
    with np.errstate(invalid="ignore"):  # endless at a share of nothing: not counted
        for _ in range(_CHOICES):
            cheaper = bus.most_kw * bus.total(np.where(chosen, bus.on, 0.0))[bus.interval] < bus.given_kw
            # what may draw as well cannot stand for itself: with all consumers off, they would have to feed it
            counted = feeding & (bus.draws | cheaper)
            spare = np.maximum(0.0, bus.total(np.where(counted, bus.most_kw, 0.0)) - bus.load_kw)
            chosen = kind & (-bus.given_kw > spare[bus.interval] * bus.on)
        itself = feeding & ~counted
        drawn = np.where(chosen, -bus.given_kw - spare[bus.interval] * bus.on, 0.0)
        beyond = bus.total(drawn - np.where(itself, bus.given_kw, 0.0))
    for t in np.flatnonzero(beyond > _LEAST_CUT_KW):
        there = bus.interval == t
        powers, switches = there & (itself | chosen), bus.switch[there & chosen]
        columns = np.concatenate((bus.column[powers], switches))
        entries = np.concatenate((bus.coefficient[powers], np.full(switches.size, spare[t])))
        yield _summed(columns, entries)


def _summed(columns: IntArray, entries: FloatArray) -> Row:
    """An inequality with each column once."""
    once, at = np.unique(columns, return_inverse=True)
    return once, np.bincount(at, entries).astype(np.float64), 0.0
