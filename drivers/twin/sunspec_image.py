"""Build the register image of a SunSpec device from model definitions; unset points say "not implemented"."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from drivers.registers import PACKERS, Register, RegisterType, Table, encode, encode_text
from drivers.sunspec.models import PlacedModel, Point, place
from drivers.twin.image import RegisterImage

BASE: Final = 40000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelWish:
    """A model to put into an image."""

    model_id: int
    """SunSpec model number."""
    length: int
    """Registers after ID and L."""
    counts: Mapping[str, int]
    """Repeats of its groups by count point."""
    scales: Mapping[str, int]
    """Scale factors by point name; others are not implemented."""
    values: Mapping[str, float | str]
    """Fixed values by path, scaled, in SunSpec units."""


def model_wish(
    model_id: int,
    length: int | None = None,
    *,
    counts: Mapping[str, int] | None = None,
    scales: Mapping[str, int] | None = None,
    values: Mapping[str, float | str] | None = None,
) -> ModelWish:
    """A wish; its length follows from the definition where the groups' counts say it all."""
    if length is None:
        points = place(model_id, 0, 0x7FFF, counts or {}).points.values()
        length = max(point.address + point.words for point in points) - 2
    return ModelWish(
        model_id=model_id,
        length=length,
        counts=dict(counts or {}),
        scales=dict(scales or {}),
        values=dict(values or {}),
    )


class _Cell:
    """Where a number stands in an image. A device shows all of its numbers at every request, so that is found once."""

    def __init__(self, register: Register, run: bytearray, at: int, power_of_ten: int) -> None:
        self._register, self._run, self._at = register, run, at
        self._packer = PACKERS[register.type]
        self._factor, self._ten = register.factor, 10.0**power_of_ten
        self._whole = register.type not in (RegisterType.FLOAT32, RegisterType.FLOAT64)

    def show(self, value: float) -> None:
        """Show what `drivers.registers.encode` makes of a value."""
        scaled = value / self._factor / self._ten
        try:
            self._packer.pack_into(self._run, self._at, round(scaled) if self._whole else scaled)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"register {self._register.name}: {value} does not fit: {error}") from None


class SunSpecImage:
    """An image and its points by model and path."""

    def __init__(self, wishes: Sequence[ModelWish], *, base: int = BASE) -> None:
        self.image = RegisterImage()
        self.models: dict[int, PlacedModel] = {}
        self._registers: dict[tuple[int, str], Register] = {}
        self._scales: dict[tuple[int, str], int] = {}
        self._cells: dict[tuple[int, str], _Cell] = {}
        address = base + 2
        placed: list[tuple[PlacedModel, ModelWish]] = []
        for wish in wishes:
            model = place(wish.model_id, address, wish.length, wish.counts)
            placed.append((model, wish))
            address = model.end
        self.image.define(Table.HOLDING, base, b"SunS" + bytes(2 * (address - base - 2)) + b"\xff\xff\0\0")
        for model, wish in placed:
            self.models[model.model_id] = model
            self._fill(model, wish)

    def show(self, model_id: int, path: str, value: float | None) -> None:
        """Show a value in SunSpec units."""
        key = (model_id, path)
        cell = self._cells.get(key)
        if cell is None or value is None:
            self.image.show(self._registers[key], value, self._scales.get(key, 0))
        else:
            cell.show(value)

    def held(self, model_id: int, path: str) -> float:
        """Value in SunSpec units as a client may have written it."""
        key = (model_id, path)
        register = self._registers[key]
        data = self.image.held(register)
        signed = register.type in (RegisterType.INT16, RegisterType.INT32)
        return float(int.from_bytes(data, "big", signed=signed) * 10.0 ** self._scales.get(key, 0))

    def allow(self, model_id: int, *paths: str) -> None:
        """Let points be written."""
        self.image.allow(self._registers[model_id, path] for path in paths)

    def covers(self, model_id: int, path: str, address: int, count: int) -> bool:
        """Whether a write at an address touched a point."""
        register = self._registers[model_id, path]
        return address < register.end and register.address < address + count

    def _fill(self, model: PlacedModel, wish: ModelWish) -> None:
        for path, point in model.points.items():
            register = replace(point.register(path), scale_from=None)
            self._registers[model.model_id, path] = register
            power = 0
            self.image.store(Table.HOLDING, point.address, _unimplemented(point, register))
            if point.scale_point is not None:
                power = wish.scales.get(point.scale_point.split(".")[-1], 0)
                self._scales[model.model_id, path] = power
            if register.type in PACKERS:
                run, at = self.image.place(register)
                self._cells[model.model_id, path] = _Cell(register, run, at, power)
        self.image.store(Table.HOLDING, model.address, struct.pack(">HH", model.model_id, model.length))
        for name, power in wish.scales.items():
            self.image.store(Table.HOLDING, model.points[name].address, struct.pack(">h", power))
        for name, count in wish.counts.items():
            if name in model.points:
                self.image.store(Table.HOLDING, model.points[name].address, struct.pack(">H", count))
        for path, value in wish.values.items():
            if isinstance(value, str):
                register = self._registers[model.model_id, path]
                self.image.store(Table.HOLDING, register.address, encode_text(register, value))
            else:
                self.show(model.model_id, path, value)


def _unimplemented(point: Point, register: Register) -> bytes:
    if register.type is RegisterType.STRING:
        return bytes(2 * point.words)
    if register.type in (RegisterType.FLOAT32, RegisterType.FLOAT64) or register.absent:
        return encode(replace(register, factor=1.0), None)
    return bytes(2 * point.words)
