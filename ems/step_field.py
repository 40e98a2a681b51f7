"""Homes whose load jumps, on real sockets in a process of their own: what `ems bench control` measures answers on.

Writes `endpoints.json` once every device answers, and `answers.json` when it is told to end: for every jump, how long it
took until the battery's power changed, and until the connection was within its limit again.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from drivers.twin import HomeSpec, Profile, ServedHome, serve
from ems.demo.field import endpoints, write_atomically
from ems.demo.street import Home, home_spec, recording, street

PERIOD_S = 40
"""A home's load is high for half of this and low for the other half [s]; homes begin one after the other."""
CALM_S = 120
"""The load is low for so long before the first jump [s]."""
LOW_KW, HIGH_KW = 0.8, 8.0
NOISE_KW = 0.03
"""What the load wavers by from second to second, as real loads do [kW]."""
LIMIT_KW = 6.0
"""Import limit of the connection: broken by the high load, kept with the battery's help [kW]."""


def homes_without_vehicle(count: int) -> list[Home]:
    """Return a street in which load and battery are all there is."""
    return [replace(home, vehicle=False) for home in street(count)]


def jumps_at_s(home: int, count: int, *, start_s: float, until_s: float) -> list[float]:
    """Return the instants at which a home's load jumps up [epoch s]."""
    first_s = start_s + PERIOD_S * home / count
    return [float(at) for at in np.arange(first_s, until_s, PERIOD_S)]


def jumping(spec: HomeSpec, home: int, count: int, *, start_at: datetime, span_s: int) -> HomeSpec:
    """Return a home with a full battery, no sun and a load that jumps, for `span_s` from `start_at` on."""
    rng = np.random.default_rng(home)
    begins_at = start_at + timedelta(seconds=PERIOD_S * home / count - CALM_S)
    seconds = np.arange(CALM_S + span_s) - CALM_S
    high = (seconds >= 0) & (seconds % PERIOD_S < PERIOD_S / 2)
    power_kw = np.where(high, HIGH_KW, LOW_KW) + rng.normal(0.0, NOISE_KW, len(seconds))
    load = Profile(start_at=begins_at, step_s=1.0, power_kw=np.maximum(0.0, power_kw))
    dark = Profile(start_at=start_at, step_s=3600.0, power_kw=np.zeros(1))
    battery = None if spec.battery is None else replace(spec.battery, stored_frac=0.95)
    return replace(spec, load=load, pv=dark, battery=battery, import_limit_kw=LIMIT_KW)


@dataclass
class Watched:
    """What one home's battery and connection do whenever an order reaches it."""

    home: ServedHome
    seen: list[tuple[float, float, float]] = field(default_factory=list)
    """Instant [epoch s], battery power [kW], net import [kW]."""

    def watch(self) -> None:
        """Look whenever flows are settled anew by an order."""
        physics = self.home.physics
        settle: Callable[[], None] = physics.settle

        def look() -> None:
            settle()
            self.seen.append((physics.now_s, physics.flows.battery_kw, physics.flows.net_import_kw))

        physics.settle = look  # type: ignore[method-assign]

    def answers(self, jumps_s: list[float]) -> list[dict[str, float | None]]:
        """Return for each jump how long battery and connection took [s]; None: not within half a period."""
        found: list[dict[str, float | None]] = []
        for jump_s in jumps_s:
            before_kw = next((kw for at, kw, _ in reversed(self.seen) if at < jump_s), 0.0)
            after = [row for row in self.seen if jump_s <= row[0] < jump_s + PERIOD_S / 2]
            found.append(
                {
                    "answered_s": next(
                        (at - jump_s for at, kw, _ in after if abs(kw - before_kw) > 0.2), None
                    ),
                    "within_s": next((at - jump_s for at, _, net in after if net <= LIMIT_KW + 0.001), None),
                }
            )
        return found


async def run_field(folder: Path, count: int, start_at: datetime, span_s: int) -> None:
    """Serve the homes until the process is told to end."""
    stopped, parent = asyncio.Event(), os.getppid()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    recorded = recording()
    specs = [
        jumping(home_spec(home, recorded, {}), index, count, start_at=start_at, span_s=span_s)
        for index, home in enumerate(homes_without_vehicle(count))
    ]
    async with serve(specs, clock=lambda: datetime.now(UTC)) as served:
        watched = [Watched(home) for home in served]
        for one in watched:
            one.watch()
        write_atomically(folder / "endpoints.json", endpoints(served))
        while not stopped.is_set() and os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), timeout=1.0)
        now_s = datetime.now(UTC).timestamp()
        answers = []
        for index, one in enumerate(watched):
            jumps_s = jumps_at_s(index, count, start_s=start_at.timestamp(), until_s=now_s - PERIOD_S / 2)
            for jump_s, answer in zip(jumps_s, one.answers(jumps_s), strict=True):
                answers.append({"at_s": jump_s, **answer})
        (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(
        run_field(Path(sys.argv[1]), int(sys.argv[2]), datetime.fromisoformat(sys.argv[3]), int(sys.argv[4]))
    )
