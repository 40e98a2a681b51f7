"""What `ems simulate` does once its arguments are read."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from ems.recorded import Recording
from ems.simulation import Controller, Foreknowledge, Run, SimulationReport, simulate, with_control
from ems.site import Site
from ems.wiring import make_foresight
from forecasting import SlotMean


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
) -> tuple[SimulationReport, ...]:
    """Simulate a batch; every consent counts as given, as nobody's appliance moves."""
    run = Run(
        controller=Controller(controller),
        forecast=Foreknowledge(forecast),
        horizon=horizon,
        fast_loop=fast_loop,
    )
    steered = [with_control(site) for site in sites]
    foresight = None
    if (
        run.controller is Controller.PLAN
        and run.forecast is not Foreknowledge.PERFECT
        and horizon is not None
    ):
        makers = {"make_load": SlotMean, "make_pv": SlotMean} if run.forecast is Foreknowledge.NAIVE else {}
        foresight = make_foresight(
            steered,
            dict.fromkeys((site.id for site in sites), folder),
            step_s=int(recording.step.total_seconds()),
            horizon=max(2, int(horizon / recording.step)),
            **makers,
        )
    return simulate(steered, recording, foresight, start_at=start_at, count=count, run=run, progress=progress)
