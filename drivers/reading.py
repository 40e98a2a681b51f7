"""One pass over a device: due blocks are read, decoded, judged and handed out as samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple

from drivers.blocks import TENS, BlockDecoder, Value
from drivers.device_map import Derived, DeviceMap
from drivers.modbus import Link, LinkError
from drivers.plausibility import Flag, Plausibility, Rule
from drivers.protocols import Clock, Quality, Sample, Trouble, TroubleKind, Unit
from drivers.quantities import CANONICAL, unit_of
from drivers.registers import Block, Register, plan_blocks

STALE_PERIODS: Final = 2.0
"""A slow value older than this many of its periods is stale."""
_SWAPPED: Final = {"import_kwh": "export_kwh", "export_kwh": "import_kwh"}
_NUMBERS: Final = (float, int)
_NEVER: Final = "never read"
_NO_VALUE: Final = "the device gives no value"
_ILLEGAL: Final = (2, 3)
"""Exception codes by which devices reject a block that crosses addresses they do not define."""


class _Known(NamedTuple):
    value: Value
    at: datetime
    cause: str | None


class _Told(NamedTuple):
    """How a quantity is handed out."""

    unit: Unit
    source: str
    period_s: float
    judge: Rule


@dataclass(slots=True)
class _Group:
    """Blocks that are read at one period."""

    period_s: float
    decoders: list[BlockDecoder]
    read_at: datetime | None = None

    def is_due(self, at: datetime) -> bool:
        # a reading from the future is one from before the clock was set back
        return self.read_at is None or not 0.0 <= (at - self.read_at).total_seconds() < self.period_s


class Reader:
    """Reads one device by its map and remembers what slow groups said."""

    def __init__(
        self,
        *,
        name: str,
        device_map: DeviceMap,
        link: Link,
        unit: int,
        clock: Clock,
        plausibility: Plausibility,
        swap_direction: bool,
    ) -> None:
        self.map = device_map
        self.flags_by_rule: dict[str, int] = {}
        self._name, self._link, self._unit, self._clock = name, link, unit, clock
        self._plausibility, self._swap = plausibility, swap_direction
        self._groups = _plan(device_map)
        self._values: dict[str, _Known] = {}
        self._unsplittable: set[tuple[str, int]] = set()
        self._unscaled: dict[str, Value] = {}
        self._scales: dict[str, float] = {}
        self._told: dict[str, _Told] = {}
        self._derived = {derived.name: derived for derived in device_map.derived}
        self._inputs = {derived.name: derived.inputs for derived in device_map.derived}
        self.quantities = quantities_of(device_map)
        self._in_order = tuple(sorted(self.quantities))
        self._steady = frozenset(device_map.periods_s) | frozenset(device_map.constants)

    async def read(self, *, every_group: bool = False) -> Trouble | None:
        """Read every due group, or all of them; the first trouble met, if any."""
        first: Trouble | None = None
        for group in self._groups:
            at = self._clock()
            if not every_group and not group.is_due(at):
                continue
            trouble = await self._read_group(group)
            if trouble is None or trouble.exception_code in _ILLEGAL:
                group.read_at = at  # a register the device lacks is no reason to ask the others more often
            if trouble is not None and trouble.kind is not TroubleKind.EXCEPTION:
                self.lose_all(trouble)
                return first or trouble
            first = first or trouble
        return first

    def lose_all(self, trouble: Trouble) -> None:
        """Nothing is known any more, except what slow groups said before."""
        for group in self._groups:
            for decoder in group.decoders:
                self._lose(decoder, trouble)

    def samples(self, at: datetime) -> dict[str, Sample]:
        """Every quantity of the map, judged."""
        raw = {}
        for name in self._in_order:
            if (known := self._quantity(name, at)) is not None:
                raw[name] = known
        if self._swap:
            raw = _swapped(raw)
        judged = {name: self._judged(name, known, at) for name, known in raw.items()}
        moving = {
            name: float(known.value)
            for name, known in raw.items()
            if isinstance(known.value, _NUMBERS) and name not in self._steady
        }
        flag = self._plausibility.frozen(moving, at)
        if flag is None:
            return judged
        self._note(flag)
        return {
            name: replace(sample, quality=flag.quality, cause=flag.cause)
            if sample.quality is Quality.GOOD
            else sample
            for name, sample in judged.items()
        }

    async def _read_group(self, group: _Group) -> Trouble | None:
        first: Trouble | None = None
        for decoder in list(group.decoders):
            trouble = await self._read_block(decoder)
            if trouble is not None and trouble.exception_code in _ILLEGAL:
                narrower = self._narrower(decoder)
                troubles = [await self._read_block(smaller) for smaller in narrower]
                if any(t is None for t in troubles):
                    at = group.decoders.index(decoder)
                    group.decoders[at : at + 1] = narrower
                    trouble = next((t for t in troubles if t is not None), None)
            if trouble is not None and trouble.kind is not TroubleKind.EXCEPTION:
                return trouble
            first = first or trouble
        self._join_scales(group)
        return first

    async def _read_block(self, decoder: BlockDecoder) -> Trouble | None:
        block = decoder.block
        try:
            data = await self._link.read(self._unit, block.table.read_function, block.address, block.count)
        except LinkError as error:
            self._lose(decoder, error.trouble)
            return error.trouble
        at = self._clock()
        values = decoder.decode(data)
        for register in decoder.far:
            self._unscaled[register.name] = values.pop(register.name)
        for name, value in values.items():
            self._values[name] = _Known(value, at, None if value is not None else _NO_VALUE)
        return None

    def _join_scales(self, group: _Group) -> None:
        """Scale what stands too far from its scale factor for one read.

        A factor that just changed is not used: which of both reads it belongs to cannot be known.
        """
        for register in (r for decoder in group.decoders for r in decoder.far):
            raw, scale = self._unscaled.pop(register.name, None), self._values.get(register.scale_from or "")
            if raw is None or scale is None:
                continue
            power, before = scale.value, self._scales.get(register.scale_from or "")
            ten = TENS.get(power) if isinstance(power, float | int) else None
            usable = ten is not None and before in (None, power) and isinstance(raw, float | int)
            value = float(raw) * ten if usable and ten is not None and not isinstance(raw, str) else None
            cause = None if value is not None else "no value, or its scale factor changed between two reads"
            self._values[register.name] = _Known(value, scale.at, cause)
        for name in {r.scale_from or "" for decoder in group.decoders for r in decoder.far}:
            known = self._values.get(name)
            if known is not None and isinstance(known.value, float | int):
                self._scales[name] = known.value

    def _narrower(self, decoder: BlockDecoder) -> list[BlockDecoder]:
        """Smaller blocks in place of a rejected one, tried once per block."""
        block = decoder.block
        key = (block.table.value, block.address)
        if key in self._unsplittable:
            return []
        self._unsplittable.add(key)
        for most in (block.count, (block.count + 1) // 2):
            try:
                found = plan_blocks(block.registers, max_count=most, max_gap=0)
            except ValueError:
                return []
            if len(found) > 1:
                return [BlockDecoder(smaller, keep=_far_scales(found)) for smaller in found]
        return []

    def _lose(self, decoder: BlockDecoder, trouble: Trouble) -> None:
        for register in decoder.block.registers:
            known = self._values.get(register.name)
            if register.name in self.map.periods_s and known is not None and known.value is not None:
                continue  # still known from its last reading; it turns stale by age
            self._values[register.name] = _Known(None, self._clock(), trouble.detail)

    def _quantity(self, name: str, at: datetime) -> _Known | None:
        """What is known of a quantity; None for one that does not apply now, such as a limit not in force."""
        derived = self._derived.get(name)
        if derived is not None:
            return self._derive(derived, at)
        known = self._values.get(name)
        if known is not None:
            return known
        if name in self.map.constants:
            return _Known(self.map.constants[name], at, None)
        return _Known(None, at, _NEVER)

    def _derive(self, derived: Derived, at: datetime) -> _Known | None:
        numbers: dict[str, float] = {}
        oldest, missing = at, None
        for name in self._inputs[derived.name]:
            part = self._values.get(name) or _Known(None, at, _NEVER)
            oldest = min(oldest, part.at)
            if isinstance(part.value, _NUMBERS):
                numbers[name] = part.value
            else:
                missing = missing or part
        if missing is not None:
            return _Known(None, missing.at, missing.cause)
        if derived.only_if is not None and numbers[derived.only_if[0]] != derived.only_if[1]:
            return None
        if derived.factors:
            value = derived.factor
            for name in derived.factors:
                value *= numbers[name]
        else:
            value = derived.factor * sum([factor * numbers[name] for factor, name in derived.terms])
        return _Known(value if derived.floor is None else max(derived.floor, value), oldest, None)

    def _judged(self, name: str, known: _Known, at: datetime) -> Sample:
        told = self._told.get(name) or self._tell(name)
        value: float | None = None
        quality, cause = Quality.BAD, known.cause
        if isinstance(known.value, _NUMBERS):
            value, flag = told.judge(float(known.value), known.at)
            if flag is not None:
                self._note(flag)
                quality, cause = flag.quality, flag.cause
            elif told.period_s and (age_s := (at - known.at).total_seconds()) > STALE_PERIODS * told.period_s:
                quality, cause = Quality.STALE, f"{age_s:.0f} s old, wanted every {told.period_s:g} s"
            else:
                quality = Quality.GOOD
        return Sample(
            value=value,
            unit=told.unit,
            measured_at=known.at,
            quality=quality,
            source=told.source,
            cause=cause,
        )

    def _tell(self, name: str) -> _Told:
        """How a quantity is handed out; found once, as every pass asks for every quantity."""
        told = self._told[name] = _Told(
            unit=unit_of(name),
            source=f"{self._name} {self._label(name)}",
            period_s=self.map.periods_s.get(name, 0.0),
            judge=self._plausibility.rule(name),
        )
        return told

    def _label(self, name: str) -> str:
        if name in self.map.labels:
            return self.map.labels[name]
        derived = self._derived.get(name)
        return derived.label if derived is not None and derived.label else name

    def _note(self, flag: Flag) -> None:
        self.flags_by_rule[flag.rule] = self.flags_by_rule.get(flag.rule, 0) + 1


def quantities_of(device_map: DeviceMap) -> frozenset[str]:
    """Canonical quantities a map gives."""
    registers = {r.name for r in device_map.registers} & CANONICAL
    return frozenset(registers | {d.name for d in device_map.derived} | set(device_map.constants))


def _plan(device_map: DeviceMap) -> list[_Group]:
    """Blocks by period, each value beside the register that scales it."""
    by_name = {register.name: register for register in device_map.registers}
    scales = {r.scale_from for r in device_map.registers if r.scale_from is not None}
    periods: dict[float, list[Register]] = {}
    for register in device_map.registers:
        if register.name in scales and register.name not in CANONICAL:
            continue
        members = periods.setdefault(device_map.periods_s.get(register.name, 0.0), [])
        members.append(register)
        if register.scale_from is not None:
            members.append(by_name[register.scale_from])
    limits = {"max_count": device_map.max_count, "max_gap": device_map.max_gap}
    groups = []
    for period, members in sorted(periods.items()):
        blocks = plan_blocks(members, **limits)
        groups.append(_Group(period, [BlockDecoder(block, keep=_far_scales(blocks)) for block in blocks]))
    return groups


def _far_scales(blocks: Sequence[Block]) -> frozenset[str]:
    """Scale factors that values of other blocks need."""
    far = set[str]()
    for block in blocks:
        here = {register.name for register in block.registers}
        far |= {
            r.scale_from for r in block.registers if r.scale_from is not None and r.scale_from not in here
        }
    return frozenset(far)


def _swapped(raw: Mapping[str, _Known]) -> dict[str, _Known]:
    """A meter mounted the wrong way round, put right."""
    out: dict[str, _Known] = {}
    for name, known in raw.items():
        if name.startswith("net_import") and isinstance(known.value, float | int):
            known = known._replace(value=-known.value)
        out[_SWAPPED.get(name, name)] = known
    return out
