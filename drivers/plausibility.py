"""Rules that catch readings no meter should give. Each flag names its rule; nothing is corrected silently."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from math import inf
from typing import Final, TypeAlias

from drivers.memory import CounterMemory
from drivers.protocols import Quality
from drivers.quantities import COUNTERS, NEVER_NEGATIVE

OVERLOAD_FRAC: Final = 1.2
"""Power above nameplate times this is no measurement."""
MOST_VOLTS: Final = 480.0
"""Phase to neutral of the highest low-voltage grids is 400 V; a fifth above that is no measurement."""
COLDEST_DEGC: Final = -65.0
HOTTEST_DEGC: Final = 200.0
"""Beyond these no sensor of a building is right; broken ones often show -3276.8 or 6553.5."""
COUNTER_SLACK_KWH: Final = 0.1
"""A rise within this is never judged."""
COARSEST_KWH: Final = 10.0
"""Counters tick in steps, some of 1 or 10 kWh; when the last one was is not known before the first was seen."""
EXCHANGE_AFTER: Final = 3
"""Readings in a row on a new, lower counter before it is believed to be another meter."""
FROZEN_AFTER: Final = 20
"""Identical passes before a device that shows power counts as frozen."""
FROZEN_S: Final = 300.0
"""Shortest time those passes must span [s]."""
WRAPS_KWH: Final = (2.0**32 / 1000.0, 2.0**32 / 100.0, 1e6, 1e5, 2.0**32)
"""Where counters roll over: 32 bits of Wh or 10 Wh, six or five digits of kWh, 32 bits of kWh."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A verdict on one value."""

    quality: Quality
    """What the value is worth."""
    rule: str
    """Which rule caught it."""
    cause: str
    """The rule in words, with value and limit."""


Rule: TypeAlias = Callable[[float, datetime], tuple[float | None, Flag | None]]
"""Value and instant to the value to publish and the flag on it, if any."""


@dataclass(slots=True)
class Counter:
    """Keeps a lifetime counter rising through roll-over and meter exchange."""

    offset_kwh: float = 0.0
    last_raw_kwh: float | None = None
    last_at: datetime | None = None
    suspects: list[float] = field(default_factory=list)
    ticked_at: datetime | None = None
    """When it last rose: a step stands for all the time since then, however often one looks."""
    step_kwh: float = COARSEST_KWH
    """Smallest rise seen: no finer than its steps."""
    exchanged: bool = False
    """Another meter answers: what it shows next is where the old one stopped."""

    def take(self, raw_kwh: float, at: datetime, max_kw: float | None) -> tuple[float | None, Flag | None]:
        """Counter value to publish and, when a rule spoke, its flag; None when the raw value is not believed."""
        last, last_at = self.last_raw_kwh, self.last_at
        if last is None or last_at is None:
            return self._accept(raw_kwh, at), None
        if self.exchanged:
            self.offset_kwh += last - raw_kwh
            return self._accept(raw_kwh, at), _exchanged(last, raw_kwh)
        rise = raw_kwh - last
        most = None if max_kw is None else self._most_kwh(at, last_at, max_kw)
        if rise >= 0.0 and (most is None or rise <= most):
            return self._accept(raw_kwh, at), None
        wrap = next(
            (w for w in WRAPS_KWH if rise < 0.0 and last > 0.99 * w >= 0.0 and raw_kwh < 0.01 * w), None
        )
        if wrap is not None and last <= wrap:
            self.offset_kwh += wrap
            flag = Flag(Quality.ESTIMATED, "counter_rolled_over", f"rolled over at {wrap:g} kWh")
            return self._accept(raw_kwh, at), flag
        self.suspects = [s for s in self.suspects if s <= raw_kwh] + [raw_kwh]
        if len(self.suspects) >= EXCHANGE_AFTER:
            self.offset_kwh += last - self.suspects[0]
            return self._accept(raw_kwh, at), _exchanged(last, raw_kwh)
        rule = "counter_went_back" if rise < 0.0 else "counter_jumped"
        since_s = (at - last_at).total_seconds()
        return None, Flag(Quality.BAD, rule, f"{raw_kwh:g} kWh after {last:g} kWh {since_s:.0f} s before")

    def _most_kwh(self, at: datetime, last_at: datetime, max_kw: float) -> float:
        """Most it can have risen; a clock that was set back makes no time negative."""
        hours = max(0.0, (at - (self.ticked_at or last_at)).total_seconds() / 3600.0)
        return max_kw * OVERLOAD_FRAC * hours + max(COUNTER_SLACK_KWH, self.step_kwh)

    def _accept(self, raw_kwh: float, at: datetime) -> float:
        if self.last_raw_kwh is not None and raw_kwh != self.last_raw_kwh:
            self.ticked_at = at
            self.step_kwh = min(self.step_kwh, abs(raw_kwh - self.last_raw_kwh))
        self.last_raw_kwh, self.last_at, self.suspects, self.exchanged = raw_kwh, at, [], False
        return raw_kwh + self.offset_kwh


def _within(
    low: float, high: float, rule: str, cause: str, value: float, at: datetime
) -> tuple[float | None, Flag | None]:
    if low <= value <= high:
        return value, None
    return None, Flag(Quality.BAD, rule, cause.format(value))


def _exchanged(last_kwh: float, raw_kwh: float) -> Flag:
    cause = f"continues from {last_kwh:g} kWh at {raw_kwh:g} kWh"
    return Flag(Quality.ESTIMATED, "meter_exchanged", cause)


class Plausibility:
    """Judges the values of one device, with a memory of the last ones."""

    def __init__(self, *, max_kw: float | None) -> None:
        self._max_kw = max_kw
        self._counters: dict[str, Counter] = {}
        self._last: dict[str, float] = {}
        self._same_since: datetime | None = None
        self._same_count = 0

    def export_counters(self) -> dict[str, CounterMemory]:
        """Where each counter stands, to be kept over a restart."""
        return {
            name: CounterMemory(
                offset_kwh=counter.offset_kwh, last_raw_kwh=counter.last_raw_kwh, last_at=counter.last_at
            )
            for name, counter in self._counters.items()
            if counter.last_raw_kwh is not None and counter.last_at is not None
        }

    def restore_counters(self, kept: Mapping[str, CounterMemory]) -> None:
        """Go on from where counters stood; what was read since is believed over it."""
        for name, memory in kept.items():
            if name in COUNTERS and name not in self._counters:
                self._counters[name] = Counter(memory.offset_kwh, memory.last_raw_kwh, memory.last_at)

    def note_exchange(self) -> None:
        """Another device answers in the place of the old one: its counters go on from where the old ones stood."""
        for counter in self._counters.values():
            counter.exchanged = counter.last_raw_kwh is not None

    def judge(self, name: str, value: float, at: datetime) -> tuple[float | None, Flag | None]:
        """Value to publish and the flag on it, if any."""
        return self.rule(name)(value, at)

    def rule(self, name: str) -> Rule:
        """What judges the values of one quantity; the same for good, so that whoever judges often asks once."""
        judge = self._rule(name)
        if name not in NEVER_NEGATIVE:
            return judge

        def not_negative(value: float, at: datetime) -> tuple[float | None, Flag | None]:
            if value < 0.0:
                return None, Flag(Quality.BAD, "below_zero", f"{name} {value:g} cannot be negative")
            return judge(value, at)

        return not_negative

    def _rule(self, name: str) -> Rule:
        if name.endswith("_frac"):
            return partial(_within, -1e-9, 1.0 + 1e-9, "not_a_fraction", f"{name} {{:g}} is outside 0..1")
        if name.endswith("_hz"):
            return partial(_within, 40.0, 70.0, "not_a_grid", "{:g} Hz")
        if name.startswith("voltage_"):
            return partial(_within, -inf, MOST_VOLTS, "not_a_grid", "{:g} V between phase and neutral")
        if name.endswith("_degc"):
            return partial(_within, COLDEST_DEGC, HOTTEST_DEGC, "not_a_temperature", "{:g} degC")
        if name in COUNTERS:
            return partial(self._counted, name)
        if self._max_kw is not None and name.endswith("_kw") and "limit" not in name:
            most_kw = self._max_kw * OVERLOAD_FRAC
            cause = f"{{:g}} kW, nameplate {self._max_kw:g} kW"
            return partial(_within, -most_kw, most_kw, "above_nameplate", cause)
        return lambda value, at: (value, None)

    def _counted(self, name: str, value: float, at: datetime) -> tuple[float | None, Flag | None]:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Counter()
        return counter.take(value, at, self._max_kw)

    def frozen(self, values: Mapping[str, float], at: datetime) -> Flag | None:
        """A flag when the whole device shows the same numbers again and again although power flows."""
        if not values or values != self._last:
            self._last, self._same_since, self._same_count = dict(values), at, 0
            return None
        self._same_count += 1
        since = self._same_since or at
        flows = any(
            abs(v) > 0.02 for name, v in values.items() if name.endswith("_kw") and "limit" not in name
        )
        span_s = (at - since).total_seconds()
        if flows and self._same_count >= FROZEN_AFTER and span_s >= FROZEN_S:
            return Flag(
                Quality.STALE, "frozen", f"every value unchanged for {span_s:.0f} s while power flows"
            )
        return None
