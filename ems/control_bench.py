"""Figures of control: what the fast loop is worth on measured homes, and how long one pass of it takes."""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np

from drivers import LinkPool, known_drivers
from drivers.twin import serve
from ems.clock import ManualClock
from ems.config import load_sites
from ems.cycle import Ports, run_cycle
from ems.demo.field import endpoints
from ems.demo.street import START_AT, home_spec, recording, site_file, street, vehicle_sessions
from ems.fast_loop import FastLoop
from ems.live import Live
from ems.metrics import Metrics
from ems.planning import solve_in_process
from ems.simulate_command import simulate_sites
from ems.site import Site
from ems.wiring import make_foresight, make_meters, open_devices

STEP_S = 900
EVENING = START_AT.astimezone(UTC) + timedelta(hours=17)


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlFigure:
    """One line of `ems bench control`."""

    figure: str
    """What was measured."""
    value: float
    """The measurement."""
    unit: str
    """Its unit."""
    target: str
    """What was to be reached."""
    holds: bool
    """Whether it was."""
    how: str
    """How it was measured."""


def control_figures(*, days: int = 14, homes: int = 50, passes: int = 40) -> list[ControlFigure]:
    """Measure control.

    Parameters
    ----------
    days
        Length of the closed-loop runs on the ten measured homes.
    homes, passes
        Size of the street the loop is timed on, and how often.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [*_captured(Path(folder), days), *asyncio.run(_loop_times(Path(folder), homes, passes))]


def _captured(folder: Path, days: int) -> Iterator[ControlFigure]:
    placeholder = {
        role: {"endpoint": f"tcp://127.0.0.1:{port}", "unit_id": 1, "driver": driver}
        for role, port, driver in (
            ("meter", 1502, "sunspec"),
            ("inverter", 1503, "sunspec"),
            ("charger", 1504, "abb-terra-ac"),
        )
    }
    homes = street(10)
    path = folder / "ten.yaml"
    path.write_text(
        site_file(
            homes,
            {h.id: {r: p for r, p in placeholder.items() if h.vehicle or r != "charger"} for h in homes},
        ),
        encoding="utf-8",
    )
    sites = load_sites(path, known_drivers=known_drivers())
    runs = {
        "plan and fast loop": _run(sites, days, controller="plan", fast_loop=True),
        "plan followed blindly": _run(sites, days, controller="plan", fast_loop=False),
        "rules": _run(sites, days, controller="rules", fast_loop=True),
    }
    how = f"ten measured homes of the demo, {days} days from {START_AT.date()}, hourly, time-of-use prices, model forecast"
    best = runs["plan and fast loop"]
    for name, captured in runs.items():
        target, holds = (
            (">= 0.90", float(captured.mean()) >= 0.90) if captured is best else ("for comparison", True)
        )
        yield ControlFigure(
            figure=f"mean captured, {name}",
            value=float(captured.mean()),
            unit="frac",
            target=target,
            holds=holds,
            how=how,
        )
    ahead = int(np.count_nonzero(best > runs["rules"]))
    yield ControlFigure(
        figure="homes on which the plan captures more than rules",
        value=ahead,
        unit="of 10",
        target="10",
        holds=ahead == 10,
        how=how,
    )


def _run(sites: Sequence[Site], days: int, *, controller: str, fast_loop: bool) -> np.ndarray:
    reports = simulate_sites(
        sites,
        Path(),
        recording(),
        start_at=START_AT.astimezone(UTC),
        count=24 * days,
        controller=controller,
        forecast="model",
        horizon=timedelta(hours=48),
        fast_loop=fast_loop,
        progress=lambda done: None,
    )
    return np.array([np.nan if report.captured is None else report.captured for report in reports])


async def _loop_times(folder: Path, count: int, passes: int) -> list[ControlFigure]:
    """Time passes of the loop over a street on real sockets, field and service in this one process."""
    clock = ManualClock(at=EVENING)
    homes = street(count)
    recorded, sessions = recording(), vehicle_sessions()
    async with serve([home_spec(home, recorded, sessions) for home in homes], clock=clock.now) as served:
        path = folder / "street.yaml"
        path.write_text(site_file(homes, endpoints(served)), encoding="utf-8")
        sites = load_sites(path, known_drivers=known_drivers())

        async def journal(setpoints: object) -> None:
            return None

        async with LinkPool(clock=clock.now) as links:
            ports = Ports(
                devices=open_devices(sites, links),
                meters=make_meters(sites, step_s=STEP_S, readings={}, at=None),
                foresight=make_foresight(
                    sites, dict.fromkeys((s.id for s in sites), folder), step_s=STEP_S, horizon=192
                ),
                solve=solve_in_process,
                valid_for=timedelta(minutes=30),
                journal=journal,
            )
            record = await run_cycle(sites, ports, None, at=EVENING)
            loop = FastLoop(sites, ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=10))
            loop.follow(record)
            taken = []
            for index in range(passes):
                clock.at = EVENING + timedelta(seconds=20 * index)
                began = time.perf_counter()
                await loop.step(at=clock.at)
                taken.append((time.perf_counter() - began) * 1e3)
    how = f"{count} homes, {passes} passes: read every device, re-solve, write; simulated field in the same process"
    p99 = float(np.percentile(taken, 99))
    return [
        ControlFigure(
            figure="one pass of the fast loop, p50",
            value=float(np.median(taken)),
            unit="ms",
            target="for comparison",
            holds=True,
            how=how,
        ),
        ControlFigure(
            figure="one pass of the fast loop, p99",
            value=p99,
            unit="ms",
            target="<= 1000",
            holds=p99 <= 1000,
            how=how,
        ),
    ]
