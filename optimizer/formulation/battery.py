"""Battery: losses in, losses out, losses while standing, a band it should stay in, wear."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class WearSegment:
    """A slice of the depth of discharge with its own wear."""

    share_frac: float
    """Share of the capacity this slice covers."""
    wear_per_kwh: float
    """Wear per kWh discharged from this slice [currency/kWh]; deeper slices must not be cheaper."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Battery(Asset):
    """A stationary battery; `stored_kwh` is data and may lie anywhere, also outside the band."""

    capacity_kwh: float
    """Energy it can hold [kWh]; 0 is allowed and means it does nothing."""
    stored_kwh: float
    """Energy in it now [kWh]."""
    charge_limit_kw: Series
    """Power it can draw, at its terminals [kW], scalar or (T,)."""
    discharge_limit_kw: Series
    """Power it can give, at its terminals [kW], scalar or (T,)."""
    charge_efficiency_frac: float = 0.95
    """Stored per drawn."""
    discharge_efficiency_frac: float = 0.95
    """Given per taken from the store."""
    standby_loss_frac_per_h: float = 0.0
    """Share of the stored energy lost per hour [1/h]."""
    band_min_kwh: Series = 0.0
    """Reserve it should keep [kWh], scalar or (T,) for the fence post after each interval: soft."""
    band_max_kwh: Series | None = None
    """Level it should not pass [kWh], scalar or (T,) as above: soft; None is the capacity."""
    band_price_per_kwh_h: float | None = None
    """Price of being below the band [currency per kWh and hour]; None takes the ladder's `reserve`."""
    end_value_per_kwh: float | None = None
    """Value of energy left at the end [currency/kWh]; None: mean import price times discharge efficiency, not below 0."""
    wear_per_kwh: float = 0.0
    """Wear per kWh discharged at the terminals [currency/kWh]."""
    wear_segments: tuple[WearSegment, ...] = ()
    """Convex wear by depth of discharge, shallow slice first; empty: `wear_per_kwh` alone."""
    inverter: str | None = None
    """Hybrid inverter it hangs behind (DC-coupled); None: at the site bus."""

    def __post_init__(self) -> None:
        freeze(
            self,
            "capacity_kwh",
            "stored_kwh",
            "charge_limit_kw",
            "discharge_limit_kw",
            "charge_efficiency_frac",
            "discharge_efficiency_frac",
            "standby_loss_frac_per_h",
            "band_min_kwh",
            "band_max_kwh",
            "band_price_per_kwh_h",
            "end_value_per_kwh",
            "wear_per_kwh",
        )

    def validate(self, check: Check) -> None: ...

    def shape(self, problem: DispatchProblem) -> Hashable: ...

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Hashable) -> None: ...

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]: ...

    def read(self, problem: DispatchProblem, values: Values) -> BatterySchedule: ...

    def audit(self, problem: DispatchProblem, schedule: AssetSchedule) -> Iterator[Finding]: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BatterySchedule(StoreSchedule):
    """What a battery does."""
