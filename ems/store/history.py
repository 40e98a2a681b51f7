"""Interval accounts of many sites as columns on one grid: what forecasts learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from ems.codec import FloatArray, IntArray
from ems.store.packing import QUALITIES, to_ms
from ems.store.tables import accounts
from ems.store.types import LoadPvHistory

COLUMNS = ("site_id", "start_ms", "hours", "load_kwh", "pv_kwh", "curtailed", "quality")
HOUR_S = 3600.0
ROWS_AT_ONCE = 5000
COVERED_FRAC = 0.999
"""Share of a cell that accounts must cover; the rest is rounding of hours."""


def load_pv(
    conn: sa.Connection, site_ids: Sequence[str], start: datetime, end: datetime, step_s: int
) -> LoadPvHistory:
    """Return mean powers of many sites on one grid.

    A cell is known when accounts cover all of it: finer accounts are averaged, a coarser one is spread over the cells
    it spans.
    """
    start_ms = to_ms(start)
    row_of = {site_id: i for i, site_id in enumerate(site_ids)}
    names, numbers = _fetch(
        conn,
        sa.select(*(accounts.c[name] for name in COLUMNS)).where(
            accounts.c.site_id.in_(row_of), accounts.c.start_ms >= start_ms, accounts.c.start_ms < to_ms(end)
        ),
    )
    starts_ms, hours, load_kwh, pv_kwh, curtailed, quality = numbers
    shares = _spread(
        site=np.array([row_of[name] for name in names], dtype=np.int64),
        first_s=(starts_ms - start_ms) / 1000,
        hours=hours,
        step_s=step_s,
        shape=(len(site_ids), max(0, -((start_ms - to_ms(end)) // (1000 * step_s)))),
    )
    return LoadPvHistory(
        site_ids=tuple(site_ids),
        start_at=start,
        step_s=step_s,
        load_kw=shares.mean(load_kwh / hours),
        pv_kw=shares.mean(pv_kwh / hours),
        curtailed=(shares.total(curtailed) > 0).astype(np.int64),
        quality=shares.worst(quality),
    )


def _fetch(conn: sa.Connection, wanted: sa.Select[Any]) -> tuple[list[str], FloatArray]:
    """Return the first column of a query, and its others as numbers, shape (columns, rows).

    Rows are taken from the driver in pieces: a few hundred thousand live tuples would be walked by the garbage
    collector again and again, which takes longer than the query (70 homes x 35 days: 0.95 s against 0.41 s).
    """
    names: list[str] = []
    pieces = []
    cursor = conn.execute(wanted).cursor
    while cursor is not None and (rows := cursor.fetchmany(ROWS_AT_ONCE)):
        first, *others = zip(*rows, strict=True)
        names += first
        pieces.append(np.array(others, dtype=np.float64))
    width = len(wanted.selected_columns) - 1
    return names, np.concatenate(pieces, axis=1) if pieces else np.empty((width, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shares:
    """Which part of which account falls into which cell of the grid."""

    account: IntArray
    """Position of the account, shape (N,)."""
    cell: IntArray
    """Position in the flat grid, shape (N,)."""
    hours: FloatArray
    """Length of the part [h], shape (N,)."""
    shape: tuple[int, int]
    """Sites and intervals of the grid."""
    step_s: int
    """Interval of the grid [s]."""

    def mean(self, power_kw: FloatArray) -> FloatArray:
        """Return mean power per cell [kW]; nan where it is not known for all of the cell."""
        known = ~np.isnan(power_kw[self.account])
        cell, hours = self.cell[known], self.hours[known]
        size = self.shape[0] * self.shape[1]
        known_h = np.bincount(cell, hours, minlength=size)
        energy_kwh = np.bincount(cell, power_kw[self.account[known]] * hours, minlength=size)
        covered = known_h >= COVERED_FRAC * self.step_s / HOUR_S
        mean_kw: FloatArray = np.full(size, np.nan)
        mean_kw[covered] = energy_kwh[covered] / known_h[covered]
        return mean_kw.reshape(self.shape)

    def total(self, flags: FloatArray) -> FloatArray:
        """Return the sum per cell."""
        size = self.shape[0] * self.shape[1]
        sums: FloatArray = np.bincount(self.cell, flags[self.account], minlength=size).astype(np.float64)
        return sums.reshape(self.shape)

    def worst(self, codes: FloatArray) -> IntArray:
        """Return the smallest code per cell; 0 where there is no account."""
        size = self.shape[0] * self.shape[1]
        smallest = np.full(size, len(QUALITIES), dtype=np.int64)
        np.minimum.at(smallest, self.cell, codes[self.account].astype(np.int64))
        return np.where(smallest == len(QUALITIES), 0, smallest).reshape(self.shape)


def _spread(
    *, site: IntArray, first_s: FloatArray, hours: FloatArray, step_s: int, shape: tuple[int, int]
) -> _Shares:
    """Lay accounts on the grid; what reaches beyond its end is left out."""
    cells = np.maximum(1, np.round(hours * HOUR_S / step_s)).astype(np.int64)
    account = np.repeat(np.arange(len(site)), cells)
    nth = np.arange(len(account)) - np.repeat(np.cumsum(cells) - cells, cells)
    column = (first_s[account] // step_s).astype(np.int64) + nth
    inside = column < shape[1]
    account, column = account[inside], column[inside]
    return _Shares(
        account=account,
        cell=site[account] * shape[1] + column,
        hours=(hours / cells)[account],
        shape=shape,
        step_s=step_s,
    )
