"""Bills worked out by hand, to the won.

Block prices: KEPCO, residential low voltage, July and August, as of 16 May 2023 (three steps: up to 300, up to 450,
above; 120.0, 214.6 and 307.3 won/kWh). The arithmetic stands beside each case.
"""

from __future__ import annotations

import numpy as np
import pytest

from optimizer import (
    Battery,
    CapacityLimit,
    ChangeCost,
    DemandCharge,
    DemandResponse,
    DispatchProblem,
    GridConnection,
    Prices,
    ProgressiveTariff,
    TariffBlock,
    solve,
)

STEPS = (
    TariffBlock(up_to_kwh=300.0, price_per_kwh=120.0),
    TariffBlock(up_to_kwh=450.0, price_per_kwh=214.6),
    TariffBlock(up_to_kwh=np.inf, price_per_kwh=307.3),
)


def amount(problem: DispatchProblem, term: str) -> float:
    solution = solve(problem)
    assert solution.publishable, solution.audit
    return sum(line.amount for line in solution.costs if line.term == term)


def battery(**changes: object) -> Battery:
    given = {
        "name": "battery",
        "capacity_kwh": 10.0,
        "stored_kwh": 0.0,
        "charge_limit_kw": 5.0,
        "discharge_limit_kw": 5.0,
        "charge_efficiency_frac": 1.0,
        "discharge_efficiency_frac": 1.0,
        "end_value_per_kwh": 0.0,
    }
    return Battery(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("used_kwh", "won"),
    [
        # 24 kWh in the first step: 24 * 120
        pytest.param(0.0, 2_880.0, id="first step"),
        # 10 kWh left of the first step, 14 in the second: 10 * 120 + 14 * 214.6 = 1,200 + 3,004.4
        pytest.param(290.0, 4_204.4, id="crosses 300"),
        # 4 kWh left of the second, 20 in the third: 4 * 214.6 + 20 * 307.3 = 858.4 + 6,146
        pytest.param(446.0, 7_004.4, id="crosses 450"),
        # 24 * 307.3
        pytest.param(800.0, 7_375.2, id="third step"),
    ],
)
def test_progressive_bill(used_kwh: float, won: float) -> None:
    problem = DispatchProblem(
        site_id="apartment",
        hours=np.ones(24),
        load_kw=np.ones(24),
        prices=Prices(import_per_kwh=0.0),
        tariffs=(ProgressiveTariff(name="august", blocks=STEPS, used_kwh=used_kwh),),
    )
    assert amount(problem, "blocks") == pytest.approx(won, abs=0.01)


def test_battery_moves_import_into_the_billing_period_with_the_cheap_step() -> None:
    """Twelve hours of July (at 449 of 450 kWh), twelve of August (fresh): 10 kWh wait for August.

    Without the battery: July 1 * 214.6 + 11 * 307.3, August 12 * 120. The full battery (10 kWh) serves ten of the
    eleven dear hours, so July ends at 1 * 214.6 + 1 * 307.3 = 521.9.
    """
    july = np.repeat([1.0, 0.0], 12)
    problem = DispatchProblem(
        site_id="apartment",
        hours=np.ones(24),
        load_kw=np.ones(24),
        prices=Prices(import_per_kwh=0.0),
        tariffs=(
            ProgressiveTariff(name="july", blocks=STEPS, used_kwh=449.0, applies=july),
            ProgressiveTariff(name="august", blocks=STEPS, applies=1.0 - july),
        ),
        assets=(battery(stored_kwh=10.0),),
    )
    solution = solve(problem)
    lines = {line.owner: line.amount for line in solution.costs if line.term == "blocks"}
    assert lines["july"] == pytest.approx(521.9, abs=0.01)
    assert lines["august"] == pytest.approx(12 * 120.0, abs=0.01)


def test_demand_charge_with_ratchet_and_open_meter_interval() -> None:
    """15-minute demand on 5-minute steps; 5 minutes at 6 kW are already over (0.5 kWh); ratchet 4 kW; 8,320 won/kW.

    Load 6 kW for two steps closes the open interval at 6 kW; 2 kW afterwards. A full battery with 1.5 kW can take
    1.5 kW off the two open steps: (0.5 + 2 * 4.5 / 12) / 0.25 = 5.0 kW. Billed beyond the ratchet: 1.0 * 8,320.
    """
    problem = DispatchProblem(
        site_id="shop",
        hours=np.full(8, 1 / 12),
        load_kw=np.array([6.0, 6.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
        prices=Prices(import_per_kwh=100.0),
        demand_charges=(
            DemandCharge(
                name="contract",
                price_per_kw=8_320.0,
                floor_kw=4.0,
                meter_intervals=3,
                open_kwh=0.5,
                open_h=1 / 12,
            ),
        ),
        assets=(battery(stored_kwh=5.0, discharge_limit_kw=1.5, end_value_per_kwh=100.0),),
    )
    assert amount(problem, "demand") == pytest.approx(8_320.0, abs=0.01)


def test_demand_already_exceeded_does_not_hold_the_battery_back() -> None:
    """The running peak is 20 kW; 12 kW now cost nothing more, so the cheap hour is used in full."""
    problem = DispatchProblem(
        site_id="shop",
        hours=np.ones(2),
        load_kw=np.array([2.0, 7.0]),
        prices=Prices(import_per_kwh=np.array([50.0, 200.0])),
        demand_charges=(DemandCharge(name="contract", price_per_kw=8_320.0, floor_kw=20.0),),
        assets=(battery(charge_limit_kw=10.0, discharge_limit_kw=10.0),),
    )
    solution = solve(problem)
    assert solution.import_kw == pytest.approx([9.0, 0.0], abs=1e-6)


def test_demand_charges_with_two_components_and_a_window() -> None:
    """Peak window: 5 kW at 1,000; any time: 8 kW at 500. Nothing can move: 5,000 + 4,000 won."""
    window = np.array([0.0, 0.0, 1.0, 1.0])
    problem = DispatchProblem(
        site_id="shop",
        hours=np.ones(4),
        load_kw=np.array([8.0, 1.0, 5.0, 4.0]),
        prices=Prices(import_per_kwh=0.0),
        demand_charges=(
            DemandCharge(name="peak", price_per_kw=1_000.0, applies=window),
            DemandCharge(name="any", price_per_kw=500.0),
        ),
    )
    assert amount(problem, "demand") == pytest.approx(9_000.0, abs=0.01)


@pytest.mark.parametrize(
    ("cap_kwh", "stored_kwh", "won"),
    [
        # baseline 2 * 3 kWh, load 2 * 2 kWh, battery gives 3: reduction 6 - 4 + 3 = 5 kWh at 1,300 won
        pytest.param(np.inf, 3.0, 6_500.0, id="reduction against the baseline"),
        pytest.param(4.0, 3.0, 5_200.0, id="capped at 4 kWh"),
    ],
)
def test_demand_response_reward(cap_kwh: float, stored_kwh: float, won: float) -> None:
    problem = DispatchProblem(
        site_id="home",
        hours=np.ones(4),
        load_kw=np.full(4, 2.0),
        prices=Prices(import_per_kwh=100.0),
        demand_responses=(
            DemandResponse(
                name="dr-1",
                baseline_kw=3.0,
                during=np.array([0.0, 1.0, 1.0, 0.0]),
                reward_per_kwh=1_300.0,
                cap_kwh=cap_kwh,
            ),
        ),
        assets=(battery(stored_kwh=stored_kwh, charge_limit_kw=0.0),),
    )
    assert amount(problem, "dr") == pytest.approx(-won, abs=0.01)


def test_a_home_far_above_its_baseline_is_not_asked_to_pay_for_it() -> None:
    """Load 5 kW, baseline 1 kW, battery 2 kWh: no reduction is possible, so the event earns and costs nothing."""
    problem = DispatchProblem(
        site_id="home",
        hours=np.ones(2),
        load_kw=np.array([5.0, 5.0]),
        prices=Prices(import_per_kwh=np.array([100.0, 300.0])),
        demand_responses=(
            DemandResponse(name="dr-1", baseline_kw=1.0, during=np.array([1.0, 0.0]), reward_per_kwh=500.0),
        ),
        assets=(battery(stored_kwh=2.0),),
    )
    solution = solve(problem)
    assert solution.publishable
    # without a reward the stored 2 kWh and 5 kWh bought now belong into the dear hour
    assert solution.import_kw == pytest.approx([8.0, 0.0], abs=1e-6)


def test_capacity_limit_is_kept_and_bends_before_the_load_is_cut() -> None:
    limited = CapacityLimit(name="event", import_limit_kw=np.array([np.inf, 2.0, np.inf]))
    problem = DispatchProblem(
        site_id="home",
        hours=np.ones(3),
        load_kw=np.array([1.0, 5.0, 1.0]),
        prices=Prices(import_per_kwh=0.2),
        grid=GridConnection(import_limit_kw=20.0),
        capacity_limits=(limited,),
        assets=(battery(stored_kwh=1.0, charge_limit_kw=1.0),),
    )
    solution = solve(problem)
    assert solution.publishable
    # 1 kWh there and 1 kWh charged before: the event needs 3, so 1 kWh stays above the limit and is reported
    assert solution.import_kw[1] == pytest.approx(3.0, abs=1e-6)
    (wish,) = solution.unmet
    assert (wish.wish, wish.owner) == ("event_limit", "event")
    assert wish.amount == pytest.approx(1.0, abs=1e-6)


def test_change_cost_keeps_a_plan_that_is_as_good_as_another() -> None:
    """Two hours a hair apart: the old plan stays. A real difference moves it."""

    def planned(second_price: float) -> np.ndarray:
        problem = DispatchProblem(
            site_id="home",
            hours=np.ones(3),
            load_kw=np.array([0.0, 0.0, 2.0]),
            prices=Prices(import_per_kwh=np.array([0.10, second_price, 0.50])),
            change_costs=(
                ChangeCost(
                    asset="battery", net_consumption_kw=np.array([2.0, 0.0, -2.0]), price_per_kwh=0.005
                ),
            ),
            assets=(battery(),),
        )
        return solve(problem).schedule("battery").net_consumption_kw

    assert planned(0.095) == pytest.approx([2.0, 0.0, -2.0], abs=1e-6)
    assert planned(0.05) == pytest.approx([0.0, 2.0, -2.0], abs=1e-6)
