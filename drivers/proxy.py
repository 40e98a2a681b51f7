"""Let a second reader use a device that accepts one client: a Modbus TCP server in front of our own link.

Requests of other clients queue behind ours on the same link, so they can neither collide with them nor wear out the
device faster than its pace allows. Writes of others are refused unless allowed on purpose.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from drivers.frames import (
    MAX_PDU,
    MAX_READ_REGISTERS,
    READ_DISCRETE_INPUTS,
    READ_FUNCTIONS,
    WRITE_COIL,
    WRITE_COILS,
    WRITE_REGISTER,
    WRITE_REGISTERS,
)
from drivers.modbus import Link, LinkError, LinkPool
from drivers.protocols import TroubleKind

_WRITES: Final = frozenset({WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS})
_ILLEGAL_FUNCTION: Final = 1
_ILLEGAL_VALUE: Final = 3
_TARGET_SILENT: Final = 11


@asynccontextmanager
async def share(
    endpoint: str, *, links: LinkPool, host: str = "127.0.0.1", port: int = 0, allow_writes: bool = False
) -> AsyncIterator[str]:
    """Serve an endpoint to other clients until the context ends; gives the endpoint they use.

    Parameters
    ----------
    endpoint
        The device's own endpoint, as given to `open_device`.
    allow_writes
        Pass writes of other clients through; by default they get exception 1.
    """
    link = links.link(endpoint)
    clients: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            clients.add(task)
            task.add_done_callback(clients.discard)
        try:
            await _converse(reader, writer, link, allow_writes=allow_writes)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(client, host, port)
    try:
        yield f"tcp://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(clients):
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, *, allow_writes: bool
) -> None:
    while True:
        head = await reader.readexactly(7)
        transaction, protocol, length, unit = struct.unpack(">HHHB", head)
        if protocol or not 2 <= length <= MAX_PDU + 1:
            return
        pdu = await reader.readexactly(length - 1)
        answer = await _answer(link, unit, pdu, allow_writes=allow_writes)
        writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
        await writer.drain()


async def _answer(link: Link, unit: int, pdu: bytes, *, allow_writes: bool) -> bytes:
    function = pdu[0]
    size: int
    echo: bytes | None = None
    if function in READ_FUNCTIONS:
        if len(pdu) != 5:
            return bytes((function | 0x80, _ILLEGAL_VALUE))
        (count,) = struct.unpack_from(">H", pdu, 3)
        bits = function <= READ_DISCRETE_INPUTS
        if not 1 <= count <= (2000 if bits else MAX_READ_REGISTERS):
            return bytes((function | 0x80, _ILLEGAL_VALUE))
        size = 2 + ((count + 7) // 8 if bits else 2 * count)
    elif function in _WRITES and allow_writes and len(pdu) >= 5:
        size, echo = 5, pdu[:5]
    else:
        return bytes((function | 0x80, _ILLEGAL_FUNCTION))
    try:
        return await link.forward(unit, pdu, size, echo)
    except LinkError as error:
        read_only = error.trouble.kind is TroubleKind.READ_ONLY
        return bytes((function | 0x80, _ILLEGAL_FUNCTION if read_only else _TARGET_SILENT))
