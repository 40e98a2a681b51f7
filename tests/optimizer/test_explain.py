"""Reasons as data: what a sentence on the energy page is made of."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer import (
    Battery,
    DispatchProblem,
    FlexibleLoad,
    Generator,
    GridConnection,
    HeatDemand,
    HeatPump,
    HeatStore,
    LightingGroup,
    Prices,
    Pv,
    SheddableLoad,
    Vehicle,
    Why,
    solve,
)


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


def test_a_generator_is_explained_by_what_buying_would_have_cost() -> None:
    """2 kW for an hour at 0.5 at the bus, 0.2 for fuel, 0.1 for running: 2 * 0.3 - 0.1 = 0.5 saved."""
    problem = DispatchProblem(
        site_id="site",
        hours=np.ones(2),
        load_kw=np.full(2, 3.0),
        prices=Prices(import_per_kwh=np.array([0.1, 0.5])),
        assets=(Generator(name="chp", limit_kw=2.0, fuel_per_kwh=0.2, running_cost_per_h=0.1),),
    )
    reasons = solve(problem).explanation.reasons
    assert [(r.asset, r.interval, r.why) for r in reasons] == [("chp", 1, Why.GENERATED)]
    assert reasons[0].energy_kwh == pytest.approx(2.0, abs=1e-6)
    assert reasons[0].saves == pytest.approx(0.5, abs=1e-4)


def test_a_heat_pump_is_explained_by_the_hours_it_avoids() -> None:
    """3 kWh of heat are wanted in the dear hour; they are made in the cheap one: 1 kWh at 0.1 against 0.2 in the mean."""
    problem = DispatchProblem(
        site_id="site",
        hours=np.ones(2),
        load_kw=np.full(2, 1.0),
        prices=Prices(import_per_kwh=np.array([0.1, 0.3])),
        assets=(
            HeatPump(name="pump", heat_node="tap", limit_kw=2.0, cop=3.0),
            HeatStore(
                name="tank",
                heat_node="tap",
                capacity_kwh=5.0,
                stored_kwh=0.0,
                charge_limit_kw=5.0,
                discharge_limit_kw=5.0,
                loss_frac_per_h=0.0,
            ),
            HeatDemand(name="shower", heat_node="tap", demand_kw=np.array([0.0, 3.0])),
        ),
    )
    (reason,) = solve(problem).explanation.reasons
    assert (reason.asset, reason.interval, reason.why) == ("pump", 0, Why.RUNS_NOW)
    assert reason.energy_kwh == pytest.approx(1.0, abs=1e-6)
    assert reason.saves == pytest.approx(0.1, abs=1e-4)


def test_what_is_cut_says_what_it_would_have_cost() -> None:
    """The price of 2.0 is above what the sauna (1.5) and the street's light (1.0) are worth: both are cut there."""
    problem = DispatchProblem(
        site_id="site",
        hours=np.ones(2),
        load_kw=np.full(2, 1.0),
        prices=Prices(import_per_kwh=np.array([0.5, 2.0])),
        assets=(
            SheddableLoad(name="sauna", demand_kw=np.full(2, 3.0), shed_price_per_kwh=1.5),
            LightingGroup(name="street", asked_kw=np.full(2, 1.0), least_frac=0.4, wish_price_per_kwh=1.0),
        ),
    )
    found = {r.asset: r for r in solve(problem).explanation.reasons}
    assert {(r.asset, r.interval, r.why) for r in found.values()} == {
        ("sauna", 1, Why.CUT),
        ("street", 1, Why.CUT),
    }
    assert found["sauna"].saves == pytest.approx(6.0, abs=1e-3)
    assert found["street"].energy_kwh == pytest.approx(0.6, abs=1e-6)


def test_an_interruptible_load_is_held_against_its_own_window_only() -> None:
    """Free hours outside its window say nothing about it: 0.1 against the mean of 0.1 and 0.3."""
    problem = DispatchProblem(
        site_id="site",
        hours=np.ones(3),
        load_kw=np.full(3, 1.0),
        prices=Prices(import_per_kwh=np.array([0.0, 0.1, 0.3])),
        assets=(
            FlexibleLoad(name="pump", energy_kwh=1.0, limit_kw=1.0, available=np.array([0.0, 1.0, 1.0])),
        ),
    )
    (reason,) = solve(problem).explanation.reasons
    assert reason.interval == 1
    assert reason.saves == pytest.approx(0.1, abs=1e-4)
