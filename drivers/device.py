"""A device on the field bus: read it, write it, never trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from drivers.device_file import device_file_names
from drivers.device_map import DeviceMap
from drivers.errors import DriverError, UnknownDriverError
from drivers.file_device import load_device_file
from drivers.identity import Identity
from drivers.modbus import Link, LinkError, LinkPool
from drivers.plausibility import Plausibility
from drivers.protocols import Capability, Clock, DeviceReading, Receipt, Trouble, TroubleKind
from drivers.quantities import capabilities_of
from drivers.reading import Reader, quantities_of
from drivers.sunspec.learning import learn as learn_sunspec
from drivers.writing import PlannedWrite, Writer

SUNSPEC: Final = "sunspec"
_CONTROL_CAPABILITIES: Final = {
    "battery_power": Capability.ACCEPTS_BATTERY_POWER,
    "generation_limit": Capability.LIMITS_GENERATION,
    "charge_limit": Capability.LIMITS_CHARGE,
}


@dataclass(slots=True)
class DeviceCounters:
    """What happened on one device since start; plain numbers for metrics."""

    reads: int = 0
    """Passes asked for."""
    failed_reads: int = 0
    """Passes with trouble."""
    timeouts: int = 0
    """Passes whose trouble was a time-out."""
    writes: int = 0
    """Write requests sent."""
    writes_saved: int = 0
    """Setpoints that needed no write, because the device held them already."""
    refusals: int = 0
    """Setpoints refused, by us or by the device."""
    unverified: int = 0
    """Setpoints whose read-back did not show them."""
    writes_by_register: dict[str, int] = field(default_factory=dict)
    """Write requests per register or point name."""
    flags_by_rule: dict[str, int] = field(default_factory=dict)
    """Readings flagged, per plausibility rule."""


class Learns(Protocol):
    """How a device's map is found."""

    @property
    def known(self) -> DeviceMap | None:
        """The map, when it is known without asking."""
        ...

    async def learn(self, link: Link, unit: int) -> tuple[Identity, DeviceMap]:
        """Identify the device; LinkError when it is another one or does not answer."""
        ...


class _SunSpec:
    known: DeviceMap | None = None

    async def learn(self, link: Link, unit: int) -> tuple[Identity, DeviceMap]:
        return await learn_sunspec(link, unit)


class Device:
    """One unit behind one endpoint. Made by `open_device`; connects and identifies itself when first used."""

    def __init__(
        self,
        *,
        name: str,
        driver: str,
        unit_id: int,
        link: Link,
        clock: Clock,
        source: Learns,
        read_only: bool = False,
        swap_direction: bool = False,
        max_kw: float | None = None,
    ) -> None:
        self.name, self.driver, self.unit_id = name, driver, unit_id
        self.endpoint = link.endpoint.text
        self.read_only = read_only
        self._link, self._clock, self._source = link, clock, source
        self._swap = swap_direction
        self._plausibility = Plausibility(max_kw=max_kw)
        self._counters = DeviceCounters()
        self._identity: Identity | None = None
        self._reader: Reader | None = None
        self._connects_seen = -1
        self._last: DeviceReading | None = None
        self._writer = Writer(link=link, unit=unit_id, clock=clock, now_kw=self._now)
        if source.known is not None:
            self._adopt(source.known)

    @property
    def identity(self) -> Identity | None:
        """Who answered; None until the device was identified."""
        return self._identity

    @property
    def writes_per_day(self) -> Mapping[str, int]:
        """Writes each of its registers bears per day, by control; empty until identified."""
        if self._reader is None:
            return {}
        return {name: control.writes_per_day for name, control in self._reader.map.controls.items()}

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the device can do; empty until identified when the driver is `sunspec`."""
        if self._reader is None:
            return frozenset()
        controls = self._reader.map.controls.values()
        found = capabilities_of(self.quantities)
        if not self.read_only:
            found |= {_CONTROL_CAPABILITIES[control.name] for control in controls}
            found |= {Capability.REVERTS} if any(control.reverts for control in controls) else set()
        return found

    @property
    def quantities(self) -> frozenset[str]:
        """Canonical quantities the device gives; empty until identified when the driver is `sunspec`."""
        return frozenset() if self._reader is None else quantities_of(self._reader.map)

    @property
    def counters(self) -> DeviceCounters:
        """What happened since start."""
        written = self._writer.counters
        self._counters.writes, self._counters.writes_saved = written.writes, written.saved
        self._counters.refusals, self._counters.unverified = written.refusals, written.unverified
        self._counters.writes_by_register = dict(written.by_register)
        if self._reader is not None:
            self._counters.flags_by_rule = dict(self._reader.flags_by_rule)
        return self._counters

    @property
    def map(self) -> DeviceMap | None:
        """Registers, derived quantities and controls; None until known."""
        return None if self._reader is None else self._reader.map

    async def identify(self) -> Identity | Trouble:
        """Ask the device who it is and learn its map. Never raises for device trouble."""
        try:
            self._identity, found = await self._source.learn(self._link, self.unit_id)
        except LinkError as error:
            self._identity = None
            return error.trouble
        if self._reader is None or found != self._reader.map:
            self._adopt(found)
        self._writer.forget()
        self._connects_seen = self._link.counters.connects
        return self._identity

    async def read(self) -> DeviceReading:
        """Read every due group once.

        Never raises for device trouble: the reading says what was missing and why.
        """
        self._counters.reads += 1
        trouble = await self._make_sure()
        reader = self._reader
        if reader is not None:
            if trouble is None:
                trouble = await reader.read()
            else:
                reader.lose_all(trouble)
        if trouble is not None:
            self._counters.failed_reads += 1
            self._counters.timeouts += trouble.kind is TroubleKind.TIMEOUT
        at = self._clock()
        samples = {} if reader is None else reader.samples(at)
        self._last = DeviceReading(
            device=self.name, at=at, samples=MappingProxyType(samples), trouble=trouble
        )
        return self._last

    async def write_battery_power(self, net_consumption_kw: float, *, valid_s: float) -> Receipt:
        """Hold the battery at a power [kW, charging +, discharging -] for `valid_s` seconds, then revert."""
        return await self._write("battery_power", net_consumption_kw, valid_s)

    async def limit_generation(self, limit_kw: float | None, *, valid_s: float) -> Receipt:
        """Cap the AC output [kW, >= 0] for `valid_s` seconds; None lifts the cap."""
        if limit_kw is None:
            return await self._release(("generation_limit",))
        return await self._write("generation_limit", limit_kw, valid_s)

    async def limit_charge(self, limit_kw: float, *, valid_s: float) -> Receipt:
        """Cap the vehicle's charging power [kW, >= 0; 0 pauses] for `valid_s` seconds."""
        return await self._write("charge_limit", limit_kw, valid_s)

    async def release(self) -> Receipt:
        """Give the device back to its own safe mode."""
        return await self._release(tuple(_CONTROL_CAPABILITIES))

    def preview(self, control: str, asked_kw: float, *, valid_s: float) -> tuple[PlannedWrite, ...]:
        """What a setpoint would send, without sending it; empty when the device has no such control."""
        found = self._reader.map.controls.get(control) if self._reader is not None else None
        return () if found is None else self._writer.preview(found, asked_kw, valid_s)

    async def _write(self, control: str, asked_kw: float, valid_s: float) -> Receipt:
        if self.read_only:
            return self._writer.refuse(control, asked_kw, "read_only", f"{self.name} is read-only")
        trouble = await self._make_sure()
        if trouble is not None:
            return self._writer.refuse(control, asked_kw, "unreachable", trouble.detail)
        found = self._reader.map.controls.get(control) if self._reader is not None else None
        if found is None:
            return self._writer.refuse(
                control, asked_kw, "unsupported", f"{self.name} ({self.driver}) offers no {control}"
            )
        return await self._writer.write(found, asked_kw, valid_s)

    async def _release(self, names: Sequence[str]) -> Receipt:
        if self.read_only:
            return self._writer.refuse("release", None, "read_only", f"{self.name} is read-only")
        trouble = await self._make_sure()
        if trouble is not None:
            return self._writer.refuse("release", None, "unreachable", trouble.detail)
        controls = self._reader.map.controls if self._reader is not None else {}
        return await self._writer.release([controls[name] for name in names if name in controls])

    async def _make_sure(self) -> Trouble | None:
        """Identify when that was never done, or when the connection was lost since: another device may answer."""
        lost = self._link.counters.connects != self._connects_seen
        if self._identity is not None and not lost:
            return None
        found = await self.identify()
        return found if isinstance(found, Trouble) else None

    def _adopt(self, device_map: DeviceMap) -> None:
        self._reader = Reader(
            name=self.name,
            device_map=device_map,
            link=self._link,
            unit=self.unit_id,
            clock=self._clock,
            plausibility=self._plausibility,
            swap_direction=self._swap,
        )
        self._writer.limits(max_count=device_map.max_count, max_gap=device_map.max_gap)

    def _now(self, quantity: str) -> float | None:
        return self._last.usable(quantity) if self._last is not None else None


def open_device(
    *,
    name: str,
    endpoint: str,
    unit_id: int,
    driver: str,
    links: LinkPool,
    read_only: bool = False,
    swap_direction: bool = False,
    max_kw: float | None = None,
) -> Device:
    """Make a device; no request is sent before its first use.

    Parameters
    ----------
    name
        How readings, receipts and logs name it, for example `home01.meter`.
    endpoint
        `tcp://host[:502]`, `tls://host[:802]`, `rtu+tcp://host:port` or
        `rtu:///dev/ttyUSB0?baud=9600&parity=N&stopbits=1`.
    unit_id
        Modbus unit, 0..255.
    driver
        `sunspec`, the stem of a file in drivers/devices, or the path of a device file of your own (`*.yaml`).
    links
        Owner of the connections; devices behind one endpoint share one.
    read_only
        Refuse every write to this device, whatever the link allows.
    swap_direction
        The meter is mounted the wrong way round: exchange import and export.
    max_kw
        Nameplate power [kW]; larger readings are flagged bad.

    Raises
    ------
    EndpointError, UnknownDriverError, DeviceFileError
        The configuration is wrong; the message names the value and the remedy.
    """
    if not 0 <= unit_id <= 255:
        raise DriverError(f"device {name}: unit_id {unit_id} is not within 0..255")
    link = links.link(endpoint)
    source: Learns
    if driver == SUNSPEC:
        source = _SunSpec()
    elif driver in device_file_names() or driver.endswith(".yaml"):
        source = load_device_file(driver)
        link.require(min_gap_s=source.min_gap_s, timeout_s=source.timeout_s)
    else:
        raise UnknownDriverError(
            f"device {name}: driver {driver!r} is not known; known are {', '.join(known_drivers())}"
        )
    return Device(
        name=name,
        driver=driver,
        unit_id=unit_id,
        link=link,
        clock=links.clock,
        source=source,
        read_only=read_only,
        swap_direction=swap_direction,
        max_kw=max_kw,
    )


def known_drivers() -> Sequence[str]:
    """Every value `driver` may take, sorted: `sunspec` and the device files."""
    return sorted((SUNSPEC, *device_file_names()))
