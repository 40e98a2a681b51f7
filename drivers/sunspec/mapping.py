"""SunSpec models -> canonical quantities and controls.

Signs: inverter and DER power is positive when generating (model 701: "positive for DER generation"), ours is
negative. Meter power is taken as positive on import; makers known to do otherwise are listed in `EXPORT_POSITIVE`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from drivers.device_map import Derived, DeviceMap
from drivers.quantities import CANONICAL
from drivers.registers import Register
from drivers.sunspec.models import PlacedModel, Point

INVERTERS: Final = (101, 102, 103, 111, 112, 113)
METERS: Final = (201, 202, 203, 204, 211, 212, 213, 214)
EXPORT_POSITIVE: Final = frozenset({"solaredge"})
"""Makers whose meter models count export power as positive (evcc template solaredge-hybrid reads 203.W with -1)."""

_K: Final = 1e-3
_PHASES: Final = (("A", "l1"), ("B", "l2"), ("C", "l3"))

_METER_POINTS: Final = (
    ("W", "net_import_kw", _K),
    *((f"Wph{letter}", f"net_import_{line}_kw", _K) for letter, line in _PHASES),
    ("TotWhImp", "import_kwh", _K),
    ("TotWhExp", "export_kwh", _K),
    *((f"PhVph{letter}", f"voltage_{line}_v", 1.0) for letter, line in _PHASES),
    *((f"Aph{letter}", f"current_{line}_a", 1.0) for letter, line in _PHASES),
    ("Hz", "frequency_hz", 1.0),
    ("VAR", "reactive_kvar", _K),
    ("VA", "apparent_kva", _K),
)
_INVERTER_POINTS: Final = (
    ("W", "net_consumption_kw", -_K),
    ("WH", "generated_kwh", _K),
    *((f"PhVph{letter}", f"voltage_{line}_v", 1.0) for letter, line in _PHASES),
    ("Hz", "frequency_hz", 1.0),
    ("TmpCab", "temperature_degc", 1.0),
)
_DER_POINTS: Final = (
    ("W", "net_consumption_kw", -_K),
    ("TotWhInj", "generated_kwh", _K),
    ("TotWhAbs", "consumed_kwh", _K),
    *((f"VL{n}", f"voltage_l{n}_v", 1.0) for n in (1, 2, 3)),
    ("Hz", "frequency_hz", 1.0),
    ("TmpCab", "temperature_degc", 1.0),
)
_DIRECT: Final[Mapping[int, Sequence[tuple[str, str, float]]]] = MappingProxyType(
    dict.fromkeys(METERS, _METER_POINTS)
    | dict.fromkeys(INVERTERS, _INVERTER_POINTS)
    | {
        701: _DER_POINTS,
        713: (("WHRtg", "capacity_kwh", _K), ("SoC", "stored_frac", 0.01), ("SoH", "health_frac", 0.01)),
        702: (
            ("WMaxRtg", "ac_limit_kw", _K),
            ("WChaRteMaxRtg", "charge_limit_kw", _K),
            ("WDisChaRteMaxRtg", "discharge_limit_kw", _K),
        ),
        802: (
            ("WHRtg", "capacity_kwh", _K),
            ("SoC", "stored_frac", 0.01),
            ("SoH", "health_frac", 0.01),
            ("WChaRteMax", "charge_limit_kw", _K),
            ("WDisChaRteMax", "discharge_limit_kw", _K),
        ),
        124: (("ChaState", "stored_frac", 0.01), ("WChaMax", "charge_limit_kw", _K)),
        120: (
            ("WRtg", "ac_limit_kw", _K),
            ("WHRtg", "capacity_kwh", _K),
            ("MaxChaRte", "charge_limit_kw", _K),
            ("MaxDisChaRte", "discharge_limit_kw", _K),
        ),
    }
)
_PREFERENCE: Final = (*METERS, 701, *INVERTERS, 713, 802, 124, 702, 120)
"""Where several models give one quantity the first of these is taken."""
_SLOW_MODELS: Final = frozenset({120, 702})
_SLOW_S: Final = 60.0
_PV_MODULE: Final = re.compile(r"mppt|string|pv|solar|input", re.IGNORECASE)
_CHARGE_MODULE: Final = re.compile(r"^(?!.*dis).*(st\s*cha|charg)", re.IGNORECASE)
_DISCHARGE_MODULE: Final = re.compile(r"dis\s*-?cha", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """Values read once at identification that decide how the map is built."""

    maker: str
    """Common model, manufacturer."""
    module_names: tuple[str | None, ...] = ()
    """IDStr of each module of model 160."""
    port_types: tuple[int | None, ...] = ()
    """PrtTyp of each port of model 714."""


@dataclass(slots=True)
class _Draft:
    registers: dict[str, Register] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    periods_s: dict[str, float] = field(default_factory=dict)
    derived: list[Derived] = field(default_factory=list)

    def add(self, model: PlacedModel, path: str, name: str, factor: float) -> bool:
        """Put a point under a name, with its scale factor; False when the device does not have the point."""
        point = model.points.get(path)
        if point is None:
            return False
        if name in self.registers:
            return True
        scale = self._scale(model, point)
        self.registers[name] = point.register(name, factor=factor, scale_name=scale)
        self.labels[name] = f"{model.model_id}.{path}"
        if model.model_id in _SLOW_MODELS:
            self.periods_s[name] = _SLOW_S
        return True

    def _scale(self, model: PlacedModel, point: Point) -> str | None:
        if point.scale_point is None:
            return None
        name = f"{model.model_id}@{model.address}.{point.scale_point}"
        self.registers.setdefault(name, model.points[point.scale_point].register(name))
        return name


def first(models: Sequence[PlacedModel], model_id: int) -> PlacedModel | None:
    """The first model with an id."""
    return next((m for m in models if m.model_id == model_id), None)


def build_readings(models: Sequence[PlacedModel], learned: Learned) -> DeviceMap:
    """Everything the models tell in canonical names; controls are added by `sunspec.controls`."""
    draft = _Draft()
    flip = -1.0 if learned.maker.strip().lower() in EXPORT_POSITIVE else 1.0
    for model_id in _PREFERENCE:
        model = first(models, model_id)
        if model is None:
            continue
        for path, name, factor in _DIRECT[model_id]:
            sign = flip if model_id in METERS and name.startswith("net_import") else 1.0
            draft.add(model, path, name, factor * sign)
    _add_modules(draft, models, learned)
    _add_ports(draft, models, learned)
    _add_plain_pv(draft, models)
    _add_generation_limit(draft, models)
    return DeviceMap(
        registers=tuple(draft.registers.values()),
        derived=tuple(d for d in draft.derived if d.name in CANONICAL),
        periods_s=MappingProxyType(draft.periods_s),
        labels=MappingProxyType(draft.labels),
        max_gap=60,  # every register inside a model exists
    )


def _add_modules(draft: _Draft, models: Sequence[PlacedModel], learned: Learned) -> None:
    """Model 160: PV strings, and on hybrids a charging and a discharging module told apart by their names."""
    model = first(models, 160)
    if model is None:
        return
    roles = [_role(name) for name in learned.module_names]
    charge, discharge = roles.count("charge"), roles.count("discharge")
    for role, power, energy in (
        ("pv", "pv_kw", "pv_kwh"),
        ("charge", "", "charged_kwh"),
        ("discharge", "", ""),
    ):
        energy = "discharged_kwh" if role == "discharge" else energy
        numbers = [n for n, r in enumerate(roles, start=1) if r == role]
        if power:
            _sum(draft, model, numbers, "DCW", power, floor=0.0)
        _sum(draft, model, numbers, "DCWH", energy)
    if charge and discharge:
        terms = list(_terms(draft, model, [n for n, r in enumerate(roles, 1) if r == "charge"], "DCW", 1.0))
        terms += _terms(draft, model, [n for n, r in enumerate(roles, 1) if r == "discharge"], "DCW", -1.0)
        draft.derived.append(
            Derived(name="battery_net_consumption_kw", terms=tuple(terms), label="160.DCW charge - discharge")
        )


def _role(name: str | None) -> str:
    """What a module of model 160 is; modules without a telling name are PV strings, as the model intends."""
    if name and _DISCHARGE_MODULE.search(name):
        return "discharge"
    if name and _CHARGE_MODULE.search(name) and not _PV_MODULE.search(name):
        return "charge"
    return "pv"


def _sum(
    draft: _Draft,
    model: PlacedModel,
    numbers: Sequence[int],
    point: str,
    quantity: str,
    floor: float | None = None,
) -> None:
    terms = tuple(_terms(draft, model, numbers, point, 1.0))
    if terms and quantity not in draft.registers:
        which = ",".join(str(n) for n in numbers)
        label = f"{model.model_id}.[{which}].{point}"
        draft.derived.append(Derived(name=quantity, terms=terms, floor=floor, label=label))


def _terms(
    draft: _Draft, model: PlacedModel, numbers: Sequence[int], point: str, factor: float
) -> Iterator[tuple[float, str]]:
    group = "module" if model.model_id == 160 else "Prt"
    for number in numbers:
        name = f"{model.model_id}.{group}[{number}].{point}"
        if draft.add(model, f"{group}[{number}].{point}", name, _K):
            yield factor, name


def _add_ports(draft: _Draft, models: Sequence[PlacedModel], learned: Learned) -> None:
    """Model 714: DC ports with a type. Port power is positive when injecting, so a charging battery is negative."""
    model = first(models, 714)
    if model is None:
        return
    pv = [n for n, kind in enumerate(learned.port_types, start=1) if kind == 0]
    storage = [n for n, kind in enumerate(learned.port_types, start=1) if kind == 1]
    _sum(draft, model, pv, "DCW", "pv_kw", floor=0.0)
    _sum(draft, model, pv, "DCWhInj", "pv_kwh")
    _sum(draft, model, storage, "DCWhAbs", "charged_kwh")
    _sum(draft, model, storage, "DCWhInj", "discharged_kwh")
    terms = tuple(_terms(draft, model, storage, "DCW", -1.0))
    if terms:
        draft.derived.append(
            Derived(name="battery_net_consumption_kw", terms=terms, label="714.DCW of ESS ports")
        )


def _add_plain_pv(draft: _Draft, models: Sequence[PlacedModel]) -> None:
    """A plain PV inverter: its DC power and its own counter are those of the PV. Not said of anything with storage."""
    if any(d.name == "pv_kw" for d in draft.derived) or "stored_frac" in draft.registers:
        return
    for model_id in INVERTERS:
        model = first(models, model_id)
        if model is None:
            continue
        if draft.add(model, "DCW", f"{model_id}.DCW", _K):
            draft.derived.append(
                Derived(name="pv_kw", terms=((1.0, f"{model_id}.DCW"),), floor=0.0, label=f"{model_id}.DCW")
            )
        if draft.add(model, "WH", f"{model_id}.WH", _K):
            draft.derived.append(
                Derived(name="pv_kwh", terms=((1.0, f"{model_id}.WH"),), label=f"{model_id}.WH")
            )
        return


def _add_generation_limit(draft: _Draft, models: Sequence[PlacedModel]) -> None:
    """Cap in force now, in kW of the rating the percentage refers to (121.WMax, else 120.WRtg; 702.WMax for 704)."""
    for model_id, enable, reference in (
        (123, "WMaxLim_Ena", ((121, "WMax"), (120, "WRtg"))),
        (
            704,
            "WMaxLimPctEna",
            ((702, "WMax"), (702, "WMaxRtg")),
        ),
    ):
        model = first(models, model_id)
        rating = _rating(draft, models, reference)
        if model is None or rating is None:
            continue
        pct, ena = f"{model_id}.WMaxLimPct", f"{model_id}.{enable}"
        if draft.add(model, "WMaxLimPct", pct, 0.01) and draft.add(model, enable, ena, 1.0):
            draft.derived.append(
                Derived(name="generation_limit_kw", factors=(pct, rating), only_if=(ena, 1.0), label=pct)
            )
            return


def _rating(draft: _Draft, models: Sequence[PlacedModel], places: Sequence[tuple[int, str]]) -> str | None:
    for model_id, path in places:
        model = first(models, model_id)
        name = f"{model_id}.{path} rating"
        if model is not None and draft.add(model, path, name, _K):
            draft.periods_s[name] = _SLOW_S
            return name
    return None
