"""Beside the cycle: fit forecast models anew, keep them, ask for weather, hold what was forecast against what came."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import get_context

from ems.errors import StoreError
from ems.feedback import Edge
from ems.foresight import Foresight
from ems.metrics import Metrics
from ems.scoring import DAY_AHEAD_H, DRIFT_WINDOW_DAYS, SERIES, Scorer, drift_of
from ems.site import Site
from ems.store import Store
from ems.wiring import keep_models, learn_vehicles

log = logging.getLogger("ems.forecast_watch")

SCORE_EVERY = timedelta(hours=1)
"""How often it is looked whether a local day is over somewhere, in site time."""
GIVES_WAY = 10
"""Niceness of the process that fits models."""
SKILL_DAYS = 28
"""Days the metrics of forecasts are taken over."""


def process_that_gives_way() -> Executor:
    """Return a process of its own that gives way to all others: a night's fitting must not delay the fast loop."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=os.nice, initargs=(GIVES_WAY,))


class ForecastWatch:
    """Looks after the forecasters of a service; nothing here makes a cycle wait or fail.

    Parameters
    ----------
    sites, foresight, store, metrics
        Those of the service.
    step_s
        Planning interval [s].
    elsewhere
        Makes where models are fitted; ended after each fit.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        foresight: Foresight,
        *,
        store: Store,
        metrics: Metrics,
        step_s: int,
        elsewhere: Callable[[], Executor] = process_that_gives_way,
    ) -> None:
        self._foresight = foresight
        self._store = store
        self._metrics = metrics
        self._elsewhere = elsewhere
        self._scorer = Scorer(sites, store, step_s=step_s)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._scored_at: datetime | None = None
        self._assessed = False
        self._told: frozenset[Edge] = frozenset()
        self._stopping = False
        self.trouble: str | None = None
        """Why models could not be fitted anew; None when they could."""

    def after_cycle(self, at: datetime) -> None:
        """Begin what is due, each in a task of its own; what still runs is not begun again."""
        weather = self._foresight.weather
        if weather is not None:
            self._metrics.weather_age_seconds.set(weather.oldest_age_s(at))
            if weather.due(at):
                self._begin("weather", partial(weather.refresh, at))
        to_score = self._scored_at is None or not timedelta(0) <= at - self._scored_at < SCORE_EVERY
        if to_score and self._begin("score", partial(self._score, at)):
            self._scored_at = at
            if self._foresight.vehicles.wanted:
                self._begin("vehicles", partial(self._hear_of_vehicles, at))
        if self._foresight.refit_due(at):
            self._begin("refit", partial(self._refit, at))

    async def stop(self) -> None:
        """Let what runs come to an end; scoring ends after the site it is at."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        if self._foresight.weather is not None:
            await self._foresight.weather.close()

    def _begin(self, name: str, work: partial[Coroutine[None, None, None]]) -> bool:
        running = self._tasks.get(name)
        if self._stopping or (running is not None and not running.done()):
            return False
        self._tasks[name] = asyncio.create_task(work(), name=f"forecast-{name}")
        return True

    async def _refit(self, at: datetime) -> None:
        try:
            await asyncio.to_thread(self._fit_and_keep, at)
        except Exception as error:
            if self.trouble is None:
                log.exception("foresight.refit_failed the models of yesterday stay in use")
            self.trouble = f"{type(error).__name__}: {error}"
        else:
            self.trouble = None

    def _fit_and_keep(self, at: datetime) -> None:
        with self._elsewhere() as executor:
            self._foresight.refit(at, executor=executor)
        keep_models(self._foresight, self._store)

    async def _hear_of_vehicles(self, at: datetime) -> None:
        try:
            await asyncio.to_thread(
                learn_vehicles, self._foresight, self._store, now=at, stop=lambda: self._stopping
            )
        except StoreError as error:
            log.warning("vehicles.not_heard_of cause=%s", error)

    async def _score(self, at: datetime) -> None:
        try:
            await asyncio.to_thread(self._score_and_tell, at)
        except StoreError as error:
            log.warning("forecasts.not_scored cause=%s", error)
        except Exception:
            log.exception("forecasts.not_scored")

    def _score_and_tell(self, at: datetime) -> None:
        scored = self._scorer.score_ended(at, stop=lambda: self._stopping)
        if not scored and self._assessed:
            return
        self._assessed = True
        drift = drift_of(self._store.forecast_losses(at - timedelta(days=DRIFT_WINDOW_DAYS + 2), DAY_AHEAD_H))
        self._foresight.drifting = drift.standing
        new = [edge for edge in drift.edges if edge not in self._told]
        self._told = frozenset(drift.edges)
        for edge in new:
            log.warning(
                "edge site=%s %s became=%s cause=%s", edge.site_id, edge.subject, edge.became, edge.cause
            )
        if new:
            self._store.save_edges(new)
        for series in SERIES:
            count = sum(name == series for _, name in drift.standing)
            self._metrics.forecast_drifting.labels(series=series).set(count)
        self._metrics.tell_skill(self._store.forecast_scores_of_all(at - timedelta(days=SKILL_DAYS)))
