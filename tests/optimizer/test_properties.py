"""What must hold for any site whatever: solved, audited, directions apart, more assets never dearer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from optimizer import (
    Battery,
    DispatchSolution,
    Outcome,
    Vehicle,
    dive,
    highs,
    solve,
)
from tests.optimizer.random_sites import random_site


def check(seed: int, n: int = 24) -> None:
    problem = random_site(seed, n)
    solution = solve(problem)
    assert solution.publishable, (seed, solution.outcome, solution.audit, solution.report)
    if solution.outcome is not Outcome.OPTIMAL:
        # the time box closed first, as it may on a slow machine: the plan then says how far it may be from the best
        assert solution.outcome is Outcome.FEASIBLE
        assert solution.report.gap > 0.0
        assert solution.report.binaries > 0
    for schedule in solution.schedules:
        if hasattr(schedule, "charge_kw"):
            assert np.all(np.minimum(schedule.charge_kw, schedule.discharge_kw) <= 1e-6), (
                seed,
                schedule.name,
            )
    assert np.all(np.minimum(solution.import_kw, solution.export_kw) <= 1e-6)


@pytest.mark.parametrize("block", range(4))
def test_any_site_is_solved_and_passes_its_audit(block: int) -> None:
    for seed in range(block * 8, (block + 1) * 8):
        check(seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", range(20))
def test_thousands_of_sites_are_solved_and_pass_their_audit(block: int) -> None:
    for seed in range(1_000 + block * 100, 1_000 + (block + 1) * 100):
        check(seed)


@pytest.mark.parametrize("n", [92, 96, 100], ids=["23-hour day", "24-hour day", "25-hour day"])
def test_days_of_any_length(n: int) -> None:
    for seed in (3, 8):
        problem = random_site(seed, n)
        assert solve(problem).publishable


def test_an_asset_more_never_costs_more() -> None:
    """An idle asset is free, so a site with one more can do no worse. Only what may idle is taken away."""
    may_idle = (Battery, Vehicle)
    compared = 0
    for seed in range(24):
        problem = replace(random_site(seed), change_costs=(), money_gap=1e-6)
        for asset in problem.assets:
            if not isinstance(asset, may_idle) or getattr(asset, "inverter", None) is not None:
                continue
            if isinstance(asset, Vehicle):
                asset_with = replace(asset, wished_kwh=0.0, floor_kwh=0.0)
            else:
                asset_with = replace(
                    asset,
                    end_value_per_kwh=0.0,
                    standby_loss_frac_per_h=0.0,
                    band_min_kwh=0.0,
                    band_max_kwh=None,
                )
            rest = tuple(a for a in problem.assets if a is not asset)
            fewer = solve(replace(problem, assets=rest))
            more = solve(replace(problem, assets=(*rest, asset_with)))
            slack = 1e-5 * (1.0 + sum(abs(line.amount) for line in fewer.costs)) + more.tie_break_cost
            assert more.cost <= fewer.cost + slack, seed
            compared += 1
    assert compared > 8


def test_perfect_information_is_never_worse_than_idle() -> None:
    """The plan costs at most what the same site pays with its battery's power held at zero."""
    for seed in range(16):
        problem = random_site(seed)
        batteries = problem.of(Battery)
        if not batteries:
            continue
        held = tuple(
            replace(a, charge_limit_kw=0.0, discharge_limit_kw=0.0) if isinstance(a, Battery) else a
            for a in problem.assets
        )
        idle = solve(replace(problem, assets=held))
        plan = solve(problem)
        slack = 1e-6 * (1.0 + sum(abs(line.amount) for line in idle.costs))
        assert plan.cost <= idle.cost + slack + plan.tie_break_cost + plan.report.gap, seed


@cache
def best_plans() -> list[DispatchSolution]:
    return [solve(replace(random_site(seed), money_gap=1e-6)) for seed in range(12)]


@pytest.mark.parametrize("dives", [True, False], ids=["a dive found a plan", "no dive found a plan"])
def test_a_search_that_finds_nothing_in_its_time_still_leaves_a_plan(
    monkeypatch: pytest.MonkeyPatch, dives: bool
) -> None:
    """Every mixed-integer run is cut off before its first point: the plan of the dive, or the rounded one, is audited.

    The gap says how far it may be from the best, and holds: the plan with all the time in the world is not cheaper.
    """
    whole_run = highs.Solver.run
    best = best_plans()

    def cut_off(self: highs.Solver, *, whole: bool = False) -> highs.Answer:
        answer = whole_run(self)
        return (
            replace(answer, outcome=Outcome.FAILED, x=np.empty(0), row_dual=np.empty(0)) if whole else answer
        )

    monkeypatch.setattr(highs.Solver, "run", cut_off)
    if not dives:
        monkeypatch.setattr(dive.Dive, "plan", lambda *_: None)
    unproven = 0
    for seed in range(12):
        solution = solve(random_site(seed))
        assert solution.publishable, (seed, solution.audit)
        slack = 1e-6 * (1.0 + sum(abs(line.amount) for line in solution.costs)) + solution.tie_break_cost
        assert best[seed].cost >= solution.cost - solution.report.gap - slack - best[seed].report.gap, seed
        unproven += solution.outcome is Outcome.FEASIBLE
    assert unproven <= 4 if dives else unproven > 5


def test_a_machine_that_must_still_run_is_not_up_for_decision() -> None:
    """A cell six minutes into its minimum hour: a dive that fixed it off in the first interval lost the audit."""
    check(2405)
