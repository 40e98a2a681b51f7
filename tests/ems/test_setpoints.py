"""Plan to requests: within ratings and consents, never outliving their validity, never to what may not be written."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.orders import OrderKind, standing
from ems.plan import Action, BatteryPlan, Plan, PlanSource, Reason, rule_plan
from ems.setpoints import (
    PRIORITIES,
    Course,
    Quantity,
    Setpoint,
    SetpointKind,
    SetpointSource,
    course_of_plan,
    derive_setpoints,
)
from ems.site import Consents, Site
from tests.ems.made import (
    ALL_ALLOWED,
    AT,
    STEP,
    STEP_S,
    home,
    home_with_car,
    order,
    outlook,
    site_outlook,
)

EXPECTED = site_outlook(load_kw=1.0, pv_kw=3.0)
RULE = rule_plan(
    home(), EXPECTED, starts_s=outlook(EXPECTED).starts_s, step_s=STEP_S, issued_at=AT, valid_until=AT + 2 * STEP,
    stored_kwh={"store": 5.0}, cause="a test",
)  # fmt: skip


def plan(**changes: object) -> Plan:
    optimal = replace(
        RULE,
        source=PlanSource.OPTIMAL,
        cause=None,
        inverter_kw={"inverter": np.full(8, 1.94)},
        batteries={
            "store": BatteryPlan(
                charge_kw=np.array([1.0, 0, 0, 0, 0, 0, 0, 0]),
                discharge_kw=np.array([0, 2.0, 0, 0, 0, 0, 0, 0]),
                stored_kwh=np.full(9, 5.0),
                value_per_kwh=np.zeros(8),
            )
        },
        reasons=(Reason(asset="store", start_at=AT, action=Action.CHARGE, code="store_for_later"),),
    )
    return replace(optimal, **changes)  # type: ignore[arg-type]


def asked(
    site: Site, course: Course | None, *, source: SetpointSource = SetpointSource.PLAN
) -> tuple[Setpoint, ...]:
    return derive_setpoints(site, course, plan=plan(), at=AT, valid_until=AT + 2 * STEP, source=source)


kws = st.floats(-1e4, 1e4)


@given(
    battery_kw=kws,
    cap_kw=st.none() | st.floats(0, 1e4),
    vehicle_kw=st.floats(0, 1e4),
    storage=st.booleans(),
    solar=st.booleans(),
    vehicle=st.booleans(),
    read_only=st.sets(st.sampled_from(["inverter", "charger"])),
    given_back=st.booleans(),
    source=st.sampled_from(SetpointSource),
)
def test_requests_stay_within_ratings_consents_and_validity(
    battery_kw: float, cap_kw: float | None, vehicle_kw: float, storage: bool, solar: bool, vehicle: bool,
    read_only: set[str], given_back: bool, source: SetpointSource,
) -> None:  # fmt: skip
    site = home_with_car(
        consents=Consents(control_storage=storage, curtail_solar=solar, control_vehicle=vehicle)
    )
    devices = {name: replace(device, read_only=name in read_only) for name, device in site.devices.items()}
    site = replace(site, devices=devices)
    course = Course(
        battery_kw={"store": battery_kw}, generation_limit_kw={"roof": cap_kw}, vehicle_kw={"car": vehicle_kw}
    )
    found = asked(site, None if given_back else course, source=source)
    allowed = {
        name
        for name, consent in (("store", storage), ("roof", solar), ("car", vehicle))
        if consent and site.asset(name).device not in read_only  # type: ignore[union-attr]
    }
    assert {setpoint.asset for setpoint in found} == allowed
    assert len(found) == len(allowed)  # one request per asset: none that contradict each other
    for setpoint in found:
        assert setpoint.valid_from == AT
        assert setpoint.valid_until == AT + 2 * STEP
        assert setpoint.reverts_to == "own_mode"
        assert setpoint.priority == PRIORITIES[source]
        match setpoint.quantity:
            case Quantity.BATTERY_POWER:
                assert setpoint.kind is SetpointKind.TARGET
                assert -3.0 <= setpoint.value_kw <= 4.0  # type: ignore[operator]
            case Quantity.VEHICLE_LIMIT:
                assert setpoint.kind is SetpointKind.LIMIT
                assert setpoint.value_kw == 0.0 or 1.4 <= setpoint.value_kw <= 7.4  # type: ignore[operator]
            case Quantity.GENERATION_LIMIT:
                assert setpoint.kind is SetpointKind.LIMIT
                assert setpoint.value_kw is None or setpoint.value_kw >= 0.0
            case Quantity.OWN_MODE:
                assert setpoint.kind is SetpointKind.MODE
                assert setpoint.value_kw is None


def test_without_any_consent_nothing_is_asked() -> None:
    assert asked(home_with_car(consents=Consents()), None) == ()


def test_a_site_that_is_given_back_runs_on_its_own() -> None:
    battery, solar, car = sorted(
        asked(home_with_car(), None), key=lambda s: ("store", "roof", "car").index(s.asset)
    )
    assert (battery.quantity, battery.value_kw) == (Quantity.OWN_MODE, None)
    assert (solar.quantity, solar.value_kw) == (Quantity.GENERATION_LIMIT, None)
    assert (car.quantity, car.value_kw) == (
        Quantity.VEHICLE_LIMIT,
        1.4,
    )  # the least: who does not know what the home draws must not allow full power


@pytest.mark.parametrize("source", [SetpointSource.OVERRIDE, SetpointSource.SAFETY])
def test_people_who_take_over_and_a_service_that_stops_leave_the_vehicle_its_full_power(
    source: SetpointSource,
) -> None:
    (car,) = [s for s in asked(home_with_car(), None, source=source) if s.asset == "car"]
    assert car.value_kw == 7.4


@pytest.mark.parametrize(
    ("wished_kw", "limit_kw"),
    [
        pytest.param(0.0, 0.0, id="pause"),
        pytest.param(0.6, 0.0, id="less than half the least: pause"),
        pytest.param(0.7, 1.4, id="at least half the least: the least"),
        pytest.param(3.0, 3.0, id="as wished"),
        pytest.param(22.0, 7.4, id="no more than the charger gives"),
    ],
)
def test_a_vehicle_charges_at_what_its_charger_can(wished_kw: float, limit_kw: float) -> None:
    course = Course(battery_kw={}, generation_limit_kw={}, vehicle_kw={"car": wished_kw})
    (car,) = [s for s in asked(home_with_car(), course) if s.asset == "car"]
    assert car.value_kw == limit_kw


@pytest.mark.parametrize(
    ("source", "kw"),
    [
        pytest.param(SetpointSource.SAFETY, 1.4, id="a service that stops leaves the least"),
        pytest.param(SetpointSource.FAST_LOOP, 0.0, id="one that does not know leaves nothing"),
    ],
)
def test_a_vehicle_let_go_under_the_grid_operators_limit_does_not_get_full_power(
    source: SetpointSource, kw: float
) -> None:
    limit = order(OrderKind.IMPORT_LIMIT, 4.2, source=SetpointSource.GRID_OPERATOR)
    site = home_with_car()
    setpoints = derive_setpoints(
        site,
        None,
        plan=None,
        at=AT,
        valid_until=AT + STEP,
        source=source,
        standing=standing(site, (limit,), at=AT),
    )
    assert [s.value_kw for s in setpoints if s.asset == "car"] == [kw]


def test_a_vehicle_that_is_not_planned_may_charge_a_little() -> None:
    course = Course(battery_kw={}, generation_limit_kw={}, vehicle_kw={})
    (car,) = [s for s in asked(home_with_car(), course) if s.asset == "car"]
    assert car.value_kw == 1.4


def test_a_battery_that_is_not_planned_runs_on_its_own() -> None:
    (battery,) = [
        s
        for s in asked(home(), Course(battery_kw={}, generation_limit_kw={}, vehicle_kw={}))
        if s.asset == "store"
    ]
    assert battery.quantity is Quantity.OWN_MODE


def test_a_request_carries_its_reason_and_the_same_request_the_same_id() -> None:
    course = Course(battery_kw={"store": 1.23456}, generation_limit_kw={}, vehicle_kw={})
    once, again = ([s for s in asked(home(), course) if s.asset == "store"] for _ in range(2))
    assert once == again
    assert once[0].reason is not None
    assert once[0].reason.code == "store_for_later"
    assert once[0].value_kw == 1.235
    ids = {setpoint.id for setpoint in asked(home_with_car(), course)}
    assert len(ids) == 3


def test_who_ranks_above_whom() -> None:
    ranks = [
        PRIORITIES[source] for source in (SetpointSource.PLAN, SetpointSource.OVERRIDE, SetpointSource.SAFETY)
    ]
    assert ranks == sorted(set(ranks))
    assert set(PRIORITIES) == set(SetpointSource)


class TestCourse:
    """What a plan says for an instant."""

    @pytest.mark.parametrize(
        ("minutes", "battery_kw"),
        [
            pytest.param(0, 1.0, id="charging is positive"),
            pytest.param(14, 1.0, id="to the end of the interval"),
            pytest.param(15, -2.0, id="discharging is negative"),
            pytest.param(30, None, id="the plan is valid no more"),
            pytest.param(-1, None, id="it is not yet"),
        ],
    )
    def test_storage(self, minutes: int, battery_kw: float | None) -> None:
        course = course_of_plan(home(), plan(), AT + timedelta(minutes=minutes))
        assert (None if course is None else course.battery_kw["store"]) == battery_kw

    def test_the_rule_leaves_a_site_to_its_devices(self) -> None:
        assert course_of_plan(home(), RULE, AT) is None

    def test_solar_that_is_used_as_far_as_it_was_counted_on_is_not_capped(self) -> None:
        """The forecast said 3 kW, the meter says 1 kW, the plan was made for the meter: nothing is held back."""
        now = plan(pv_kw={"roof": np.full(8, 1.0)}, pv_available_kw={"roof": np.full(8, 1.0)})
        course = course_of_plan(home(), now, AT)
        assert course is not None
        assert course.generation_limit_kw == {"roof": None}

    def test_solar_that_is_held_back_is_capped_at_the_output_of_its_inverter(self) -> None:
        held = plan(pv_kw={"roof": np.full(8, 2.0)}, pv_available_kw={"roof": np.full(8, 3.0)})
        course = course_of_plan(home(), held, AT)
        assert course is not None
        assert course.generation_limit_kw == {"roof": 1.94}

    def test_rounding_is_no_decision(self) -> None:
        rounded = plan(pv_kw={"roof": np.full(8, 2.999)}, pv_available_kw={"roof": np.full(8, 3.0)})
        course = course_of_plan(home(), rounded, AT)
        assert course is not None
        assert course.generation_limit_kw == {"roof": None}

    def test_an_earlier_plan_is_not_held_against_a_later_forecast(self) -> None:
        """Made for 2 kW of sun it used all of; that 3 kW are expected by now does not hold back anything."""
        earlier = plan(
            source=PlanSource.PREVIOUS,
            pv_kw={"roof": np.full(8, 2.0)},
            pv_available_kw={"roof": np.full(8, 2.0)},
        )
        course = course_of_plan(home(), earlier, AT + STEP)
        assert course is not None
        assert course.generation_limit_kw == {"roof": None}


def test_all_allowed_means_every_asset_is_asked() -> None:
    course = Course(battery_kw={"store": 0.0}, generation_limit_kw={}, vehicle_kw={})
    assert {s.asset for s in asked(home_with_car(consents=ALL_ALLOWED), course)} == {"store", "roof", "car"}
