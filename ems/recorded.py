"""Recorded series from CSV: what simulation, backtest and price files read.

The first column `at` is an ISO 8601 instant with offset, the start of its interval; every other column is a series in
the unit its name ends with. A blank cell is missing, never 0.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from ems.codec import FloatArray
from ems.errors import DataError
from ems.tariffs import PriceSeries

UNIT_SUFFIXES = ("_kw", "_per_kwh", "_kg_per_kwh", "_degc", "_kwh", "_frac", "_w_m2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Series on one regular grid."""

    start_at: datetime
    """Start of the first interval (aware UTC)."""
    step: timedelta
    """Interval length."""
    columns: dict[str, FloatArray]
    """By column name, shape (N,); NaN is missing."""
    filled_gaps: int
    """Intervals that had no row; all their values are missing."""

    @property
    def count(self) -> int:
        """Number of intervals N."""
        return len(next(iter(self.columns.values())))

    def column(self, name: str) -> FloatArray | None:
        """Return a series, or None when it was not recorded."""
        return self.columns.get(name)


def read_recording(path: Path) -> Recording:
    """Read a CSV of recorded series.

    Raises
    ------
    DataError
        Names file, line, value and remedy: missing offset, unordered or repeated instant, uneven step, a column without
        unit, text where a number belongs. Rows that are missing altogether become missing values and are counted.
    """
    frame = _table(path)
    starts_s = _instants(path, frame["at"])
    step_s = _step(path, starts_s, _lines(frame))
    names = [name for name in frame.columns if name != "at"]
    if not names:
        raise DataError(f"{path}: no series beside `at`; add a column such as load_kw")
    for name in names:
        if not name.rsplit(".", 1)[-1].endswith(UNIT_SUFFIXES):
            raise DataError(
                f"{path}: line 1: column {name!r} does not end with a unit this service knows "
                f"({', '.join(UNIT_SUFFIXES)}); convert and rename it"
            )
    position = (starts_s - starts_s[0]) // step_s
    count = int(position[-1]) + 1
    columns = {}
    for name in names:
        series = np.full(count, np.nan)
        series[position] = _numbers(path, frame[name], name)
        columns[name] = series
    return Recording(
        start_at=datetime.fromtimestamp(int(starts_s[0]), UTC),
        step=timedelta(seconds=int(step_s)),
        columns=columns,
        filled_gaps=count - len(frame),
    )


def read_price_series(path: Path, column: str) -> PriceSeries:
    """Read one price column of a CSV file; raises DataError."""
    frame = _table(path)
    if column not in frame.columns:
        raise DataError(f"{path}: line 1: no column {column!r}; it has {', '.join(frame.columns)}")
    starts_s = _instants(path, frame["at"])
    per_kwh = _numbers(path, frame[column], column)
    known = np.isfinite(per_kwh)
    if not known.any():
        raise DataError(f"{path}: column {column!r} holds no price")
    steps_s = np.diff(starts_s)
    return PriceSeries(
        starts_s=starts_s[known], per_kwh=per_kwh[known], step_s=int(steps_s.min()) if len(steps_s) else 3600
    )


def _table(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(
            path, dtype=str, skipinitialspace=True, skip_blank_lines=False, on_bad_lines="error"
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of a CSV file") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{path}: not readable as CSV ({str(error).strip()}); save it as UTF-8 CSV with a header"
        ) from error
    if not len(frame.columns) or frame.columns[0] != "at":
        first = frame.columns[0] if len(frame.columns) else ""
        raise DataError(f"{path}: line 1: the first column is {first!r}; it must be `at`")
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            f"{path}: line 2: more cells than the header has columns; remove the comma at the end"
        )
    frame = frame[frame.notna().any(axis="columns")]
    if len(frame) < 2:
        raise DataError(f"{path}: fewer than two rows; a series needs at least two")
    return frame


def _lines(rows: pd.DataFrame | pd.Series) -> np.ndarray:
    """Return the line of each row in the file; the header is line 1, blank lines count."""
    return np.asarray(rows.index) + 2


def _instants(path: Path, texts: pd.Series) -> np.ndarray:
    """Read ISO 8601 instants with offset to epoch seconds; rising, none twice."""
    starts_s = np.empty(len(texts), dtype=np.int64)
    for row, (line, text) in enumerate(zip(_lines(texts), texts, strict=True)):
        if pd.isna(text):
            raise DataError(f"{path}: line {line}: at is blank; write the instant the row holds for")
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise DataError(
                f"{path}: line {line}: at = {text!r} is not ISO 8601; write 2025-01-31T13:45:00+09:00"
            ) from None
        if at.tzinfo is None:
            raise DataError(
                f"{path}: line {line}: at = {text!r} has no offset; write e.g. {text}+09:00 or {text}Z"
            )
        starts_s[row] = int(at.timestamp())
        if row and starts_s[row] <= starts_s[row - 1]:
            what = "repeats" if starts_s[row] == starts_s[row - 1] else "is before"
            raise DataError(
                f"{path}: line {line}: at = {text!r} {what} the instant of the line before; sort and remove repetitions"
            )
    return starts_s


def _step(path: Path, starts_s: np.ndarray, lines: np.ndarray) -> int:
    """Return the step most rows keep; every other distance must be a multiple of it, so that it is a gap."""
    steps_s = np.diff(starts_s)
    lengths_s, counts = np.unique(steps_s, return_counts=True)
    step_s = int(lengths_s[counts.argmax()])
    if step_s % 60 or step_s > 3600:
        raise DataError(f"{path}: step of {step_s} s; it must be whole minutes up to 60")
    uneven = np.flatnonzero(steps_s % step_s)
    if len(uneven):
        row = int(uneven[0])
        raise DataError(
            f"{path}: line {lines[row + 1]}: {steps_s[row]} s after the line before, which is no multiple of the "
            f"step of {step_s} s; put the rows on one grid"
        )
    return step_s


def _numbers(path: Path, texts: pd.Series, name: str) -> FloatArray:
    numbers = pd.to_numeric(texts, errors="coerce")
    unread = ~np.isfinite(numbers) & texts.notna()
    if unread.any():
        row = int(np.flatnonzero(unread.to_numpy())[0])
        raise DataError(
            f"{path}: line {_lines(texts)[row]}: {name} = {texts.iloc[row]!r} is not a number; "
            "leave the cell blank if missing"
        )
    return np.asarray(numbers, dtype=np.float64)
