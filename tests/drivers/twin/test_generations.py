"""Every generation of SunSpec inverter the twin speaks, read and steered by our client and by foreign ones."""

import asyncio
from datetime import timedelta
from urllib.parse import urlsplit

import numpy as np
import pytest
from pymodbus.client import AsyncModbusTcpClient
from sunspec2.modbus.client import SunSpecModbusClientDeviceRTU, SunSpecModbusClientDeviceTCP

from drivers import Applied, Capability, Quality, Unverified, open_device
from drivers.sunspec.models import place
from drivers.sunspec.survey import survey
from drivers.twin import BatterySpec, HomeSpec, InverterSpec, Profile, ServedHome, serve
from drivers.twin.server import SerialLine

GENERATIONS = [
    pytest.param(InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0), (103, 124), id="103"),
    pytest.param(InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, phases=1), (101, 124), id="101"),
    pytest.param(InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="110"), (113, 124), id="113"),
    pytest.param(
        InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="110", phases=1, battery_bank=True),
        (111, 802),
        id="111 and 802",
    ),
    pytest.param(
        InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="700"), (701, 704, 714), id="700"
    ),
    pytest.param(
        InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="700", phases=1),
        (701, 713),
        id="700, one phase",
    ),
]


def home(clock, inverter, load_kw=1.0, pv_kw=2.0):
    return HomeSpec(
        name="home",
        load=Profile(start_at=clock(), step_s=3600, power_kw=np.full(24, load_kw)),
        pv=Profile(start_at=clock(), step_s=3600, power_kw=np.full(24, pv_kw)),
        battery=BatterySpec(capacity_kwh=10, charge_limit_kw=4, discharge_limit_kw=3, stored_frac=0.4),
        inverter=inverter,
    )


def opened(served, links, endpoint=None, **more):
    found = next(d for d in served.devices if d.role == "inverter")
    return open_device(
        name="it", endpoint=endpoint or found.endpoint, unit_id=1, driver="sunspec", links=links, **more
    )


@pytest.mark.parametrize(("inverter", "models"), GENERATIONS)
@pytest.mark.parametrize("wire", ["tcp", "serial line"])
async def test_each_is_read_steered_and_reverts_on_tcp_and_on_a_serial_line(
    inverter, models, wire, clock, links
):
    async with serve([home(clock, inverter)], clock=clock) as (served,):
        line = SerialLine(served.stations["inverter"][1]) if wire == "serial line" else None
        it = opened(served, links, endpoint=None if line is None else f"rtu://{line.path}?baud=115200")
        first = await it.read()
        assert it.identity is not None and set(models) <= set(it.identity.models)
        truth = served.physics
        assert first.trouble is None
        assert first["net_consumption_kw"].value == pytest.approx(-truth.flows.inverter_ac_kw, abs=0.002)
        assert first["pv_kw"].value == pytest.approx(2.0, abs=0.002)
        assert first["battery_net_consumption_kw"].value == pytest.approx(1.0, abs=0.002)
        assert first["stored_frac"].value == pytest.approx(0.4, abs=0.001)
        assert first["capacity_kwh"].value == pytest.approx(10.0)
        assert first["charge_limit_kw"].value in (4.0, pytest.approx(4.0))
        assert first["frequency_hz"].value == pytest.approx(50.0, abs=0.1)
        assert first["voltage_l1_v"].quality is Quality.GOOD
        assert first.usable("voltage_l2_v") is None if inverter.phases == 1 else first.usable("voltage_l2_v")
        assert {
            Capability.ACCEPTS_BATTERY_POWER,
            Capability.LIMITS_GENERATION,
            Capability.REVERTS,
        } <= it.capabilities

        for wanted_kw in (2.5, -1.5, 0.0):
            receipt = await it.write_battery_power(wanted_kw, valid_s=600)
            assert isinstance(receipt, Applied), receipt
            assert truth.flows.battery_kw == pytest.approx(wanted_kw, abs=0.002)
            assert (await it.read())["battery_net_consumption_kw"].value == pytest.approx(
                wanted_kw, abs=0.002
            )
        assert receipt.valid_until == clock() + timedelta(seconds=600)
        clock.forward(seconds=601)
        served.advance()
        assert truth.totals.reversions == 1
        assert truth.flows.net_import_kw == pytest.approx(0.0), "back in its own self-consumption mode"

        assert isinstance(await it.limit_generation(0.5, valid_s=600), Applied)
        assert truth.flows.inverter_ac_kw == pytest.approx(0.5, abs=0.002)
        assert (await it.read())["generation_limit_kw"].value == pytest.approx(0.5, abs=0.005)
        assert isinstance(await it.limit_generation(None, valid_s=600), Applied)
        assert "generation_limit_kw" not in await it.read()
        assert (await it.write_battery_power(1.0, valid_s=600)).written
        assert isinstance(await it.release(), Applied)
        assert truth.orders.ac_target_kw is None and truth.orders.battery_high_kw is None
        if line is not None:
            line.close()


@pytest.mark.parametrize("inverter", [p.values[0] for p in GENERATIONS[::4]], ids=["103", "700"])
async def test_energy_counted_by_the_device_is_what_truly_flowed(inverter, clock, links):
    async with serve([home(clock, inverter)], clock=clock) as (served,):
        it = opened(served, links)
        before = await it.read()
        await it.write_battery_power(3.0, valid_s=7200)
        clock.forward(hours=1)
        after = await it.read()
        gained = {n: after[n].value - before[n].value for n in ("charged_kwh", "discharged_kwh", "pv_kwh")}
    assert gained == {
        "charged_kwh": pytest.approx(served.totals.battery_charged_kwh, abs=0.002),
        "discharged_kwh": pytest.approx(0.0, abs=0.002),
        "pv_kwh": pytest.approx(2.0, abs=0.003),
    }
    if inverter.models == "700":
        taken = after["consumed_kwh"].value - before["consumed_kwh"].value
        assert taken == pytest.approx(1.0, abs=0.002), (
            "3 kW into the battery, 2 from the roof: 1 from the grid"
        )


async def test_a_700_series_setpoint_is_renewed_for_its_timer_and_only_then(clock, links):
    inverter = InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="700")
    async with serve([home(clock, inverter)], clock=clock) as (served,):
        it = opened(served, links)
        await it.read()
        assert (await it.write_battery_power(2.0, valid_s=600)).written
        clock.forward(seconds=200)
        assert not (await it.write_battery_power(2.0, valid_s=600)).written
        clock.forward(seconds=200)
        assert (await it.write_battery_power(2.0, valid_s=600)).written
        clock.forward(seconds=500)
        served.advance()
        assert served.physics.flows.battery_kw == pytest.approx(2.0), "the timer ran anew"


async def test_a_700_series_device_that_lost_its_settings_is_written_again(clock, links):
    inverter = InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="700")
    async with serve([home(clock, inverter)], clock=clock) as (served,):
        it = opened(served, links)
        await it.read()
        await it.write_battery_power(2.0, valid_s=900)
        served.reboot("inverter")
        assert served.physics.orders.ac_target_kw is None
        assert (await it.write_battery_power(2.0, valid_s=900)).written
        served.faults("inverter").ignore_writes = True
        assert isinstance(await it.write_battery_power(-1.0, valid_s=900), Unverified)
        assert served.physics.flows.battery_kw == pytest.approx(2.0)


async def test_pymodbus_steers_the_700_series_and_meets_its_refusals(clock, links):
    inverter = InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="700")
    async with serve([home(clock, inverter)], clock=clock) as (served,):
        port = urlsplit(next(d.endpoint for d in served.devices if d.role == "inverter")).port
        client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
        assert await client.connect()
        places, address = {}, 40002
        while True:
            model, length = (await client.read_holding_registers(address, count=2, device_id=1)).registers
            if model == 0xFFFF:
                break
            places[model] = address
            address += 2 + length
        assert list(places) == [1, *range(701, 715)]
        points = place(704, places[704], 65, {}).points
        at = {name: point.address for name, point in points.items()}
        for name, words in (
            ("WSetRvrtTms", [0, 300]),
            ("WSetMod", [1]),
            ("WSet", [0, 3000]),
            ("WSetEna", [1]),
        ):
            assert not (await client.write_registers(at[name], words, device_id=1)).isError(), name
        assert served.physics.flows.inverter_ac_kw == pytest.approx(3.0)
        assert served.physics.flows.battery_kw == pytest.approx(-1.0), "the battery makes up for the roof"
        assert (await client.write_registers(at["WSetEnaRvrt"], [1], device_id=1)).exception_code == 3
        assert (await client.write_registers(at["WRmp"], [1], device_id=1)).exception_code == 2
        clock.forward(seconds=301)
        shown = await client.read_holding_registers(at["WSetEna"], count=1, device_id=1)
        assert shown.registers == [0], "reverted"
        client.close()


@pytest.mark.parametrize(
    "inverter", [GENERATIONS[4].values[0], GENERATIONS[3].values[0]], ids=["700", "111+802"]
)
async def test_the_sunspec_alliances_own_client_reads_what_is_true(inverter, clock):
    async with serve([home(clock, inverter)], clock=clock) as (served,):
        port = urlsplit(next(d.endpoint for d in served.devices if d.role == "inverter")).port

        def scan():
            device = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port)
            device.scan()
            device.close()
            return device

        device = await asyncio.to_thread(scan)
        assert device.common[0].SN.value == "home-I"
        if inverter.models == "700":
            assert sorted(m for m in device.models if isinstance(m, int)) == [1, *range(701, 715)]
            assert device.models[701][0].W.cvalue == pytest.approx(1000.0, abs=1)
            assert device.models[713][0].SoC.cvalue == pytest.approx(40.0, abs=0.1)
            assert [p.PrtTyp.value for p in device.models[714][0].Prt] == [0, 1]
            assert device.models[714][0].Prt[1].DCW.cvalue == pytest.approx(-1000.0, abs=1)
            assert device.models[705][0].Crv[0].Pt[1].V.value is None
        else:
            assert device.models[111][0].W.cvalue == pytest.approx(1000.0, abs=1)
            assert device.models[802][0].SoC.cvalue == pytest.approx(40.0, abs=0.1)
            assert device.models[802][0].ChaSt.value == 4, "charging"


async def test_the_sunspec_alliances_own_client_steers_the_700_series_over_a_serial_line(clock):
    inverter = InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0, models="700")
    served = ServedHome(home(clock, inverter), clock)
    line = SerialLine(served.stations["inverter"][1])

    def steer():
        device = SunSpecModbusClientDeviceRTU(slave_id=1, name=line.path, baudrate=115200, timeout=5)
        device.scan()
        der = device.models[704][0]
        der.WSetRvrtTms.cvalue = 120
        der.WSetMod.value = 1
        der.WSet.cvalue = -2000
        der.WSetEna.value = 1
        der.write()
        device.close()

    await asyncio.to_thread(steer)
    line.close()
    assert served.physics.flows.inverter_ac_kw == pytest.approx(-2.0)
    assert served.physics.flows.battery_kw == pytest.approx(4.0), "2 from the grid and 2 from the roof"
    clock.forward(seconds=121)
    served.advance()
    assert served.physics.orders.ac_target_kw is None


def told_by_pysunspec(device):
    """Every implemented number and text, by model and path, as pysunspec2 computes it."""
    found = {}

    def walk(model_id, group, prefix):
        for name, point in group.points.items():
            if point.pdef["type"] not in ("sunssf", "pad") and point.value not in (None, ""):
                found[model_id, prefix + name] = point.value if isinstance(point.value, str) else point.cvalue
        for name, member in group.groups.items():
            many = member if isinstance(member, list) else [member]
            for number, one in enumerate(many, start=1):
                label = f"{name}[{number}]" if isinstance(member, list) else name
                walk(model_id, one, f"{prefix}{label}.")

    for model_id, models in device.models.items():
        if isinstance(model_id, int):
            walk(model_id, models[0], "")
    return found


@pytest.mark.parametrize(("inverter", "models"), GENERATIONS)
async def test_every_point_of_every_model_is_read_as_pysunspec_reads_it(inverter, models, clock, links):
    async with serve([home(clock, inverter)], clock=clock) as (served,):
        endpoint = next(d.endpoint for d in served.devices if d.role == "inverter")

        def scan():
            device = SunSpecModbusClientDeviceTCP(
                slave_id=1, ipaddr="127.0.0.1", ipport=urlsplit(endpoint).port
            )
            device.scan()
            device.close()
            return told_by_pysunspec(device)

        expected = await asyncio.to_thread(scan)
        ours = await survey(links.link(endpoint), 1)
    shown = {(point.model_id, point.path): point.value for point in ours if point.value is not None}
    assert {model_id for model_id, _ in shown} >= set(models)
    assert set(shown) == set(expected)
    for key, want in expected.items():
        assert shown[key] == (want if isinstance(want, str) else pytest.approx(want)), key
