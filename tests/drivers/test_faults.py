"""Every fault the twin knows, against reads and writes: typed outcome, quality flag, recovery."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import timedelta

import numpy as np
import pytest

from drivers import Applied, Clamped, Quality, Refused, TroubleKind, Unverified, open_device
from drivers.probe import Verdict, check_load_step
from drivers.twin import BatterySpec, HomeSpec, InverterSpec, Profile, ServedHome, serve
from drivers.twin.faults import Faults
from drivers.twin.server import SerialLine, Station, serve_tcp


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault of the twin, and what our side must make of it."""

    fault: str
    """A field of `Faults`, or `reboot`."""
    value: object = True
    passes: int = 1
    """Reads, 30 s apart, until the fault must show."""
    trouble: TroubleKind | None = None
    """What the reading says."""
    quality: Quality = Quality.GOOD
    """What its values are worth."""
    rule: str | None = None
    """Which plausibility rule must have spoken."""
    write: type = Applied
    """What a setpoint given meanwhile comes to."""
    refused: str | None = None
    """Rule a refusal names."""
    moved: bool = True
    """Whether the device really does what it was asked."""
    recovers_s: float = 0.02
    """Longest time until a reading is good again once the fault is gone [s, read every 30 ms]: the next one, or later."""
    wires: tuple[str, ...] = ("tcp", "rtu+tcp", "serial")


DOWN = {"quality": Quality.BAD, "write": Refused, "refused": "unreachable", "moved": False}
"""Nothing gets through."""
AWAY_S = 0.65
"""The longest pause of the back-off (0.4 s and a quarter more) and a request that meets its end."""
LATE_S = 1.0
"""The same for a device that first answers what it owes."""
TCP_ONLY = ("tcp", "rtu+tcp")

MATRIX = [
    Row(fault="silent", trouble=TroubleKind.TIMEOUT, recovers_s=AWAY_S, **DOWN),
    Row(fault="delay_s", value=0.4, trouble=TroubleKind.TIMEOUT, recovers_s=LATE_S, **DOWN),
    Row(fault="delay_s", value=0.02),
    Row(fault="garbage", trouble=TroubleKind.GARBLED, recovers_s=AWAY_S, **DOWN, wires=TCP_ONLY),
    # on a serial line garbage is no end of a connection: the line falls silent, or a checksum is wrong
    Row(fault="wrong_count", trouble=TroubleKind.GARBLED, recovers_s=AWAY_S, **DOWN),
    Row(fault="wrong_unit", trouble=TroubleKind.GARBLED, recovers_s=AWAY_S, **DOWN),
    Row(fault="reset", trouble=TroubleKind.UNREACHABLE, recovers_s=AWAY_S, **DOWN, wires=TCP_ONLY),
    Row(
        fault="refuse_connections", trouble=TroubleKind.UNREACHABLE, recovers_s=AWAY_S, **DOWN, wires=TCP_ONLY
    ),
    *(
        Row(
            fault="exception_code",
            value=code,
            trouble=TroubleKind.EXCEPTION,
            **DOWN | {"refused": "exception"},
        )
        for code in (1, 2, 3, 4, 5, 6)
    ),
    *(
        Row(
            fault="exception_code",
            value=code,
            trouble=TroubleKind.EXCEPTION,
            recovers_s=AWAY_S,
            **DOWN,
        )
        for code in (10, 11)  # a gateway whose device is away: it is asked ever less
    ),
    Row(fault="reject_writes", write=Refused, refused="exception", moved=False),
    Row(fault="ignore_writes", write=Unverified, moved=False),
    Row(
        fault="idle", moved=False
    ),  # it even shows the setpoint: only the power tells, and that is for who steers
    Row(fault="reboot"),
    Row(fault="frozen", passes=22, quality=Quality.STALE, rule="frozen", write=Unverified),
    Row(fault="clock_drift_s", value=60.0),
    Row(fault="swap_sign"),  # an inverter has no direction to swap; the meter's test is below
]


def test_the_matrix_has_every_fault_the_twin_knows():
    assert {row.fault for row in MATRIX} == {fault.name for fault in fields(Faults)} | {"reboot"}


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


@asynccontextmanager
async def on_wire(station: Station, wire: str) -> AsyncIterator[str]:
    """Serve a station as TCP, as RTU through a transparent converter, or on a serial line."""
    if wire == "serial":
        line = SerialLine(station)
        try:
            yield f"rtu://{line.path}?baud=115200"
        finally:
            line.close()
        return
    rtu = wire == "rtu+tcp"
    server = await serve_tcp(station, "127.0.0.1", 0, rtu=rtu, transparent=rtu)
    try:
        yield f"{wire}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for client in tuple(station.clients):
            client.abort()


def strike(row: Row, served: ServedHome) -> None:
    station = served.stations["inverter"][1]
    if row.fault == "reboot":
        served.reboot("inverter")
    else:
        setattr(station.faults, row.fault, row.value)
    if row.fault == "refuse_connections":
        for client in tuple(station.clients):
            client.abort()


def mend(row: Row, served: ServedHome) -> None:
    if row.fault != "reboot":
        setattr(served.faults("inverter"), row.fault, getattr(Faults(), row.fault))


CASES = [
    pytest.param(row, wire, id=f"{row.fault}={row.value} on {wire}") for row in MATRIX for wire in row.wires
]


@pytest.mark.parametrize(("row", "wire"), CASES)
async def test_a_fault_gives_a_typed_outcome_and_passes(row, wire, clock, links, patient_links):
    served = ServedHome(home(clock), clock)
    driver, station = served.stations["inverter"]
    async with on_wire(station, wire) as endpoint:
        pool = patient_links if row.trouble is None else links
        inverter = open_device(name="it", endpoint=endpoint, unit_id=1, driver=driver, links=pool)
        healthy = await inverter.read()
        assert healthy.trouble is None
        strike(row, served)

        for _ in range(row.passes):
            clock.forward(seconds=30)
            reading = await inverter.read()
        assert (reading.trouble.kind if reading.trouble else None) is row.trouble
        sample = reading["net_consumption_kw"]
        assert sample.quality is row.quality
        assert (sample.value is None) == (row.quality is Quality.BAD), "absent, never 0"
        assert (sample.cause is None) == (row.quality is Quality.GOOD), "and it says why"
        assert set(reading) >= set(healthy), "a device that fails keeps its quantities, as absent"
        assert row.rule is None or inverter.counters.flags_by_rule[row.rule] >= 1

        receipt = await inverter.write_battery_power(1.5, valid_s=900)
        assert isinstance(receipt, row.write), receipt
        assert row.refused is None or receipt.rule == row.refused
        assert (served.physics.orders.battery_high_kw is not None) == row.moved

        mend(row, served)
        assert await recovery_s(inverter, served) <= row.recovers_s
        again = await inverter.write_battery_power(-1.0, valid_s=900)
        assert isinstance(again, Applied), again
        assert served.physics.flows.battery_kw == pytest.approx(-1.0, abs=1e-3)


BROKEN_LINES = [row for row in MATRIX if row.write is Refused and row.fault != "reject_writes"]
STRUCK = [
    pytest.param(row, wire, id=f"{row.fault}={row.value} on {wire}")
    for row in BROKEN_LINES
    for wire in row.wires
]


@pytest.mark.parametrize(("row", "wire"), STRUCK)
async def test_a_fault_that_strikes_in_the_middle_of_a_write_leaves_it_unverified(row, wire, clock, links):
    """The device took the first request; whether it holds the setpoint nobody can say, so nobody does."""
    served = ServedHome(home(clock), clock)
    driver, station = served.stations["inverter"]
    async with on_wire(station, wire) as endpoint:
        inverter = open_device(name="it", endpoint=endpoint, unit_id=1, driver=driver, links=links)
        await inverter.read()
        image = station.units[1]
        check = image.check

        def checked(table, address, data):
            check(table, address, data)
            strike(row, served)

        image.check = checked
        receipt = await inverter.write_battery_power(1.5, valid_s=900)
        assert isinstance(receipt, Unverified), receipt
        assert max(inverter.counters.writes_by_register.values()) == 1, "a write is never sent twice"

        image.check = check
        mend(row, served)
        # a gateway whose device was away counts its exceptions to a writer as well
        assert await recovery_s(inverter, served) <= max(row.recovers_s, AWAY_S)
        assert isinstance(await inverter.write_battery_power(1.5, valid_s=900), Applied)
        assert served.physics.flows.battery_kw == pytest.approx(1.5, abs=1e-3)


async def recovery_s(device, served):
    """Time until a reading is good, and true [s]."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() - start < 5.0:
        reading = await device.read()
        if reading.trouble is None:
            shown = reading["net_consumption_kw"]
            assert shown.quality is Quality.GOOD
            assert shown.value == pytest.approx(-served.physics.flows.inverter_ac_kw, abs=2e-3)
            return loop.time() - start
        await asyncio.sleep(0.03)
    pytest.fail("not back after 5 s")


async def test_a_swapped_meter_is_found_by_a_known_load(clock, links):
    """Its numbers are good in themselves, power and counters agree: only something known from outside tells."""
    start = clock()
    load = Profile(start_at=start, step_s=600, power_kw=np.array([1.0, 3.0]))
    async with serve([HomeSpec(name="home", load=load)], clock=clock) as (served,):
        served.faults("meter").swap_sign = True
        meter = opened(served, "meter", links)
        before = await meter.read()
        clock.forward(seconds=601)
        check = check_load_step(before, await meter.read(), 2.0)
    assert check.verdict is Verdict.WRONG and "swap_direction" in check.detail


async def test_a_device_whose_clock_drifts_holds_longer_than_it_says_and_a_renewal_is_in_time(clock, links):
    async with serve([home(clock)], clock=clock) as (served,):
        inverter = opened(served, "inverter", links)
        for drift_s in (60.0, -60.0):
            served.faults("inverter").clock_drift_s = drift_s
            reversions = served.totals.reversions
            receipt = await inverter.write_battery_power(2.0, valid_s=900)
            assert receipt.valid_until == clock() + timedelta(seconds=900)
            clock.forward(seconds=460)
            assert (await inverter.write_battery_power(2.0, valid_s=900)).written, "renewed at half time"
            clock.forward(seconds=830)
            served.advance()
            assert served.physics.flows.battery_kw == pytest.approx(2.0)
            clock.forward(seconds=140)
            served.advance()
            assert served.totals.reversions == reversions + 1


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
