"""Decode whole blocks at once: each block is compiled to one `struct` and a short plan."""

import struct
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from operator import itemgetter
from typing import Final

from drivers.modbus import Link
from drivers.registers import (
    Block,
    Register,
    RegisterType,
    WordOrder,
    decode,
    decode_text,
    plan_blocks,
)

Value = float | str | None

_CODES: Final = {
    RegisterType.INT16: "h",
    RegisterType.UINT16: "H",
    RegisterType.INT32: "i",
    RegisterType.UINT32: "I",
    RegisterType.INT64: "q",
    RegisterType.UINT64: "Q",
    RegisterType.FLOAT32: "f",
    RegisterType.FLOAT64: "d",
}
TENS: Final[Mapping[float, float]] = {n: 10.0**n for n in range(-10, 11)}
"""Scale factors a device may use; others are garbage and make the value absent."""


class BlockDecoder:
    """Turns the bytes of one block into values by register name; absent values are None.

    Scale factors are applied and not handed out. Values whose scale stands in another block (`far`) come unscaled.
    """

    def __init__(self, block: Block, *, keep: frozenset[str] = frozenset()) -> None:
        """Compile a block; scale factors named in `keep` are handed out, as values of other blocks need them."""
        self.block = block
        here = {register.name for register in block.registers}
        self.far = tuple(r for r in block.registers if r.scale_from is not None and r.scale_from not in here)
        plain = [r for r in block.registers if _is_plain(r)] if not block.table.is_bits else []
        plain, overlapped = _without_overlaps(plain)
        slots = {register.name: index for index, register in enumerate(plain)}
        self._struct = struct.Struct(_layout(plain, block.address, block.count))
        self._floats = [(r.name, slots[r.name], r.factor) for r in plain if _CODES[r.type] in "fd"]
        whole = [
            r
            for r in plain
            if _CODES[r.type] not in "fd"
            and (r.scale_from is None or r.scale_from in slots)
            and r.offset == 0.0
            and len(r.absent) <= 1
        ]
        fast = {r.name for r in whole} | {name for name, *_ in self._floats}
        self._slow = [r for r in block.registers if r.name not in fast or r in overlapped]
        only_scales = {r.scale_from for r in whole} - keep
        whole = [r for r in whole if r.name not in only_scales]
        self._whole = tuple(whole)
        self._names = tuple(r.name for r in whole)
        self._absents = tuple(r.absent[0] if r.absent else None for r in whole)
        self._pick = _picker([slots[r.name] for r in whole])
        scales = sorted({slots[r.scale_from] for r in whole if r.scale_from is not None})
        self._pick_scales = _picker(scales)
        self._place_of = {name: scales.index(slot) for name, slot in slots.items() if slot in scales}
        self._scales: tuple[float, ...] | None = None
        self._multipliers: tuple[float, ...] = ()
        self._unscalable: tuple[str, ...] = ()

    def decode(self, data: bytes) -> dict[str, Value]:
        """Values of one answer."""
        out: dict[str, Value] = {}
        if self._names:
            numbers = self._struct.unpack(data)
            # scale factors hardly ever change, so what they make of each raw unit is kept until they do
            if (scales := self._pick_scales(numbers)) != self._scales:
                self._rescale(scales)
            columns = zip(self._names, self._pick(numbers), self._absents, self._multipliers, strict=True)
            out = {name: raw * unit if raw != absent else None for name, raw, absent, unit in columns}
            for name in self._unscalable:
                out[name] = None
        if self._floats:
            numbers = self._struct.unpack(data)
            for name, at, factor in self._floats:
                raw = numbers[at]
                out[name] = raw * factor if isfinite(raw) else None
        for register in self._slow:
            out[register.name] = self._one(register, data)
        return out

    def _rescale(self, scales: tuple[float, ...]) -> None:
        multipliers, unscalable = [], []
        for register in self._whole:
            scale = register.scale_from
            ten = 1.0 if scale is None else TENS.get(scales[self._place_of[scale]])
            if ten is None:
                unscalable.append(register.name)
            multipliers.append(register.factor * (ten or 1.0))
        self._scales, self._multipliers, self._unscalable = scales, tuple(multipliers), tuple(unscalable)

    def _one(self, register: Register, data: bytes) -> Value:
        cut = self.block.cut(data, register)
        if register.type is RegisterType.STRING:
            return decode_text(register, cut)
        if register.scale_from is None or register in self.far:
            return decode(register, cut)
        scale = next((r for r in self.block.registers if r.name == register.scale_from), None)
        power = decode(scale, self.block.cut(data, scale)) if scale is not None else None
        if power is None or power not in TENS:
            return None
        return decode(register, cut, int(power))


def _picker(places: list[int]) -> Callable[[tuple[float, ...]], tuple[float, ...]]:
    """Takes some places of a tuple; always gives a tuple."""
    if len(places) >= 2:
        return itemgetter(*places)
    return lambda numbers: tuple(numbers[place] for place in places)


def _is_plain(register: Register) -> bool:
    return (
        register.type in _CODES
        and register.mask is None
        and register.meaning is None
        and not register.swap_bytes
        and (register.words == 1 or register.word_order is WordOrder.BIG)
        and not (register.type in (RegisterType.FLOAT32, RegisterType.FLOAT64) and _has_extras(register))
    )


def _has_extras(register: Register) -> bool:
    return bool(register.absent) or register.offset != 0.0 or register.scale_from is not None


def _without_overlaps(registers: list[Register]) -> tuple[list[Register], list[Register]]:
    """Registers one struct can hold, and those that share words with an earlier one."""
    kept: list[Register] = []
    overlapped: list[Register] = []
    for register in registers:
        (overlapped if kept and register.address < kept[-1].end else kept).append(register)
    return kept, overlapped


def _layout(registers: list[Register], start: int, count: int) -> str:
    parts, at = [">"], start
    for register in registers:
        if register.address > at:
            parts.append(f"{2 * (register.address - at)}x")
        parts.append(_CODES[register.type])
        at = register.end
    if start + count > at:
        parts.append(f"{2 * (start + count - at)}x")
    return "".join(parts)


async def read_registers(
    link: Link, unit: int, registers: Iterable[Register], *, max_count: int = 125, max_gap: int = 8
) -> dict[str, Value]:
    """Read registers once, in as few requests as planned; for identification and read-back.

    Raises
    ------
    LinkError
        At the first block that cannot be read.
    """
    values: dict[str, Value] = {}
    for block in plan_blocks(registers, max_count=max_count, max_gap=max_gap):
        data = await link.read(unit, block.table.read_function, block.address, block.count)
        values |= BlockDecoder(block).decode(data)
    return values
