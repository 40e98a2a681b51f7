"""Loads that can wait: whole runs with a profile (washing, drying) and interruptible ones (pump, boiler, pool)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import BoolArray, Check, FloatArray, Series, freeze
from optimizer.formulation.builder import SiteModel, Values, Vector, add_least_power, least_share, weak_power
from optimizer.formulation.site import ramp, slope_of
from optimizer.ladder import LADDER
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShiftableRun(Asset):
    """A run that starts once and then goes through; it begins at the start of an interval."""

    profile_kw: FloatArray
    """Power of each step of the run [kW], (steps,)."""
    step_h: float
    """Length of one step of the profile [h]."""
    earliest: float = 0.0
    """First interval in which it may start."""
    latest_end: float | None = None
    """Fence post by which it must be over, counted in intervals; None: the end of the horizon."""
    not_during: Series = 0.0
    """1 in intervals in which it must not run, else 0, scalar or (T,)."""
    wish_price_per_kwh: float | None = None
    """Price of each kWh of a run that does not happen [currency/kWh]; None takes the ladder's `unfinished_run`."""

    def __post_init__(self) -> None:
        freeze(self, "profile_kw", "step_h", "earliest", "latest_end", "not_during", "wish_price_per_kwh")

    def validate(self, check: Check) -> None:
        """Profile not negative."""
        if (
            not isinstance(self.profile_kw, np.ndarray)
            or self.profile_kw.ndim != 1
            or not self.profile_kw.size
        ):
            check.refuse("profile_kw", self.profile_kw, "give one power per step of the run")
        check.number("profile_kw", self.profile_kw, least=0.0, length=self.profile_kw.size)
        check.number("step_h", self.step_h, above=0.0)
        check.number("earliest", self.earliest)
        check.number("not_during", self.not_during, least=0.0, most=1.0)
        if self.latest_end is not None:
            check.number("latest_end", self.latest_end)

    def shape(self, problem: DispatchProblem) -> Hashable:
        """How many intervals one run can touch."""
        length = self.profile_kw.size * self.step_h
        ends = np.concatenate(([0.0], np.cumsum(problem.hours)))
        last = np.searchsorted(ends, ends[:-1] + length - 1e-9)
        return int(np.max(np.minimum(last, problem.intervals) - np.arange(problem.intervals)))

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a run."""
        start = site.binary(key, "start", once=True, bounded=False)
        skipped = site.variable(key, "skipped", 1)
        add_start_window(site, key, start, skipped)
        site.feed(key, run_power(site, key, start, span=shape))
        site.cost(site.parameter(key, "skipped_cost", 1), skipped)
        site.prefer(key, "start", start)

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        power, allowed = self.starts(problem)
        numbers: dict[str, Series] = {
            "allowed": allowed.astype(np.float64),
            "skipped_cost": self._price(problem) * self.energy_kwh,
            "tie_start": ramp(problem, slope_of(self.name, "start")) * self.energy_kwh / problem.hours,
        }
        for j in range(power.shape[1]):
            numbers[f"power{j}_kw"] = power[:, j]
        return numbers

    @property
    def energy_kwh(self) -> float:
        """Energy of one run [kWh]."""
        return float(self.profile_kw.sum() * self.step_h)

    def starts(self, problem: DispatchProblem) -> tuple[FloatArray, BoolArray]:
        """Mean power in the j-th interval of a run that starts in interval k [kW], (T, span); and may it start there."""
        n, hours = problem.intervals, problem.hours
        posts = np.concatenate(([0.0], np.cumsum(hours)))
        length = self.profile_kw.size * self.step_h
        span = self.shape(problem)
        assert isinstance(span, int)  # noqa: S101 - narrows what `shape` returns as Hashable
        done = np.concatenate(([0.0], np.cumsum(self.profile_kw) * self.step_h))
        steps = np.arange(done.size) * self.step_h
        k = np.arange(n)[:, None]
        post = np.minimum(k + np.arange(span + 1), n)
        energy = np.diff(np.interp(posts[post] - posts[k], steps, done), axis=1)
        power = energy / hours[np.minimum(k + np.arange(span), n - 1)]
        latest = float(n) if self.latest_end is None else min(float(n), self.latest_end)
        over = np.interp(latest, np.arange(n + 1), posts)
        banned = np.concatenate((np.broadcast_to(self.not_during, n) > 0.0, np.zeros(span, dtype=bool)))
        clash = (banned[k + np.arange(span)] & (power > 0.0)).any(axis=1)
        allowed = (np.arange(n) >= self.earliest) & (posts[:-1] + length <= over + 1e-9) & ~clash
        return power, allowed

    def _price(self, problem: DispatchProblem) -> float:
        if self.wish_price_per_kwh is not None:
            return self.wish_price_per_kwh
        return LADDER.unfinished_run * problem.price_scale

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """The highest step."""
        return float(self.profile_kw.max()), 0.0

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Everywhere, if it starts in pieces."""
        start = values.column("start")
        return {"start": np.full(start.shape, bool(np.any(np.abs(start - np.round(start)) > 1e-6)))}

    def read(self, problem: DispatchProblem, values: Values) -> ShiftableRunSchedule:
        """When it starts and what it draws."""
        start = values.column("start")
        power, _ = self.starts(problem)
        drawn = np.zeros(problem.intervals)
        for j in range(power.shape[1]):
            drawn[j:] += (power[:, j] * start)[: problem.intervals - j]
        begins = int(np.argmax(start)) if start.max() > 0.5 else None
        return ShiftableRunSchedule(name=self.name, net_consumption_kw=drawn, start_interval=begins)

    def audit(self, problem: DispatchProblem, schedule: ShiftableRunSchedule, report: AuditReport) -> None:
        """One uninterrupted run inside its window, or none and its price."""
        drawn = schedule.net_consumption_kw
        if schedule.start_interval is None:
            report.zero(self.name, "no_run", drawn)
            missing = np.array([self.energy_kwh])
            report.wish("unfinished_run", self.name, missing, 1.0, self._price(problem))
            return
        begin = schedule.start_interval
        posts = np.concatenate(([0.0], np.cumsum(problem.hours))) - float(problem.hours[:begin].sum())
        end = self.profile_kw.size * self.step_h
        want = np.zeros(problem.intervals)
        for step, power in enumerate(self.profile_kw):
            since, until = step * self.step_h, (step + 1) * self.step_h
            overlap = np.minimum(posts[1:], until) - np.maximum(posts[:-1], since)
            want += power * np.maximum(overlap, 0.0) / problem.hours
        report.zero(self.name, "profile", drawn - want)
        latest = problem.intervals if self.latest_end is None else min(problem.intervals, self.latest_end)
        over = float(np.interp(latest, np.arange(problem.intervals + 1), posts))
        report.within(self.name, "window", np.array([float(begin)]), least=self.earliest)
        report.within(self.name, "window", np.array([end]), most=over + 1e-9, unit="kWh")
        report.zero(self.name, "not_during", drawn * np.broadcast_to(self.not_during, problem.intervals))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShiftableRunSchedule(AssetSchedule):
    """What a run does; its power stands in `net_consumption_kw`."""

    start_interval: int | None
    """Interval in which it starts; None if it does not run."""


def add_start_window(site: SiteModel, key: str, start: Vector, skipped: Vector) -> None:
    """Once: sum_k start_k + skipped = 1, 0 <= start_k <= allowed_k; allowed_k = 0 outside the window."""
    allowed = site.parameter(key, "allowed")
    site.rows(key, "allowed", lambda k: start[k] <= allowed[k])
    site.rows(key, "once", lambda _: sum(start) + skipped[0] == 1.0, over=[0])


def run_power(site: SiteModel, key: str, start: Vector, *, span: int) -> list[Any]:
    """-power[t] = -sum_j power_j[t-j] * start[t-j]: what a run that started j intervals ago draws now."""
    shares = [site.parameter(key, f"power{j}_kw") for j in range(span)]
    return [
        -sum(shares[j][t - j] * start[t - j] for j in range(min(span, t + 1))) for t in range(site.intervals)
    ]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlexibleLoad(Asset):
    """An interruptible load that needs an amount of energy inside a window."""

    energy_kwh: float
    """Energy it still needs [kWh]."""
    limit_kw: Series
    """Power it can draw [kW], scalar or (T,)."""
    least_kw: float = 0.0
    """Least power when it runs [kW]; equal to `limit_kw` for a load that is on or off."""
    available: Series = 1.0
    """Share of each interval in which it may run, scalar or (T,); 0 outside its window."""
    wish_price_per_kwh: float | None = None
    """Price of each missing kWh [currency/kWh]; None takes the ladder's `unfinished_run`; a low one makes it optional."""

    def __post_init__(self) -> None:
        freeze(self, "energy_kwh", "limit_kw", "least_kw", "available", "wish_price_per_kwh")

    def validate(self, check: Check) -> None:
        """Energy and power not negative."""
        for name in ("energy_kwh", "limit_kw", "least_kw"):
            check.number(name, getattr(self, name), least=0.0)
        check.number("available", self.available, least=0.0, most=1.0)
        if self.least_kw > float(np.max(self.limit_kw)):
            check.refuse("least_kw", self.least_kw, "must not exceed limit_kw")

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Whether it has a least power."""
        return self.least_kw > 0.0

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write an interruptible load."""
        power = site.variable(key, "power")
        missing = site.variable(key, "missing", 1)
        most = site.parameter(key, "limit_kw")
        add_energy_wish(site, key, power, most, missing)
        if shape and site.asks_whole(key, "on"):
            add_least_power(site, key, power, most)
        site.feed(key, [-power[t] for t in range(site.intervals)])
        site.cost(site.parameter(key, "missing_cost", 1), missing)
        site.prefer(key, "power", power)

    def _limit(self) -> Series:
        return np.multiply(self.available, self.limit_kw)

    def _least(self) -> Series:
        return np.multiply(self.available, np.minimum(self.least_kw, self.limit_kw))

    def _price(self, problem: DispatchProblem) -> float:
        if self.wish_price_per_kwh is not None:
            return self.wish_price_per_kwh
        return LADDER.unfinished_run * problem.price_scale

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        return {
            "limit_kw": self._limit(),
            "least_kw": self._least(),
            "counted_h": problem.hours,
            "energy_kwh": self.energy_kwh,
            "missing_cost": self._price(problem),
            "tie_power": ramp(problem, slope_of(self.name, "power")),
        }

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """Its limit."""
        return self._limit(), 0.0

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Where it runs below its least power."""
        return {"on": weak_power(values.column("power"), self._least())}

    def shares(self, problem: DispatchProblem, values: Values) -> Mapping[str, FloatArray]:
        """Intervals at its least power that its power is worth."""
        return {"on": least_share(values.column("power"), self._least())}

    def read(self, problem: DispatchProblem, values: Values) -> FlexibleLoadSchedule:
        """Power and what is missing."""
        power = values.column("power")
        missing = max(0.0, self.energy_kwh - float(problem.hours @ power))
        return FlexibleLoadSchedule(name=self.name, net_consumption_kw=power, missing_kwh=missing)

    def audit(self, problem: DispatchProblem, schedule: FlexibleLoadSchedule, report: AuditReport) -> None:
        """Inside its window and limits, not more energy than asked for; what is missing and what it costs."""
        power = schedule.net_consumption_kw
        share = np.broadcast_to(self.available, problem.intervals)
        report.within(self.name, "limit", power, most=share * self.limit_kw)
        least = share * np.minimum(self.least_kw, self.limit_kw)
        report.apart(self.name, "least_power", power, least - power)
        got = float(np.sum(problem.hours * power))
        report.within(self.name, "energy", np.array([got]), most=self.energy_kwh, unit="kWh")
        missing = np.array([self.energy_kwh - got])
        report.wish("unfinished_run", self.name, missing, 1.0, self._price(problem))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlexibleLoadSchedule(AssetSchedule):
    """What an interruptible load does; its power stands in `net_consumption_kw`."""

    missing_kwh: float
    """Energy it does not get [kWh]."""


def add_energy_wish(site: SiteModel, key: str, power: Vector, most: Vector, missing: Vector) -> None:
    """Energy: sum_t hours[t] * power[t] + missing = energy; power[t] <= available[t] * limit[t]."""
    counted = site.parameter(key, "counted_h")
    energy = site.parameter(key, "energy_kwh", 1)
    site.rows(key, "limit", lambda t: power[t] <= most[t])
    site.rows(
        key,
        "energy",
        lambda _: sum(counted[t] * power[t] for t in range(site.intervals)) + missing[0] == energy[0],
        over=[0],
    )
