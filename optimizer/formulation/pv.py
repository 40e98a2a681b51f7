"""Solar generation: what is available, and how much of it is used."""

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
class Pv(Asset):
    """A solar array (or any other generation that costs nothing)."""

    available_kw: FloatArray
    """What it could give [kW], (T,)."""
    curtailable: bool = True
    """False where nothing can hold it back."""
    inverter: str | None = None
    """Hybrid inverter it hangs behind (DC-coupled); None: at the site bus."""

    def __post_init__(self) -> None:
        freeze(self, "available_kw")

    def validate(self, check: Check) -> None: ...

    def shape(self, problem: DispatchProblem) -> Hashable: ...

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Hashable) -> None: ...

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]: ...

    def read(self, problem: DispatchProblem, values: Values) -> PvSchedule: ...

    def audit(self, problem: DispatchProblem, schedule: AssetSchedule) -> Iterator[Finding]: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PvSchedule(AssetSchedule):
    """What a solar array does."""

    used_kw: FloatArray
    """Power taken from the array [kW], (T,)."""
    curtailed_kw: FloatArray
    """Power available and not taken [kW], (T,)."""
