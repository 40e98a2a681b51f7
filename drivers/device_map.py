"""What is known of one device: registers, derived quantities, controls. SunSpec and device files both give this."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from drivers.registers import Register

OWN_MODES: Final[Mapping[str, str]] = MappingProxyType({"battery_power": "battery_net_consumption_kw"})
"""Control -> quantity that shows what the device does while it has no setpoint; limits are not among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """A quantity made of registers: the signed sum of terms, or their product, absent as soon as a part is absent."""

    name: str
    """Canonical quantity."""
    terms: tuple[tuple[float, str], ...] = ()
    """Factor and register name, summed."""
    factors: tuple[str, ...] = ()
    """Register names, multiplied; used instead of terms."""
    factor: float = 1.0
    """Applied to the whole."""
    only_if: tuple[str, float] | None = None
    """Register and value it must have, or the quantity is absent."""
    floor: float | None = None
    """Smallest value; measurement noise below it is cut (a PV string that shows -3 W at night)."""
    label: str = ""
    """For `Sample.source`; default: the register names."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every register it needs."""
        names = tuple(name for _, name in self.terms) + self.factors
        return names if self.only_if is None else (*names, self.only_if[0])


class Expression(StrEnum):
    """What a control writes into a register."""

    TARGET = "target"
    """The setpoint in our sign."""
    MINUS_TARGET = "-target"
    """The setpoint with the other sign."""
    CHARGE = "charge"
    """max(0, setpoint)."""
    DISCHARGE = "discharge"
    """max(0, -setpoint)."""
    MAGNITUDE = "abs"
    """Absolute setpoint."""
    VALID_S = "valid_s"
    """Seconds until the device shall revert."""
    AC_GENERATION = "pv_minus_target"
    """Present PV power minus the battery setpoint: what a hybrid inverter gives at its AC side."""


class When(StrEnum):
    """Which setpoints a step applies to."""

    ALWAYS = "always"
    CHARGING = "charging"
    DISCHARGING = "discharging"
    IDLE = "idle"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One write request of a control."""

    values: tuple[tuple[Register, Expression | float], ...]
    """Consecutive registers and what goes into each."""
    when: When = When.ALWAYS
    """Setpoints it applies to."""
    ensure: bool = False
    """Read first and write only if different: for modes and enable bits, which are often kept in flash."""
    verify: bool = True
    """Read back afterwards; False for write-only registers."""
    single: bool = False
    """Write with function 6, register by register."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A setpoint a device accepts."""

    name: str
    """`battery_power`, `generation_limit` or `charge_limit`."""
    steps: tuple[Step, ...]
    """Requests in order."""
    release: tuple[Step, ...] = ()
    """Requests that give the device back to its own mode."""
    read_back: Register | None = None
    """Register that shows the setpoint in kW, our sign, when the written ones cannot be read."""
    step_kw: float = 0.0
    """Smallest difference the device tells apart; read-back agrees within it."""
    min_kw: float | None = None
    """Smallest setpoint [kW, our sign]; None: unbounded."""
    max_kw: float | None = None
    """Largest setpoint [kW, our sign]; None: unbounded."""
    pause_below_kw: float = 0.0
    """Setpoints above 0 but below this become 0 (a charger's 6 A)."""
    min_from: str | None = None
    """Quantity whose negative bounds the setpoint from below, for example `discharge_limit_kw`."""
    max_from: str | None = None
    """Quantity that bounds the setpoint from above."""
    ramp_kw_per_s: float | None = None
    """Fastest change of the setpoint [kW/s]; None: at once."""
    ramp_frac_per_s: float | None = None
    """The same as a share of the largest setpoint per second [1/s]."""
    writes_per_day: int = 100_000
    """Budget per register; small where the register is kept in flash."""
    flash: bool = False
    """True when the maker says, or does not deny, that writes wear memory."""
    reverts: bool = False
    """The device goes back to its own mode when `valid_s` has passed."""
    longest_valid_s: float = 65_535.0
    """Longest validity the timer takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMap:
    """All that is known of one device."""

    registers: tuple[Register, ...]
    """What can be read; names that are canonical quantities become samples."""
    derived: tuple[Derived, ...] = ()
    """Quantities made of registers."""
    periods_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Register name -> how rarely it needs reading [s]; absent: at every pass."""
    controls: Mapping[str, Control] = field(default_factory=lambda: MappingProxyType({}))
    """By control name."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Register name -> how sources name it, for example `103.W`."""
    constants: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Quantities known without reading, such as a rating read once."""
    max_count: int = 125
    """Registers one read may bring."""
    max_gap: int = 8
    """Registers nobody wants that one read may bridge."""
