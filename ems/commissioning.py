"""Commissioning: prove what the devices of a site say, show what would be written. Nothing is written."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from drivers import Device, LinkPool
from drivers.probe import Check, ProbeReport, Verdict, check_direction, check_load_step, probe
from ems.clock import ScaledClock, SystemClock
from ems.site import Role, Site
from ems.wiring import open_devices

Tell = Callable[[str], None]
Ask = Callable[[str], str]
SEEN_AFTER_S = 3.0
"""Time a meter is given to show a load that was switched on [s]; many show the mean of a second or two."""
_GENERATE = (Role.PV_INVERTER, Role.HYBRID_INVERTER, Role.BATTERY_INVERTER)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadStep:
    """A consumer of known power that a person switches on during the probe."""

    power_kw: float
    """Its power [kW]."""
    ask: Ask
    """Shows a line and returns once the person has done what it says."""


def check_devices(sites: Sequence[Site]) -> None:
    """Address every device without asking it; EmsError names an endpoint or a device file that cannot be used."""
    open_devices(sites, LinkPool(clock=SystemClock().now, read_only=True))


def probe_sites(
    sites: Sequence[Site], tell: Tell, *, seconds: float, speed: float = 1.0, step: LoadStep | None = None
) -> bool:
    """Ask every device of every site; returns whether all answered and nothing contradicts.

    Parameters
    ----------
    sites
        What to ask.
    tell
        Prints a line.
    seconds
        Time between the two readings that are compared [s of site time].
    speed
        Site seconds per second: more than 1 for simulated devices only.
    step
        A known load to switch on, which proves the meter's direction and scale.
    """
    return asyncio.run(_probe_sites(sites, tell, seconds, speed, step))


async def _probe_sites(
    sites: Sequence[Site], tell: Tell, seconds: float, speed: float, step: LoadStep | None
) -> bool:
    now = datetime.now(UTC)
    clock = ScaledClock(site_start_at=now, wall_start_at=now, speed=speed)

    async def wait(span_s: float) -> None:
        await asyncio.sleep(clock.wall_seconds(span_s))

    async with LinkPool(clock=clock.now, read_only=True) as links:
        devices = open_devices(sites, links)
        reports = dict(
            zip(
                devices,
                await asyncio.gather(
                    *(probe(device, wait=wait, seconds=seconds) for device in devices.values())
                ),
                strict=True,
            )
        )
        verdicts = [_tell_report(report, tell) for report in reports.values()]
        for site in sites:
            inverters = [
                reports[site.id, name].second for name, ref in site.devices.items() if ref.role in _GENERATE
            ]
            meter = reports[site.id, site.grid_meter].second
            verdicts.append(_tell_check(site, check_direction(meter, inverters), tell))
            if step is not None:
                verdicts.append(
                    _tell_check(site, await _step(devices[site.id, site.grid_meter], site, step, wait), tell)
                )
    return all(verdicts)


async def _step(meter: Device, site: Site, step: LoadStep, wait: Callable[[float], Awaitable[None]]) -> Check:
    """Read, let a person switch the load on, give the meter time to see it, read again."""
    before = await meter.read()
    question = f"{site.id}: switch on a load of {step.power_kw:g} kW, then press Enter"
    await asyncio.to_thread(step.ask, question)
    await wait(SEEN_AFTER_S)
    return check_load_step(before, await meter.read(), step.power_kw)


def _tell_check(site: Site, check: Check, tell: Tell) -> bool:
    tell(f"{site.id}: {check.verdict}, {check.rule}: {check.detail}")
    return check.verdict is not Verdict.WRONG


def _tell_report(report: ProbeReport, tell: Tell) -> bool:
    if report.trouble is not None:
        tell(f"{report.device}: {report.trouble.detail}")
        return False
    tell(f"{report.device}: {'unidentified' if report.identity is None else report.identity.name}")
    for name, sample in sorted(report.second.items()):
        value = "absent" if sample.value is None else f"{sample.value:.3f} {sample.unit}"
        tell(f"  {name:28} {value:>16}  {sample.quality}")
    if report.one_client:
        tell("  accepts one connection: let other readers use `share:` in the site file")
    for check in report.checks:
        tell(f"  {check.verdict:7} {check.rule}: {check.detail}")
    for write, held in zip(report.would_write, report.held, strict=True):
        words = write.words.hex(" ", 2)
        now = "cannot be read" if held is None else f"now {held.hex(' ', 2)}"
        tell(
            f"  would write for {write.control} {write.setpoint_kw:g} kW: "
            f"{', '.join(write.registers)} = {words} ({now})"
        )
    for control in report.withheld:
        tell(f"  would not write {control}: it is not what this device is here for, or there is no consent")
    return not report.wrong
