"""The plant of the simulation: energy is neither made nor lost, limits hold, one direction at a time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.physics import Flows, Steering, mean_flows
from ems.site import Connection, Consents, Role, Site
from tests.ems.made import HYBRID, METER, ROOF, STORE, device, home

EFF = 0.97
SPLIT = home(
    devices={"meter": METER, "sun": device(Role.PV_INVERTER), "bat": device(Role.BATTERY_INVERTER)},
    assets=(replace(ROOF, device="sun"), replace(STORE, device="bat")),
)


def flows(
    site: Site, wish_kw: float | None, *, load_kw: float, pv_kw: float = 0.0, stored_kwh: float = 5.0,
    hours: float = 0.25, cap_kw: float | None = None,
) -> Flows:  # fmt: skip
    steering = Steering(battery_kw=None if wish_kw is None else {"store": wish_kw}, pv_cap_kw=cap_kw)
    return mean_flows(
        site, steering, load_kw=load_kw, pv_kw=pv_kw, stored_kwh={"store": stored_kwh}, hours=hours
    )


wide = home(connection=Connection(import_limit_kw=100.0, export_limit_kw=100.0))


@given(
    hybrid=st.booleans(),
    wish_kw=st.none() | st.floats(-20, 20),
    load_kw=st.floats(0, 15),
    pv_kw=st.floats(0, 8),
    cap_kw=st.none() | st.floats(0, 8),
    stored_kwh=st.floats(0, 10),
    hours=st.sampled_from([1 / 12, 0.25, 1.0]),
    export_limit_kw=st.sampled_from([0.0, 1.0, 5.0, 100.0]),
    may_curtail=st.booleans(),
)
def test_energy_is_balanced_and_limits_hold(
    hybrid: bool, wish_kw: float | None, load_kw: float, pv_kw: float, cap_kw: float | None, stored_kwh: float,
    hours: float, export_limit_kw: float, may_curtail: bool,
) -> None:  # fmt: skip
    site = replace(
        home() if hybrid else SPLIT,
        connection=Connection(import_limit_kw=100.0, export_limit_kw=export_limit_kw),
        consents=Consents(control_storage=True, curtail_solar=may_curtail),
    )
    found = flows(
        site, wish_kw, load_kw=load_kw, pv_kw=pv_kw, cap_kw=cap_kw, stored_kwh=stored_kwh, hours=hours
    )
    eff, rating_kw = (EFF, 5.0) if hybrid else (1.0, float("inf"))
    dc_kw = found.pv_kw + found.discharged_kw - found.charged_kw
    ac_kw = dc_kw * eff if dc_kw >= 0 else dc_kw / eff
    # what comes from the grid is what the household draws beyond its inverter
    assert found.import_kw - found.export_kw == pytest.approx(load_kw - ac_kw, abs=1e-9)
    assert min(found.import_kw, found.export_kw) == 0.0
    assert min(found.charged_kw, found.discharged_kw) == pytest.approx(0.0, abs=1e-12)
    assert -1e-9 <= found.charged_kw <= 4.0 + 1e-9
    assert -1e-9 <= found.discharged_kw <= 3.0 + 1e-9
    assert -1e-9 <= found.pv_kw <= min(pv_kw, pv_kw if cap_kw is None else cap_kw) + 1e-9
    assert abs(ac_kw) <= rating_kw + 1e-9
    after_kwh = found.stored_kwh["store"]
    assert after_kwh == pytest.approx(
        stored_kwh + hours * (found.charged_kw * 0.9 - found.discharged_kw / 0.8)
    )
    assert -1e-9 <= after_kwh <= 10.0 + 1e-9
    assert found.violated == (
        found.import_kw > 100.0 + 1e-6 or found.export_kw > export_limit_kw + 1e-6
    )  # fmt: skip


@given(load_kw=st.floats(0, 10), pv_kw=st.floats(0, 8))
def test_solar_power_is_held_back_only_where_a_limit_leaves_no_other_way(
    load_kw: float, pv_kw: float
) -> None:
    found = flows(home(), 0.0, load_kw=load_kw, pv_kw=pv_kw)
    assert not found.violated
    if found.pv_kw < pv_kw - 1e-9:
        at_rating, at_limit = found.pv_kw * EFF, found.export_kw
        assert max(at_rating, at_limit) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("load_kw", "pv_kw", "stored_kwh", "import_kw", "export_kw", "stored_after_kwh"),
    [
        pytest.param(0.97, 3.0, 5.0, 0.0, 0.0, 5.45, id="surplus of 2 kW DC goes into the store"),
        pytest.param(1.94, 0.0, 5.0, 0.0, 0.0, 4.375, id="deficit of 2 kW DC comes from the store"),
        pytest.param(1.94, 0.0, 1.0, 1.94, 0.0, 1.0, id="the reserve stays: bought instead"),
        pytest.param(0.0, 5.0, 10.0, 0.0, 4.85, 10.0, id="full: fed in, less losses"),
        pytest.param(0.0, 6.0, 10.0, 0.0, 5.0, 10.0, id="full: rating and export limit hold solar back"),
    ],
)
def test_a_device_in_its_own_mode(
    load_kw: float,
    pv_kw: float,
    stored_kwh: float,
    import_kw: float,
    export_kw: float,
    stored_after_kwh: float,
) -> None:
    found = flows(home(), None, load_kw=load_kw, pv_kw=pv_kw, stored_kwh=stored_kwh)
    assert found.import_kw == pytest.approx(import_kw, abs=1e-9)
    assert found.export_kw == pytest.approx(export_kw, abs=1e-9)
    assert found.stored_kwh["store"] == pytest.approx(stored_after_kwh)


@pytest.mark.parametrize(
    ("wish_kw", "stored_kwh", "charged_kw", "discharged_kw"),
    [
        pytest.param(2.0, 5.0, 2.0, 0.0, id="charges from the grid when asked"),
        pytest.param(9.0, 5.0, 4.0, 0.0, id="no faster than it takes"),
        pytest.param(4.0, 9.55, 2.0, 0.0, id="no more than there is room: 0.45 kWh in a quarter"),
        pytest.param(-2.0, 5.0, 0.0, 2.0, id="gives when asked"),
        pytest.param(-9.0, 5.0, 0.0, 3.0, id="no faster than it gives"),
        pytest.param(-3.0, 0.5, 0.0, 1.6, id="no more than is there: 0.5 kWh"),
    ],
)
def test_a_battery_does_what_it_is_asked_within_its_limits(
    wish_kw: float, stored_kwh: float, charged_kw: float, discharged_kw: float
) -> None:
    found = flows(wide, wish_kw, load_kw=4.0, stored_kwh=stored_kwh)
    assert (found.charged_kw, found.discharged_kw) == (
        pytest.approx(charged_kw),
        pytest.approx(discharged_kw),
    )


def test_solar_beyond_the_rating_of_the_inverter_is_lost() -> None:
    found = flows(wide, 0.0, load_kw=0.0, pv_kw=6.0)
    assert found.export_kw == pytest.approx(5.0)
    assert found.pv_kw == pytest.approx(5.0 / EFF)


def test_idle_storage_rests_and_an_unknown_one_is_left_out() -> None:
    assert flows(wide, 0.0, load_kw=2.0).stored_kwh == {"store": 5.0}
    found = mean_flows(wide, Steering.idle(wide), load_kw=2.0, pv_kw=0.0, stored_kwh={}, hours=0.25)
    assert (found.import_kw, found.stored_kwh) == (2.0, {})


def test_more_than_the_connection_carries_is_told_as_a_violation() -> None:
    assert flows(home(), 0.0, load_kw=12.0).violated
    assert not flows(home(), -3.0, load_kw=12.0).violated
    no_consent = home(consents=Consents(), connection=Connection(import_limit_kw=10.0, export_limit_kw=0.0))
    assert flows(no_consent, 0.0, load_kw=0.0, pv_kw=2.0).violated


def test_a_hybrid_inverter_charges_from_the_grid_no_faster_than_its_rating() -> None:
    site = replace(wide, devices={"meter": METER, "inverter": replace(HYBRID, rated_kw=2.0)})
    found = flows(site, 4.0, load_kw=0.0)
    assert found.import_kw == pytest.approx(2.0)
    assert found.charged_kw == pytest.approx(2.0 * EFF)
