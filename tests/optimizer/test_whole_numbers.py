"""What the search for whole numbers relies on: inequalities that every plan keeps, bounds that no plan undercuts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from optimizer import (
    Battery,
    Boiler,
    Building,
    DispatchProblem,
    Generator,
    HeatDemand,
    HeatPump,
    HeatStore,
    Prices,
    Pv,
    ShiftableRun,
    Vehicle,
    highs,
    solve,
)
from optimizer.arrays import IntArray
from optimizer.bench import HOMES, read_homes, rich_home
from optimizer.branch import Branch
from optimizer.covers import broken_covers
from optimizer.engine import AssetValues, template_of
from optimizer.formulation.builder import EVERY, Cut
from optimizer.formulation.site import site_shape
from optimizer.highs import Answer, Solver
from optimizer.problem import Asset
from optimizer.solution import Outcome
from optimizer.stack import rows
from optimizer.template import Template, Vectors, positions


def heated(seed: int, n: int = 4) -> DispatchProblem:
    """A building with one or two pumps that have a least power, and whatever else may be on its node."""
    rng = np.random.default_rng(seed)

    def chance(p: float) -> bool:
        return bool(rng.random() < p)

    cools = chance(0.3)
    outdoor = rng.normal(32.0 if cools else 10.0, 4.0, n)
    assets: list[Asset] = [
        HeatPump(
            name="pump",
            heat_node="house",
            limit_kw=3.0,
            cop=rng.uniform(2.0, 4.0, n),
            least_kw=float(rng.choice([0.8, 2.0])),
        ),
        Building(
            name="house",
            heat_node="house",
            loss_kw_per_k=float(rng.uniform(0.1, 0.3)),
            capacity_kwh_per_k=float(rng.uniform(0.5, 8.0)),
            indoor_degc=(24.0 if cools else 18.0) + float(rng.uniform(-0.5, 0.5)),
            outdoor_degc=outdoor,
            comfort_min_degc=rng.choice([18.0, 18.2], n),
            comfort_max_degc=rng.choice([23.8, 24.0], n),
            gain_kw=float(rng.choice([0.0, 0.5])),
            limit_kw=float(rng.choice([np.inf, 4.0])),
            cools=cools,
            comfort_price_per_degc_h=float(rng.choice([0.1, 5.0, 5.0])),
        ),
    ]
    if chance(0.3):
        assets.append(HeatPump(name="second", heat_node="house", limit_kw=2.0, cop=2.5, least_kw=1.5))
    if chance(0.3):
        assets.append(HeatPump(name="rod", heat_node="house", limit_kw=0.5, cop=1.0))
    if chance(0.3):
        assets.append(Boiler(name="boiler", heat_node="house", limit_kw=1.0, fuel_per_kwh=0.2))
    if chance(0.4):
        assets.append(
            Generator(
                name="cell",
                limit_kw=1.5,
                least_kw=0.5,
                fuel_per_kwh=0.1,
                start_cost=0.1,
                heat_per_kwh=0.8,
                heat_node="house",
            )
        )
    if chance(0.3):
        tank = HeatStore(
            name="tank",
            heat_node="house",
            capacity_kwh=4.0,
            stored_kwh=2.0,
            charge_limit_kw=2.0,
            discharge_limit_kw=2.0,
        )
        assets += [tank, HeatDemand(name="tap", heat_node="house", demand_kw=rng.uniform(0.0, 1.0, n))]
    return DispatchProblem(
        site_id=f"heated-{seed}",
        hours=np.full(n, float(rng.choice([0.25, 1.0]))),
        load_kw=rng.uniform(0.0, 2.0, n),
        prices=Prices(import_per_kwh=rng.uniform(0.1, 0.5, n), export_per_kwh=0.05),
        assets=tuple(assets),
        money_gap=1e-6,
    )


def loaded(problem: DispatchProblem) -> tuple[Template, Vectors, Solver]:
    """The relaxed model of a problem with all its binaries."""
    template, _ = template_of(site_shape(problem, soft=True, discrete=EVERY))
    vectors, solver = rows(template.vectors([problem]), 1)[0], Solver()
    solver.load(template, vectors)
    solver.limit(seconds=60.0, gap=0.0)
    return template, vectors, solver


def broken(problem: DispatchProblem, template: Template, answer: Answer) -> list[Cut]:
    values = [AssetValues(template, answer, f"a{k}", problem.price_scale) for k in range(len(problem.assets))]
    return [cut for asset in problem.assets for cut in asset.cuts(problem, values)]


def row(template: Template, cut: Cut) -> np.ndarray:
    """The entries of an inequality, one per column of the model."""
    entries = np.zeros(template.column_count)
    for asset, name, at, values in cut.terms:
        entries[positions(template.columns[f"a{asset}", name])[at]] += values
    return entries


def best_of_patterns(solver: Solver, at: IntArray) -> float:
    """The lowest objective over every pattern of some columns off and on, one by one; infinite if none has an answer."""
    best = np.inf
    for pattern in product((0.0, 1.0), repeat=at.size):
        solver.change_bounds(at, np.array(pattern), np.array(pattern))
        answer = solver.run()
        if answer.outcome is Outcome.OPTIMAL:
            best = min(best, answer.objective)
    return best


@pytest.mark.parametrize("block", range(4))
def test_no_plan_breaks_an_inequality_that_a_relaxed_answer_broke(block: int) -> None:
    """For every pattern of the pumps: the least the left side can be in the whole model is not below the right side."""
    found, tight = 0, 0
    for seed in range(block * 20, block * 20 + 20):
        problem = heated(seed)
        template, vectors, solver = loaded(problem)
        cuts = broken(problem, template, solver.run())
        lots = [
            positions(template.binaries[f"a{k}", "on"])
            for k, asset in enumerate(problem.assets)
            if isinstance(asset, HeatPump) and asset.least_kw
        ]
        at = np.concatenate(lots)
        for cut in cuts:
            vectors.cost[:] = row(template, cut)
            solver.load(template, vectors)
            least = best_of_patterns(solver, at)  # in some, its heat has nowhere to go
            assert np.inf > least >= cut.least - 1e-6, (seed, cut)
            found += 1
            tight += least < cut.least + 1e-6
    assert found > 10
    assert tight > 0.5 * found


def crowded(seed: int, n: int = 4) -> DispatchProblem:
    """Consumers that are off or take at least their least, beside sun, stores and a generator."""
    rng = np.random.default_rng(seed)
    assets: list[Asset] = [
        Pv(
            name="pv",
            available_kw=np.maximum(0.0, rng.normal(1.0, 1.0, n)),
            curtailable=bool(rng.random() < 0.5),
        ),
        Battery(
            name="battery", capacity_kwh=3.0, stored_kwh=1.0, charge_limit_kw=1.5, discharge_limit_kw=1.5
        ),
        HeatPump(name="rod", heat_node="tap", limit_kw=3.0, cop=1.0, least_kw=float(rng.uniform(0.6, 2.0))),
        HeatStore(
            name="tank",
            heat_node="tap",
            capacity_kwh=6.0,
            stored_kwh=1.0,
            charge_limit_kw=4.0,
            discharge_limit_kw=2.0,
        ),
        HeatDemand(name="tap", heat_node="tap", demand_kw=rng.uniform(0.0, 1.0, n)),
        Vehicle(
            name="car",
            capacity_kwh=40.0,
            stored_kwh=10.0,
            wished_kwh=10.0 + float(rng.uniform(0.5, 4.0)),
            arrival=0.0,
            departure=float(n),
            charge_limit_kw=7.0,
            min_charge_kw=1.4,
            discharge_limit_kw=float(rng.choice([0.0, 3.0])),
        ),
        ShiftableRun(name="washer", profile_kw=np.array([2.0, 0.4]), step_h=1.0),
        Generator(
            name="cell",
            limit_kw=1.5,
            least_kw=0.5,
            fuel_per_kwh=float(rng.choice([0.1, 0.3])),
            start_cost=0.1,
            min_up_h=2.0,
        ),
    ]
    return DispatchProblem(
        site_id=f"crowded-{seed}",
        hours=np.ones(n),
        load_kw=rng.uniform(-0.5, 1.5, n),
        prices=Prices(import_per_kwh=rng.uniform(0.2, 0.5, n), export_per_kwh=0.05),
        assets=tuple(assets),
        money_gap=1e-6,
    )


def test_no_plan_breaks_what_the_bus_says_of_its_consumers() -> None:
    """With the switches of an inequality off and on in every pattern, all else relaxed: its left side is not below the right."""
    found, tight, kinds = 0, 0, set()
    for seed in range(40):
        problem = crowded(seed)
        template, vectors, solver = loaded(problem)
        whole = np.concatenate([positions(where) for where in template.binaries.values()])
        covers = broken_covers(template, vectors, solver.run().x)
        vectors.cost[:] = 0.0
        for columns, entries, right in covers:
            vectors.cost[columns] = entries
            solver.load(template, vectors)
            at = np.intersect1d(columns, whole)
            kinds |= {
                family for family, where in template.binaries.items() if np.isin(at, positions(where)).any()
            }
            least = best_of_patterns(solver, at)  # in some, a run would begin twice
            assert np.inf > least >= right - 1e-6, (seed, columns, entries)
            vectors.cost[columns] = 0.0
            found += 1
            tight += least < right + 1e-6
    assert found > 40
    assert tight > 0.5 * found
    assert {name for _, name in kinds} == {"on", "charging", "start"}


def machine(seed: int, n: int = 5) -> DispatchProblem:
    """Two generators whose least load, start costs and minimum times the relaxation shares out."""
    rng = np.random.default_rng(seed)
    return DispatchProblem(
        site_id=f"machine-{seed}",
        hours=np.ones(n),
        load_kw=rng.uniform(0.5, 4.0, n),
        prices=Prices(import_per_kwh=rng.uniform(0.1, 0.6, n), export_per_kwh=0.05),
        assets=(
            Battery(
                name="battery", capacity_kwh=3.0, stored_kwh=1.0, charge_limit_kw=1.5, discharge_limit_kw=1.5
            ),
            Pv(name="pv", available_kw=np.maximum(0.0, rng.normal(0.5, 1.0, n))),
            *(
                Generator(
                    name=name,
                    limit_kw=3.0,
                    least_kw=float(rng.uniform(0.5, 1.5)),
                    fuel_per_kwh=0.25,
                    start_cost=float(rng.uniform(0.05, 0.4)),
                    running_cost_per_h=0.03,
                    min_up_h=float(rng.choice([1.0, 2.0])),
                )
                for name in ("engine", "cell")
            ),
        ),
        money_gap=1e-6,
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_search_with_the_rest_relaxed_ends_with_the_best_and_a_bound_below_it(seed: int) -> None:
    """Two machines of five hours: all 1,024 patterns, one by one. In no time at all the bound still holds."""
    problem = machine(seed)
    template, vectors, solver = loaded(problem)
    relaxed = solver.run()
    families = sorted(template.binaries.keys() - template.directions - template.once)
    at = np.concatenate([positions(template.binaries[family]) for family in families])
    best = best_of_patterns(solver, at)
    solver.change_bounds(at, vectors.lower[at], vectors.upper[at])

    def branch(gap: float) -> Branch:
        solver.run()
        return Branch(
            template=template,
            vectors=vectors,
            solver=solver,
            run=solver.run,
            families=families,
            gap=gap,
            relaxed=relaxed,
        )

    exact = branch(0.0).search(lambda: True)
    assert exact.objective == pytest.approx(best, abs=1e-7)
    assert exact.bound == pytest.approx(best, abs=1e-7)
    near = branch(0.05).search(lambda: True)
    assert near.bound - 1e-7 <= best <= near.objective + 1e-7
    assert near.objective - near.bound <= 0.05 + 1e-7
    stopped = branch(0.0)
    closed = stopped.search(lambda: False)
    assert closed.bound - 1e-7 <= best <= closed.objective + 1e-7
    middle = (relaxed.objective + best) / 2.0
    enough = stopped.search(lambda: True, middle)
    assert min(middle, best) - 1e-7 <= enough.bound <= best + 1e-7
    exact = stopped.search(lambda: True)
    assert exact.objective == pytest.approx(best, abs=1e-7) == exact.bound
    assert solver.run().objective == pytest.approx(relaxed.objective, abs=1e-7)


@pytest.mark.parametrize("day", [64, 196])
def test_a_rich_day_is_proven_without_a_search_over_all_whole_numbers(
    day: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day on which a pump would like less than its least power, and one on which a cell would like half a start."""
    run, searches = Solver.run, []

    def counted(self: Solver, **how: Any) -> Answer:
        searches.extend(["whole"] if how.get("whole") else [])
        return run(self, **how)

    monkeypatch.setattr(highs.Solver, "run", counted)
    solution = solve(replace(rich_home(read_homes(HOMES), day), time_limit_s=60.0))
    assert solution.publishable
    assert solution.outcome is Outcome.OPTIMAL
    assert solution.report.gap <= 0.01
    assert not searches
