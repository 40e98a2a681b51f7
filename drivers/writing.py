"""Writing a setpoint: range, ramp, only if needed, within the daily budget, read back, typed receipt.

The allow-list is the device's map: what no `Control` names can never be written. Whether a control may be used at all
(the device's role, the household's consent) is decided before, in `Device`.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import isfinite
from typing import Final, TypeAlias

from drivers.blocks import read_registers
from drivers.budget import BudgetSpentError, WriteBudgets
from drivers.device_map import OWN_MODES, Control, Expression, Step, When
from drivers.modbus import Link, LinkError
from drivers.protocols import (
    RAMP,
    Applied,
    Clamped,
    Clock,
    Receipt,
    Refused,
    Trouble,
    TroubleKind,
    Unverified,
)
from drivers.ramp import Ramps
from drivers.registers import Register, Table, decode, encode, plan_blocks

RENEW_FRAC: Final = 0.5
"""A setpoint is written again when less than this share of its validity is left."""
_NOTHING_SENT: Final = {
    TroubleKind.BACKING_OFF: "unreachable",
    TroubleKind.READ_ONLY: "read_only",
    TroubleKind.EXCEPTION: "exception",
}
"""Troubles after which the device surely did not take the write, and the rule a refusal names."""


@dataclass(slots=True)
class WriteCounters:
    """Counts of one device's writes; plain numbers for metrics."""

    writes: int = 0
    """Write requests sent."""
    saved: int = 0
    """Setpoints the device held already."""
    refusals: int = 0
    """Setpoints refused, by us or by the device."""
    unverified: int = 0
    """Setpoints whose read-back did not show them."""
    by_register: dict[str, int] = field(default_factory=dict)
    """Write requests per register."""


@dataclass(frozen=True, slots=True)
class _Word:
    """What one register is given."""

    register: Register
    data: bytes
    is_timer: bool
    readable: bool

    def shown_by(self, seen: Mapping[str, bytes]) -> bool:
        """True when the device shows it; a timer may be running down."""
        if not self.readable:
            return True
        shown = seen.get(self.register.name)
        if shown is None or not self.is_timer:
            return shown == self.data
        left, given = decode(self.register, shown), decode(self.register, self.data)
        return left is not None and given is not None and 0.0 < left <= given


_Words: TypeAlias = tuple[_Word, ...]


@dataclass(frozen=True, slots=True)
class _Request:
    """One write request and what it carries."""

    step: Step
    words: _Words


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """A setpoint, ready to be written."""

    control: Control
    asked_kw: float | None
    target_kw: float | None
    valid_s: float
    limit: str | None
    requests: tuple[_Request, ...]

    @property
    def words(self) -> _Words:
        return tuple(word for request in self.requests for word in request.words)


@dataclass(frozen=True, slots=True)
class _Held:
    """What we know the device holds."""

    words: _Words
    valid_until: datetime | None

    def same_setpoint(self, words: _Words) -> bool:
        """True when only timers differ."""
        return [w for w in self.words if not w.is_timer] == [w for w in words if not w.is_timer]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedWrite:
    """One write request a setpoint would cause."""

    control: str
    """Control name."""
    setpoint_kw: float
    """What was asked [kW, our sign]."""
    table: Table
    """Where."""
    address: int
    """First address, 0-based."""
    registers: tuple[str, ...]
    """What is written, in order."""
    words: bytes
    """As sent."""


class Writer:
    """Writes the controls of one device, one setpoint at a time."""

    def __init__(
        self,
        *,
        link: Link,
        unit: int,
        clock: Clock,
        now_kw: Callable[[str], float | None],
        ramp_kw_per_s: float | None = None,
    ) -> None:
        self.counters = WriteCounters()
        self._max_count, self._max_gap = 125, 8
        self._link, self._unit, self._clock = link, unit, clock
        self._now_kw = now_kw
        self._ramps = Ramps(clock=clock, now_kw=now_kw, kw_per_s=ramp_kw_per_s)
        self._lock = asyncio.Lock()
        self._held: dict[str, _Held] = {}
        self.budgets = WriteBudgets()

    def limits(self, *, max_count: int, max_gap: int) -> None:
        """What one read of this device may bring."""
        self._max_count, self._max_gap = max_count, max_gap

    def forget(self) -> None:
        """The device may have lost its settings; believe nothing about it."""
        self._held.clear()

    async def write(
        self, control: Control, asked_kw: float, valid_s: float, *, connection: int | None = None
    ) -> Receipt:
        """Make the device hold a setpoint [kW, our sign] for `valid_s` seconds.

        Parameters
        ----------
        connection
            Number of the connection over which the device was identified; on another one nothing is sent.
        """
        async with self._lock:
            order = self._order(control, asked_kw, valid_s)
            receipt = order if isinstance(order, Refused) else await self._carry_out(order, connection)
        return self._counted(receipt)

    async def release(self, controls: Sequence[Control]) -> Receipt:
        """Give the device back to its own mode."""
        receipt: Receipt = self._refused(
            "release", None, "unsupported", "the device has no control to release"
        )
        async with self._lock:
            for control in controls:
                receipt = await self._release(control)
                if not isinstance(receipt, Applied):
                    break
        return self._counted(receipt)

    def refuse(self, control: str, asked: float | None, rule: str, reason: str) -> Refused:
        """A counted refusal."""
        self.counters.refusals += 1
        return self._refused(control, asked, rule, reason)

    def preview(self, control: Control, asked_kw: float, valid_s: float) -> tuple[PlannedWrite, ...]:
        """What a setpoint would send; nothing is sent."""
        order = self._order(control, asked_kw, valid_s)
        return (
            ()
            if isinstance(order, Refused)
            else tuple(
                PlannedWrite(
                    control=control.name,
                    setpoint_kw=asked_kw,
                    table=request.words[0].register.table,
                    address=request.words[0].register.address,
                    registers=tuple(word.register.name for word in request.words),
                    words=b"".join(word.data for word in request.words),
                )
                for request in order.requests
            )
        )

    def _order(self, control: Control, asked_kw: float, valid_s: float) -> _Order | Refused:
        """A setpoint inside all limits, encoded; or why not."""
        if not isfinite(asked_kw) or not isfinite(valid_s) or valid_s <= 0.0:
            reason = f"setpoint {asked_kw} kW for {valid_s} s is not a number in range"
            return self._refused(control.name, asked_kw, "range", reason)
        target_kw, limit = self._in_range(control, asked_kw)
        return self._order_for(control, asked_kw, target_kw, min(valid_s, control.longest_valid_s), limit)

    def _order_for(
        self, control: Control, asked_kw: float, target_kw: float, valid_s: float, limit: str | None
    ) -> _Order | Refused:
        """A target, encoded; or why that cannot be."""
        pv_kw = self._now_kw("pv_kw") if _needs_pv(control) else 0.0
        if pv_kw is None:
            reason = "PV power is not known, and this device is set by its total AC power"
            return self._refused(control.name, asked_kw, "unknown_state", reason)
        try:
            requests = tuple(
                _encoded(step, target_kw, valid_s, pv_kw) for step in _applicable(control.steps, target_kw)
            )
        except ValueError as error:
            return self._refused(control.name, asked_kw, "range", str(error))
        rounded_kw = _value_shown(requests, {w.register.name: w.data for r in requests for w in r.words})
        return _Order(
            control=control,
            asked_kw=asked_kw,
            target_kw=target_kw if rounded_kw is None else rounded_kw,
            valid_s=valid_s,
            limit=limit,
            requests=requests,
        )

    def _in_range(self, control: Control, asked_kw: float) -> tuple[float, str | None]:
        """Setpoint inside the control's and the device's present limits, and the limit that cut it."""
        lows: list[tuple[float, str]] = []
        highs: list[tuple[float, str]] = []
        if control.min_from is not None and (bound := self._now_kw(control.min_from)) is not None:
            lows.append((-bound, f"{control.min_from} {bound:g} kW"))
        if control.max_from is not None and (bound := self._now_kw(control.max_from)) is not None:
            highs.append((bound, f"{control.max_from} {bound:g} kW"))
        if control.min_kw is not None:
            lows.append((control.min_kw, f"at least {control.min_kw:g} kW"))
        if control.max_kw is not None:
            highs.append((control.max_kw, f"at most {control.max_kw:g} kW"))
        low = max(lows, key=lambda pair: pair[0], default=None)
        high = min(highs, key=lambda pair: pair[0], default=None)
        if low is not None and asked_kw < low[0]:
            return low
        if high is not None and asked_kw > high[0]:
            return high
        if 0.0 < asked_kw < control.pause_below_kw:
            return 0.0, f"pauses below {control.pause_below_kw:g} kW"
        return asked_kw, None

    async def _carry_out(self, order: _Order, connection: int | None = None) -> Receipt:
        held, rate = self._held.get(order.control.name), self._ramps.rate_kw_per_s(order.control)
        try:
            before = await self._read_back(order)
            if rate is not None and order.target_kw is not None and order.asked_kw is not None:
                from_kw = self._from_kw(order, before, await self._shown_kw(order))
                stepped = self._ramped(order, order.asked_kw, order.target_kw, from_kw, rate)
                if isinstance(stepped, Refused):
                    return stepped
                if stepped is not order:
                    order, before = stepped, before | await self._read_back(stepped)
            if held is not None and self._still_fresh(held, order) and _shows(before, held.words):
                shown_kw = await self._shown_kw(order)
                if shown_kw is None or self._agrees(shown_kw, order):
                    return self._receipt(order, held.valid_until, written=False)
        except LinkError as error:
            rule = _NOTHING_SENT.get(error.trouble.kind, "unreachable")
            return self._refused(order.control.name, order.asked_kw, rule, error.trouble.detail)
        if connection not in (None, self._link.counters.connects):
            reason = "the connection was lost on the way, so another device may answer now; nothing was sent"
            return self._refused(order.control.name, order.asked_kw, "unreachable", reason)
        due = [request for request in order.requests if not _spared(request, before)]
        try:
            names = [word.register.name for request in due for word in request.words]
            releases = order.target_kw is None
            self.budgets.spend(names, order.control.writes_per_day, self._clock(), overdraw=releases)
        except BudgetSpentError as error:
            return self._refused(order.control.name, order.asked_kw, "budget", str(error))
        self._held.pop(order.control.name, None)
        for number, request in enumerate(due):
            try:
                await self._send(request)
            except LinkError as error:
                if number == 0 and error.trouble.kind in _NOTHING_SENT:
                    rule = _NOTHING_SENT[error.trouble.kind]
                    return self._refused(order.control.name, order.asked_kw, rule, error.trouble.detail)
                return await self._verify(order, before, error.trouble)
        return await self._verify(order, before, None)

    def _ramped(
        self, order: _Order, asked_kw: float, target_kw: float, from_kw: float | None, rate: float
    ) -> _Order | Refused:
        """The same order, or one a ramp step away from what the device holds."""
        if from_kw is None:
            reason = f"ramp of {rate:g} kW/s, and what the device does now is not known"
            return self._refused(order.control.name, asked_kw, "unknown_state", reason)
        next_kw = self._ramps.step(order.control, rate, from_kw=from_kw, to_kw=target_kw)
        if next_kw == target_kw:
            return order
        limit = f"{RAMP}: at most {rate:g} kW/s, held {from_kw:.3f} kW, asked {asked_kw:g} kW"
        return self._order_for(order.control, asked_kw, next_kw, order.valid_s, limit)

    def _from_kw(self, order: _Order, before: Mapping[str, bytes], shown_kw: float | None) -> float | None:
        """Setpoint the device holds now; in its own mode, the power it shows."""
        control = order.control
        if shown_kw is not None:
            return shown_kw
        modes = [request for request in order.requests if request.step.ensure and request.step.verify]
        if all(_shows(before, request.words) for request in modes):
            if (held_kw := _value_shown(order.requests, before)) is not None:
                return held_kw
            if (sent_kw := self._ramps.sent_kw(control)) is not None:
                return sent_kw
        if control.name in OWN_MODES:
            return self._now_kw(OWN_MODES[control.name])
        return control.max_kw  # a limit that is not in force lets everything through

    def _still_fresh(self, held: _Held, order: _Order) -> bool:
        if not held.same_setpoint(order.words):
            return False
        if not order.control.reverts or held.valid_until is None:
            return True
        left_s = (held.valid_until - self._clock()).total_seconds()
        # more than was given: the clock was set back since, and the device's own timer knows nothing of that
        return RENEW_FRAC * order.valid_s <= left_s <= order.valid_s

    async def _send(self, request: _Request) -> None:
        words = request.words
        self.counters.writes += 1
        for word in words:
            name = word.register.name
            self.counters.by_register[name] = self.counters.by_register.get(name, 0) + 1
        if words[0].register.table is Table.COIL:
            for word in words:
                await self._link.write_coil(self._unit, word.register.address, on=word.data != b"\0")
        elif request.step.single:
            for word in words:
                await self._link.write_register(self._unit, word.register.address, word.data)
        else:
            payload = b"".join(word.data for word in words)
            await self._link.write_registers(self._unit, words[0].register.address, payload)

    async def _read_back(self, order: _Order) -> dict[str, bytes]:
        """Raw bytes the device holds now, by register name."""
        seen: dict[str, bytes] = {}
        registers = [word.register for word in order.words if word.readable]
        for block in plan_blocks(registers, max_count=self._max_count, max_gap=self._max_gap):
            data = await self._link.read(self._unit, block.table.read_function, block.address, block.count)
            seen |= {register.name: block.cut(data, register) for register in block.registers}
        return seen

    async def _shown_kw(self, order: _Order) -> float | None:
        """Setpoint that the control's own read-back register shows."""
        register = order.control.read_back
        if register is None:
            return None
        shown = (await read_registers(self._link, self._unit, [register]))[register.name]
        return shown if isinstance(shown, float | int) else None

    def _agrees(self, shown_kw: float, order: _Order) -> bool:
        return order.target_kw is None or abs(shown_kw - order.target_kw) <= order.control.step_kw + 1e-6

    async def _verify(self, order: _Order, before: Mapping[str, bytes], trouble: Trouble | None) -> Receipt:
        """Look at what the device holds. After a write without an answer too: it is never sent twice."""
        if order.target_kw is not None:
            self._ramps.note(order.control, order.target_kw, order.valid_s)
        try:
            seen = await self._read_back(order)
            shown_kw = await self._shown_kw(order)
        except LinkError as error:
            detail = trouble.detail if trouble is not None else f"no read-back: {error.trouble.detail}"
            return self._unverified(order, detail)
        if shown_kw is not None and not self._agrees(shown_kw, order):
            return self._unverified(order, f"read-back shows {shown_kw:g} kW, written {order.target_kw:g} kW")
        can_tell = shown_kw is not None or any(word.readable for word in order.words)
        wrong = [word for word in order.words if not word.shown_by(seen)]
        if can_tell and not wrong:
            valid_until = self._clock() + timedelta(seconds=order.valid_s) if order.control.reverts else None
            self._held[order.control.name] = _Held(order.words, valid_until)
            return self._receipt(order, valid_until, written=True)
        if trouble is not None:
            return self._unverified(order, trouble.detail)
        if not can_tell:
            return self._unverified(order, "written, but this device shows nothing to check it by")
        return self._cut_by_device(order, before, seen, wrong)

    def _cut_by_device(
        self, order: _Order, before: Mapping[str, bytes], seen: Mapping[str, bytes], wrong: Sequence[_Word]
    ) -> Receipt:
        held_kw = _value_shown(order.requests, seen)
        moved = all(seen[word.register.name] != before.get(word.register.name) for word in wrong)
        if held_kw is not None and moved and order.asked_kw is not None and order.target_kw is not None:
            return Clamped(
                control=order.control.name,
                asked=order.asked_kw,
                value=held_kw,
                at=self._clock(),
                valid_until=self._clock() + timedelta(seconds=order.valid_s)
                if order.control.reverts
                else None,
                limit=f"the device holds {held_kw:g} kW instead of {order.target_kw:g} kW",
            )
        shown = ", ".join(
            f"{w.register.name}={seen[w.register.name].hex()} instead of {w.data.hex()}" for w in wrong
        )
        return self._unverified(order, f"acknowledged, but read-back shows {shown}")

    async def _release(self, control: Control) -> Receipt:
        if not control.release:
            reason = "this device cannot be released; it reverts when its own time-out has passed"
            return self._refused(control.name, None, "unsupported", reason)
        self._held.pop(control.name, None)
        self._ramps.forget(control)
        order = _Order(
            control=Control(name=control.name, steps=control.release, writes_per_day=control.writes_per_day),
            asked_kw=None,
            target_kw=None,
            valid_s=0.0,
            limit=None,
            requests=tuple(_encoded(step, 0.0, 0.0, 0.0, ensure=True) for step in control.release),
        )
        receipt = await self._carry_out(order)
        self._held.pop(control.name, None)
        return receipt

    def _receipt(self, order: _Order, valid_until: datetime | None, *, written: bool) -> Receipt:
        if not written:
            self.counters.saved += 1
        if order.limit is not None and order.asked_kw is not None and order.target_kw is not None:
            return Clamped(
                control=order.control.name,
                asked=order.asked_kw,
                value=order.target_kw,
                at=self._clock(),
                valid_until=valid_until,
                limit=order.limit,
                written=written,
            )
        return Applied(
            control=order.control.name,
            asked=order.asked_kw,
            value=order.target_kw,
            at=self._clock(),
            valid_until=valid_until,
            written=written,
        )

    def _refused(self, control: str, asked: float | None, rule: str, reason: str) -> Refused:
        return Refused(control=control, asked=asked, at=self._clock(), rule=rule, reason=reason)

    def _unverified(self, order: _Order, reason: str) -> Unverified:
        return Unverified(control=order.control.name, asked=order.asked_kw, at=self._clock(), reason=reason)

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


def _encoded(step: Step, target_kw: float, valid_s: float, pv_kw: float, *, ensure: bool = False) -> _Request:
    words = tuple(
        _Word(
            register=register,
            data=encode(register, _evaluate(expression, target_kw, valid_s, pv_kw)),
            is_timer=expression is Expression.VALID_S,
            readable=step.verify,
        )
        for register, expression in step.values
    )
    if ensure and not step.ensure:
        step = Step(values=step.values, when=step.when, ensure=True, verify=step.verify, single=step.single)
    return _Request(step, words)


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


def _spared(request: _Request, before: Mapping[str, bytes]) -> bool:
    """True for modes and enable bits the device shows already."""
    return request.step.ensure and request.step.verify and _shows(before, request.words)


def _shows(seen: Mapping[str, bytes], words: _Words) -> bool:
    return all(word.shown_by(seen) for word in words)


def _value_shown(requests: Sequence[_Request], seen: Mapping[str, bytes]) -> float | None:
    """Setpoint [kW, our sign] that registers show, where one of them holds it directly."""
    for register, expression in ((r, e) for request in requests for r, e in request.step.values):
        if register.name in seen and expression in (Expression.TARGET, Expression.MINUS_TARGET):
            value = decode(register, seen[register.name])
            return value if value is None or expression is Expression.TARGET else -value
    return None
