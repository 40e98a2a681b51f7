"""The rule that plans when nothing better can, and how long a plan may be acted on."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.outlook import SiteOutlook
from ems.plan import Action, Plan, PlanSource, Reason, rule_plan
from ems.site import Role, Site
from tests.ems.made import AT, HYBRID, METER, ROOF, STEP, STEP_S, STORE, device, home, outlook, site_outlook


def planned(
    expected: SiteOutlook,
    *,
    site: Site | None = None,
    stored_kwh: dict[str, float] | None = None,
    step_s: int = STEP_S,
) -> Plan:
    starts_s = outlook(expected, step_s=step_s).starts_s
    return rule_plan(
        site or home(), expected, starts_s=starts_s, step_s=step_s, issued_at=AT, valid_until=AT + 2 * STEP,
        stored_kwh={"store": 5.0} if stored_kwh is None else stored_kwh, cause="a test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("load_kw", "pv_kw", "stored_kwh", "charge_kw", "discharge_kw", "after_kwh"),
    [
        pytest.param(1.0, 3.0, 5.0, 2.0, 0.0, 6.8, id="surplus is stored: 2 kW, 0.9 of it arrives"),
        pytest.param(2.0, 0.0, 5.0, 0.0, 2.0, 2.5, id="deficit is served: 2 kW cost 2.5 kWh"),
        pytest.param(1.0, 6.0, 1.0, 4.0, 0.0, 4.6, id="no faster than the battery takes"),
        pytest.param(8.0, 0.0, 9.0, 0.0, 3.0, 5.25, id="no faster than it gives"),
        pytest.param(0.0, 3.0, 9.1, 1.0, 0.0, 10.0, id="no more than there is room: 0.9 kWh, 1 kW"),
        pytest.param(3.0, 0.0, 2.0, 0.0, 0.8, 1.0, id="the reserve of 1 kWh stays"),
        pytest.param(3.0, 0.0, 0.4, 0.0, 0.0, 0.4, id="below the reserve nothing is taken"),
        pytest.param(1.0, 3.0, 10.5, 0.0, 0.0, 10.5, id="above capacity nothing is put in"),
        pytest.param(2.0, 2.0, 5.0, 0.0, 0.0, 5.0, id="nothing to do"),
    ],
)
def test_one_hour_of_self_consumption(
    load_kw: float, pv_kw: float, stored_kwh: float, charge_kw: float, discharge_kw: float, after_kwh: float
) -> None:
    expected = site_outlook(horizon=1, load_kw=load_kw, pv_kw=pv_kw)
    plan = planned(expected, stored_kwh={"store": stored_kwh}, step_s=3600)
    battery = plan.batteries["store"]
    assert battery.charge_kw[0] == pytest.approx(charge_kw)
    assert battery.discharge_kw[0] == pytest.approx(discharge_kw)
    assert battery.stored_kwh == pytest.approx([stored_kwh, after_kwh])
    net_kw = load_kw - pv_kw + charge_kw - discharge_kw
    assert plan.import_kw[0] - plan.export_kw[0] == pytest.approx(net_kw)
    assert min(plan.import_kw[0], plan.export_kw[0]) == 0.0


kw = st.floats(0, 12)


@given(
    load_kw=st.lists(kw, min_size=6, max_size=6),
    pv_kw=st.lists(kw, min_size=6, max_size=6),
    stored_kwh=st.floats(0, 10),
    second_kwh=st.none() | st.floats(0, 4),
)
def test_the_rule_stays_within_limits_and_balances(
    load_kw: list[float], pv_kw: list[float], stored_kwh: float, second_kwh: float | None
) -> None:
    second = replace(
        STORE, name="second", device="shed", capacity_kwh=4.0, charge_limit_kw=1.0, reserve_frac=0.0
    )
    site = home(
        devices={"meter": METER, "inverter": HYBRID, "shed": device(Role.BATTERY_INVERTER)},
        assets=(ROOF, STORE, second),
    )
    stored = {"store": stored_kwh} | ({} if second_kwh is None else {"second": second_kwh})
    plan = planned(site_outlook(horizon=6, load_kw=load_kw, pv_kw=pv_kw), site=site, stored_kwh=stored)
    assert set(plan.batteries) == set(stored)
    hours = STEP_S / 3600
    for battery in site.batteries:
        if battery.name not in stored:
            continue
        course = plan.batteries[battery.name]
        floor_kwh = min(stored[battery.name], battery.reserve_frac * battery.capacity_kwh)
        assert np.all((course.charge_kw >= 0) & (course.charge_kw <= battery.charge_limit_kw))
        assert np.all((course.discharge_kw >= 0) & (course.discharge_kw <= battery.discharge_limit_kw))
        assert np.all(np.minimum(course.charge_kw, course.discharge_kw) == 0.0)
        assert np.all(course.stored_kwh >= floor_kwh - 1e-9)
        assert np.all(course.stored_kwh <= battery.capacity_kwh + 1e-9)
        gained = course.charge_kw * battery.charge_eff_frac - course.discharge_kw / battery.discharge_eff_frac
        np.testing.assert_allclose(np.diff(course.stored_kwh), gained * hours, atol=1e-9)
    np.testing.assert_allclose(
        plan.import_kw - plan.export_kw, np.array(load_kw) - np.array(pv_kw) + plan.battery_kw, atol=1e-9
    )
    assert np.all(np.minimum(plan.import_kw, plan.export_kw) == 0.0)


def test_a_battery_whose_state_is_unknown_is_left_out() -> None:
    plan = planned(site_outlook(load_kw=2.0), stored_kwh={})
    assert plan.batteries == {}
    assert plan.import_kw.tolist() == [2.0] * 8


def test_the_rule_says_that_it_is_one_and_why() -> None:
    plan = planned(site_outlook())
    assert (plan.source, plan.cause) == (PlanSource.RULE, "a test")
    assert {reason.code for reason in plan.reasons} == {"rule"}


def test_cost_is_import_paid_less_export_earned() -> None:
    plan = planned(
        site_outlook(horizon=2, load_kw=[2.0, 0.0], pv_kw=[0.0, 4.0], buy=[200.0, 300.0], sell=[50.0, 60.0]),
        stored_kwh={},
    )
    assert plan.cost == {"import": pytest.approx(100.0), "export": pytest.approx(-60.0)}


@pytest.mark.parametrize(
    ("minutes", "index", "usable"),
    [
        pytest.param(-1, None, False, id="before it begins"),
        pytest.param(0, 0, True, id="first instant"),
        pytest.param(14, 0, True, id="within the first interval"),
        pytest.param(15, 1, True, id="second interval"),
        pytest.param(29, 1, True, id="last minute of validity"),
        pytest.param(30, 2, False, id="valid no more, though planned"),
        pytest.param(120, None, False, id="beyond the horizon"),
    ],
)
def test_a_plan_is_acted_on_only_while_it_is_valid(minutes: int, index: int | None, usable: bool) -> None:
    plan = planned(site_outlook())
    at = AT + timedelta(minutes=minutes)
    assert (plan.index_at(at), plan.usable_at(at)) == (index, usable)


def test_the_reason_of_an_instant_is_the_last_that_began() -> None:
    def reason(asset: str, minutes: int, code: str) -> Reason:
        return Reason(asset=asset, start_at=AT + timedelta(minutes=minutes), action=Action.HOLD, code=code)

    plan = replace(
        planned(site_outlook()),
        reasons=(reason("store", 0, "one"), reason("roof", 10, "other"), reason("store", 15, "two")),
    )
    assert [plan.reason_at("store", AT + timedelta(minutes=m)).code for m in (0, 14, 15, 60)] == [  # type: ignore[union-attr]
        "one", "one", "two", "two",
    ]  # fmt: skip
    assert plan.reason_at("store", AT - STEP) is None
    assert plan.reason_at("car", AT) is None
