"""Registers as values, and blocks of registers as few reads. Pure, no I/O."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite
from typing import Final

from drivers.frames import READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING, READ_INPUT


class Table(StrEnum):
    """The four Modbus tables."""

    HOLDING = "holding"
    INPUT = "input"
    COIL = "coil"
    DISCRETE = "discrete"

    @property
    def read_function(self) -> int:
        """Function code that reads this table."""
        return _READ_FUNCTION[self]

    @property
    def is_bits(self) -> bool:
        """True for coils and discrete inputs."""
        return self in (Table.COIL, Table.DISCRETE)


_READ_FUNCTION: Final = {
    Table.HOLDING: READ_HOLDING,
    Table.INPUT: READ_INPUT,
    Table.COIL: READ_COILS,
    Table.DISCRETE: READ_DISCRETE_INPUTS,
}


class RegisterType(StrEnum):
    """How the bits of a register are meant."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    BIT = "bit"


PACKERS: Final = {
    RegisterType.INT16: struct.Struct(">h"),
    RegisterType.UINT16: struct.Struct(">H"),
    RegisterType.INT32: struct.Struct(">i"),
    RegisterType.UINT32: struct.Struct(">I"),
    RegisterType.INT64: struct.Struct(">q"),
    RegisterType.UINT64: struct.Struct(">Q"),
    RegisterType.FLOAT32: struct.Struct(">f"),
    RegisterType.FLOAT64: struct.Struct(">d"),
}
"""How numbers stand in registers whose words are in big-endian order."""


class WordOrder(StrEnum):
    """Order of 16-bit words in values longer than one register."""

    BIG = "big"
    LITTLE = "little"


@dataclass(frozen=True, kw_only=True, slots=True)
class Register:
    """One value in the register space of a device."""

    name: str
    """Canonical quantity, or a private name of the device file."""
    table: Table
    """Where it is read."""
    address: int
    """As sent on the wire, 0-based."""
    type: RegisterType
    """Meaning of the bits."""
    words: int = 1
    """Registers it occupies."""
    word_order: WordOrder = WordOrder.BIG
    """Order of its words."""
    swap_bytes: bool = False
    """Bytes inside each word are exchanged."""
    factor: float = 1.0
    """Value in our unit and sign per raw unit."""
    offset: float = 0.0
    """Raw value that means 0."""
    absent: tuple[float, ...] = ()
    """Raw values that mean "no value"."""
    mask: int | None = None
    """Bits of the raw value that count."""
    shift: int = 0
    """Bits to shift right after masking."""
    meaning: Mapping[int, float] | None = None
    """Raw value -> value, where numbers are codes; a code not listed is absent."""
    scale_from: str | None = None
    """Register holding a power of ten for this one; read in the same block."""

    @property
    def key(self) -> tuple[Table, int]:
        """Position."""
        return self.table, self.address

    @property
    def end(self) -> int:
        """First address after it."""
        return self.address + self.words


def raw_value(register: Register, data: bytes) -> float | int | str | None:
    """Number or text as the device holds it; None for NaN, infinity, a sentinel, or text that is none."""
    if register.type is RegisterType.BIT:
        return data[0]
    ordered = _wire_order(register, data)
    if register.type is RegisterType.STRING:
        text = ordered.split(b"\0", 1)[0].decode("ascii", "replace").strip()
        return text or None
    raw: float | int = PACKERS[register.type].unpack(ordered)[0]
    if isinstance(raw, float) and not isfinite(raw):
        return None
    if register.mask is not None:
        raw = (int(raw) & register.mask) >> register.shift
    return None if raw in register.absent else raw


def decode(register: Register, data: bytes, power_of_ten: int = 0) -> float | None:
    """Value in our unit and sign; None when absent."""
    raw = raw_value(register, data)
    if raw is None or isinstance(raw, str):
        return None
    if register.meaning is not None:
        return register.meaning.get(int(raw))
    value = (raw - register.offset) * register.factor
    return value * 10.0**power_of_ten if power_of_ten else value


def decode_text(register: Register, data: bytes) -> str | None:
    """Text, or a number as text; None when absent."""
    raw = raw_value(register, data)
    return None if raw is None else str(raw)


def encode(register: Register, value: float | None, power_of_ten: int = 0) -> bytes:
    """Bytes that decode to the nearest value the register can hold.

    Raises
    ------
    ValueError
        The value does not fit, or absence was asked of a register that has no sentinel.
    """
    if value is None:
        if register.absent:
            return encode_raw(register, register.absent[0])
        if register.type in (RegisterType.FLOAT32, RegisterType.FLOAT64):
            return encode_raw(register, float("nan"))
        raise ValueError(f"register {register.name} has no way to say absent")
    if register.meaning is not None:
        raw = next((code for code, meant in register.meaning.items() if meant == value), None)
        if raw is None:
            raise ValueError(f"register {register.name}: no code means {value}")
        return encode_raw(register, raw << register.shift)
    scaled = value / register.factor / 10.0**power_of_ten + register.offset
    if register.type in (RegisterType.FLOAT32, RegisterType.FLOAT64):
        return encode_raw(register, scaled)
    return encode_raw(register, round(scaled) << register.shift if register.shift else round(scaled))


def encode_text(register: Register, text: str) -> bytes:
    """Bytes of a string register, padded with zeros."""
    raw = text.encode("ascii", "replace")[: 2 * register.words].ljust(2 * register.words, b"\0")
    return _wire_order(register, raw)


def encode_raw(register: Register, raw: float) -> bytes:
    """Bytes of a raw number, exact for whole numbers of any length; ValueError when it does not fit."""
    if register.type is RegisterType.BIT:
        return bytes((int(bool(raw)),))
    packer = PACKERS[register.type]
    number = raw if register.type in (RegisterType.FLOAT32, RegisterType.FLOAT64) else int(raw)
    try:
        return _wire_order(register, packer.pack(number))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"register {register.name}: {raw} does not fit {register.type}: {error}") from None


def _wire_order(register: Register, data: bytes) -> bytes:
    """Words (and bytes) exchanged as the device wants them; its own inverse."""
    if register.word_order is WordOrder.LITTLE and len(data) > 2:
        data = b"".join(data[i : i + 2] for i in range(len(data) - 2, -2, -2))
    if register.swap_bytes:
        data = b"".join(data[i + 1 : i + 2] + data[i : i + 1] for i in range(0, len(data), 2))
    return data


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One read that covers several registers."""

    table: Table
    """Where."""
    address: int
    """First address."""
    count: int
    """Registers or bits."""
    registers: tuple[Register, ...]
    """What it brings, by address."""

    def cut(self, data: bytes, register: Register) -> bytes:
        """Bytes of one register out of the answer."""
        at = register.address - self.address
        if self.table.is_bits:
            return bytes((data[at >> 3] >> (at & 7) & 1,))
        return data[2 * at : 2 * (at + register.words)]


def plan_blocks(
    registers: Iterable[Register], *, max_count: int = 125, max_gap: int = 8
) -> tuple[Block, ...]:
    """Few reads that cover all registers, none of them cut, each beside the register that scales it.

    Where value and scale are further apart than one read reaches, they come in two; `reading` then joins them.

    Parameters
    ----------
    max_count
        Registers one read may bring.
    max_gap
        Registers nobody wants that one read may bridge; 0 for devices that reject undefined addresses.
    """
    ordered = sorted(set_of_places(registers), key=lambda r: (r.table, r.address, r.words))
    blocks: list[list[Register]] = []
    for cluster in _clusters(ordered, max_count):
        start, end = cluster[0].address, max(r.end for r in cluster)
        if end - start > max_count:
            names = ", ".join(r.name for r in cluster)
            raise ValueError(f"{names}: {end - start} registers must come in one read of at most {max_count}")
        if blocks and _fits(blocks[-1], cluster, max_count, max_gap):
            blocks[-1] += cluster
        else:
            blocks.append(list(cluster))
    return tuple(_block(members) for members in blocks)


def set_of_places(registers: Iterable[Register]) -> Sequence[Register]:
    """Registers without exact duplicates, order kept."""
    return list({(r.name, r.table, r.address): r for r in registers}.values())


def _clusters(ordered: Sequence[Register], max_count: int) -> Iterator[list[Register]]:
    """Runs that stay in one read; one that is too long falls apart into what overlaps."""
    for cluster in _with_their_scales(ordered, max_count):
        if max(r.end for r in cluster) - cluster[0].address <= max_count:
            yield cluster
        else:
            whole = {register.name: register for register in cluster}
            for part in _with_their_scales([replace(r, scale_from=None) for r in cluster], max_count):
                yield [whole[register.name] for register in part]


def _with_their_scales(ordered: Sequence[Register], max_count: int) -> list[list[Register]]:
    """Runs that must stay in one read: overlapping registers, and everything from a value to its scale."""
    place = {register.name: index for index, register in enumerate(ordered)}
    glued_to = list(range(len(ordered)))
    for index, register in enumerate(ordered):
        if register.scale_from is not None and register.scale_from in place:
            low, high = sorted((index, place[register.scale_from]))
            span = max(r.end for r in ordered[low : high + 1]) - ordered[low].address
            if ordered[low].table is ordered[high].table and span <= max_count:
                for between in range(low, high):
                    glued_to[between] = max(glued_to[between], high)
    clusters: list[list[Register]] = []
    reach = -1
    for index, register in enumerate(ordered):
        overlaps = bool(
            clusters
            and clusters[-1][-1].table is register.table
            and register.address < max(r.end for r in clusters[-1])
        )
        if index <= reach or overlaps:
            clusters[-1].append(register)
        else:
            clusters.append([register])
        reach = max(reach, glued_to[index] if glued_to[index] > index else -1)
    return clusters


def _fits(block: Sequence[Register], cluster: Sequence[Register], max_count: int, max_gap: int) -> bool:
    if block[0].table is not cluster[0].table:
        return False
    block_end, cluster_end = max(r.end for r in block), max(r.end for r in cluster)
    return cluster[0].address - block_end <= max_gap and cluster_end - block[0].address <= max_count


def _block(members: Sequence[Register]) -> Block:
    start, end = members[0].address, max(r.end for r in members)
    return Block(table=members[0].table, address=start, count=end - start, registers=tuple(members))
