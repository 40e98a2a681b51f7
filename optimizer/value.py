"""The fast loop's answer from the worth of stored energy, where one battery is all there is to decide.

What energy in the battery is worth after the first interval is found once (`worth.py`), from what every later interval can
do with it. Afterwards the first interval has one free power, the battery's, and the best one lies where some slope changes:
those few points are compared. With one sure course of the day this is the decision of a new solve of the compiled model
(tested), whose own parameters are read here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np

from optimizer.arrays import FloatArray, Series
from optimizer.fast import FirstInterval, WarmDispatch
from optimizer.formulation.battery import Battery
from optimizer.formulation.inverter import HybridInverter
from optimizer.formulation.pv import Pv
from optimizer.formulation.site import limit_price, site_parameters, site_shape
from optimizer.moment import Moments
from optimizer.problem import DispatchProblem
from optimizer.solution import Outcome
from optimizer.worth import SAME_KWH, Band, Moves, StoredWorth, worth_after_first

_APART_KW = 1e-9
"""Battery powers nearer to each other than this are one candidate [kW]."""
_TINY_KW = 1e-9

_Hours = TypeVar("_Hours", float, FloatArray)


@dataclass(frozen=True, kw_only=True, slots=True)
class _First:
    """Constants of the first interval, as in `Moments`."""

    hours: float
    import_cost: float
    """Per kW [currency]."""
    export_gain: float
    """Per kW."""
    excess_cost: float
    """Per kW above a limit of the connection."""
    import_limit_kw: float
    export_limit_kw: float
    charge_cost: float
    """Per kW."""
    discharge_cost: float
    """Per kW."""
    used_cost: float
    """Per kW of solar power used; below 0, as use is preferred."""
    to_ac_cost: float
    to_dc_cost: float
    charge_limit_kw: float
    discharge_limit_kw: float
    rating_kw: float
    """Of the hybrid inverter; endless without one."""
    to_ac_eff: float
    to_dc_eff: float
    draws_from_bus: bool


class ValuedDispatch:
    """One site between two plans, answered from the worth of its stored energy. Not safe for two threads at once.

    It answers as `WarmDispatch` does, and asks it where one battery is not all there is to decide: a vehicle, several
    batteries or roofs, wear by depth, prices that make buying and selling at once pay, events with a reward.

    Parameters
    ----------
    problem
        The site and its horizon.
    besides
        What may come instead, with its probability: the same site with another load and another sun. `problem` keeps the
        probability that is left. Where every call is a solve, `problem` alone counts.
    half_life_h
        Time in which the odds that the day still is on the course it is on fall to half [h]; it goes on along any of the
        courses then, by their probability. Endless: each course is known to its end once it has begun.
    worth
        What stored energy is worth after the first interval, where that is known already; then `besides` is not asked.
    """

    def __init__(
        self,
        problem: DispatchProblem,
        besides: Sequence[tuple[float, DispatchProblem]] = (),
        *,
        half_life_h: float = inf,
        worth: StoredWorth | None = None,
    ) -> None:
        self.problem = problem
        self._warm: WarmDispatch | None = None
        self._solved: StoredWorth | None = None
        parts = _parts(problem)
        if parts is not None:
            self._battery, self._pv, self._inverter = parts
            self._first = _first(_moments(problem, *parts), float(problem.hours[0]))
            self._solved = worth or _expected_worth(problem, besides, half_life_h)
        if self._solved is None:
            self._warm = WarmDispatch(problem)
        else:
            self._knees_kwh: list[float] = self._solved.stored_kwh.tolist()
            self._worths: list[float] = self._solved.worth.tolist()

    @property
    def worth(self) -> StoredWorth | None:
        """Worth of the stored energy after the first interval; None where every call is a solve."""
        return self._solved

    def resolve_first(
        self,
        *,
        load_kw: float | None = None,
        pv_available_kw: Mapping[str, float] | None = None,
        stored_kwh: Mapping[str, float] | None = None,
        import_limit_kw: float | None = None,
        export_limit_kw: float | None = None,
        remaining_h: float | None = None,
    ) -> FirstInterval:
        """Return what `WarmDispatch.resolve_first` would, which see for the parameters."""
        if self._solved is not None:
            found = self._answer(
                load_kw=float(self.problem.load_kw[0]) if load_kw is None else load_kw,
                sun_kw=_named(self._pv, pv_available_kw),
                stored_kwh=(stored_kwh or {}).get(self._battery.name, self._battery.stored_kwh),
                import_limit_kw=self._first.import_limit_kw if import_limit_kw is None else import_limit_kw,
                export_limit_kw=self._first.export_limit_kw if export_limit_kw is None else export_limit_kw,
                hours=self._first.hours if remaining_h is None else remaining_h,
            )
            if found is not None:
                return found
        if self._warm is None:
            self._warm = WarmDispatch(self.problem)
        return self._warm.resolve_first(
            load_kw=load_kw,
            pv_available_kw=pv_available_kw,
            stored_kwh=stored_kwh,
            import_limit_kw=import_limit_kw,
            export_limit_kw=export_limit_kw,
            remaining_h=remaining_h,
        )

    def _answer(
        self,
        *,
        load_kw: float,
        sun_kw: float,
        stored_kwh: float,
        import_limit_kw: float,
        export_limit_kw: float,
        hours: float,
    ) -> FirstInterval | None:
        """Compare the points at which a slope changes; None where more is stored than there is room for."""
        first, battery, worth = self._first, self._battery, self._solved
        held_kwh = min(max(stored_kwh, 0.0), battery.capacity_kwh)
        if worth is None or abs(held_kwh - stored_kwh) > SAME_KWH:
            return None
        stored_kwh = held_kwh
        gain_h, drain_h = _hours_of_power(battery, hours)
        lowest_kw = -min(first.discharge_limit_kw, stored_kwh / drain_h)
        highest_kw = min(first.charge_limit_kw, (battery.capacity_kwh - stored_kwh) / gain_h)
        must_use = self._pv is not None and not self._pv.curtailable and self._pv.inverter is None
        site = _Bus(
            first=first,
            load_kw=load_kw,
            sun_kw=sun_kw,
            least_sun_kw=sun_kw if must_use else 0.0,
            sun_on_dc=self._pv is not None and self._pv.inverter is not None,
            battery_on_dc=battery.inverter is not None,
            import_limit_kw=import_limit_kw,
            export_limit_kw=export_limit_kw,
            levels_kw=tuple(level for level in (0.0, import_limit_kw, -export_limit_kw) if isfinite(level)),
        )
        low_kw, high_kw = site.battery_reach_kw()
        lowest_kw, highest_kw = max(lowest_kw, low_kw), min(highest_kw, high_kw)
        if highest_kw < lowest_kw:
            return None
        begin = bisect_right(self._knees_kwh, stored_kwh + drain_h * lowest_kw)
        end = bisect_right(self._knees_kwh, stored_kwh + gain_h * highest_kw)
        knees_kw = [
            (knee - stored_kwh) / (gain_h if knee > stored_kwh else drain_h)
            for knee in self._knees_kwh[begin:end]
        ]
        wanted = {0.0, lowest_kw, highest_kw, *knees_kw, *site.battery_knees_kw()}
        share = hours / first.hours

        def choice(battery_kw: float) -> _Choice:
            """The best use of the sun with one battery power, and what all of it costs."""
            if battery_kw > 0.0:
                cost, after_kwh = first.charge_cost * battery_kw, stored_kwh + gain_h * battery_kw
            else:
                cost, after_kwh = -first.discharge_cost * battery_kw, stored_kwh + drain_h * battery_kw
            using = site.cheapest(battery_kw)
            return _Choice(share * (cost + using.cost) - self._worth_at(after_kwh), battery_kw, using)

        best = _lowest(choice, _apart(b for b in wanted if lowest_kw <= b <= highest_kw))
        battery_kw, using = best.battery_kw, best.using
        after_kwh = stored_kwh + (gain_h if battery_kw > 0.0 else drain_h) * battery_kw
        per_kwh = worth.per_kwh(after_kwh)
        return self._told(battery_kw, using.used_kw, sun_kw, using.inverter_ac_kw, using.net_kw, per_kwh)

    def _worth_at(self, stored_kwh: float) -> float:
        """Worth at a filling; straight beyond the ends."""
        knees, worths = self._knees_kwh, self._worths
        right = min(max(bisect_right(knees, stored_kwh), 1), len(knees) - 1)
        left = right - 1
        slope = (worths[right] - worths[left]) / (knees[right] - knees[left])
        return worths[left] + slope * (stored_kwh - knees[left])

    def _told(
        self,
        battery_kw: float,
        used_kw: float,
        sun_kw: float,
        inverter_ac_kw: float,
        net_kw: float,
        per_kwh: float,
    ) -> FirstInterval:
        """Put the decision in the words of the fast loop."""
        powers = {self._battery.name: battery_kw}
        curtailed: dict[str, float] = {}
        if self._pv is not None:
            powers[self._pv.name] = -used_kw
            curtailed[self._pv.name] = sun_kw - used_kw
        if self._inverter is not None:
            powers[self._inverter.name] = -inverter_ac_kw
        first = self._first
        if net_kw > _TINY_KW:
            price = first.import_cost / first.hours
        elif net_kw < -_TINY_KW:
            price = first.export_gain / first.hours
        elif battery_kw > 0.0:
            price = per_kwh * self._battery.charge_efficiency_frac
        else:
            price = per_kwh / self._battery.discharge_efficiency_frac
        return FirstInterval(
            outcome=Outcome.OPTIMAL,
            import_kw=max(net_kw, 0.0),
            export_kw=max(-net_kw, 0.0),
            net_consumption_kw=MappingProxyType(powers),
            curtailed_kw=MappingProxyType(curtailed),
            unserved_kw=0.0,
            surplus_kw=0.0,
            bus_price_per_kwh=price,
            stored_value_per_kwh=MappingProxyType({self._battery.name: per_kwh}),
            solver_seconds=0.0,
        )


class _Using(NamedTuple):
    """Use of the sun in one moment, and what flows then."""

    cost: float
    """Of the connection and of the powers on the way, per first interval [currency]."""
    used_kw: float
    inverter_ac_kw: float
    net_kw: float


class _Choice(NamedTuple):
    """One battery power and what comes of it."""

    cost: float
    battery_kw: float
    using: _Using


def _apart(powers_kw: Iterable[float]) -> list[float]:
    """Rising powers; of those nearer to each other than rounding, where the search could not tell down from up, one."""
    kept: list[float] = []
    for power_kw in sorted(powers_kw):
        if not kept or power_kw - kept[-1] > _APART_KW:
            kept.append(power_kw)
    return kept


def _lowest(choice: Callable[[float], _Choice], candidates: Sequence[float]) -> _Choice:
    """The cheapest of rising battery powers; the cost over them is convex."""
    low, high = 0, len(candidates) - 1
    known: dict[int, _Choice] = {}

    def at(index: int) -> _Choice:
        if index not in known:
            known[index] = choice(candidates[index])
        return known[index]

    while low < high:
        middle = (low + high) // 2
        if at(middle).cost <= at(middle + 1).cost:
            high = middle
        else:
            low = middle + 1
    return at(low)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bus:
    """Powers of one moment: what each choice of battery and solar power makes of the connection."""

    first: _First
    load_kw: float
    sun_kw: float
    least_sun_kw: float
    sun_on_dc: bool
    battery_on_dc: bool
    import_limit_kw: float
    export_limit_kw: float
    levels_kw: tuple[float, ...]
    """Net imports at which the price of power changes [kW]."""

    def battery_reach_kw(self) -> tuple[float, float]:
        """Battery powers the hybrid inverter can carry, whatever is done with the sun [kW]."""
        if not self.battery_on_dc:
            return -inf, inf
        taken_kw = self.first.rating_kw if self.first.draws_from_bus else 0.0
        sun_kw = self.sun_kw if self.sun_on_dc else 0.0
        return -self._dc_of(self.first.rating_kw), sun_kw - self._dc_of(-taken_kw)

    def cheapest(self, battery_kw: float) -> _Using:
        """The cheapest use of the sun with one battery power: all of it, unless that costs something."""
        all_of_it = self._using(battery_kw, self.sun_kw)
        free = self.first.import_cost >= 0.0 <= self.first.export_gain
        if all_of_it is not None and free and -all_of_it.net_kw <= self.export_limit_kw:
            return all_of_it
        found = [self._using(battery_kw, used_kw) for used_kw in self.sun_knees_kw(battery_kw)]
        return min(using for using in (all_of_it, *found) if using is not None)

    def _using(self, battery_kw: float, used_kw: float) -> _Using | None:
        """What flows, and what that costs; None beyond the inverter's rating."""
        inverter_ac_kw = self.inverter_ac_kw(battery_kw, used_kw)
        if inverter_ac_kw is None:
            return None
        first, net_kw = self.first, self.net_kw(battery_kw, used_kw, inverter_ac_kw)
        cost = first.used_cost * used_kw
        cost += (first.to_ac_cost if inverter_ac_kw > 0.0 else -first.to_dc_cost) * inverter_ac_kw
        if net_kw > 0.0:
            cost += first.import_cost * net_kw + first.excess_cost * max(net_kw - self.import_limit_kw, 0.0)
        else:
            cost += first.export_gain * net_kw + first.excess_cost * max(-net_kw - self.export_limit_kw, 0.0)
        return _Using(cost, used_kw, inverter_ac_kw, net_kw)

    def inverter_ac_kw(self, battery_kw: float, used_kw: float) -> float | None:
        """AC power the hybrid inverter gives [kW]; None beyond its rating."""
        dc_kw = (used_kw if self.sun_on_dc else 0.0) - (battery_kw if self.battery_on_dc else 0.0)
        ac_kw = dc_kw * self.first.to_ac_eff if dc_kw >= 0.0 else dc_kw / self.first.to_dc_eff
        reach_kw = self.first.rating_kw + _TINY_KW
        if ac_kw > reach_kw or -ac_kw > (reach_kw if self.first.draws_from_bus else _TINY_KW):
            return None
        return ac_kw

    def net_kw(self, battery_kw: float, used_kw: float, inverter_ac_kw: float) -> float:
        """Net import [kW]."""
        net_kw = self.load_kw - inverter_ac_kw
        net_kw += 0.0 if self.battery_on_dc else battery_kw
        net_kw -= 0.0 if self.sun_on_dc else used_kw
        return net_kw if abs(net_kw) > _TINY_KW else 0.0

    def battery_knees_kw(self) -> Iterator[float]:
        """Battery powers at which something changes, with all the sun or none of it used."""
        for used_kw in {self.sun_kw, self.least_sun_kw}:
            bus_kw = self.load_kw - (0.0 if self.sun_on_dc else used_kw)
            dc_kw = used_kw if self.sun_on_dc else 0.0
            if not self.battery_on_dc:
                given_kw = self.inverter_ac_kw(0.0, used_kw) or 0.0
                for level_kw in self.levels_kw:
                    yield level_kw - bus_kw + given_kw
                continue
            for level_kw in self.levels_kw:
                yield dc_kw - self._dc_of(bus_kw - level_kw)
            yield dc_kw
            if isfinite(self.first.rating_kw):
                yield dc_kw - self._dc_of(self.first.rating_kw)
                yield dc_kw - self._dc_of(-self.first.rating_kw)

    def sun_knees_kw(self, battery_kw: float) -> Iterable[float]:
        """Solar powers worth a look with this battery power [kW]."""
        if self.least_sun_kw == self.sun_kw:
            return (self.sun_kw,)
        bus_kw = self.load_kw + (0.0 if self.battery_on_dc else battery_kw)
        found = [self.sun_kw, self.least_sun_kw]
        if self.sun_on_dc:
            dc_kw = battery_kw if self.battery_on_dc else 0.0
            found += [self._dc_of(bus_kw - level_kw) + dc_kw for level_kw in self.levels_kw]
            if isfinite(self.first.rating_kw):
                found.append(self._dc_of(self.first.rating_kw) + dc_kw)
            found.append(dc_kw)
        else:
            given_kw = self.inverter_ac_kw(battery_kw, 0.0) or 0.0
            found += [bus_kw - given_kw - level_kw for level_kw in self.levels_kw]
        return [kw for kw in found if self.least_sun_kw <= kw <= self.sun_kw]

    def _dc_of(self, ac_kw: float) -> float:
        """DC power that gives this AC power [kW]."""
        return ac_kw / self.first.to_ac_eff if ac_kw >= 0.0 else ac_kw * self.first.to_dc_eff


def _named(pv: Pv | None, available_kw: Mapping[str, float] | None) -> float:
    """Solar power there is now [kW]."""
    if pv is None:
        return 0.0
    return float((available_kw or {}).get(pv.name, float(pv.available_kw[0])))


def _parts(problem: DispatchProblem) -> tuple[Battery, Pv | None, HybridInverter | None] | None:
    """The battery and what is around it, where the battery's power is all there is to decide; None elsewhere."""
    batteries, roofs, inverters = problem.of(Battery), problem.of(Pv), problem.of(HybridInverter)
    if len(batteries) != 1 or len(roofs) > 1 or len(inverters) > 1:
        return None
    if len(problem.assets) != len(batteries) + len(roofs) + len(inverters):
        return None
    battery = batteries[0]
    grid, prices = problem.grid, problem.prices
    plain = not (
        problem.tariffs
        or problem.demand_charges
        or problem.demand_responses
        or problem.capacity_limits
        or problem.change_costs
        or battery.wear_segments
        or battery.standby_loss_frac_per_h
        or battery.asked_kw is not None
        or battery.stored_kwh > battery.capacity_kwh
        or np.min(grid.import_rating_kw) < inf
        or np.min(grid.export_rating_kw) < inf
        or problem.intervals < 2
        or battery.capacity_kwh <= 0.0
    )
    if not plain or np.any(np.asarray(prices.export_per_kwh) > prices.import_per_kwh):
        return None
    return battery, roofs[0] if roofs else None, inverters[0] if inverters else None


def _first(moments: Moments, hours: float) -> _First:
    """Take the first interval's numbers out of all."""
    return _First(
        hours=hours,
        import_cost=float(moments.import_cost[0, 0]),
        export_gain=float(moments.export_gain[0, 0]),
        excess_cost=float(moments.excess_cost[0, 0]),
        import_limit_kw=float(moments.import_limit_kw[0, 0]),
        export_limit_kw=float(moments.export_limit_kw[0, 0]),
        charge_cost=float(moments.charge_cost[0, 0]),
        discharge_cost=float(moments.discharge_cost[0, 0]),
        used_cost=float(moments.used_cost[0, 0]),
        to_ac_cost=float(moments.to_ac_cost[0, 0]),
        to_dc_cost=float(moments.to_dc_cost[0, 0]),
        charge_limit_kw=float(moments.charge_limit_kw[0, 0]),
        discharge_limit_kw=float(moments.discharge_limit_kw[0, 0]),
        rating_kw=float(moments.rating_kw[0, 0]),
        to_ac_eff=moments.to_ac_eff,
        to_dc_eff=moments.to_dc_eff,
        draws_from_bus=moments.draws_from_bus,
    )


def _moments(
    problem: DispatchProblem, battery: Battery, pv: Pv | None, inverter: HybridInverter | None
) -> Moments:
    """Read every interval's numbers where the compiled model reads them."""
    money = site_parameters(problem, site_shape(problem, soft=True))["grid"]
    storing = battery.parameters(problem)
    using = {} if pv is None else pv.parameters(problem)
    passing = {} if inverter is None else inverter.parameters(problem)

    def column(series: Series) -> FloatArray:
        return np.broadcast_to(np.asarray(series, dtype=np.float64), problem.intervals)[:, None]

    sun_kw = column(0.0 if pv is None else pv.available_kw)
    return Moments(
        load_kw=column(problem.load_kw),
        sun_kw=sun_kw,
        import_cost=column(np.asarray(money["import_cost"]) + money["tie_import"]),
        export_gain=column(-np.asarray(money["export_cost"]) - money["tie_export"]),
        excess_cost=column(limit_price(problem) * problem.hours),
        import_limit_kw=column(problem.grid.import_limit_kw),
        export_limit_kw=column(problem.grid.export_limit_kw),
        charge_cost=column(storing["tie_charge"]),
        discharge_cost=column(np.asarray(storing["tie_discharge"]) + storing["discharge_cost"]),
        used_cost=column(using.get("tie_used", 0.0)),
        to_ac_cost=column(passing.get("tie_to_ac", 0.0)),
        to_dc_cost=column(passing.get("tie_to_dc", 0.0)),
        charge_limit_kw=column(battery.charge_limit_kw),
        discharge_limit_kw=column(battery.discharge_limit_kw),
        rating_kw=column(np.inf if inverter is None else inverter.rating_kw),
        to_ac_eff=1.0 if inverter is None else inverter.to_ac_efficiency_frac,
        to_dc_eff=1.0 if inverter is None else inverter.to_dc_efficiency_frac,
        draws_from_bus=True if inverter is None else inverter.draws_from_bus,
        curtailable=pv is not None and (pv.curtailable or pv.inverter is not None),
        sun_on_dc=pv is not None and pv.inverter is not None,
        battery_on_dc=battery.inverter is not None,
    )


def _expected_worth(
    problem: DispatchProblem, besides: Sequence[tuple[float, DispatchProblem]], half_life_h: float
) -> StoredWorth | None:
    """Worth of stored energy after the first interval, with all in mind that may come; None where it has none of its own."""
    courses = [(1.0 - sum(weight for weight, _ in besides), problem), *besides]
    moves, battery = [], problem.of(Battery)[0]
    for _, course in courses:
        parts = _parts(course)
        if parts is None:
            return None
        moves.append(_moves(_moments(course, *parts), battery, course.hours[:, None]))
    storing = battery.parameters(problem)
    floor_kwh, floor_cost, ceiling_kwh, ceiling_cost, end_cost = (
        np.broadcast_to(storing[name], problem.intervals)
        for name in ("floor_kwh", "floor_cost", "ceiling_kwh", "ceiling_cost", "end_cost")
    )
    return worth_after_first(
        Moves(*(np.stack(series, axis=1) for series in zip(*moves, strict=True))),
        np.array([weight for weight, _ in courses]),
        np.exp2(-problem.hours / half_life_h),
        capacity_kwh=battery.capacity_kwh,
        band=Band(
            floor_kwh=floor_kwh, floor_cost=floor_cost, ceiling_kwh=ceiling_kwh, ceiling_cost=ceiling_cost
        ),
        end_value_per_kwh=-float(end_cost[-1]),
    )


def _moves(moments: Moments, battery: Battery, hours: FloatArray) -> Moves:
    """What each interval can do with stored energy: the cost of the site at each of its bends."""
    low_kw, high_kw = moments.reach_kw()
    wanted_kw = np.concatenate([moments.bends_kw(), np.zeros_like(low_kw), low_kw, high_kw], axis=1)
    powers_kw = -np.sort(-np.clip(wanted_kw, low_kw, high_kw), axis=1)
    gain_h, drain_h = _hours_of_power(battery, hours)
    moved_kwh = powers_kw * np.where(powers_kw > 0.0, gain_h, drain_h)
    gains = -moments.cost(powers_kw)
    pieces_kwh = -np.diff(moved_kwh, axis=1)
    apart = pieces_kwh > SAME_KWH
    gains_per_kwh = np.divide(np.diff(gains, axis=1), pieces_kwh, out=np.zeros_like(pieces_kwh), where=apart)
    return Moves(moved_kwh[:, 0], gains[:, 0], np.where(apart, pieces_kwh, 0.0), gains_per_kwh)


def _hours_of_power(battery: Battery, hours: _Hours) -> tuple[_Hours, _Hours]:
    """What a kW charged adds to the store, and a kW discharged takes from it [kWh/kW]."""
    return hours * battery.charge_efficiency_frac, hours / battery.discharge_efficiency_frac
