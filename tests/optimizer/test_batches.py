"""Many sites at once: grouped, streamed, spread over workers, and nobody's plan depends on the others."""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from optimizer import Battery, DispatchProblem, DispatchSolution, Prices, Pv, Vehicle, solve, solve_many


def home(seed: int) -> DispatchProblem:
    """Three shapes among the homes; equal prices all day, so that ties are everywhere."""
    rng = np.random.default_rng(seed)
    n = 48
    battery = Battery(
        name="battery",
        capacity_kwh=float(rng.uniform(4, 12)),
        stored_kwh=2.0,
        charge_limit_kw=3.0,
        discharge_limit_kw=3.0,
        charge_efficiency_frac=float(rng.uniform(0.9, 0.98)),
        end_value_per_kwh=0.1,
    )
    pv = Pv(name="pv", available_kw=np.maximum(0.0, rng.normal(1.5, 1.5, n)))
    car = Vehicle(
        name="car",
        capacity_kwh=40.0,
        stored_kwh=10.0,
        wished_kwh=20.0,
        arrival=5.0,
        departure=40.0,
        charge_limit_kw=7.0,
    )
    assets = {0: (battery, pv), 1: (battery,), 2: (battery, pv, car)}[seed % 3]
    return DispatchProblem(
        site_id=f"home-{seed}",
        hours=np.full(n, 0.5),
        load_kw=rng.uniform(0.2, 2.0, n),
        prices=Prices(import_per_kwh=0.3, export_per_kwh=0.1),
        assets=assets,
    )


HOMES = [home(seed) for seed in range(90)]


def assert_same(one: list[DispatchSolution], other: list[DispatchSolution]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.problem.site_id == b.problem.site_id
        assert a.publishable
        assert b.publishable
        assert a.cost == pytest.approx(b.cost, abs=1e-9)
        assert np.abs(a.import_kw - b.import_kw).max() <= 1e-6
        for x, y in zip(a.schedules, b.schedules, strict=True):
            assert np.abs(x.net_consumption_kw - y.net_consumption_kw).max() <= 1e-6


def test_a_plan_does_not_depend_on_who_shares_the_batch() -> None:
    together = solve_many(HOMES)
    assert_same(together, list(reversed(solve_many(list(reversed(HOMES))))))
    assert_same(together[:12], [solve(problem) for problem in HOMES[:12]])


def test_the_same_question_gets_the_same_answer_bit_for_bit() -> None:
    first, second = solve_many(HOMES), solve_many(HOMES)
    for a, b in zip(first, second, strict=True):
        assert a.import_kw.tobytes() == b.import_kw.tobytes()


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executors_give_the_same_plans(kind: type[Executor]) -> None:
    here = solve_many(HOMES)
    with kind(max_workers=2) as pool:  # type: ignore[call-arg]
        there = solve_many(HOMES, pool)
    assert_same(here, there)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_dask_gives_the_same_plans() -> None:
    """Two worker processes behind Dask's `concurrent.futures` executor."""
    from distributed import Client, LocalCluster

    here = solve_many(HOMES)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
        client.get_executor() as pool,
    ):
        there = solve_many(HOMES, pool)
    assert_same(here, there)


def test_an_empty_batch_is_an_empty_list() -> None:
    assert solve_many([]) == []
