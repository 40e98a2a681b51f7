"""Commissioning: find devices, prove what they say, show what would be written. Nothing is written."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from drivers import LinkPool
from drivers.probe import ProbeReport, check_load_step, probe
from drivers.protocols import Trouble
from drivers.scan import parse_units, scan
from ems.errors import EmsError
from ems.site import Site
from ems.wiring import open_devices

Tell = Callable[[str], None]
Ask = Callable[[str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadStep:
    """A consumer of known power that a person switches on during the probe."""

    power_kw: float
    """Its power [kW]."""
    ask: Ask
    """Shows a line and returns once the person has done what it says."""


def probe_sites(sites: Sequence[Site], tell: Tell, *, seconds: float, step: LoadStep | None = None) -> bool:
    """Ask every device of every site; returns whether all answered and nothing contradicts.

    Parameters
    ----------
    sites
        What to ask.
    tell
        Prints a line.
    seconds
        Time between the two readings that are compared [s].
    step
        A known load to switch on, which proves the meter's direction and scale.
    """
    return asyncio.run(_probe_sites(sites, tell, seconds, step))


def scan_endpoint(endpoint: str, units: str, tell: Tell) -> int:
    """Ask every unit of an endpoint who it is; returns how many answered."""
    try:
        wanted = parse_units(units)
    except ValueError as error:
        raise EmsError(f"--units: {error}") from error
    return asyncio.run(_scan(endpoint, wanted, tell))


async def _probe_sites(sites: Sequence[Site], tell: Tell, seconds: float, step: LoadStep | None) -> bool:
    sound = True
    async with LinkPool(clock=lambda: datetime.now(UTC), read_only=True) as links:
        devices = open_devices(sites, links)
        reports = await asyncio.gather(
            *(probe(device, wait=asyncio.sleep, seconds=seconds) for device in devices.values())
        )
        for report in reports:
            sound = _tell_report(report, tell) and sound
        for site in sites:
            if step is None:
                break
            meter = devices[site.id, site.grid_meter]
            before = await meter.read()
            step.ask(f"{site.id}: switch on a load of {step.power_kw:g} kW, then press Enter")
            check = check_load_step(before, await meter.read(), step.power_kw)
            tell(f"  {check.verdict:7} {check.rule}: {check.detail}")
            sound = sound and check.verdict != "wrong"
    return sound


def _tell_report(report: ProbeReport, tell: Tell) -> bool:
    if report.trouble is not None:
        tell(f"{report.device}: {report.trouble.detail}")
        return False
    who = report.identity
    tell(f"{report.device}: {who.maker} {who.model}" if who is not None else f"{report.device}: unidentified")
    for name, sample in sorted(report.second.items()):
        value = "absent" if sample.value is None else f"{sample.value:.3f} {sample.unit}"
        tell(f"  {name:28} {value:>16}  {sample.quality}")
    for check in report.checks:
        tell(f"  {check.verdict:7} {check.rule}: {check.detail}")
    for write in report.would_write:
        words = write.words.hex(" ", 2)
        tell(
            f"  would write for {write.control} {write.setpoint_kw:g} kW: {', '.join(write.registers)} = {words}"
        )
    return not report.wrong


async def _scan(endpoint: str, units: Sequence[int], tell: Tell) -> int:
    found = 0
    async with LinkPool(clock=lambda: datetime.now(UTC), read_only=True, timeout_s=0.5) as links:
        async for answer in scan(endpoint, links=links, units=units):
            if isinstance(answer, Trouble):
                raise EmsError(f"{endpoint}: {answer.detail}; check address, cable and power")
            found += 1
            who = (
                "unknown device"
                if answer.identity is None
                else f"{answer.identity.maker} {answer.identity.model}"
            )
            driver = answer.driver or (
                f"one of {', '.join(answer.candidates)}" if answer.candidates else "none known"
            )
            tell(f"unit {answer.unit_id}: {who}; driver: {driver}")
            if answer.quantities:
                tell(f"  gives {', '.join(answer.quantities)}")
            if answer.controls:
                tell(f"  accepts {', '.join(answer.controls)}")
    return found
