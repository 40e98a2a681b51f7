"""What a site is doing now: unknown is never 0, what is carried over grows old, signs add up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.orders import OrderKind, SetpointSource, standing
from ems.readings import Quality, Snapshot
from ems.site import GridSignal, Role
from ems.state import (
    STORED_MAX_AGE,
    CarriedState,
    carry,
    estimate_state,
    estimate_states,
    site_powers,
    stored_total_kwh,
    total,
)
from tests.ems.made import (
    AT,
    CAR,
    CHARGER,
    HYBRID,
    METER,
    ROOF,
    STORE,
    device,
    home,
    home_with_car,
    reading,
    sample,
)

NOW = {
    "meter.net_import_kw": 1.5,
    "inverter.net_consumption_kw": -2.0,
    "inverter.pv_kw": 3.0,
    "inverter.battery_net_consumption_kw": 0.9,
    "inverter.stored_frac": 0.6,
}
WITH_CAR = {
    **NOW,
    "charger.vehicle_net_consumption_kw": 2.5,
    "charger.plugged_in": 1.0,
    "charger.session_kwh": 4.0,
}
NOTHING = CarriedState()
powers_kw = st.floats(-20, 20)


@given(
    load_kw=st.floats(0, 20),
    drawn_kw=st.fixed_dictionaries(
        {"inverter": powers_kw, "sun": st.floats(-20, 0), "charger": st.floats(0, 11)}
    ),
)
def test_grid_import_is_what_assets_draw(load_kw: float, drawn_kw: dict[str, float]) -> None:
    """The sign of the whole code: the meter shows the sum of what everything at the site draws."""
    site = home(
        devices={"meter": METER, "inverter": HYBRID, "sun": device(Role.PV_INVERTER), "charger": CHARGER},
        assets=(ROOF, STORE, CAR),
    )
    net_import_kw = load_kw + sum(drawn_kw.values())
    found = site_powers(
        site,
        reading(
            {
                "meter.net_import_kw": net_import_kw,
                "inverter.net_consumption_kw": drawn_kw["inverter"],
                "sun.net_consumption_kw": drawn_kw["sun"],
                "charger.vehicle_net_consumption_kw": drawn_kw["charger"],
            }
        ),
    )
    assert found.net_import_kw == net_import_kw
    assert found.load_kw == pytest.approx(load_kw, abs=1e-9)


def test_a_household_that_feeds_in_while_its_car_charges() -> None:
    found = site_powers(home_with_car(), reading({**WITH_CAR, "meter.net_import_kw": 1.5}))
    assert found.load_kw == pytest.approx(1.5 + 2.0 - 2.5)
    assert found.total_pv_kw == 3.0
    assert found.total_battery_kw == 0.9
    assert found.total_vehicle_kw == 2.5


@pytest.mark.parametrize("missing", sorted(WITH_CAR))
@pytest.mark.parametrize("how", ["not there", "without value", "rejected", "stale"])
def test_unknown_is_never_zero(missing: str, how: str) -> None:
    values: dict = dict(WITH_CAR)
    if how == "not there":
        del values[missing]
    elif how == "without value":
        values[missing] = None
    else:
        quality = Quality.BAD if how == "rejected" else Quality.STALE
        values[missing] = sample(values[missing], quality=quality)
    found = estimate_state(home_with_car(), reading(values), NOTHING, at=AT)
    read_by = {
        "meter.net_import_kw": (found.powers.net_import_kw, found.powers.load_kw),
        "inverter.net_consumption_kw": (found.powers.load_kw,),
        "inverter.pv_kw": (found.powers.pv_kw["roof"], found.powers.total_pv_kw),
        "inverter.battery_net_consumption_kw": (
            found.powers.battery_kw["store"],
            found.powers.total_battery_kw,
        ),
        "inverter.stored_frac": (found.stored_kwh.get("store"),),
        "charger.vehicle_net_consumption_kw": (found.powers.vehicle_kw["car"], found.powers.load_kw),
        "charger.plugged_in": (found.vehicles["car"].plugged_in,),
        "charger.session_kwh": (found.vehicles["car"].session_kwh,),
    }
    assert read_by[missing] == (None,) * len(read_by[missing])


@given(parts=st.dictionaries(st.text(max_size=3), st.none() | powers_kw, max_size=5))
def test_a_sum_is_unknown_as_soon_as_a_part_is(parts: dict[str, float | None]) -> None:
    if None in parts.values():
        assert total(parts) is None
    else:
        assert total(parts) == sum(parts.values())


def test_everything_known_is_good() -> None:
    found = estimate_state(home(), reading(NOW), NOTHING, at=AT)
    assert found.quality is Quality.GOOD
    assert found.stored_kwh == {"store": 6.0}
    assert found.missing == ()


@pytest.mark.parametrize(
    ("age", "stored_kwh", "quality"),
    [
        pytest.param(
            timedelta(minutes=1), {"store": 4.0}, Quality.ESTIMATED, id="fresh: carried over and marked"
        ),
        pytest.param(STORED_MAX_AGE, {"store": 4.0}, Quality.ESTIMATED, id="just fresh enough"),
        pytest.param(STORED_MAX_AGE + timedelta(seconds=1), {}, Quality.BAD, id="too old: unknown"),
        pytest.param(
            -timedelta(minutes=5), {}, Quality.BAD, id="from the future: the clock was set back, unknown"
        ),
    ],
)
def test_a_missing_state_of_charge_is_carried_while_it_is_fresh(
    age: timedelta, stored_kwh: dict[str, float], quality: Quality
) -> None:
    carried = CarriedState(stored_kwh={"store": 4.0}, stored_at=AT - age)
    found = estimate_state(home(), reading({**NOW, "inverter.stored_frac": None}), carried, at=AT)
    assert (found.stored_kwh, found.quality) == (stored_kwh, quality)
    assert found.missing == ("inverter.stored_frac",)


def test_carrying_over_again_and_again_does_not_keep_a_value_young() -> None:
    silent = reading({**NOW, "inverter.stored_frac": None})
    state = estimate_state(home(), reading(NOW), NOTHING, at=AT)
    at = AT
    while at - AT < STORED_MAX_AGE:
        at += timedelta(minutes=10)
        state = estimate_state(home(), silent, carry(state), at=at)
    assert state.stored_kwh == {"store": 6.0}
    state = estimate_state(home(), silent, carry(state), at=at + timedelta(minutes=10))
    assert state.stored_kwh == {}
    assert stored_total_kwh(home(), state) is None


def test_a_lost_meter_leaves_load_unknown_and_is_named() -> None:
    found = estimate_state(home(), reading({**NOW, "meter.net_import_kw": None}), NOTHING, at=AT)
    assert found.powers.load_kw is None
    assert found.quality is Quality.ESTIMATED
    assert found.missing == ("meter.net_import_kw",)
    assert not found.steerable


def test_the_batch_keeps_its_order() -> None:
    sites = (home(), home(id="home-02"))
    readings = (reading(NOW), reading({**NOW, "inverter.stored_frac": 0.1}))
    found = estimate_states(sites, Snapshot(at=AT, sites=readings), {})
    assert [(s.site_id, s.stored_kwh["store"]) for s in found] == [("home-01", 6.0), ("home-02", 1.0)]


class TestSession:
    """A vehicle comes, charges, is lost from sight, and leaves."""

    def follow(self, *plugged: float | None) -> list:
        state, states = NOTHING, []
        for index, there in enumerate(plugged):
            values = {**WITH_CAR, "charger.plugged_in": there, "charger.session_kwh": float(index)}
            found = estimate_state(
                home_with_car(), reading(values), state, at=AT + timedelta(minutes=15 * index)
            )
            state = carry(found)
            states.append(found.vehicles["car"])
        return states

    def test_it_keeps_arrival_and_wish_until_it_leaves(self) -> None:
        away, came, stays, left, again = self.follow(0.0, 1.0, 1.0, 0.0, 1.0)
        assert (away.plugged_in, away.arrived_at, away.ready_at) == (False, None, None)
        assert came.arrived_at == stays.arrived_at == AT + timedelta(minutes=15)
        assert came.ready_at == stays.ready_at == datetime(2026, 3, 2, 22, 0, tzinfo=UTC)  # 07:00 in Seoul
        assert (stays.session_kwh, stays.wished_kwh) == (2.0, 12.0)
        assert (left.plugged_in, left.arrived_at) == (False, None)
        assert again.arrived_at == AT + timedelta(minutes=60)

    def test_a_charger_that_is_silent_for_a_while_does_not_end_it(self) -> None:
        came, silent, back = self.follow(1.0, None, 1.0)
        assert (silent.plugged_in, silent.arrived_at) == (None, AT)
        assert (back.plugged_in, back.arrived_at, back.ready_at) == (True, AT, came.ready_at)

    @pytest.mark.parametrize(
        ("allowed_kw", "drawn_kw", "takes_nothing"),
        [
            pytest.param(7.4, 0.0, True, id="may charge, draws nothing"),
            pytest.param(7.4, 5.0, False, id="charges"),
            pytest.param(0.0, 0.0, False, id="paused by us: nobody knows"),
            pytest.param(None, 0.0, False, id="the charger does not say what it allows"),
        ],
    )
    def test_a_vehicle_that_may_charge_and_does_not_is_full(
        self, allowed_kw: float | None, drawn_kw: float, takes_nothing: bool
    ) -> None:
        values = {**WITH_CAR, "charger.plugged_in": 1.0, "charger.session_kwh": 3.0}
        came = estimate_state(home_with_car(), reading(values), NOTHING, at=AT)
        values |= {
            "charger.vehicle_net_consumption_kw": drawn_kw,
            "charger.vehicle_charge_limit_kw": allowed_kw,
        }
        later = estimate_state(home_with_car(), reading(values), carry(came), at=AT + timedelta(minutes=15))
        assert came.vehicles["car"].takes_nothing is False
        assert later.vehicles["car"].takes_nothing is takes_nothing

    def test_a_charger_that_never_answered_has_no_session(self) -> None:
        (never,) = self.follow(None)
        assert (never.plugged_in, never.arrived_at, never.ready_at) == (None, None, None)


@given(
    at=st.floats(1262304000, 2051222400).map(lambda s: datetime.fromtimestamp(s, UTC)),
    zone=st.sampled_from(["Asia/Seoul", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe"]),
    hour=st.integers(0, 23),
    minute=st.sampled_from([0, 15, 30, 45]),
)
def test_a_wished_time_is_the_next_time_the_local_clock_shows_it(
    at: datetime, zone: str, hour: int, minute: int
) -> None:
    ready_at = ready(at, zone, f"{hour:02d}:{minute:02d}")
    assert at < ready_at <= at + timedelta(hours=25)
    assert ready_at.astimezone(ZoneInfo(zone)).minute in (minute, (minute + 30) % 60)  # a gap may move it


def ready(at: datetime, zone: str, wish: str) -> datetime:
    site = home(
        time_zone=zone,
        devices={"meter": METER, "inverter": HYBRID, "charger": CHARGER},
        assets=(ROOF, STORE, replace(CAR, ready_by_local=wish)),
    )
    found = estimate_state(site, reading(WITH_CAR), NOTHING, at=at).vehicles["car"].ready_at
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("local", "fold", "wish", "wait_h"),
    [
        pytest.param("2026-10-24T20:00", 0, "07:00", 12.0, id="night of 25 hours"),
        pytest.param("2026-03-28T20:00", 0, "07:00", 10.0, id="night of 23 hours"),
        pytest.param("2026-10-25T02:15", 0, "02:30", 0.25, id="first 02:15"),
        pytest.param("2026-10-25T02:45", 0, "02:30", 0.75, id="first 02:45: 02:30 comes once more"),
        pytest.param("2026-10-25T02:15", 1, "02:30", 0.25, id="second 02:15"),
        pytest.param("2026-10-25T02:45", 1, "02:30", 23.75, id="second 02:45: tomorrow"),
        pytest.param("2026-03-02T07:00", 0, "07:00", 24.0, id="on the minute: tomorrow"),
    ],
)
def test_wishes_around_clock_changes(local: str, fold: int, wish: str, wait_h: float) -> None:
    at = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold).astimezone(UTC)
    assert (ready(at, "Europe/Berlin", wish) - at) / timedelta(hours=1) == wait_h


SIGNALLED = home(
    devices={"meter": METER, "inverter": HYBRID, "relay": device(Role.GRID_SIGNAL)},
    grid_signal=GridSignal(failsafe_import_kw=4.2, heartbeat_s=60.0, device="relay", relay_import_kw=4.2),
)


@pytest.mark.parametrize(
    ("said", "limit_kw"),
    [
        pytest.param({"relay.limit_active": 0.0}, None, id="relay open: alive, no limit"),
        pytest.param({"relay.limit_active": 1.0}, 4.2, id="relay closed"),
        pytest.param(
            {"relay.limit_active": 1.0, "relay.import_limit_kw": 3.0}, 3.0, id="a number beside the relay"
        ),
        pytest.param({"relay.limit_active": 0.0, "relay.import_limit_kw": 6.0}, 6.0, id="a number alone"),
    ],
)
def test_what_the_grid_operators_device_says_is_an_order_until_it_must_be_heard_again(
    said: dict[str, float], limit_kw: float | None
) -> None:
    now = estimate_state(SIGNALLED, reading(said), CarriedState(), at=AT)
    by_kind = {order.kind: order for order in now.signal}
    assert by_kind[OrderKind.IMPORT_LIMIT].value_kw == limit_kw
    assert {order.source for order in now.signal} == {SetpointSource.GRID_OPERATOR}
    assert {order.until_at for order in now.signal} == {AT + timedelta(seconds=60)}


def test_a_silent_signal_device_leaves_its_last_word_until_that_runs_out() -> None:
    heard = estimate_state(SIGNALLED, reading({"relay.limit_active": 0.0}), CarriedState(), at=AT)
    soon = AT + timedelta(seconds=59)
    silent = estimate_state(SIGNALLED, reading({}, relay="silent"), carry(heard), at=soon)
    assert silent.signal == heard.signal
    assert not standing(SIGNALLED, silent.signal, at=soon).signal_lost
    late = standing(SIGNALLED, silent.signal, at=AT + timedelta(seconds=60))
    assert (late.signal_lost, late.import_limit.kw) == (True, 4.2)


def test_a_relay_that_cannot_be_read_is_not_an_open_relay() -> None:
    now = estimate_state(SIGNALLED, reading({"relay.limit_active": None}), CarriedState(), at=AT)
    assert now.signal == ()
