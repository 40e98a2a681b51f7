"""Whatever bytes come and whatever a file says: no crash, and no value that was not sent."""

import asyncio
import math
import struct
from itertools import count

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers import DeviceFileError, DriverError
from drivers.blocks import BlockDecoder
from drivers.device_file import load_spec
from drivers.endpoints import parse_endpoint
from drivers.file_device import build_map
from drivers.frames import (
    READ_FUNCTIONS,
    ExceptionAnswerError,
    GarbledError,
    RtuFraming,
    TcpFraming,
    check_answer,
    crc16,
    read_request,
)
from drivers.proxy import _answer
from drivers.registers import Table, plan_blocks
from drivers.sunspec.models import place
from drivers.twin.image import RegisterImage
from drivers.twin.server import ServerProtocol, Station
from drivers.wire import Wire

FRESH = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Line(asyncio.WriteTransport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.sent = bytearray()

    def write(self, data):
        self.sent += data

    def is_closing(self):
        return False

    def abort(self):
        """Nothing to drop."""


def cut(data: bytes, cuts: list[int]):
    at = 0
    for size in cuts:
        yield data[at : at + size]
        at += size
    yield data[at:]


async def answered(framing, request, chunks):
    """What a wire hands to the one who waits, when these bytes arrive; None when it goes on waiting or gives up."""
    wire = Wire(framing)
    wire.connection_made(Line())
    future = wire.send(framing.wrap(request))
    for chunk in chunks:
        if chunk:
            wire.data_received(chunk)
    if not future.done():
        future.cancel()
        return None
    try:
        return check_answer(request, *future.result())
    except (GarbledError, ExceptionAnswerError, ConnectionError):
        return None


def rtu(body: bytes) -> bytes:
    return body + struct.pack("<H", crc16(body))


# what arrives at our client


@given(
    noise=st.binary(max_size=60),
    words=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 9), max_size=12),
    head=st.sampled_from(["transaction", "protocol", "length", "unit", "function", "count", "none"]),
    wrong=st.integers(1, 0xFE),
)
async def test_a_tcp_answer_is_taken_only_with_every_field_of_its_header_right(
    noise, words, cuts, head, wrong
):
    request = read_request(9, 3, 100, len(words))
    data = struct.pack(f">{len(words)}H", *words)
    fields = {
        "transaction": 1,
        "protocol": 0,
        "length": len(data) + 3,
        "unit": 9,
        "function": 3,
        "count": len(data),
    }
    if head != "none":
        fields[head] ^= wrong
    frame = struct.pack(">HHHBBB", *fields.values()) + data + noise
    shown = await answered(TcpFraming(), request, cut(frame, cuts))
    assert shown == (data if head == "none" else None)


@given(
    words=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=8),
    burst_at=st.integers(0, 200),
    burst=st.integers(1, 0xFFFF),
    cuts=st.lists(st.integers(1, 5), max_size=12),
)
async def test_no_burst_of_sixteen_bits_gets_past_the_rtu_checksum(words, burst_at, burst, cuts):
    request = read_request(9, 3, 100, len(words))
    data = struct.pack(f">{len(words)}H", *words)
    frame = rtu(bytes((9, 3, len(data))) + data)
    damaged = int.from_bytes(frame, "big") ^ (burst << burst_at % (8 * len(frame) - 16))
    shown = await answered(RtuFraming(), request, cut(damaged.to_bytes(len(frame), "big"), cuts))
    assert shown is None
    assert await answered(RtuFraming(), request, cut(frame, cuts)) == data


@given(
    asked=st.tuples(st.sampled_from([3, 4]), st.integers(1, 8)),
    other=st.tuples(st.integers(1, 12), st.sampled_from([1, 2, 3, 4, 5, 6, 15, 16]), st.integers(1, 8)),
    cuts=st.lists(st.integers(1, 9), max_size=12),
)
async def test_a_well_formed_answer_to_another_question_is_not_taken(asked, other, cuts):
    function, registers = asked
    unit, told, size = other
    body = (
        bytes((unit, told, 2 * size)) + bytes(2 * size)
        if told in READ_FUNCTIONS
        else bytes((unit, told, 0, 1, 0, 1))
    )
    request = read_request(9, function, 100, registers)
    shown = await answered(RtuFraming(), request, cut(rtu(body), cuts))
    assert (shown is not None) == ((unit, told, size) == (9, function, registers))


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from([TcpFraming, RtuFraming]))
async def test_random_bytes_reach_nobody(chunks, framing):
    shown = await answered(framing(), read_request(1, 3, 0, 2), chunks)
    whole = b"".join(chunks)
    if shown is not None:
        exact = b"\0\1\0\0\0\7\1\3\4" if framing is TcpFraming else b"\1\3\4"
        assert whole.startswith(exact) and shown == whole[len(exact) :][:4]


# what arrives at the twin and the proxy


def image():
    found = RegisterImage()
    found.define(Table.HOLDING, 0, bytes(range(200)))
    found.define(Table.COIL, 0, bytes(40))
    found.writable = {(Table.HOLDING, 5), (Table.COIL, 5)}
    return found


@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
async def test_the_twin_stands_whatever_it_is_sent(chunks, is_rtu):
    station, line = Station(units={1: image()}), Line()
    protocol = ServerProtocol(station, rtu=is_rtu)
    protocol.connection_made(line)
    for chunk in chunks:
        protocol.data_received(chunk)
    fresh = ServerProtocol(station, rtu=False)
    line.sent.clear()
    fresh.connection_made(line)
    fresh.data_received(struct.pack(">HHHBBHH", 7, 0, 6, 1, 3, 50, 1))
    assert bytes(line.sent) == struct.pack(">HHHBBBH", 7, 0, 5, 1, 3, 2, 0x6465)


class Counting:
    """A link that only counts what is passed to it."""

    def __init__(self):
        self.passed: list[bytes] = []

    async def forward(self, unit, pdu, answer_size, echo):
        self.passed.append(pdu)
        return echo if echo is not None else bytes((pdu[0], answer_size - 2)) + bytes(answer_size - 2)


@given(pdu=st.binary(min_size=1, max_size=253), allowed=st.booleans())
async def test_the_proxy_passes_no_write_that_is_not_allowed_and_answers_everything(pdu, allowed):
    link = Counting()
    answer = await _answer(link, 1, pdu, allow_writes=allowed)
    assert answer[0] & 0x7F == pdu[0] & 0x7F and 2 <= len(answer) <= 253
    for passed in link.passed:
        assert passed[0] in READ_FUNCTIONS or (allowed and passed[0] in (5, 6, 15, 16))


# what a SunSpec device and a device file may say


@given(
    model=st.sampled_from([1, 103, 111, 124, 160, 203, 701, 704, 705, 707, 711, 714, 803, 804, 64000]),
    length=st.integers(1, 700),
    counts=st.dictionaries(
        st.sampled_from(["N", "NPrt", "NPt", "NCrv", "NCrvSet", "NCtl", "NStr", "NMod"]), st.integers(0, 256)
    ),
    data=st.binary(min_size=8, max_size=64),
)
def test_a_model_of_any_length_and_count_stays_inside_itself(model, length, counts, data):
    placed = place(model, 40002, length, counts)
    registers = [point.register(path) for path, point in placed.points.items()]
    assert all(r.address >= 40002 and r.end <= placed.end for r in registers)
    for block in plan_blocks([r for r in registers if r.words <= 125]):
        raw = (data * (2 * block.count // len(data) + 1))[: 2 * block.count]
        for value in BlockDecoder(block).decode(raw).values():
            assert value is None or isinstance(value, str) or math.isfinite(value)


FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
NUMBER = count()


@st.composite
def device_files(draw):
    """A file with random registers that do not overlap, and what they must decode to."""
    registers, address = {}, draw(st.integers(0, 50))
    names = [
        "net_import_kw",
        "pv_kw",
        "import_kwh",
        "frequency_hz",
        "voltage_l1_v",
        "current_l1_a",
        "stored_frac",
        "tank_degc",
    ]
    units = {"kw": "W", "kwh": "Wh", "hz": "Hz", "v": "V", "a": "mA", "frac": "%", "degc": "degC"}
    for name in draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
        kind = draw(st.sampled_from(list(FORMATS)))
        registers[name] = {
            "table": draw(st.sampled_from(["holding", "input"])),
            "address": address,
            "type": kind,
            "unit": units[name.rsplit("_", 1)[1]],
            "scale": draw(st.sampled_from([1, 0.1, 0.01, 10, 1000])),
            "sign": draw(st.sampled_from([1, -1])),
            "word_order": draw(st.sampled_from(["big", "little"])),
            "swap_bytes": draw(st.booleans()),
        }
        if "float" not in kind and draw(st.booleans()):
            registers[name]["sentinel"] = [draw(st.integers(0, 0x7FFF))]
        address += struct.calcsize(FORMATS[kind]) // 2 + draw(st.integers(0, 140))
    return {
        "device": "Random", "maker": "Nobody", "models": ["R"], "roles": ["meter"], "verified": "one-source",
        "sources": [{"title": "a dice", "where": "in the hand"}],
        "link": {"max_gap": draw(st.integers(0, 20)), "max_count": draw(st.integers(4, 125))},
        "identity": [{"table": "holding", "address": 65000, "type": "uint16", "one_of": [1]}],
        "registers": registers,
    }  # fmt: skip


def told(spec: dict, data: bytes) -> float | None:
    """The value as the schema's table words it, written without our decoder."""
    words = [data[i : i + 2] for i in range(0, len(data), 2)]
    if spec["word_order"] == "little":
        words.reverse()
    if spec["swap_bytes"]:
        words = [word[::-1] for word in words]
    (raw,) = struct.unpack(">" + FORMATS[spec["type"]], b"".join(words))
    if raw in spec.get("sentinel", ()) or not math.isfinite(raw):
        return None
    factor = {"W": 1e-3, "Wh": 1e-3, "mA": 1e-3, "%": 1e-2}.get(spec["unit"], 1.0)
    value = raw * spec["scale"] * spec["sign"] * factor
    return value if math.isfinite(value) else None


@FRESH
@given(file=device_files(), noise=st.binary(min_size=64, max_size=64))
def test_a_file_of_any_registers_decodes_what_its_words_say(tmp_path, file, noise):
    path = tmp_path / f"random-{next(NUMBER)}.yaml"
    path.write_text(yaml.safe_dump(file), encoding="utf-8")
    found = build_map(load_spec(path))
    shown = {}
    raw = {
        name: (noise * 2)[7 * i : 7 * i + 2 * _words(r)]
        for i, (name, r) in enumerate(file["registers"].items())
    }
    for block in plan_blocks(found.registers, max_count=found.max_count, max_gap=found.max_gap):
        data = bytearray(2 * block.count)
        for register in block.registers:
            at = 2 * (register.address - block.address)
            data[at : at + 2 * register.words] = raw[register.name]
        shown |= BlockDecoder(block).decode(bytes(data))
    assert set(shown) == set(file["registers"])
    for name, spec in file["registers"].items():
        want = told(spec, raw[name])
        assert shown[name] == (None if want is None else pytest.approx(want, rel=1e-9)), (name, spec)


def _words(spec: dict) -> int:
    return struct.calcsize(FORMATS[spec["type"]]) // 2


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@FRESH
@given(
    file=device_files(),
    key=st.sampled_from(
        ["link", "identity", "registers", "groups", "controls", "derived", "models", "hints", "nameplate"]
    ),
    junk=JUNK,
)
def test_a_file_with_junk_in_it_is_refused_by_name_and_nothing_worse(tmp_path, file, key, junk):
    path = tmp_path / f"junk-{next(NUMBER)}.yaml"
    path.write_text(yaml.safe_dump(file | {key: junk}), encoding="utf-8")
    try:
        build_map(load_spec(path))
    except DeviceFileError as error:
        assert path.name in str(error)


@FRESH
@given(text=st.text(max_size=60))
def test_any_text_is_a_device_file_or_refused(tmp_path, text):
    path = tmp_path / f"text-{next(NUMBER)}.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(DeviceFileError, match=path.name):
        load_spec(path)


@given(
    st.one_of(st.text(max_size=40), st.from_regex(r"(tcp|tls|rtu|rtu\+tcp)://[!-~]{0,30}", fullmatch=True))
)
def test_any_endpoint_is_understood_or_refused(text):
    try:
        parsed = parse_endpoint(text)
    except DriverError:
        return
    assert parsed.path or (parsed.host and 0 <= parsed.port <= 65535)
