"""The twin without its grid: battery and sun carry the home as far as they can, and nothing else does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from drivers import Applied, LinkPool, open_device
from drivers.twin import serve
from drivers.twin.physics import HomePhysics
from drivers.twin.profiles import Profile
from drivers.twin.specs import BatterySpec, HomeSpec, InverterSpec

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOME = HomeSpec(
    name="h",
    load=Profile(start_at=START, step_s=86400.0, power_kw=np.array([2.0])),
    pv=Profile(start_at=START, step_s=86400.0, power_kw=np.array([0.0])),
    battery=BatterySpec(
        capacity_kwh=10.0, charge_limit_kw=5.0, discharge_limit_kw=5.0, charge_eff_frac=1.0, discharge_eff_frac=1.0,
        min_stored_frac=0.0, stored_frac=0.5,
    ),
    inverter=InverterSpec(ac_limit_kw=5.0, conversion_eff_frac=1.0),
    switched_kw=1.5,
)  # fmt: skip


def sunny(kw: float) -> HomeSpec:
    return replace(HOME, pv=Profile(start_at=START, step_s=86400.0, power_kw=np.array([kw])))


def islanded(spec: HomeSpec) -> HomePhysics:
    home = HomePhysics(spec, START)
    home.lose_grid()
    return home


def test_the_battery_carries_the_load_until_it_is_empty() -> None:
    home = islanded(HOME)
    home.advance(START + timedelta(hours=4))
    assert home.stored_kwh == pytest.approx(0.0)
    assert home.totals.load_kwh == pytest.approx(5.0), "5 kWh were in it"
    assert home.totals.unserved_kwh == pytest.approx(3.0)
    assert home.totals.import_kwh == 0.0


def test_sun_serves_first_fills_the_battery_and_the_rest_is_lost() -> None:
    home = islanded(sunny(6.0))
    assert (home.flows.battery_kw, home.flows.pv_dc_kw) == (pytest.approx(4.0), pytest.approx(6.0))
    home.advance(START + timedelta(hours=2))  # 5 kWh of room take 1.25 h at 4 kW
    assert home.stored_kwh == pytest.approx(10.0)
    assert home.flows.pv_dc_kw == pytest.approx(2.0)
    assert home.totals.export_kwh == 0.0


def test_a_load_beyond_the_inverter_stays_partly_dark() -> None:
    home = islanded(replace(HOME, load=Profile(start_at=START, step_s=86400.0, power_kw=np.array([8.0]))))
    assert (home.flows.load_kw, home.flows.unserved_kw) == (pytest.approx(5.0), pytest.approx(3.0))


def test_a_home_without_inverter_goes_dark_and_comes_back() -> None:
    home = islanded(replace(HOME, pv=None, battery=None, inverter=None))
    assert (home.flows.load_kw, home.flows.unserved_kw) == (0.0, 2.0)
    home.return_grid()
    assert home.flows.net_import_kw == pytest.approx(2.0)


async def test_meter_and_switch_show_and_do_it_on_the_wire() -> None:
    now = START

    async with serve([HOME], clock=lambda: now) as (home,), LinkPool(clock=lambda: now) as links:
        at = {device.role: device for device in home.devices}
        meter, switch = (
            open_device(name=role, endpoint=at[role].endpoint, unit_id=1, driver=at[role].driver, links=links)
            for role in ("meter", "switch")
        )
        alive = await meter.read()
        assert (await switch.read()).usable("closed") == 1.0
        home.physics.lose_grid()
        now = START + timedelta(seconds=5)
        dead = await meter.read()
        receipt = await switch.limit_consumption(0.0, valid_s=900)
        shown = (await switch.read()).usable("closed")
        cut = home.physics.flows
        back = await switch.limit_consumption(None, valid_s=900)
    assert alive.usable("voltage_l1_v") == pytest.approx(230.0, abs=15.0)
    assert (dead.usable("voltage_l1_v"), dead.usable("net_import_kw")) == (0.0, 0.0)
    assert isinstance(receipt, Applied)
    assert isinstance(back, Applied)
    assert (shown, cut.cut_kw, cut.load_kw) == (0.0, 1.5, pytest.approx(0.5))
    assert home.physics.flows.cut_kw == 0.0
