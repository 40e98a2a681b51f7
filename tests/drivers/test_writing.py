"""The way of a write: consent, allow-list and range, ramp, only if needed, budget, write, read-back, receipt."""

import asyncio
import textwrap
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from drivers import (
    Applied,
    BudgetMemory,
    Capability,
    CounterMemory,
    DeviceFileError,
    DeviceMemory,
    Quality,
    Refused,
    Unverified,
    open_device,
)
from drivers.budget import BudgetSpentError, WriteBudgets
from drivers.device_file import load_spec
from drivers.plausibility import Plausibility
from drivers.registers import Table
from drivers.sunspec.models import place
from drivers.twin import BatterySpec, ChargerSpec, HomeSpec, InverterSpec, Profile, serve
from drivers.twin.file_image import FileImage
from drivers.twin.image import IllegalValueError


@pytest.fixture
async def home(clock):
    """A home that draws 1 kW while its roof gives 2: the battery takes the rest by itself."""
    flat = Profile(start_at=clock(), step_s=3600, power_kw=np.full(24, 1.0))
    sun = Profile(start_at=clock(), step_s=3600, power_kw=np.full(24, 2.0))
    spec = HomeSpec(
        name="home",
        load=flat,
        pv=sun,
        battery=BatterySpec(capacity_kwh=10, charge_limit_kw=5, discharge_limit_kw=5),
        inverter=InverterSpec(ac_limit_kw=5, conversion_eff_frac=1.0),
        charger=ChargerSpec(),
    )
    async with serve([spec], clock=clock) as (served,):
        yield served


def opened(home, role, links, **more):
    found = next(d for d in home.devices if d.role == role)
    return open_device(
        name=found.name, endpoint=found.endpoint, unit_id=1, driver=found.driver, links=links, **more
    )


# role and consent


async def test_a_control_nobody_permitted_is_refused_and_not_announced(home, links):
    inverter = opened(home, "inverter", links, permitted={"generation_limit"})
    await inverter.read()
    receipt = await inverter.write_battery_power(1.0, valid_s=900)
    assert isinstance(receipt, Refused) and receipt.rule == "consent"
    assert Capability.ACCEPTS_BATTERY_POWER not in inverter.capabilities
    assert inverter.preview("battery_power", 1.0, valid_s=900) == ()
    assert home.stations["inverter"][1].writes == 0
    assert isinstance(await inverter.limit_generation(1.0, valid_s=900), Applied)


async def test_giving_back_the_battery_leaves_a_cap_of_somebody_else_alone(home, links):
    """An installer's permanent cap on feed-in is not ours to lift."""
    await opened(home, "inverter", links).limit_generation(1.5, valid_s=60_000)
    ours = opened(home, "inverter", links, permitted={"battery_power"})
    await ours.write_battery_power(1.0, valid_s=900)
    assert isinstance(await ours.release(), Applied)
    assert home.physics.orders.battery_high_kw is None
    assert home.physics.orders.ac_limit_kw == pytest.approx(1.5)


async def test_a_device_without_any_permission_is_not_released_either(home, links):
    receipt = await opened(home, "inverter", links, permitted=()).release()
    assert isinstance(receipt, Refused) and receipt.rule == "consent"
    assert home.stations["inverter"][1].writes == 0


# ramp


async def test_a_setpoint_is_reached_in_ramp_steps_from_what_the_battery_does_now(home, clock, links):
    inverter = opened(home, "inverter", links, ramp_kw_per_s=0.1)
    await inverter.read()
    reached = []
    for _ in range(6):
        receipt = await inverter.write_battery_power(4.0, valid_s=900)
        reached.append(receipt.value)
        clock.forward(seconds=5)
        await inverter.read()
    # its own mode charges 1 kW; the first step may make up for ten seconds, later ones for the five that passed
    assert reached == pytest.approx([2.0, 2.5, 3.0, 3.5, 4.0, 4.0])
    assert isinstance(receipt, Applied) and not receipt.written
    assert home.physics.flows.battery_kw == pytest.approx(4.0)


async def test_a_ramp_step_says_so_and_asking_twice_at_once_is_no_second_step(home, links):
    inverter = opened(home, "inverter", links, ramp_kw_per_s=0.1)
    await inverter.read()
    first = await inverter.write_battery_power(-4.0, valid_s=900)
    again = await inverter.write_battery_power(-4.0, valid_s=900)
    assert first.limit.startswith("ramp") and first.underway and "0.1 kW/s" in first.limit
    assert (first.value, again.value) == (0.0, 0.0)
    assert first.written and not again.written


async def test_a_setpoint_held_for_long_leaves_in_steps_too(home, clock, links):
    inverter = opened(home, "inverter", links, ramp_kw_per_s=0.1)
    await inverter.read()
    await inverter.write_battery_power(1.5, valid_s=7200)
    clock.forward(hours=1)
    receipt = await inverter.write_battery_power(5.0, valid_s=7200)
    assert receipt.value == pytest.approx(2.5)


async def test_a_cap_comes_down_from_the_rating_and_is_lifted_at_once(home, clock, links):
    inverter = opened(home, "inverter", links, ramp_kw_per_s=0.2)
    await inverter.read()
    assert (await inverter.limit_generation(0.0, valid_s=900)).value == pytest.approx(3.0)
    clock.forward(seconds=10)
    assert (await inverter.limit_generation(0.0, valid_s=900)).value == pytest.approx(1.0)
    assert isinstance(await inverter.limit_generation(None, valid_s=900), Applied)
    assert home.physics.orders.ac_limit_kw is None


async def test_a_reverted_device_is_ramped_from_what_it_does_by_itself(home, clock, links):
    inverter = opened(home, "inverter", links, ramp_kw_per_s=0.1)
    await inverter.read()
    await inverter.write_battery_power(2.0, valid_s=60)
    clock.forward(seconds=120)
    await inverter.read()
    receipt = await inverter.write_battery_power(4.0, valid_s=60)
    assert receipt.value == pytest.approx(2.0), "own mode charges 1 kW, plus ten seconds of ramp"


async def test_without_knowing_where_the_device_stands_no_ramp_step_is_made(home, links):
    inverter = opened(home, "inverter", links, ramp_kw_per_s=0.1)
    receipt = await inverter.write_battery_power(4.0, valid_s=900)
    assert isinstance(receipt, Refused) and receipt.rule == "unknown_state" and "ramp" in receipt.reason


async def test_a_ramp_leaps_over_what_a_charger_cannot_do(home, clock, links):
    """Below 6 A it pauses: a ramp through there would stop at 0 for ever."""
    wallbox = opened(home, "charger", links, ramp_kw_per_s=0.1)
    await wallbox.read()
    assert (await wallbox.limit_charge(0.0, valid_s=3000)).value > 0.0
    reached = []
    for _ in range(12):
        clock.forward(seconds=10)
        reached.append((await wallbox.limit_charge(0.0, valid_s=3000)).value)
    assert reached[-1] == 0.0
    assert all(kw == 0.0 or kw >= 4.0 for kw in reached)
    clock.forward(seconds=10)
    assert (await wallbox.limit_charge(9.0, valid_s=3000)).value >= 4.0


RAMPED = """
    device: Test battery
    maker: Test
    models: [B1]
    roles: [battery]
    verified: one-source
    sources: [{title: a manual, where: on the shelf}]
    identity: [{table: holding, address: 0, type: uint16, one_of: [7]}]
    registers:
      battery_net_consumption_kw: {table: holding, address: 1, type: int16, unit: W, example: 0}
      set_power: {table: holding, address: 2, type: int16, unit: W, example: 0}
    controls:
      battery_power:
        memory: flash
        writes_per_day: 8
        range: {min_kw: -4, max_kw: 4}
        step_kw: 0.001
        ramp: {frac_per_s: 0.025}
        reverts: false
        write: [{set: {set_power: target}}]
        release: [{set: {set_power: 0}}]
"""


@pytest.fixture
def battery_file(tmp_path):
    path = tmp_path / "battery.yaml"
    path.write_text(textwrap.dedent(RAMPED), encoding="utf-8")
    return path


async def test_a_device_file_states_its_ramp_as_a_share_of_full_power(battery_file, clock, links, on_air):
    async with on_air(FileImage(load_spec(battery_file)).image) as (endpoint, _):
        battery = open_device(name="b", endpoint=endpoint, unit_id=1, driver=str(battery_file), links=links)
        await battery.read()
        receipt = await battery.write_battery_power(4.0, valid_s=900)
        assert receipt.underway and receipt.value == pytest.approx(1.0), "2.5 % of 4 kW, for ten seconds"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{frac_per_s: 0.025}", "{}", "exactly one of"),
        ("{frac_per_s: 0.025}", "{frac_per_s: 0.1, kw_per_s: 1}", "exactly one of"),
        ("{min_kw: -4, max_kw: 4}", "{min_kw: -4}", "needs range.max_kw"),
    ],
)
def test_a_ramp_that_means_nothing_is_refused(tmp_path, old, new, says):
    path = tmp_path / "wrong.yaml"
    path.write_text(textwrap.dedent(RAMPED).replace(old, new), encoding="utf-8")
    with pytest.raises(DeviceFileError, match=says):
        load_spec(path)


# budget


def test_a_budget_is_spread_over_the_day_and_says_when_the_next_write_is():
    budgets, at = WriteBudgets(), datetime(2025, 6, 1, tzinfo=UTC)
    budgets.spend(["a"], 8, at)
    budgets.spend(["a"], 8, at)
    with pytest.raises(BudgetSpentError, match=r"register a bears 8 writes a day; next one in 14400 s"):
        budgets.spend(["a"], 8, at)
    budgets.spend(["b"], 8, at)
    budgets.spend(["a"], 8, at + timedelta(seconds=14_400))
    assert budgets.writes_on(date(2025, 6, 1)) == {"a": 3, "b": 1}
    assert budgets.left(at + timedelta(seconds=14_400)) == 0
    assert budgets.writes_on(date(2025, 6, 2)) == {}


async def test_the_daily_budget_of_a_register_holds_in_any_24_hours(home, clock, links):
    inverter = opened(home, "inverter", links)
    await inverter.read()
    writer = inverter._writer
    control = replace(inverter.map.controls["battery_power"], writes_per_day=8)
    first = [await writer.write(control, kw, 900) for kw in (1.0, 2.0, 3.0)]
    assert [type(r) for r in first] == [Applied, Applied, Refused]
    assert first[-1].rule == "budget" and "8 writes a day" in first[-1].reason
    written = 2
    for step in range(48):
        clock.forward(minutes=30)
        receipt = await writer.write(control, 1.0 + 0.05 * step, 900)
        written += isinstance(receipt, Applied)
    assert written == 8, "and no more in any 24 hours"


async def test_a_setpoint_whose_second_register_is_spent_sends_nothing_at_all(home, clock, links):
    """Refused means nothing was changed: half a sequence must not be on its way."""
    inverter = opened(home, "inverter", links)
    await inverter.read()
    at, day = clock(), clock().date()
    spent = BudgetMemory(left=0.0, at=at, day=day, writes=96)
    inverter.restore(DeviceMemory(budgets={"124.StorCtl_Mod": spent}))
    control = replace(inverter.map.controls["battery_power"], writes_per_day=96)
    receipt = await inverter._writer.write(control, 1.0, 900)
    assert isinstance(receipt, Refused) and receipt.rule == "budget"
    assert home.stations["inverter"][1].writes == 0


async def test_a_spent_budget_does_not_keep_a_device_from_being_given_back(
    battery_file, clock, links, on_air
):
    image = FileImage(load_spec(battery_file))
    async with on_air(image.image) as (endpoint, _):
        battery = open_device(name="b", endpoint=endpoint, unit_id=1, driver=str(battery_file), links=links)
        await battery.read()
        for _ in range(3):
            receipt = await battery.write_battery_power(4.0, valid_s=900)
            clock.forward(seconds=10)
        assert isinstance(receipt, Refused) and receipt.rule == "budget"
        assert isinstance(await battery.release(), Applied)
        assert image.image.held(image.registers["set_power"]) == b"\0\0"
        assert battery.counters.writes_today == {"set_power": 3}
        assert battery.counters.budget_left == 0


# what is sent and not seen


async def test_a_refusal_in_the_middle_of_a_sequence_is_no_refusal(home, links):
    """The window was taken, the mode was not: neither old nor new may be assumed."""
    inverter = opened(home, "inverter", links)
    await inverter.read()
    image = home.stations["inverter"][1].units[1]
    check, mode = image.check, inverter.map.controls["battery_power"].steps[-1].values[0][0].address

    def refuse_mode(table: Table, address: int, data: bytes) -> None:
        if address == mode:
            raise IllegalValueError
        check(table, address, data)

    image.check = refuse_mode
    receipt = await inverter.write_battery_power(1.0, valid_s=900)
    assert isinstance(receipt, Unverified) and "illegal data value" in receipt.reason


@pytest.mark.parametrize("noticed", [True, False], ids=["loss noticed", "loss not yet noticed"])
async def test_after_a_lost_connection_nothing_is_sent_before_the_device_is_identified(noticed, home, links):
    """What answers at this address now may be another device."""
    inverter = opened(home, "inverter", links)
    await inverter.read()
    station = home.stations["inverter"][1]
    before = station.writes
    for client in tuple(station.clients):
        client.abort()
    if noticed:
        await asyncio.sleep(0.02)
        station.units = {1: home.stations["meter"][1].units[1]}  # the meter got the inverter's address
        receipt = await inverter.write_battery_power(1.0, valid_s=900)
        assert isinstance(receipt, Refused) and receipt.rule == "unsupported"
        assert inverter.identity is not None and inverter.identity.model == "Grid meter"
        return
    receipt = await inverter.write_battery_power(1.0, valid_s=900)
    assert isinstance(receipt, Refused) and "another device" in receipt.reason
    assert station.writes == before
    assert isinstance(await inverter.write_battery_power(1.0, valid_s=900), Applied)


# what survives a restart


async def test_a_crash_loop_does_not_wear_out_flash(battery_file, clock, links, on_air):
    written, memory = 0, DeviceMemory()
    async with on_air(FileImage(load_spec(battery_file)).image) as (endpoint, station):
        for attempt in range(30):
            battery = open_device(
                name="b", endpoint=endpoint, unit_id=1, driver=str(battery_file), links=links
            )
            battery.restore(memory)
            await battery.read()
            await battery.write_battery_power(0.1 * (1 + attempt % 3), valid_s=900)
            memory = battery.export_memory()
            clock.forward(seconds=30)
        written = station.writes
    assert written == 2, "a quarter of the 8 a day, as within one process"
    assert battery.counters.writes_today == {"set_power": 2}


async def test_counters_go_on_rising_over_restart_and_meter_exchange(tmp_path, clock, links, on_air):
    text = RAMPED.split("controls:")[0] + (
        "  import_kwh: {table: holding, address: 3, type: uint32, unit: kWh, scale: 0.1, example: 5000}\n"
    )
    path = tmp_path / "meter.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    image = FileImage(load_spec(path))
    shown = []
    async with on_air(image.image) as (endpoint, _):

        def fresh(memory):
            device = open_device(name="m", endpoint=endpoint, unit_id=1, driver=str(path), links=links)
            device.restore(memory)
            return device

        meter = fresh(DeviceMemory())
        for kwh in (5000.0, 12.0, 12.1, 12.3):
            image.show("import_kwh", kwh)
            shown.append((await meter.read())["import_kwh"].value)
            clock.forward(minutes=5)
        memory = meter.export_memory()
        assert memory.counters["import_kwh"] == CounterMemory(
            offset_kwh=pytest.approx(4988.0),
            last_raw_kwh=pytest.approx(12.3),
            last_at=clock() - timedelta(minutes=5),
        )
        image.show("import_kwh", 14.0)
        shown.append((await fresh(memory).read())["import_kwh"].value)
    assert shown == [5000.0, None, None, pytest.approx(5000.3), pytest.approx(5002.0)]


async def test_a_roll_over_while_the_service_was_down_is_noticed(clock):
    rules = Plausibility(max_kw=None)
    rules.restore_counters(
        {"import_kwh": CounterMemory(offset_kwh=0.0, last_raw_kwh=99_999.9, last_at=clock())}
    )
    value, flag = rules.judge("import_kwh", 0.4, clock() + timedelta(hours=2))
    assert value == pytest.approx(100_000.4) and flag is not None and flag.rule == "counter_rolled_over"


@pytest.mark.parametrize("restarted", [False, True], ids=["while running", "over a restart"])
async def test_a_meter_with_another_serial_number_goes_on_from_the_old_at_once(restarted, clock, links):
    """Higher or lower, no counter of another meter is a jump of ours; and nothing waits for three readings."""
    start = clock()
    flat = Profile(start_at=start, step_s=3600, power_kw=np.full(24, 1.0))
    async with serve([HomeSpec(name="home", load=flat)], clock=clock) as (served,):
        meter = opened(served, "meter", links)
        old = (await meter.read())["import_kwh"].value
        memory = meter.export_memory()
        assert memory.serial == "home-M"
        served.physics.meters.import_kwh = 77_000.0
        image = served.stations["meter"][1].units[1]
        serial = place(1, 40002, 66, {}).points["SN"]
        image.store(Table.HOLDING, serial.address, b"another".ljust(2 * serial.words, b"\0"))
        for client in tuple(served.stations["meter"][1].clients):
            client.abort()
        if restarted:
            meter = opened(served, "meter", links)
            meter.restore(memory)
        clock.forward(minutes=6)
        first = (await meter.read())["import_kwh"]
        clock.forward(minutes=6)
        second = (await meter.read())["import_kwh"]
    assert first.value == pytest.approx(old) and first.quality is Quality.ESTIMATED
    assert second.value == pytest.approx(old + 0.1, abs=0.002) and second.quality is Quality.GOOD
    assert meter.counters.flags_by_rule["meter_exchanged"] == 2, "import and export"
