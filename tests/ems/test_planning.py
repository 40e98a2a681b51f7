"""Planning with the real optimiser: the ladder of control, the translation both ways, and what plans must respect."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from ems.orders import Order, OrderKind, SetpointSource
from ems.outlook import Outlook, SiteOutlook
from ems.plan import Plan, PlanSource
from ems.planning import (
    end_value_per_kwh,
    hindsight_cost,
    make_plans,
    plans_differ,
    solve_in_process,
    steering_of,
    to_problem,
)
from ems.readings import Quality
from ems.setpoints import course_of_plan
from ems.site import Connection, Consents, Role, Site
from ems.state import SiteState, VehicleState
from optimizer import Audit, DispatchProblem, DispatchSolution, Finding, Pv, Vehicle, solve
from tests.ems.made import (
    ALL_ALLOWED,
    AT,
    ROOF,
    STEP,
    STORE,
    device,
    home,
    home_with_car,
    order,
    outlook,
    site_outlook,
    state,
)

VALID_FOR = timedelta(minutes=30)
CHEAP_THEN_DEAR = [50.0] * 4 + [300.0] * 4


def plan_of(
    site: Site, state: SiteState, expected: SiteOutlook, *, previous: Plan | None = None, at: datetime = AT,
    solve: object = solve_in_process, orders: Sequence[Order] = (),
) -> Plan:  # fmt: skip
    (plan,) = make_plans(
        (site,), (state,), outlook(expected, at=at), (previous,), solve=solve, valid_for=VALID_FOR,  # type: ignore[arg-type]
        orders=orders,
    )  # fmt: skip
    return plan


def refused(problems: Sequence[DispatchProblem]) -> Sequence[DispatchSolution]:
    """An optimiser whose every answer the auditor rejects."""
    bad = Audit(findings=(Finding(rule="bus_balance", owner="grid", interval=0, excess=1.0, unit="kW"),))
    return [replace(solve(problem), audit=bad) for problem in problems]


def test_storage_buys_cheap_and_serves_dear_hours() -> None:
    plan = plan_of(home(), state(stored_kwh={"store": 1.0}), site_outlook(load_kw=1.0, buy=CHEAP_THEN_DEAR))
    assert plan.source is PlanSource.OPTIMAL
    store = plan.batteries["store"]
    assert store.charge_kw[:4].sum() > 0.0
    assert store.discharge_kw[4:].sum() > 0.0
    assert store.discharge_kw[:4].sum() == pytest.approx(0.0, abs=1e-6)
    assert plan.import_kw[4:].sum() == pytest.approx(0.0, abs=1e-6)
    assert plan.valid_until == AT + VALID_FOR


@pytest.mark.parametrize("seed", range(6))
def test_a_plan_keeps_balance_limits_and_reserve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    site = home(connection=Connection(import_limit_kw=10.0, export_limit_kw=1.5))
    expected = site_outlook(
        horizon=24,
        load_kw=rng.uniform(0, 5, 24),
        pv_kw=rng.uniform(0, 5.0, 24),
        buy=rng.uniform(-50, 400, 24),
    )
    plan = plan_of(site, state(load_kw=None, pv_kw=None), expected)
    assert plan.source is PlanSource.OPTIMAL
    store = plan.batteries["store"]
    assert np.minimum(store.charge_kw, store.discharge_kw).max() < 1e-6
    assert store.charge_kw.max() <= 4.0 + 1e-6
    assert store.discharge_kw.max() <= 3.0 + 1e-6
    assert store.stored_kwh.min() >= 1.0 - 1e-6
    assert store.stored_kwh.max() <= 10.0 + 1e-6
    gained = 0.9 * store.charge_kw - store.discharge_kw / 0.8
    np.testing.assert_allclose(np.diff(store.stored_kwh), 0.25 * gained, atol=1e-6)
    assert np.minimum(plan.import_kw, plan.export_kw).max() < 1e-6
    assert plan.import_kw.max() <= 10.0 + 1e-6
    assert plan.export_kw.max() <= 1.5 + 1e-6
    dc_kw = plan.pv_kw["roof"] - plan.battery_kw
    ac_kw = np.where(dc_kw >= 0, dc_kw * 0.97, dc_kw / 0.97)
    np.testing.assert_allclose(ac_kw, plan.inverter_kw["inverter"], atol=1e-5)
    np.testing.assert_allclose(plan.import_kw - plan.export_kw, plan.load_kw - ac_kw, atol=1e-5)
    assert np.abs(ac_kw).max() <= 5.0 + 1e-6


def test_the_first_interval_is_what_the_meter_shows() -> None:
    plan = plan_of(home(), state(load_kw=2.5, pv_kw=0.5), site_outlook(load_kw=1.0, pv_kw=3.0))
    assert plan.load_kw.tolist() == [2.5] + [1.0] * 7
    assert plan.pv_available_kw["roof"].tolist() == [0.5] + [3.0] * 7


def test_what_is_not_measured_is_taken_from_the_forecast() -> None:
    plan = plan_of(home(), state(load_kw=None, pv_kw=None), site_outlook(load_kw=1.0, pv_kw=3.0))
    assert plan.load_kw.tolist() == [1.0] * 8
    assert plan.pv_available_kw["roof"].tolist() == [3.0] * 8


def test_a_cloud_is_no_reason_to_cap_the_sun() -> None:
    expected = site_outlook(load_kw=1.0, pv_kw=3.0)
    plan = plan_of(home(), state(load_kw=1.0, pv_kw=1.0), expected)
    course = course_of_plan(home(), plan, AT)
    assert course is not None
    assert course.generation_limit_kw == {"roof": None}


def test_a_cap_is_kept_while_the_sun_would_exceed_the_export_limit() -> None:
    """Measured behind its own cap the sun looks weak; a cap lifted for that breaks the limit every other interval."""
    site = home(connection=Connection(import_limit_kw=10.0, export_limit_kw=1.0))
    expected = site_outlook(load_kw=0.0, pv_kw=4.0)
    full = {"store": 10.0}
    first = plan_of(site, state(load_kw=0.0, pv_kw=4.0, stored_kwh=full), expected)
    capped = course_of_plan(site, first, AT)
    assert capped is not None
    assert capped.generation_limit_kw["roof"] == pytest.approx(1.0)
    behind_its_cap = state(at=AT + STEP, load_kw=0.0, pv_kw=1.0 / 0.97, stored_kwh=full)
    second = plan_of(site, behind_its_cap, expected, previous=first, at=AT + STEP)
    still = course_of_plan(site, second, AT + STEP)
    assert still is not None
    assert still.generation_limit_kw["roof"] == pytest.approx(1.0)


class TestLadder:
    """Optimal, previous while valid, rule: each step with its cause."""

    expected = site_outlook(load_kw=1.0, buy=CHEAP_THEN_DEAR)

    def test_a_plan_the_auditor_rejects_is_never_published(self) -> None:
        plan = plan_of(home(), state(), self.expected, solve=refused)
        assert plan.source is PlanSource.RULE
        assert plan.cause is not None
        assert plan.cause.startswith("audit:")

    def test_the_previous_plan_stands_in_while_it_is_valid(self) -> None:
        first = plan_of(home(), state(), self.expected)
        second = plan_of(
            home(), state(at=AT + STEP), self.expected, previous=first, at=AT + STEP, solve=refused
        )
        assert second.source is PlanSource.PREVIOUS
        assert second.cause is not None
        assert second.valid_until == first.valid_until  # standing in does not make it younger
        assert plans_differ(replace(first, source=PlanSource.PREVIOUS), second) is None

    def test_then_the_rule(self) -> None:
        first = plan_of(home(), state(), self.expected)
        late = AT + VALID_FOR
        assert (
            plan_of(home(), state(at=late), self.expected, previous=first, at=late, solve=refused).source
            is PlanSource.RULE
        )

    def test_a_rule_is_no_previous_plan(self) -> None:
        first = plan_of(home(), state(), self.expected, solve=refused)
        second = plan_of(
            home(), state(at=AT + STEP), self.expected, previous=first, at=AT + STEP, solve=refused
        )
        assert second.source is PlanSource.RULE
        assert second.issued_at == AT + STEP

    def test_an_unknown_state_of_charge_is_no_zero(self) -> None:
        first = plan_of(home(), state(), self.expected)
        unknown = state(at=AT + STEP, stored_kwh={}, quality=Quality.BAD, missing=("inverter.stored_frac",))
        plan = plan_of(home(), unknown, self.expected, previous=first, at=AT + STEP)
        assert plan.source is PlanSource.RULE
        assert plan.cause == "unknown: inverter.stored_frac"
        assert plan.batteries == {}

    def test_one_site_in_trouble_leaves_the_others_their_plans(self) -> None:
        sites = (home(), home(id="home-02"), home(id="home-03"))
        states = (
            state(),
            state(site_id="home-02", stored_kwh={}, quality=Quality.BAD, missing=("x",)),
            state(site_id="home-03", stored_kwh={"store": 2.0}),
        )
        batch = outlook(self.expected, *(replace(self.expected, site_id=f"home-0{n}") for n in (2, 3)))
        plans = make_plans(sites, states, batch, (None,) * 3, solve=solve_in_process, valid_for=VALID_FOR)
        assert [(p.site_id, p.source) for p in plans] == [
            ("home-01", PlanSource.OPTIMAL), ("home-02", PlanSource.RULE), ("home-03", PlanSource.OPTIMAL),
        ]  # fmt: skip
        assert plans[2].batteries["store"].stored_kwh[0] == 2.0

    def test_a_broken_forecast_costs_a_site_its_plan_and_says_so(self) -> None:
        broken = site_outlook(load_kw=[np.nan] * 8)
        plan = plan_of(home(), state(load_kw=None), broken)
        assert plan.source is PlanSource.RULE
        assert plan.cause is not None
        assert "load_kw" in plan.cause


def test_the_same_input_gives_the_same_plan() -> None:
    one, two = (plan_of(home(), state(), site_outlook(buy=CHEAP_THEN_DEAR, pv_kw=2.0)) for _ in range(2))
    assert plans_differ(one, two) is None
    assert plans_differ(one, plan_of(home(), state(), site_outlook(pv_kw=2.0))) is not None


def test_without_consent_storage_is_not_planned_and_the_sun_not_held_back() -> None:
    expected = site_outlook(load_kw=0.5, pv_kw=3.0, sell=-100.0)  # feeding in costs money
    site = home(
        consents=Consents(),
        devices={**home().devices, "sun": device(Role.PV_INVERTER)},
        assets=(replace(ROOF, device="sun"), STORE),
    )
    plan = plan_of(site, state(load_kw=None, pv_kw=None), expected)
    assert plan.batteries == {}
    np.testing.assert_allclose(plan.pv_kw["roof"], 3.0)


def problem_of(site: Site, state: SiteState, expected: SiteOutlook) -> tuple[DispatchProblem, Outlook]:
    whole = outlook(expected)
    return to_problem(site, state, expected, whole), whole


class TestVehicle:
    """A session as the optimiser sees it."""

    def session(self, **changes: object) -> VehicleState:
        here = VehicleState(
            plugged_in=True, arrived_at=AT - STEP, session_kwh=4.0, wished_kwh=12.0, ready_at=AT + timedelta(hours=1)
        )  # fmt: skip
        return replace(here, **changes)  # type: ignore[arg-type]

    def vehicles(self, session: VehicleState | None) -> tuple[Vehicle, ...]:
        problem, _ = problem_of(
            home_with_car(), state(vehicles={} if session is None else {"car": session}), site_outlook()
        )
        return problem.of(Vehicle)

    def test_what_is_still_wished_and_until_when(self) -> None:
        (vehicle,) = self.vehicles(self.session())
        assert vehicle.departure == 4.0
        assert vehicle.wished_kwh == pytest.approx(12.0 * 0.92)
        assert vehicle.stored_kwh == pytest.approx(4.0 * 0.92)

    @pytest.mark.parametrize("plugged_in", [False, None])
    def test_no_vehicle_no_session(self, plugged_in: bool | None) -> None:
        assert self.vehicles(self.session(plugged_in=plugged_in)) == ()
        assert self.vehicles(None) == ()

    def test_one_that_takes_nothing_is_not_planned_for(self) -> None:
        assert self.vehicles(self.session(takes_nothing=True)) == ()

    def test_without_consent_it_is_load_until_its_wish_is_there(self) -> None:
        """8 kWh are still wished; at 6 kW that is five intervals and a third."""
        site = home_with_car(consents=replace(ALL_ALLOWED, control_vehicle=False))
        now = state(vehicles={"car": self.session()}, load_kw=None)
        now = replace(now, powers=replace(now.powers, vehicle_kw={"car": 6.0}))
        problem, _ = problem_of(site, now, site_outlook(load_kw=1.0))
        assert problem.of(Vehicle) == ()
        np.testing.assert_allclose(problem.load_kw, [7.0] * 5 + [3.0] + [1.0] * (len(problem.load_kw) - 6))

    def test_one_that_should_have_left_is_served_at_once(self) -> None:
        (vehicle,) = self.vehicles(self.session(ready_at=AT - timedelta(hours=3)))
        assert vehicle.departure == 1.0

    def test_the_wish_is_fulfilled_in_the_cheapest_hours_before_it_leaves(self) -> None:
        session = self.session(session_kwh=0.0, wished_kwh=2.8, ready_at=AT + timedelta(hours=2))
        plan = plan_of(
            home_with_car(),
            state(vehicles={"car": session}, stored_kwh={"store": 1.0}),
            site_outlook(load_kw=0.0, buy=[300.0] * 4 + [50.0] * 4),
        )
        assert plan.vehicle_kw["car"].sum() * 0.25 == pytest.approx(2.8, abs=0.01)
        assert plan.vehicle_kw["car"][:4].sum() == pytest.approx(0.0, abs=1e-6)
        assert plan.vehicle_kw["car"].max() <= 7.4 + 1e-6


def test_a_steering_is_the_solution_of_one_interval() -> None:
    problem, _ = problem_of(
        home(), state(stored_kwh={"store": 1.0}), site_outlook(buy=CHEAP_THEN_DEAR, pv_kw=0.0)
    )
    solution = solve(problem)
    plan = plan_of(home(), state(stored_kwh={"store": 1.0}), site_outlook(buy=CHEAP_THEN_DEAR, pv_kw=0.0))
    for interval in (0, 5):
        steering = steering_of(home(), solution, interval)
        assert steering.battery_kw == {"store": pytest.approx(plan.battery_kw[interval], abs=1e-6)}
        assert steering.pv_cap_kw == pytest.approx(0.0)


def test_solar_of_two_words_for_the_same_roof_is_handed_over_whole() -> None:
    problem, _ = problem_of(home(), state(pv_kw=None), site_outlook(pv_kw=2.0))
    (roof,) = problem.of(Pv)
    assert (roof.name, roof.inverter) == (ROOF.name, "inverter")
    assert roof.available_kw.tolist() == [2.0] * 8


def test_a_kwh_left_is_worth_the_cheapest_price_it_saves_and_never_less_than_nothing() -> None:
    assert end_value_per_kwh(STORE, site_outlook(buy=CHEAP_THEN_DEAR)) == pytest.approx(50.0 * 0.8)
    assert end_value_per_kwh(STORE, site_outlook(buy=-20.0)) == 0.0


def test_hindsight_of_a_day_anybody_can_follow() -> None:
    """One hour at 100, one at 400; 1 kW of load; a store of 2 kWh without losses that must end as it began."""
    site = home(
        assets=(
            replace(
                STORE, capacity_kwh=2.0, charge_eff_frac=1.0, discharge_eff_frac=1.0, reserve_frac=0.0,
            ),
        ),
        devices={**home().devices, "inverter": replace(home().devices["inverter"], conversion_eff_frac=1.0)},
    )  # fmt: skip
    cost = hindsight_cost(
        site,
        load_kw=np.ones(2),
        pv_kw=np.zeros(2),
        buy_per_kwh=np.array([100.0, 400.0]),
        sell_per_kwh=np.zeros(2),
        hours=1.0,
        start_frac=0.0,
        end_kwh={"store": 0.0},
        end_value_per_kwh=0.0,
    )
    assert cost == pytest.approx(200.0)  # both kWh bought in the cheap hour


def test_a_plan_goes_along_with_what_people_ask_and_is_its_own_again_afterwards() -> None:
    """An hour of discharging in the cheap hours, against every price; what is missing is bought back before the dear ones."""
    asked = order(OrderKind.TARGET, -2.0, asset="store", since_h=0.0, lasts_h=0.5)
    expected = site_outlook(buy=CHEAP_THEN_DEAR)
    here = state(stored_kwh={"store": 2.5})
    free = plan_of(home(), here, expected)
    taken_over = plan_of(home(), here, expected, orders=(asked,))
    assert taken_over.source is PlanSource.OPTIMAL
    assert taken_over.battery_kw[:2] == pytest.approx([-2.0, -2.0])
    assert free.battery_kw[:4].min() >= 0.0, "by itself it gives nothing in the cheap hours"
    assert taken_over.battery_kw[2:4].sum() > free.battery_kw[2:4].sum()
    assert not [wish for wish in taken_over.unmet if wish.wish == "store.override"]


def test_what_is_asked_beyond_physics_is_told_not_refused() -> None:
    asked = order(OrderKind.TARGET, 4.0, asset="store", since_h=0.0, lasts_h=2.0)
    plan = plan_of(home(), state(stored_kwh={"store": 9.5}), site_outlook(), orders=(asked,))
    assert plan.source is PlanSource.OPTIMAL
    (wish,) = [wish for wish in plan.unmet if wish.wish == "store.override"]
    room_kw = 0.5 / 0.9 / 0.25  # kWh of room through the charging loss, in one quarter of an hour
    assert wish.amount == pytest.approx((4.0 * 8 - room_kw) * 0.25, abs=0.01)


def test_a_pause_is_planned_as_what_the_devices_do_by_themselves() -> None:
    """Own mode serves the deficit of 1 kW (AC) at once, although the dear hours come later."""
    paused = order(OrderKind.PAUSE, since_h=0.0, lasts_h=1.0)
    plan = plan_of(home(), state(), site_outlook(buy=CHEAP_THEN_DEAR), orders=(paused,))
    assert plan.battery_kw[:4] == pytest.approx([-1.0] * 4, abs=0.05)


def test_a_limit_of_the_grid_operator_bounds_the_plan_while_it_holds() -> None:
    limit = order(OrderKind.IMPORT_LIMIT, 0.4, source=SetpointSource.GRID_OPERATOR, since_h=0.5, lasts_h=0.5)
    plan = plan_of(home(), state(stored_kwh={"store": 1.2}), site_outlook(), orders=(limit,))
    assert (plan.import_kw[2:4] <= 0.4 + 1e-6).all()
    assert plan.import_kw.max() > 1.0, "bought before, to have it then"
    assert plan.unmet == ()


def test_a_vehicle_taken_over_charges_as_asked_and_the_plan_lives_with_it() -> None:
    here = replace(
        state(), vehicles={"car": VehicleState(
            plugged_in=True, arrived_at=AT, session_kwh=0.0, wished_kwh=12.0, ready_at=AT + timedelta(hours=2)
        )},
        powers=replace(state().powers, vehicle_kw={"car": 0.0}),
    )  # fmt: skip
    asked = order(OrderKind.TARGET, 7.4, asset="car", since_h=0.0, lasts_h=2.0)
    plan = plan_of(home_with_car(), here, site_outlook(load_kw=1.0), orders=(asked,))
    assert plan.vehicle_kw == {}, "not the plan's to decide"
    assert plan.load_kw[:6] == pytest.approx([8.4] * 6), "12 kWh at 7.4 kW take six quarters and a bit"
    assert plan.load_kw[6] == pytest.approx(1.0 + (12.0 - 6 * 1.85) / 0.25)
    assert plan.load_kw[7] == pytest.approx(1.0)
