"""What an interval cost and saved, by hand; what is unknown costs None, not nothing."""

from dataclasses import replace

import numpy as np
import pytest

from ems.feedback import account, edges_between, review
from ems.plan import Plan, PlanSource, rule_plan
from ems.readings import Snapshot
from tests.ems.made import AT, STEP, STEP_S, home, home_with_car, measured, outlook, reading, site_outlook

EXPECTED = site_outlook(load_kw=2.0)


def plan(source: PlanSource = PlanSource.OPTIMAL, cause: str | None = None) -> Plan:
    rule = rule_plan(
        home(), EXPECTED, starts_s=outlook(EXPECTED).starts_s, step_s=STEP_S, issued_at=AT, valid_until=AT + STEP,
        stored_kwh={}, cause="x",
    )  # fmt: skip
    return replace(rule, source=source, cause=cause)


def valued(site=None, **energy):
    return account(site or home(), measured(**energy), buy_per_kwh=200.0, sell_per_kwh=50.0, plan=plan())


@pytest.mark.parametrize(
    ("energy", "cost", "cost_idle"),
    [
        pytest.param({"import_kwh": 0.5, "load_kwh": 0.5}, 100.0, 100.0, id="storage idle"),
        pytest.param({"import_kwh": 0.1, "load_kwh": 0.5}, 20.0, 100.0, id="served from the store"),
        pytest.param({"import_kwh": 1.0, "load_kwh": 0.5}, 200.0, 100.0, id="charged from the grid: dearer now"),
        pytest.param({"import_kwh": 0.0, "export_kwh": 0.2, "load_kwh": 0.0}, -10.0, 0.0, id="fed in from the store"),
        pytest.param({"import_kwh": 0.0, "load_kwh": 0.0, "pv_kwh": 1.0}, 0.0, -48.5, id="sun stored, not sold"),
    ],
)  # fmt: skip
def test_cost_and_cost_with_idle_storage(energy: dict, cost: float, cost_idle: float) -> None:
    found = valued(**energy)
    assert (found.cost, found.cost_idle) == (pytest.approx(cost), pytest.approx(cost_idle))
    assert found.saving == pytest.approx(cost_idle - cost)
    assert found.planned_import_kw == 2.0


@pytest.mark.parametrize("name", ["import_kwh", "export_kwh", "load_kwh", "pv_kwh"])
def test_what_is_unknown_is_not_free(name: str) -> None:
    found = valued(**{name: None})
    assert found.saving is None
    assert (found.cost is None) == (name in ("import_kwh", "export_kwh"))


def test_the_vehicle_charges_with_and_without_a_store() -> None:
    assert valued(home_with_car(), import_kwh=0.7, load_kwh=0.5, vehicle_kwh=0.2).saving == pytest.approx(0.0)


def test_a_vehicle_whose_energy_is_unknown_is_not_taken_for_none() -> None:
    assert valued(home_with_car(), vehicle_kwh=None).cost_idle is None


def test_each_interval_is_valued_at_its_own_prices() -> None:
    def prices(site, starts_s):
        price = 100.0 if starts_s[0] == AT.timestamp() else 300.0
        return np.array([price]), np.array([0.0]), 0

    found = review((home(),), [measured(AT + STEP), measured(AT)], [None], prices=prices)
    assert [a.cost for a in found] == [150.0, 50.0]
    assert [a.planned_import_kw for a in found] == [None, None]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        pytest.param(None, plan(), [], id="a first plan that is optimal"),
        pytest.param(None, plan(PlanSource.RULE, "no state"), [("plan", "rule", "no state")], id="a first that is not"),
        pytest.param(plan(), plan(), [], id="stays optimal"),
        pytest.param(plan(PlanSource.RULE, "x"), plan(PlanSource.RULE, "x"), [], id="a level is not told again"),
        pytest.param(plan(), plan(PlanSource.PREVIOUS, "audit"), [("plan", "previous", "audit")], id="a step down"),
        pytest.param(plan(PlanSource.RULE, "x"), plan(), [("plan", "optimal", "solved again")], id="back up"),
    ],
)  # fmt: skip
def test_steps_on_the_ladder_are_told_once(before: Plan | None, now: Plan, told: list) -> None:
    edges = edges_between([before], [now], {}, Snapshot(at=AT, sites=(reading({}),)))
    assert [(e.subject, e.became, e.cause) for e in edges] == told


def test_devices_are_told_when_lost_and_when_back() -> None:
    snapshot = Snapshot(at=AT, sites=(reading({}, meter="time-out", inverter="refused"),))
    lost_before = {"home-01": {"inverter": "refused", "charger": "time-out"}}
    edges = edges_between([plan()], [plan()], lost_before, snapshot)
    assert [(e.subject, e.became) for e in edges] == [("device.meter", "lost"), ("device.charger", "back")]
