"""Every device file: loads, decodes what it encodes, and reads back from a simulated device on a real socket."""

import textwrap
from pathlib import Path

import pytest

from drivers import Applied, Clamped, DeviceFileError, LinkPool, Pacing, Quality, TroubleKind, open_device
from drivers.device_file import DEVICES, load_spec
from drivers.file_device import FileDevice, build_map, register_of
from drivers.quantities import CANONICAL
from drivers.reading import quantities_of
from drivers.registers import RegisterType, decode, encode, plan_blocks
from drivers.scan import Found, scan
from drivers.twin.file_image import FileImage

FILES = sorted(DEVICES.glob("*.yaml"))
CONTROLLED = [path for path in FILES if "\ncontrols:" in path.read_text(encoding="utf-8")]


@pytest.fixture
async def links(clock):
    """Without the pauses real devices need, which alone would take most of a minute."""
    async with LinkPool(clock=clock, pacing=Pacing(keep_gaps=False)) as pool:
        yield pool


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_a_value_survives_encode_and_decode(path):
    image = FileImage(load_spec(path))
    for name, register in image.registers.items():
        example = image.example(name)
        if register.type is RegisterType.STRING or example is None or register.scale_from is not None:
            continue
        step = (
            abs(register.factor) if register.type not in (RegisterType.FLOAT32, RegisterType.FLOAT64) else 0.0
        )
        shown = decode(register, encode(register, example))
        assert shown == pytest.approx(example, abs=step / 2 + 1e-9, rel=1e-6), name


def test_absence_is_kept_apart_from_every_number(path):
    for name, spec in load_spec(path).registers.items():
        register = register_of(name, spec)
        if register.absent and register.type is not RegisterType.STRING:
            assert decode(register, encode(register, None)) is None, name


def test_no_read_is_longer_than_the_device_allows_or_cuts_a_value(path):
    device_map = build_map(load_spec(path))
    for block in plan_blocks(
        device_map.registers, max_count=device_map.max_count, max_gap=device_map.max_gap
    ):
        assert block.count <= device_map.max_count
        assert all(
            block.address <= r.address and r.end <= block.address + block.count for r in block.registers
        )


async def test_a_simulated_device_is_recognised_and_read_back(path, links, on_air):
    spec = load_spec(path)
    image = FileImage(spec)
    async with on_air(image.image, unit=spec.link.unit) as (endpoint, _):
        device = open_device(
            name="it", endpoint=endpoint, unit_id=spec.link.unit, driver=path.stem, links=links
        )
        reading = await device.read()
    assert reading.trouble is None
    assert device.identity is not None and device.identity.maker == spec.maker
    expected = {name for name in spec.registers if name in CANONICAL}
    assert expected <= set(reading) <= quantities_of(build_map(spec))
    for name in expected:
        register, example = image.registers[name], image.example(name)
        if register.type is RegisterType.STRING or example is None:
            continue
        tolerance = (
            0.0 if register.type in (RegisterType.FLOAT32, RegisterType.FLOAT64) else abs(register.factor)
        )
        assert reading[name].value == pytest.approx(example, abs=tolerance + 1e-9, rel=1e-6), name
        assert reading[name].quality is Quality.GOOD, (name, reading[name].cause)


@pytest.mark.parametrize("controlled", CONTROLLED, ids=lambda path: path.stem)
async def test_each_control_is_written_and_seen_in_the_simulated_device(controlled, links, on_air):
    spec = load_spec(controlled)
    image = FileImage(spec)
    async with on_air(image.image, unit=spec.link.unit) as (endpoint, station):
        device = open_device(
            name="it", endpoint=endpoint, unit_id=spec.link.unit, driver=controlled.stem, links=links
        )
        await device.read()
        for name, control in spec.controls.items():
            write = {
                "battery_power": device.write_battery_power,
                "generation_limit": device.limit_generation,
                "charge_limit": device.limit_charge,
                "consumption_limit": device.limit_consumption,
            }[name]
            high = control.range.max_kw or 4.5
            targets = {"battery_power": [high, -(high / 2), 0.0], "consumption_limit": [0.0, high]}.get(
                name, [high]
            )
            for target in targets:
                if control.read_back is not None:
                    image.show(control.read_back, target)
                before = station.writes
                receipt = await write(target, valid_s=300)
                assert isinstance(receipt, Applied | Clamped), (target, receipt)
                assert receipt.written and station.writes > before
            if control.release:
                assert isinstance(await device.release(), Applied)


async def test_another_device_is_not_taken_for_this_one(path, links, on_air):
    spec = load_spec(path)
    image = FileImage(spec)
    test = spec.identity[0]
    wrong = b"\x00" * (1 if test.table.is_bits else 2 * test.size)
    if (test.one_of and 0 in test.one_of) or (test.between is not None and test.between[0] <= 0):
        wrong = b"\xff" * len(wrong)
    image.image.store(test.table, test.address, wrong)
    async with on_air(image.image, unit=spec.link.unit) as (endpoint, _):
        device = open_device(
            name="it", endpoint=endpoint, unit_id=spec.link.unit, driver=path.stem, links=links
        )
        reading = await device.read()
    assert reading.trouble is not None and reading.trouble.kind is TroubleKind.NOT_RECOGNISED
    assert all(sample.value is None for sample in reading.values())


GOOD = """
    device: Test meter
    maker: Test
    models: [T1]
    roles: [meter]
    verified: one-source
    sources: [{title: a manual, where: on the shelf}]
    identity: [{table: holding, address: 0, type: uint16, one_of: [7]}]
    registers:
      net_import_kw: {table: holding, address: 1, type: int16, unit: W}
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param("unit: W}", "unit: Wh}", "net_import_kw", id="energy unit for a power"),
        pytest.param("unit: W}", "unit: Watt}", "Watt", id="unknown unit"),
        pytest.param("unit: W}", "unti: W}", "unti", id="unknown key"),
        pytest.param("type: int16", "type: int17", "type", id="unknown type"),
        pytest.param("address: 1,", "address: 70000,", "address", id="address too large"),
        pytest.param(
            "verified: one-source", "verified: two-sources", "two sources", id="claims more than it shows"
        ),
        pytest.param("one_of: [7]", "", "exactly one of", id="identity tests nothing"),
        pytest.param(
            "type: uint16, one_of: [7]",
            "type: string, words: 2, matches: '('",
            "regular expression",
            id="no regex",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(tmp_path, old, new, says):
    file = tmp_path / "test.yaml"
    file.write_text(textwrap.dedent(GOOD).replace(old, new), encoding="utf-8")
    with pytest.raises(DeviceFileError, match=says) as caught:
        load_spec(file)
    assert "test.yaml" in str(caught.value)


def test_the_good_file_is_good(tmp_path):
    file = tmp_path / "good.yaml"
    file.write_text(textwrap.dedent(GOOD), encoding="utf-8")
    assert FileDevice(load_spec(file)).known is not None


async def test_a_scan_names_this_device_or_leaves_the_choice_open_but_never_names_another(
    path, links, on_air
):
    spec = load_spec(path)
    async with on_air(FileImage(spec).image, unit=spec.link.unit) as (endpoint, _):
        (found,) = [f async for f in scan(endpoint, links=links, units=[spec.link.unit])]
    assert isinstance(found, Found)
    assert path.stem in found.candidates
    assert found.driver in (path.stem, None), found.candidates
