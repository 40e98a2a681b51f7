"""Why the plan is as it is, as data: binding limits, and one reason per asset and interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from optimizer.arrays import FloatArray
from optimizer.formulation.appliance import FlexibleLoad, ShiftableRun
from optimizer.formulation.battery import Battery
from optimizer.formulation.generator import Generator, GeneratorSchedule
from optimizer.formulation.heat import HeatPump
from optimizer.formulation.inverter import HybridInverter, InverterSchedule
from optimizer.formulation.pv import PvSchedule
from optimizer.formulation.vehicle import Vehicle, VehicleSchedule
from optimizer.solution import AssetSchedule, StoreSchedule

if TYPE_CHECKING:
    from optimizer.solution import DispatchSolution


SMALL_KWH = 1e-4
"""Energy below this deserves no sentence [kWh]."""

TOUCH = 1e-6
"""Distance at which a limit counts as touched [kW, kWh]."""


class Why(StrEnum):
    """Kinds of reasons; the dashboard turns each into a sentence."""

    STORED_FOR_LATER = "stored_for_later"
    """Charged now because the energy is worth more in `until_interval`."""
    USED_FROM_STORE = "used_from_store"
    """Discharged now instead of buying at the bus price."""
    SOLD_FROM_STORE = "sold_from_store"
    """Discharged now and exported."""
    KEPT_FOR_LATER = "kept_for_later"
    """Idle although energy is there: worth more in `until_interval`."""
    CURTAILED = "curtailed"
    """Generation cut because the bus price is not positive or a limit binds."""
    RUNS_NOW = "runs_now"
    """A flexible load or a heat pump runs here: `saves` is against the mean price of the intervals it could have used."""
    GENERATED = "generated"
    """A generator runs: `saves` is against buying its electricity, fuel and running cost taken off, its heat left out."""
    CUT = "cut"
    """A load gets less than it asks for (shed, dimmed): what it would have drawn was worth more than its own price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why an asset does what it does in one interval."""

    asset: str
    """Name of the asset."""
    interval: int
    """Interval the reason is for."""
    why: Why
    """Kind of reason."""
    energy_kwh: float
    """Energy concerned [kWh]."""
    until_interval: int | None = None
    """Interval the energy is kept for, where there is one."""
    saves: float = 0.0
    """Money this saves against doing nothing here [currency], at the plan's marginal prices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BindingLimit:
    """A limit that shapes the plan."""

    owner: str
    """Asset or `grid`."""
    limit: str
    """Which limit, e.g. `charge_kw`, `import_limit_kw`, `stored_max`."""
    intervals: tuple[int, ...]
    """Where it binds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Everything there is to say about a plan."""

    reasons: tuple[Reason, ...]
    """One per asset and interval in which it does something worth a sentence."""
    binding: tuple[BindingLimit, ...]
    """Limits that bind."""

    def reason(self, asset: str, interval: int) -> Reason | None:
        """The reason for one setpoint, if there is one."""
        return next((r for r in self.reasons if r.asset == asset and r.interval == interval), None)


def explain(solution: DispatchSolution) -> Explanation:
    """Reasons and binding limits of a solution.

    A kWh that goes into a store is followed, first in first out, to the interval it comes out again: that interval
    is what it was stored for, and the difference of the two marginal prices is what it saves.
    """
    reasons: list[Reason] = []
    for asset, schedule in zip(solution.problem.assets, solution.schedules, strict=True):
        cut_kw = asset.cut_kw(schedule)
        if cut_kw is not None:
            reasons += _cut_reasons(solution, schedule, cut_kw)
        match schedule:
            case VehicleSchedule():
                reasons += _session_reasons(solution, schedule)
            case StoreSchedule():
                reasons += _store_reasons(solution, schedule)
            case PvSchedule():
                reasons += _curtailment_reasons(solution, schedule)
            case GeneratorSchedule() if isinstance(asset, Generator):
                reasons += _generator_reasons(solution, schedule, asset)
            case _ if isinstance(asset, FlexibleLoad):
                could = np.broadcast_to(asset.available, solution.problem.intervals)
                reasons += _load_reasons(solution, schedule, could)
            case _ if isinstance(asset, (ShiftableRun, HeatPump)):
                reasons += _load_reasons(solution, schedule, np.ones(solution.problem.intervals))
    return Explanation(reasons=tuple(reasons), binding=tuple(_binding(solution)))


def _store_reasons(solution: DispatchSolution, schedule: StoreSchedule) -> list[Reason]:
    """Why a store takes, gives or waits."""
    problem, price = solution.problem, solution.bus_price_per_kwh
    into, out = problem.hours * schedule.charge_kw, problem.hours * schedule.discharge_kw
    waiting: list[list[float]] = []
    used: dict[int, list[tuple[int, float]]] = {}
    gain = _held_per_drawn(schedule, problem.hours)
    for t in range(problem.intervals):
        if into[t] > SMALL_KWH:
            waiting.append([t, into[t] * gain])
        wanted = out[t]
        while wanted > SMALL_KWH and waiting:
            since, left = waiting[0]
            taken = min(left, wanted)
            used.setdefault(int(since), []).append((t, taken))
            wanted -= taken
            waiting[0][1] -= taken
            if waiting[0][1] <= SMALL_KWH:
                waiting.pop(0)
    reasons = []
    gives = np.flatnonzero(out > SMALL_KWH)
    for t in range(problem.intervals):
        if into[t] > SMALL_KWH:
            later = used.get(t, [])
            back = sum(energy * price[u] for u, energy in later)
            left = into[t] * gain - sum(energy for _, energy in later)
            back += max(0.0, left) * float(schedule.stored_value_per_kwh[-1])
            until = max(later, key=lambda pair: pair[1])[0] if later else None
            reasons.append(
                _reason(schedule, t, Why.STORED_FOR_LATER, into[t], until, float(back - into[t] * price[t]))
            )
        elif out[t] > SMALL_KWH:
            sold = solution.export_kw[t] > SMALL_KWH
            why = Why.SOLD_FROM_STORE if sold else Why.USED_FROM_STORE
            reasons.append(_reason(schedule, t, why, out[t], None, float(out[t] * price[t])))
        elif solution.import_kw[t] > SMALL_KWH and schedule.stored_kwh[t] > SMALL_KWH:
            after = gives[gives > t]
            if after.size:
                u = int(after[0])
                could = min(float(schedule.stored_kwh[t]), float(problem.hours[t] * solution.import_kw[t]))
                reasons.append(
                    _reason(schedule, t, Why.KEPT_FOR_LATER, could, u, float(could * (price[u] - price[t])))
                )
    return reasons


def _held_per_drawn(schedule: StoreSchedule, hours: FloatArray) -> float:
    """Energy that comes out again per energy that goes in, seen over the schedule (both losses)."""
    into = float(hours @ schedule.charge_kw)
    out = float(hours @ schedule.discharge_kw)
    grown = float(schedule.stored_kwh[-1] - schedule.stored_kwh[0])
    return min(1.0, max(0.0, (out + grown) / into)) if into > SMALL_KWH else 1.0


def _session_reasons(solution: DispatchSolution, schedule: VehicleSchedule) -> list[Reason]:
    """Why a vehicle charges when it does: against spreading the same energy over its stay."""
    there = np.zeros(solution.problem.intervals)
    for asset in solution.problem.of(Vehicle):
        if asset.name == schedule.name:
            there = asset.present_frac(solution.problem)
    return _load_reasons(solution, schedule, there)


def _load_reasons(solution: DispatchSolution, schedule: AssetSchedule, could: FloatArray) -> list[Reason]:
    """Why a flexible load runs here: against the mean marginal price of the intervals it could have used."""
    problem, price = solution.problem, solution.bus_price_per_kwh
    weight = problem.hours * could
    mean = float(weight @ price / weight.sum()) if weight.sum() > 0 else 0.0
    energy = problem.hours * schedule.net_consumption_kw
    reasons = []
    for t in np.flatnonzero(np.abs(energy) > SMALL_KWH):
        why = Why.RUNS_NOW if energy[t] > 0 else Why.USED_FROM_STORE
        reasons.append(
            _reason(schedule, int(t), why, abs(float(energy[t])), None, float(energy[t] * (mean - price[t])))
        )
    return reasons


def _generator_reasons(
    solution: DispatchSolution, schedule: GeneratorSchedule, asset: Generator
) -> list[Reason]:
    """What a generator's electricity is worth at the bus, less what it burns and what running costs."""
    hours, price = solution.problem.hours, solution.bus_price_per_kwh
    energy = -hours * schedule.net_consumption_kw
    saves = energy * (price - asset.fuel_per_kwh) - asset.running_cost_per_h * hours * schedule.on
    return [
        _reason(schedule, int(t), Why.GENERATED, float(energy[t]), None, float(saves[t]))
        for t in np.flatnonzero(energy > SMALL_KWH)
    ]


def _cut_reasons(solution: DispatchSolution, schedule: AssetSchedule, cut_kw: FloatArray) -> list[Reason]:
    """Where a wish for power is cut, and what that power would have cost at the bus."""
    energy, price = solution.problem.hours * cut_kw, solution.bus_price_per_kwh
    return [
        _reason(schedule, int(t), Why.CUT, float(energy[t]), None, float(energy[t] * price[t]))
        for t in np.flatnonzero(energy > SMALL_KWH)
    ]


def _curtailment_reasons(solution: DispatchSolution, schedule: PvSchedule) -> list[Reason]:
    """Where generation is held back."""
    energy = solution.problem.hours * schedule.curtailed_kw
    price = solution.bus_price_per_kwh
    return [
        _reason(
            schedule, int(t), Why.CURTAILED, float(energy[t]), None, float(-energy[t] * min(0.0, price[t]))
        )
        for t in np.flatnonzero(energy > SMALL_KWH)
    ]


def _reason(
    schedule: AssetSchedule, interval: int, why: Why, energy: float, until: int | None, saves: float
) -> Reason:
    return Reason(
        asset=schedule.name,
        interval=interval,
        why=why,
        energy_kwh=float(energy),
        until_interval=until,
        saves=saves,
    )


def _binding(solution: DispatchSolution) -> Iterator[BindingLimit]:
    """Limits the plan touches."""
    grid = solution.problem.grid
    touched = {
        ("grid", "import_limit_kw"): solution.import_kw
        >= np.minimum(grid.import_limit_kw, grid.import_rating_kw),
        ("grid", "export_limit_kw"): solution.export_kw
        >= np.minimum(grid.export_limit_kw, grid.export_rating_kw),
    }
    for event in solution.problem.capacity_limits:
        touched[event.name, "import_limit_kw"] = (
            solution.import_kw >= np.asarray(event.import_limit_kw) - TOUCH
        )
        touched[event.name, "export_limit_kw"] = (
            solution.export_kw >= np.asarray(event.export_limit_kw) - TOUCH
        )
    for asset, schedule in zip(solution.problem.assets, solution.schedules, strict=True):
        if isinstance(asset, (Battery, Vehicle)) and isinstance(schedule, StoreSchedule):
            moving = schedule.charge_kw > TOUCH
            touched[asset.name, "charge_limit_kw"] = moving & (
                schedule.charge_kw >= asset.charge_limit_kw - TOUCH
            )
            moving = schedule.discharge_kw > TOUCH
            touched[asset.name, "discharge_limit_kw"] = moving & (
                schedule.discharge_kw >= asset.discharge_limit_kw - TOUCH
            )
            touched[asset.name, "capacity_kwh"] = schedule.stored_kwh[1:] >= asset.capacity_kwh - TOUCH
        if isinstance(asset, Battery) and isinstance(schedule, StoreSchedule):
            touched[asset.name, "band_min_kwh"] = schedule.stored_kwh[1:] <= asset.band_min_kwh + TOUCH
        if isinstance(asset, HybridInverter) and isinstance(schedule, InverterSchedule):
            touched[asset.name, "rating_kw"] = schedule.to_ac_kw >= asset.rating_kw - TOUCH
    for (owner, limit), mask in touched.items():
        where = np.flatnonzero(np.broadcast_to(mask, solution.problem.intervals))
        if where.size:
            yield BindingLimit(owner=owner, limit=limit, intervals=tuple(int(t) for t in where))
