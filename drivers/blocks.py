"""Decode whole blocks at once: each block is compiled to one `struct` and a short plan."""

import struct
from collections.abc import Iterable, Mapping
from math import isfinite
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
_TENS: Final[Mapping[float, float]] = {n: 10.0**n for n in range(-10, 11)}
"""Scale factors a device may use; others are garbage and make the value absent."""


class BlockDecoder:
    """Turns the bytes of one block into values by register name; absent values are None."""

    def __init__(self, block: Block) -> None:
        self.block = block
        fast = [r for r in block.registers if _is_plain(r)] if not block.table.is_bits else []
        fast, overlapped = _without_overlaps(fast)
        slots = {register.name: index for index, register in enumerate(fast)}
        self._struct = struct.Struct(_layout(fast, block.address, block.count))
        scales = {r.scale_from for r in block.registers if r.scale_from is not None}
        self._floats: list[tuple[str, int, float]] = []
        self._exact: list[tuple[str, int, tuple[float, ...], float, float]] = []
        scaled: dict[int, list[tuple[str, int, tuple[float, ...], float]]] = {}
        self._slow: list[Register] = [r for r in block.registers if not _is_plain(r) or block.table.is_bits]
        self._slow += overlapped
        for register in fast:
            at, name = slots[register.name], register.name
            if register.scale_from in slots and register.offset == 0.0:
                slot = slots[register.scale_from]
                scaled.setdefault(slot, []).append((name, at, register.absent, register.factor))
            elif register.scale_from is not None:
                self._slow.append(register)
            elif _CODES[register.type] in "fd":
                self._floats.append((name, at, register.factor))
            elif name not in scales:
                self._exact.append((name, at, register.absent, register.factor, register.offset))
        self._scaled = tuple((slot, tuple(members)) for slot, members in scaled.items())

    def decode(self, data: bytes) -> dict[str, Value]:
        """Values of one answer."""
        numbers = self._struct.unpack(data) if not self.block.table.is_bits else ()
        out: dict[str, Value] = {}
        for scale_at, members in self._scaled:
            ten = _TENS.get(numbers[scale_at])
            if ten is None:
                out.update(dict.fromkeys(name for name, *_ in members))
                continue
            for name, at, absent, factor in members:
                raw = numbers[at]
                out[name] = None if raw in absent else raw * factor * ten
        for name, at, absent, factor, offset in self._exact:
            raw = numbers[at]
            out[name] = None if raw in absent else (raw - offset) * factor
        for name, at, factor in self._floats:
            raw = numbers[at]
            out[name] = raw * factor if isfinite(raw) else None
        for register in self._slow:
            out[register.name] = self._one(register, data)
        return out

    def _one(self, register: Register, data: bytes) -> Value:
        cut = self.block.cut(data, register)
        if register.type is RegisterType.STRING:
            return decode_text(register, cut)
        if register.scale_from is None:
            return decode(register, cut)
        scale = next((r for r in self.block.registers if r.name == register.scale_from), None)
        power = decode(scale, self.block.cut(data, scale)) if scale is not None else None
        if power is None or power not in _TENS:
            return None
        return decode(register, cut, int(power))


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
