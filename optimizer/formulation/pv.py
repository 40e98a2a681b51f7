"""Solar generation: what is available, and how much of it is used."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import Check, CodeArray, FloatArray, Series, freeze
from optimizer.formulation.builder import AT_UPPER, SiteModel, Values, Vector
from optimizer.formulation.site import slope_of
from optimizer.ladder import TIE_BREAK
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pv(Asset):
    """A solar array (or any other generation that costs nothing)."""

    available_kw: FloatArray
    """What it could give [kW], (T,)."""
    curtailable: bool = True
    """False where nothing can hold it back; behind a hybrid inverter the inverter always can, so it is not asked."""
    inverter: str | None = None
    """Hybrid inverter it hangs behind (DC-coupled); None: at the site bus."""

    def __post_init__(self) -> None:
        freeze(self, "available_kw")

    def validate(self, check: Check) -> None:
        """Available power not negative."""
        check.number("available_kw", self.available_kw, least=0.0, length=check.intervals)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Whether it can be held back, and where it hangs."""
        return PvShape(
            curtailable=self.curtailable,
            inverter=None if self.inverter is None else problem.position(self.inverter),
        )

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write an array."""
        used = site.variable(key, "used")
        if shape.curtailable or shape.inverter is not None:
            add_available(site, key, used)
        else:
            add_must_take(site, key, used)
        site.prefer(key, "used", used)
        if shape.inverter is None:
            site.feed(key, used)
        else:
            site.feed_dc(f"a{shape.inverter}", used)

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        preference = 3.0 * TIE_BREAK * slope_of(self.name, "used")
        return {
            "available_kw": self.available_kw,
            "tie_used": -preference * problem.price_scale * problem.hours,
        }

    def stacks(self) -> bool:
        """Yes."""
        return True

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """What is available; nothing at the bus when it hangs behind an inverter."""
        return 0.0, 0.0 if self.inverter is not None else self.available_kw

    def unplanned(
        self, problem: DispatchProblem, left_kw: FloatArray
    ) -> tuple[Mapping[str, int | CodeArray], FloatArray] | None:
        """Everything used."""
        return None if self.inverter is not None else ({"used": AT_UPPER}, left_kw)

    def read(self, problem: DispatchProblem, values: Values) -> PvSchedule:
        """Used and curtailed power."""
        used = values.column("used")
        return PvSchedule(
            name=self.name,
            net_consumption_kw=-used if self.inverter is None else np.zeros(problem.intervals),
            used_kw=used,
            curtailed_kw=self.available_kw - used,
        )

    def audit(self, problem: DispatchProblem, schedule: PvSchedule, report: AuditReport) -> None:
        """No more than there is; all of it where nothing can hold it back."""
        report.within(self.name, "available", schedule.used_kw, most=self.available_kw)
        report.zero(self.name, "curtailed", self.available_kw - schedule.used_kw - schedule.curtailed_kw)
        if self.inverter is None:
            report.zero(self.name, "net_consumption", schedule.net_consumption_kw + schedule.used_kw)
            if not self.curtailable:
                report.zero(self.name, "must_take", schedule.curtailed_kw)


@dataclass(frozen=True, slots=True)
class PvShape:
    """Structure of an array's equations."""

    curtailable: bool
    inverter: int | None


def add_available(site: SiteModel, key: str, used: Vector) -> None:
    """used[t] <= available[t]."""
    available = site.parameter(key, "available_kw")
    site.rows(key, "available", lambda t: used[t] <= available[t])


def add_must_take(site: SiteModel, key: str, used: Vector) -> None:
    """used[t] = available[t]."""
    available = site.parameter(key, "available_kw")
    site.rows(key, "available", lambda t: used[t] == available[t])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PvSchedule(AssetSchedule):
    """What a solar array does."""

    used_kw: FloatArray
    """Power taken from the array [kW], (T,)."""
    curtailed_kw: FloatArray
    """Power available and not taken [kW], (T,)."""
