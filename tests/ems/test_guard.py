"""Limits come first: bent courses keep the connection within, by numbers anybody can add up, and for random homes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.guard import MARGIN_KW, bounded_course, own_mode_within_limits, within_limits
from ems.orders import OrderKind, SetpointSource, Standing, standing
from ems.setpoints import Course
from ems.site import DeviceRef, Role
from ems.state import SitePowers, SiteState
from tests.ems.made import AT, CAR, STORE, device, home_with_car, order, state

PLAIN = home_with_car()
BATTERY_INVERTER = replace(
    PLAIN,
    devices={**PLAIN.devices, "inverter": device(Role.BATTERY_INVERTER)},
    assets=(STORE, CAR),
)
"""Store on the AC side, so that powers add up without conversion."""
STORED = {"store": 5.0}


def powers(*, net: float | None, store: float = 0.0, car: float = 0.0) -> SitePowers:
    return SitePowers(
        net_import_kw=net, load_kw=None, pv_kw={}, battery_kw={"store": store}, vehicle_kw={"car": car}
    )


def limited(kw: float, *more: object) -> Standing:
    limit = order(OrderKind.IMPORT_LIMIT, kw, source=SetpointSource.GRID_OPERATOR)
    return standing(BATTERY_INVERTER, (limit, *more), at=AT)  # type: ignore[arg-type]


def course(store: float, car: float) -> Course:
    return Course(battery_kw={"store": store}, generation_limit_kw={}, vehicle_kw={"car": car})


@pytest.mark.parametrize(
    ("net", "store", "car", "limit", "want_store", "want_car"),
    [
        pytest.param(2.0, 1.0, 0.0, 4.2, 1.0, 0.0, id="within: left as it is"),
        pytest.param(
            3.0,
            0.0,
            7.0,
            4.2,
            -3.0,
            0.0,
            id="3 + 7 > 4.2: the car would get 1.18, less than its least, so none",
        ),
        pytest.param(1.0, 0.0, 7.0, 4.2, 0.0, 4.2 - 1.0 - MARGIN_KW, id="the car gives way as far as needed"),
        pytest.param(3.0, 3.0, 0.0, 4.2, 4.2 - 3.0 - MARGIN_KW, 0.0, id="charging gives way"),
        pytest.param(6.0, 0.0, 0.0, 4.2, 4.2 - 6.0 - MARGIN_KW, 0.0, id="the battery gives what is lacking"),
        pytest.param(9.0, 0.0, 0.0, 4.2, -3.0, 0.0, id="as much as it can, no more"),
    ],
)
def test_what_gives_way(
    net: float, store: float, car: float, limit: float, want_store: float, want_car: float
) -> None:
    if car == 7.0 and net == 3.0:
        want_store = 0.0  # 3 kW are within the limit once the car waits
    bent = within_limits(BATTERY_INVERTER, course(store, car), powers(net=net), STORED, limited(limit))
    assert bent.battery_kw["store"] == pytest.approx(want_store)
    assert bent.vehicle_kw["car"] == pytest.approx(want_car)


def test_present_powers_of_what_is_steered_do_not_count_twice() -> None:
    """The meter shows 6: 2 of the home, 4 of the battery charging; resting it is enough."""
    bent = within_limits(BATTERY_INVERTER, course(4.0, 0.0), powers(net=6.0, store=4.0), STORED, limited(4.2))
    assert bent.battery_kw["store"] == pytest.approx(4.2 - 2.0 - MARGIN_KW)


def test_an_empty_battery_is_not_asked_to_give() -> None:
    bent = within_limits(BATTERY_INVERTER, course(0.0, 0.0), powers(net=6.0), {"store": 0.0}, limited(4.2))
    assert bent.battery_kw["store"] == 0.0


def test_a_feed_in_limit_sends_the_surplus_into_the_battery() -> None:
    limit = order(OrderKind.EXPORT_LIMIT, 1.0, source=SetpointSource.GRID_OPERATOR)
    counts = standing(BATTERY_INVERTER, (limit,), at=AT)
    bent = within_limits(BATTERY_INVERTER, course(0.0, 0.0), powers(net=-3.0), STORED, counts)
    assert bent.battery_kw["store"] == pytest.approx(2.0 + MARGIN_KW)


def test_an_unknown_meter_leaves_the_course_alone() -> None:
    asked = course(3.0, 7.0)
    assert within_limits(BATTERY_INVERTER, asked, powers(net=None), STORED, limited(4.2)) is asked


def test_a_paused_home_keeps_its_own_mode_while_that_is_within_the_limit() -> None:
    own = own_mode_within_limits(BATTERY_INVERTER, powers(net=1.0), STORED, limited(9.0))
    assert own is not None
    assert own.battery_kw == {}, "the battery runs its own programme"
    assert own.vehicle_kw == {"car": 7.4}


def test_a_paused_home_is_steered_as_far_as_the_grid_operators_limit_asks() -> None:
    """1 kW of home, 7.4 of car, the battery gives 3 by itself: 5.4; the limit leaves the car 6.18."""
    own = own_mode_within_limits(BATTERY_INVERTER, powers(net=1.0), STORED, limited(4.2))
    assert own is not None
    assert own.vehicle_kw["car"] == pytest.approx(7.4 - (1.0 + 7.4 - 3.0 - 4.2) - MARGIN_KW)
    assert own.battery_kw["store"] == -3.0


def test_the_answer_does_not_depend_on_what_the_devices_already_do() -> None:
    """Once it is followed the meter shows the limit; asked again, the same comes out: nothing swings."""
    first = own_mode_within_limits(BATTERY_INVERTER, powers(net=1.0), STORED, limited(4.2))
    assert first is not None
    followed = powers(
        net=1.0 + first.battery_kw["store"] + first.vehicle_kw["car"],
        store=first.battery_kw["store"],
        car=first.vehicle_kw["car"],
    )
    again = own_mode_within_limits(BATTERY_INVERTER, followed, STORED, limited(4.2))
    assert again is not None
    assert again.vehicle_kw["car"] == pytest.approx(first.vehicle_kw["car"])
    assert again.battery_kw["store"] == pytest.approx(first.battery_kw["store"])


def test_a_persons_target_is_bent_by_the_grid_operators_limit() -> None:
    target = order(OrderKind.TARGET, 4.0, asset="store")
    counts = limited(4.2, target)
    here: SiteState = replace(state(), powers=powers(net=3.0), stored_kwh=STORED)
    bent = bounded_course(BATTERY_INVERTER, None, here, counts)
    assert bent is not None
    assert bent.battery_kw["store"] == pytest.approx(1.2 - MARGIN_KW)


def test_nothing_is_steered_without_a_meter() -> None:
    here = replace(state(), powers=powers(net=None), stored_kwh=STORED)
    assert bounded_course(BATTERY_INVERTER, course(1.0, 1.0), here, limited(4.2)) is None


@given(
    net=st.floats(-8, 12), store=st.floats(-3, 4), car=st.floats(0, 7.4),
    asked_store=st.floats(-3, 4), asked_car=st.floats(0, 7.4), limit=st.floats(0, 10), filled=st.floats(0, 10),
)  # fmt: skip
def test_no_course_leaves_the_limit_broken_while_anything_can_still_give_way(
    net: float, store: float, car: float, asked_store: float, asked_car: float, limit: float, filled: float
) -> None:
    now = powers(net=net, store=store, car=car)
    bent = within_limits(
        BATTERY_INVERTER, course(asked_store, asked_car), now, {"store": filled}, limited(limit)
    )
    results_kw = net - store - car + bent.battery_kw["store"] + bent.vehicle_kw["car"]
    least_kw = -STORE.discharge_limit_kw if filled > 0 else min(0.0, asked_store)
    given_all = bent.vehicle_kw["car"] == 0.0 and bent.battery_kw["store"] <= least_kw + 1e-9
    assert results_kw <= limit + 2e-3 or given_all
    assert -STORE.discharge_limit_kw <= bent.battery_kw["store"] <= STORE.charge_limit_kw
    assert isinstance(BATTERY_INVERTER.devices["meter"], DeviceRef)
