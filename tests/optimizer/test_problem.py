"""Input that cannot be is refused with site, asset, field, value and remedy."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from optimizer import (
    Asset,
    Battery,
    ChangeCost,
    DispatchProblem,
    InvalidProblem,
    Prices,
    ProgressiveTariff,
    Pv,
    TariffBlock,
    Vehicle,
    solve,
)


def problem(*assets: Asset, **changes: object) -> DispatchProblem:
    given: dict[str, object] = {
        "site_id": "house-7",
        "hours": np.ones(4),
        "load_kw": np.ones(4),
        "prices": Prices(import_per_kwh=0.3),
        "assets": assets,
    }
    return DispatchProblem(**(given | changes))  # type: ignore[arg-type]


def battery(**changes: object) -> Battery:
    given = {
        "name": "wall",
        "capacity_kwh": 5.0,
        "stored_kwh": 1.0,
        "charge_limit_kw": 2.0,
        "discharge_limit_kw": 2.0,
    }
    return Battery(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "asset", "field"),
    [
        pytest.param(
            lambda: problem(battery(capacity_kwh=-1.0)), "wall", "capacity_kwh", id="negative capacity"
        ),
        pytest.param(lambda: problem(battery(stored_kwh=np.nan)), "wall", "stored_kwh", id="missing state"),
        pytest.param(
            lambda: problem(battery(charge_limit_kw=np.ones(3))), "wall", "charge_limit_kw", id="wrong length"
        ),
        pytest.param(
            lambda: problem(battery(charge_efficiency_frac=95.0)),
            "wall",
            "charge_efficiency_frac",
            id="percent",
        ),
        pytest.param(lambda: problem(battery(), battery()), None, "assets", id="same name twice"),
        pytest.param(lambda: problem(battery(inverter="nowhere")), "wall", "inverter", id="unknown inverter"),
        pytest.param(
            lambda: problem(Pv(name="pv", available_kw=np.full(4, -1.0))),
            "pv",
            "available_kw",
            id="sun below 0",
        ),
        pytest.param(lambda: problem(hours=np.zeros(4)), None, "hours", id="no time passes"),
        pytest.param(
            lambda: problem(load_kw=np.array([1.0, np.nan, 1.0, 1.0])), None, "load_kw", id="gap in load"
        ),
        pytest.param(
            lambda: problem(prices=Prices(import_per_kwh=np.inf)), None, "import_per_kwh", id="endless price"
        ),
        pytest.param(
            lambda: problem(
                change_costs=(ChangeCost(asset="x", net_consumption_kw=np.zeros(4), price_per_kwh=0.1),)
            ),
            None,
            "change_costs",
            id="change cost of nobody",
        ),
        pytest.param(
            lambda: problem(
                tariffs=(
                    ProgressiveTariff(
                        name="t",
                        blocks=(
                            TariffBlock(up_to_kwh=10.0, price_per_kwh=2.0),
                            TariffBlock(up_to_kwh=np.inf, price_per_kwh=1.0),
                        ),
                    ),
                )
            ),
            None,
            "t.blocks",
            id="falling blocks",
        ),
        pytest.param(
            lambda: problem(
                Vehicle(
                    name="car",
                    capacity_kwh=40.0,
                    stored_kwh=1.0,
                    wished_kwh=2.0,
                    arrival=3.0,
                    departure=1.0,
                    charge_limit_kw=7.0,
                )
            ),
            "car",
            "departure",
            id="leaves before it comes",
        ),
    ],
)
def test_refused_with_its_place(make: object, asset: str | None, field: str) -> None:
    with pytest.raises(InvalidProblem) as caught:
        make()  # type: ignore[operator]
    assert (caught.value.site_id, caught.value.asset, caught.value.field) == ("house-7", asset, field)
    assert "house-7" in str(caught.value)
    assert field in str(caught.value)


def test_the_error_survives_a_process_pool() -> None:
    with pytest.raises(InvalidProblem) as caught:
        problem(battery(capacity_kwh=-1.0))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.asset, again.field, str(again)) == ("wall", "capacity_kwh", str(caught.value))


def test_inputs_are_not_shared_with_the_caller() -> None:
    load = np.ones(4)
    site = problem(load_kw=load)
    load[:] = 99.0
    assert site.load_kw == pytest.approx(np.ones(4))
    with pytest.raises(ValueError, match="read-only"):
        site.load_kw[0] = 5.0


def test_a_forged_schedule_does_not_pass_the_audit() -> None:
    """The audit knows nothing of the model: change a power by 1 W and it finds the balance broken."""
    from optimizer.audit import audit

    solution = solve(problem(battery()))
    assert solution.publishable
    forged = solution.import_kw.copy()
    forged[2] += 0.001
    report = audit(
        solution.problem,
        solution.schedules,
        forged,
        solution.export_kw,
        solution.unserved_kw,
        solution.surplus_kw,
    )
    (finding,) = report.findings
    assert (finding.rule, finding.owner, finding.interval) == ("bus_balance", "grid", 2)
    assert finding.excess == pytest.approx(0.001, abs=1e-6)
