"""A checked device file as a source of identity and map."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from drivers.device_file import (
    DEVICES,
    ControlSpec,
    DerivedSpec,
    DeviceSpec,
    IdentitySpec,
    PlaceSpec,
    RegisterSpec,
    StepSpec,
    load_spec,
)
from drivers.device_map import Control, Derived, DeviceMap, Expression, Step, When
from drivers.identity import Identity
from drivers.modbus import Link, LinkError
from drivers.protocols import Trouble, TroubleKind
from drivers.quantities import CANONICAL
from drivers.registers import Register, raw_value

WRITES_PER_DAY_RAM = 100_000
"""More than one write a second all day: RAM does not wear, the budget only stops a runaway."""
WRITES_PER_DAY_FLASH = 96
"""One write each quarter of an hour: 100,000 write cycles then last for three years."""


class FileDevice:
    """Identity tests and map of one device file."""

    def __init__(self, spec: DeviceSpec) -> None:
        self.spec = spec
        self._map = build_map(spec)

    @property
    def known(self) -> DeviceMap | None:
        """The map; known without asking."""
        return self._map

    @property
    def min_gap_s(self) -> float:
        """Pause the device needs between requests [s]."""
        return self.spec.link.min_gap_s

    @property
    def timeout_s(self) -> float:
        """Longest answer time the maker names [s]; 0 when none."""
        return self.spec.link.timeout_s

    async def learn(self, link: Link, unit: int) -> tuple[Identity, DeviceMap]:
        """Run the identity tests and read the nameplate; LinkError when one fails."""
        for test in self.spec.identity:
            shown = await self._shown(link, unit, test)
            if not passes(test, shown):
                detail = (
                    f"{link.endpoint.text} unit {unit} is no {self.spec.device}: "
                    f"{test.table.value} {test.address} shows {shown!r}, expected {_expected(test)}"
                )
                raise LinkError(Trouble(kind=TroubleKind.NOT_RECOGNISED, detail=detail))
        texts = {
            key: await self._text(link, unit, place)
            for key, place in (
                ("model", self.spec.nameplate.model),
                ("serial", self.spec.nameplate.serial),
                ("version", self.spec.nameplate.version),
            )
        }
        identity = Identity(
            maker=self.spec.maker,
            model=texts["model"] or self.spec.device,
            serial=texts["serial"],
            version=texts["version"],
        )
        return identity, self._map

    async def _shown(self, link: Link, unit: int, place: PlaceSpec) -> float | str | None:
        try:
            data = await link.read(unit, place.table.read_function, place.address, place.size)
        except LinkError as error:
            if error.trouble.kind is TroubleKind.EXCEPTION and error.trouble.exception_code not in (
                5,
                6,
                10,
                11,
            ):
                return None
            raise
        return raw_value(place_register("identity", place), data)

    async def _text(self, link: Link, unit: int, place: PlaceSpec | None) -> str | None:
        if place is None:
            return None
        shown = await self._shown(link, unit, place)
        return None if shown is None else str(shown)


def passes(test: IdentitySpec, shown: float | str | None) -> bool:
    """Whether a raw value or text is what an identity test wants."""
    if shown is None:
        return False
    if test.matches is not None:
        return re.search(test.matches, str(shown)) is not None
    if test.between is not None:
        low, high = test.between
        return not isinstance(shown, str) and low <= shown * test.scale <= high
    return shown in test.one_of


def _expected(test: IdentitySpec) -> str:
    if test.matches is not None:
        return f"text matching {test.matches!r}"
    if test.between is not None:
        return f"{test.between[0]:g}..{test.between[1]:g}"
    return " or ".join(repr(value) for value in test.one_of)


def place_register(name: str, place: PlaceSpec) -> Register:
    """A place as a raw register."""
    return Register(
        name=name,
        table=place.table,
        address=place.address,
        type=place.type,
        words=place.size,
        word_order=place.word_order,
        swap_bytes=place.swap_bytes,
    )


def register_of(name: str, spec: RegisterSpec) -> Register:
    """A register in our unit and sign."""
    return replace(
        place_register(name, spec),
        factor=spec.factor,
        offset=spec.offset,
        absent=spec.sentinel,
        mask=spec.mask,
        shift=spec.shift,
        meaning=None if spec.codes is None else MappingProxyType(dict(spec.codes)),
        scale_from=spec.scale_from,
    )


def build_map(spec: DeviceSpec) -> DeviceMap:
    """The map a device file describes. Private registers are read only where a derived quantity needs them."""
    registers = {name: register_of(name, r) for name, r in spec.registers.items()}
    derived = tuple(_derived(name, d) for name, d in spec.derived.items())
    needed = {name for name in registers if name in CANONICAL}
    needed |= {name for d in derived for name in d.inputs}
    needed |= {scale for name in needed if (scale := registers[name].scale_from) is not None}
    periods = {n: p for n in needed if (p := spec.groups[spec.registers[n].group]) > 0.0}
    return DeviceMap(
        registers=tuple(registers[name] for name in registers if name in needed),
        derived=derived,
        periods_s=MappingProxyType(periods),
        controls=MappingProxyType({n: _control(n, c, registers) for n, c in spec.controls.items()}),
        labels=MappingProxyType(
            {n: f"{spec.registers[n].table.value} {spec.registers[n].address}" for n in needed}
        ),
        max_count=spec.link.max_count,
        max_gap=spec.link.max_gap,
    )


def _derived(name: str, spec: DerivedSpec) -> Derived:
    terms = [(1.0, part) for part in spec.add] + [(-1.0, part) for part in spec.subtract]
    return Derived(
        name=name,
        terms=tuple(terms),
        factors=tuple(spec.multiply),
        only_if=next(iter(spec.only_if.items())) if spec.only_if is not None else None,
        floor=spec.floor,
        label=" x ".join(spec.multiply) or " + ".join(part for _, part in terms),
    )


def _control(name: str, spec: ControlSpec, registers: Mapping[str, Register]) -> Control:
    budget = WRITES_PER_DAY_RAM if spec.memory == "ram" else WRITES_PER_DAY_FLASH
    return Control(
        name=name,
        steps=tuple(_step(step, registers) for step in spec.write),
        release=tuple(_step(step, registers) for step in spec.release),
        read_back=registers[spec.read_back] if spec.read_back is not None else None,
        step_kw=spec.step_kw,
        min_kw=spec.range.min_kw,
        max_kw=spec.range.max_kw,
        min_from=spec.range.min_from,
        max_from=spec.range.max_from,
        pause_below_kw=spec.pause_below_kw,
        ramp_kw_per_s=None if spec.ramp is None else spec.ramp.kw_per_s,
        ramp_frac_per_s=None if spec.ramp is None else spec.ramp.frac_per_s,
        writes_per_day=spec.writes_per_day or budget,
        flash=spec.memory != "ram",
        reverts=spec.reverts,
        longest_valid_s=spec.longest_valid_s,
    )


def _step(spec: StepSpec, registers: Mapping[str, Register]) -> Step:
    values: list[tuple[Register, Expression | float]] = []
    for key, value in spec.set.items():
        register = registers[key]
        if isinstance(value, str):
            values.append((register, Expression(value)))
        else:
            raw = replace(register, factor=1.0, offset=0.0, meaning=None, mask=None, shift=0, absent=())
            values.append((raw, float(value)))
    return Step(
        values=tuple(values), when=When(spec.when), ensure=spec.ensure, verify=spec.verify, single=spec.single
    )


@cache
def load_device_file(driver: str, folder: Path = DEVICES) -> FileDevice:
    """The device file with this stem, or at this path when it ends in `.yaml`.

    Raises
    ------
    DeviceFileError
        The file cannot be read or breaks its schema.
    """
    path = Path(driver) if driver.endswith(".yaml") else folder / f"{driver}.yaml"
    return FileDevice(load_spec(path))
