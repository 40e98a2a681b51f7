"""Vehicle: one charging session, with what its driver wishes at departure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import BoolArray, Check, FloatArray, Series, freeze
from optimizer.formulation.builder import (
    EXCLUSIVE_KW,
    Expr,
    SiteModel,
    Values,
    Vector,
    direction_share,
    least_share,
    weak_power,
)
from optimizer.formulation.site import ramp, slope_of
from optimizer.ladder import LADDER
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import StoreSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport


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

    def validate(self, check: Check) -> None:
        """Energies and limits not negative, efficiencies in (0, 1], departure after arrival."""
        for name in ("capacity_kwh", "stored_kwh", "wished_kwh", "charge_limit_kw", "min_charge_kw"):
            check.number(name, getattr(self, name), least=0.0)
        for name in ("discharge_limit_kw", "floor_kwh", "wear_per_kwh", "extra_value_per_kwh"):
            check.number(name, getattr(self, name), least=0.0)
        check.number("charge_efficiency_frac", self.charge_efficiency_frac, above=0.0, most=1.0)
        check.number("discharge_efficiency_frac", self.discharge_efficiency_frac, above=0.0, most=1.0)
        check.number("arrival", self.arrival, endless=True)
        check.number("departure", self.departure, least=self.arrival, endless=True)
        if self.wish_price_per_kwh is not None:
            check.number("wish_price_per_kwh", self.wish_price_per_kwh, least=self.extra_value_per_kwh)
        if self.min_charge_kw > float(np.max(self.charge_limit_kw)):
            check.refuse("min_charge_kw", self.min_charge_kw, "must not exceed charge_limit_kw")

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Whether it can give back, and whether it has a least power."""
        return VehicleShape(
            gives_back=bool(np.any(np.asarray(self.discharge_limit_kw) > 0.0)), least=self.min_charge_kw > 0.0
        )

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a session."""
        charge = site.variable(key, "charge")
        stored = site.variable(key, "stored")
        discharge = site.variable(key, "discharge") if shape.gives_back else None
        add_session_limits(site, key, charge, discharge)
        add_session_balance(site, key, charge, discharge, stored)
        add_departure(site, key, stored)
        site.prefer(key, "charge", charge)
        if discharge is None:
            site.feed(key, [-charge[t] for t in range(site.intervals)])
        else:
            site.feed(key, [discharge[t] - charge[t] for t in range(site.intervals)])
            site.cost(site.parameter(key, "discharge_cost"), discharge)
            site.prefer(key, "discharge", discharge)
            add_floor(site, key, stored)
        if (shape.least or shape.gives_back) and site.asks_whole(key, "charging"):
            add_charging(site, key, charge, discharge, least=shape.least)

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        hours = problem.hours
        there = self.present_frac(problem)
        return {
            "charge_limit_kw": there * self.charge_limit_kw,
            "discharge_limit_kw": there * self.discharge_limit_kw,
            "least_kw": there * np.minimum(self.min_charge_kw, self.charge_limit_kw),
            "gain_h": hours * self.charge_efficiency_frac,
            "drain_h": hours / self.discharge_efficiency_frac,
            "stored_now_kwh": self.stored_kwh,
            "top_kwh": max(self.capacity_kwh, self.stored_kwh),
            "wished_kwh": self.wished_kwh,
            "missing_cost": self._wish_price(problem),
            "extra_cost": -self.extra_value_per_kwh,
            "floor_kwh": self._floor(),
            "floor_cost": LADDER.reserve * problem.price_scale * hours,
            "tie_charge": ramp(problem, slope_of(self.name, "charge")),
            "tie_discharge": ramp(problem, slope_of(self.name, "discharge")),
            "discharge_cost": hours * self.wear_per_kwh,
        }

    def present_frac(self, problem: DispatchProblem) -> FloatArray:
        """Share of each interval in which it is plugged in, (T,)."""
        start = np.arange(problem.intervals, dtype=np.float64)
        share: FloatArray = np.clip(
            np.minimum(start + 1.0, self.departure) - np.maximum(start, self.arrival), 0.0, 1.0
        )
        return share

    def _wish_price(self, problem: DispatchProblem) -> float:
        if self.wish_price_per_kwh is not None:
            return self.wish_price_per_kwh
        return max(LADDER.departure * problem.price_scale, self.extra_value_per_kwh)

    def _floor(self) -> float:
        return min(self.floor_kwh, self.stored_kwh, self.capacity_kwh)

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """Its power limits while it is there."""
        there = self.present_frac(problem)
        return there * self.charge_limit_kw, there * self.discharge_limit_kw

    def lean_holds(self, problem: DispatchProblem, values: Values) -> bool:
        """True if no kWh below the floor would have been worth its price."""
        price = LADDER.reserve * problem.price_scale * problem.hours
        return bool(np.all(values.column_dual("stored") <= price))

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Where it charges below its least power, or both ways at once."""
        charge, discharge = values.column("charge"), values.column("discharge")
        least = self.present_frac(problem) * np.minimum(self.min_charge_kw, self.charge_limit_kw)
        return {"charging": weak_power(charge, least) | (np.minimum(charge, discharge) > EXCLUSIVE_KW)}

    def shares(self, problem: DispatchProblem, values: Values) -> Mapping[str, FloatArray]:
        """Intervals at its least power that its charging is worth; a direction where it goes both ways."""
        charge, discharge = values.column("charge"), values.column("discharge")
        both = direction_share(charge, discharge)
        least = self.present_frac(problem) * np.minimum(self.min_charge_kw, self.charge_limit_kw)
        return {"charging": np.where(np.isnan(both), least_share(charge, least), both)}

    def read(self, problem: DispatchProblem, values: Values) -> VehicleSchedule:
        """Charge, discharge, stored energy and its value."""
        charge, discharge = values.column("charge"), values.column("discharge")
        stored = np.concatenate(((self.stored_kwh,), values.column("stored")))
        value = -values.row_dual("stored_balance")
        return VehicleSchedule(
            name=self.name,
            net_consumption_kw=charge - discharge,
            charge_kw=charge,
            discharge_kw=discharge,
            stored_kwh=stored,
            stored_value_per_kwh=np.concatenate((value[:1], value)),
            missing_kwh=max(0.0, self.wished_kwh - float(stored[-1])),
        )

    def audit(self, problem: DispatchProblem, schedule: VehicleSchedule, report: AuditReport) -> None:
        """Nothing while it is away; its own limits and balance; what is missing at departure and what it costs."""
        hours, name = problem.hours, self.name
        charge, discharge, stored = schedule.charge_kw, schedule.discharge_kw, schedule.stored_kwh
        start = np.arange(problem.intervals)
        inside = np.minimum(start + 1, self.departure) - np.maximum(start, self.arrival)
        share = np.minimum(np.maximum(inside, 0.0), 1.0)
        flow = self.charge_efficiency_frac * charge - discharge / self.discharge_efficiency_frac
        report.zero(name, "stored_balance", np.diff(stored) - hours * flow, unit="kWh")
        report.zero(name, "stored_now", stored[:1] - self.stored_kwh, unit="kWh")
        report.within(name, "charge_limit", charge, most=share * self.charge_limit_kw)
        report.within(name, "discharge_limit", discharge, most=share * self.discharge_limit_kw)
        report.within(name, "stored", stored, most=max(self.capacity_kwh, self.stored_kwh), unit="kWh")
        report.apart(name, "charge_and_discharge", charge, discharge)
        least = share * np.minimum(self.min_charge_kw, self.charge_limit_kw)
        report.apart(name, "least_power", charge, least - charge)
        report.zero(name, "net_consumption", schedule.net_consumption_kw - (charge - discharge))
        if np.any(np.asarray(self.discharge_limit_kw) > 0.0):
            price = LADDER.reserve * problem.price_scale
            report.wish("reserve", name, self._floor() - stored[1:], hours, price, unit="kWh h")
        missing = np.maximum(self.wished_kwh - stored[-1:], 0.0)
        report.wish("departure", name, missing, 1.0, self._wish_price(problem))
        extra = max(0.0, float(stored[-1]) - self.wished_kwh)
        report.charge("extra_energy", name, -self.extra_value_per_kwh * extra, is_money=False)
        report.charge("wear", name, self.wear_per_kwh * float(hours @ discharge))


@dataclass(frozen=True, slots=True)
class VehicleShape:
    """Structure of a session's equations."""

    gives_back: bool
    least: bool


def add_session_limits(site: SiteModel, key: str, charge: Vector, discharge: Vector | None) -> None:
    """charge[t] <= present[t] * charge_limit[t]; discharge[t] <= present[t] * discharge_limit[t]."""
    most_in = site.parameter(key, "charge_limit_kw")
    site.rows(key, "charge_limit", lambda t: charge[t] <= most_in[t])
    if discharge is not None:
        most_out = site.parameter(key, "discharge_limit_kw")
        site.rows(key, "discharge_limit", lambda t: discharge[t] <= most_out[t])


def add_session_balance(
    site: SiteModel, key: str, charge: Vector, discharge: Vector | None, stored: Vector
) -> None:
    """stored[t+1] = stored[t] + hours[t] * (eff_in * charge[t] - discharge[t] / eff_out); stored[t] <= capacity."""
    gain = site.parameter(key, "gain_h")
    drain = site.parameter(key, "drain_h") if discharge is not None else None
    now = site.parameter(key, "stored_now_kwh", 1)
    top = site.parameter(key, "top_kwh")

    def balance(t: int) -> Expr:
        flow = gain[t] * charge[t]
        if discharge is not None and drain is not None:
            flow = flow - drain[t] * discharge[t]
        return stored[0] - flow == now[0] if t == 0 else stored[t] - stored[t - 1] - flow == 0.0

    site.rows(key, "stored_balance", balance)
    site.rows(key, "top", lambda t: stored[t] <= top[t])


def add_departure(site: SiteModel, key: str, stored: Vector) -> None:
    """stored[T] + missing - extra = wished; missing is paid, extra is rewarded. Nothing moves after departure."""
    wished = site.parameter(key, "wished_kwh", 1)
    missing = site.variable(key, "missing", 1)
    extra = site.variable(key, "extra", 1)
    site.rows(key, "departure", lambda _: stored[-1] + missing[0] - extra[0] == wished[0], over=[0])
    site.cost(site.parameter(key, "missing_cost", 1), missing)
    site.cost(site.parameter(key, "extra_cost", 1), extra)


def add_floor(site: SiteModel, key: str, stored: Vector) -> None:
    """Soft: stored[t] + below[t] >= floor[t]; lean: stored[t] >= floor[t] as a bound (see battery)."""
    floor = site.parameter(key, "floor_kwh")
    if site.soft:
        below = site.variable(key, "below")
        site.rows(key, "floor", lambda t: stored[t] + below[t] >= floor[t])
        site.cost(site.parameter(key, "floor_cost"), below)
        return
    for variable in stored:
        variable.setlb(None)
    site.rows(key, "floor", lambda t: stored[t] >= floor[t])


def add_charging(site: SiteModel, key: str, charge: Vector, discharge: Vector | None, *, least: bool) -> None:
    """least[t] * charging[t] <= charge[t] <= limit[t] * charging[t]; discharge[t] <= limit[t] * (1 - charging[t])."""
    charging = site.binary(key, "charging", direction=True, switches="charge")
    most_in = site.parameters[key, "charge_limit_kw"]
    site.rows(key, "charging", lambda t: charge[t] <= most_in[t] * charging[t])
    if least:
        at_least = site.parameter(key, "least_kw")
        site.rows(key, "least", lambda t: charge[t] >= at_least[t] * charging[t])
    if discharge is not None:
        most_out = site.parameters[key, "discharge_limit_kw"]
        site.rows(key, "discharging", lambda t: discharge[t] <= most_out[t] - most_out[t] * charging[t])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VehicleSchedule(StoreSchedule):
    """What a vehicle does; `stored_kwh` stands still before arrival and after departure."""

    missing_kwh: float
    """Wished and not there at departure [kWh]."""
