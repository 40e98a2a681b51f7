"""A device on the field bus: read it, write it, never trust it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.modbus import LinkPool
from drivers.protocols import Capability, DeviceReading, Receipt, Trouble


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who answered at an endpoint and unit."""

    maker: str
    """As the device tells it, or as its device file names it."""
    model: str
    """Product name."""
    serial: str | None
    """Serial number, when the device tells one."""
    version: str | None
    """Firmware, when the device tells one."""
    models: tuple[int, ...] = ()
    """SunSpec model ids in the order met; empty without SunSpec."""


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


class Device:
    """One unit behind one endpoint. Made by `open_device`; connects and identifies itself when first used."""

    name: str
    endpoint: str
    unit_id: int
    driver: str
    counters: DeviceCounters

    @property
    def identity(self) -> Identity | None:
        """Who answered; None until the device was identified."""
        raise NotImplementedError

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the device can do; empty until identified when the driver is `sunspec`."""
        raise NotImplementedError

    @property
    def quantities(self) -> frozenset[str]:
        """Canonical quantities the device gives; empty until identified when the driver is `sunspec`."""
        raise NotImplementedError

    async def identify(self) -> Identity | Trouble:
        """Ask the device who it is and learn its map; again after it was lost. Never raises for device trouble."""
        raise NotImplementedError

    async def read(self) -> DeviceReading:
        """Read every due group once. Never raises for device trouble: the reading says what was missing and why."""
        raise NotImplementedError

    async def write_battery_power(self, net_consumption_kw: float, *, valid_s: float) -> Receipt:
        """Hold the battery at a power [kW, charging +, discharging -] for `valid_s` seconds, then revert."""
        raise NotImplementedError

    async def limit_generation(self, limit_kw: float | None, *, valid_s: float) -> Receipt:
        """Cap the AC output [kW, >= 0] for `valid_s` seconds; None lifts the cap."""
        raise NotImplementedError

    async def limit_charge(self, limit_kw: float, *, valid_s: float) -> Receipt:
        """Cap the vehicle's charging power [kW, >= 0; 0 pauses] for `valid_s` seconds."""
        raise NotImplementedError

    async def release(self) -> Receipt:
        """Give the device back to its own safe mode."""
        raise NotImplementedError


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
        `sunspec`, or the stem of a file in drivers/devices.
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
    EndpointError, UnknownDriverError
        The configuration is wrong; the message names the value and the remedy.
    """
    raise NotImplementedError


def known_drivers() -> Sequence[str]:
    """Every value `driver` may take, sorted: `sunspec` and the device files."""
    raise NotImplementedError
