"""Which setpoints of a site count: what every controller of it is told, however it asks. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from ems.setpoints import Setpoint, SetpointKind


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """What two setpoints compete for."""

    asset: str
    """The asset."""
    quantity: str
    """What is set."""

    @classmethod
    def of(cls, setpoint: Setpoint) -> Self:
        """Return the place a setpoint competes for."""
        return cls(setpoint.asset, str(setpoint.quantity))


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One place of the board has other content."""

    key: Key
    """The place."""
    setpoint: Setpoint | None
    """What stands there now; None: nothing."""


class Board:
    """The setpoints of one site that count now.

    What is posted has won its arbitration, so the newest stands. An asset told to run its own mode is told nothing
    else, and the other way round: two setpoints on the board never contradict each other.
    """

    def __init__(self) -> None:
        self._standing: dict[Key, Setpoint] = {}

    def post(self, setpoint: Setpoint) -> list[Change]:
        """Put a setpoint up; returns what changed, new content before what it displaced."""
        key = Key.of(setpoint)
        held = self._standing.get(key)
        if held is not None and (held.id == setpoint.id or setpoint.valid_from < held.valid_from):
            return []
        mode = setpoint.kind is SetpointKind.MODE
        displaced = [
            other
            for other, standing in self._standing.items()
            if other != key
            and other.asset == key.asset
            and (mode or standing.kind is SetpointKind.MODE)
            and standing.valid_from <= setpoint.valid_from
        ]
        for other in displaced:
            del self._standing[other]
        self._standing[key] = setpoint
        return [
            Change(key=key, setpoint=setpoint),
            *(Change(key=other, setpoint=None) for other in displaced),
        ]

    def run_out(self, at: datetime) -> list[Setpoint]:
        """Take down what has expired and return it."""
        over = [key for key, standing in self._standing.items() if standing.valid_until <= at]
        return [self._standing.pop(key) for key in over]

    def standing(self) -> dict[Key, Setpoint]:
        """Return what stands, by place."""
        return dict(sorted(self._standing.items()))


def in_force(setpoints: Iterable[Setpoint], at: datetime) -> dict[Key, Setpoint]:
    """Return what counts at `at` of everything that was ever told, oldest first."""
    board = Board()
    for setpoint in setpoints:
        if setpoint.valid_from <= at:
            board.post(setpoint)
    board.run_out(at)
    return board.standing()
