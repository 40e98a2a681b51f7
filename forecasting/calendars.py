"""Local days on a UTC grid: slots, weekdays, holidays, days of 23 and 25 hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays
import numpy as np
from numpy.typing import NDArray

from forecasting.types import BoolArray, FloatArray

IntArray = NDArray[np.int64]

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalGrid:
    """Where each interval of a UTC grid falls in local civil time."""

    day: IntArray
    """Local date as a proleptic ordinal, shape (T,)."""
    slot: IntArray
    """Interval of the local day by wall clock, 0..steps_per_day-1, shape (T,)."""
    steps_per_day: int
    """Slots N of an ordinary day."""

    @property
    def is_regular(self) -> bool:
        """Whether no clock change falls inside, so that slots simply repeat."""
        return bool((np.diff(self.day * self.steps_per_day + self.slot) == 1).all())

    @property
    def weekday(self) -> IntArray:
        """Monday 0 .. Sunday 6, shape (T,)."""
        return (self.day + 6) % 7


def local_grid(start_at: datetime, step: timedelta, count: int, zone: str) -> LocalGrid:
    """Place `count` intervals from `start_at` in the civil time of `zone`."""
    step_s = int(step.total_seconds())
    utc_s = int(start_at.timestamp()) + step_s * np.arange(count, dtype=np.int64)
    local_s = utc_s + _offsets(utc_s, zone)
    day, rest = np.divmod(local_s, 86_400)
    return LocalGrid(day=day + _EPOCH_ORDINAL, slot=rest // step_s, steps_per_day=86_400 // step_s)


def day_matrix(values: FloatArray, grid: LocalGrid) -> tuple[FloatArray, int]:
    """Fold (S, T) into whole local days.

    Returns
    -------
    matrix
        Shape (S, D, N); a slot that a day does not have, or that is not known, is nan. The hour that a
        25-hour day repeats is the mean of both.
    first_day
        Ordinal of matrix[:, 0].
    """
    sites, count = values.shape
    n = grid.steps_per_day
    if count == 0:
        return np.full((sites, 0, n), np.nan), 0
    first = int(grid.day[0])
    n_days = int(grid.day[-1]) - first + 1
    cell = (grid.day - first) * n + grid.slot
    flat = np.full((sites, n_days * n), np.nan)
    if grid.is_regular:
        flat[:, cell[0] : cell[0] + count] = values
        return flat.reshape(sites, n_days, n), first
    flat[:, cell] = values
    again = np.flatnonzero(np.diff(cell) <= 0)
    if len(again):
        repeated, copies = np.unique(cell, return_counts=True)
        for target in repeated[copies > 1]:
            pair = values[:, cell == target]
            known = np.isfinite(pair).sum(axis=1)
            total = np.where(np.isfinite(pair), pair, 0.0).sum(axis=1)
            flat[:, target] = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    return flat.reshape(sites, n_days, n), first


def is_rest_day(days: IntArray, country: str | None) -> BoolArray:
    """Whether each local date is a Saturday, Sunday or public holiday."""
    weekend = (days + 6) % 7 >= 5
    return weekend | is_holiday(days, country)


def is_holiday(days: IntArray, country: str | None) -> BoolArray:
    """Whether each local date (ordinal) is a public holiday in `country`; all False without a country."""
    if country is None or len(days) == 0:
        return np.zeros(len(days), dtype=np.bool_)
    years = range(date.fromordinal(int(days.min())).year, date.fromordinal(int(days.max())).year + 1)
    found = np.concatenate([_holidays(country, year) for year in years])
    return np.asarray(np.isin(days, found))


@lru_cache(maxsize=512)
def _holidays(country: str, year: int) -> IntArray:
    try:
        table = holidays.country_holidays(country, years=year)
    except NotImplementedError:
        return np.zeros(0, dtype=np.int64)
    return np.array(sorted(day.toordinal() for day in table), dtype=np.int64)


def _offsets(utc_s: IntArray, zone: str) -> IntArray:
    """UTC offset [s] at each instant."""
    if len(utc_s) == 0:
        return np.zeros(0, dtype=np.int64)
    first = datetime.fromtimestamp(int(utc_s[0]), UTC).year
    last = datetime.fromtimestamp(int(utc_s[-1]), UTC).year
    instants, offsets = _transitions(zone, first, last)
    if len(instants) == 1:
        return np.full(len(utc_s), offsets[0])
    return offsets[np.searchsorted(instants, utc_s, side="right") - 1]


@lru_cache(maxsize=512)
def _transitions(zone: str, first_year: int, last_year: int) -> tuple[IntArray, IntArray]:
    """Instants [s] from which each offset [s] holds, found by bisection between daily samples."""
    info = ZoneInfo(zone)
    begin = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp()) - 86_400
    end = int(datetime(last_year + 1, 1, 1, tzinfo=UTC).timestamp()) + 86_400
    instants, offsets = [-(2**62)], [_offset(info, begin)]
    for low in range(begin, end, 86_400):
        high = low + 86_400
        if _offset(info, high) == offsets[-1]:
            continue
        while high - low > 60:
            middle = (low + high) // 2
            low, high = (low, middle) if _offset(info, middle) != offsets[-1] else (middle, high)
        high -= high % 60
        instants.append(high)
        offsets.append(_offset(info, high + 60))
    return np.array(instants, dtype=np.int64), np.array(offsets, dtype=np.int64)


def _offset(info: ZoneInfo, utc_s: int) -> int:
    offset = datetime.fromtimestamp(utc_s, info).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
