"""SunSpec: pysunspec2's own objects are the oracle for layout and values."""

import struct
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sunspec2.device import Model

from drivers import Applied, Capability, open_device
from drivers.blocks import BlockDecoder
from drivers.registers import Table, plan_blocks
from drivers.sunspec.models import place
from drivers.twin.image import RegisterImage
from drivers.twin.sunspec_image import ModelWish, SunSpecImage

PLAIN = (1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 201, 202, 203, 204, 211, 212, 213, 214)
DER = (701, 702, 703, 704, 713, 802)


def oracle_points(model_id, data, length):
    """Raw values by path, as pysunspec2 lays the model out."""
    model = Model(model_id, data=data, model_len=length)
    found = {}

    def walk(group, prefix):
        for name, point in group.points.items():
            found[prefix + name] = point.value
        for name, member in group.groups.items():
            if isinstance(member, list):
                for number, one in enumerate(member, start=1):
                    walk(one, f"{prefix}{name}[{number}].")
            else:
                walk(member, f"{prefix}{name}.")

    walk(model, "")
    return found


def ours(model_id, data, length, counts=None):
    """Raw values by path, as we lay the model out."""
    model = place(model_id, 0, length, counts or {})
    registers = [
        replace(point.register(path), scale_from=None, factor=1.0) for path, point in model.points.items()
    ]
    values = {}
    for block in plan_blocks(registers):
        cut = data[2 * block.address : 2 * (block.address + block.count)]
        values |= BlockDecoder(block).decode(cut)
    return values, model


@pytest.mark.parametrize("model_id", PLAIN + DER)
@settings(max_examples=15, deadline=None)
@given(seed=st.binary(min_size=400, max_size=400))
def test_fixed_models_are_laid_out_and_decoded_as_pysunspec2_does(model_id, seed):
    end = max(p.address + p.words for p in place(model_id, 0, 400, {}).points.values())
    length = end - 2
    data = struct.pack(">HH", model_id, length) + seed[: 2 * length]
    expected = oracle_points(model_id, data, length)
    values, model = ours(model_id, data, length)
    assert set(values) == set(expected)
    for path, want in expected.items():
        kind = model.points[path].type
        if kind in ("string", "ipv6addr", "eui48", "pad", "ipaddr", "raw16"):
            continue
        assert values[path] == (None if want is None else pytest.approx(want)), (path, kind)


@pytest.mark.parametrize(
    ("model_id", "length", "counts"),
    [
        pytest.param(160, 8 + 3 * 20, {"N": 3}, id="160: modules by length"),
        pytest.param(714, 18 + 2 * 25, {"NPrt": 2}, id="714: ports by count"),
        pytest.param(803, 90, {"NStr": 2}, id="803: strings by count"),
        pytest.param(804, 78, {"NMod": 2}, id="804: modules by count"),
        pytest.param(705, 45, {"NPt": 3, "NCrv": 2}, id="705: curves of points"),
        pytest.param(706, 35, {"NPt": 3, "NCrv": 2}, id="706: curves of points"),
        pytest.param(711, 32, {"NCtl": 2}, id="711: controls by count"),
        pytest.param(712, 28, {"NPt": 2, "NCrv": 2}, id="712: curves of points"),
    ],
)
def test_repeating_groups_are_laid_out_as_pysunspec2_does(model_id, length, counts):
    words = [((7 * i) % 251) for i in range(length)]
    data = bytearray(struct.pack(f">HH{length}H", model_id, length, *words))
    model = place(model_id, 0, length, counts)
    for name, count in counts.items():
        struct.pack_into(">H", data, 2 * model.points[name].address, count)
    expected = oracle_points(model_id, bytes(data), length)
    values, model = ours(model_id, bytes(data), length, counts)
    assert set(values) == set(expected)
    numeric = {p for p in expected if model.points[p].type not in ("string", "pad")}
    assert {p: values[p] for p in numeric} == {
        p: None if expected[p] is None else pytest.approx(expected[p]) for p in numeric
    }


def test_a_shorter_model_than_defined_loses_its_last_points_only():
    assert "DA" in place(1, 0, 66, {}).points
    short = place(1, 0, 65, {})
    assert "Mn" in short.points and "Pad" not in short.points


def wish(model_id, length, scales=None, values=None, counts=None):
    return ModelWish(
        model_id=model_id, length=length, counts=counts or {}, scales=scales or {}, values=values or {}
    )


COMMON = wish(1, 66, values={"Mn": "Maker", "Md": "Thing", "SN": "S1"})


def device_at(endpoint, links):
    return open_device(name="it", endpoint=endpoint, unit_id=1, driver="sunspec", links=links)


@pytest.mark.parametrize("base", [0, 40000, 50000])
async def test_models_are_found_at_each_base_address(base, links, on_air):
    image = SunSpecImage(
        [COMMON, wish(203, 105, {"W_SF": 1, "TotWh_SF": 0}, {"W": -1230.0, "TotWhImp": 5000.0})], base=base
    )
    async with on_air(image.image) as (endpoint, _):
        device = device_at(endpoint, links)
        reading = await device.read()
    assert device.identity is not None and device.identity.models == (1, 203)
    assert reading["net_import_kw"].value == pytest.approx(-1.23)
    assert reading["import_kwh"].value == pytest.approx(5.0)


async def test_points_a_device_does_not_implement_are_absent_not_zero(links, on_air):
    image = SunSpecImage([COMMON, wish(203, 105, {"W_SF": 0}, {"W": 0.0})])
    async with on_air(image.image) as (endpoint, _):
        reading = await device_at(endpoint, links).read()
    assert reading["net_import_kw"].value == 0.0
    assert reading["export_kwh"].value is None
    assert reading.usable("voltage_l1_v") is None


async def test_a_maker_that_counts_export_as_positive_is_turned_round(links, on_air):
    image = SunSpecImage(
        [wish(1, 66, values={"Mn": "SolarEdge "}), wish(203, 105, {"W_SF": 0}, {"W": 2000.0})]
    )
    async with on_air(image.image) as (endpoint, _):
        reading = await device_at(endpoint, links).read()
    assert reading["net_import_kw"].value == pytest.approx(-2.0)


async def test_a_plain_pv_inverter_shows_its_dc_power_as_pv(links, on_air):
    image = SunSpecImage(
        [COMMON, wish(103, 50, {"W_SF": 0, "DCW_SF": 0, "WH_SF": 0}, {"W": 2900.0, "DCW": 3000.0, "WH": 7e6})]
    )
    async with on_air(image.image) as (endpoint, _):
        device = device_at(endpoint, links)
        reading = await device.read()
    assert reading["net_consumption_kw"].value == pytest.approx(-2.9)
    assert reading["pv_kw"].value == pytest.approx(3.0)
    assert reading["pv_kwh"].value == pytest.approx(7000.0)
    assert Capability.HOLDS_ENERGY not in device.capabilities


def der_image():
    """A storage inverter of the 700 series with one PV and one battery port."""
    image = SunSpecImage(
        [
            COMMON,
            wish(
                701, 153, {"W_SF": 0, "TotWh_SF": 0, "Hz_SF": -2}, {"W": 1500.0, "TotWhInj": 9e6, "Hz": 50.0}
            ),
            wish(
                702,
                50,
                {"W_SF": 0},
                {"WMaxRtg": 6000.0, "WMax": 6000.0, "WChaRteMaxRtg": 4000.0, "WDisChaRteMaxRtg": 4000.0},
            ),
            wish(
                704,
                65,
                {"WSet_SF": 0, "WMaxLimPct_SF": -1},
                {
                    "WSetEna": 0,
                    "WSetMod": 0,
                    "WSet": 0,
                    "WSetRvrtTms": 0,
                    "WSetEnaRvrt": 0,
                    "WMaxLimPctEna": 0,
                }
                | {"WMaxLimPct": 100.0, "WMaxLimPctRvrtTms": 0, "WMaxLimPctEnaRvrt": 0},
            ),
            wish(713, 7, {"WH_SF": 0, "Pct_SF": -1}, {"WHRtg": 9600.0, "SoC": 42.5, "SoH": 98.0}),
            wish(
                714,
                18 + 2 * 25,
                {"DCW_SF": 0, "DCWH_SF": 0},
                {"Prt[1].PrtTyp": 0, "Prt[1].DCW": 2000.0, "Prt[2].PrtTyp": 1, "Prt[2].DCW": -500.0},
                {"NPrt": 2},
            ),
        ]
    )
    image.allow(704, "WSetEna", "WSetMod", "WSet", "WSetRvrtTms", "WSetEnaRvrt")
    image.allow(704, "WMaxLimPct", "WMaxLimPctEna", "WMaxLimPctRvrtTms", "WMaxLimPctEnaRvrt")
    return image


async def test_the_700_series_is_read_and_written(links, on_air):
    image = der_image()
    async with on_air(image.image) as (endpoint, _):
        device = device_at(endpoint, links)
        reading = await device.read()
        assert reading["battery_net_consumption_kw"].value == pytest.approx(0.5)
        assert reading["pv_kw"].value == pytest.approx(2.0)
        assert reading["stored_frac"].value == pytest.approx(0.425)
        assert reading["capacity_kwh"].value == pytest.approx(9.6)
        receipt = await device.write_battery_power(1.0, valid_s=600)
        assert receipt.value == 1.0
        assert (
            image.held(704, "WSet") == 1000.0
        )  # 2 kW of PV less 1 kW into the battery leaves 1 kW at the AC side
        assert image.held(704, "WSetEna") == 1 and image.held(704, "WSetRvrtTms") == 600
        await device.limit_generation(3.0, valid_s=600)
        assert image.held(704, "WMaxLimPct") == pytest.approx(50.0)
        await device.release()
        assert image.held(704, "WSetEna") == 0 and image.held(704, "WMaxLimPctEna") == 0


async def test_an_inverter_with_many_strings_is_read_although_its_scale_factors_are_far(links, on_air):
    """Model 160 has its scale factors at the top; the seventh module is out of one read's reach."""
    strings = 9
    values = {f"module[{n}].DCW": 100.0 * n for n in range(1, strings + 1)}
    names = {f"module[{n}].IDStr": f"String {n}" for n in range(1, strings + 1)}
    image = SunSpecImage(
        [
            COMMON,
            wish(103, 50, {"W_SF": 0}, {"W": 4000.0}),
            wish(160, 8 + 20 * strings, {"DCW_SF": 1}, values | names, {"N": strings}),
        ]
    )
    async with on_air(image.image) as (endpoint, _):
        device = device_at(endpoint, links)
        assert (await device.read())["pv_kw"].value == pytest.approx(4.5)
        power = image.models[160].points["DCW_SF"].address
        image.image.store(Table.HOLDING, power, (0).to_bytes(2, "big"))
        changed = (await device.read())["pv_kw"]
        assert changed.value is None and "scale factor" in changed.cause
        assert (await device.read())["pv_kw"].value == pytest.approx(0.45)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(
        st.one_of(st.integers(0, 0xFFFF), st.sampled_from([1, 66, 103, 160, 714, 203])), max_size=150
    )
)
async def test_whatever_a_device_shows_no_reading_raises_or_invents(words, links, on_air):
    image = RegisterImage()
    image.define(Table.HOLDING, 40000, b"SunS" + struct.pack(f">{len(words)}H", *words))
    async with on_air(image) as (endpoint, _):
        reading = await device_at(endpoint, links).read()
    assert all(sample.value is None or abs(sample.value) < float("inf") for sample in reading.values())


@pytest.mark.parametrize("model", [103, 160, 203, 701, 714, 802])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.binary(min_size=300, max_size=300))
async def test_a_known_model_full_of_noise_is_read_without_harm(model, seed, links, on_air):
    image = RegisterImage()
    length = {103: 50, 160: 148, 203: 105, 701: 153, 714: 143, 802: 62}[model]
    body = (seed * 2)[: 2 * length]
    image.define(Table.HOLDING, 40000, b"SunS" + struct.pack(">HH", model, length) + body + b"\xff\xff\0\0")
    async with on_air(image) as (endpoint, _):
        reading = await device_at(endpoint, links).read()
    assert reading.trouble is None
    for name, sample in reading.items():
        assert sample.value is None or abs(sample.value) < float("inf"), name
        if name.endswith("_frac") and sample.value is not None:
            assert 0.0 <= sample.value <= 1.0


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("MPPT 1", "MPPT 2", "StCha 3", "StDisCha 4"), id="Fronius GEN24"),
        pytest.param(("String 1", "String 2", "Battery Charge", "Battery Discharge"), id="in words"),
        pytest.param(("", "", "ST CHARGE", "ST DISCHARGE"), id="strings without a name"),
    ],
)
async def test_strings_and_battery_are_told_apart_by_the_names_of_their_modules(names, links, on_air):
    values = {f"module[{n}].DCW": watts for n, watts in enumerate((1000.0, 500.0, 0.0, 700.0), start=1)}
    texts = {f"module[{n}].IDStr": name for n, name in enumerate(names, start=1)}
    image = SunSpecImage(
        [
            COMMON,
            wish(103, 50, {"W_SF": 0, "DCW_SF": 0}, {"W": 2100.0, "DCW": 2200.0}),
            wish(124, 24, {"ChaState_SF": 0}, {"ChaState": 40.0}),
            wish(160, 88, {"DCW_SF": 0}, values | texts, {"N": 4}),
        ]
    )
    async with on_air(image.image) as (endpoint, _):
        reading = await device_at(endpoint, links).read()
    assert reading["pv_kw"].value == pytest.approx(1.5)
    assert reading["battery_net_consumption_kw"].value == pytest.approx(-0.7)
    assert reading["stored_frac"].value == pytest.approx(0.4)


async def test_an_older_hybrid_without_modules_claims_no_pv_power(links, on_air):
    """Its DC power is PV and battery together: taking it for PV would invent or hide energy."""
    image = SunSpecImage(
        [
            COMMON,
            wish(103, 50, {"W_SF": 0, "DCW_SF": 0}, {"W": 2100.0, "DCW": 2200.0}),
            wish(124, 24, {"ChaState_SF": 0}, {"ChaState": 40.0}),
        ]
    )
    async with on_air(image.image) as (endpoint, _):
        reading = await device_at(endpoint, links).read()
    assert "pv_kw" not in reading and "battery_net_consumption_kw" not in reading
    assert reading["net_consumption_kw"].value == pytest.approx(-2.1)


def storage_image(*, window: float | None, timer: float | None, grid: float | None):
    """A storage inverter whose timers and grid permission are there or not."""
    image = SunSpecImage(
        [
            COMMON,
            wish(103, 50, {"W_SF": 0}, {"W": 500.0}),
            wish(120, 26, {"WRtg_SF": 0}, {"WRtg": 5000.0}),
            wish(123, 24, {"WMaxLimPct_SF": -2}, {"WMaxLimPct": 100.0, "WMaxLim_Ena": 0}),
            wish(
                124,
                24,
                {"WChaMax_SF": 0, "InOutWRte_SF": -2},
                {"WChaMax": 5000.0, "OutWRte": 100.0, "InWRte": 100.0, "StorCtl_Mod": 0},
            ),
        ]
    )
    optional = {"InOutWRte_WinTms": window, "InOutWRte_RvrtTms": timer, "ChaGriSet": grid}
    for path, value in optional.items():
        image.show(124, path, value)
    for path, value in (("WMaxLimPct_WinTms", window), ("WMaxLimPct_RvrtTms", timer)):
        image.show(123, path, value)
    image.allow(124, "OutWRte", "InWRte", "StorCtl_Mod", *(p for p, v in optional.items() if v is not None))
    image.allow(123, "WMaxLimPct", "WMaxLim_Ena")
    image.allow(
        123, *(f"WMaxLimPct_{p}" for p, v in (("WinTms", window), ("RvrtTms", timer)) if v is not None)
    )
    return image


@pytest.mark.parametrize("grid", [None, 0.0], ids=["no grid permission", "grid permission"])
@pytest.mark.parametrize(
    ("window", "timer"),
    [
        pytest.param(0.0, 0.0, id="both timers"),
        pytest.param(None, 0.0, id="no ramp window"),
        pytest.param(None, None, id="no timer"),
        pytest.param(0.0, None, id="window only"),
    ],
)
async def test_a_point_a_device_does_not_implement_is_not_written(window, timer, grid, links, on_air):
    """A write that touches one register the device does not have is refused as a whole."""
    image = storage_image(window=window, timer=timer, grid=grid)
    async with on_air(image.image) as (endpoint, _):
        device = device_at(endpoint, links)
        await device.read()
        assert (Capability.REVERTS in device.capabilities) == (timer is not None)
        charged = await device.write_battery_power(1.5, valid_s=600)
        capped = await device.limit_generation(2.0, valid_s=600)
    assert isinstance(charged, Applied) and isinstance(capped, Applied), (charged, capped)
    assert (charged.valid_until is None) == (timer is None)
    assert image.held(124, "InWRte") == pytest.approx(30.0)
    assert image.held(123, "WMaxLimPct") == pytest.approx(40.0)
    if timer is not None:
        assert image.held(124, "InOutWRte_RvrtTms") == image.held(123, "WMaxLimPct_RvrtTms") == 600
    if grid is not None:
        assert image.held(124, "ChaGriSet") == 1
