"""A Modbus client that is not ours reads the twin and sees what we wrote."""

import asyncio
from urllib.parse import urlsplit

import numpy as np
import pytest
from pymodbus.client import AsyncModbusTcpClient
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from drivers import open_device
from drivers.twin import BatterySpec, HomeSpec, InverterSpec, Profile, serve


async def test_pymodbus_walks_the_inverter_and_sees_our_setpoint(clock, links):
    flat = Profile(start_at=clock(), step_s=900, power_kw=np.full(4, 0.8))
    spec = HomeSpec(
        name="home",
        load=flat,
        pv=flat,
        battery=BatterySpec(capacity_kwh=10, charge_limit_kw=5, discharge_limit_kw=5),
        inverter=InverterSpec(ac_limit_kw=5),
    )
    async with serve([spec], clock=clock) as (home,):
        found = next(d for d in home.devices if d.role == "inverter")
        inverter = open_device(
            name=found.name, endpoint=found.endpoint, unit_id=1, driver=found.driver, links=links
        )
        await inverter.write_battery_power(1.5, valid_s=600)

        port = urlsplit(found.endpoint).port
        client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
        assert await client.connect()
        marker = await client.read_holding_registers(40000, count=2, device_id=1)
        assert b"".join(r.to_bytes(2, "big") for r in marker.registers) == b"SunS"
        models, address = {}, 40002
        while True:
            model, length = (await client.read_holding_registers(address, count=2, device_id=1)).registers
            if model == 0xFFFF:
                break
            models[model] = address
            address += 2 + length
        assert list(models) == [1, 103, 120, 121, 122, 123, 124, 160]
        storage = (await client.read_holding_registers(models[124], count=26, device_id=1)).registers
        assert storage[5] == 3, "both limits in force"
        assert storage[12] == 0x10000 - 3000 and storage[13] == 3000, "-30.00 % and +30.00 % of 5 kW"
        assert storage[15] == 600, "reverts after ten minutes"
        outside = await client.read_holding_registers(address + 10, count=1, device_id=1)
        assert outside.isError() and outside.exception_code == 2
        unknown = await client.read_holding_registers(40000, count=2, device_id=7)
        assert unknown.isError() and unknown.exception_code == 11
        refused = await client.write_register(models[103] + 2, 1, device_id=1)
        assert refused.isError(), "measurements cannot be written"
        client.close()
    assert pytest.approx(1.5) == home.physics.flows.battery_kw


async def test_the_sunspec_alliances_own_client_scans_inverter_and_meter(clock):
    flat = Profile(start_at=clock(), step_s=900, power_kw=np.full(4, 0.8))
    spec = HomeSpec(
        name="home",
        load=flat,
        pv=flat,
        battery=BatterySpec(capacity_kwh=10, charge_limit_kw=5, discharge_limit_kw=5, stored_frac=0.4),
        inverter=InverterSpec(ac_limit_kw=5),
    )
    async with serve([spec], clock=clock) as (home,):
        clock.forward(minutes=30)
        ports = {device.role: urlsplit(device.endpoint).port for device in home.devices}

        def scan(port):
            device = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port)
            device.scan()
            device.close()
            return device

        inverter = await asyncio.to_thread(scan, ports["inverter"])
        meter = await asyncio.to_thread(scan, ports["meter"])
    assert inverter.common[0].Md.value == "Hybrid inverter"
    assert inverter.storage_basic[0].ChaState.cvalue == pytest.approx(40.0, abs=1.0)
    assert inverter.mppt[0].N.value == 4
    assert [module.IDStr.value for module in inverter.mppt[0].module] == [
        "MPPT 1",
        "MPPT 2",
        "StCha 3",
        "StDisCha 4",
    ]
    assert inverter.nameplate[0].WHRtg.cvalue == 10_000
    shown_w = meter.ac_meter_abcn[0].W.cvalue
    assert shown_w == pytest.approx(home.physics.flows.net_import_kw * 1000.0, abs=1.0)
    assert meter.ac_meter_abcn[0].TotWhImp.cvalue == pytest.approx(
        home.physics.meters.import_kwh * 1000.0, abs=1.0
    )
