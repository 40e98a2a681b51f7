"""The answer from marginal values of stored energy is the answer of a new solve, on any site it takes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from optimizer import (
    Battery,
    DispatchProblem,
    GridConnection,
    HybridInverter,
    Prices,
    Pv,
    ValuedDispatch,
    Vehicle,
    WarmDispatch,
)

N = 48
POWER_KW = 1e-4
"""Decisions whose powers differ by less are the same [kW]; solver tolerances are 1e-9 of energies and money."""


def site(
    seed: int, *, hybrid: bool = False, dynamic: bool = False, curtailable: bool = True, **changes: object
) -> DispatchProblem:
    """A random home: load, clouds, prices by time of use or by the hour."""
    rng = np.random.default_rng(seed)
    hour = np.arange(N) / 2
    buy = rng.uniform(0.05, 0.4, N) if dynamic else np.where((hour % 24 >= 15) & (hour % 24 < 20), 0.5, 0.21)
    inverter = "inverter" if hybrid else None
    shine = np.maximum(0.0, 5.0 * np.sin((hour - 6) / 12 * np.pi)) * rng.uniform(0.2, 1.0, N)
    given: dict[str, object] = {
        "site_id": "home",
        "hours": np.full(N, 0.5),
        "load_kw": rng.uniform(0.1, 3.0, N),
        "prices": Prices(
            import_per_kwh=buy, export_per_kwh=buy - rng.uniform(0.02, 0.1, N) if dynamic else 0.05
        ),
        "grid": GridConnection(
            import_limit_kw=float(rng.choice([3.0, 6.0, 14.0])), export_limit_kw=float(rng.choice([0.0, 2.0, 5.0]))
        ),
        "assets": (
            *((HybridInverter(name="inverter", rating_kw=4.0),) if hybrid else ()),
            Pv(name="roof", available_kw=shine, curtailable=curtailable, inverter=inverter),
            Battery(
                name="battery",
                capacity_kwh=6.4,
                stored_kwh=float(rng.uniform(0.0, 6.4)),
                charge_limit_kw=5.0,
                discharge_limit_kw=4.0,
                band_min_kwh=0.32,
                end_value_per_kwh=0.15,
                wear_per_kwh=float(rng.choice([0.0, 0.02])),
                inverter=inverter,
            ),
        ),
    }  # fmt: skip
    return DispatchProblem(**(given | changes))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    seed=st.integers(0, 10_000),
    hybrid=st.booleans(),
    dynamic=st.booleans(),
    curtailable=st.booleans(),
    load_kw=st.floats(0.0, 9.0),
    sun_kw=st.floats(0.0, 6.0),
    remaining_h=st.none() | st.floats(0.02, 0.5),
    import_limit_kw=st.none() | st.floats(0.0, 4.0),
    export_limit_kw=st.none() | st.floats(0.0, 4.0),
)
def test_the_worth_of_stored_energy_gives_the_decision_of_a_new_solve(
    seed: int,
    hybrid: bool,
    dynamic: bool,
    curtailable: bool,
    load_kw: float,
    sun_kw: float,
    remaining_h: float | None,
    import_limit_kw: float | None,
    export_limit_kw: float | None,
) -> None:
    problem = site(seed, hybrid=hybrid, dynamic=dynamic, curtailable=curtailable)
    valued, warm = ValuedDispatch(problem), WarmDispatch(problem)
    now = {
        "load_kw": load_kw,
        "pv_available_kw": {"roof": sun_kw},
        "remaining_h": remaining_h,
        "import_limit_kw": import_limit_kw,
        "export_limit_kw": export_limit_kw,
    }
    by_worth, by_solve = valued.resolve_first(**now), warm.resolve_first(**now)  # type: ignore[arg-type]
    assert by_worth.net_consumption_kw == pytest.approx(dict(by_solve.net_consumption_kw), abs=POWER_KW)
    assert by_worth.import_kw == pytest.approx(by_solve.import_kw, abs=POWER_KW)
    assert by_worth.export_kw == pytest.approx(by_solve.export_kw, abs=POWER_KW)
    assert by_worth.curtailed_kw == pytest.approx(dict(by_solve.curtailed_kw), abs=POWER_KW)


@pytest.mark.parametrize("hybrid", [False, True], ids=["at the bus", "behind a hybrid inverter"])
def test_an_ordinary_home_is_answered_without_a_solve(hybrid: bool) -> None:
    for seed in range(6):
        problem = site(seed, hybrid=hybrid, dynamic=seed % 2 == 0)
        assert ValuedDispatch(problem).resolve_first(load_kw=2.5).solver_seconds == 0.0


def test_worth_is_concave_and_its_slope_is_what_a_kwh_saves_later() -> None:
    """One dear half hour of 2 kW load later: up to 1 kWh / 0.95 of store saves 0.5 per kWh, more is worth its end value."""
    prices = np.full(N, 0.1)
    prices[10] = 0.5
    load = np.zeros(N)
    load[10] = 2.0
    battery = Battery(
        name="battery", capacity_kwh=4.0, stored_kwh=1.0, charge_limit_kw=4.0, discharge_limit_kw=4.0,
        end_value_per_kwh=0.02,
    )  # fmt: skip
    problem = DispatchProblem(
        site_id="home", hours=np.full(N, 0.5), load_kw=load, prices=Prices(import_per_kwh=prices), assets=(battery,)
    )  # fmt: skip
    worth = ValuedDispatch(problem).worth
    assert worth is not None
    assert worth.per_kwh(3.0) == pytest.approx(0.02, abs=1e-4)
    # below it, a kWh stored now saves buying one at 0.1 later: 1 / 0.95 kWh drawn per kWh stored
    assert worth.per_kwh(0.5) == pytest.approx(0.1 / 0.95, abs=1e-4)
    slopes = np.diff(worth.worth) / np.diff(worth.stored_kwh)
    assert (np.diff(slopes) <= 1e-9).all()


def test_a_site_with_more_to_decide_is_solved_anew() -> None:
    problem = site(1)
    car = Vehicle(
        name="car", capacity_kwh=50.0, stored_kwh=10.0, wished_kwh=20.0, arrival=0.0, departure=20.0,
        charge_limit_kw=7.4, min_charge_kw=1.4,
    )  # fmt: skip
    with_car = replace(problem, assets=(*problem.assets, car))
    valued, warm = ValuedDispatch(with_car), WarmDispatch(with_car)
    assert valued.worth is None
    by_worth, by_solve = valued.resolve_first(load_kw=2.0), warm.resolve_first(load_kw=2.0)
    assert by_worth.net_consumption_kw == pytest.approx(dict(by_solve.net_consumption_kw), abs=POWER_KW)


def test_a_filling_far_from_that_of_the_plan_is_answered_alike() -> None:
    """Half an hour at 4 kW moves 2 kWh; a battery that is suddenly 5.5 kWh fuller is somewhere else."""
    problem = site(2)
    battery = problem.asset("battery")
    assert isinstance(battery, Battery)
    problem = replace(problem, assets=(*problem.assets[:-1], replace(battery, stored_kwh=0.5)))
    valued, warm = ValuedDispatch(problem), WarmDispatch(problem)
    for stored_kwh in (0.0, 6.0, 6.4 + 1e-12):
        now = {"load_kw": 1.0, "stored_kwh": {"battery": stored_kwh}}
        by_worth, by_solve = valued.resolve_first(**now), warm.resolve_first(**now)  # type: ignore[arg-type]
        assert by_worth.solver_seconds == 0.0
        assert by_worth.net_consumption_kw == pytest.approx(dict(by_solve.net_consumption_kw), abs=POWER_KW)


def other_day(problem: DispatchProblem, load: float, sun: float) -> DispatchProblem:
    """The same site with more or less load and sun."""
    roof, battery = problem.asset("roof"), problem.asset("battery")
    assert isinstance(roof, Pv)
    return replace(
        problem,
        load_kw=load * problem.load_kw,
        assets=(
            *(a for a in problem.assets if a not in (roof, battery)),
            replace(roof, available_kw=sun * roof.available_kw),
            battery,
        ),
    )


@pytest.mark.parametrize("hybrid", [False, True], ids=["at the bus", "behind a hybrid inverter"])
def test_on_days_that_never_turn_stored_energy_is_worth_the_mean_over_them(hybrid: bool) -> None:
    problem = site(3, hybrid=hybrid, dynamic=True)
    others = [(0.3, other_day(problem, 1.5, 0.7)), (0.2, other_day(problem, 0.6, 1.2))]
    together = ValuedDispatch(problem, others).worth
    alone = [ValuedDispatch(course).worth for course in (problem, *(other for _, other in others))]
    assert together is not None
    mean = sum(
        weight * np.interp(together.stored_kwh, one.stored_kwh, one.worth - one.worth[0])
        for weight, one in zip((0.5, 0.3, 0.2), alone, strict=True)
        if one is not None
    )
    # kept at a hundred fillings, so bends between them are cut by less than a thousandth of what a full battery is worth
    most = float(np.ptp(together.worth))
    assert together.worth - together.worth[0] == pytest.approx(mean, abs=2e-3 * most)


def without_first(problem: DispatchProblem) -> DispatchProblem:
    """The same site when the first interval is over."""
    prices, roof, battery = problem.prices, problem.asset("roof"), problem.asset("battery")
    assert isinstance(roof, Pv)
    return replace(
        problem,
        hours=problem.hours[1:],
        load_kw=problem.load_kw[1:],
        prices=Prices(
            import_per_kwh=np.asarray(prices.import_per_kwh)[1:],
            export_per_kwh=np.broadcast_to(prices.export_per_kwh, problem.intervals)[1:],
        ),
        assets=(
            *(a for a in problem.assets if a not in (roof, battery)),
            replace(roof, available_kw=roof.available_kw[1:]),
            battery,
        ),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("turns", [False, True], ids=["a sure day", "a day that may turn"])
def test_what_energy_is_worth_an_interval_later_is_known_before_that_interval_begins(
    seed: int, turns: bool
) -> None:
    problem = site(seed, hybrid=bool(seed % 2), dynamic=True)
    others = [(0.3, other_day(problem, 1.5, 0.7)), (0.2, other_day(problem, 0.6, 1.2))] if turns else []
    before = ValuedDispatch(problem, others, half_life_h=1.0).worth
    anew = ValuedDispatch(
        without_first(problem), [(weight, without_first(other)) for weight, other in others], half_life_h=1.0
    )
    assert before is not None and before.later is not None and anew.worth is not None
    known = np.interp(anew.worth.stored_kwh, before.later.stored_kwh, before.later.worth)
    most = float(np.ptp(anew.worth.worth))
    assert known - known[0] == pytest.approx(anew.worth.worth - anew.worth.worth[0], abs=1e-4 * most)
    standing_in = ValuedDispatch(without_first(problem), worth=before.later)
    for load_kw, sun_kw in ((0.2, 3.0), (2.5, 0.0), (5.0, 1.0)):
        now = {"load_kw": load_kw, "pv_available_kw": {"roof": sun_kw}}
        first, second = standing_in.resolve_first(**now), anew.resolve_first(**now)  # type: ignore[arg-type]
        assert first.net_consumption_kw == pytest.approx(dict(second.net_consumption_kw), abs=0.02)


def test_what_a_kwh_is_worth_depends_on_whether_the_day_may_turn() -> None:
    """Ten dear half hours of 0.4 or 2 kW, 2 or 10 kWh. If the day is one or the other to its end, what is stored beyond
    2 kWh is wanted on one of two days; if every half hour is anew one or the other, 4 kWh are used up nearly always and
    8 kWh hardly ever."""
    prices, low = np.full(N, 0.1), np.zeros(N)
    prices[20:30], low[20:30] = 0.5, 0.4
    battery = Battery(
        name="battery", capacity_kwh=12.0, stored_kwh=6.0, charge_limit_kw=0.0, discharge_limit_kw=8.0,
        discharge_efficiency_frac=1.0, end_value_per_kwh=0.0,
    )  # fmt: skip
    home = DispatchProblem(
        site_id="home", hours=np.full(N, 0.5), load_kw=low, prices=Prices(import_per_kwh=prices), assets=(battery,)
    )  # fmt: skip
    busy = replace(home, load_kw=5.0 * low)
    stays = ValuedDispatch(home, [(0.5, busy)]).worth
    turns = ValuedDispatch(home, [(0.5, busy)], half_life_h=1e-3).worth
    assert stays is not None
    assert turns is not None
    assert stays.per_kwh(4.0) == pytest.approx(0.25, abs=1e-3)
    assert turns.per_kwh(4.0) == pytest.approx(0.5, abs=0.03)
    assert turns.per_kwh(8.0) < 0.1


@pytest.mark.parametrize("tiny", [1e-7, 1e-12, 1.2e-38, 5e-324])
def test_powers_below_any_meters_resolution_change_no_decision(tiny: float) -> None:
    """Bends of the cost that all but coincide must not lead the search for the lowest point astray."""
    for seed in (205, 5774, 8166, 7245):
        problem = site(seed, hybrid=True, dynamic=True)
        valued = ValuedDispatch(problem)
        for sun_kw in (0.0, tiny, 3.0):
            without = valued.resolve_first(
                load_kw=0.0, pv_available_kw={"roof": sun_kw if sun_kw > 1.0 else 0.0}
            )
            with_it = valued.resolve_first(load_kw=tiny, pv_available_kw={"roof": sun_kw})
            assert with_it.net_consumption_kw == pytest.approx(dict(without.net_consumption_kw), abs=POWER_KW)
