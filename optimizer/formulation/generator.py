"""Generators that burn something: engine, CHP, fuel cell. Starts, minimum load, ramps, minimum times, heat."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import BoolArray, Check, FloatArray, Series, freeze
from optimizer.formulation.builder import SiteModel, Values, Vector
from optimizer.formulation.site import ramp, slope_of
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Generator(Asset):
    """A generator with unit commitment; without minimum load, costs and times of starting it stays linear."""

    limit_kw: Series
    """Electric power at most [kW], scalar or (T,)."""
    fuel_per_kwh: Series
    """Fuel for one more kWh of electricity [currency/kWh], scalar or (T,)."""
    least_kw: float = 0.0
    """Electric power at least while it runs [kW]."""
    ramp_kw_per_h: float = np.inf
    """Change of power at most [kW/h]; a start may jump to `least_kw`, a stop may fall from it."""
    start_cost: float = 0.0
    """Cost of one start [currency]."""
    running_cost_per_h: float = 0.0
    """Cost of running at all [currency/h]."""
    min_up_h: float = 0.0
    """Least time from start to stop [h]."""
    min_down_h: float = 0.0
    """Least time from stop to start [h]."""
    power_now_kw: float = 0.0
    """Power just before the horizon [kW]; above 0 means it runs."""
    in_state_h: float = np.inf
    """How long it has been running, or standing [h]."""
    heat_per_kwh: float = 0.0
    """Usable heat per electricity; what nobody takes goes to the cooler."""
    heat_node: str | None = None
    """Heat node it feeds."""

    def __post_init__(self) -> None:
        freeze(
            self,
            "limit_kw",
            "fuel_per_kwh",
            "least_kw",
            "ramp_kw_per_h",
            "start_cost",
            "running_cost_per_h",
            "min_up_h",
            "min_down_h",
            "power_now_kw",
            "in_state_h",
            "heat_per_kwh",
        )

    def validate(self, check: Check) -> None:
        """Nothing negative."""
        for name in (
            "limit_kw",
            "fuel_per_kwh",
            "least_kw",
            "start_cost",
            "running_cost_per_h",
            "power_now_kw",
        ):
            check.number(name, getattr(self, name), least=0.0)
        for name in ("min_up_h", "min_down_h", "heat_per_kwh"):
            check.number(name, getattr(self, name), least=0.0)
        for name in ("ramp_kw_per_h", "in_state_h"):
            check.number(name, getattr(self, name), least=0.0, endless=True)

    @property
    def commits(self) -> bool:
        """True if being on or off matters."""
        return any((self.least_kw, self.start_cost, self.running_cost_per_h, self.min_up_h, self.min_down_h))

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Whether it commits, ramps, heats; and where the windows of its minimum times begin."""
        return GeneratorShape(
            commits=self.commits,
            ramps=self.ramp_kw_per_h < np.inf,
            node=None if self.heat_node is None else problem.heat_node(self.heat_node),
            up=_windows(problem.hours, self.min_up_h) if self.commits else (),
            down=_windows(problem.hours, self.min_down_h) if self.commits else (),
        )

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a generator."""
        power = site.variable(key, "power")
        start: Vector | None = None
        stop: Vector | None = None
        most = site.parameter(key, "limit_kw")
        if shape.commits:
            on = site.binary(key, "on", bounded=False)
            start, stop = site.variable(key, "start"), site.variable(key, "stop")
            add_commitment(site, key, on, start, stop)
            add_minimum_times(site, key, on, start, stop, up=shape.up, down=shape.down)
            add_load_range(site, key, power, on, most)
            site.cost(site.parameter(key, "start_cost"), start)
            site.cost(site.parameter(key, "on_cost"), on)
        else:
            site.rows(key, "limit", lambda t: power[t] <= most[t])
        if shape.ramps:
            add_ramps(site, key, power, start, stop)
        if shape.node is not None:
            heat = site.variable(key, "heat")
            add_recovered_heat(site, key, power, heat)
            site.feed_heat(shape.node, heat)
        site.cost(site.parameter(key, "power_cost"), power)
        site.prefer(key, "power", power)
        site.feed(key, power)

    def _least(self) -> Series:
        return np.minimum(self.least_kw, self.limit_kw)

    def _ramps(self, problem: DispatchProblem) -> tuple[FloatArray, FloatArray]:
        """Rise and fall at most per interval [kW], (T,); never less than what changing limits force."""
        n = problem.intervals
        step = self.ramp_kw_per_h * problem.hours
        most = np.broadcast_to(self.limit_kw, n)
        least = np.broadcast_to(self._least(), n)
        before = np.concatenate(([self._now()], most[:-1]))
        beneath = np.concatenate(([self._now()], least[:-1]))
        return np.maximum(step, least - beneath), np.maximum(step, before - most)

    def _now(self) -> float:
        """Power before the horizon, as far as the limit of the first interval knows it."""
        return min(self.power_now_kw, float(np.max(self.limit_kw)))

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        hours = problem.hours
        numbers: dict[str, Series] = {
            "limit_kw": self.limit_kw,
            "power_cost": hours * self.fuel_per_kwh,
            "tie_power": ramp(problem, slope_of(self.name, "power")),
            "heat_per_kwh": self.heat_per_kwh,
        }
        if self.commits:
            runs = self.power_now_kw > 0.0
            since = np.concatenate(([0.0], np.cumsum(hours)[:-1])) + self.in_state_h + 1e-9
            numbers |= {
                "least_kw": self._least(),
                "on_now": float(runs),
                "must_run": np.where(runs & (since < self.min_up_h), 1.0, 0.0),
                "may_run": np.where((not runs) & (since < self.min_down_h), 0.0, 1.0),
                "start_cost": self.start_cost,
                "on_cost": hours * self.running_cost_per_h,
            }
        if self.ramp_kw_per_h < np.inf:
            rise, fall = self._ramps(problem)
            now = self._now()
            numbers |= {
                "rise_kw": rise[1:],
                "fall_kw": fall[1:],
                "first_most_kw": now + rise[0],
                "first_least_kw": now - fall[0],
                "jump_kw": self._least(),
            }
        return numbers

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """Its limit, out."""
        return 0.0, self.limit_kw

    def heat_reach(self, problem: DispatchProblem) -> Series:
        """What it gives at its limit."""
        return 0.0 if self.heat_node is None else np.multiply(self.heat_per_kwh, self.limit_kw)

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Everywhere, if it is half on."""
        if not self.commits:
            return {}
        on = values.column("on")
        return {"on": np.full(on.shape, bool(np.any(np.abs(on - np.round(on)) > 1e-6)))}

    def read(self, problem: DispatchProblem, values: Values) -> GeneratorSchedule:
        """Power, heat and whether it is on."""
        power = values.column("power")
        on = values.column("on") > 0.5 if self.commits else power > 1e-9
        heat = values.column("heat") if self.heat_node is not None else 0.0
        return GeneratorSchedule(
            name=self.name, net_consumption_kw=-power, heat_node=self.heat_node, net_heat_kw=heat, on=on
        )

    def audit(self, problem: DispatchProblem, schedule: GeneratorSchedule, report: AuditReport) -> None:
        """Load range, ramps, minimum times walked through one by one; fuel, running and starts."""
        power, on, hours, name = -schedule.net_consumption_kw, schedule.on, problem.hours, self.name
        report.within(name, "limit", power, most=np.where(on, self.limit_kw, 0.0))
        report.within(name, "least", power, least=np.where(on, np.minimum(self.least_kw, self.limit_kw), 0.0))
        runs = self.power_now_kw > 0.0
        was_on = np.concatenate(([runs], on[:-1]))
        starts, stops = on & ~was_on, ~on & was_on
        if self.commits:
            self._audit_times(problem, on, report)
        if self.ramp_kw_per_h < np.inf:
            before = np.concatenate(([self._now()], power[:-1]))
            rise, fall = self._ramps(problem)
            jump = np.minimum(self.least_kw, self.limit_kw)
            report.within(name, "ramp_up", power - before, least=-np.inf, most=rise + starts * jump)
            report.within(name, "ramp_down", before - power, least=-np.inf, most=fall + stops * jump)
        if self.heat_node is not None:
            report.within(name, "heat", np.asarray(schedule.net_heat_kw), most=self.heat_per_kwh * power)
        report.charge("fuel", name, float(np.sum(hours * power * self.fuel_per_kwh)))
        if self.commits:
            report.charge("running", name, self.running_cost_per_h * float(hours @ on))
            report.charge("start", name, self.start_cost * int(starts.sum()))

    def _audit_times(self, problem: DispatchProblem, on: BoolArray, report: AuditReport) -> None:
        """Every stay in one state lasts long enough, up to the end of the horizon."""
        state, since = self.power_now_kw > 0.0, self.in_state_h
        short = np.zeros(problem.intervals)
        for t in range(problem.intervals):
            if bool(on[t]) != state:
                short[t] = max(0.0, (self.min_up_h if state else self.min_down_h) - since - 1e-6)
                state, since = bool(on[t]), 0.0
            since += float(problem.hours[t])
        report.zero(self.name, "minimum_time", short)


@dataclass(frozen=True, slots=True)
class GeneratorShape:
    """Structure of a generator's equations."""

    commits: bool
    ramps: bool
    node: int | None
    up: tuple[int, ...]
    down: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneratorSchedule(AssetSchedule):
    """What a generator does; its power stands in `net_consumption_kw`, negative."""

    on: BoolArray
    """Whether it runs, (T,)."""


def _windows(hours: FloatArray, least_h: float) -> tuple[int, ...]:
    """Per interval: the first interval in which a change still binds it, (T,)."""
    begins = np.concatenate(([0.0], np.cumsum(hours)[:-1]))
    first = np.searchsorted(begins, begins - least_h + 1e-9, side="left")
    return tuple(int(min(k, t)) for t, k in enumerate(first))


def add_commitment(site: SiteModel, key: str, on: Vector, start: Vector, stop: Vector) -> None:
    """on[t] - on[t-1] = start[t] - stop[t]; must_run[t] <= on[t] <= may_run[t] (what its past still asks for)."""
    now = site.parameter(key, "on_now", 1)
    must, may = site.parameter(key, "must_run"), site.parameter(key, "may_run")
    for variable in on:
        variable.setlb(None)
    site.rows(key, "must_run", lambda t: on[t] >= must[t])
    site.rows(key, "may_run", lambda t: on[t] <= may[t])
    site.rows(
        key,
        "commitment",
        lambda t: (
            on[0] - start[0] + stop[0] == now[0] if t == 0 else on[t] - on[t - 1] - start[t] + stop[t] == 0.0
        ),
    )


def add_minimum_times(
    site: SiteModel,
    key: str,
    on: Vector,
    start: Vector,
    stop: Vector,
    *,
    up: tuple[int, ...],
    down: tuple[int, ...],
) -> None:
    """Minimum times: sum of starts in the last min_up hours <= on[t]; sum of stops in the last min_down hours <= 1 - on[t].

    Rajan and Takriti, "Minimum Up/Down Polytopes of the Unit Commitment Problem with Start-Up Costs", IBM RC23628
    (2005): with these rows starts and stops are whole as soon as `on` is.
    """
    site.rows(key, "min_up", lambda t: sum(start[k] for k in range(up[t], t + 1)) <= on[t])
    site.rows(key, "min_down", lambda t: sum(stop[k] for k in range(down[t], t + 1)) <= 1.0 - on[t])


def add_load_range(site: SiteModel, key: str, power: Vector, on: Vector, most: Vector) -> None:
    """least[t] * on[t] <= power[t] <= limit[t] * on[t]; said once more as a bound: power[t] <= limit[t]."""
    least = site.parameter(key, "least_kw")
    site.rows(key, "rating", lambda t: power[t] <= most[t])
    site.rows(key, "least", lambda t: power[t] >= least[t] * on[t])
    site.rows(key, "limit", lambda t: power[t] <= most[t] * on[t])


def add_ramps(site: SiteModel, key: str, power: Vector, start: Vector | None, stop: Vector | None) -> None:
    """power[t] - power[t-1] <= rise[t] + least[t] * start[t]; power[t-1] - power[t] <= fall[t] + least[t] * stop[t]."""
    rise, fall = (site.parameter(key, name, site.intervals - 1) for name in ("rise_kw", "fall_kw"))
    first_most = site.parameter(key, "first_most_kw", 1)
    first_least = site.parameter(key, "first_least_kw", 1)
    jump = site.parameter(key, "jump_kw")
    jumps = [jump[t] * start[t] if start is not None else 0.0 for t in range(site.intervals)]
    drops = [jump[t] * stop[t] if stop is not None else 0.0 for t in range(site.intervals)]
    site.rows(
        key,
        "ramp_up",
        lambda t: (
            power[0] - jumps[0] <= first_most[0]
            if t == 0
            else power[t] - power[t - 1] - jumps[t] <= rise[t - 1]
        ),
    )
    site.rows(
        key,
        "ramp_down",
        lambda t: (
            power[0] + drops[0] >= first_least[0]
            if t == 0
            else power[t - 1] - power[t] - drops[t] <= fall[t - 1]
        ),
    )


def add_recovered_heat(site: SiteModel, key: str, power: Vector, heat: Vector) -> None:
    """heat[t] <= heat_per_kwh * power[t]; the rest goes to the cooler."""
    ratio = site.parameter(key, "heat_per_kwh")
    site.rows(key, "heat", lambda t: heat[t] - ratio[t] * power[t] <= 0.0)
