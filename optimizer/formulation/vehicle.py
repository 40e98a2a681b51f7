"""Vehicle: one charging session, with what its driver wishes at departure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optimizer.arrays import Check, Series, freeze
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule, StoreSchedule

if TYPE_CHECKING:
    from optimizer.audit import Finding
    from optimizer.formulation.builder import SiteModel, Values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Vehicle(Asset):
    """One session at a charger; a vehicle that comes twice in the horizon is two sessions with two names."""

    capacity_kwh: float
    """Energy its battery can hold [kWh]."""
    stored_kwh: float
    """Energy in it at arrival, or now if it is already there [kWh]."""
    wished_kwh: float
    """Energy that should be in it at departure [kWh]."""
    arrival: float
    """When it plugs in, counted in intervals from the start of the horizon (2.5: half-way through the third); <= 0: now."""
    departure: float
    """When it leaves, counted the same way; beyond T: it stays, and the wish holds at the end of the horizon."""
    charge_limit_kw: Series
    """Power it can draw [kW], scalar or (T,)."""
    min_charge_kw: float = 0.0
    """Least power when it charges at all [kW] (6 A per phase: 1.4 or 4.1 kW)."""
    discharge_limit_kw: Series = 0.0
    """Power it can give back [kW], scalar or (T,); 0 where it cannot."""
    charge_efficiency_frac: float = 0.92
    """Stored per drawn."""
    discharge_efficiency_frac: float = 0.92
    """Given per taken."""
    floor_kwh: float = 0.0
    """Level V2G should not go below [kWh]: soft, on the `reserve` rung."""
    extra_value_per_kwh: float = 0.0
    """Value of each kWh beyond the wish at departure [currency/kWh]."""
    wish_price_per_kwh: float | None = None
    """Price of each kWh missing at departure [currency/kWh]; None takes the ladder's `departure`."""
    wear_per_kwh: float = 0.0
    """Wear per kWh given back [currency/kWh]."""

    def __post_init__(self) -> None:
        freeze(
            self,
            "capacity_kwh",
            "stored_kwh",
            "wished_kwh",
            "arrival",
            "departure",
            "charge_limit_kw",
            "min_charge_kw",
            "discharge_limit_kw",
            "charge_efficiency_frac",
            "discharge_efficiency_frac",
            "floor_kwh",
            "extra_value_per_kwh",
            "wish_price_per_kwh",
            "wear_per_kwh",
        )

    def validate(self, check: Check) -> None: ...

    def shape(self, problem: DispatchProblem) -> Hashable: ...

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Hashable) -> None: ...

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]: ...

    def read(self, problem: DispatchProblem, values: Values) -> VehicleSchedule: ...

    def audit(self, problem: DispatchProblem, schedule: AssetSchedule) -> Iterator[Finding]: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VehicleSchedule(StoreSchedule):
    """What a vehicle does; `stored_kwh` stands still before arrival and after departure."""

    missing_kwh: float
    """Wished and not there at departure [kWh]."""
