"""Modbus requests and answers as bytes: pure functions, no I/O.

Sources: MODBUS Application Protocol Specification V1.1b3 (function layouts), MODBUS Messaging on TCP/IP
Implementation Guide V1.0b (MBAP header), MODBUS over Serial Line V1.02 (RTU frame, CRC).
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

READ_COILS: Final = 1
READ_DISCRETE_INPUTS: Final = 2
READ_HOLDING: Final = 3
READ_INPUT: Final = 4
WRITE_COIL: Final = 5
WRITE_REGISTER: Final = 6
WRITE_COILS: Final = 15
WRITE_REGISTERS: Final = 16
READ_FUNCTIONS: Final = frozenset({READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING, READ_INPUT})

MAX_READ_REGISTERS: Final = 125
MAX_WRITE_REGISTERS: Final = 123
MAX_PDU: Final = 253

EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge, still working",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}


class GarbledError(Exception):
    """Bytes that are no answer to the request at hand."""


class ExceptionAnswerError(Exception):
    """The device answered with a Modbus exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code} ({EXCEPTIONS.get(code, 'unknown')})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """One request and what its answer must look like."""

    unit: int
    """Modbus unit, 0..255."""
    pdu: bytes
    """Function code and data."""
    answer_size: int
    """Bytes of a normal answer PDU."""
    echo: bytes | None
    """What a normal answer must start with; None for reads, whose second byte is the byte count."""

    @property
    def function(self) -> int:
        """Function code."""
        return self.pdu[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """All that tells one RTU answer from another: unit, function, size."""
        return self.unit, self.pdu[0], self.answer_size


@lru_cache(maxsize=1 << 14)  # a device is asked for the same blocks again and again
def read_request(unit: int, function: int, address: int, count: int) -> Request:
    """Ask for `count` registers or bits starting at `address`."""
    data_bytes = (count + 7) // 8 if function <= READ_DISCRETE_INPUTS else 2 * count
    return Request(unit, struct.pack(">BHH", function, address, count), 2 + data_bytes, None)


def write_register_request(unit: int, address: int, word: bytes) -> Request:
    """Set one register (two bytes)."""
    pdu = struct.pack(">BH", WRITE_REGISTER, address) + word
    return Request(unit, pdu, 5, pdu)


def write_registers_request(unit: int, address: int, payload: bytes) -> Request:
    """Set consecutive registers in one request."""
    count = len(payload) // 2
    head = struct.pack(">BHH", WRITE_REGISTERS, address, count)
    return Request(unit, head + bytes((len(payload),)) + payload, 5, head)


def write_coil_request(unit: int, address: int, *, on: bool) -> Request:
    """Set one coil."""
    pdu = struct.pack(">BHH", WRITE_COIL, address, 0xFF00 if on else 0)
    return Request(unit, pdu, 5, pdu)


def check_answer(request: Request, unit: int, pdu: bytes) -> bytes:
    """Data of a read, or b"" for an acknowledged write.

    Raises
    ------
    ExceptionAnswerError
        The device said no.
    GarbledError
        Another unit, function, length, count or echo than asked for.
    """
    if unit != request.unit:
        raise GarbledError(f"answer of unit {unit}, asked unit {request.unit}")
    function = request.pdu[0]
    if pdu[0] != function:
        if pdu[0] == function | 0x80 and len(pdu) == 2:
            raise ExceptionAnswerError(pdu[1])
        raise GarbledError(f"answer to function {pdu[0]}, asked function {function}")
    if len(pdu) != request.answer_size:
        raise GarbledError(f"answer of {len(pdu)} bytes, expected {request.answer_size}")
    if request.echo is None:
        if pdu[1] != request.answer_size - 2:
            raise GarbledError(f"byte count {pdu[1]}, expected {request.answer_size - 2}")
        return pdu[2:]
    if pdu != request.echo:
        raise GarbledError(f"write echoed {pdu.hex()}, expected {request.echo.hex()}")
    return b""


class Framing(Protocol):
    """Puts PDUs into frames and finds frames in received bytes."""

    in_order_only: bool
    """True when nothing but order ties an answer to its request (RTU)."""

    def wrap(self, request: Request) -> bytes:
        """Bytes to send."""
        ...

    def take(self, buffer: bytearray) -> tuple[int, bytes] | None:
        """Remove the first whole frame and return unit and PDU; None while incomplete; GarbledError if hopeless."""
        ...


class TcpFraming:
    """MBAP header; each request gets its own transaction id and only that id is accepted."""

    in_order_only = False

    def __init__(self) -> None:
        self._transaction = 0

    def wrap(self, request: Request) -> bytes:
        """Bytes to send, under a fresh transaction id."""
        self._transaction = self._transaction + 1 & 0xFFFF
        pdu = request.pdu
        return struct.pack(">HHHB", self._transaction, 0, len(pdu) + 1, request.unit) + pdu

    def take(self, buffer: bytearray) -> tuple[int, bytes] | None:
        """Unit and PDU of the frame with the transaction id sent last."""
        if len(buffer) < 8:
            return None
        transaction, protocol, length, unit = struct.unpack_from(">HHHB", buffer)
        if protocol or not 3 <= length <= MAX_PDU + 1:
            raise GarbledError(f"no MBAP header: {bytes(buffer[:8]).hex()}")
        end = 6 + length
        if len(buffer) < end:
            return None
        if transaction != self._transaction:
            raise GarbledError(f"transaction {transaction}, expected {self._transaction}")
        pdu = bytes(buffer[7:end])
        del buffer[:end]
        return unit, pdu


class RtuFraming:
    """Unit, PDU, CRC. The length follows from the function code, so silence need not be timed."""

    in_order_only = True

    def wrap(self, request: Request) -> bytes:
        """Bytes to send."""
        body = bytes((request.unit,)) + request.pdu
        return body + struct.pack("<H", crc16(body))

    def take(self, buffer: bytearray) -> tuple[int, bytes] | None:
        """Unit and PDU of the first frame whose checksum is right."""
        size = rtu_answer_size(buffer)
        if size is None or len(buffer) < size:
            return None
        body = bytes(buffer[: size - 2])
        if struct.unpack_from("<H", buffer, size - 2)[0] != crc16(body):
            raise GarbledError(f"checksum wrong in {bytes(buffer[:size]).hex()}")
        del buffer[:size]
        return body[0], body[1:]


def rtu_answer_size(buffer: bytes | bytearray) -> int | None:
    """Bytes of the RTU answer that starts here; None while that cannot be said."""
    if len(buffer) < 3:
        return None
    function = buffer[1]
    if function & 0x80:
        return 5
    if function in READ_FUNCTIONS:
        return 5 + buffer[2]
    if function in (WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS):
        return 8
    raise GarbledError(f"function {function} in an answer")


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_CRC: Final = _crc_table()


def crc16(data: bytes | bytearray) -> int:
    """CRC-16/MODBUS: polynomial 0x8005 reflected, start 0xFFFF."""
    crc, table = 0xFFFF, _CRC
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc
