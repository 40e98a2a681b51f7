"""Byte channels under a link: TCP, TLS, serial line. One request in flight, late bytes never mistaken."""

import asyncio
import os
import ssl
from typing import Protocol, cast

import serial

from drivers.endpoints import Endpoint
from drivers.frames import Framing, GarbledError, RtuFraming, TcpFraming


class Wire(asyncio.Protocol):
    """Collects received bytes into frames for the one request that waits."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.lost: Exception | None = None
        """Why the connection ended; None while it stands."""
        self.heard_at = 0.0
        """Event loop time of the last byte nobody had asked for."""
        self.strayed = False
        """True when such bytes came since the last request."""
        self._buffer = bytearray()
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        # asyncio promises a writable transport; uvloop's does not inherit from asyncio's class
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            # Nobody asked. On TCP this proves a lost rhythm; on a serial line it is noise or a late answer.
            self.heard_at, self.strayed = self._loop.time(), True
            if not self.framing.in_order_only:
                self.fail(GarbledError(f"{len(data)} bytes nobody asked for"))
            return
        self._buffer += data
        self._scan(waiter)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.fail(exc or ConnectionResetError("closed by the device"))

    def send(self, adu: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Write a request; the future gives unit and PDU of the next frame."""
        if self.lost is not None or self._transport is None:
            raise self.lost or ConnectionResetError("not connected")
        self._buffer.clear()
        self.strayed = False
        self._waiter = self._loop.create_future()
        self._transport.write(adu)
        return self._waiter

    def expect_next(self) -> asyncio.Future[tuple[int, bytes]]:
        """Wait for one more frame without sending; bytes already received count."""
        waiter = self._waiter = self._loop.create_future()
        if self.lost is not None:
            waiter.set_exception(self.lost)
        elif self._buffer:
            self._scan(waiter)
        return waiter

    def fail(self, error: Exception) -> None:
        """End the connection and the waiting request with an error."""
        self.lost = self.lost or error
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.close()

    def close(self) -> None:
        """Drop the connection at once; bytes under way are thrown away."""
        self.lost = self.lost or ConnectionResetError("closed by us")
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _scan(self, waiter: "asyncio.Future[tuple[int, bytes]]") -> None:
        try:
            frame = self.framing.take(self._buffer)
        except GarbledError as error:
            self._waiter = None
            self._buffer.clear()
            if not waiter.done():
                waiter.set_exception(error)
            return
        if frame is not None:
            self._waiter = None
            self.strayed = bool(self._buffer)
            if not waiter.done():
                waiter.set_result(frame)


class OpensWires(Protocol):
    """How a link gets its connection; replaced in tests."""

    async def __call__(self, endpoint: Endpoint) -> Wire:
        """Connect, or raise OSError or asyncio.TimeoutError."""
        ...


async def open_wire(endpoint: Endpoint) -> Wire:
    """Connect to an endpoint.

    Raises
    ------
    OSError
        No connection, no such serial device, or a certificate was refused.
    """
    loop = asyncio.get_running_loop()
    match endpoint.scheme:
        case "rtu":
            return await _open_serial(endpoint)
        case "tls":
            context = tls_context(endpoint)
            _, wire = await loop.create_connection(
                lambda: Wire(TcpFraming()),
                endpoint.host,
                endpoint.port,
                ssl=context,
                server_hostname=endpoint.host,
            )
        case "rtu+tcp":
            _, wire = await loop.create_connection(lambda: Wire(RtuFraming()), endpoint.host, endpoint.port)
        case "tcp":
            _, wire = await loop.create_connection(lambda: Wire(TcpFraming()), endpoint.host, endpoint.port)
    return wire


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """TLS 1.2 or newer, device certificate checked; our own certificate when the endpoint names one.

    Modbus/TCP Security asks both sides for a certificate. Files are named in the endpoint, so that a site file can take
    their paths from the environment (`tls://gateway?ca=${CA_FILE}&cert=${CERT_FILE}&key=${KEY_FILE}`).

    Raises
    ------
    OSError
        A file cannot be read or is no certificate; names it.
    """
    try:
        context = ssl.create_default_context(cafile=endpoint.ca)
    except OSError as error:
        raise OSError(f"ca {endpoint.ca}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if endpoint.cert is not None:
        try:
            context.load_cert_chain(endpoint.cert, endpoint.key)
        except OSError as error:
            raise OSError(f"cert {endpoint.cert} with key {endpoint.key or 'inside'}: {error}") from error
    return context


async def _open_serial(endpoint: Endpoint) -> Wire:
    try:
        port = serial.Serial(
            endpoint.path,
            baudrate=endpoint.baud,
            parity=endpoint.parity,
            stopbits=endpoint.stopbits,
            timeout=0,
            write_timeout=0,
            exclusive=True,
        )
    except serial.SerialException as error:
        raise OSError(str(error)) from error
    wire = Wire(RtuFraming())
    wire.connection_made(_SerialTransport(port, wire))
    return wire


class _SerialTransport(asyncio.WriteTransport):
    """The part of a transport that `Wire` uses, on a serial port."""

    def __init__(self, port: "serial.Serial", wire: Wire) -> None:
        super().__init__()
        self._port, self._wire = port, wire
        self._fd: int = port.fileno()
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._unsent += data
        self._writable()

    def abort(self) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._port.close()

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._wire.fail(error)
            return
        if data:
            self._wire.data_received(data)
        else:
            self._wire.fail(ConnectionResetError("serial device gone"))

    def _writable(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._wire.fail(error)
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)
