"""Many homes as one: the same numpy code, written for one home, works on a chunk of homes at once.

A stack is an ordinary problem, asset or schedule whose numbers are columns (S, 1) and whose series are (S, T), one row
per home. What all homes share stays as it is, and broadcasts. Numpy then costs little more for the chunk than for one home.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

Owner = TypeVar("Owner")

_OWN = frozenset({"name", "site_id"})
"""Names may differ; where they do, they are a tuple in a stack, one per home."""


def stacked(owners: Sequence[Owner]) -> Owner | None:
    """One owner for all; None where they differ in more than names, numbers and series.

    Parameters
    ----------
    owners
        Frozen dataclasses of one kind. They have been validated, so the stack is not.
    """
    try:
        return _stacked(owners)
    except _DifferError:
        return None


class _DifferError(Exception):
    """Two values that cannot stand in one stack."""


def _stacked(owners: Sequence[Owner]) -> Owner:
    kind: Any = type(owners[0])
    if any(type(owner) is not kind for owner in owners):
        raise _DifferError
    stack: Owner = object.__new__(kind)
    for field, read in _readers(kind):
        values = list(map(read, owners))
        value = tuple(values) if field in _OWN and len(set(values)) > 1 else _joined(values)
        object.__setattr__(stack, field, value)
    return stack


def rows(stack: Owner, count: int) -> list[Owner]:
    """The owners inside a stack: each has its row of every series (a view)."""
    kind: Any = type(stack)
    own = [object.__new__(kind) for _ in range(count)]
    for field, read in _readers(kind):
        value = read(stack)
        if isinstance(value, tuple) and field not in _OWN:
            value = (
                zip(*(rows(member, count) for member in value), strict=True) if value else repeat((), count)
            )
        elif not isinstance(value, tuple) and not (isinstance(value, np.ndarray) and value.ndim == 2):
            value = repeat(value, count)
        for owner, part in zip(own, value, strict=True):
            object.__setattr__(owner, field, part)
    return own


@cache
def _readers(kind: type[Any]) -> list[tuple[str, attrgetter[Any]]]:
    return [(field.name, attrgetter(field.name)) for field in fields(kind)]


def _joined(values: list[Any]) -> Any:
    """The values of one field as one."""
    first = values[0]
    if all(value is first for value in values):
        return first
    kinds = set(map(type, values))
    if kinds == {float}:
        return first if values.count(first) == len(values) else np.array(values)[:, None]
    if kinds <= {float, np.ndarray} and len({np.shape(value) for value in values} - {()}) == 1:
        return np.array(np.broadcast_arrays(*values) if float in kinds else values)
    if kinds == {tuple} and len(set(map(len, values))) == 1:
        return tuple(_joined(list(members)) for members in zip(*values, strict=True))
    if len(kinds) == 1 and is_dataclass(first):
        return _stacked(values)
    if len(kinds) == 1 and not isinstance(first, np.ndarray) and all(value == first for value in values):
        return first
    raise _DifferError
