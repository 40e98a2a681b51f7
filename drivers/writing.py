"""Writing a setpoint: allow-list and range, only if needed, within the daily budget, read back, typed receipt."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import isfinite
from typing import TypeAlias

from drivers.blocks import read_registers
from drivers.device_map import Control, Expression, Step, When
from drivers.modbus import Link, LinkError
from drivers.protocols import (
    Applied,
    Clamped,
    Clock,
    Receipt,
    Refused,
    TroubleKind,
    Unverified,
)
from drivers.registers import Register, Table, decode, encode, plan_blocks

RENEW_FRAC = 0.5
"""A setpoint is written again when less than this share of its validity is left."""


@dataclass(slots=True)
class WriteCounters:
    """Counts of one device's writes; plain numbers for metrics."""

    writes: int = 0
    saved: int = 0
    refusals: int = 0
    unverified: int = 0
    by_register: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Word:
    """What one register was given."""

    register: Register
    data: bytes
    is_timer: bool

    def shown_by(self, seen: Mapping[str, bytes]) -> bool:
        """True when the device shows it; a timer may be running down."""
        shown = seen.get(self.register.name)
        if shown is None or not self.is_timer:
            return shown == self.data
        left, given = decode(self.register, shown), decode(self.register, self.data)
        return left is not None and given is not None and 0.0 < left <= given


_Words: TypeAlias = tuple[_Word, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """What we know the device holds."""

    words: _Words
    valid_until: datetime | None

    def same_setpoint(self, words: _Words) -> bool:
        """True when only timers differ."""
        return [w for w in self.words if not w.is_timer] == [w for w in words if not w.is_timer]


class _BudgetSpentError(Exception):
    pass


class Writer:
    """Writes the controls of one device. One setpoint at a time."""

    def __init__(
        self,
        *,
        link: Link,
        unit: int,
        clock: Clock,
        now_kw: Callable[[str], float | None],
    ) -> None:
        self.counters = WriteCounters()
        self._max_count, self._max_gap = 125, 8
        self._link, self._unit, self._clock = link, unit, clock
        self._now_kw = now_kw
        self._lock = asyncio.Lock()
        self._held: dict[str, _Held] = {}
        self._day: date | None = None
        self._today: dict[str, int] = {}

    def limits(self, *, max_count: int, max_gap: int) -> None:
        """What one read of this device may bring."""
        self._max_count, self._max_gap = max_count, max_gap

    def forget(self) -> None:
        """The device may have lost its settings; believe nothing about it."""
        self._held.clear()

    async def write(self, control: Control, asked_kw: float, valid_s: float) -> Receipt:
        """Make the device hold a setpoint."""
        async with self._lock:
            receipt = await self._write(control, asked_kw, valid_s)
        return self._counted(receipt)

    async def release(self, controls: Sequence[Control]) -> Receipt:
        """Give the device back to its own mode."""
        async with self._lock:
            receipt: Receipt = Refused(
                control="release",
                asked=None,
                at=self._clock(),
                rule="unsupported",
                reason="nothing to release",
            )
            for control in controls:
                receipt = await self._release(control)
                if not isinstance(receipt, Applied):
                    break
        return self._counted(receipt)

    def refuse(self, control: str, asked: float | None, rule: str, reason: str) -> Refused:
        """A counted refusal."""
        self.counters.refusals += 1
        return Refused(control=control, asked=asked, at=self._clock(), rule=rule, reason=reason)

    async def _write(self, control: Control, asked_kw: float, valid_s: float) -> Receipt:
        def refused(rule: str, reason: str) -> Refused:
            return Refused(control=control.name, asked=asked_kw, at=self._clock(), rule=rule, reason=reason)

        if not isfinite(asked_kw) or not isfinite(valid_s) or valid_s <= 0.0:
            return refused("range", f"setpoint {asked_kw} kW for {valid_s} s is not a number in range")
        if self._link.read_only:
            return refused("read_only", "the link is read-only")
        target_kw, limit = self._in_range(control, asked_kw)
        valid_s = min(valid_s, control.longest_valid_s)
        pv_kw = self._now_kw("pv_kw") if _needs_pv(control) else 0.0
        if pv_kw is None:
            return refused(
                "unknown_state", "PV power is not known, and this device is set by its total AC power"
            )
        steps = list(_applicable(control.steps, target_kw))
        try:
            wanted = [_encode_step(step, target_kw, valid_s, pv_kw) for step in steps]
        except ValueError as error:
            return refused("range", str(error))
        held = self._held.get(control.name)
        raw = tuple(word for step, words in zip(steps, wanted, strict=True) if step.verify for word in words)
        rounded_kw = _value_held(steps, {word.register.name: word.data for word in raw})
        target_kw = target_kw if rounded_kw is None else rounded_kw
        try:
            before = await self._read_back(steps)
            if (
                held is not None
                and self._still_fresh(held, control, raw, valid_s)
                and _shows(before, held.words)
            ):
                return self._receipt(control, asked_kw, target_kw, held.valid_until, limit, written=False)
            for step, words in zip(steps, wanted, strict=True):
                await self._send(control, step, words, before)
        except _BudgetSpentError as error:
            return refused("budget", str(error))
        except LinkError as error:
            return await self._after_failed_write(
                control, asked_kw, target_kw, valid_s, steps, raw, limit, error
            )
        valid_until = self._clock() + timedelta(seconds=valid_s) if control.reverts else None
        return await self._verify(control, asked_kw, target_kw, valid_until, steps, raw, before, limit)

    def _in_range(self, control: Control, asked_kw: float) -> tuple[float, str | None]:
        """Setpoint inside the control's and the device's present limits, and the limit that cut it."""
        low, high = control.min_kw, control.max_kw
        names = [
            f"at least {low:g} kW" if low is not None else "",
            f"at most {high:g} kW" if high is not None else "",
        ]
        if control.min_from is not None and (bound := self._now_kw(control.min_from)) is not None:
            low, names[0] = (
                max(-bound, low if low is not None else -bound),
                f"{control.min_from} {bound:g} kW",
            )
        if control.max_from is not None and (bound := self._now_kw(control.max_from)) is not None:
            high, names[1] = (
                min(bound, high if high is not None else bound),
                f"{control.max_from} {bound:g} kW",
            )
        if low is not None and asked_kw < low:
            return low, names[0]
        if high is not None and asked_kw > high:
            return high, names[1]
        if 0.0 < asked_kw < control.pause_below_kw:
            return 0.0, f"pauses below {control.pause_below_kw:g} kW"
        return asked_kw, None

    def _still_fresh(self, held: _Held, control: Control, raw: _Words, valid_s: float) -> bool:
        if not held.same_setpoint(raw):
            return False
        if not control.reverts or held.valid_until is None:
            return True
        return (held.valid_until - self._clock()).total_seconds() >= RENEW_FRAC * valid_s

    async def _send(self, control: Control, step: Step, words: _Words, before: Mapping[str, bytes]) -> None:
        if step.ensure and _shows(before, words):
            return
        registers = [register for register, _ in step.values]
        self._spend(control, [register.name for register in registers])
        self.counters.writes += 1
        if registers[0].table is Table.COIL:
            for word in words:
                await self._link.write_coil(self._unit, word.register.address, on=word.data != b"\0")
        elif step.single:
            for word in words:
                await self._link.write_register(self._unit, word.register.address, word.data)
        else:
            payload = b"".join(word.data for word in words)
            await self._link.write_registers(self._unit, registers[0].address, payload)

    def _spend(self, control: Control, names: Sequence[str]) -> None:
        today = self._clock().date()
        if today != self._day:
            self._day, self._today = today, {}
        for name in names:
            if self._today.get(name, 0) >= control.writes_per_day:
                raise _BudgetSpentError(
                    f"register {name} was written {self._today[name]} times today, budget {control.writes_per_day}"
                )
        for name in names:
            self._today[name] = self._today.get(name, 0) + 1
            self.counters.by_register[name] = self.counters.by_register.get(name, 0) + 1

    async def _read_back(self, steps: Sequence[Step]) -> dict[str, bytes]:
        """Raw bytes the device holds now, by register name."""
        held: dict[str, bytes] = {}
        registers = [register for step in steps if step.verify for register, _ in step.values]
        for block in plan_blocks(registers, max_count=self._max_count, max_gap=self._max_gap):
            data = await self._link.read(self._unit, block.table.read_function, block.address, block.count)
            held |= {register.name: block.cut(data, register) for register in block.registers}
        return held

    async def _verify(
        self,
        control: Control,
        asked_kw: float,
        target_kw: float,
        valid_until: datetime | None,
        steps: Sequence[Step],
        raw: _Words,
        before: Mapping[str, bytes],
        limit: str | None,
    ) -> Receipt:
        try:
            seen = await self._read_back(steps)
            shown_kw = await self._shown_kw(control)
        except LinkError as error:
            self._held.pop(control.name, None)
            return self._unverified(control, asked_kw, f"no read-back: {error.trouble.detail}")
        if shown_kw is not None and abs(shown_kw - target_kw) > control.step_kw + 1e-6:
            self._held.pop(control.name, None)
            reason = f"read-back shows {shown_kw:g} kW, written {target_kw:g} kW"
            return self._unverified(control, asked_kw, reason)
        if _shows(seen, raw):
            self._held[control.name] = _Held(raw, valid_until)
            return self._receipt(control, asked_kw, target_kw, valid_until, limit, written=True)
        self._held.pop(control.name, None)
        wrong = [word for word in raw if not word.shown_by(seen)]
        held_kw = _value_held(steps, seen)
        moved = all(seen[w.register.name] != before.get(w.register.name) for w in wrong)
        if held_kw is not None and moved:
            return Clamped(
                control=control.name,
                asked=asked_kw,
                value=held_kw,
                at=self._clock(),
                valid_until=valid_until,
                limit=f"the device holds {held_kw:g} kW instead of {target_kw:g} kW",
            )
        shown = ", ".join(
            f"{w.register.name}={seen[w.register.name].hex()} instead of {w.data.hex()}" for w in wrong
        )
        return self._unverified(control, asked_kw, f"acknowledged, but read-back shows {shown}")

    async def _shown_kw(self, control: Control) -> float | None:
        if control.read_back is None:
            return None
        values = await read_registers(self._link, self._unit, [control.read_back])
        shown = values[control.read_back.name]
        return shown if isinstance(shown, float | int) else None

    async def _after_failed_write(
        self,
        control: Control,
        asked_kw: float,
        target_kw: float,
        valid_s: float,
        steps: Sequence[Step],
        raw: _Words,
        limit: str | None,
        error: LinkError,
    ) -> Receipt:
        """A write without an answer may or may not have reached the device: look, never write twice."""
        self._held.pop(control.name, None)
        trouble = error.trouble
        if trouble.kind in (TroubleKind.BACKING_OFF, TroubleKind.READ_ONLY, TroubleKind.EXCEPTION):
            rule = {TroubleKind.BACKING_OFF: "unreachable", TroubleKind.READ_ONLY: "read_only"}
            return Refused(
                control=control.name,
                asked=asked_kw,
                at=self._clock(),
                rule=rule.get(trouble.kind, "exception"),
                reason=trouble.detail,
            )
        try:
            seen = await self._read_back(steps)
        except LinkError:
            return self._unverified(control, asked_kw, trouble.detail)
        if raw and _shows(seen, raw):
            valid_until = self._clock() + timedelta(seconds=valid_s) if control.reverts else None
            self._held[control.name] = _Held(raw, valid_until)
            return self._receipt(control, asked_kw, target_kw, valid_until, limit, written=True)
        return self._unverified(control, asked_kw, trouble.detail)

    async def _release(self, control: Control) -> Receipt:
        if not control.release:
            return Refused(
                control=control.name,
                asked=None,
                at=self._clock(),
                rule="unsupported",
                reason="this device has no way to be released; it reverts when its time-out has passed",
            )
        self._held.pop(control.name, None)
        wanted = [_encode_step(step, 0.0, 0.0, 0.0) for step in control.release]
        raw = tuple(
            w for step, words in zip(control.release, wanted, strict=True) if step.verify for w in words
        )
        try:
            before = await self._read_back(control.release)
            for step, words in zip(control.release, wanted, strict=True):
                if not _shows(before, words):
                    await self._send(control, step, words, before)
            seen = await self._read_back(control.release)
        except _BudgetSpentError as error:
            return Refused(
                control=control.name, asked=None, at=self._clock(), rule="budget", reason=str(error)
            )
        except LinkError as error:
            kind = error.trouble.kind
            if kind in (TroubleKind.BACKING_OFF, TroubleKind.READ_ONLY, TroubleKind.EXCEPTION):
                rule = {TroubleKind.BACKING_OFF: "unreachable", TroubleKind.READ_ONLY: "read_only"}
                return Refused(
                    control=control.name,
                    asked=None,
                    at=self._clock(),
                    rule=rule.get(kind, "exception"),
                    reason=error.trouble.detail,
                )
            return self._unverified(control, None, error.trouble.detail)
        if _shows(seen, raw):
            return Applied(control=control.name, asked=None, value=None, at=self._clock(), valid_until=None)
        return self._unverified(control, None, "the device still shows its old mode")

    def _unverified(self, control: Control, asked: float | None, reason: str) -> Unverified:
        return Unverified(control=control.name, asked=asked, at=self._clock(), reason=reason)

    def _receipt(
        self,
        control: Control,
        asked_kw: float,
        value_kw: float,
        valid_until: datetime | None,
        limit: str | None,
        *,
        written: bool,
    ) -> Receipt:
        at = self._clock()
        if not written:
            self.counters.saved += 1
        if limit is not None:
            return Clamped(
                control=control.name,
                asked=asked_kw,
                value=value_kw,
                at=at,
                valid_until=valid_until,
                limit=limit,
                written=written,
            )
        return Applied(
            control=control.name,
            asked=asked_kw,
            value=value_kw,
            at=at,
            valid_until=valid_until,
            written=written,
        )

    def _counted(self, receipt: Receipt) -> Receipt:
        if isinstance(receipt, Refused):
            self.counters.refusals += 1
        elif isinstance(receipt, Unverified):
            self.counters.unverified += 1
        return receipt


def _applicable(steps: Sequence[Step], target_kw: float) -> Iterator[Step]:
    sense = When.CHARGING if target_kw > 0.0 else When.DISCHARGING if target_kw < 0.0 else When.IDLE
    return (step for step in steps if step.when in (When.ALWAYS, sense))


def _needs_pv(control: Control) -> bool:
    return any(e is Expression.AC_GENERATION for step in control.steps for _, e in step.values)


def _encode_step(step: Step, target_kw: float, valid_s: float, pv_kw: float) -> _Words:
    return tuple(
        _Word(register, encode(register, _evaluate(e, target_kw, valid_s, pv_kw)), e is Expression.VALID_S)
        for register, e in step.values
    )


def _evaluate(expression: Expression | float, target_kw: float, valid_s: float, pv_kw: float) -> float:
    match expression:
        case Expression.TARGET:
            return target_kw
        case Expression.MINUS_TARGET:
            return -target_kw
        case Expression.CHARGE:
            return max(0.0, target_kw)
        case Expression.DISCHARGE:
            return max(0.0, -target_kw)
        case Expression.MAGNITUDE:
            return abs(target_kw)
        case Expression.VALID_S:
            return valid_s
        case Expression.AC_GENERATION:
            return pv_kw - target_kw
        case _:
            return float(expression)


def _shows(seen: Mapping[str, bytes], words: _Words) -> bool:
    return all(word.shown_by(seen) for word in words)


def _value_held(steps: Sequence[Step], seen: Mapping[str, bytes]) -> float | None:
    """Setpoint [kW, our sign] that the registers show, where one of them holds it directly."""
    for register, expression in ((r, e) for step in steps for r, e in step.values):
        if register.name in seen and expression in (Expression.TARGET, Expression.MINUS_TARGET):
            value = decode(register, seen[register.name])
            return value if value is None or expression is Expression.TARGET else -value
    return None
