"""Registers as values and as blocks."""

from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from drivers.blocks import BlockDecoder
from drivers.registers import Register, RegisterType, Table, WordOrder, decode, encode, plan_blocks

WORDS = {
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "int64": 4,
    "uint64": 4,
    "float32": 2,
    "float64": 4,
}
NUMBERS = [RegisterType(kind) for kind in WORDS]


def register(kind="int16", address=0, **more) -> Register:
    more = {"name": f"r{address}", "table": Table.HOLDING, "words": WORDS[kind]} | more
    return Register(address=address, type=RegisterType(kind), **more)


@pytest.mark.parametrize(
    ("spec", "data", "value"),
    [
        pytest.param({"kind": "int16", "factor": 0.1}, "FFFB", -0.5, id="signed, scaled"),
        pytest.param({"kind": "int16", "absent": (-0x8000,)}, "8000", None, id="sentinel is absence"),
        pytest.param({"kind": "uint32"}, "00010002", 65538, id="big word order"),
        pytest.param(
            {"kind": "uint32", "word_order": WordOrder.LITTLE}, "00020001", 65538, id="little word order"
        ),
        pytest.param({"kind": "uint32", "swap_bytes": True}, "01000200", 65538, id="bytes swapped"),
        pytest.param({"kind": "float32"}, "7FC00000", None, id="NaN is absence"),
        pytest.param({"kind": "float32"}, "7F800000", None, id="infinity is absence"),
        pytest.param({"kind": "uint16", "offset": 30000}, "7530", 0, id="offset"),
        pytest.param({"kind": "uint16", "mask": 0xFF00, "shift": 8}, "0AFF", 10, id="masked and shifted"),
        pytest.param({"kind": "uint16", "meaning": {1: 1.0, 3: 0.0}}, "0003", 0, id="code with a meaning"),
        pytest.param(
            {"kind": "uint16", "meaning": {1: 1.0}}, "0009", None, id="unknown code is absence, not zero"
        ),
    ],
)
def test_decode(spec, data, value):
    shown = decode(register(**spec), bytes.fromhex(data))
    assert shown == (None if value is None else pytest.approx(value))


@given(
    st.sampled_from(NUMBERS),
    st.sampled_from(list(WordOrder)),
    st.booleans(),
    st.binary(min_size=8, max_size=8),
)
def test_any_bytes_decode_to_a_finite_number_or_absence(kind, order, swap, data):
    it = register(kind.value, word_order=order, swap_bytes=swap)
    value = decode(it, data[: 2 * it.words])
    assert value is None or abs(value) < inf


@given(
    st.sampled_from([k for k in NUMBERS if "float" not in k.value]),
    st.sampled_from(list(WordOrder)),
    st.integers(-100, 100),
    st.sampled_from([1.0, -1.0, 0.1, 0.001, -0.01]),
)
def test_what_is_encoded_is_decoded(kind, order, raw, factor):
    assume(raw >= 0 or not kind.value.startswith("u"))
    it = register(kind.value, word_order=order, factor=factor)
    assert decode(it, encode(it, raw * factor)) == pytest.approx(raw * factor)


def test_a_value_that_does_not_fit_is_an_error_not_a_wrapped_number():
    with pytest.raises(ValueError, match="does not fit"):
        encode(register("int16"), 40000)
    with pytest.raises(ValueError, match="absent"):
        encode(register("int16"), None)


def test_neighbours_share_a_read_and_strangers_do_not():
    near = [register(address=a) for a in (0, 1, 5, 40)]
    assert [(b.address, b.count) for b in plan_blocks(near, max_gap=4)] == [(0, 6), (40, 1)]
    assert [(b.address, b.count) for b in plan_blocks(near, max_gap=0)] == [(0, 2), (5, 1), (40, 1)]


def test_a_scale_factor_is_read_with_its_value():
    value = register(address=0, name="v", scale_from="sf")
    between = register(address=10, name="b")
    scale = register(address=60, name="sf")
    (block,) = plan_blocks([value, between, scale], max_gap=0)
    assert (block.address, block.count) == (0, 61)
    assert [b.address for b in plan_blocks([value, between, scale], max_count=20, max_gap=0)] == [0, 10, 60]


def test_a_value_longer_than_a_read_is_an_error():
    with pytest.raises(ValueError, match="must come in one read"):
        plan_blocks([register("int64", 0)], max_count=2)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from(NUMBERS)), min_size=1, max_size=40),
    st.integers(4, 125),
    st.integers(0, 20),
)
def test_every_register_is_in_exactly_one_block_and_whole(spots, most, gap):
    wanted, end = [], -1
    for address, kind in sorted(spots, key=lambda s: s[0]):
        if address >= end:
            wanted.append(register(kind.value, address))
            end = address + WORDS[kind.value]
    blocks = plan_blocks(wanted, max_count=most, max_gap=gap)
    assert sorted(r.address for b in blocks for r in b.registers) == [r.address for r in wanted]
    for block in blocks:
        assert block.count <= most
        assert all(
            block.address <= r.address and r.end <= block.address + block.count for r in block.registers
        )


@given(st.binary(min_size=20, max_size=20))
def test_compiled_decoding_agrees_with_one_by_one(data):
    registers = (
        register("int16", 0, name="a", factor=0.1, absent=(-0x8000,)),
        register("uint32", 1, name="b", word_order=WordOrder.LITTLE),
        register("float32", 3, name="c"),
        register("uint32", 5, name="d", factor=1e-3),
        register("uint16", 7, name="e", meaning={1: 1.0}),
        register("int64", 6, name="overlaps"),
    )
    (block,) = plan_blocks(registers)
    data = data[: 2 * block.count].ljust(2 * block.count, b"\0")
    shown = BlockDecoder(block).decode(data)
    for one in registers:
        expected = decode(one, block.cut(data, one))
        assert shown[one.name] == (None if expected is None else pytest.approx(expected, nan_ok=True)), (
            one.name
        )


@pytest.mark.parametrize("power", [-11, 11, -0x8000])
def test_an_impossible_scale_factor_makes_the_value_absent(power):
    registers = [register(address=0, name="v", scale_from="sf"), register(address=1, name="sf")]
    (block,) = plan_blocks(registers)
    data = (5).to_bytes(2, "big") + power.to_bytes(2, "big", signed=True)
    assert BlockDecoder(block).decode(data)["v"] is None
