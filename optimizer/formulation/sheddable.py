"""Load that may be shed when energy is short, by priority class: what an islanded site gives up first."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import Check, FloatArray, Series, freeze
from optimizer.formulation.builder import SiteModel, Values, Vector
from optimizer.ladder import LADDER
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SheddableLoad(Asset):
    """A circuit that can be cut; the critical rest of the site is `DispatchProblem.load_kw`."""

    demand_kw: FloatArray
    """What it would draw [kW], (T,)."""
    priority_class: int = 0
    """0 is shed last; each further class at half the price of the one before."""
    shed_price_per_kwh: float | None = None
    """Price of each kWh not served [currency/kWh]; None takes the ladder's `shed_load` for its class."""

    def __post_init__(self) -> None:
        freeze(self, "demand_kw", "shed_price_per_kwh")

    def validate(self, check: Check) -> None:
        """Demand not negative."""
        check.number("demand_kw", self.demand_kw, least=0.0, length=check.intervals)
        check.number("priority_class", float(self.priority_class), least=0.0, most=6.0)
        if self.shed_price_per_kwh is not None:
            check.number("shed_price_per_kwh", self.shed_price_per_kwh, least=0.0)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """All sheddable loads share one structure."""
        return ()

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a sheddable load."""
        served = site.variable(key, "served")
        add_demand(site, key, served)
        site.cost(site.parameter(key, "served_cost"), served)
        site.feed(key, [-served[t] for t in range(site.intervals)])

    def price(self, problem: DispatchProblem) -> float:
        """Price of each kWh not served [currency/kWh]."""
        if self.shed_price_per_kwh is not None:
            return self.shed_price_per_kwh
        return LADDER.shed_load * problem.price_scale * 0.5**self.priority_class

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above; serving is rewarded with what shedding would cost."""
        return {"demand_kw": self.demand_kw, "served_cost": -self.price(problem) * problem.hours}

    def constant_cost(self, problem: DispatchProblem) -> float:
        """What shedding everything would cost: serving is counted as a reward in the objective."""
        return self.price(problem) * float(problem.hours @ self.demand_kw)

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """Its demand."""
        return self.demand_kw, 0.0

    def read(self, problem: DispatchProblem, values: Values) -> SheddableSchedule:
        """Served and shed power."""
        served = values.column("served")
        return SheddableSchedule(name=self.name, net_consumption_kw=served, shed_kw=self.demand_kw - served)

    def cut_kw(self, schedule: SheddableSchedule) -> FloatArray:
        """What is shed."""
        return schedule.shed_kw

    def audit(self, problem: DispatchProblem, schedule: SheddableSchedule, report: AuditReport) -> None:
        """Served and shed add up; what is shed and what it costs."""
        report.within(self.name, "served", schedule.net_consumption_kw, most=self.demand_kw)
        report.zero(self.name, "shed", self.demand_kw - schedule.net_consumption_kw - schedule.shed_kw)
        shed = np.maximum(schedule.shed_kw, 0.0)
        report.wish("shed_load", self.name, shed, problem.hours, self.price(problem))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SheddableSchedule(AssetSchedule):
    """What a sheddable load gets."""

    shed_kw: FloatArray
    """Demand that is not served [kW], (T,)."""


def add_demand(site: SiteModel, key: str, served: Vector) -> None:
    """served[t] <= demand[t]; what is not served is paid."""
    demand = site.parameter(key, "demand_kw")
    site.rows(key, "demand", lambda t: served[t] <= demand[t])
