"""The twin's energy: exact over a step, inside every limit, conserved."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.twin.physics import HomePhysics
from drivers.twin.profiles import Profile, Weather
from drivers.twin.specs import BatterySpec, ChargerSpec, HeatPumpSpec, HomeSpec, InverterSpec, Session

START = datetime(2025, 6, 1, tzinfo=UTC)
BATTERY = BatterySpec(
    capacity_kwh=10.0,
    charge_limit_kw=4.0,
    discharge_limit_kw=3.0,
    charge_eff_frac=0.9,
    discharge_eff_frac=0.9,
    min_stored_frac=0.1,
    stored_frac=0.5,
)
LOSSLESS = InverterSpec(ac_limit_kw=5.0, conversion_eff_frac=1.0)


def profile(*kw: float, step_s: float = 3600.0) -> Profile:
    return Profile(start_at=START, step_s=step_s, power_kw=np.array(kw, dtype=float))


def home(load=(1.0,), pv=None, **more) -> HomePhysics:
    spec = HomeSpec(
        name="h",
        load=profile(*load),
        pv=None if pv is None else profile(*pv),
        **({"battery": BATTERY, "inverter": LOSSLESS} | more),
    )
    return HomePhysics(spec, START)


def after(physics: HomePhysics, **span: float) -> HomePhysics:
    physics.advance(START + timedelta(**span))
    return physics


def test_surplus_is_stored_with_its_loss():
    it = after(home(load=(1.0,), pv=(3.0,)), hours=1)
    assert it.stored_kwh == pytest.approx(5.0 + 2.0 * 0.9)
    assert it.totals.import_kwh == 0.0 and it.totals.export_kwh == 0.0


def test_a_deficit_is_served_with_its_loss_until_the_floor_and_then_bought():
    it = after(home(load=(3.0,)), hours=2)
    # 4 kWh above the floor give 3.6 kWh at the terminals, 1.2 h at 3 kW
    assert it.stored_kwh == pytest.approx(1.0)
    assert it.totals.battery_discharged_kwh == pytest.approx(3.6)
    assert it.totals.import_kwh == pytest.approx(6.0 - 3.6)


def test_a_full_battery_exports():
    it = after(home(load=(0.0,), pv=(4.0,)), hours=3)
    taken = 5.0 / 0.9
    assert it.stored_kwh == pytest.approx(10.0)
    assert it.totals.export_kwh == pytest.approx(12.0 - taken)


def test_dc_surplus_beyond_the_ac_rating_goes_into_the_battery_or_is_lost():
    it = home(load=(0.0,), pv=(8.0,), inverter=InverterSpec(ac_limit_kw=3.0, conversion_eff_frac=1.0))
    after(it, hours=1)
    assert it.totals.battery_charged_kwh == pytest.approx(4.0)
    assert it.totals.export_kwh == pytest.approx(3.0)
    assert it.totals.pv_available_kwh - it.totals.pv_kwh == pytest.approx(1.0)


def test_an_order_is_held_until_it_ends_in_the_middle_of_a_step():
    it = home(load=(1.0,))
    it.orders.battery_low_kw = it.orders.battery_high_kw = 2.0
    it.orders.battery_until_s = START.timestamp() + 900.0
    it.settle()
    after(it, hours=1)
    assert it.totals.battery_charged_kwh == pytest.approx(0.5)
    assert it.totals.battery_discharged_kwh == pytest.approx(0.75)
    assert it.totals.import_kwh == pytest.approx(3.0 * 0.25)
    assert it.totals.reversions == 1


def test_without_leave_to_charge_from_the_grid_only_pv_is_taken():
    it = home(load=(1.0,), pv=(1.5,))
    it.orders.battery_low_kw = it.orders.battery_high_kw = 4.0
    it.orders.grid_charging = False
    it.settle()
    assert it.flows.battery_kw == pytest.approx(1.5)
    it.orders.grid_charging = True
    it.settle()
    assert it.flows.battery_kw == pytest.approx(4.0)


def test_a_generation_cap_holds_back_discharge_before_it_curtails_pv():
    it = home(load=(4.0,), pv=(2.0,))
    it.orders.battery_low_kw = it.orders.battery_high_kw = -3.0
    it.orders.ac_limit_kw = 2.5
    it.settle()
    assert it.flows.inverter_ac_kw == pytest.approx(2.5)
    assert it.flows.pv_dc_kw == pytest.approx(2.0)
    assert it.flows.battery_kw == pytest.approx(-0.5)


def charging_home(wished_kwh=6.0, hours=4.0, **charger) -> HomePhysics:
    session = Session(
        plug_in_at=START + timedelta(hours=1),
        plug_out_at=START + timedelta(hours=1 + hours),
        wished_kwh=wished_kwh,
        max_kw=7.0,
    )
    spec = HomeSpec(
        name="h", load=profile(1.0), charger=ChargerSpec(**charger), sessions=(session,), import_limit_kw=7.5
    )
    return HomePhysics(spec, START)


def test_a_vehicle_takes_what_it_wishes_and_no_more():
    it = after(charging_home(), hours=6)
    assert it.totals.vehicle_kwh == pytest.approx(6.0)
    assert it.totals.unserved_vehicle_kwh == pytest.approx(0.0, abs=1e-9)
    assert it.totals.max_import_kw == pytest.approx(8.0)
    assert it.totals.import_violation_s == pytest.approx(6.0 / 7.0 * 3600.0)


def test_what_a_vehicle_misses_is_told_when_it_leaves():
    it = after(charging_home(wished_kwh=20.0, hours=2.0), hours=6)
    assert it.totals.vehicle_kwh == pytest.approx(14.0)
    assert it.totals.unserved_vehicle_kwh == pytest.approx(6.0)


def test_below_six_amperes_a_charger_pauses_and_without_a_word_it_falls_back():
    it = charging_home(wished_kwh=50.0, hours=10.0, timeout_s=1800.0, fallback_current_a=8.0)
    after(it, hours=1)
    it.orders.charge_current_a = 5.9
    it.heard_charger()
    it.settle()
    assert it.flows.vehicle_kw == 0.0
    after(it, hours=1.49)
    assert it.flows.vehicle_kw == 0.0
    after(it, hours=1.51)
    assert it.flows.vehicle_kw == pytest.approx(8.0 * 3 * 230 / 1000)
    assert it.totals.reversions == 1


@settings(max_examples=60, deadline=None)
@given(
    load=st.lists(st.floats(0, 8), min_size=1, max_size=6),
    pv=st.lists(st.floats(0, 10), min_size=1, max_size=6),
    orders=st.lists(
        st.tuples(
            st.floats(1, 7200), st.one_of(st.none(), st.floats(-6, 6)), st.one_of(st.none(), st.floats(0, 6))
        ),
        max_size=6,
    ),
)
def test_energy_is_conserved_and_every_limit_kept_whatever_is_ordered(load, pv, orders):
    it = home(load=load, pv=pv, inverter=InverterSpec(ac_limit_kw=5.0, conversion_eff_frac=0.95))
    at = START
    for wait_s, battery_kw, cap_kw in orders:
        it.orders.battery_low_kw = it.orders.battery_high_kw = battery_kw
        it.orders.ac_limit_kw = cap_kw
        it.settle()
        at += timedelta(seconds=wait_s)
        it.advance(at)
        flows = it.flows
        assert -3.0 - 1e-9 <= flows.battery_kw <= 4.0 + 1e-9
        assert flows.inverter_ac_kw <= min(5.0, cap_kw if cap_kw is not None else 5.0) + 1e-9
        assert flows.inverter_ac_kw >= -5.0 - 1e-9
        assert -1e-9 <= flows.pv_dc_kw <= flows.pv_available_dc_kw + 1e-9
        assert 1.0 - 1e-6 <= it.stored_kwh <= 10.0 + 1e-6
    totals, meters = it.totals, it.meters
    grid = totals.import_kwh - totals.export_kwh
    inverter = meters.inverter_out_kwh - 9120.0 - (meters.inverter_in_kwh - 35.0)
    assert grid == pytest.approx(totals.load_kwh - inverter, abs=1e-6)
    gain = totals.battery_charged_kwh * 0.9 - totals.battery_discharged_kwh / 0.9
    assert it.stored_kwh - 5.0 == pytest.approx(gain, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.floats(0.1, 86400), min_size=1, max_size=12))
def test_looking_often_changes_nothing(cuts):
    whole, looked = home(load=(0.3, 2.0, 1.1), pv=(0.0, 4.0)), home(load=(0.3, 2.0, 1.1), pv=(0.0, 4.0))
    after(whole, hours=24)
    for cut in sorted(cuts):
        looked.advance(START + timedelta(seconds=cut))
    after(looked, hours=24)
    assert looked.stored_kwh == pytest.approx(whole.stored_kwh, abs=1e-6)
    assert looked.totals.import_kwh == pytest.approx(whole.totals.import_kwh, abs=1e-6)


def test_a_profile_repeats_and_refuses_nonsense():
    it = profile(1.0, 2.0)
    t = START.timestamp()
    assert [it.at_s(t + h * 3600)[0] for h in (0, 1, 2, 3)] == [1.0, 2.0, 1.0, 2.0]
    assert it.at_s(t + 900)[1] == pytest.approx(2700)
    for bad in (np.array([]), np.array([-1.0]), np.array([np.nan])):
        with pytest.raises(ValueError, match="power_kw"):
            Profile(start_at=START, step_s=900, power_kw=bad)


def heated(outdoor_degc=(-5.0,), **more) -> HomePhysics:
    weather = Weather(start_at=START, step_s=3600.0, outdoor_degc=np.array(outdoor_degc, dtype=float))
    pump = HeatPumpSpec(driver="none", weather=weather, **more)
    return HomePhysics(HomeSpec(name="h", load=profile(0.5), heat_pump=pump), START)


def test_a_heat_pump_gives_the_heat_the_house_loses_and_holds_the_room():
    it = heated()
    rooms = []
    for hour in range(1, 73):
        after(it, hours=hour)
        rooms.append(it.heating.room_degc)
    assert min(rooms) >= 20.5 - 1e-6 and max(rooms) <= 21.5 + 1e-6
    performance = 0.4 * (35 + 273.15) / 40
    heat_kwh = it.totals.heat_pump_kwh * performance
    lost_kwh = 72 * 0.2 * (np.mean(rooms) + 5.0)
    stored_kwh = 10.0 * (rooms[-1] - 21.0)
    assert heat_kwh == pytest.approx(lost_kwh + stored_kwh, rel=0.01)
    assert it.totals.import_kwh == pytest.approx(36.0 + it.totals.heat_pump_kwh)


def test_heat_is_exact_however_often_one_looks():
    whole, looked = heated((-5.0, 2.0, 8.0)), heated((-5.0, 2.0, 8.0))
    after(whole, hours=48)
    for minutes in range(7, 48 * 60, 7):
        looked.advance(START + timedelta(minutes=minutes))
    after(looked, hours=48)
    assert looked.heating.room_degc == pytest.approx(whole.heating.room_degc, abs=1e-6)
    assert looked.totals.heat_pump_kwh == pytest.approx(whole.totals.heat_pump_kwh, abs=1e-6)


def test_on_a_warm_day_the_heat_pump_rests():
    it = after(heated((22.0,)), hours=24)
    assert it.totals.heat_pump_kwh == 0.0
