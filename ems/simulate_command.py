"""What `ems simulate` does once its arguments are read."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ems.recorded import Recording
from ems.simulation import Controller, Foreknowledge, Progress, Run, SimulationReport, simulate, with_control
from ems.site import Site
from ems.wiring import make_foresight
from forecasting import LoadForecaster, SlotMean, SolarForecaster

POLL_S = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """Everything a simulation needs, in one value that can be handed to another process."""

    sites: tuple[Site, ...]
    """The batch; every consent counts as given, as nobody's appliance moves."""
    folder: Path
    """Where relative paths of the sites start."""
    recording: Recording
    """The data."""
    start_at: datetime
    """Start of the span."""
    count: int
    """Intervals of the span."""
    run: Run
    """Who steers, with what foreknowledge."""


def simulate_sites(
    sites: Sequence[Site],
    folder: Path,
    recording: Recording,
    *,
    start_at: datetime,
    count: int,
    controller: str,
    forecast: str,
    horizon: timedelta | None,
    fast_loop: bool,
    progress: Callable[[int], None],
    jobs: int = 1,
) -> tuple[SimulationReport, ...]:
    """Simulate a batch, in `jobs` processes of about equally many sites each; `progress` gets intervals done."""
    whole = Simulation(
        sites=tuple(with_control(site) for site in sites),
        folder=folder,
        recording=recording,
        start_at=start_at,
        count=count,
        run=Run(
            controller=Controller(controller),
            forecast=Foreknowledge(forecast),
            horizon=horizon,
            fast_loop=fast_loop,
        ),
    )
    jobs = min(jobs, len(sites))
    if jobs <= 1:
        return carry_out(whole, progress)
    size = -(-len(sites) // jobs)
    parts = [_part(whole, slice(first, first + size)) for first in range(0, len(sites), size)]
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_count_in, initargs=(done,)) as pool:
        futures = [pool.submit(_carry_out_counted, part) for part in parts]
        while wait(futures, timeout=POLL_S).not_done:
            progress(int(done.value) // len(parts))
        return tuple(report for future in futures for report in future.result())


def carry_out(simulation: Simulation, progress: Progress) -> tuple[SimulationReport, ...]:
    """Run one simulation in this process."""
    run, sites = simulation.run, simulation.sites
    foresight = None
    if (
        run.controller is Controller.PLAN
        and run.forecast is not Foreknowledge.PERFECT
        and run.horizon is not None
    ):
        naive = run.forecast is Foreknowledge.NAIVE
        foresight = make_foresight(
            sites,
            dict.fromkeys((site.id for site in sites), simulation.folder),
            step_s=int(simulation.recording.step.total_seconds()),
            horizon=max(2, int(run.horizon / simulation.recording.step)),
            make_load=SlotMean if naive else LoadForecaster,
            make_pv=SlotMean if naive else SolarForecaster,
        )
    return simulate(
        sites,
        simulation.recording,
        foresight,
        start_at=simulation.start_at,
        count=simulation.count,
        run=run,
        progress=progress,
    )


def _part(whole: Simulation, rows: slice) -> Simulation:
    return Simulation(
        sites=whole.sites[rows],
        folder=whole.folder,
        recording=whole.recording,
        start_at=whole.start_at,
        count=whole.count,
        run=whole.run,
    )


_done: Any = None
"""Intervals done by all worker processes together; set in a worker when it starts."""


def _count_in(shared: Any) -> None:
    global _done  # noqa: PLW0603 - how a process pool hands a shared counter to its workers
    _done = shared


def _carry_out_counted(simulation: Simulation) -> tuple[SimulationReport, ...]:
    def count(_: int) -> None:
        with _done.get_lock():
            _done.value += 1

    return carry_out(simulation, count)
