"""The service as `ems run` starts it, with a clock that can be set and parts that can be made to fail from outside.

    python -m tests.scenarios.sabotaged PORT SABOTAGE.json SITE.yaml ...

What is wrong stands in the file, which is read again whenever it matters: `clock_off_s` (site clock), `solver`
(`hangs`, `fails`, `slow`), `forecast` (`missing`), `loop` (`freezes`: the event loop stands still for a while).
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn

from api.app import create_app
from api.settings import Settings as PageSettings
from ems.clock import Clock
from ems.planning import solve_in_process
from ems.service import make_service
from ems.settings import read_settings
from ems.watchdog import Manager
from optimizer import DispatchProblem, DispatchSolution

SLOW_S = 3.0
FREEZE_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sabotage:
    """What is wrong at present."""

    path: Path

    def of(self, part: str) -> Any:
        try:
            return json.loads(self.path.read_text(encoding="utf-8")).get(part)
        except (FileNotFoundError, ValueError):
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class SettableClock:
    """A clock that somebody can set."""

    inner: Clock
    sabotage: Sabotage

    def now(self) -> datetime:
        return self.inner.now() + timedelta(seconds=float(self.sabotage.of("clock_off_s") or 0.0))

    def wall_seconds(self, site_seconds: float) -> float:
        return self.inner.wall_seconds(site_seconds)


def main(port: int, sabotage: Sabotage, sites: Sequence[str]) -> None:
    """Run until told to end."""

    def solve(problems: Sequence[DispatchProblem]) -> Sequence[DispatchSolution]:
        wrong = sabotage.of("solver")
        if wrong == "fails":
            raise RuntimeError("the optimiser is out of order")
        if wrong == "slow":
            time.sleep(SLOW_S)
        while wrong == "hangs":  # until it is mended; the batch it was given is never answered before
            time.sleep(0.1)
            wrong = sabotage.of("solver")
        return solve_in_process(problems)

    os.environ["EMS_SITES"] = ":".join(sites)
    settings = read_settings(os.environ)
    settings = replace(settings, clock=SettableClock(inner=settings.clock, sabotage=sabotage))
    service = make_service(settings, solve=solve, manager=Manager.of(os.environ))
    foresight = service._ports.foresight
    foresee = foresight.foresee

    def foresee_or_not(*args: Any, **keywords: Any) -> Any:
        if sabotage.of("forecast") == "missing":
            raise RuntimeError("there is no forecast")
        return foresee(*args, **keywords)

    foresight.foresee = foresee_or_not  # type: ignore[method-assign]

    async def freeze_when_told() -> None:
        while True:
            if sabotage.of("loop") == "freezes":
                time.sleep(FREEZE_S)  # noqa: ASYNC251 - that is the point
            await asyncio.sleep(0.1)

    start = service.start

    async def start_and_watch() -> None:
        await start()
        service.saboteur = asyncio.create_task(freeze_when_told())  # type: ignore[attr-defined]

    service.start = start_and_watch  # type: ignore[method-assign]
    app = create_app(service, PageSettings(demo=True, open_metrics=True))
    uvicorn.Server(
        uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    ).run()


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    main(int(sys.argv[1]), Sabotage(path=Path(sys.argv[2])), sys.argv[3:])
