"""The recent past of a batch as columns: what forecasters learn from."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from ems.codec import FloatArray
from ems.readings import Quality
from ems.site import Site
from ems.state import MeasuredInterval

TRUST = {Quality.GOOD: 1.0, Quality.ESTIMATED: 0.5, Quality.STALE: 0.0, Quality.BAD: 0.0}
"""Weight of an interval in training, by quality."""


DAYS = 120
"""How far back forecasters learn from; what more days bring is measured in forecasting/README.md."""


class RecentPast:
    """Load and solar power of each site over the last days, shape (S, N) each; NaN is missing.

    Columns are the intervals of the planning grid; the window slides forward as intervals are added.
    """

    def __init__(self, sites: Sequence[Site], *, step_s: int, days: int = DAYS) -> None:
        self.step_s = step_s
        self.count = days * 86_400 // step_s
        self.rows = {site.id: row for row, site in enumerate(sites)}
        self.load_kw = np.full((len(sites), self.count), np.nan)
        self.pv_kw = np.full((len(sites), self.count), np.nan)
        self.trust = np.zeros((len(sites), self.count))
        self.curtailed = np.zeros((len(sites), self.count), dtype=bool)
        self.end_s = 0
        """End of the last column [epoch s]; 0 while nothing was added."""

    @property
    def start_at(self) -> datetime:
        """Start of the first column."""
        return datetime.fromtimestamp(self.end_s, UTC) - timedelta(seconds=self.step_s * self.count)

    @property
    def known(self) -> int:
        """Columns in which at least one site's load is known."""
        return int(np.isfinite(self.load_kw).any(axis=0).sum())

    def add(self, intervals: Iterable[MeasuredInterval]) -> None:
        """Add intervals in any order; the window slides to hold the latest, older ones are dropped."""
        for measured in intervals:
            row = self.rows.get(measured.site_id)
            if row is None:
                continue
            start_s = int(measured.start_at.timestamp())
            self._slide(start_s + self.step_s)
            column = self.count - (self.end_s - start_s) // self.step_s
            if column < 0:
                continue
            self.load_kw[row, column] = _mean_kw(measured.load_kwh, measured.hours)
            self.pv_kw[row, column] = _mean_kw(measured.pv_kwh, measured.hours)
            self.trust[row, column] = TRUST[measured.quality]
            self.curtailed[row, column] = measured.curtailed

    def overlay(
        self,
        start_at: datetime,
        load_kw: FloatArray,
        pv_kw: FloatArray,
        *,
        trust: FloatArray | None = None,
        curtailed: NDArray[np.bool_] | None = None,
    ) -> None:
        """Lay columns from `start_at` over what is there, shape (S, K); NaN leaves what was there.

        `trust` is 1 and nothing is `curtailed` unless given, in the same shape.
        """
        end_s = int(start_at.timestamp()) + load_kw.shape[1] * self.step_s
        self._slide(end_s)
        stop = self.count - (self.end_s - end_s) // self.step_s
        first = max(0, stop - load_kw.shape[1])
        if stop <= 0:
            return
        for columns, new in ((self.load_kw, load_kw), (self.pv_kw, pv_kw)):
            new = new[:, new.shape[1] - (stop - first) :]
            here = columns[:, first:stop]
            here[:] = np.where(np.isfinite(new), new, here)
        laid = np.isfinite(load_kw) | np.isfinite(pv_kw)
        known = laid[:, laid.shape[1] - (stop - first) :]
        width = stop - first
        new_trust = np.ones(laid.shape) if trust is None else trust
        new_curtailed = np.zeros(laid.shape, dtype=bool) if curtailed is None else curtailed
        self.trust[:, first:stop][known] = new_trust[:, new_trust.shape[1] - width :][known]
        self.curtailed[:, first:stop][known] = new_curtailed[:, new_curtailed.shape[1] - width :][known]

    def slide_to(self, end_at: datetime) -> None:
        """Move the window to end at `end_at` at least; what is not known stays missing."""
        self._slide(int(end_at.timestamp()))

    def _slide(self, end_s: int) -> None:
        if end_s <= self.end_s:
            return
        shift = self.count if not self.end_s else min(self.count, (end_s - self.end_s) // self.step_s)
        for columns, empty in (
            (self.load_kw, np.nan),
            (self.pv_kw, np.nan),
            (self.trust, 0.0),
            (self.curtailed, False),
        ):
            columns[:, : self.count - shift] = columns[:, shift:]
            columns[:, self.count - shift :] = empty
        self.end_s = end_s


def _mean_kw(kwh: float | None, hours: float) -> float:
    return np.nan if kwh is None else kwh / hours
