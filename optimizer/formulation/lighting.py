"""Lighting group: dimmable lamps with a level that is asked for and one below which nobody may be left."""

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
class LightingGroup(Asset):
    """Lamps of a street, a stairwell, a hall; power is taken as proportional to light."""

    asked_kw: FloatArray
    """Power of the level that is asked for [kW], (T,)."""
    least_frac: Series = 0.3
    """Share of the asked level that must always burn (safety), scalar or (T,)."""
    wish_price_per_kwh: float | None = None
    """Price of each kWh of light below the asked level [currency/kWh]; None takes the ladder's `light`."""

    def __post_init__(self) -> None:
        freeze(self, "asked_kw", "least_frac", "wish_price_per_kwh")

    def validate(self, check: Check) -> None:
        """Power not negative, share in [0, 1]."""
        check.number("asked_kw", self.asked_kw, least=0.0, length=check.intervals)
        check.number("least_frac", self.least_frac, least=0.0, most=1.0)
        if self.wish_price_per_kwh is not None:
            check.number("wish_price_per_kwh", self.wish_price_per_kwh, least=0.0)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """All lighting groups share one structure."""
        return ()

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a lighting group."""
        power = site.variable(key, "power", lower=None)
        dark = site.variable(key, "dark")
        add_light(site, key, power, dark)
        site.cost(site.parameter(key, "dark_cost"), dark)
        site.feed(key, [-power[t] for t in range(site.intervals)])

    def _price(self, problem: DispatchProblem) -> float:
        if self.wish_price_per_kwh is not None:
            return self.wish_price_per_kwh
        return LADDER.light * problem.price_scale

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations."""
        return {
            "asked_kw": self.asked_kw,
            "least_kw": np.multiply(self.least_frac, self.asked_kw),
            "dark_cost": self._price(problem) * problem.hours,
        }

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """The asked level."""
        return self.asked_kw, 0.0

    def read(self, problem: DispatchProblem, values: Values) -> LightingSchedule:
        """Power, and the level it makes."""
        power = values.column("power")
        level = np.divide(power, self.asked_kw, out=np.ones_like(power), where=self.asked_kw > 0.0)
        return LightingSchedule(name=self.name, net_consumption_kw=power, level_frac=level)

    def cut_kw(self, schedule: LightingSchedule) -> FloatArray:
        """What is missing of the light."""
        missing: FloatArray = self.asked_kw - schedule.net_consumption_kw
        return missing

    def audit(self, problem: DispatchProblem, schedule: LightingSchedule, report: AuditReport) -> None:
        """Between the least and the asked level; what is missing and what it costs."""
        power = schedule.net_consumption_kw
        report.within(self.name, "level", power, least=self.least_frac * self.asked_kw, most=self.asked_kw)
        report.zero(self.name, "level_frac", schedule.level_frac * self.asked_kw - power)
        report.wish("light", self.name, self.asked_kw - power, problem.hours, self._price(problem))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LightingSchedule(AssetSchedule):
    """How bright a group burns; its power stands in `net_consumption_kw`."""

    level_frac: FloatArray
    """Share of the asked level, (T,); 1 where nothing is asked for."""


def add_light(site: SiteModel, key: str, power: Vector, dark: Vector) -> None:
    """power[t] + dark[t] = asked[t], power[t] >= least[t]; dark is paid."""
    asked = site.parameter(key, "asked_kw")
    least = site.parameter(key, "least_kw")
    site.rows(key, "asked", lambda t: power[t] + dark[t] == asked[t])
    site.rows(key, "least", lambda t: power[t] >= least[t])
