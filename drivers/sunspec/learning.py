"""Learn one SunSpec unit: who it is, what it measures, what it accepts."""

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from drivers.blocks import Value, read_registers
from drivers.device_map import DeviceMap
from drivers.identity import Identity
from drivers.modbus import Link
from drivers.registers import Register
from drivers.sunspec.controls import build_controls, static_points
from drivers.sunspec.discovery import discover
from drivers.sunspec.mapping import Learned, build_readings, first
from drivers.sunspec.models import PlacedModel


async def learn(link: Link, unit: int) -> tuple[Identity, DeviceMap]:
    """Walk the unit, read its names and ratings, and build its map.

    Raises
    ------
    LinkError
        The unit did not answer, or speaks no SunSpec.
    """
    models = await discover(link, unit)
    common, texts, static = await _static(link, unit, models)
    identity = Identity(
        maker=str(common.get("Mn") or "unknown"),
        model=str(common.get("Md") or "unknown"),
        serial=_text(common.get("SN")),
        version=_text(common.get("Vr")),
        models=tuple(model.model_id for model in models),
    )
    modules, ports = first(models, 160), first(models, 714)
    learned = Learned(
        maker=identity.maker,
        module_names=tuple(_text(texts.get(f"160.{p}")) for p in _repeated(modules, "module", "IDStr")),
        port_types=tuple(_whole(texts.get(f"714.{p}")) for p in _repeated(ports, "Prt", "PrtTyp")),
    )
    readings = build_readings(models, learned)
    if 1 in learned.port_types or "713.WHRtg" in static:
        static["storage"] = 1.0
    return identity, replace(readings, controls=MappingProxyType(build_controls(models, static)))


async def _static(
    link: Link, unit: int, models: Sequence[PlacedModel]
) -> tuple[dict[str, Value], dict[str, Value], dict[str, float]]:
    common = first(models, 1)
    names = [
        (p, common.points[p].register(p)) for p in ("Mn", "Md", "Vr", "SN") if common and p in common.points
    ]
    wanted: list[Register] = []
    for model_id, group, point in ((160, "module", "IDStr"), (714, "Prt", "PrtTyp")):
        model = first(models, model_id)
        if model is not None:
            wanted += [model.points[p].register(f"{model_id}.{p}") for p in _repeated(model, group, point)]
    numbers = [register for _, register in static_points(models)]
    read_names = await read_registers(link, unit, [register for _, register in names])
    read = await read_registers(link, unit, wanted + numbers)
    static = {r.name: float(v) for r in numbers if isinstance(v := read[r.name], float | int)}
    return read_names, read, static


def _repeated(model: PlacedModel | None, group: str, point: str) -> list[str]:
    """Paths of one point in each repeat of a group, in order."""
    paths, number = [], 1
    while model is not None and (path := f"{group}[{number}].{point}") in model.points:
        paths.append(path)
        number += 1
    return paths


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Value) -> int | None:
    return None if value is None or isinstance(value, str) else int(value)
