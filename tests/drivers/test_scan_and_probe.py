"""Commissioning on a simulated street: find the devices, prove them, spot what is wired wrong."""

from datetime import UTC, datetime

import numpy as np
import pytest

from drivers import LinkPool, Pacing, Trouble, open_device
from drivers.probe import Verdict, check_direction, check_load_step, check_pair, probe
from drivers.protocols import DeviceReading, Quality, Sample, Unit
from drivers.scan import Found, parse_units, scan
from drivers.twin import BatterySpec, ChargerSpec, HomeSpec, InverterSpec, Profile, serve


@pytest.fixture
def street(clock):
    def flat(kw):
        return Profile(start_at=clock(), step_s=900, power_kw=np.full(4, kw))

    common = {
        "load": flat(1.2),
        "pv": flat(4.0),
        "battery": BatterySpec(capacity_kwh=10, charge_limit_kw=2, discharge_limit_kw=2),
        "inverter": InverterSpec(ac_limit_kw=5),
    }
    return [
        HomeSpec(name="a", charger=ChargerSpec(), **common),
        HomeSpec(name="b", meter="eastron-sdm630", **common),
    ]


async def test_scan_finds_every_device_of_the_street(street, clock):
    brief = Pacing(timeout_s=0.1)
    async with serve(street, clock=clock) as homes, LinkPool(clock=clock, pacing=brief) as links:
        for home in homes:
            for device in home.devices:
                found = [f async for f in scan(device.endpoint, links=links, units=range(1, 4))]
                assert [f.unit_id for f in found if isinstance(f, Found)] == [1]
                assert found[0].driver == device.driver
                assert found[0].identity is not None and found[0].quantities


async def test_scan_of_a_closed_port_says_so(clock, on_air):
    from drivers.twin.image import RegisterImage

    async with on_air(RegisterImage()) as (endpoint, _):
        pass
    async with LinkPool(clock=clock) as links:
        (outcome,) = [f async for f in scan(endpoint, links=links)]
    assert isinstance(outcome, Trouble)


@pytest.mark.parametrize(("text", "units"), [("1", [1]), ("1-3,240", [1, 2, 3, 240]), ("5,5", [5])])
def test_units_are_understood(text, units):
    assert parse_units(text) == units


@pytest.mark.parametrize("text", ["x", "3-1", "1-300", ""])
def test_wrong_units_are_refused(text):
    with pytest.raises(ValueError, match="units"):
        parse_units(text)


async def probed(home, role, clock, links, **more):
    found = next(d for d in home.devices if d.role == role)
    device = open_device(
        name=found.name, endpoint=found.endpoint, unit_id=1, driver=found.driver, links=links, **more
    )

    async def wait(seconds):
        clock.forward(seconds=seconds)

    return await probe(device, wait=wait, seconds=120.0)


async def test_a_rightly_mounted_meter_is_proven(street, clock, links):
    async with serve(street, clock=clock) as homes:
        for home in homes:
            report = await probed(home, "meter", clock, links)
            verdicts = {check.rule: check.verdict for check in report.checks}
            assert verdicts["phases against their sum"] is Verdict.PROVEN
            assert verdicts["power against volts x amperes"] is Verdict.PROVEN
            assert verdicts["net_import_kw against its counters"] is Verdict.PROVEN
            assert not report.wrong


async def test_a_meter_whose_power_and_counters_disagree_is_found(street, clock, links):
    async with serve(street[:1], clock=clock) as (home,):
        station = home.stations["meter"][1]
        refresh = station.units[1].refresh

        def wrong_sign():
            refresh()
            front = station.units[1]
            from drivers.registers import Table

            raw = int.from_bytes(front.read(Table.HOLDING, 40070 + 18, 1), "big", signed=True)
            front.store(Table.HOLDING, 40070 + 18, (-raw).to_bytes(2, "big", signed=True))

        station.units[1].refresh = wrong_sign
        report = await probed(home, "meter", clock, links)
    assert report.wrong
    detail = next(c.detail for c in report.checks if c.rule == "net_import_kw against its counters")
    assert "swap_direction" in detail


async def test_probe_shows_what_it_would_write_and_writes_nothing(street, clock, links):
    async with serve(street[:1], clock=clock) as (home,):
        report = await probed(home, "inverter", clock, links)
        assert {w.control for w in report.would_write} == {"battery_power", "generation_limit"}
        window = next(w for w in report.would_write if "124.OutWRte" in w.registers)
        assert window.words[:4] == (-5000).to_bytes(2, "big", signed=True) + (5000).to_bytes(2, "big")
        assert home.stations["inverter"][1].writes == 0


def meter(kw):
    at = datetime(2025, 6, 1, tzinfo=UTC)
    sample = Sample(value=kw, unit=Unit.KW, measured_at=at, quality=Quality.GOOD, source="m")
    return DeviceReading(device="m", at=at, samples={"net_import_kw": sample})


@pytest.mark.parametrize(
    ("before", "after", "verdict", "says"),
    [
        pytest.param(0.4, 2.4, Verdict.PROVEN, "2 kW", id="import rises by the load"),
        pytest.param(-0.4, -2.4, Verdict.WRONG, "swap_direction", id="meter the wrong way round"),
        pytest.param(0.4, 20.4, Verdict.WRONG, "off by 10", id="scale ten times too large"),
        pytest.param(0.4, 0.402, Verdict.WRONG, "off by 0.001", id="watts taken for kilowatts"),
        pytest.param(0.4, 0.9, Verdict.OPEN, "try again", id="something else changed"),
    ],
)
def test_a_known_load_step_proves_sign_and_scale(before, after, verdict, says):
    check = check_load_step(meter(before), meter(after), 2.0)
    assert check.verdict is verdict and says in check.detail


def inverter(kw):
    at = datetime(2025, 6, 1, tzinfo=UTC)
    sample = Sample(value=kw, unit=Unit.KW, measured_at=at, quality=Quality.GOOD, source="i")
    return DeviceReading(device="i", at=at, samples={"net_consumption_kw": sample})


@pytest.mark.parametrize(
    ("import_kw", "inverters_kw", "verdict"),
    [
        pytest.param(-1.5, [-2.0], Verdict.OPEN, id="feeds in less than the sun gives: either way"),
        pytest.param(-1.5, [-1.0], Verdict.WRONG, id="feeds in more than there is"),
        pytest.param(-1.5, [-1.0, -1.0], Verdict.OPEN, id="two inverters give enough"),
        pytest.param(-3.0, [2.0], Verdict.WRONG, id="feeds in while the battery charges from the grid"),
        pytest.param(1.5, [0.0], Verdict.PROVEN, id="draws at night"),
        pytest.param(3.0, [2.0], Verdict.PROVEN, id="draws what the battery takes, and more"),
        pytest.param(0.3, [-2.0], Verdict.OPEN, id="draws little beside much sun"),
        pytest.param(-0.05, [0.0], Verdict.OPEN, id="noise around zero"),
        pytest.param(-1.5, [], Verdict.OPEN, id="feeds in, and nobody said what generates"),
        pytest.param(None, [-1.0], Verdict.OPEN, id="no reading of the meter"),
        pytest.param(1.0, [None], Verdict.OPEN, id="no reading of the inverter"),
    ],
)
def test_the_meters_direction_is_held_against_what_generates(import_kw, inverters_kw, verdict):
    check = check_direction(meter(import_kw), [inverter(kw) for kw in inverters_kw])
    assert check.verdict is verdict, check.detail
    assert ("swap_direction" in check.detail) == (verdict is Verdict.WRONG or not inverters_kw)


@pytest.mark.parametrize(
    ("phases", "total", "verdict"),
    [
        pytest.param((1.0, 0.5, 0.2), 1.7, Verdict.PROVEN, id="they add up"),
        pytest.param((1.0, 0.5, -0.2), 1.7, Verdict.WRONG, id="one current clamp the wrong way round"),
        pytest.param((0.0, 0.0, 0.0), 0.0, Verdict.OPEN, id="nothing flows"),
    ],
)
def test_phases_are_held_against_their_sum(phases, total, verdict):
    at = datetime(2025, 6, 1, tzinfo=UTC)
    powers = {f"net_import_l{n}_kw": kw for n, kw in enumerate(phases, start=1)} | {"net_import_kw": total}
    samples = {
        name: Sample(value=kw, unit=Unit.KW, measured_at=at, quality=Quality.GOOD, source="m")
        for name, kw in powers.items()
    }
    reading = DeviceReading(device="m", at=at, samples=samples)
    (check,) = (c for c in check_pair(reading, reading) if c.rule == "phases against their sum")
    assert check.verdict is verdict
