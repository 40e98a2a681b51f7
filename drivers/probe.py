"""Commissioning: prove units, scale and sign of a device as far as its own data allow. Reads only."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from drivers.device import Device
from drivers.identity import Identity
from drivers.protocols import DeviceReading, Quality, Trouble
from drivers.writing import PlannedWrite


class Verdict(StrEnum):
    """Outcome of one check."""

    PROVEN = "proven"
    """The data agree."""
    WRONG = "wrong"
    """The data contradict; the device must not be used like this."""
    OPEN = "open"
    """The data do not say: too little power, too coarse a counter, a value missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing looked at."""

    rule: str
    """What was checked."""
    verdict: Verdict
    """Outcome."""
    detail: str
    """The numbers, and the remedy when wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReport:
    """All that was found out about one device."""

    device: str
    """Its name."""
    identity: Identity | None
    """Who answered; None when it did not."""
    first: DeviceReading
    """Reading at the start."""
    second: DeviceReading
    """Reading after the wait."""
    checks: tuple[Check, ...]
    """Everything checked."""
    would_write: tuple[PlannedWrite, ...]
    """What each control would send for an example setpoint; nothing was sent."""
    held: tuple[bytes | None, ...] = ()
    """What the registers of each planned write hold now; None where they cannot be read."""
    one_client: bool = False
    """The device accepts a single connection."""
    withheld: tuple[str, ...] = ()
    """Controls the device has and may not be given here: not its role, or no consent."""
    trouble: Trouble | None = None
    """Why the device could not be probed."""

    @property
    def wrong(self) -> bool:
        """True when a check contradicts."""
        return any(check.verdict is Verdict.WRONG for check in self.checks)


_ENOUGH_KW: Final = 0.1
"""Below this power nothing is proven."""
_EXAMPLES: Final = {
    "battery_power": 1.0,
    "generation_limit": 2.0,
    "charge_limit": 4.2,
    "consumption_limit": 0.0,
}


async def probe(
    device: Device, *, wait: Callable[[float], Awaitable[None]], seconds: float = 30.0
) -> ProbeReport:
    """Read every point, wait, read again, and compare.

    Parameters
    ----------
    wait
        Sleeps so many seconds of site time; `asyncio.sleep` in the field.
    seconds
        Time between the two readings [s]; counters must move by more than their step in it.
    """
    first = await device.read(every_group=True)
    if first.trouble is None:
        await wait(seconds)
    second = await device.read(every_group=True) if first.trouble is None else first
    trouble = first.trouble or second.trouble
    checks = () if trouble is not None else tuple(check_pair(first, second))
    controls = tuple(device.map.controls) if device.map is not None else ()
    writes = tuple(
        planned
        for control in controls
        for planned in device.preview(control, _EXAMPLES[control], valid_s=900.0)
    )
    held = [await device.shown(planned) for planned in writes]
    return ProbeReport(
        device=device.name,
        identity=device.identity,
        first=first,
        second=second,
        checks=checks,
        would_write=writes,
        held=tuple(held),
        one_client=device.one_client,
        withheld=tuple(control for control in controls if not device.permits(control)),
        trouble=trouble,
    )


def check_pair(first: DeviceReading, second: DeviceReading) -> Iterator[Check]:
    """Every check two readings of one device allow."""
    yield from _absences(second)
    yield from _phases(second)
    yield from _volt_amperes(second)
    yield from _grid(second)
    yield from _counters(first, second, "net_import_kw", "import_kwh", "export_kwh")
    yield from _counters(first, second, "net_consumption_kw", "consumed_kwh", "generated_kwh")
    yield from _counters(first, second, "battery_net_consumption_kw", "charged_kwh", "discharged_kwh")
    yield from _counters(first, second, "vehicle_net_consumption_kw", "vehicle_kwh", None)
    yield from _counters(first, second, "pv_kw", "pv_kwh", None)


def check_direction(meter: DeviceReading, inverters: Sequence[DeviceReading]) -> Check:
    """Grid meter against everything that generates behind it, read at about the same time.

    A house cannot feed in more than its inverters give: a meter that says so is mounted the wrong way round. A house that
    draws more than they give proves the direction, as the other way round it would have to generate by itself.
    """
    rule = "meter direction against the inverters"
    import_kw = meter.usable("net_import_kw")
    given = [reading.usable("net_consumption_kw") for reading in inverters]
    if import_kw is None or None in given:
        return Check(rule=rule, verdict=Verdict.OPEN, detail="the meter or an inverter gave no usable power")
    given_kw = -sum(kw for kw in given if kw is not None)
    slack_kw = _ENOUGH_KW + 0.05 * abs(given_kw)
    detail = f"net import {import_kw:.3f} kW, inverters give {given_kw:.3f} kW"
    if import_kw + given_kw < -slack_kw and not inverters:
        detail = f"{detail}: something generates that is not named, or set swap_direction: true"
        return Check(rule=rule, verdict=Verdict.OPEN, detail=detail)
    if import_kw + given_kw < -slack_kw:
        remedy = "more is fed in than they give: set swap_direction: true, or name what else generates"
        return Check(rule=rule, verdict=Verdict.WRONG, detail=f"{detail}: {remedy}")
    if given_kw - import_kw < -slack_kw:
        return Check(rule=rule, verdict=Verdict.PROVEN, detail=detail)
    return Check(rule=rule, verdict=Verdict.OPEN, detail=f"{detail}: both directions are possible")


def check_load_step(before: DeviceReading, after: DeviceReading, step_kw: float) -> Check:
    """A known consumer was switched on between two readings of the grid meter: import must rise by its power."""
    old, new = before.usable("net_import_kw"), after.usable("net_import_kw")
    rule = "known load step"
    if old is None or new is None:
        return Check(rule=rule, verdict=Verdict.OPEN, detail="the meter gave no usable power")
    rise = new - old
    numbers = f"{step_kw:g} kW switched on, import went from {old:.3f} to {new:.3f} kW"
    if abs(rise - step_kw) <= max(0.1, 0.25 * step_kw):
        return Check(rule=rule, verdict=Verdict.PROVEN, detail=numbers)
    if abs(rise + step_kw) <= max(0.1, 0.25 * step_kw):
        return Check(rule=rule, verdict=Verdict.WRONG, detail=f"{numbers}: set swap_direction: true")
    for factor in (0.001, 0.01, 0.1, 10.0, 100.0, 1000.0):
        if abs(rise - factor * step_kw) <= 0.25 * factor * step_kw:
            return Check(rule=rule, verdict=Verdict.WRONG, detail=f"{numbers}: scale is off by {factor:g}")
    return Check(rule=rule, verdict=Verdict.OPEN, detail=f"{numbers}: something else changed too, try again")


def _absences(reading: DeviceReading) -> Iterator[Check]:
    for name, sample in reading.items():
        if sample.value is None:
            detail = f"{name} gives no value ({sample.cause})"
            yield Check(rule="every point", verdict=Verdict.OPEN, detail=detail)
        elif sample.quality is Quality.BAD:
            yield Check(rule="every point", verdict=Verdict.WRONG, detail=f"{name}: {sample.cause}")


def _values(reading: DeviceReading, names: Sequence[str]) -> list[float] | None:
    found = [reading.usable(name) for name in names]
    return None if None in found else [value for value in found if value is not None]


def _phases(reading: DeviceReading) -> Iterator[Check]:
    total = reading.usable("net_import_kw")
    parts = _values(reading, [f"net_import_l{n}_kw" for n in (1, 2, 3)])
    if total is None or parts is None:
        return
    gap = abs(sum(parts) - total)
    detail = f"{' + '.join(f'{p:.3f}' for p in parts)} = {sum(parts):.3f} kW, total {total:.3f} kW"
    if gap > max(0.05, 0.05 * abs(total)):
        verdict = Verdict.WRONG
    elif max(abs(part) for part in parts) < _ENOUGH_KW:
        verdict, detail = Verdict.OPEN, f"{detail}: too little"
    else:
        verdict = Verdict.PROVEN
    yield Check(rule="phases against their sum", verdict=verdict, detail=detail)


def _volt_amperes(reading: DeviceReading) -> Iterator[Check]:
    power = reading.usable("net_import_kw")
    volts = _values(reading, [f"voltage_l{n}_v" for n in (1, 2, 3)])
    amps = _values(reading, [f"current_l{n}_a" for n in (1, 2, 3)])
    if power is None or volts is None or amps is None:
        return
    apparent = sum(v * abs(a) for v, a in zip(volts, amps, strict=True)) / 1000.0
    detail = f"volts x amperes give {apparent:.3f} kVA, power is {power:.3f} kW"
    if apparent < _ENOUGH_KW:
        yield Check(
            rule="power against volts x amperes", verdict=Verdict.OPEN, detail=f"{detail}: too little"
        )
        return
    fits = abs(power) <= 1.1 * apparent + 0.05 and abs(power) >= 0.05 * apparent
    verdict = Verdict.PROVEN if fits else Verdict.WRONG
    yield Check(rule="power against volts x amperes", verdict=verdict, detail=detail)


def _grid(reading: DeviceReading) -> Iterator[Check]:
    for name in ("voltage_l1_v", "voltage_l2_v", "voltage_l3_v"):
        volts = reading.usable(name)
        if volts is not None:
            fits = 80.0 <= volts <= 300.0 or volts == 0.0
            verdict = Verdict.PROVEN if fits else Verdict.WRONG
            yield Check(rule="a grid's voltage", verdict=verdict, detail=f"{name} {volts:.1f} V")


def _counters(
    first: DeviceReading, second: DeviceReading, power: str, rising: str, falling: str | None
) -> Iterator[Check]:
    """Mean power between two readings against what the energy counters gained."""
    old, new = first.usable(power), second.usable(power)
    gained = _gain(first, second, rising)
    given = _gain(first, second, falling) if falling is not None else 0.0
    if old is None or new is None or (gained is None and given is None):
        return
    counter = rising if gained is not None else falling or rising
    hours = (second[counter].measured_at - first[counter].measured_at).total_seconds() / 3600.0
    rule = f"{power} against its counters"
    steady = abs(new - old) <= 0.2 * max(abs(new), abs(old))
    if hours <= 0.0 or not steady or abs(new) < _ENOUGH_KW:
        detail = f"{old:.3f} and {new:.3f} kW: too little or too unsteady to say"
        yield Check(rule=rule, verdict=Verdict.OPEN, detail=detail)
        return
    expected, counted = (old + new) / 2.0 * hours, (gained or 0.0) - (given or 0.0)
    wanted, other = (gained, given) if expected > 0.0 else (given, gained)
    step = 0.01 if abs(expected) < 0.1 else 0.1 * abs(expected)
    detail = f"{expected:+.4f} kWh expected in {hours * 3600:.0f} s, counters moved {counted:+.4f} kWh"
    if abs(counted - expected) <= max(step, 0.25 * abs(expected)) and abs(counted) > 0.0:
        yield Check(rule=rule, verdict=Verdict.PROVEN, detail=detail)
    elif other is not None and wanted is not None and other > 0.5 * abs(expected) and wanted <= 1e-9:
        remedy = "power and counters have opposite directions: check the wiring or set swap_direction"
        yield Check(rule=rule, verdict=Verdict.WRONG, detail=f"{detail}: {remedy}")
    elif abs(counted) <= 1e-9:
        yield Check(
            rule=rule, verdict=Verdict.OPEN, detail=f"{detail}: the counter's step is coarser, wait longer"
        )
    else:
        yield Check(rule=rule, verdict=Verdict.WRONG, detail=f"{detail}: unit or scale does not fit")


def _gain(first: DeviceReading, second: DeviceReading, name: str) -> float | None:
    old, new = first.usable(name), second.usable(name)
    return None if old is None or new is None else new - old
