"""Hybrid inverter: batteries and solar arrays on one DC bus behind one AC rating."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimizer.arrays import BoolArray, Check, FloatArray, Series, freeze
from optimizer.formulation.builder import SiteModel, Values, Vector, clash, direction_share
from optimizer.ladder import TIE_BREAK
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport


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

    def validate(self, check: Check) -> None:
        """Rating not negative, efficiencies in (0, 1]."""
        check.number("rating_kw", self.rating_kw, least=0.0)
        check.number("to_ac_efficiency_frac", self.to_ac_efficiency_frac, above=0.0, most=1.0)
        check.number("to_dc_efficiency_frac", self.to_dc_efficiency_frac, above=0.0, most=1.0)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """All hybrid inverters share one structure."""
        return ()

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write an inverter; its DC balance closes after batteries and arrays have spoken."""
        to_ac = site.variable(key, "to_ac")
        to_dc = site.variable(key, "to_dc")
        add_rating(site, key, to_ac, to_dc)
        site.feed(key, [to_ac[t] - to_dc[t] for t in range(site.intervals)])
        site.prefer(key, "to_ac", to_ac)
        site.prefer(key, "to_dc", to_dc)
        site.closing.append(lambda: add_dc_balance(site, key, to_ac, to_dc))
        if site.asks_whole(key, "inverting"):
            add_one_way(site, key, to_ac, to_dc)

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        return {
            "to_ac_most_kw": self.rating_kw,
            "to_dc_most_kw": self.rating_kw if self.draws_from_bus else 0.0,
            "to_ac_drain_frac": 1.0 / self.to_ac_efficiency_frac,
            "to_dc_gain_frac": self.to_dc_efficiency_frac,
            "tie_to_ac": TIE_BREAK * problem.price_scale * problem.hours,
            "tie_to_dc": TIE_BREAK * problem.price_scale * problem.hours,
        }

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """Its rating, either way."""
        return self.rating_kw, self.rating_kw

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Where power passes both ways at once."""
        both = clash(values.column("to_ac"), values.column("to_dc"))
        return {} if both is None else {"inverting": both}

    def shares(self, problem: DispatchProblem, values: Values) -> Mapping[str, FloatArray]:
        """A way where power passes both ways at once."""
        return {"inverting": direction_share(values.column("to_ac"), values.column("to_dc"))}

    def read(self, problem: DispatchProblem, values: Values) -> InverterSchedule:
        """Power to either side."""
        to_ac, to_dc = values.column("to_ac"), values.column("to_dc")
        behind = tuple(a.name for a in problem.assets if getattr(a, "inverter", None) == self.name)
        return InverterSchedule(
            name=self.name, net_consumption_kw=to_dc - to_ac, to_ac_kw=to_ac, to_dc_kw=to_dc, behind=behind
        )

    def audit(self, problem: DispatchProblem, schedule: InverterSchedule, report: AuditReport) -> None:
        """AC rating, and never both ways at once; the DC balance is checked once all assets are read."""
        to_ac, to_dc = schedule.to_ac_kw, schedule.to_dc_kw
        report.within(self.name, "to_ac", to_ac, most=self.rating_kw)
        report.within(self.name, "to_dc", to_dc, most=self.rating_kw if self.draws_from_bus else 0.0)
        report.apart(self.name, "both_ways", to_ac, to_dc)
        report.zero(self.name, "net_consumption", schedule.net_consumption_kw - (to_dc - to_ac))
        fed = self.to_dc_efficiency_frac * to_dc - to_ac / self.to_ac_efficiency_frac
        for asset in problem.assets:
            if getattr(asset, "inverter", None) != self.name:
                continue
            other = report.schedule(asset.name)
            fed = fed + (
                other.discharge_kw - other.charge_kw if hasattr(other, "charge_kw") else other.used_kw
            )
        report.zero(self.name, "dc_balance", fed)


def add_rating(site: SiteModel, key: str, to_ac: Vector, to_dc: Vector) -> None:
    """to_ac[t] <= rating[t]; to_dc[t] <= rating[t], or 0 where it cannot draw."""
    most_out = site.parameter(key, "to_ac_most_kw")
    most_in = site.parameter(key, "to_dc_most_kw")
    site.rows(key, "to_ac_rating", lambda t: to_ac[t] <= most_out[t])
    site.rows(key, "to_dc_rating", lambda t: to_dc[t] <= most_in[t])


def add_dc_balance(site: SiteModel, key: str, to_ac: Vector, to_dc: Vector) -> None:
    """Sum of DC feeds[t] + eff_dc * to_dc[t] - to_ac[t] / eff_ac = 0."""
    drain = site.parameter(key, "to_ac_drain_frac")
    gain = site.parameter(key, "to_dc_gain_frac")
    site.rows(key, "dc", lambda t: sum(site.dc[key][t]) + gain[t] * to_dc[t] - drain[t] * to_ac[t] == 0.0)


def add_one_way(site: SiteModel, key: str, to_ac: Vector, to_dc: Vector) -> None:
    """to_ac[t] <= rating[t] * inverting[t]; to_dc[t] <= rating[t] * (1 - inverting[t])."""
    inverting = site.binary(key, "inverting", direction=True)
    most_out = site.parameters[key, "to_ac_most_kw"]
    most_in = site.parameters[key, "to_dc_most_kw"]
    site.rows(key, "inverting", lambda t: to_ac[t] <= most_out[t] * inverting[t])
    site.rows(key, "rectifying", lambda t: to_dc[t] <= most_in[t] - most_in[t] * inverting[t])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InverterSchedule(AssetSchedule):
    """What passes the inverter."""

    to_ac_kw: FloatArray
    """AC power it feeds to the site bus [kW], (T,), >= 0."""
    to_dc_kw: FloatArray
    """AC power it draws from the site bus [kW], (T,), >= 0."""
    behind: tuple[str, ...]
    """Assets on its DC bus."""
