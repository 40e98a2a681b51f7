"""A local server that answers like a weather service, or as badly as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(**changes: object) -> dict[str, object]:
    times = [f"2025-06-01T{hour:02d}:00" for hour in range(4)]
    hourly: dict[str, object] = {
        "time": times,
        "temperature_2m": [10.0, 12.0, None, 16.0],
        "shortwave_radiation": [0.0, 100.0, 300.0, 500.0],
    }
    hourly.update(changes)
    units = {"time": "iso8601", "temperature_2m": "°C", "shortwave_radiation": "W/m²"}
    return {
        "latitude": 37.5,
        "longitude": 127.0,
        "utc_offset_seconds": 0,
        "hourly_units": units,
        "hourly": hourly,
    }


def reply(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def serving(handler: Handler, asked: list[str] | None = None) -> AsyncIterator[str]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if asked is not None:
                asked.append(head.decode())
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1/forecast"
    finally:
        server.close()
