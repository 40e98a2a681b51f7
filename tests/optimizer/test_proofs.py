"""Plans against dynamic programming, against arithmetic by hand, and audits against forged schedules."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from optimizer import (
    Battery,
    Boiler,
    DispatchProblem,
    HeatDemand,
    HeatPump,
    HeatStore,
    Prices,
    Pv,
    Vehicle,
    WearSegment,
    solve,
)
from optimizer.audit import audit
from tests.optimizer.random_sites import random_site


def by_levels(levels: int, most: int, first: int, step_cost: object, end_value: float) -> float:
    """Cheapest way through stored levels 0..levels with moves of at most `most`: backward, every move tried."""
    n, cost_of = step_cost  # type: ignore[misc]
    value = np.array([-end_value * level for level in range(levels + 1)])
    for t in reversed(range(n)):
        value = np.array(
            [
                min(
                    cost_of(t, move) + value[level + move]
                    for move in range(-most, most + 1)
                    if 0 <= level + move <= levels
                )
                for level in range(levels + 1)
            ]
        )
    return float(value[first])


@pytest.mark.parametrize("seed", range(6))
def test_battery_costs_what_dynamic_programming_finds(seed: int) -> None:
    """Without losses and with whole-number loads a vertex of the linear program lies on the grid of whole kWh."""
    rng = np.random.default_rng(seed)
    n, wear = 24, 0.02
    load = rng.integers(0, 5, n).astype(float)
    buy = rng.uniform(0.05, 0.5, n)
    sell = buy - rng.uniform(0.0, 0.2, n)

    def step(t: int, move: int) -> float:
        net = load[t] + move
        return (buy[t] * net if net > 0 else sell[t] * net) + wear * max(0, -move)

    problem = DispatchProblem(
        site_id="grid",
        hours=np.ones(n),
        load_kw=load,
        prices=Prices(import_per_kwh=buy, export_per_kwh=sell),
        assets=(
            Battery(
                name="battery",
                capacity_kwh=6.0,
                stored_kwh=2.0,
                charge_limit_kw=3.0,
                discharge_limit_kw=3.0,
                charge_efficiency_frac=1.0,
                discharge_efficiency_frac=1.0,
                wear_per_kwh=wear,
                end_value_per_kwh=0.2,
            ),
        ),
    )
    solution = solve(problem)
    assert solution.publishable
    best = by_levels(6, 3, 2, (n, step), 0.2)
    assert solution.cost == pytest.approx(best, abs=1e-6 + solution.tie_break_cost)
    assert solution.cost >= best - 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_tank_pump_and_boiler_cost_what_dynamic_programming_finds(seed: int) -> None:
    """Heat in whole kWh: the pump gives up to 4 at a third of the power price, the boiler the rest at its own."""
    rng = np.random.default_rng(seed)
    n = 12
    demand = rng.integers(0, 7, n).astype(float)
    price = rng.uniform(0.1, 0.9, n)

    def step(t: int, move: int) -> float:
        heat = demand[t] + move
        if heat < 0:
            return np.inf
        cheap, dear = sorted((price[t] / 3.0, 0.15))
        first = 4.0 if price[t] / 3.0 < 0.15 else 10.0
        return cheap * min(heat, first) + dear * max(0.0, heat - first)

    problem = DispatchProblem(
        site_id="tank",
        hours=np.ones(n),
        load_kw=np.zeros(n),
        prices=Prices(import_per_kwh=price),
        assets=(
            HeatPump(name="pump", heat_node="tap", limit_kw=4.0 / 3.0, cop=3.0),
            Boiler(name="boiler", heat_node="tap", limit_kw=10.0, fuel_per_kwh=0.15, efficiency_frac=1.0),
            HeatStore(
                name="tank",
                heat_node="tap",
                capacity_kwh=8.0,
                stored_kwh=3.0,
                charge_limit_kw=5.0,
                discharge_limit_kw=5.0,
                loss_frac_per_h=0.0,
            ),
            HeatDemand(name="shower", heat_node="tap", demand_kw=demand),
        ),
    )
    solution = solve(problem)
    assert solution.publishable
    assert solution.unmet == ()
    best = by_levels(8, 5, 3, (n, step), 0.0)
    assert solution.cost == pytest.approx(best, abs=1e-5 + solution.tie_break_cost)


def test_a_vehicle_gives_back_in_the_dear_hour_and_still_leaves_full() -> None:
    """20 of 40 kWh at arrival, 24 wished. Charging at 0.1, giving back at 0.8, losses of a tenth each way.

    In the dear hour it gives 5 kW (5 / 0.9 from the store); its wish is 4 kWh above what it came with. In the two cheap
    hours it takes (4 + 5 / 0.9) / 0.9 kWh at 0.1; the house pays nothing in the dear hour and sells nothing.
    """
    problem = DispatchProblem(
        site_id="v2g",
        hours=np.ones(4),
        load_kw=np.array([1.0, 1.0, 5.0, 1.0]),
        prices=Prices(import_per_kwh=np.array([0.1, 0.1, 0.8, 0.3])),
        assets=(
            Vehicle(
                name="car",
                capacity_kwh=40.0,
                stored_kwh=20.0,
                wished_kwh=24.0,
                arrival=0.0,
                departure=3.0,
                charge_limit_kw=7.0,
                discharge_limit_kw=5.0,
                charge_efficiency_frac=0.9,
                discharge_efficiency_frac=0.9,
                floor_kwh=10.0,
            ),
        ),
    )
    solution = solve(problem)
    assert solution.publishable
    car = solution.schedule("car")
    assert car.discharge_kw == pytest.approx([0.0, 0.0, 5.0, 0.0], abs=1e-6)
    taken = (4.0 + 5.0 / 0.9) / 0.9
    assert car.charge_kw == pytest.approx([7.0, taken - 7.0, 0.0, 0.0], abs=1e-5)
    assert car.stored_kwh[-1] == pytest.approx(24.0, abs=1e-6)
    assert solution.money == pytest.approx(0.1 * (2.0 + taken) + 0.3, abs=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_wear_by_depth_is_what_the_auditor_walks_through(seed: int) -> None:
    """The model's slices and the auditor's walk, cheapest slice first, give one bill: convex wear needs no binaries."""
    rng = np.random.default_rng(seed)
    n = 36
    problem = DispatchProblem(
        site_id="wear",
        hours=np.full(n, 0.5),
        load_kw=rng.uniform(0.0, 4.0, n),
        prices=Prices(import_per_kwh=rng.uniform(0.05, 0.9, n), export_per_kwh=0.02),
        assets=(
            Battery(
                name="battery",
                capacity_kwh=6.0,
                stored_kwh=float(rng.uniform(0.0, 6.0)),
                charge_limit_kw=4.0,
                discharge_limit_kw=4.0,
                standby_loss_frac_per_h=float(rng.choice([0.0, 0.002])),
                wear_segments=(
                    WearSegment(share_frac=0.3, wear_per_kwh=0.01),
                    WearSegment(share_frac=0.3, wear_per_kwh=0.08),
                    WearSegment(share_frac=0.4, wear_per_kwh=0.25),
                ),
            ),
        ),
    )
    solution = solve(problem)
    assert solution.publishable, solution.audit
    assert solution.report.binaries == 0
    assert any(line.term == "wear_depth" for line in solution.costs)


def week(hours: np.ndarray) -> DispatchProblem:
    """A week from midnight; every interval takes the mean of its quarter hours' sun and load."""
    quarter = np.arange(7 * 96) / 4
    ends = np.concatenate(([0.0], np.cumsum(hours)))

    def mean(values: np.ndarray) -> np.ndarray:
        energy = np.concatenate(([0.0], np.cumsum(values * 0.25)))
        return np.diff(np.interp(ends, np.arange(energy.size) * 0.25, energy)) / hours

    clock = mean(quarter % 24)
    return DispatchProblem(
        site_id="week",
        hours=hours,
        load_kw=mean(0.6 + 0.9 * ((quarter % 24 >= 18) & (quarter % 24 < 22))),
        prices=Prices(import_per_kwh=np.where((clock >= 17) & (clock < 21), 0.4, 0.2), export_per_kwh=0.08),
        assets=(
            Pv(name="pv", available_kw=mean(np.maximum(0.0, 3.0 * np.sin((quarter % 24 - 6) / 12 * np.pi)))),
            Battery(
                name="battery",
                capacity_kwh=8.0,
                stored_kwh=2.0,
                charge_limit_kw=3.0,
                discharge_limit_kw=3.0,
            ),
        ),
    )


def test_a_horizon_that_gets_coarser_begins_as_the_fine_one() -> None:
    """15 minutes for two days, then hours: the same first day, the same bill but for what happens inside an hour."""
    fine = solve(week(np.full(7 * 96, 0.25)))
    tiers = solve(week(np.concatenate((np.full(192, 0.25), np.full(120, 1.0)))))
    assert fine.publishable
    assert tiers.publishable
    turnover = sum(abs(line.amount) for line in fine.costs)
    assert tiers.cost == pytest.approx(fine.cost, abs=0.01 * turnover)
    first = slice(0, 88)
    assert tiers.schedule("battery").net_consumption_kw[first] == pytest.approx(
        fine.schedule("battery").net_consumption_kw[first], abs=1e-5
    )


@pytest.mark.slow
def test_a_week_in_steps_of_five_minutes() -> None:
    """2,016 steps; the bill is the one of 15-minute steps, as prices and means are the same."""
    coarse = solve(week(np.full(7 * 96, 0.25)))
    fine = solve(week(np.full(7 * 288, 1.0 / 12.0)))
    assert fine.publishable
    slack = 1e-6 + fine.tie_break_cost + coarse.tie_break_cost
    assert fine.cost == pytest.approx(coarse.cost, abs=slack)


@pytest.mark.parametrize("block", range(4))
def test_no_number_of_a_schedule_can_be_forged(block: int) -> None:
    """10 W, 10 Wh or 0.01 degC more or less in any series of any asset: the audit finds it, or the bill changes."""
    kinds = set()
    for seed in range(100 + 6 * block, 106 + 6 * block):
        solution = solve(replace(random_site(seed), time_limit_s=2.0))
        problem = solution.problem
        rng = np.random.default_rng(seed)
        for k, schedule in enumerate(solution.schedules):
            for entry in fields(schedule):
                values = getattr(schedule, entry.name)
                if entry.name == "stored_value_per_kwh" or not (
                    isinstance(values, np.ndarray) and values.dtype == np.float64
                ):
                    continue
                for change in (0.01, -0.01):
                    forged = values.copy()
                    forged[int(rng.integers(forged.size))] += change
                    others = list(solution.schedules)
                    others[k] = replace(schedule, **{entry.name: forged})
                    report = audit(
                        problem,
                        others,
                        solution.import_kw,
                        solution.export_kw,
                        solution.unserved_kw,
                        solution.surplus_kw,
                    )
                    assert report.findings, (seed, schedule.name, entry.name, change)
                    kinds.add(type(schedule).__name__)
    assert len(kinds) >= 5
