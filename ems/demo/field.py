"""The demo's field: simulated homes on Modbus TCP, in a process of their own, so that the service may die without them.

Writes `endpoints.json` once every device answers, and `truth.json` (what truly flowed) about once a second.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from drivers.twin import ServedHome, serve
from ems.clock import ScaledClock
from ems.demo.street import home_spec, recording, street, vehicle_sessions


async def run_field(folder: Path, count: int, clock: ScaledClock) -> None:
    """Serve the street until the process is told to end or its parent is gone."""
    homes = street(count)
    recorded = recording()
    sessions = vehicle_sessions()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    parent = os.getppid()
    specs = [home_spec(home, recorded, sessions) for home in homes]
    async with serve(specs, clock=clock.now) as served:
        write_atomically(folder / "endpoints.json", endpoints(served))
        while not stopped.is_set() and os.getppid() == parent:
            write_atomically(folder / "truth.json", truth(served))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), timeout=1.0)
        write_atomically(folder / "truth.json", truth(served))


def endpoints(served: Sequence[ServedHome]) -> dict[str, dict[str, dict[str, object]]]:
    """Return where each device answers, by home and role."""
    return {
        home.spec.name: {
            device.role: {"endpoint": device.endpoint, "unit_id": device.unit_id, "driver": device.driver}
            for device in home.devices
        }
        for home in served
    }


def truth(served: Sequence[ServedHome]) -> dict[str, object]:
    """Return what truly flowed in each home since the start."""
    told: dict[str, object] = {}
    for home in served:
        home.advance()
        told[home.spec.name] = {**asdict(home.totals), "stored_frac": home.stored_frac}
    return told


def write_atomically(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, default=str), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    asyncio.run(run_field(Path(sys.argv[1]), int(sys.argv[2]), ScaledClock.parse(sys.argv[3])))
