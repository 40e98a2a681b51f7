"""Assets one by one, against enumeration or arithmetic anybody can follow."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from optimizer import (
    Asset,
    Battery,
    Boiler,
    Building,
    DispatchProblem,
    DispatchSolution,
    FlexibleLoad,
    Generator,
    GridConnection,
    HeatDemand,
    HeatPump,
    HeatStore,
    Prices,
    Pv,
    SheddableLoad,
    ShiftableRun,
    Vehicle,
    WearSegment,
    cop_of,
    solve,
)


def site(
    *assets: Asset,
    price: object = 0.3,
    load: object = 0.0,
    hours: object = 1.0,
    n: int = 6,
    grid: GridConnection | None = None,
    export: float = 0.0,
) -> DispatchProblem:
    return DispatchProblem(
        site_id="site",
        hours=np.broadcast_to(hours, n),
        load_kw=np.broadcast_to(load, n),
        prices=Prices(import_per_kwh=np.broadcast_to(price, n), export_per_kwh=export),
        grid=grid or GridConnection(),
        assets=assets,
        money_gap=1e-6,
    )


def solved(problem: DispatchProblem) -> DispatchSolution:
    solution = solve(problem)
    assert solution.publishable, (solution.outcome, solution.audit, solution.report)
    return solution


PRICE = np.array([0.30, 0.10, 0.25, 0.05, 0.20, 0.40])


@pytest.mark.parametrize(
    ("window", "want"),
    [
        # a run of 1 kW, 2 kW: cost at start k is PRICE[k] + 2 * PRICE[k+1]; k=2: 0.25+0.10=0.35, k=0: 0.30+0.20
        pytest.param({}, 2, id="cheapest start"),
        pytest.param({"latest_end": 3.0}, 0, id="over by 3: starts 0 (0.50) or 1 (0.60)"),
        pytest.param({"earliest": 2.5}, 3, id="not before 2.5: 3 (0.45) or 4 (1.00)"),
        pytest.param({"not_during": np.array([0, 0, 0, 1, 0, 0])}, 0, id="not during 3"),
        pytest.param({"earliest": 4.0, "latest_end": 5.0}, None, id="no room: it does not run"),
    ],
)
def test_a_run_starts_where_it_is_cheapest(window: dict[str, object], want: int | None) -> None:
    run = ShiftableRun(name="washer", profile_kw=np.array([1.0, 2.0]), step_h=1.0, **window)  # type: ignore[arg-type]
    solution = solved(site(run, price=PRICE))
    assert solution.schedule("washer").start_interval == want
    assert [wish.wish for wish in solution.unmet] == ([] if want is not None else ["unfinished_run"])


def test_a_run_keeps_its_energy_on_intervals_of_other_lengths() -> None:
    """Profile in 20-minute steps on intervals of 15, 15, 30, 60 minutes: 1 kWh wherever it starts."""
    run = ShiftableRun(name="washer", profile_kw=np.array([0.6, 1.8, 0.6]), step_h=1 / 3)
    problem = site(run, price=np.array([0.3, 0.2, 0.1, 0.4]), hours=np.array([0.25, 0.25, 0.5, 1.0]), n=4)
    solution = solved(problem)
    assert float(problem.hours @ solution.schedule("washer").net_consumption_kw) == pytest.approx(1.0)


def test_two_runs_share_a_small_connection() -> None:
    """Both want interval 3; the contract carries one. Enumeration of all pairs of starts gives the cost."""
    runs = [ShiftableRun(name=f"run{k}", profile_kw=np.array([2.0, 1.0]), step_h=1.0) for k in range(2)]
    problem = site(*runs, price=PRICE, grid=GridConnection(import_limit_kw=2.0))
    best = np.inf
    for a, b in product(range(5), repeat=2):
        drawn = np.zeros(6)
        for k in (a, b):
            drawn[k : k + 2] += (2.0, 1.0)
        if drawn.max() <= 2.0:
            best = min(best, float(drawn @ PRICE))
    assert solved(problem).money == pytest.approx(best, abs=1e-6)


def test_interruptible_load_on_or_off_takes_the_cheapest_whole_intervals() -> None:
    """3 kWh at 1.5 kW, on or off: intervals 3 and 1. 4 kWh would need 2.67 intervals: 1 kWh or less is left."""
    pump = FlexibleLoad(name="pump", energy_kwh=3.0, limit_kw=1.5, least_kw=1.5)
    assert solved(site(pump, price=PRICE)).schedule("pump").net_consumption_kw == pytest.approx(
        [0, 1.5, 0, 1.5, 0, 0], abs=1e-6
    )


def test_optional_load_runs_only_on_what_is_cheaper_than_its_own_price() -> None:
    pump = FlexibleLoad(name="pump", energy_kwh=10.0, limit_kw=1.0, wish_price_per_kwh=0.15)
    solution = solved(site(pump, price=PRICE))
    assert solution.schedule("pump").net_consumption_kw == pytest.approx([0, 1, 0, 1, 0, 0], abs=1e-6)


def commitment_by_enumeration(problem: DispatchProblem, unit: Generator) -> float:
    """Every on/off sequence that keeps the minimum times; power per interval is least, limit or the load itself."""
    n, load = problem.intervals, problem.load_kw
    prices = np.broadcast_to(problem.prices.import_per_kwh, n)
    best = np.inf
    for pattern in product((False, True), repeat=n):
        state, since, legal, cost = unit.power_now_kw > 0, unit.in_state_h, True, 0.0
        for t, on in enumerate(pattern):
            if on != state:
                legal &= since >= (unit.min_up_h if state else unit.min_down_h)
                cost += unit.start_cost if on else 0.0
                state, since = on, 0.0
            since += 1.0
            options = [0.0]
            if on:
                cost += unit.running_cost_per_h
                options = [
                    unit.least_kw,
                    float(unit.limit_kw),
                    float(np.clip(load[t], unit.least_kw, unit.limit_kw)),
                ]
            cost += min(p * unit.fuel_per_kwh + max(0.0, load[t] - p) * prices[t] for p in options)
        if legal:
            best = min(best, cost)
    return best


@pytest.mark.parametrize(
    "past",
    [
        pytest.param({"power_now_kw": 0.0}, id="cold"),
        pytest.param({"power_now_kw": 2.0, "in_state_h": 1.0}, id="started an hour ago: must go on"),
        pytest.param({"power_now_kw": 0.0, "in_state_h": 1.0}, id="stopped an hour ago: must rest"),
    ],
)
def test_commitment_equals_enumeration(past: dict[str, float]) -> None:
    unit = Generator(
        name="chp",
        limit_kw=4.0,
        least_kw=2.0,
        fuel_per_kwh=0.12,
        start_cost=0.15,
        running_cost_per_h=0.05,
        min_up_h=3.0,
        min_down_h=2.0,
        **past,  # type: ignore[arg-type]
    )
    load = np.array([3.0, 0.5, 5.0, 4.0, 1.0, 0.2, 3.0, 6.0])
    price = np.array([0.3, 0.1, 0.4, 0.35, 0.2, 0.1, 0.3, 0.5])
    problem = site(unit, price=price, load=load, n=8)
    assert solved(problem).money == pytest.approx(commitment_by_enumeration(problem, unit), abs=1e-5)


def test_ramps_hold_the_generator_back() -> None:
    """1 kW/h up, no commitment: 1, 2, 3 kW although 5 kW would pay at once."""
    unit = Generator(name="engine", limit_kw=5.0, fuel_per_kwh=0.1, ramp_kw_per_h=1.0)
    solution = solved(site(unit, price=0.3, load=5.0, n=3))
    assert -solution.schedule("engine").net_consumption_kw == pytest.approx([1.0, 2.0, 3.0], abs=1e-6)


def test_chp_heat_is_used_before_the_boiler_burns() -> None:
    """CHP gives 2 kWh of heat per kWh; 3 kW of demand: 1.5 kW of electricity saves 1.5 * 0.3 + 3 * 0.1 of gas."""
    problem = site(
        Generator(name="chp", limit_kw=2.0, fuel_per_kwh=0.35, heat_per_kwh=2.0, heat_node="house"),
        Boiler(name="boiler", heat_node="house", limit_kw=10.0, fuel_per_kwh=0.1, efficiency_frac=1.0),
        HeatDemand(name="demand", heat_node="house", demand_kw=np.full(3, 3.0)),
        price=0.3,
        load=2.0,
        n=3,
    )
    solution = solved(problem)
    # beyond 1.5 kW the heat has no use and 0.35 for fuel is more than 0.30 for import
    assert -solution.schedule("chp").net_consumption_kw == pytest.approx(np.full(3, 1.5), abs=1e-6)
    assert solution.money == pytest.approx(3 * (1.5 * 0.35 + 0.5 * 0.3), abs=1e-6)


def test_heat_pump_heats_when_it_is_warm_outside_and_the_tank_carries_it() -> None:
    """COP 4 at noon, 2 at night; 4 kWh of heat wanted at night, tank without losses: 1 kWh of electricity at noon."""
    problem = site(
        HeatPump(name="pump", heat_node="tap", limit_kw=2.0, cop=np.array([4.0, 2.0])),
        HeatStore(
            name="tank",
            heat_node="tap",
            capacity_kwh=10.0,
            stored_kwh=0.0,
            charge_limit_kw=8.0,
            discharge_limit_kw=8.0,
            loss_frac_per_h=0.0,
        ),
        HeatDemand(name="shower", heat_node="tap", demand_kw=np.array([0.0, 4.0])),
        n=2,
    )
    solution = solved(problem)
    assert solution.schedule("pump").net_consumption_kw == pytest.approx([1.0, 0.0], abs=1e-6)
    assert solution.schedule("tank").stored_kwh == pytest.approx([0.0, 4.0, 0.0], abs=1e-6)


def test_building_is_warmed_before_the_dear_hours_and_stays_comfortable() -> None:
    n = 24
    outdoor = 2.0 + 3.0 * np.sin(np.arange(n) / 24 * 2 * np.pi)
    price = np.where((np.arange(n) >= 17) & (np.arange(n) < 21), 0.5, 0.2)
    problem = site(
        HeatPump(name="pump", heat_node="house", limit_kw=3.0, cop=cop_of(outdoor)),
        Building(
            name="house",
            heat_node="house",
            loss_kw_per_k=0.15,
            capacity_kwh_per_k=8.0,
            indoor_degc=20.5,
            outdoor_degc=outdoor,
        ),
        price=price,
        n=n,
    )
    solution = solved(problem)
    assert solution.unmet == ()
    dear = solution.schedule("pump").net_consumption_kw[17:21]
    assert float(dear.sum()) < 0.2 * 4  # it coasts; holding 20 degC would take about 0.8 kW
    assert np.all(solution.schedule("house").indoor_degc[1:] >= 20.0 - 1e-6)


def test_a_cold_building_that_cannot_get_warm_says_so_in_degree_hours() -> None:
    """0.1 K too cold cannot be mended by a 0 kW heat pump: every hour is reported."""
    problem = site(
        HeatPump(name="pump", heat_node="house", limit_kw=0.0, cop=3.0),
        Building(
            name="house",
            heat_node="house",
            loss_kw_per_k=0.1,
            capacity_kwh_per_k=5.0,
            indoor_degc=19.0,
            outdoor_degc=np.full(4, 19.0),
        ),
        n=4,
    )
    (wish,) = solved(problem).unmet
    assert (wish.wish, wish.unit) == ("comfort", "degC h")
    assert wish.amount == pytest.approx(4.0, abs=1e-6)


def test_cooling_lowers_the_temperature() -> None:
    problem = site(
        HeatPump(name="aircon", heat_node="cold", limit_kw=2.0, cop=3.0),
        Building(
            name="room",
            heat_node="cold",
            loss_kw_per_k=0.1,
            capacity_kwh_per_k=2.0,
            indoor_degc=25.0,
            outdoor_degc=np.full(6, 33.0),
            comfort_max_degc=26.0,
            cools=True,
        ),
    )
    solution = solved(problem)
    assert solution.unmet == ()
    assert solution.schedule("room").indoor_degc[-1] == pytest.approx(26.0, abs=1e-6)
    assert solution.schedule("aircon").net_consumption_kw.sum() > 0.5


def test_island_sheds_by_class_and_keeps_critical_load_with_the_reserve() -> None:
    """No grid for four hours, 6 kWh stored, 4 of them reserve. Critical 1 kW is served from the reserve.

    What is left (6 - 4 = 2 kWh) would serve class 0 or 1 for two hours; keeping the reserve is worth
    100 x scale per kWh and hour, and both classes (200, 100 x scale per kWh) are cheaper to cut early.
    """
    problem = site(
        Battery(
            name="battery",
            capacity_kwh=10.0,
            stored_kwh=6.0,
            charge_limit_kw=5.0,
            discharge_limit_kw=5.0,
            charge_efficiency_frac=1.0,
            discharge_efficiency_frac=1.0,
            band_min_kwh=4.0,
        ),
        SheddableLoad(name="kitchen", demand_kw=np.full(4, 0.5), priority_class=0),
        SheddableLoad(name="sauna", demand_kw=np.full(4, 3.0), priority_class=2),
        load=1.0,
        n=4,
        grid=GridConnection(import_rating_kw=0.0, export_rating_kw=0.0),
    )
    solution = solved(problem)
    assert solution.unserved_kw == pytest.approx(np.zeros(4), abs=1e-9)
    assert solution.schedule("sauna").net_consumption_kw == pytest.approx(np.zeros(4), abs=1e-6)
    wishes = {wish.owner for wish in solution.unmet}
    assert "sauna" in wishes
    assert "grid" not in wishes


def test_an_empty_island_names_the_load_it_cannot_serve() -> None:
    solution = solved(site(load=2.0, n=3, grid=GridConnection(import_rating_kw=0.0, export_rating_kw=0.0)))
    (wish,) = solution.unmet
    assert (wish.wish, wish.owner, wish.unit) == ("unserved_load", "grid", "kWh")
    assert wish.amount == pytest.approx(6.0)


def test_sun_that_cannot_go_anywhere_is_named_not_infeasible() -> None:
    solution = solved(
        site(
            Pv(name="pv", available_kw=np.full(3, 4.0), curtailable=False),
            load=1.0,
            n=3,
            grid=GridConnection(export_rating_kw=1.0),
        )
    )
    assert {wish.wish: wish.amount for wish in solution.unmet} == pytest.approx({"surplus": 6.0})


def test_deep_slices_are_left_alone_when_their_wear_is_dearer_than_the_spread() -> None:
    """Spread 0.2; the shallow half wears 0.05, the deep half 0.3 per kWh: only 5 of 10 kWh move."""
    battery = Battery(
        name="battery",
        capacity_kwh=10.0,
        stored_kwh=10.0,
        charge_limit_kw=10.0,
        discharge_limit_kw=10.0,
        charge_efficiency_frac=1.0,
        discharge_efficiency_frac=1.0,
        end_value_per_kwh=0.1,
        wear_segments=(
            WearSegment(share_frac=0.5, wear_per_kwh=0.05),
            WearSegment(share_frac=0.5, wear_per_kwh=0.3),
        ),
    )
    solution = solved(site(battery, price=0.3, load=10.0, n=1))
    assert solution.schedule("battery").discharge_kw == pytest.approx([5.0], abs=1e-6)
    assert {line.term: line.amount for line in solution.costs}["wear_depth"] == pytest.approx(0.25)


def test_vehicle_that_cannot_make_it_charges_all_it_can_and_names_what_is_missing() -> None:
    car = Vehicle(
        name="car",
        capacity_kwh=50.0,
        stored_kwh=10.0,
        wished_kwh=40.0,
        arrival=1.5,
        departure=4.0,
        charge_limit_kw=7.0,
        charge_efficiency_frac=1.0,
    )
    solution = solved(site(car, price=PRICE))
    assert solution.schedule("car").charge_kw == pytest.approx([0, 3.5, 7, 7, 0, 0], abs=1e-6)
    (wish,) = solution.unmet
    assert (wish.wish, wish.owner) == ("departure", "car")
    assert wish.amount == pytest.approx(12.5, abs=1e-6)
    assert solution.schedule("car").missing_kwh == pytest.approx(12.5, abs=1e-6)


def test_a_battery_asked_for_a_power_gives_it_as_far_as_it_can_and_says_what_is_missing() -> None:
    """6 kWh of room, no losses: asked for 4 kW over two hours, then to rest, then it is free again."""
    asked = np.array([4.0, 4.0, 0.0, np.nan, np.nan, np.nan])
    battery = Battery(
        name="b", capacity_kwh=6.0, stored_kwh=0.0, charge_limit_kw=5.0, discharge_limit_kw=5.0,
        charge_efficiency_frac=1.0, discharge_efficiency_frac=1.0, end_value_per_kwh=0.0, asked_kw=asked,
    )  # fmt: skip
    solution = solved(site(battery, price=PRICE, load=1.0))
    schedule = solution.schedule("b")
    assert schedule.net_consumption_kw[:3] == pytest.approx([4.0, 2.0, 0.0])
    assert schedule.net_consumption_kw[3:] == pytest.approx([-1.0, -1.0, -1.0])
    (wish,) = solution.unmet
    assert (wish.wish, wish.owner, wish.amount) == ("override", "b", pytest.approx(2.0))


def test_a_full_battery_asked_to_charge_does_not_discharge_to_have_room() -> None:
    battery = Battery(
        name="b", capacity_kwh=6.0, stored_kwh=6.0, charge_limit_kw=5.0, discharge_limit_kw=5.0,
        asked_kw=np.full(6, 4.0),
    )  # fmt: skip
    solution = solved(site(battery, price=PRICE, load=1.0))
    assert solution.schedule("b").net_consumption_kw == pytest.approx(np.zeros(6))
