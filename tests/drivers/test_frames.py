"""Framing: no answer is taken that does not belong to its request, whatever bytes arrive."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.rtu import FramerRTU

from drivers.frames import (
    ExceptionAnswerError,
    GarbledError,
    RtuFraming,
    TcpFraming,
    check_answer,
    crc16,
    read_request,
    write_registers_request,
)

ASK_TWO = read_request(1, 3, 100, 2)


def test_request_bytes_are_those_of_the_specification():
    # MODBUS Application Protocol V1.1b3, 6.3: read holding registers 108..110
    assert read_request(0x11, 3, 107, 3).pdu == bytes.fromhex("03006B0003")
    assert TcpFraming().wrap(read_request(0x11, 3, 107, 3)) == bytes.fromhex("0001000000061103006B0003")


@given(st.binary(min_size=1, max_size=256))
def test_crc_agrees_with_pymodbus(data):
    assert crc16(data) == int.from_bytes(FramerRTU.compute_CRC(data).to_bytes(2, "big"), "little")


@pytest.mark.parametrize(
    ("unit", "pdu"),
    [
        pytest.param(2, "0304000A000B", id="another unit"),
        pytest.param(1, "0404000A000B", id="another function"),
        pytest.param(1, "0302000A", id="one register fewer"),
        pytest.param(1, "0306000A000B000C", id="one register more"),
        pytest.param(1, "0302000A000B", id="byte count lies"),
        pytest.param(1, "8402", id="exception of another function"),
    ],
)
def test_an_answer_to_another_question_is_garbled(unit, pdu):
    with pytest.raises(GarbledError):
        check_answer(ASK_TWO, unit, bytes.fromhex(pdu))


def test_the_right_answer_and_the_right_refusal_are_taken():
    assert check_answer(ASK_TWO, 1, bytes.fromhex("0304000A000B")) == bytes.fromhex("000A000B")
    with pytest.raises(ExceptionAnswerError) as caught:
        check_answer(ASK_TWO, 1, bytes.fromhex("8302"))
    assert caught.value.code == 2


def test_a_write_echo_of_another_address_is_garbled():
    request = write_registers_request(1, 10, b"\0\1\0\2")
    assert check_answer(request, 1, struct.pack(">BHH", 16, 10, 2)) == b""
    with pytest.raises(GarbledError):
        check_answer(request, 1, struct.pack(">BHH", 16, 11, 2))


def fed(framing, chunks):
    """What a framing makes of bytes that arrive in pieces."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        frame = framing.take(buffer)
        if frame is not None:
            return frame
    return None


@given(st.lists(st.integers(1, 40), max_size=40), st.binary(min_size=2, max_size=250))
def test_tcp_frames_are_found_however_they_are_cut(cuts, data):
    framing = TcpFraming()
    framing.wrap(ASK_TWO)
    frame = struct.pack(">HHHB", 1, 0, len(data) + 1, 9) + data
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(frame[at : at + cut])
        at += cut
    assert fed(framing, [*pieces, frame[at:]]) == (9, data)


@given(st.binary(max_size=300))
def test_random_bytes_never_pass_as_a_tcp_answer(data):
    framing = TcpFraming()
    framing.wrap(ASK_TWO)
    try:
        frame = fed(framing, [data])
        accepted = frame is not None and check_answer(ASK_TWO, *frame)
    except (GarbledError, ExceptionAnswerError):
        accepted = False
    assert not accepted or data[:6] == b"\0\1\0\0\0\7"


@given(st.binary(max_size=300))
def test_random_bytes_never_crash_rtu_and_pass_only_with_their_checksum(data):
    try:
        frame = fed(RtuFraming(), [data])
        accepted = frame is not None and check_answer(ASK_TWO, *frame)
    except (GarbledError, ExceptionAnswerError):
        accepted = False
    assert not accepted or crc16(data[:9]) == 0


@given(st.integers(0, 8), st.integers(1, 255))
def test_one_damaged_byte_is_seen_by_the_rtu_checksum(place, damage):
    body = bytes.fromhex("010304000A000B")
    frame = bytearray(body + struct.pack("<H", crc16(body)))
    frame[place] ^= damage
    with pytest.raises((GarbledError, ExceptionAnswerError, AssertionError)):
        taken = fed(RtuFraming(), [bytes(frame)])
        assert taken is not None  # still waiting for bytes that never come: the time-out ends it
        check_answer(ASK_TWO, *taken)
