"""Reasons as data: what a sentence on the energy page is made of."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer import Battery, DispatchProblem, GridConnection, Prices, Pv, Vehicle, Why, solve


def home(**changes: object) -> DispatchProblem:
    """Sun at interval 1, dear evening at 3; the battery loses a tenth on the way in."""
    given: dict[str, object] = {
        "site_id": "home",
        "hours": np.ones(5),
        "load_kw": np.array([1.0, 1.0, 1.0, 2.0, 1.0]),
        "prices": Prices(import_per_kwh=np.array([200.0, 200.0, 200.0, 410.0, 200.0]), export_per_kwh=50.0),
        "assets": (
            Pv(name="pv", available_kw=np.array([0.0, 3.0, 0.0, 0.0, 0.0])),
            Battery(
                name="battery",
                capacity_kwh=5.0,
                stored_kwh=0.0,
                charge_limit_kw=5.0,
                discharge_limit_kw=5.0,
                charge_efficiency_frac=0.9,
                discharge_efficiency_frac=1.0,
                end_value_per_kwh=0.0,
            ),
        ),
    }
    return DispatchProblem(**(given | changes))  # type: ignore[arg-type]


def test_charge_is_explained_by_the_interval_it_is_used_in_and_what_that_saves() -> None:
    """2 kWh of sun, 1.8 come out: worth 410 at three o'clock. The bus price at noon is what export would have paid."""
    solution = solve(home())
    reason = solution.explanation.reason("battery", 1)
    assert reason is not None
    assert reason.why is Why.STORED_FOR_LATER
    assert reason.until_interval == 3
    bus = solution.bus_price_per_kwh
    assert reason.saves == pytest.approx(reason.energy_kwh * (0.9 * bus[3] - bus[1]), abs=0.5)
    assert reason.saves > 0
    used = solution.explanation.reason("battery", 3)
    assert used is not None
    assert used.why is Why.USED_FROM_STORE


def test_bus_price_is_what_one_more_kwh_would_cost() -> None:
    """Against the cost of the same home with 0.01 kWh more load in each interval."""
    problem = home()
    base = solve(problem)
    for t in range(5):
        load = problem.load_kw.copy()
        load[t] += 0.01
        more = solve(home(load_kw=load))
        assert (more.cost - base.cost) / 0.01 == pytest.approx(base.bus_price_per_kwh[t], rel=1e-3, abs=0.1)


def test_stored_value_is_what_one_more_stored_kwh_would_save() -> None:
    problem = home()
    base = solve(problem)
    pv, battery = problem.assets
    assert isinstance(battery, Battery)
    more = Battery(
        name="battery",
        capacity_kwh=5.0,
        stored_kwh=0.01,
        charge_limit_kw=5.0,
        discharge_limit_kw=5.0,
        charge_efficiency_frac=0.9,
        discharge_efficiency_frac=1.0,
        end_value_per_kwh=0.0,
    )
    richer = solve(home(assets=(pv, more)))
    value = base.schedule("battery").stored_value_per_kwh[0]
    assert (base.cost - richer.cost) / 0.01 == pytest.approx(value, rel=1e-3)


def test_curtailment_and_binding_export_limit_are_named() -> None:
    problem = home(
        grid=GridConnection(export_limit_kw=0.5),
        assets=(Pv(name="pv", available_kw=np.array([0.0, 9.0, 0.0, 0.0, 0.0])),),
    )
    solution = solve(problem)
    reason = solution.explanation.reason("pv", 1)
    assert reason is not None
    assert reason.why is Why.CURTAILED
    assert reason.energy_kwh == pytest.approx(7.5, abs=1e-6)
    limits = {(limit.owner, limit.limit): limit.intervals for limit in solution.explanation.binding}
    assert limits["grid", "export_limit_kw"] == (1,)


def test_vehicle_charging_is_explained_against_its_stay() -> None:
    car = Vehicle(
        name="car",
        capacity_kwh=40.0,
        stored_kwh=10.0,
        wished_kwh=16.0,
        arrival=0.0,
        departure=5.0,
        charge_limit_kw=7.0,
        charge_efficiency_frac=1.0,
    )
    solution = solve(
        home(
            assets=(car,),
            prices=Prices(import_per_kwh=np.array([300.0, 100.0, 300.0, 300.0, 300.0])),
        )
    )
    reason = solution.explanation.reason("car", 1)
    assert reason is not None
    assert reason.why is Why.RUNS_NOW
    # mean price of the stay 260, here 100: 6 kWh save 960
    assert reason.saves == pytest.approx(960.0, abs=1.0)
