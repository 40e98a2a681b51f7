"""SunSpec model definitions, laid out for a device's own lengths and counts.

The definitions are the JSON files of pysunspec2 (Apache-2.0); only data is taken from there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from drivers.registers import Register, RegisterType, Table

_TYPES: Final[Mapping[str, tuple[RegisterType, float | None]]] = {
    # SunSpec type -> register type and the raw value that means "not implemented" (SunSpec Information Model
    # Specification, "unimplemented values"); 0 for accumulators.
    "int16": (RegisterType.INT16, -0x8000),
    "uint16": (RegisterType.UINT16, 0xFFFF),
    "count": (RegisterType.UINT16, 0xFFFF),
    "acc16": (RegisterType.UINT16, 0),
    "enum16": (RegisterType.UINT16, 0xFFFF),
    "bitfield16": (RegisterType.UINT16, 0xFFFF),
    "raw16": (RegisterType.UINT16, None),
    "pad": (RegisterType.UINT16, 0x8000),
    "sunssf": (RegisterType.INT16, -0x8000),
    "int32": (RegisterType.INT32, -0x80000000),
    "uint32": (RegisterType.UINT32, 0xFFFFFFFF),
    "acc32": (RegisterType.UINT32, 0),
    "enum32": (RegisterType.UINT32, 0xFFFFFFFF),
    "bitfield32": (RegisterType.UINT32, 0xFFFFFFFF),
    "ipaddr": (RegisterType.UINT32, 0),
    "int64": (RegisterType.INT64, -0x8000000000000000),
    "uint64": (RegisterType.UINT64, 0xFFFFFFFFFFFFFFFF),
    "acc64": (RegisterType.UINT64, 0),
    "bitfield64": (RegisterType.UINT64, 0xFFFFFFFFFFFFFFFF),
    "float32": (RegisterType.FLOAT32, None),
    "float64": (RegisterType.FLOAT64, None),
    "string": (RegisterType.STRING, None),
    "ipv6addr": (RegisterType.STRING, None),
    "eui48": (RegisterType.UINT64, None),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of a model, placed in a device's register space."""

    path: str
    """Name inside the model; repeating groups are counted from 1: `module[3].DCW`."""
    type: str
    """SunSpec type."""
    address: int
    """0-based wire address."""
    words: int
    """Registers it occupies."""
    scale_point: str | None
    """Path of its scale factor."""
    scale_constant: int
    """Power of ten fixed by the definition."""
    units: str
    """As the definition writes them."""

    def register(self, name: str, *, factor: float = 1.0, scale_name: str | None = None) -> Register:
        """The same as a register; `factor` brings the scaled value into our unit and sign."""
        kind, absent = _TYPES[self.type]
        return Register(
            name=name,
            table=Table.HOLDING,
            address=self.address,
            type=kind,
            words=self.words,
            factor=factor * 10.0**self.scale_constant,
            absent=() if absent is None else (absent,),
            scale_from=scale_name,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedModel:
    """A model as one device has it."""

    model_id: int
    """SunSpec model number."""
    address: int
    """Wire address of its ID register."""
    length: int
    """Registers after ID and L, as the device says."""
    points: Mapping[str, Point]
    """By path; only what lies inside `length`."""

    @property
    def end(self) -> int:
        """First address after the model."""
        return self.address + 2 + self.length


@cache
def definition(model_id: int) -> Mapping[str, Any] | None:
    """Top group of a model definition; None for models nobody has defined (vendor models)."""
    spec = find_spec("sunspec2")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("pysunspec2 is not installed; it carries the SunSpec model definitions")
    path = Path(spec.submodule_search_locations[0]) / "models" / "json" / f"model_{model_id}.json"
    if not path.is_file():
        return None
    group: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["group"]
    return group


def count_points(model_id: int) -> Sequence[tuple[str, int]]:
    """Points that say how often groups repeat, with their offset from the ID register; all are in the fixed part."""
    group = definition(model_id)
    if group is None:
        return ()
    wanted = {name for name in _count_names(group) if isinstance(name, str)}
    found, offset = [], 0
    for point in group["points"]:
        if point["name"] in wanted:
            found.append((str(point["name"]), offset))
        offset += int(point["size"])
    return found


def place(model_id: int, address: int, length: int, counts: Mapping[str, int]) -> PlacedModel:
    """Lay a model out at an address. Points beyond the device's own length do not exist.

    Parameters
    ----------
    counts
        Values of the points named by `count_points`; a missing or unimplemented one counts as 0.
    """
    points: dict[str, Point] = {}
    group = definition(model_id)
    if group is not None:
        end = address + 2 + length
        scope: dict[str, str] = {}
        for point in _walk(group, address, end, "", counts, scope):
            if point.address + point.words <= end:
                points[point.path] = point
        points = {path: p for path, p in points.items() if p.scale_point is None or p.scale_point in points}
    return PlacedModel(model_id=model_id, address=address, length=length, points=points)


def _walk(
    group: Mapping[str, Any],
    address: int,
    end: int,
    prefix: str,
    counts: Mapping[str, int],
    scope: Mapping[str, str],
) -> Iterator[Point]:
    inner = dict(scope) | {p["name"]: prefix + p["name"] for p in group["points"] if p["type"] == "sunssf"}
    for spec in group["points"]:
        words, scale = int(spec["size"]), spec.get("sf")
        yield Point(
            path=prefix + spec["name"],
            type=spec["type"],
            address=address,
            words=words,
            scale_point=inner.get(scale) if isinstance(scale, str) else None,
            scale_constant=scale if isinstance(scale, int) else 0,
            units=spec.get("units") or "",
        )
        address += words
    for member in group.get("groups", ()):
        size = _size(member, counts)
        count = member.get("count", 1)
        if count == 0:
            repeats = max(0, (end - address) // size) if size else 0
        else:
            repeats = counts.get(count, 0) if isinstance(count, str) else int(count)
        for number in range(1, repeats + 1):
            if address >= end:
                return
            label = member["name"] if "count" not in member else f"{member['name']}[{number}]"
            yield from _walk(member, address, end, f"{prefix}{label}.", counts, inner)
            address += size


def _size(group: Mapping[str, Any], counts: Mapping[str, int]) -> int:
    total = sum(int(point["size"]) for point in group["points"])
    for member in group.get("groups", ()):
        count = member.get("count", 1)
        total += _size(member, counts) * (counts.get(count, 0) if isinstance(count, str) else int(count))
    return total


def _count_names(group: Mapping[str, Any]) -> Iterator[object]:
    for member in group.get("groups", ()):
        yield member.get("count")
        yield from _count_names(member)
