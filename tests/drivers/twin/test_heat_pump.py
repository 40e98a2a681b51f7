"""A heat pump read through a device file shows the house it heats."""

import textwrap

import numpy as np
import pytest

from drivers import Capability, open_device
from drivers.twin import HeatPumpSpec, HomeSpec, Profile, Weather, serve

FILE = """
    device: Test heat pump
    maker: Test
    models: [H1]
    roles: [heat_pump]
    verified: one-source
    sources: [{title: a manual, where: on the shelf}]
    identity: [{table: input, address: 0, type: uint16, one_of: [55]}]
    registers:
      heat_pump_net_consumption_kw: {table: input, address: 1, type: uint16, unit: W}
      heat_pump_kwh: {table: input, address: 2, type: uint32, unit: kWh, scale: 0.1}
      room_degc: {table: input, address: 4, type: int16, unit: degC, scale: 0.1}
      outdoor_degc: {table: input, address: 5, type: int16, unit: degC, scale: 0.1}
"""


async def test_the_heat_pump_of_a_home_is_read(tmp_path, clock, links):
    path = tmp_path / "pump.yaml"
    path.write_text(textwrap.dedent(FILE), encoding="utf-8")
    weather = Weather(start_at=clock(), step_s=3600, outdoor_degc=np.array([-7.0]))
    spec = HomeSpec(
        name="home",
        load=Profile(start_at=clock(), step_s=3600, power_kw=np.array([0.4])),
        heat_pump=HeatPumpSpec(driver=str(path), weather=weather, room_degc=20.0),
    )
    async with serve([spec], clock=clock) as (home,):
        found = next(d for d in home.devices if d.role == "heat_pump")
        pump = open_device(
            name=found.name, endpoint=found.endpoint, unit_id=1, driver=found.driver, links=links
        )
        cold = await pump.read()
        clock.forward(hours=1)
        warmer = await pump.read()
    assert Capability.HEATS in pump.capabilities
    assert cold["outdoor_degc"].value == pytest.approx(-7.0)
    assert cold["heat_pump_net_consumption_kw"].value == pytest.approx(8.0 / (0.4 * 308.15 / 42.0), abs=2e-3)
    assert warmer["room_degc"].value > cold["room_degc"].value
    gained = warmer["heat_pump_kwh"].value - cold["heat_pump_kwh"].value
    assert gained == pytest.approx(home.totals.heat_pump_kwh, abs=0.11)
