"""A device on the field bus: read it, write it, never trust it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Protocol

from drivers.device_file import device_file_names
from drivers.device_map import DeviceMap
from drivers.errors import DriverError, UnknownDriverError
from drivers.file_device import load_device_file
from drivers.identity import Identity
from drivers.memory import DeviceMemory
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
    "consumption_limit": Capability.CUTS_LOAD,
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
    writes_today: dict[str, int] = field(default_factory=dict)
    """The same on this UTC day, those of a process before this one included."""
    budget_left: int | None = None
    """Writes that the register nearest to its daily budget bears now; None while none was written."""
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
        ramp_kw_per_s: float | None = None,
        permitted: Collection[str] | None = None,
        one_client: bool = False,
    ) -> None:
        self.name, self.driver, self.unit_id = name, driver, unit_id
        self.endpoint = link.endpoint.text
        self.read_only = read_only
        self.permitted = None if permitted is None else frozenset(permitted)
        self.one_client = one_client
        self._link, self._clock, self._source = link, clock, source
        self._swap = swap_direction
        self._plausibility = Plausibility(max_kw=max_kw)
        self._counters = DeviceCounters()
        self._identity: Identity | None = None
        self._serial: str | None = None
        self._reader: Reader | None = None
        self._connects_seen = -1
        self._last: DeviceReading | None = None
        self._writer = Writer(
            link=link, unit=unit_id, clock=clock, now_kw=self._now, ramp_kw_per_s=ramp_kw_per_s
        )
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
        controls = [c for c in self._reader.map.controls.values() if self.permits(c.name)]
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
        at = self._clock()
        self._counters.writes_today = dict(self._writer.budgets.writes_on(at.date()))
        self._counters.budget_left = self._writer.budgets.left(at)
        if self._reader is not None:
            self._counters.flags_by_rule = dict(self._reader.flags_by_rule)
        return self._counters

    @property
    def map(self) -> DeviceMap | None:
        """Registers, derived quantities and controls; None until known."""
        return None if self._reader is None else self._reader.map

    def export_memory(self) -> DeviceMemory:
        """What must not be forgotten when this process ends."""
        return DeviceMemory(
            counters=self._plausibility.export_counters(),
            budgets=self._writer.budgets.export(),
            serial=self._serial,
        )

    def restore(self, memory: DeviceMemory) -> None:
        """Go on from what another process exported; to be called before the first read."""
        self._plausibility.restore_counters(memory.counters)
        self._writer.budgets.restore(memory.budgets)
        self._serial = memory.serial

    async def identify(self) -> Identity | Trouble:
        """Ask the device who it is and learn its map. Never raises for device trouble."""
        try:
            self._identity, found = await self._source.learn(self._link, self.unit_id)
        except LinkError as error:
            self._identity = None
            return self._explained(error.trouble)
        if self._reader is None or found != self._reader.map:
            self._adopt(found)
        if self._serial is not None and self._identity.serial not in (None, self._serial):
            self._plausibility.note_exchange()
        self._serial = self._identity.serial or self._serial
        self._writer.forget()
        self._connects_seen = self._link.counters.connects
        return self._identity

    async def read(self, *, every_group: bool = False) -> DeviceReading:
        """Read every due group once.

        Never raises for device trouble: the reading says what was missing and why.

        Parameters
        ----------
        every_group
            Read slow groups too, due or not.
        """
        self._counters.reads += 1
        trouble = await self._make_sure()
        reader = self._reader
        if reader is not None:
            if trouble is None:
                trouble = await reader.read(every_group=every_group)
                if trouble is None and self._link.counters.connects != self._connects_seen:
                    trouble = await self._read_anew()
            else:
                reader.lose_all(trouble)
        if trouble is not None:
            self._counters.failed_reads += 1
            self._counters.timeouts += trouble.kind is TroubleKind.TIMEOUT
        at = self._clock()
        samples = {} if self._reader is None else self._reader.samples(at)
        self._last = DeviceReading(
            device=self.name, at=at, samples=MappingProxyType(samples), trouble=trouble
        )
        return self._last

    async def _read_anew(self) -> Trouble | None:
        """The connection was lost on the way: what was read may be another device's, so ask who it is and read again."""
        trouble = await self._make_sure()
        if self._reader is None:
            return trouble
        if trouble is None:
            return await self._reader.read(every_group=True)
        self._reader.lose_all(trouble)
        return trouble

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

    async def limit_consumption(self, limit_kw: float | None, *, valid_s: float) -> Receipt:
        """Cut the load behind a switch (0 kW), for `valid_s` seconds where it can revert; None lets it run."""
        if limit_kw is None:
            return await self._release(("consumption_limit",))
        return await self._write("consumption_limit", limit_kw, valid_s)

    async def release(self) -> Receipt:
        """Give the device back to its own safe mode."""
        return await self._release(tuple(_CONTROL_CAPABILITIES))

    def preview(self, control: str, asked_kw: float, *, valid_s: float) -> tuple[PlannedWrite, ...]:
        """What a setpoint would send, without sending it; empty when the device has no such control, or may not use it."""
        found = self._reader.map.controls.get(control) if self._reader is not None else None
        return (
            ()
            if found is None or not self.permits(control)
            else self._writer.preview(found, asked_kw, valid_s)
        )

    async def shown(self, planned: PlannedWrite) -> bytes | None:
        """What the registers of a planned write hold now; None when they cannot be read."""
        count = len(planned.words) // 2
        if planned.table.is_bits or not count:
            return None
        try:
            return await self._link.read(self.unit_id, planned.table.read_function, planned.address, count)
        except LinkError:
            return None

    def permits(self, control: str) -> bool:
        """Whether the device may be given this control at all."""
        return self.permitted is None or control in self.permitted

    async def _write(self, control: str, asked_kw: float, valid_s: float) -> Receipt:
        if self.read_only:
            return self._writer.refuse(control, asked_kw, "read_only", f"{self.name} is read-only")
        if not self.permits(control):
            reason = f"{self.name} may not be given a {control}: not its role here, or no consent"
            return self._writer.refuse(control, asked_kw, "consent", reason)
        trouble = await self._make_sure()
        if trouble is not None:
            return self._writer.refuse(control, asked_kw, "unreachable", trouble.detail)
        found = self._reader.map.controls.get(control) if self._reader is not None else None
        if found is None:
            return self._writer.refuse(
                control, asked_kw, "unsupported", f"{self.name} ({self.driver}) offers no {control}"
            )
        return await self._writer.write(found, asked_kw, valid_s, connection=self._connects_seen)

    async def _release(self, names: Sequence[str]) -> Receipt:
        if self.read_only:
            return self._writer.refuse("release", None, "read_only", f"{self.name} is read-only")
        names = [name for name in names if self.permits(name)]
        if not names:
            reason = f"{self.name} may not be steered, so there is nothing to release"
            return self._writer.refuse("release", None, "consent", reason)
        trouble = await self._make_sure()
        if trouble is not None:
            return self._writer.refuse("release", None, "unreachable", trouble.detail)
        controls = self._reader.map.controls if self._reader is not None else {}
        return await self._writer.release([controls[name] for name in names if name in controls])

    async def _make_sure(self) -> Trouble | None:
        """Identify when that was never done, or when the connection was lost since: another device may answer."""
        lost = not self._link.is_connected or self._link.counters.connects != self._connects_seen
        if self._identity is not None and not lost:
            return None
        found = await self.identify()
        return found if isinstance(found, Trouble) else None

    def _explained(self, trouble: Trouble) -> Trouble:
        """The trouble, with the likeliest cause where the device is known to talk to one client only."""
        if not self.one_client or trouble.kind not in (TroubleKind.UNREACHABLE, TroubleKind.TIMEOUT):
            return trouble
        hint = "it accepts one connection, and another reader may have it"
        return replace(trouble, detail=f"{trouble.detail}; {hint}")

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
    ramp_kw_per_s: float | None = None,
    permitted: Collection[str] | None = None,
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
    ramp_kw_per_s
        Fastest change of any of its setpoints [kW/s], where its map states none or a faster one.
    permitted
        Controls it may be given (`battery_power`, `generation_limit`, `charge_limit`), by its role and the owner's
        consent; None: every one its map names.

    Raises
    ------
    EndpointError, UnknownDriverError, DeviceFileError
        The configuration is wrong; the message names the value and the remedy.
    """
    if not 0 <= unit_id <= 255:
        raise DriverError(f"device {name}: unit_id {unit_id} is not within 0..255")
    link = links.link(endpoint)
    source: Learns
    one_client = False
    if driver == SUNSPEC:
        source = _SunSpec()
    elif driver in device_file_names() or driver.endswith(".yaml"):
        file = source = load_device_file(driver)
        one_client = file.spec.link.one_client
        link.require(min_gap_s=file.min_gap_s, timeout_s=file.timeout_s)
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
        ramp_kw_per_s=ramp_kw_per_s,
        permitted=permitted,
        one_client=one_client,
    )


def known_drivers() -> Sequence[str]:
    """Every value `driver` may take, sorted: `sunspec` and the device files."""
    return sorted((SUNSPEC, *device_file_names()))
