"""Device files: one YAML per device family, schema-checked, turned into the same map SunSpec discovery gives.

The schema is documented in drivers/devices/README.md.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drivers.errors import DeviceFileError
from drivers.protocols import Unit
from drivers.quantities import CANONICAL, unit_of
from drivers.registers import RegisterType, Table, WordOrder

DEVICES: Final = Path(__file__).parent / "devices"

_UNITS: Final[Mapping[str, tuple[Unit, float]]] = MappingProxyType(
    {
        "W": (Unit.KW, 1e-3),
        "kW": (Unit.KW, 1.0),
        "MW": (Unit.KW, 1e3),
        "Wh": (Unit.KWH, 1e-3),
        "kWh": (Unit.KWH, 1.0),
        "MWh": (Unit.KWH, 1e3),
        "Ws": (Unit.KWH, 1.0 / 3.6e6),
        "var": (Unit.KVAR, 1e-3),
        "kvar": (Unit.KVAR, 1.0),
        "VA": (Unit.KVA, 1e-3),
        "kVA": (Unit.KVA, 1.0),
        "V": (Unit.V, 1.0),
        "mV": (Unit.V, 1e-3),
        "A": (Unit.A, 1.0),
        "mA": (Unit.A, 1e-3),
        "Hz": (Unit.HZ, 1.0),
        "degC": (Unit.DEGC, 1.0),
        "%": (Unit.FRAC, 0.01),
        "frac": (Unit.FRAC, 1.0),
        "s": (Unit.S, 1.0),
        "ms": (Unit.S, 1e-3),
        "min": (Unit.S, 60.0),
        "h": (Unit.S, 3600.0),
        "": (Unit.NONE, 1.0),
    }
)
_WORDS: Final = {
    RegisterType.INT16: 1,
    RegisterType.UINT16: 1,
    RegisterType.INT32: 2,
    RegisterType.UINT32: 2,
    RegisterType.FLOAT32: 2,
    RegisterType.INT64: 4,
    RegisterType.UINT64: 4,
    RegisterType.FLOAT64: 4,
    RegisterType.BIT: 1,
}
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Address = Annotated[int, Field(ge=0, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        """What YAML writes as lists and words, as the tuples and enums of this schema."""
        if not isinstance(data, dict):
            return data
        return {key: _plain(key, value) for key, value in data.items()}


_ENUMS: Final[Mapping[str, type[StrEnum]]] = {
    "table": Table,
    "type": RegisterType,
    "word_order": WordOrder,
}


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    kind = _ENUMS.get(key)
    if kind is not None and isinstance(value, str) and value in {member.value for member in kind}:
        return kind(value)
    return value


class SourceSpec(_Strict):
    """A document or a public implementation the facts were taken from."""

    title: Annotated[str, Field(min_length=3)]
    """What it is."""
    version: str = ""
    """Edition, date or commit."""
    where: Annotated[str, Field(min_length=3)]
    """Where it can be found: document number, web address or repository path."""


class LinkSpec(_Strict):
    """What the device asks of its connection."""

    max_count: Annotated[int, Field(ge=1, le=125)] = 125
    """Registers one read may bring."""
    max_gap: Annotated[int, Field(ge=0, le=100)] = 0
    """Undefined registers one read may bridge; 0 unless a source says that more is allowed."""
    min_gap_s: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Pause the device needs between requests [s]."""
    timeout_s: Annotated[float, Field(ge=0, le=30)] = 0.0
    """Longest answer time the maker names [s]; 0: the usual one."""
    one_client: bool = False
    """The device accepts a single connection."""
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    """Modbus unit as delivered."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """TCP port as delivered; None when it has no TCP."""
    serial: str | None = None
    """Serial settings as delivered, for example `9600 8N1`."""


class AsKw(_Strict):
    """A current that stands for a power: kW = A x phases x volts / 1000."""

    phases: Literal[1, 3]
    volts: Annotated[float, Field(gt=50, lt=500)]


class PlaceSpec(_Strict):
    """Where a value stands and how its bits are meant."""

    table: Table
    """`holding`, `input`, `coil` or `discrete`."""
    address: Address
    """As sent on the wire, 0-based."""
    type: RegisterType
    """`int16` .. `float64`, `string`, `bit`."""
    words: Annotated[int, Field(ge=1, le=125)] | None = None
    """Registers of a string."""
    word_order: WordOrder = WordOrder.BIG
    """Order of 16-bit words: `big` (ABCD) or `little` (CDAB)."""
    swap_bytes: bool = False
    """Bytes inside each word are exchanged."""

    @model_validator(mode="after")
    def _sized(self) -> "PlaceSpec":
        if (self.type is RegisterType.STRING) != (self.words is not None):
            raise ValueError("words belongs to type string, and to no other")
        if self.table.is_bits != (self.type is RegisterType.BIT):
            raise ValueError("type bit belongs to tables coil and discrete, and to no other")
        return self

    @property
    def size(self) -> int:
        """Registers it occupies."""
        return self.words if self.words is not None else _WORDS[self.type]


class IdentitySpec(PlaceSpec):
    """A test that another kind of device would fail."""

    one_of: tuple[int | str, ...] = ()
    """Raw values or texts allowed."""
    between: tuple[float, float] | None = None
    """Smallest and largest value, after `scale`."""
    matches: str | None = None
    """Regular expression that the text must contain."""
    scale: float = 1.0
    """For `between`."""

    @model_validator(mode="after")
    def _one_test(self) -> "IdentitySpec":
        if sum((bool(self.one_of), self.between is not None, self.matches is not None)) != 1:
            raise ValueError("exactly one of one_of, between, matches")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise ValueError(f"matches {self.matches!r} is no regular expression: {error}") from None
        return self


class RegisterSpec(PlaceSpec):
    """One value."""

    unit: str = ""
    """Unit of `raw x scale`: W, kWh, V, A, Hz, %, degC, s, ..."""
    scale: float = 1.0
    """Units per raw step."""
    sign: Literal[1, -1] = 1
    """-1 where the device counts the other way than we do."""
    offset: float = 0.0
    """Raw value that means 0."""
    sentinel: tuple[float, ...] = ()
    """Raw values that mean "no value"."""
    mask: int | None = None
    """Bits that count."""
    shift: int = 0
    """Bits to shift right after masking."""
    codes: Mapping[int, float] | None = None
    """Raw code -> value; other codes mean absent."""
    scale_from: Name | None = None
    """Register holding a power of ten for this one."""
    as_kw: AsKw | None = None
    """Take this current as a power."""
    group: Name = "fast"
    """How often it is read."""
    example: float | str | None = None
    """A value in our unit and sign the device could show; used by the twin and the round-trip test."""

    @model_validator(mode="after")
    def _known_unit(self) -> "RegisterSpec":
        if self.unit not in _UNITS:
            raise ValueError(f"unit {self.unit!r} is not one of {', '.join(_UNITS)}")
        if self.as_kw is not None and _UNITS[self.unit][0] is not Unit.A:
            raise ValueError("as_kw belongs to a current")
        return self

    @property
    def our_unit(self) -> Unit:
        """Unit after conversion."""
        return Unit.KW if self.as_kw is not None else _UNITS[self.unit][0]

    @property
    def factor(self) -> float:
        """Value in our unit and sign per raw step."""
        factor = self.sign * self.scale * _UNITS[self.unit][1]
        return factor if self.as_kw is None else factor * self.as_kw.phases * self.as_kw.volts / 1000.0


class DerivedSpec(_Strict):
    """A quantity made of registers."""

    add: tuple[Name, ...] = ()
    """Summed."""
    subtract: tuple[Name, ...] = ()
    """Subtracted from the sum."""
    multiply: tuple[Name, ...] = ()
    """Multiplied; instead of add and subtract."""
    only_if: Mapping[Name, float] | None = None
    """One register and the value it must have."""
    floor: float | None = None
    """Smallest value."""

    @model_validator(mode="after")
    def _one_way(self) -> "DerivedSpec":
        if bool(self.add or self.subtract) == bool(self.multiply):
            raise ValueError("either add and subtract, or multiply")
        if self.only_if is not None and len(self.only_if) != 1:
            raise ValueError("only_if names one register")
        return self


class StepSpec(_Strict):
    """One write request."""

    set: Mapping[Name, str | int]
    """Consecutive registers -> expression (target, -target, charge, discharge, abs, valid_s) or raw number."""
    when: Literal["always", "charging", "discharging", "idle"] = "always"
    """Setpoints it applies to."""
    ensure: bool = False
    """Write only when the register shows another value."""
    verify: bool = True
    """Read back; false for write-only registers."""
    single: bool = False
    """Write register by register with function 6."""


class RangeSpec(_Strict):
    """What the control accepts [kW, our sign]."""

    min_kw: float | None = None
    max_kw: float | None = None
    min_from: Name | None = None
    """Quantity whose negative is the smallest setpoint."""
    max_from: Name | None = None
    """Quantity that is the largest setpoint."""


class RampSpec(_Strict):
    """How fast a setpoint may change; for devices or grid codes that want it, where the device does not see to it itself."""

    kw_per_s: Annotated[float, Field(gt=0)] | None = None
    """[kW/s]"""
    frac_per_s: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the largest setpoint per second; 0.1 needs ten seconds from 0 to full power."""

    @model_validator(mode="after")
    def _one_way(self) -> "RampSpec":
        if (self.kw_per_s is None) == (self.frac_per_s is None):
            raise ValueError("exactly one of kw_per_s, frac_per_s")
        return self


class ControlSpec(_Strict):
    """A setpoint the device accepts."""

    write: tuple[StepSpec, ...]
    """Requests in order, enable sequence included."""
    release: tuple[StepSpec, ...] = ()
    """Requests that give the device back to its own mode."""
    range: RangeSpec
    """Allowed setpoints."""
    step_kw: Annotated[float, Field(ge=0)]
    """Smallest difference the device tells apart."""
    pause_below_kw: Annotated[float, Field(ge=0)] = 0.0
    """Setpoints above 0 but below this become 0."""
    ramp: RampSpec | None = None
    """How fast the setpoint may change; at once when left out."""
    memory: Literal["ram", "flash", "unknown"]
    """Where the registers are kept; unknown is treated as flash."""
    writes_per_day: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Budget per register; default 100000 for ram, 96 otherwise."""
    reverts: bool
    """The device goes back by itself when `valid_s` or its communication time-out has passed."""
    longest_valid_s: Annotated[float, Field(gt=0)] = 65_535.0
    """Longest time its timer takes [s]."""
    read_back: Name | None = None
    """Register that shows the setpoint where the written ones cannot be read."""


class NameplateSpec(_Strict):
    """Where the device tells who it is."""

    model: PlaceSpec | None = None
    serial: PlaceSpec | None = None
    version: PlaceSpec | None = None


class DeviceSpec(_Strict):
    """A device file."""

    device: Annotated[str, Field(min_length=3)]
    """What it is called."""
    maker: Annotated[str, Field(min_length=2)]
    """Who makes it."""
    models: tuple[str, ...]
    """Product names this file is true for."""
    roles: tuple[Literal["meter", "inverter", "battery", "charger", "heat_pump", "switch", "signal"], ...]
    """What it can be in a site."""
    verified: Literal["two-sources", "one-source", "hardware"]
    """How the facts were checked."""
    sources: tuple[SourceSpec, ...]
    """Where the facts come from."""
    notes: str = ""
    """What an installer must know."""
    link: LinkSpec = LinkSpec()
    """What it asks of its connection."""
    nameplate: NameplateSpec = NameplateSpec()
    """Where it tells who it is."""
    identity: Annotated[tuple[IdentitySpec, ...], Field(min_length=1)]
    """Tests another device would fail; all must pass."""
    hints: tuple[IdentitySpec, ...] = ()
    """Tests that make this file likelier when several match a scan; never required."""
    groups: Mapping[Name, Annotated[float, Field(ge=0, le=86_400)]] = Field(
        default_factory=lambda: {"fast": 0.0, "slow": 60.0}
    )
    """Group -> period [s]; 0 means at every pass."""
    registers: Mapping[Name, RegisterSpec]
    """Canonical quantities, and private names for derived quantities and controls."""
    derived: Mapping[Name, DerivedSpec] = Field(default_factory=dict)
    """Canonical quantities made of registers."""
    controls: Mapping[
        Literal["battery_power", "generation_limit", "charge_limit", "consumption_limit"], ControlSpec
    ] = Field(default_factory=dict)
    """Setpoints; nothing else is ever written."""

    @model_validator(mode="after")
    def _consistent(self) -> "DeviceSpec":
        problems = list(_problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _problems(spec: DeviceSpec) -> list[str]:
    found: list[str] = []
    if spec.verified == "two-sources" and len(spec.sources) < 2:
        found.append("verified two-sources needs two sources")
    if not spec.sources:
        found.append("sources is empty")
    for name, register in spec.registers.items():
        if (
            name in CANONICAL
            and register.type is not RegisterType.STRING
            and register.our_unit != unit_of(name)
        ):
            found.append(
                f"registers.{name}: unit {register.unit!r} does not give {unit_of(name).value or 'a number'}"
            )
        if register.group not in spec.groups:
            found.append(f"registers.{name}: group {register.group!r} is not in groups")
        if register.scale_from is not None and register.scale_from not in spec.registers:
            found.append(f"registers.{name}: scale_from {register.scale_from!r} is no register")
    for name, derived in spec.derived.items():
        if name not in CANONICAL:
            found.append(f"derived.{name} is no canonical quantity")
        if name in spec.registers:
            found.append(f"derived.{name} is a register already")
        inputs = (*derived.add, *derived.subtract, *derived.multiply, *(derived.only_if or ()))
        found += [f"derived.{name}: {part!r} is no register" for part in inputs if part not in spec.registers]
        units = {
            spec.registers[part].our_unit
            for part in (*derived.add, *derived.subtract)
            if part in spec.registers
        }
        if units - {unit_of(name)}:
            found.append(f"derived.{name}: parts are not all in {unit_of(name).value}")
    for name, control in spec.controls.items():
        found += _control_problems(name, control, spec)
    if not any(name in CANONICAL for name in (*spec.registers, *spec.derived)):
        found.append("no canonical quantity is given")
    return found


_EXPRESSIONS: Final = frozenset({"target", "-target", "charge", "discharge", "abs", "valid_s"})


def _control_problems(name: str, control: ControlSpec, spec: DeviceSpec) -> list[str]:
    found: list[str] = []
    for step in (*control.write, *control.release):
        registers = [spec.registers.get(key) for key in step.set]
        found += [f"controls.{name}: {key!r} is no register" for key in step.set if key not in spec.registers]
        places = [r for r in registers if r is not None]
        found += [
            f"controls.{name}: {', '.join(step.set)} are not consecutive"
            for left, right in pairwise(places)
            if not step.single
            and (left.table is not right.table or left.address + left.size != right.address)
        ]
        for key, value in step.set.items():
            register = spec.registers.get(key)
            if register is None or isinstance(value, int):
                continue
            if value not in _EXPRESSIONS:
                found.append(f"controls.{name}: {value!r} is not one of {', '.join(sorted(_EXPRESSIONS))}")
            wanted = Unit.S if value == "valid_s" else Unit.KW
            if register.our_unit is not wanted:
                found.append(f"controls.{name}: register {key} is not in {wanted.value}")
        if any(r.table not in (Table.HOLDING, Table.COIL) for r in places):
            found.append(f"controls.{name}: only holding registers and coils can be written")
    bounded = control.range.max_kw is not None or control.range.max_from is not None
    if control.ramp is not None and control.ramp.frac_per_s is not None and not bounded:
        found.append(f"controls.{name}: ramp.frac_per_s needs range.max_kw or range.max_from")
    names = {*spec.registers, *spec.derived}
    wanted_names = (control.read_back, control.range.min_from, control.range.max_from)
    found += [
        f"controls.{name}: {n!r} is no register" for n in wanted_names if n is not None and n not in names
    ]
    return found


def device_file_names() -> frozenset[str]:
    """Stems of all device files."""
    return frozenset(path.stem for path in DEVICES.glob("*.yaml"))


@cache
def load_spec(path: Path) -> DeviceSpec:
    """Read and check a device file.

    Raises
    ------
    DeviceFileError
        Naming file, key, value and what was expected, for every mistake in it.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DeviceFileError(f"{path.name}: {' '.join(str(error).split())}") from None
    try:
        return DeviceSpec.model_validate(data)
    except ValidationError as error:
        lines = [
            f"{path.name}: {'.'.join(str(part) for part in e['loc']) or 'file'}: {e['msg']}"
            for e in error.errors()
        ]
        raise DeviceFileError("\n".join(lines)) from None
