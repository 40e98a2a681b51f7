"""Numbers as the optimiser takes them: float64 arrays nobody can change, and one typed error for bad input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[np.int32]

Series = float | FloatArray
"""One value for every interval, or one value per interval, shape (T,)."""


def weighted(series: FloatArray, weight: Series) -> Any:
    """Sum of series times weight over the last axis; one per row where there are rows."""
    if isinstance(weight, float):
        return weight * series.sum(axis=-1)
    return (series * weight).sum(axis=-1)


def mean_over(hours: FloatArray, series: FloatArray) -> Any:
    """Mean over the last axis by length of the intervals; a column where there are rows."""
    rows = max(hours.ndim, series.ndim) > 1
    return (hours * series).sum(axis=-1, keepdims=rows) / hours.sum(axis=-1, keepdims=hours.ndim > 1)


def largest(series: FloatArray) -> Any:
    """Largest value over the last axis; a column where there are rows."""
    return series.max(axis=-1, keepdims=series.ndim > 1)


def after(first: Series, series: FloatArray) -> FloatArray:
    """The series with one value before it."""
    return np.concatenate((np.broadcast_to(first, (*series.shape[:-1], 1)), series), axis=-1)


class InvalidProblem(ValueError):
    """Input that cannot be a dispatch problem: names site, asset, field and value, and says what would be right."""

    def __init__(self, *, site_id: str, asset: str | None, field: str, value: object, remedy: str) -> None:
        self.site_id = site_id
        self.asset = asset
        self.field = field
        self.value = value
        self.remedy = remedy
        where = f"site {site_id!r}" + (f", {asset!r}" if asset else "")
        super().__init__(f"{where}: {field} = {value!r}: {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.site_id, self.asset, self.field, self.value, self.remedy)


def _rebuild(site_id: str, asset: str | None, field: str, value: object, remedy: str) -> InvalidProblem:
    return InvalidProblem(site_id=site_id, asset=asset, field=field, value=value, remedy=remedy)


def freeze(owner: object, *fields: str) -> None:
    """Turn the named fields of a frozen dataclass into floats or read-only float64 arrays."""
    for field in fields:
        value = getattr(owner, field)
        if type(value) is float:
            continue
        object.__setattr__(owner, field, as_series(value))


def as_series(value: Series | Sequence[float] | int | None) -> Series | None:
    """The value as float or as a read-only float64 array; None stays None."""
    if value is None:
        return None
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        return float(array)
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


class Check:
    """Checks the fields of one owner and raises `InvalidProblem` for the first that cannot be."""

    __slots__ = ("asset", "intervals", "site_id")

    def __init__(self, site_id: str, asset: str | None, intervals: int) -> None:
        self.site_id = site_id
        self.asset = asset
        self.intervals = intervals

    def refuse(self, field: str, value: object, remedy: str) -> NoReturn:
        """Raise the typed error."""
        if isinstance(value, np.ndarray) and value.size > 6:
            value = f"[{value.flat[0]:g}, {value.flat[1]:g}, ..] ({value.size} values)"
        raise InvalidProblem(site_id=self.site_id, asset=self.asset, field=field, value=value, remedy=remedy)

    def number(
        self,
        field: str,
        value: Series,
        *,
        least: float = -np.inf,
        most: float = np.inf,
        above: float | None = None,
        endless: bool = False,
        length: int | None = None,
    ) -> None:
        """One finite number (or T of them) in [least, most]; `endless` allows infinity."""
        if isinstance(value, np.ndarray):
            wanted = self.intervals if length is None else length
            if value.shape != (wanted,):
                self.refuse(field, value.shape, f"give one value, or {wanted} of them")
            low, high = float(value.min()), float(value.max())
        else:
            low = high = value
        if low != low or high != high:
            self.refuse(
                field, value, "a missing number is not a value; leave the asset out or fill the gap upstream"
            )
        if not endless and (low == -np.inf or high == np.inf):
            self.refuse(field, value, "must be finite")
        if low < least or high > most:
            self.refuse(field, value, f"must lie in [{least:g}, {most:g}]")
        if above is not None and low <= above:
            self.refuse(field, value, f"must be above {above:g}")
