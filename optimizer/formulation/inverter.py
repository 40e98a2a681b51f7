"""Hybrid inverter: batteries and solar arrays on one DC bus behind one AC rating."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optimizer.arrays import Check, FloatArray, Series, freeze
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule

if TYPE_CHECKING:
    from optimizer.audit import Finding
    from optimizer.formulation.builder import SiteModel, Values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HybridInverter(Asset):
    """The inverter; batteries and arrays name it in their `inverter` field, their powers are then on the DC side."""

    rating_kw: Series
    """AC power it can pass, either way [kW], scalar or (T,)."""
    to_ac_efficiency_frac: float = 0.97
    """AC given per DC taken."""
    to_dc_efficiency_frac: float = 0.97
    """DC given per AC taken."""
    draws_from_bus: bool = True
    """False where the inverter cannot charge its battery from the AC side."""

    def __post_init__(self) -> None:
        freeze(self, "rating_kw", "to_ac_efficiency_frac", "to_dc_efficiency_frac")

    def validate(self, check: Check) -> None: ...

    def shape(self, problem: DispatchProblem) -> Hashable: ...

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Hashable) -> None: ...

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]: ...

    def read(self, problem: DispatchProblem, values: Values) -> InverterSchedule: ...

    def audit(self, problem: DispatchProblem, schedule: AssetSchedule) -> Iterator[Finding]: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InverterSchedule(AssetSchedule):
    """What passes the inverter."""

    to_ac_kw: FloatArray
    """AC power it feeds to the site bus [kW], (T,), >= 0."""
    to_dc_kw: FloatArray
    """AC power it draws from the site bus [kW], (T,), >= 0."""
