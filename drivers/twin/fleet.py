"""A fleet of plain devices in a process of its own, for benchmarks: `python -m drivers.twin.fleet '{"count": 10}'`.

Prints one JSON line with the ports and serves until its standard input ends.
"""

import asyncio
import json
import resource
import struct
import sys

from drivers.registers import Table
from drivers.twin.image import RegisterImage
from drivers.twin.server import Station, serve_tcp

REGISTERS = 120
SLOW_S = 0.4


def raise_open_files() -> None:
    """Let this process hold as many sockets as the system grants."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def numbered(count: int) -> RegisterImage:
    """Registers that show their own address."""
    image = RegisterImage()
    image.define(Table.HOLDING, 0, struct.pack(f">{count}H", *range(count)))
    return image


async def run(count: int, dead: int, slow: int) -> None:
    """Serve until standard input ends. The first `dead` devices never answer, the next `slow` answer late."""
    servers = []
    for index in range(count):
        station = Station(units={1: numbered(REGISTERS)})
        station.faults.silent = index < dead
        station.faults.delay_s = SLOW_S if dead <= index < dead + slow else 0.0
        servers.append(await serve_tcp(station, "127.0.0.1", 0))
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    raise_open_files()
    options = json.loads(sys.argv[1])
    asyncio.run(run(options["count"], options.get("dead", 0), options.get("slow", 0)))
