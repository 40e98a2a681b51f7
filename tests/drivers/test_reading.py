"""Reading: awkward devices, slow groups, what stays known and for how long."""

import textwrap
from pathlib import Path

import pytest

from drivers import Quality, open_device
from drivers.device_file import load_spec
from drivers.registers import Table
from drivers.twin.file_image import FileImage
from drivers.twin.image import RegisterImage

FILE = """
    device: Test meter
    maker: Test
    models: [T1]
    roles: [meter]
    verified: one-source
    sources: [{title: a manual, where: on the shelf}]
    link: {max_gap: 10}
    identity: [{table: holding, address: 0, type: uint16, one_of: [7]}]
    registers:
      net_import_kw: {table: holding, address: 1, type: int16, unit: W, example: 1.5}
      frequency_hz: {table: holding, address: 8, type: uint16, unit: Hz, scale: 0.01, example: 50}
      import_kwh: {table: holding, address: 9, type: uint32, unit: kWh, group: slow, example: 77}
"""


@pytest.fixture
def driver(tmp_path):
    path = tmp_path / "test-meter.yaml"
    path.write_text(textwrap.dedent(FILE), encoding="utf-8")
    return str(path)


def with_holes():
    """The same device, but rejecting any read that touches an address it does not define."""
    image = RegisterImage()
    image.define(Table.HOLDING, 0, bytes.fromhex("000705DC"))
    image.define(Table.HOLDING, 8, bytes.fromhex("13880000004D"))
    return image


async def test_a_device_that_rejects_gaps_is_read_in_smaller_pieces(driver, links, on_air):
    async with on_air(with_holes()) as (endpoint, station):
        device = open_device(name="d", endpoint=endpoint, unit_id=1, driver=driver, links=links)
        first = await device.read()
        before = station.requests
        second = await device.read()
        assert station.requests - before == 2, "it has learnt, and asks no rejected block again"
    for reading in (first, second):
        assert reading.trouble is None
        assert reading["net_import_kw"].value == pytest.approx(1.5)
        assert reading["frequency_hz"].value == pytest.approx(50.0)


async def test_one_register_a_device_lacks_does_not_take_the_others_along(driver, links, on_air):
    image = RegisterImage()
    image.define(Table.HOLDING, 0, bytes.fromhex("000705DC"))
    async with on_air(image) as (endpoint, _):
        device = open_device(name="d", endpoint=endpoint, unit_id=1, driver=driver, links=links)
        reading = await device.read()
    assert reading["net_import_kw"].value == pytest.approx(1.5)
    assert reading["frequency_hz"].value is None
    assert "illegal data address" in reading["frequency_hz"].cause
    assert reading.trouble is not None and reading.trouble.exception_code == 2


async def test_a_missing_register_makes_no_slow_group_fast(driver, clock, links, on_air):
    image = RegisterImage()
    image.define(Table.HOLDING, 0, bytes.fromhex("000705DC"))
    image.define(Table.HOLDING, 8, bytes.fromhex("1388"))
    async with on_air(image) as (endpoint, station):
        device = open_device(name="d", endpoint=endpoint, unit_id=1, driver=driver, links=links)
        for _ in range(2):
            await device.read()
        asked = station.requests
        reading = await device.read()
        assert station.requests - asked == 2, "the counter it lacks is not due before its minute is over"
        assert reading["import_kwh"].value is None and "illegal data address" in reading["import_kwh"].cause
        await device.read(every_group=True)
        assert station.requests - asked == 5


async def test_slow_values_are_asked_at_their_own_period_and_turn_stale_with_age(
    driver, clock, links, on_air
):
    image = FileImage(load_spec(Path(driver)))
    async with on_air(image.image) as (endpoint, station):
        device = open_device(name="d", endpoint=endpoint, unit_id=1, driver=driver, links=links)
        start = (await device.read())["import_kwh"].measured_at
        clock.forward(seconds=30)
        assert (await device.read())["import_kwh"].measured_at == start
        clock.forward(seconds=31)
        renewed = (await device.read())["import_kwh"]
        assert renewed.measured_at == clock() and renewed.quality is Quality.GOOD

        clock.forward(seconds=-3600)
        again = (await device.read())["import_kwh"]
        assert again.measured_at == clock(), "a clock that was set back does not stop the readings"

        station.faults.silent = True
        clock.forward(seconds=100)
        lost = await device.read()
        assert lost["import_kwh"].value == 77.0 and lost["import_kwh"].quality is Quality.GOOD
        assert lost["net_import_kw"].value is None
        clock.forward(seconds=100)
        old = (await device.read())["import_kwh"]
        assert old.quality is Quality.STALE and old.usable is False
        assert "s old" in old.cause
