"""Homes that are written, read and checked as one: each gets what it would get alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optimizer import (
    Battery,
    DispatchProblem,
    DispatchSolution,
    GridConnection,
    Prices,
    Pv,
    solve,
    solve_many,
)
from optimizer.audit import audit
from optimizer.solution import AssetSchedule
from optimizer.stack import rows, stacked

STEPS = 48


def home(seed: int, **changes: object) -> DispatchProblem:
    """Homes of one shape; whatever may differ inside it differs."""
    rng = np.random.default_rng(seed)
    capacity = float(rng.uniform(4.0, 12.0))
    battery = Battery(
        name=f"store {seed % 3}",
        capacity_kwh=capacity,
        stored_kwh=float(rng.uniform(0.2, 0.8)) * capacity,
        charge_limit_kw=3.0 if seed % 2 else rng.uniform(1.0, 4.0, STEPS),
        discharge_limit_kw=float(rng.uniform(1.0, 4.0)),
        charge_efficiency_frac=float(rng.uniform(0.9, 0.98)),
        standby_loss_frac_per_h=float(rng.uniform(0.001, 0.01)),
        band_min_kwh=0.1 * capacity,
        wear_per_kwh=0.01 * (seed % 2),
    )
    hour = np.arange(STEPS) / 2 % 24
    return replace(
        DispatchProblem(
            site_id=f"home-{seed}",
            hours=np.full(STEPS, 0.5),
            load_kw=rng.uniform(0.2, 2.0, STEPS),
            prices=Prices(
                import_per_kwh=np.where(hour < 8, 0.2, 0.4), export_per_kwh=(0.05, 0.1, 0.15)[seed % 3]
            ),
            grid=GridConnection(import_limit_kw=8.0),
            assets=(
                battery,
                Pv(name="roof", available_kw=np.maximum(0.0, 4.0 * np.sin((hour - 6) / 12 * np.pi))),
            ),
        ),
        **changes,
    )


def assert_same(one: DispatchSolution, other: DispatchSolution) -> None:
    assert one.publishable
    assert other.publishable
    assert one.cost == pytest.approx(other.cost, abs=1e-9)
    assert [(line.term, line.owner) for line in one.costs] == [
        (line.term, line.owner) for line in other.costs
    ]
    assert one.report.runs == other.report.runs
    for x, y in zip(one.schedules, other.schedules, strict=True):
        assert x.name == y.name
        assert np.abs(x.net_consumption_kw - y.net_consumption_kw).max() <= 1e-6


def test_homes_of_one_shape_get_the_plans_they_get_alone() -> None:
    homes = [home(seed) for seed in range(12)]
    pays_to_buy_and_sell = Prices(import_per_kwh=homes[1].prices.import_per_kwh, export_per_kwh=0.3)
    homes[5] = replace(homes[5], prices=pays_to_buy_and_sell)
    for together, problem in zip(solve_many(homes), homes, strict=True):
        assert_same(together, solve(problem))


def test_a_home_whose_first_answer_does_not_stand_leaves_the_others_theirs() -> None:
    """Its reserve is nearly free, so it is broken: such a home goes on alone, to the model with slacks."""
    homes = [home(seed) for seed in range(1, 8, 2)]
    battery, roof = homes[2].assets
    homes[2] = replace(homes[2], assets=(replace(battery, band_price_per_kwh_h=1e-4), roof))
    solutions = solve_many(homes)
    assert [wish.wish for wish in solutions[2].unmet] == ["reserve"]
    assert [solution.report.soft for solution in solutions] == [False, False, True, False]
    for together, problem in zip(solutions, homes, strict=True):
        assert_same(together, solve(problem))


def test_a_stack_gives_its_owners_back() -> None:
    homes = [home(seed) for seed in range(1, 8, 2)]
    stack = stacked(homes)
    assert stack is not None
    for before, after in zip(homes, rows(stack, len(homes)), strict=True):
        assert np.array_equal(before.load_kw, after.load_kw)
        assert after.site_id == before.site_id
        assert [asset.name for asset in after.assets] == [asset.name for asset in before.assets]


def test_what_differs_in_more_than_numbers_is_no_stack() -> None:
    one, other = home(1), home(3)
    battery, roof = other.assets
    assert stacked([one, replace(other, assets=(replace(battery, end_value_per_kwh=0.1), roof))]) is None
    assert stacked([one, replace(other, assets=(battery,))]) is None


@pytest.mark.parametrize("kind", ["stored_kwh", "charge_kw", "net_consumption_kw", "used_kw"])
def test_the_audit_of_a_stack_sees_one_wrong_number_of_one_home(kind: str) -> None:
    homes = [home(seed) for seed in range(1, 8, 2)]
    solutions = solve_many(homes)
    assert checked(homes, solutions, [solution.schedules for solution in solutions])
    schedules = [list(solution.schedules) for solution in solutions]
    at = next(k for k, schedule in enumerate(schedules[2]) if hasattr(schedule, kind))
    wrong = np.array(getattr(schedules[2][at], kind))
    wrong[17] += 1e-3
    schedules[2][at] = replace(schedules[2][at], **{kind: wrong})
    assert not checked(homes, solutions, [tuple(own) for own in schedules])


def checked(
    homes: list[DispatchProblem],
    solutions: list[DispatchSolution],
    schedules: list[tuple[AssetSchedule, ...]],
) -> bool:
    """Whether the audit of all homes as one is clear."""
    stack = stacked(homes)
    assert stack is not None
    powers = (
        np.array([getattr(solution, name) for solution in solutions])
        for name in ("import_kw", "export_kw", "unserved_kw", "surplus_kw")
    )
    together = [stacked([own[k] for own in schedules]) for k in range(len(schedules[0]))]
    return audit(stack, tuple(one for one in together if one is not None), *powers).clear
