"""How fast a setpoint may change: steps from what the device holds now."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from drivers.device_map import Control
from drivers.protocols import Clock

STEP_S: Final = 10.0
"""Longest time one step may make up for [s]: a setpoint held for an hour still leaves in steps."""


@dataclass(frozen=True, slots=True)
class _Move:
    """The last setpoint that was sent, since when, and until when the device may hold it."""

    target_kw: float
    at: datetime
    valid_until: datetime


class Ramps:
    """Knows when each control of one device was last moved, and how far it may move now."""

    def __init__(
        self, *, clock: Clock, now_kw: Callable[[str], float | None], kw_per_s: float | None
    ) -> None:
        self._clock, self._now_kw, self._kw_per_s = clock, now_kw, kw_per_s
        self._moves: dict[str, _Move] = {}

    def rate_kw_per_s(self, control: Control) -> float | None:
        """Slowest of the ramps stated for a control; None where none is."""
        rates = [self._kw_per_s, control.ramp_kw_per_s]
        if control.ramp_frac_per_s is not None:
            most = control.max_kw
            if control.max_from is not None and (bound := self._now_kw(control.max_from)) is not None:
                most = bound if most is None else max(most, bound)
            rates.append(None if most is None else control.ramp_frac_per_s * most)
        return min((rate for rate in rates if rate), default=None)

    def step(self, control: Control, rate: float, *, from_kw: float, to_kw: float) -> float:
        """Where a control may be now on its way between two setpoints [kW]; the end itself when it is in reach."""
        # a device that tells no step finer than this would never move
        longest_s = max(STEP_S, control.step_kw / rate)
        move = self._moves.get(control.name)
        elapsed_s = longest_s if move is None else (self._clock() - move.at).total_seconds()
        step_kw = rate * min(max(elapsed_s, 0.0), longest_s)
        if abs(to_kw - from_kw) <= step_kw + 1e-9:
            return to_kw
        next_kw = from_kw + step_kw if to_kw > from_kw else from_kw - step_kw
        if 0.0 < next_kw < control.pause_below_kw:
            return control.pause_below_kw if to_kw > from_kw else 0.0
        return next_kw

    def sent_kw(self, control: Control) -> float | None:
        """The setpoint sent last, while the device may still hold it."""
        move = self._moves.get(control.name)
        return move.target_kw if move is not None and self._clock() < move.valid_until else None

    def note(self, control: Control, target_kw: float, valid_s: float) -> None:
        """A setpoint was sent; one that is only renewed does not count as a move."""
        at, before = self._clock(), self._moves.get(control.name)
        moved_at = before.at if before is not None and before.target_kw == target_kw else at
        self._moves[control.name] = _Move(target_kw, moved_at, at + timedelta(seconds=valid_s))

    def forget(self, control: Control) -> None:
        """The device was given back to its own mode."""
        self._moves.pop(control.name, None)
