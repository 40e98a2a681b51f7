"""Plans against the same problem assembled here by hand and given to scipy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, milp

from optimizer import (
    Battery,
    DispatchProblem,
    GridConnection,
    HybridInverter,
    Outcome,
    Prices,
    Pv,
    Vehicle,
    solve,
)


@dataclass
class Program:
    """A mixed-integer program, written down term by term."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)

    def var(self, n: int, *, cost: object = 0.0, upper: object = np.inf, whole: bool = False) -> np.ndarray:
        first = len(self.cost)
        self.cost.extend(np.broadcast_to(cost, n).tolist())
        self.lower.extend([0.0] * n)
        self.upper.extend(np.broadcast_to(upper, n).tolist())
        self.whole.extend([int(whole)] * n)
        return np.arange(first, first + n)

    def row(self, terms: dict[int, float], least: float, most: float) -> None:
        self.rows.append((terms, least, most))

    def solve(self) -> float:
        a = np.zeros((len(self.rows), len(self.cost)))
        for i, (terms, _, _) in enumerate(self.rows):
            for column, coefficient in terms.items():
                a[i, column] += coefficient
        rows = LinearConstraint(a, [r[1] for r in self.rows], [r[2] for r in self.rows])
        answer = milp(
            self.cost,
            integrality=self.whole,
            bounds=(self.lower, self.upper),
            constraints=rows,
            options={"mip_rel_gap": 0.0},
        )
        assert answer.success, answer.message
        # whole numbers are whole to a tolerance only: once more with them fixed, so that no big M leaks
        whole = np.array(self.whole, dtype=bool)
        lower, upper = np.array(self.lower), np.array(self.upper)
        lower[whole] = upper[whole] = np.round(answer.x[whole])
        answer = milp(self.cost, bounds=(lower, upper), constraints=rows)
        assert answer.success, answer.message
        return float(answer.fun)


def by_hand(problem: DispatchProblem) -> float:
    """Optimal cost of a site with AC batteries, arrays and vehicles, every direction a binary."""
    n, hours, grid, prices = problem.intervals, problem.hours, problem.grid, problem.prices
    p = Program()
    most = 1e3
    imported = p.var(n, cost=hours * prices.import_per_kwh, upper=np.minimum(grid.import_rating_kw, most))
    exported = p.var(n, cost=-hours * prices.export_per_kwh, upper=np.minimum(grid.export_rating_kw, most))
    rung = 1_000.0 * problem.price_scale * hours
    over_in, over_out = p.var(n, cost=rung), p.var(n, cost=rung)
    unserved = p.var(n, cost=10 * rung, upper=np.maximum(problem.load_kw, 0.0))
    surplus = p.var(n, cost=5 * rung)
    way = p.var(n, upper=1.0, whole=True)
    bus: list[dict[int, float]] = [
        {imported[t]: 1.0, exported[t]: -1.0, unserved[t]: 1.0, surplus[t]: -1.0} for t in range(n)
    ]
    limit_in = np.broadcast_to(grid.import_limit_kw, n)
    limit_out = np.broadcast_to(grid.export_limit_kw, n)
    for t in range(n):
        p.row({imported[t]: 1.0, over_in[t]: -1.0}, -np.inf, limit_in[t])
        p.row({exported[t]: 1.0, over_out[t]: -1.0}, -np.inf, limit_out[t])
        p.row({imported[t]: 1.0, way[t]: -most}, -np.inf, 0.0)
        p.row({exported[t]: 1.0, way[t]: most}, -np.inf, most)
    constant = 0.0
    for asset in problem.assets:
        if isinstance(asset, Pv):
            used = p.var(n, upper=asset.available_kw)
            for t in range(n):
                bus[t][used[t]] = 1.0
                if not asset.curtailable:
                    p.row({used[t]: 1.0}, asset.available_kw[t], asset.available_kw[t])
        else:
            constant += store_by_hand(problem, asset, p, bus)
    for t in range(n):
        p.row(bus[t], problem.load_kw[t], problem.load_kw[t])
    return p.solve() + constant


def store_by_hand(
    problem: DispatchProblem, asset: Battery | Vehicle, p: Program, bus: list[dict[int, float]]
) -> float:
    n, hours = problem.intervals, problem.hours
    most_in, most_out = (
        np.broadcast_to(asset.charge_limit_kw, n),
        np.broadcast_to(asset.discharge_limit_kw, n),
    )
    least, loss, wear = 0.0, 0.0, asset.wear_per_kwh
    if isinstance(asset, Vehicle):
        there = np.array([max(0.0, min(t + 1, asset.departure) - max(t, asset.arrival)) for t in range(n)])
        most_in, most_out, least = there * most_in, there * most_out, asset.min_charge_kw
        floor = min(asset.floor_kwh, asset.stored_kwh, asset.capacity_kwh) if np.any(most_out > 0) else 0.0
    else:
        there = np.ones(n)
        loss = asset.standby_loss_frac_per_h
        floor = min(float(asset.band_min_kwh), asset.capacity_kwh)
    charge, discharge = p.var(n), p.var(n, cost=hours * wear)
    stored = p.var(n, upper=max(asset.capacity_kwh, asset.stored_kwh))
    below = p.var(n, cost=100.0 * problem.price_scale * hours)
    on = p.var(n, upper=1.0, whole=True)
    for t in range(n):
        bus[t][discharge[t]] = 1.0
        bus[t][charge[t]] = -1.0
        p.row({charge[t]: 1.0, on[t]: -most_in[t]}, -np.inf, 0.0)
        p.row({charge[t]: 1.0, on[t]: -least * there[t]}, 0.0, np.inf)  # a full interval at the least power
        p.row({discharge[t]: 1.0, on[t]: most_out[t]}, -np.inf, most_out[t])
        keep = (1.0 - loss) ** hours[t]
        terms = {
            stored[t]: 1.0,
            charge[t]: -hours[t] * asset.charge_efficiency_frac,
            discharge[t]: hours[t] / asset.discharge_efficiency_frac,
        }
        if t:
            terms[stored[t - 1]] = -keep
        p.row(terms, *(2 * [0.0 if t else keep * asset.stored_kwh]))
        p.row({stored[t]: 1.0, below[t]: 1.0}, floor, np.inf)
    if isinstance(asset, Battery):
        assert asset.end_value_per_kwh is not None
        p.cost[stored[-1]] -= asset.end_value_per_kwh
    else:
        missing = p.var(1, cost=50.0 * problem.price_scale)
        extra = p.var(1, cost=-asset.extra_value_per_kwh)
        p.row({stored[-1]: 1.0, missing[0]: 1.0, extra[0]: -1.0}, asset.wished_kwh, asset.wished_kwh)
    return 0.0


def kw(most: float) -> st.SearchStrategy[float]:
    return st.integers(0, int(most * 1000)).map(lambda w: w / 1000.0)


@st.composite
def sites(draw: st.DrawFn) -> DispatchProblem:
    n = draw(st.integers(2, 10))

    def series(strategy: st.SearchStrategy[float]) -> np.ndarray:
        return np.array(draw(st.lists(strategy, min_size=n, max_size=n)))

    price = st.integers(-300, 600).map(lambda m: m / 1000.0)
    hours = draw(st.sampled_from([np.full(n, 0.25), np.full(n, 1.0), np.linspace(0.25, 2.0, n)]))
    assets: list[Battery | Pv | Vehicle] = []
    for k in range(draw(st.integers(0, 2))):
        capacity = draw(st.sampled_from([0.0, 5.0, 13.5]))
        assets.append(
            Battery(
                name=f"battery{k}",
                capacity_kwh=capacity,
                stored_kwh=capacity * draw(st.sampled_from([0.0, 0.05, 0.5, 1.0, 1.1])),
                charge_limit_kw=draw(kw(5.0)),
                discharge_limit_kw=draw(kw(5.0)),
                charge_efficiency_frac=draw(st.sampled_from([0.9, 0.95, 1.0])),
                discharge_efficiency_frac=draw(st.sampled_from([0.9, 0.97])),
                standby_loss_frac_per_h=draw(st.sampled_from([0.0, 0.01])),
                band_min_kwh=capacity * draw(st.sampled_from([0.0, 0.1])),
                wear_per_kwh=draw(st.sampled_from([0.0, 0.02])),
                end_value_per_kwh=draw(st.sampled_from([0.0, 0.2])),
            )
        )
    for k in range(draw(st.integers(0, 1))):
        assets.append(Pv(name=f"pv{k}", available_kw=series(kw(6.0)), curtailable=draw(st.booleans())))
    for k in range(draw(st.integers(0, 1))):
        arrival = draw(st.integers(-8, 8 * n - 8)) / 8.0
        assets.append(
            Vehicle(
                name=f"car{k}",
                capacity_kwh=40.0,
                stored_kwh=10.0,
                wished_kwh=draw(st.sampled_from([5.0, 14.0, 40.0])),
                arrival=arrival,
                departure=arrival + draw(st.integers(0, 8 * n)) / 8.0,
                charge_limit_kw=7.0,
                min_charge_kw=draw(st.sampled_from([0.0, 1.4])),
                discharge_limit_kw=draw(st.sampled_from([0.0, 5.0])),
                floor_kwh=draw(st.sampled_from([0.0, 8.0])),
                extra_value_per_kwh=draw(st.sampled_from([0.0, 0.1])),
            )
        )
    return DispatchProblem(
        site_id="random",
        hours=hours,
        load_kw=series(kw(4.0)),
        prices=Prices(import_per_kwh=series(price), export_per_kwh=series(price)),
        grid=GridConnection(
            import_limit_kw=draw(st.sampled_from([np.inf, 3.0, 0.5])),
            export_limit_kw=draw(st.sampled_from([np.inf, 1.0, 0.0])),
            import_rating_kw=draw(st.sampled_from([np.inf, 10.0, 0.0])),
        ),
        assets=tuple(assets),
        money_gap=1e-7,
    )


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problem=sites())
def test_random_sites_cost_what_an_independent_program_says(problem: DispatchProblem) -> None:
    solution = solve(problem)
    assert solution.audit.findings == ()
    assert solution.outcome is Outcome.OPTIMAL
    want = by_hand(problem)
    slack = 1e-6 * (1.0 + sum(abs(line.amount) for line in solution.costs))
    assert solution.cost == pytest.approx(want, abs=slack + solution.tie_break_cost)
    assert solution.cost >= want - slack


def test_hybrid_inverter_clips_and_stores_on_its_dc_side() -> None:
    """8 kW of sun behind a 4 kW inverter: what the inverter cannot pass goes into the battery without AC losses."""
    problem = DispatchProblem(
        site_id="hybrid",
        hours=np.ones(4),
        load_kw=np.full(4, 1.0),
        prices=Prices(import_per_kwh=0.3, export_per_kwh=0.1),
        assets=(
            HybridInverter(name="inv", rating_kw=4.0, to_ac_efficiency_frac=1.0, to_dc_efficiency_frac=1.0),
            Pv(name="pv", available_kw=np.array([8.0, 0.0, 0.0, 0.0]), inverter="inv"),
            Battery(
                name="b",
                capacity_kwh=10.0,
                stored_kwh=0.0,
                charge_limit_kw=5.0,
                discharge_limit_kw=5.0,
                charge_efficiency_frac=1.0,
                discharge_efficiency_frac=1.0,
                end_value_per_kwh=0.0,
                inverter="inv",
            ),
        ),
    )
    solution = solve(problem)
    assert solution.publishable
    # 4 kWh do not fit through the inverter; 3 serve the house, the fourth is sold, the earlier the better
    assert solution.schedule("b").stored_kwh == pytest.approx([0.0, 4.0, 2.0, 1.0, 0.0], abs=1e-6)
    assert solution.import_kw == pytest.approx(np.zeros(4), abs=1e-6)
    # 8 kWh of sun: 4 serve the house, 4 are sold, the inverter never passes more than 4 kW
    assert solution.money == pytest.approx(-0.4, abs=1e-6)
    assert np.max(solution.schedule("inv").to_ac_kw) <= 4.0 + 1e-9


def test_a_contract_bends_a_little_where_a_whole_interval_of_charging_would_be_lost() -> None:
    """1.399 kW are left under the contract, the car takes 1.4 kW or nothing: 1 W too much for 15 minutes is cheaper."""
    problem = DispatchProblem(
        site_id="tight",
        hours=np.full(4, 0.25),
        load_kw=np.array([0.0, 0.0, 0.0, 1.601]),
        prices=Prices(import_per_kwh=0.2),
        grid=GridConnection(import_limit_kw=3.0),
        assets=(
            Vehicle(
                name="car",
                capacity_kwh=40.0,
                stored_kwh=10.0,
                wished_kwh=14.0,
                arrival=0.0,
                departure=4.0,
                charge_limit_kw=7.0,
                min_charge_kw=1.4,
            ),
        ),
        money_gap=1e-7,
    )
    assert solve(problem).cost == pytest.approx(by_hand(problem), abs=1e-4)
