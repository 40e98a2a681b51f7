"""The fast loop's call answers what a full solve would, keeps limits, and never asks for both directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optimizer import (
    Battery,
    DispatchProblem,
    Generator,
    GridConnection,
    Outcome,
    Prices,
    Pv,
    Vehicle,
    WarmDispatch,
    solve,
)

N = 48


def home(seed: int = 0, **changes: object) -> DispatchProblem:
    rng = np.random.default_rng(seed)
    hour = np.arange(N) / 2
    given: dict[str, object] = {
        "site_id": "home",
        "hours": np.full(N, 0.5),
        "load_kw": rng.uniform(0.2, 2.0, N),
        "prices": Prices(
            import_per_kwh=np.where((hour % 24 >= 16) & (hour % 24 < 21), 0.4, 0.2), export_per_kwh=0.08
        ),
        "grid": GridConnection(import_limit_kw=6.0, export_limit_kw=3.0),
        "assets": (
            Battery(
                name="battery",
                capacity_kwh=8.0,
                stored_kwh=3.0,
                charge_limit_kw=4.0,
                discharge_limit_kw=4.0,
                band_min_kwh=0.8,
                end_value_per_kwh=0.15,
            ),
            Pv(name="pv", available_kw=np.maximum(0.0, 4.0 * np.sin((hour - 6) / 12 * np.pi))),
        ),
    }
    return DispatchProblem(**(given | changes))  # type: ignore[arg-type]


def changed(problem: DispatchProblem, load_kw: float, sun_kw: float, stored_kwh: float) -> DispatchProblem:
    load = problem.load_kw.copy()
    load[0] = load_kw
    battery, pv = problem.assets
    assert isinstance(battery, Battery)
    assert isinstance(pv, Pv)
    sun = pv.available_kw.copy()
    sun[0] = sun_kw
    return replace(
        problem,
        load_kw=load,
        assets=(replace(battery, stored_kwh=stored_kwh), replace(pv, available_kw=sun)),
    )


def test_first_interval_equals_a_full_solve_with_the_same_values() -> None:
    problem = home()
    warm = WarmDispatch(solve(problem))
    rng = np.random.default_rng(3)
    for _ in range(25):
        load, sun, stored = rng.uniform(0, 5), rng.uniform(0, 4), rng.uniform(0.0, 8.0)
        now = warm.resolve_first(load_kw=load, pv_available_kw={"pv": sun}, stored_kwh={"battery": stored})
        full = solve(changed(problem, load, sun, stored))
        assert now.outcome is Outcome.OPTIMAL
        want = full.schedule("battery").net_consumption_kw[0]
        assert now.net_consumption_kw["battery"] == pytest.approx(want, abs=1e-5)
        assert now.import_kw == pytest.approx(full.import_kw[0], abs=1e-5)
        assert now.export_kw == pytest.approx(full.export_kw[0], abs=1e-5)


def test_without_news_it_says_what_the_plan_says() -> None:
    solution = solve(home())
    now = WarmDispatch(solution).resolve_first()
    assert now.import_kw == pytest.approx(solution.import_kw[0], abs=1e-6)
    assert now.bus_price_per_kwh == pytest.approx(solution.bus_price_per_kwh[0], abs=1e-6)


def test_a_limit_signal_is_kept_at_once() -> None:
    warm = WarmDispatch(home())
    free = warm.resolve_first(load_kw=3.0)
    held = warm.resolve_first(load_kw=3.0, import_limit_kw=1.0)
    again = warm.resolve_first(load_kw=3.0)
    assert free.import_kw == pytest.approx(again.import_kw, abs=1e-6)
    assert held.import_kw <= 1.0 + 1e-6
    assert held.net_consumption_kw["battery"] <= -2.0 + 1e-6


def test_limit_that_cannot_be_kept_is_broken_as_little_as_possible() -> None:
    """Load 9 kW, limit 6 kW, an empty battery: 9 kW are imported, nothing is charged, nothing is cut."""
    now = WarmDispatch(home()).resolve_first(load_kw=9.0, stored_kwh={"battery": 0.0})
    assert now.import_kw == pytest.approx(9.0, abs=1e-6)
    assert now.unserved_kw == pytest.approx(0.0, abs=1e-9)


def test_the_rest_of_an_interval_is_shorter() -> None:
    """3 kWh above the band's floor cannot be given in 6 minutes at more than the rating."""
    now = WarmDispatch(home()).resolve_first(load_kw=20.0, remaining_h=0.1)
    assert now.net_consumption_kw["battery"] == pytest.approx(-4.0, abs=1e-6)


def test_never_both_directions_when_prices_are_negative() -> None:
    hour = np.arange(N) / 2
    prices = np.where(hour < 3, -0.3, 0.2)
    warm = WarmDispatch(home(prices=Prices(import_per_kwh=prices, export_per_kwh=prices - 0.01)))
    rng = np.random.default_rng(5)
    for _ in range(10):
        now = warm.resolve_first(load_kw=rng.uniform(0, 4), stored_kwh={"battery": rng.uniform(0, 8)})
        assert now.outcome is Outcome.OPTIMAL
        assert min(now.import_kw, now.export_kw) <= 1e-6


def test_vehicle_keeps_its_least_power_and_a_generator_its_plan() -> None:
    base = home()
    car = Vehicle(
        name="car",
        capacity_kwh=40.0,
        stored_kwh=20.0,
        wished_kwh=24.0,
        arrival=0.0,
        departure=30.0,
        charge_limit_kw=7.0,
        min_charge_kw=1.4,
    )
    unit = Generator(
        name="cell", limit_kw=1.5, least_kw=0.7, fuel_per_kwh=0.1, start_cost=0.2, power_now_kw=1.0
    )
    problem = replace(base, assets=(*base.assets, car, unit))
    solution = solve(problem)
    warm = WarmDispatch(solution)
    runs = bool(solution.schedule("cell").on[0])
    for load in (0.0, 1.0, 2.5, 5.0):
        now = warm.resolve_first(load_kw=load)
        assert now.outcome is Outcome.OPTIMAL
        charge = now.net_consumption_kw["car"]
        assert charge <= 1e-6 or charge >= 1.4 - 1e-6
        assert (now.net_consumption_kw["cell"] < -1e-6) == runs


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError, match="roof"):
        WarmDispatch(home()).resolve_first(pv_available_kw={"roof": 1.0})
