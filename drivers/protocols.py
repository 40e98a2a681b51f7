"""What a field device can do, and the values that come back from it.

Signs: `net_import_kw` is positive when the site draws from the grid; every `net_consumption_kw` is positive when
the asset draws from the site (charging +, generation -). Drivers convert units and signs once; nobody after them does.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias, runtime_checkable

Clock: TypeAlias = Callable[[], datetime]
"""Returns the present instant, aware UTC; injected so that simulated time works."""
RAMP: Final = "ramp"
"""How the limit of a setpoint cut by a ramp begins."""


class Quality(StrEnum):
    """How far a value can be trusted; travels on to forecast, plan, feedback and settlement."""

    GOOD = "good"
    """Measured, fresh, inside every plausibility rule."""
    ESTIMATED = "estimated"
    """Derived from other good values, for example a sum of phases."""
    STALE = "stale"
    """Measured, but older than its period allows, or frozen at the device."""
    BAD = "bad"
    """Absent or caught by a rule; the cause says which."""


class Unit(StrEnum):
    """Units that leave the driver; everything else is converted before."""

    KW = "kW"
    KWH = "kWh"
    KVAR = "kvar"
    KVA = "kVA"
    V = "V"
    A = "A"
    HZ = "Hz"
    DEGC = "degC"
    FRAC = "frac"
    S = "s"
    NONE = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One value of one quantity at one instant."""

    value: float | None
    """In `unit`; None means absent, never 0. Yes/no quantities are 1.0 / 0.0."""
    unit: Unit
    """Unit of the value."""
    measured_at: datetime
    """Aware UTC instant at which the device's answer arrived."""
    quality: Quality
    """Trust in the value."""
    source: str
    """Device name and register or SunSpec point, for example `home01.inverter 103.W`."""
    cause: str | None = None
    """Why the quality is not good; None when it is."""

    @property
    def usable(self) -> bool:
        """True when there is a value and no rule rejected it."""
        return self.value is not None and self.quality in (Quality.GOOD, Quality.ESTIMATED)

    def age_s(self, at: datetime) -> float:
        """Seconds between the measurement and an instant."""
        return (at - self.measured_at).total_seconds()


class TroubleKind(StrEnum):
    """Typed causes for an answer that did not come or cannot be used."""

    UNREACHABLE = "unreachable"
    """No connection to the endpoint."""
    TIMEOUT = "timeout"
    """Connected, but no answer in time."""
    BACKING_OFF = "backing_off"
    """Not asked: the endpoint failed recently and its next probe is not due."""
    EXCEPTION = "exception"
    """The device answered with a Modbus exception code."""
    GARBLED = "garbled"
    """An answer of the wrong length, function, unit or checksum."""
    NOT_RECOGNISED = "not_recognised"
    """The identity test of the driver failed: another device answers here."""
    READ_ONLY = "read_only"
    """A write was asked on a read-only link."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """Why a device could not be read or written."""

    kind: TroubleKind
    """Class of trouble."""
    detail: str
    """Endpoint, unit, address and what happened, in one line."""
    exception_code: int | None = None
    """Modbus exception code, when the device sent one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReading(Mapping[str, Sample]):
    """One pass over a device: canonical quantity name -> sample.

    Quantities a device is known to have are present even when it did not answer (value None, quality bad, cause).
    """

    device: str
    """Name given to `open_device`."""
    at: datetime
    """Instant the pass ended, aware UTC."""
    samples: Mapping[str, Sample] = field(default_factory=lambda: MappingProxyType({}))
    """By canonical quantity name."""
    trouble: Trouble | None = None
    """First trouble met; None when every due block was read."""

    def __getitem__(self, quantity: str) -> Sample:
        return self.samples[quantity]

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def usable(self, quantity: str) -> float | None:
        """Value of a quantity when it is usable, None otherwise (also when the device does not have it)."""
        sample = self.samples.get(quantity)
        return sample.value if sample is not None and sample.usable else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """The device holds what was asked, seen by reading it back."""

    control: str
    """Control name, for example `battery_power`."""
    asked: float | None
    """What was asked, in kW and in our sign; None means released."""
    value: float | None
    """What the device holds now, in kW and in our sign, rounded to its step; None means released."""
    at: datetime
    """Instant of the read-back, aware UTC."""
    valid_until: datetime | None
    """When the device reverts by itself; None when it has no such timer."""
    written: bool = True
    """False when the device already held the value with time to spare, so nothing was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clamped:
    """The device holds something nearer to zero or a limit than what was asked."""

    control: str
    """Control name."""
    asked: float
    """What was asked [kW]."""
    value: float
    """What the device holds now [kW]."""
    at: datetime
    """Instant of the read-back, aware UTC."""
    valid_until: datetime | None
    """When the device reverts by itself; None when it has no such timer."""
    limit: str
    """Which limit cut the value; begins with `ramp` when it is a step on the way to what was asked."""
    written: bool = True
    """False when the device already held the value with time to spare."""

    @property
    def underway(self) -> bool:
        """True when a ramp cut the value: asked again, the device goes on towards it."""
        return self.limit.startswith(RAMP)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Nothing was changed: we or the device declined."""

    control: str
    """Control name."""
    asked: float | None
    """What was asked [kW]; None means release."""
    at: datetime
    """Instant of the refusal, aware UTC."""
    rule: str
    """Which rule refused: `unsupported`, `consent`, `read_only`, `range`, `budget`, `unreachable`, `exception` ..."""
    reason: str
    """The rule in words with value and limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unverified:
    """Something was sent, but the device could not be seen to hold it: assume neither old nor new value."""

    control: str
    """Control name."""
    asked: float | None
    """What was asked [kW]; None means release."""
    at: datetime
    """Instant of the failed check, aware UTC."""
    reason: str
    """What the read-back showed, or why there was none."""


Receipt: TypeAlias = Applied | Clamped | Refused | Unverified


class Capability(StrEnum):
    """What a device can do, found from its SunSpec models or its device file."""

    MEASURES_GRID = "measures_grid"
    MEASURES_GENERATION = "measures_generation"
    HOLDS_ENERGY = "holds_energy"
    CHARGES_VEHICLE = "charges_vehicle"
    HEATS = "heats"
    ACCEPTS_BATTERY_POWER = "accepts_battery_power"
    LIMITS_GENERATION = "limits_generation"
    LIMITS_CHARGE = "limits_charge"
    CUTS_LOAD = "cuts_load"
    REVERTS = "reverts"
    """Returns to its own safe mode by itself when no new setpoint comes."""


@runtime_checkable
class Reads(Protocol):
    """A device that can be read."""

    async def read(self) -> DeviceReading:
        """Read every due quantity; device trouble is a value, never an exception."""
        ...


@runtime_checkable
class AcceptsBatteryPower(Protocol):
    """A battery or hybrid inverter whose battery follows a power."""

    async def write_battery_power(self, net_consumption_kw: float, *, valid_s: float) -> Receipt:
        """Hold the battery at a power [kW, charging +] for `valid_s` seconds, then revert."""
        ...


@runtime_checkable
class LimitsGeneration(Protocol):
    """An inverter whose output can be capped."""

    async def limit_generation(self, limit_kw: float | None, *, valid_s: float) -> Receipt:
        """Cap AC output [kW, >= 0] for `valid_s` seconds; None lifts the cap."""
        ...


@runtime_checkable
class LimitsCharge(Protocol):
    """A charger whose vehicle may draw at most so much."""

    async def limit_charge(self, limit_kw: float, *, valid_s: float) -> Receipt:
        """Cap charging power [kW, >= 0; 0 pauses] for `valid_s` seconds."""
        ...


@runtime_checkable
class Releases(Protocol):
    """A device that can be given back to its own mode."""

    async def release(self) -> Receipt:
        """Return the device to its own safe mode."""
        ...
