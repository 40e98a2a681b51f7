"""Every fault the twin knows, against reads and writes: typed outcome, quality flag, recovery."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pytest

from drivers import Applied, Clamped, Quality, Refused, TroubleKind, Unverified, open_device
from drivers.twin import BatterySpec, HomeSpec, InverterSpec, Profile, ServedHome, serve
from drivers.twin.faults import Faults
from drivers.twin.server import serve_tcp


@dataclass(frozen=True)
class Case:
    """A fault, what a read and a write make of it."""

    fault: str
    value: object
    read: TroubleKind | None
    quality: Quality
    write: type
    rule: str | None = None


CASES = [
    Case("silent", True, TroubleKind.TIMEOUT, Quality.BAD, Refused, "unreachable"),
    Case("delay_s", 0.4, TroubleKind.TIMEOUT, Quality.BAD, Refused, "unreachable"),
    Case("delay_s", 0.02, None, Quality.GOOD, Applied),
    Case("reset", True, TroubleKind.UNREACHABLE, Quality.BAD, Refused, "unreachable"),
    Case("refuse_connections", True, None, Quality.GOOD, Applied),  # concerns new connections only
    Case("garbage", True, TroubleKind.GARBLED, Quality.BAD, Refused, "unreachable"),
    Case("wrong_count", True, TroubleKind.GARBLED, Quality.BAD, Refused, "unreachable"),
    Case("wrong_unit", True, TroubleKind.GARBLED, Quality.BAD, Refused, "unreachable"),
    Case("exception_code", 4, TroubleKind.EXCEPTION, Quality.BAD, Refused, "exception"),
    Case("exception_code", 6, TroubleKind.EXCEPTION, Quality.BAD, Refused, "exception"),
    Case("reject_writes", True, None, Quality.GOOD, Refused, "exception"),
    Case("ignore_writes", True, None, Quality.GOOD, Unverified),
]


def home(clock, **more):
    flat = Profile(start_at=clock(), step_s=3600, power_kw=np.full(24, 1.0))
    sun = Profile(start_at=clock(), step_s=3600, power_kw=np.full(24, 2.0))
    return HomeSpec(
        name="home",
        load=flat,
        pv=sun,
        battery=BatterySpec(capacity_kwh=10, charge_limit_kw=5, discharge_limit_kw=5),
        inverter=InverterSpec(ac_limit_kw=5),
        **more,
    )


def opened(served, role, links, **more):
    found = next(d for d in served.devices if d.role == role)
    return open_device(
        name=found.name,
        endpoint=found.endpoint,
        unit_id=found.unit_id,
        driver=found.driver,
        links=links,
        **more,
    )


@pytest.mark.parametrize("framing", ["tcp", "rtu+tcp"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.fault}={c.value}")
async def test_a_fault_gives_a_typed_outcome_and_passes(case, framing, clock, links):
    served = ServedHome(home(clock), clock)
    driver, station = served.stations["inverter"]
    server = await serve_tcp(
        station, "127.0.0.1", 0, rtu=framing == "rtu+tcp", transparent=framing == "rtu+tcp"
    )
    endpoint = f"{framing}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    inverter = open_device(name="home.inverter", endpoint=endpoint, unit_id=1, driver=driver, links=links)
    healthy = await inverter.read()
    assert healthy.trouble is None
    setattr(station.faults, case.fault, case.value)

    reading = await inverter.read()
    assert (reading.trouble.kind if reading.trouble else None) is case.read
    sample = reading["net_consumption_kw"]
    assert sample.quality is case.quality
    assert (sample.value is None) == (case.quality is Quality.BAD)
    assert set(reading) >= set(healthy), "a device that fails keeps its quantities, as absent"

    receipt = await inverter.write_battery_power(1.5, valid_s=900)
    assert isinstance(receipt, case.write), receipt
    if case.rule is not None:
        assert receipt.rule == case.rule
    moved = served.physics.orders.battery_high_kw is not None
    assert moved == isinstance(receipt, Applied)

    setattr(station.faults, case.fault, getattr(Faults(), case.fault))
    kinds = await recovery(inverter)
    # once the device is well, only the pause of the back-off is left; a device that was late first answers old requests
    assert set(kinds) <= {TroubleKind.BACKING_OFF} | (
        {TroubleKind.TIMEOUT} if case.fault == "delay_s" else set()
    )
    assert isinstance(await inverter.write_battery_power(-1.0, valid_s=900), Applied)
    server.close()


async def recovery(device):
    """Troubles met until a reading succeeds; at most a few of the longest pauses."""
    kinds = []
    for _ in range(60):
        reading = await device.read()
        if reading.trouble is None:
            assert reading["net_consumption_kw"].quality is Quality.GOOD
            return kinds
        kinds.append(reading.trouble.kind)
        await asyncio.sleep(0.03)
    pytest.fail(f"not back after {kinds}")


async def test_one_dead_device_does_not_hold_up_another(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        meter, inverter = opened(served, "meter", links), opened(served, "inverter", links)
        await asyncio.gather(meter.read(), inverter.read())
        served.faults("inverter").silent = True
        dead = asyncio.create_task(inverter.read())
        await asyncio.sleep(0)
        live = await meter.read()
        assert live.trouble is None and not dead.done()
        assert (await dead).trouble.kind is TroubleKind.TIMEOUT


async def test_frozen_values_are_flagged_while_power_flows(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links)
        served.faults("inverter").frozen = True
        for _ in range(22):
            clock.forward(seconds=30)
            reading = await inverter.read()
        assert reading["net_consumption_kw"].quality is Quality.STALE
        assert "unchanged" in reading["net_consumption_kw"].cause
        assert inverter.counters.flags_by_rule["frozen"] >= 1
        served.faults("inverter").frozen = False
        clock.forward(seconds=30)
        assert (await inverter.read())["net_consumption_kw"].quality is Quality.GOOD


async def test_a_swapped_meter_is_put_right_by_configuration(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        served.faults("meter").swap_sign = True
        await opened(served, "inverter", links).write_battery_power(3.0, valid_s=3600)
        clock.forward(minutes=10)
        wrong = await opened(served, "meter", links).read()
        right = await opened(served, "meter", links, swap_direction=True).read()
        truth = served.physics.flows.net_import_kw
        assert truth > 1.0
        assert wrong["net_import_kw"].value == pytest.approx(-truth, abs=2e-3)
        assert right["net_import_kw"].value == pytest.approx(truth, abs=2e-3)
        assert right["import_kwh"].value == pytest.approx(served.physics.meters.import_kwh, abs=2e-3)


async def test_a_setpoint_is_renewed_after_the_clock_was_set_back(clock, links):
    """The device's timer runs on while our clock repeats an hour; what we believe of it would be an hour wrong."""
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links)
        await inverter.read()
        assert (await inverter.write_battery_power(2.0, valid_s=900)).written
        clock.forward(seconds=-3600)
        assert (await inverter.write_battery_power(2.0, valid_s=900)).written


async def test_a_rebooted_device_is_written_again_although_nothing_changed(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links)
        await inverter.read()
        assert (await inverter.write_battery_power(2.0, valid_s=900)).written
        assert not (await inverter.write_battery_power(2.0, valid_s=900)).written
        served.reboot("inverter")
        assert served.physics.orders.battery_low_kw is None
        assert (await inverter.write_battery_power(2.0, valid_s=900)).written
        assert served.physics.flows.battery_kw == pytest.approx(2.0)


async def test_a_dead_service_leaves_a_safe_device(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links)
        receipt = await inverter.write_battery_power(2.0, valid_s=900)
        assert receipt.valid_until == clock() + timedelta(seconds=900)
        clock.forward(seconds=899)
        served.advance()
        assert served.physics.flows.battery_kw == pytest.approx(2.0)
        clock.forward(seconds=2)
        served.advance()
        assert served.physics.orders.battery_low_kw is None
        assert served.totals.reversions == 1
        assert served.physics.flows.net_import_kw == 0.0, "back in its own self-consumption mode"


async def test_a_drifting_device_clock_reverts_late(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        served.faults("inverter").clock_drift_s = 60.0
        inverter = opened(served, "inverter", links)
        await inverter.write_battery_power(2.0, valid_s=900)
        clock.forward(seconds=930)
        served.advance()
        assert served.physics.flows.battery_kw == pytest.approx(2.0)
        clock.forward(seconds=60)
        served.advance()
        assert served.totals.reversions == 1


async def test_a_setpoint_beyond_the_battery_is_clamped_and_says_by_what(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links)
        await inverter.read()
        receipt = await inverter.write_battery_power(9.0, valid_s=900)
        assert isinstance(receipt, Clamped)
        assert receipt.value == 5.0 and "charge_limit_kw" in receipt.limit


@pytest.mark.parametrize(("kw", "valid_s"), [(float("nan"), 900), (float("inf"), 900), (1.0, 0), (1.0, -5)])
async def test_a_setpoint_that_is_no_number_is_refused(clock, links, kw, valid_s):
    async with serve([home(clock)], clock=clock) as (served,):
        receipt = await opened(served, "inverter", links).write_battery_power(kw, valid_s=valid_s)
        assert isinstance(receipt, Refused) and receipt.rule == "range"
        assert served.stations["inverter"][1].writes == 0


async def test_a_read_only_device_is_never_written(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links, read_only=True)
        for receipt in (
            await inverter.write_battery_power(1.0, valid_s=900),
            await inverter.limit_generation(1.0, valid_s=900),
            await inverter.release(),
        ):
            assert isinstance(receipt, Refused) and receipt.rule == "read_only"
        assert served.stations["inverter"][1].writes == 0


async def test_what_a_device_cannot_do_is_refused(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        receipt = await opened(served, "meter", links).write_battery_power(1.0, valid_s=900)
        assert isinstance(receipt, Refused) and receipt.rule == "unsupported"


async def test_the_daily_budget_of_a_register_is_spread_over_the_day(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links)
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
