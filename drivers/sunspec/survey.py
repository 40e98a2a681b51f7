"""Every point of every SunSpec model a unit has, as it shows it: for people who look, and for models we do not steer by."""

from dataclasses import dataclass
from typing import Final

from drivers.blocks import TENS
from drivers.frames import MAX_READ_REGISTERS, READ_HOLDING
from drivers.modbus import Link
from drivers.registers import raw_value
from drivers.sunspec.discovery import discover
from drivers.sunspec.models import PlacedModel, Point

_NOT_DATA: Final = frozenset({"pad", "sunssf"})


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyedPoint:
    """One value of a model."""

    model_id: int
    """SunSpec model number."""
    path: str
    """Name inside the model; repeating groups are counted from 1: `module[3].DCW`."""
    value: float | str | None
    """Scaled, in the unit of the definition and the device's own sign; None when the device does not implement it."""
    units: str
    """As the definition writes them; empty where it names none."""


async def survey(link: Link, unit: int) -> tuple[SurveyedPoint, ...]:
    """Read every model of a unit whole.

    Raises
    ------
    LinkError
        The unit did not answer, or speaks no SunSpec.
    """
    found: list[SurveyedPoint] = []
    for model in await discover(link, unit):
        found += _points(model, await _whole(link, unit, model))
    return tuple(found)


async def _whole(link: Link, unit: int, model: PlacedModel) -> bytes:
    data = b""
    for address in range(model.address, model.end, MAX_READ_REGISTERS):
        count = min(MAX_READ_REGISTERS, model.end - address)
        data += await link.read(unit, READ_HOLDING, address, count)
    return data


def _points(model: PlacedModel, data: bytes) -> list[SurveyedPoint]:
    def shown(point: Point) -> float | int | str | None:
        at = 2 * (point.address - model.address)
        return raw_value(point.register(point.path), data[at : at + 2 * point.words])

    found = []
    for point in model.points.values():
        if point.type in _NOT_DATA:
            continue
        value = shown(point)
        if not isinstance(value, str) and value is not None:
            value = _scaled(
                point, value, None if point.scale_point is None else shown(model.points[point.scale_point])
            )
        found.append(SurveyedPoint(model_id=model.model_id, path=point.path, value=value, units=point.units))
    return found


def _scaled(point: Point, raw: float, power: float | str | None) -> float | None:
    """Value in the definition's unit; None when its scale factor is garbage."""
    if point.scale_point is None:
        return raw * 10.0**point.scale_constant if point.scale_constant else raw
    ten = TENS.get(power) if isinstance(power, float | int) else None
    return None if ten is None else raw * ten
