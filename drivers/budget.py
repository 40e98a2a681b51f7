"""How often each register was written and may still be: flash wears out, and a restart must not make that forgotten."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from drivers.memory import BudgetMemory

_DAY_S: Final = 86_400.0
_WHOLE: Final = 1.0 - 1e-6
"""From here on a write is allowed; below one by less than rounding."""


class BudgetSpentError(Exception):
    """A register was written as often as its memory bears today."""


@dataclass(slots=True)
class _Register:
    """Writes one register still bears: a quarter of a day's at once, the rest spread over the day.

    So no span of 24 hours sees more than `per_day`, and a busy morning does not leave the evening without any.
    """

    per_day: int
    at: datetime
    left: float = field(init=False)
    day: date = field(init=False)
    writes: int = 0

    def __post_init__(self) -> None:
        self.left, self.day = self._at_once, self.at.date()

    @property
    def _at_once(self) -> float:
        return max(1.0, self.per_day / 4.0)

    @property
    def _per_s(self) -> float:
        return (self.per_day - self._at_once) / _DAY_S

    def left_at(self, now: datetime) -> float:
        elapsed_s = max(0.0, (now - self.at).total_seconds())
        return min(self._at_once, self.left + elapsed_s * self._per_s)

    def refill(self, now: datetime) -> None:
        self.left, self.at = self.left_at(now), now
        if now.date() != self.day:
            self.day, self.writes = now.date(), 0

    @property
    def wait_s(self) -> float:
        """Seconds until the next write is allowed; 0 when it is now."""
        if self.left >= _WHOLE:
            return 0.0
        return (1.0 - self.left) / self._per_s if self._per_s > 0.0 else _DAY_S


class WriteBudgets:
    """The budgets of one device, by register name."""

    def __init__(self) -> None:
        self._registers: dict[str, _Register] = {}
        self._kept: dict[str, BudgetMemory] = {}

    def spend(self, names: Sequence[str], per_day: int, at: datetime, *, overdraw: bool = False) -> None:
        """Count one write of each register named (twice named: two writes), or none.

        Parameters
        ----------
        overdraw
            Allow it whatever is left, and pay it back later: to give a device back to its own mode.

        Raises
        ------
        BudgetSpentError
            One of them may not be written now; says which, and when it may.
        """
        for name in dict.fromkeys(names):
            register = self._register(name, per_day, at)
            register.refill(at)
            if overdraw:
                continue
            if register.wait_s > 0.0 or register.left < names.count(name) - 1e-6:
                wait = f"register {name} bears {per_day} writes a day; next one in {register.wait_s:.0f} s"
                raise BudgetSpentError(wait)
        for name in names:
            self._registers[name].left -= 1.0
            self._registers[name].writes += 1

    def writes_on(self, day: date) -> Mapping[str, int]:
        """Write requests of a UTC day, by register."""
        # listed first, as whoever shows figures may ask from another thread
        live = {name: r.writes for name, r in list(self._registers.items()) if r.day == day}
        return {name: kept.writes for name, kept in list(self._kept.items()) if kept.day == day} | live

    def left(self, at: datetime) -> int | None:
        """Writes the scarcest register bears now; None while none was written."""
        return min((int(r.left_at(at) + 1e-6) for r in list(self._registers.values())), default=None)

    def export(self) -> dict[str, BudgetMemory]:
        """What must be kept over a restart."""
        live = {
            name: BudgetMemory(left=r.left, at=r.at, day=r.day, writes=r.writes)
            for name, r in self._registers.items()
        }
        return self._kept | live

    def restore(self, kept: Mapping[str, BudgetMemory]) -> None:
        """Go on from what was kept; registers written since are not touched."""
        self._kept |= kept

    def _register(self, name: str, per_day: int, at: datetime) -> _Register:
        register = self._registers.get(name)
        if register is None:
            register = self._registers[name] = _Register(per_day, at)
            if (kept := self._kept.pop(name, None)) is not None:
                register.left = min(register.left, kept.left)
                register.at, register.day, register.writes = min(kept.at, at), kept.day, kept.writes
        return register
