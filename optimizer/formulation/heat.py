"""Heat: pumps and boilers give it, buildings and demands take it, stores hold it; a heat node joins them.

A node is named by the assets on it. The same equations serve cold: a heat pump with its cooling COP gives cold to a
node, and a building with `cools=True` takes it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import BoolArray, Check, FloatArray, Series, freeze
from optimizer.formulation.builder import (
    EXCLUSIVE_KW,
    Cut,
    SiteModel,
    Values,
    Vector,
    add_least_power,
    least_share,
    weak_power,
)
from optimizer.formulation.lots import Stock, Stretch, broken_stretches
from optimizer.formulation.site import ramp, slope_of
from optimizer.ladder import LADDER
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport

_LEAST_CUT_DEGC = 1e-3
"""An inequality that a relaxed answer breaks by less is not worth a row [degC]."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeatPump(Asset):
    """A heat pump or an electric heater (COP 1): electricity in, heat out."""

    heat_node: str
    """Heat node it feeds."""
    limit_kw: Series
    """Electric power at most [kW], scalar or (T,)."""
    cop: Series
    """Heat per electricity, scalar or (T,): follows the outdoor temperature (see `cop_of`)."""
    least_kw: float = 0.0
    """Least electric power when it runs [kW]."""

    def __post_init__(self) -> None:
        freeze(self, "limit_kw", "cop", "least_kw")

    def validate(self, check: Check) -> None:
        """Limits not negative, COP positive."""
        check.number("limit_kw", self.limit_kw, least=0.0)
        check.number("least_kw", self.least_kw, least=0.0)
        check.number("cop", self.cop, above=0.0)
        if self.least_kw > float(np.max(self.limit_kw)):
            check.refuse("least_kw", self.least_kw, "must not exceed limit_kw")

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Its node, and whether it has a least power."""
        return problem.heat_node(self.heat_node), self.least_kw > 0.0

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a heat pump."""
        node, least = shape
        power = site.variable(key, "power")
        most = site.parameter(key, "limit_kw")
        site.rows(key, "limit", lambda t: power[t] <= most[t])
        if least and site.asks_whole(key, "on"):
            add_least_power(site, key, power, most)
        site.feed(key, [-power[t] for t in range(site.intervals)])
        site.feed_heat(node, pumped_heat(site, key, power))
        site.prefer(key, "power", power)

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        return {
            "limit_kw": self.limit_kw,
            "least_kw": np.minimum(self.least_kw, self.limit_kw),
            "cop": self.cop,
            "tie_power": ramp(problem, slope_of(self.name, "power")),
        }

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """Its limit."""
        return self.limit_kw, 0.0

    def heat_reach(self, problem: DispatchProblem) -> Series:
        """What it pumps at its limit."""
        return np.multiply(self.cop, self.limit_kw)

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Where it runs below its least power."""
        return {"on": weak_power(values.column("power"), np.minimum(self.least_kw, self.limit_kw))}

    def shares(self, problem: DispatchProblem, values: Values) -> Mapping[str, FloatArray]:
        """Intervals at its least power that its power is worth."""
        return {"on": least_share(values.column("power"), np.minimum(self.least_kw, self.limit_kw))}

    def read(self, problem: DispatchProblem, values: Values) -> AssetSchedule:
        """Electricity and heat."""
        power = values.column("power")
        return AssetSchedule(
            name=self.name, net_consumption_kw=power, heat_node=self.heat_node, net_heat_kw=self.cop * power
        )

    def audit(self, problem: DispatchProblem, schedule: AssetSchedule, report: AuditReport) -> None:
        """Limits, and heat = COP * electricity."""
        power = schedule.net_consumption_kw
        report.within(self.name, "limit", power, most=self.limit_kw)
        report.apart(self.name, "least_power", power, np.minimum(self.least_kw, self.limit_kw) - power)
        report.zero(self.name, "cop", schedule.net_heat_kw - np.multiply(self.cop, power))


def pumped_heat(site: SiteModel, key: str, power: Vector) -> list[Any]:
    """heat[t] = cop[t] * power[t]."""
    cop = site.parameter(key, "cop")
    return [cop[t] * power[t] for t in range(site.intervals)]


def cop_of(outdoor_degc: FloatArray, *, flow_degc: float = 40.0, quality_frac: float = 0.45) -> FloatArray:
    """COP from the Carnot limit between outdoor and flow temperature, times a quality grade.

    cop = quality * T_flow / (T_flow - T_outdoor) with temperatures in kelvin, a lift of at least 10 K; air-to-water
    pumps reach quality grades of 0.4 to 0.5 (Staffell et al., "A review of domestic heat pumps", Energy Environ.
    Sci. 5 (2012) 9291).
    """
    lift = np.maximum(flow_degc - np.asarray(outdoor_degc, dtype=np.float64), 10.0)
    cop: FloatArray = np.maximum(1.0, quality_frac * (flow_degc + 273.15) / lift)
    return cop


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Boiler(Asset):
    """A fuel boiler: heat for money."""

    heat_node: str
    """Heat node it feeds."""
    limit_kw: Series
    """Heat at most [kW], scalar or (T,)."""
    fuel_per_kwh: Series
    """Price of the fuel [currency/kWh of fuel], scalar or (T,)."""
    efficiency_frac: float = 0.92
    """Heat per fuel."""

    def __post_init__(self) -> None:
        freeze(self, "limit_kw", "fuel_per_kwh", "efficiency_frac")

    def validate(self, check: Check) -> None:
        """Limits not negative, efficiency in (0, 1.1] (condensing boilers are rated on the lower heating value)."""
        check.number("limit_kw", self.limit_kw, least=0.0)
        check.number("fuel_per_kwh", self.fuel_per_kwh, least=0.0)
        check.number("efficiency_frac", self.efficiency_frac, above=0.0, most=1.1)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Its node."""
        return problem.heat_node(self.heat_node)

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """heat[t] <= limit[t]; fuel_price[t] / efficiency is paid per kWh of heat."""
        heat = site.variable(key, "heat")
        most = site.parameter(key, "limit_kw")
        site.rows(key, "limit", lambda t: heat[t] <= most[t])
        site.cost(site.parameter(key, "heat_cost"), heat)
        site.feed_heat(shape, heat)

    def heat_reach(self, problem: DispatchProblem) -> Series:
        """Its limit."""
        return self.limit_kw

    def _heat_price(self) -> Series:
        return np.divide(self.fuel_per_kwh, self.efficiency_frac)

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        return {"limit_kw": self.limit_kw, "heat_cost": problem.hours * self._heat_price()}

    def read(self, problem: DispatchProblem, values: Values) -> AssetSchedule:
        """Heat."""
        return AssetSchedule(
            name=self.name,
            net_consumption_kw=np.zeros(problem.intervals),
            heat_node=self.heat_node,
            net_heat_kw=values.column("heat"),
        )

    def audit(self, problem: DispatchProblem, schedule: AssetSchedule, report: AuditReport) -> None:
        """Limits and fuel."""
        heat = np.asarray(schedule.net_heat_kw)
        report.within(self.name, "limit", heat, most=self.limit_kw)
        fuel = heat * problem.hours / self.efficiency_frac
        report.charge("fuel", self.name, float(np.sum(fuel * self.fuel_per_kwh)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeatDemand(Asset):
    """Heat that is wanted when it is wanted: hot water, a district-heating customer."""

    heat_node: str
    """Heat node it draws from."""
    demand_kw: FloatArray
    """Heat demand [kW], (T,)."""
    wish_price_per_kwh: float | None = None
    """Price of each kWh not met [currency/kWh]; None takes the ladder's `unserved_heat`."""

    def __post_init__(self) -> None:
        freeze(self, "demand_kw", "wish_price_per_kwh")

    def validate(self, check: Check) -> None:
        """Demand not negative."""
        check.number("demand_kw", self.demand_kw, least=0.0, length=check.intervals)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Its node."""
        return problem.heat_node(self.heat_node)

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """served[t] + missing[t] = demand[t]; missing is paid."""
        served, missing = site.variable(key, "served"), site.variable(key, "missing")
        demand = site.parameter(key, "demand_kw")
        site.rows(key, "demand", lambda t: served[t] + missing[t] == demand[t])
        site.cost(site.parameter(key, "missing_cost"), missing)
        site.feed_heat(shape, [-served[t] for t in range(site.intervals)])

    def _price(self, problem: DispatchProblem) -> float:
        if self.wish_price_per_kwh is not None:
            return self.wish_price_per_kwh
        return LADDER.unserved_heat * problem.price_scale

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        return {"demand_kw": self.demand_kw, "missing_cost": self._price(problem) * problem.hours}

    def read(self, problem: DispatchProblem, values: Values) -> AssetSchedule:
        """Heat served."""
        return AssetSchedule(
            name=self.name,
            net_consumption_kw=np.zeros(problem.intervals),
            heat_node=self.heat_node,
            net_heat_kw=-values.column("served"),
        )

    def audit(self, problem: DispatchProblem, schedule: AssetSchedule, report: AuditReport) -> None:
        """Not more than wanted; what is missing and what it costs."""
        served = -np.asarray(schedule.net_heat_kw)
        report.within(self.name, "served", served, most=self.demand_kw)
        report.wish("unserved_heat", self.name, self.demand_kw - served, problem.hours, self._price(problem))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeatStore(Asset):
    """A tank: hot water, buffer, district-heating store. Loses while it stands."""

    heat_node: str
    """Heat node it is joined to."""
    capacity_kwh: float
    """Usable heat it can hold [kWh]."""
    stored_kwh: float
    """Heat in it now [kWh]."""
    charge_limit_kw: Series
    """Heat it can take [kW], scalar or (T,)."""
    discharge_limit_kw: Series
    """Heat it can give [kW], scalar or (T,)."""
    loss_frac_per_h: float = 0.01
    """Share of the stored heat lost per hour [1/h]."""
    end_value_per_kwh: float = 0.0
    """Value of heat left at the end [currency/kWh]."""

    def __post_init__(self) -> None:
        freeze(
            self,
            "capacity_kwh",
            "stored_kwh",
            "charge_limit_kw",
            "discharge_limit_kw",
            "loss_frac_per_h",
            "end_value_per_kwh",
        )

    def validate(self, check: Check) -> None:
        """Capacities and limits not negative."""
        for name in ("capacity_kwh", "stored_kwh", "charge_limit_kw", "discharge_limit_kw"):
            check.number(name, getattr(self, name), least=0.0)
        check.number("loss_frac_per_h", self.loss_frac_per_h, least=0.0, most=0.999)
        check.number("end_value_per_kwh", self.end_value_per_kwh)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Its node."""
        return problem.heat_node(self.heat_node)

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a tank."""
        into = site.variable(key, "into", lower=None)
        stored = site.variable(key, "stored")
        add_tank_balance(site, key, into, stored)
        site.cost(site.parameter(key, "end_cost", 1), stored[-1:])
        site.prefer(key, "stored", stored)
        site.feed_heat(shape, [-into[t] for t in range(site.intervals)])

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        keep = (1.0 - self.loss_frac_per_h) ** problem.hours
        return {
            "most_in_kw": self.charge_limit_kw,
            "most_out_kw": self.discharge_limit_kw,
            "counted_h": problem.hours,
            "keep_frac": keep[1:],
            "carried_kwh": keep[0] * self.stored_kwh,
            "top_kwh": max(self.capacity_kwh, self.stored_kwh),
            "end_cost": -self.end_value_per_kwh,
            "tie_stored": ramp(problem, 0.1 * slope_of(self.name, "stored")),
        }

    def heat_reach(self, problem: DispatchProblem) -> Series:
        """What it can give."""
        return self.discharge_limit_kw

    def read(self, problem: DispatchProblem, values: Values) -> HeatStoreSchedule:
        """Heat flow and stored heat."""
        value = -values.row_dual("stored_balance")
        return HeatStoreSchedule(
            name=self.name,
            net_consumption_kw=np.zeros(problem.intervals),
            heat_node=self.heat_node,
            net_heat_kw=-values.column("into"),
            stored_kwh=np.concatenate(((self.stored_kwh,), values.column("stored"))),
            stored_value_per_kwh=np.concatenate((value[:1], value)),
        )

    def audit(self, problem: DispatchProblem, schedule: HeatStoreSchedule, report: AuditReport) -> None:
        """Heat in = heat out + losses + what is left; ratings."""
        into, stored = -np.asarray(schedule.net_heat_kw), schedule.stored_kwh
        kept = stored[:-1] * (1.0 - self.loss_frac_per_h) ** problem.hours
        report.zero(self.name, "stored_balance", stored[1:] - kept - problem.hours * into, unit="kWh")
        report.zero(self.name, "stored_now", stored[:1] - self.stored_kwh, unit="kWh")
        report.within(self.name, "charge_limit", into, least=-np.inf, most=self.charge_limit_kw)
        report.within(self.name, "discharge_limit", -into, least=-np.inf, most=self.discharge_limit_kw)
        report.within(self.name, "stored", stored, most=max(self.capacity_kwh, self.stored_kwh), unit="kWh")
        report.charge("end_value", self.name, -self.end_value_per_kwh * float(stored[-1]), is_money=False)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeatStoreSchedule(AssetSchedule):
    """What a tank does; its heat flow stands in `net_heat_kw`, + given."""

    stored_kwh: FloatArray
    """Heat at the fence posts [kWh], (T + 1,)."""
    stored_value_per_kwh: FloatArray
    """What one more stored kWh of heat is worth at each fence post [currency/kWh], (T + 1,)."""


def add_tank_balance(site: SiteModel, key: str, into: Vector, stored: Vector) -> None:
    """stored[t+1] = keep[t] * stored[t] + hours[t] * into[t]; -most_out <= into <= most_in; stored <= capacity."""
    counted = site.parameter(key, "counted_h")
    keep = site.parameter(key, "keep_frac", site.intervals - 1)
    carried = site.parameter(key, "carried_kwh", 1)
    top = site.parameter(key, "top_kwh")
    most_in, most_out = site.parameter(key, "most_in_kw"), site.parameter(key, "most_out_kw")
    site.rows(key, "most_in", lambda t: into[t] <= most_in[t])
    site.rows(key, "most_out", lambda t: into[t] >= -most_out[t])
    site.rows(key, "top", lambda t: stored[t] <= top[t])
    site.rows(
        key,
        "stored_balance",
        lambda t: (
            stored[0] - counted[0] * into[0] == carried[0]
            if t == 0
            else stored[t] - keep[t - 1] * stored[t - 1] - counted[t] * into[t] == 0.0
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Building(Asset):
    """A building as one thermal mass behind one resistance, with a comfort band."""

    heat_node: str
    """Heat node it draws from."""
    loss_kw_per_k: float
    """Heat it loses per kelvin of difference to outdoors [kW/K]."""
    capacity_kwh_per_k: float
    """Heat its mass takes per kelvin [kWh/K]."""
    indoor_degc: float
    """Indoor temperature now [degC]."""
    outdoor_degc: FloatArray
    """Outdoor temperature [degC], (T,)."""
    comfort_min_degc: Series = 20.0
    """Lower end of comfort [degC], scalar or (T,) for the fence post after each interval: soft."""
    comfort_max_degc: Series = 24.0
    """Upper end of comfort [degC], scalar or (T,) as above: soft."""
    gain_kw: Series = 0.0
    """Heat from sun and people [kW], scalar or (T,)."""
    limit_kw: Series = np.inf
    """Heat its emitters can give [kW], scalar or (T,)."""
    cools: bool = False
    """True if the node brings cold."""
    comfort_price_per_degc_h: float | None = None
    """Price of each degC and hour outside comfort; None takes the ladder's `comfort`."""

    def __post_init__(self) -> None:
        freeze(
            self,
            "loss_kw_per_k",
            "capacity_kwh_per_k",
            "indoor_degc",
            "outdoor_degc",
            "comfort_min_degc",
            "comfort_max_degc",
            "gain_kw",
            "limit_kw",
            "comfort_price_per_degc_h",
        )

    def validate(self, check: Check) -> None:
        """A positive mass and resistance, temperatures that can be."""
        check.number("loss_kw_per_k", self.loss_kw_per_k, above=0.0)
        check.number("capacity_kwh_per_k", self.capacity_kwh_per_k, above=0.0)
        for name in ("indoor_degc", "comfort_min_degc", "comfort_max_degc"):
            check.number(name, getattr(self, name), least=-60.0, most=90.0)
        check.number("outdoor_degc", self.outdoor_degc, least=-90.0, most=70.0, length=check.intervals)
        check.number("gain_kw", self.gain_kw)
        check.number("limit_kw", self.limit_kw, least=0.0, endless=True)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Its node."""
        return problem.heat_node(self.heat_node)

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a building."""
        heat = site.variable(key, "heat")
        indoor = site.variable(key, "indoor", lower=None)
        add_indoor_balance(site, key, heat, indoor)
        add_comfort(site, key, indoor)
        site.feed_heat(shape, [-heat[t] for t in range(site.intervals)])

    def _decay(self, problem: DispatchProblem) -> FloatArray:
        decay: FloatArray = np.exp(-problem.hours * self.loss_kw_per_k / self.capacity_kwh_per_k)
        return decay

    def _drift(self, problem: DispatchProblem) -> FloatArray:
        """What is data in the balance of each interval [degC], (T,)."""
        decay = self._decay(problem)
        drift: FloatArray = (1.0 - decay) * (self.outdoor_degc + np.divide(self.gain_kw, self.loss_kw_per_k))
        drift[0] += decay[0] * self.indoor_degc
        return drift

    def _warming(self, problem: DispatchProblem) -> FloatArray:
        """How far one kW takes it in an interval [degC/kW], (T,)."""
        return (1.0 - self._decay(problem)) / self.loss_kw_per_k

    def _price(self, problem: DispatchProblem) -> float:
        if self.comfort_price_per_degc_h is not None:
            return self.comfort_price_per_degc_h
        return LADDER.comfort * problem.price_scale

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        return {
            "limit_kw": self.limit_kw,
            "decay": self._decay(problem)[1:],
            "drift_degc": self._drift(problem),
            "warming": self._sign() * self._warming(problem),
            "comfort_min_degc": self.comfort_min_degc,
            "comfort_max_degc": self.comfort_max_degc,
            "comfort_cost": self._price(problem) * problem.hours,
        }

    def cuts(self, problem: DispatchProblem, values: Sequence[Values]) -> list[Cut]:
        """What it must hold while no pump runs whose least power is more than it needs: see `lots.py`."""
        on_node = [k for k, asset in enumerate(problem.assets) if _node_of(asset) == self.heat_node]
        pumps = [
            (k, pump)
            for k in on_node
            if isinstance(pump := problem.assets[k], HeatPump) and values[k].has("on")
        ]
        if not pumps:
            return []
        own = next(k for k in on_node if problem.assets[k] is self)
        stock = self._stock(problem, values[own], [(pump, values[k]) for k, pump in pumps])
        stretches = broken_stretches(stock, _LEAST_CUT_DEGC)
        return [self._cut(problem, stretch, own, pumps) for stretch in stretches]

    def _stock(
        self, problem: DispatchProblem, own: Values, pumps: Sequence[tuple[HeatPump, Values]]
    ) -> Stock:
        """Its warmth above the end of comfort that it drifts to [degC]; with `cools` its cold below the other end."""
        floor, drift, sign = self._floor(problem), self._drift(problem), self._sign()
        need = sign * (floor - drift)
        need[1:] -= sign * self._decay(problem)[1:] * floor[:-1]
        slack = own.column(self._slack())
        held = sign * (own.column("indoor") - floor) + slack
        others = [
            asset
            for asset in problem.assets
            if asset is not self
            and _node_of(asset) == self.heat_node
            and not any(asset is pump for pump, _ in pumps)
        ]
        nothing = np.zeros(problem.intervals)
        most = sum((asset.heat_reach(problem) for asset in others), start=nothing)
        takes = any(isinstance(asset, (Building, HeatDemand, HeatStore)) for asset in others)
        pumped = sum((pump.cop * values.column("power") for pump, values in pumps), start=nothing)
        given = np.full(problem.intervals, np.inf) if takes else own.column("heat") - pumped
        warming = self._warming(problem)
        return Stock(
            keep=self._decay(problem),
            need=need,
            most_given=warming * np.minimum(most, self.limit_kw),
            given=warming * given,
            slack=slack,
            before=np.concatenate(((0.0,), held[:-1])),
            on=sum((_most_on(pump, values) for pump, values in pumps), start=nothing),
        )

    def _cut(
        self, problem: DispatchProblem, stretch: Stretch, own: int, pumps: Sequence[tuple[int, HeatPump]]
    ) -> Cut:
        """One inequality over this building's warmth and the pumps that are not on."""
        span = stretch.first + np.arange(stretch.weight.size)
        terms = [(own, self._slack(), span, stretch.weight)]
        least = stretch.least
        if stretch.first > 0:
            before = span[:1] - 1
            terms += [
                (own, "indoor", before, np.array([self._sign()])),
                (own, self._slack(), before, np.ones(1)),
            ]
            least += self._sign() * float(self._floor(problem)[before[0]])
        at = span[stretch.counted]
        given = (stretch.weight * self._warming(problem)[span])[stretch.counted]
        terms.append((own, "heat", at, given))
        for k, pump in pumps:
            cop = np.broadcast_to(pump.cop, problem.intervals)[at]
            terms += [(k, "power", at, -given * cop), (k, "on", span, stretch.on)]
        return Cut(tuple(terms), least)

    def _sign(self) -> float:
        return -1.0 if self.cools else 1.0

    def _slack(self) -> str:
        return "warm" if self.cools else "cold"

    def _floor(self, problem: DispatchProblem) -> FloatArray:
        """The end of comfort that it drifts to without the node [degC], (T,)."""
        end = self.comfort_max_degc if self.cools else self.comfort_min_degc
        return np.broadcast_to(end, problem.intervals)

    def read(self, problem: DispatchProblem, values: Values) -> BuildingSchedule:
        """Heat and indoor temperature."""
        return BuildingSchedule(
            name=self.name,
            net_consumption_kw=np.zeros(problem.intervals),
            heat_node=self.heat_node,
            net_heat_kw=-values.column("heat"),
            indoor_degc=np.concatenate(((self.indoor_degc,), values.column("indoor"))),
        )

    def audit(self, problem: DispatchProblem, schedule: BuildingSchedule, report: AuditReport) -> None:
        """Indoor temperature follows heat and outdoors; what is outside comfort and what it costs."""
        heat, indoor = -np.asarray(schedule.net_heat_kw), schedule.indoor_degc
        report.within(self.name, "limit", heat, most=self.limit_kw)
        sign = -1.0 if self.cools else 1.0
        settles = self.outdoor_degc + (sign * heat + self.gain_kw) / self.loss_kw_per_k
        share = np.exp(-problem.hours * self.loss_kw_per_k / self.capacity_kwh_per_k)
        error = indoor[1:] - (settles + (indoor[:-1] - settles) * share)
        report.zero(self.name, "indoor_balance", error, unit="degC")
        price, hours = self._price(problem), problem.hours
        cold, warm = self.comfort_min_degc - indoor[1:], indoor[1:] - self.comfort_max_degc
        report.wish("comfort", self.name, cold, hours, price, unit="degC h")
        report.wish("comfort", self.name, warm, hours, price, unit="degC h")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BuildingSchedule(AssetSchedule):
    """What a building gets and how warm it is."""

    indoor_degc: FloatArray
    """Indoor temperature at the fence posts [degC], (T + 1,)."""


def _node_of(asset: Asset) -> str | None:
    """Name of the heat node an asset is on."""
    return getattr(asset, "heat_node", None)


def _most_on(pump: HeatPump, values: Values) -> FloatArray:
    """The most that a relaxed answer could call on without another power, (T,)."""
    least = np.minimum(pump.least_kw, pump.limit_kw)
    return np.clip(values.column("power") / np.maximum(least, EXCLUSIVE_KW), 0.0, 1.0)


def add_indoor_balance(site: SiteModel, key: str, heat: Vector, indoor: Vector) -> None:
    """indoor[t+1] = decay * indoor[t] + (1 - decay) * (outdoor[t] + (gain[t] + heat[t]) / loss).

    decay = exp(-hours * loss / capacity): the exact step of one capacity behind one resistance for constant inputs.
    Everything that is data is gathered in `drift`; cold enters with the other sign.
    """
    most = site.parameter(key, "limit_kw")
    decay = site.parameter(key, "decay", site.intervals - 1)
    drift = site.parameter(key, "drift_degc")
    warming = site.parameter(key, "warming")
    site.rows(key, "limit", lambda t: heat[t] <= most[t])
    site.rows(
        key,
        "indoor_balance",
        lambda t: (
            indoor[0] - warming[0] * heat[0] == drift[0]
            if t == 0
            else indoor[t] - decay[t - 1] * indoor[t - 1] - warming[t] * heat[t] == drift[t]
        ),
    )


def add_comfort(site: SiteModel, key: str, indoor: Vector) -> None:
    """indoor[t] + cold[t] >= comfort_min[t]; indoor[t] - warm[t] <= comfort_max[t]; both are paid per degC and hour."""
    cold, warm = site.variable(key, "cold"), site.variable(key, "warm")
    least, most = site.parameter(key, "comfort_min_degc"), site.parameter(key, "comfort_max_degc")
    price = site.parameter(key, "comfort_cost")
    site.rows(key, "comfort_min", lambda t: indoor[t] + cold[t] >= least[t])
    site.rows(key, "comfort_max", lambda t: indoor[t] - warm[t] <= most[t])
    site.cost(price, cold)
    site.cost(price, warm)
