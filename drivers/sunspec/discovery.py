"""Find SunSpec models by walking a device."""

import struct
from collections.abc import Sequence
from typing import Final

from drivers.frames import READ_HOLDING
from drivers.modbus import Link, LinkError
from drivers.protocols import Trouble, TroubleKind
from drivers.sunspec.models import PlacedModel, count_points, place

BASES: Final = (40000, 50000, 0)
"""Where the marker "SunS" may stand (SunSpec Device Information Model Specification)."""
_MARKER: Final = b"SunS"
_END: Final = 0xFFFF
_MOST_MODELS: Final = 64
"""A walk longer than this follows garbage, not models."""
_LONGEST_GROUP_COUNT: Final = 256


async def discover(link: Link, unit: int, bases: Sequence[int] = BASES) -> tuple[PlacedModel, ...]:
    """Models of a unit in the order met, each with the length the device gives.

    Raises
    ------
    LinkError
        The device did not answer, or there is no SunSpec marker at any base.
    """
    for base in bases:
        try:
            marker = await link.read(unit, READ_HOLDING, base, 2)
        except LinkError as error:
            if error.trouble.kind is TroubleKind.EXCEPTION and error.trouble.exception_code not in (10, 11):
                continue
            raise
        if marker == _MARKER:
            return await _walk(link, unit, base + 2)
    places = ", ".join(str(base) for base in bases)
    detail = f"{link.endpoint.text} unit {unit}: no SunSpec marker at {places}"
    raise LinkError(Trouble(kind=TroubleKind.NOT_RECOGNISED, detail=detail))


async def _walk(link: Link, unit: int, address: int) -> tuple[PlacedModel, ...]:
    models: list[PlacedModel] = []
    while len(models) < _MOST_MODELS and address < 0xFFFE:
        try:
            model_id, length = struct.unpack(">HH", await link.read(unit, READ_HOLDING, address, 2))
        except LinkError as error:
            if error.trouble.kind is TroubleKind.EXCEPTION and models:
                break  # no end marker: some devices end their map at its last register
            raise
        if model_id == _END:
            break
        if model_id == 0 or length == 0 or address + 2 + length > 0x10000:
            break
        counts = {
            name: await _count(link, unit, address + offset)
            for name, offset in count_points(model_id)
            if offset < 2 + length
        }
        models.append(place(model_id, address, length, counts))
        address += 2 + length
    return tuple(models)


async def _count(link: Link, unit: int, address: int) -> int:
    (count,) = struct.unpack(">H", await link.read(unit, READ_HOLDING, address, 1))
    return count if count <= _LONGEST_GROUP_COUNT else 0
