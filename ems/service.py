"""The service: schedule, supervise, stop. One process, one event loop, one batch of sites."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from drivers import LinkPool
from ems.channels import Channels, Ledger, opener
from ems.clock import interval_start
from ems.cycle import CycleRecord, Ports, run_cycle
from ems.errors import StoreError
from ems.fast_loop import FastLoop, Pass
from ems.feedback import Edge
from ems.forecast_watch import ForecastWatch
from ems.foresight import Foresight
from ems.live import Live
from ems.metrics import Metrics
from ems.orders import Order
from ems.outbox import Outbox
from ems.plan import PlanSource
from ems.planning import solve_in_process
from ems.publishing import Delivery, DeliveryOutcome, publish
from ems.readings import Device, Snapshot
from ems.schedule import GridTrigger
from ems.setpoints import Setpoint, SetpointSource, derive_setpoints
from ems.settings import Settings, read_settings
from ems.site import Site
from ems.store import Retention, Store
from ems.wiring import (
    device_figures,
    keep_models,
    learn_from_recording,
    learn_from_store,
    link_figures,
    make_foresight,
    make_meters,
    make_weather,
    open_devices,
    read_sites,
    restore_memories,
    restore_models,
    share_devices,
)

log = logging.getLogger("ems.service")

GRACE = timedelta(minutes=1)
"""Setpoints outlive what they are for by this much site time at least; a restart fits in."""
KEEP_READINGS_EVERY = timedelta(minutes=1)
"""Readings of the fast loop are kept once in this much site time."""
STOP_WITHIN_S = 10.0
"""Longest wait for a running pass when the service stops [s]."""
PRUNE_EVERY = timedelta(hours=6)


class Service:
    """Runs the cycle and the fast loop for its sites, and keeps what happened.

    Parameters
    ----------
    settings
        How to run.
    sites
        The batch.
    store
        Where records go.
    links, devices
        The field connections, closed when the service stops, and the devices on them by (site id, device name).
    foresight
        The forecasters.
    folders, environment
        Where the secrets of building controllers lie: the folder of each site's file, and variables. Needed only
        where a site names a controller that has one.
    """

    def __init__(
        self,
        settings: Settings,
        sites: Sequence[Site],
        *,
        store: Store,
        links: LinkPool,
        devices: Mapping[tuple[str, str], Device],
        foresight: Foresight,
        folders: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.sites = tuple(sites)
        self.store = store
        self.clock = settings.clock
        self.metrics = Metrics()
        self.metrics.watch(partial(device_figures, devices), partial(link_figures, links))
        self.live = Live()
        self.outbox = Outbox(self.metrics)
        self.ledger = Ledger(self.sites, store=store, clock=self.clock, metrics=self.metrics)
        """What building controllers said."""
        self._channels = Channels(
            self.sites,
            link=opener(
                folders=folders or {},
                environment=environment or {},
                clock=self.clock,
                live=self.live,
                store=store,
            ),
            ledger=self.ledger,
            store=store,
            outbox=self.outbox,
            clock=self.clock,
            metrics=self.metrics,
            read_only=settings.read_only,
        )
        self.latest = store.latest_record()
        """Record of the latest cycle, of this process or of the one before."""
        self.cycle_trouble: str | None = None
        """Why the latest cycle failed; None when it did not."""
        self._links = links
        self._step_s = int(settings.interval.total_seconds())
        self._overlapped = 0
        self._kept_at: datetime | None = None
        self._pruned_at: datetime | None = None
        self._orders: tuple[Order, ...] = ()
        self._loop_task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._pruning: asyncio.Future[None] | None = None
        self._shares = contextlib.AsyncExitStack()
        self._share_troubles: list[str] = []
        before = self.latest
        self._ports = Ports(
            devices=devices,
            meters=make_meters(
                self.sites,
                step_s=self._step_s,
                readings={} if before is None else {r.site_id: r for r in before.snapshot.sites},
                at=None if before is None else before.at,
            ),
            foresight=foresight,
            solve=solve_in_process,
            valid_for=settings.interval + GRACE + self._loop_span,
            journal=self._journal,
        )
        self._fast_loop = FastLoop(
            self.sites,
            self._ports,
            live=self.live,
            metrics=self.metrics,
            valid_for=GRACE + self._loop_span,
        )
        self._forecasts = ForecastWatch(
            self.sites, foresight, store=store, metrics=self.metrics, step_s=self._step_s
        )
        self._trigger = GridTrigger(self.clock, self._step_s)
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    async def start(self) -> None:
        """Begin: follow the plans left by the process before, catch up, then keep the schedule."""
        if self.latest is not None:
            self._fast_loop.follow(self.latest)
        self._shares, self._share_troubles = await share_devices(self.sites, self._links)
        await self._settle_unanswered()
        loop = asyncio.get_running_loop()
        self.ledger.listen(
            lambda setpoint, delivery: asyncio.run_coroutine_threadsafe(
                self._fast_loop.hear(setpoint, delivery), loop
            )
        )
        await self._channels.start()
        self._scheduler.add_listener(self._note_overlap, EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_job(self._cycle, trigger=self._trigger, id="cycle")
        boundary = self._trigger.boundary()
        if self.latest is None or self.latest.at < boundary:
            await self._cycle()
        self._scheduler.start()
        if self.settings.fast_loop_s > 0:
            self._loop_task = asyncio.create_task(self._follow_meters(), name="fast-loop")
        log.info("service.started sites=%d interval_s=%d", len(self.sites), self._step_s)

    async def stop(self) -> None:
        """End: no new cycle, devices back to their own mode, everything that waits written."""
        self._stopping.set()
        if self._loop_task is not None:
            # the running pass is let finish: what it began to write gets its outcome
            await asyncio.wait([self._loop_task], timeout=STOP_WITHIN_S)
            self._loop_task.cancel()
        async with self._fast_loop.acting:
            if self._scheduler.running:
                self._scheduler.shutdown(wait=False)
            await self._release()
        await self._channels.stop()
        await self._settle_unanswered()
        await self._forecasts.stop()
        self._keep_memories(self._ports.devices)
        if self._pruning is not None:
            await self._pruning
        if not await self.outbox.flush():
            log.error("store.lost_at_stop waiting=%d cause=%s", self.outbox.waiting, self.outbox.trouble)
        await self._shares.aclose()
        await self._links.close()
        self.store.close()
        log.info("service.stopped")

    def problems(self) -> tuple[str, ...]:
        """Return why the service is not well, each in one line; empty when it is."""
        found = []
        if self.latest is None:
            found.append("no cycle has run yet")
        elif self.clock.now() - self.latest.at > 2 * self.settings.interval + GRACE:
            found.append(f"the latest cycle is from {self.latest.at.isoformat()}")
        if self.cycle_trouble:
            found.append(f"the latest cycle failed: {self.cycle_trouble}")
        if self._fast_loop.trouble:
            found.append(f"the fast loop left a site to its devices: {self._fast_loop.trouble}")
        if self._forecasts.trouble:
            found.append(f"forecast models could not be fitted anew: {self._forecasts.trouble}")
        found.extend(self._share_troubles)
        if self.outbox.dropped:
            found.append(f"{self.outbox.dropped} writes to the store were given up")
        if self.outbox.trouble:
            found.append(f"the store refuses: {self.outbox.trouble} ({self.outbox.waiting} writes wait)")
        return tuple(found)

    async def _cycle(self) -> None:
        """Run one cycle for the boundary just reached; an error ends this cycle, never the schedule."""
        if self._stopping.is_set():
            return
        at = self._trigger.boundary()
        before = self.latest
        if before is not None and before.at > at + self.settings.interval:
            log.error(
                "clock.was_ahead latest=%s now=%s: beginning anew", before.at.isoformat(), at.isoformat()
            )
            before = self.latest = self._kept_at = self._pruned_at = None
            for meter in self._ports.meters.values():
                meter.forget()
        if before is not None and before.at >= at:
            return
        overlapped, self._overlapped = self._overlapped, 0
        missed = (
            0
            if before is None
            else max(0, round((at - before.at).total_seconds() / self._step_s) - 1 - overlapped)
        )
        self.metrics.missed.inc(missed)
        self.metrics.overlapped.inc(overlapped)
        if missed:
            log.warning("cycle.missed count=%d until=%s", missed, at.isoformat())
        try:
            self._orders = await self._ordered(at)
            async with self._fast_loop.acting:
                record = await run_cycle(
                    self.sites,
                    self._ports,
                    before,
                    at=at,
                    orders=self._orders,
                    conducts=self._fast_loop.book.conducts,
                    missed=missed,
                    overlapped=overlapped,
                )
                self._fast_loop.follow(record)
        except Exception as error:
            if self.cycle_trouble is None:
                log.exception("cycle.failed at=%s", at.isoformat())
            self.cycle_trouble = f"{type(error).__name__}: {error}"
            self.metrics.failed.inc()
            return
        if self.cycle_trouble is not None:
            log.warning("cycle.recovered at=%s", at.isoformat())
        self.cycle_trouble = None
        self.latest = record
        self._tell(record)
        self.outbox.post(partial(self._save, record))
        self._keep_memories(self._ports.devices)
        self._prune(at)
        self._forecasts.after_cycle(at)

    def _save(self, record: CycleRecord) -> None:
        self.store.save_cycle(record)
        self.live.announce()

    def _tell(self, record: CycleRecord) -> None:
        """Count and log what one cycle did; logs tell edges, metrics tell levels."""
        self.metrics.cycles.inc()
        self.metrics.cycle_seconds.observe(record.took_ms / 1e3)
        self.metrics.last_cycle_timestamp.set(record.at.timestamp())
        for plan in record.plans:
            self.metrics.plans.labels(source=plan.source).inc()
            if plan.source is PlanSource.OPTIMAL:
                self.metrics.solve_seconds.observe(plan.solve_ms / 1e3)
        for delivery in record.deliveries:
            self.metrics.setpoints.labels(outcome=delivery.outcome).inc()
        self._count(record.snapshot)
        self._tell_edges(record.edges)

    def _tell_edges(self, edges: Sequence[Edge]) -> None:
        for edge in edges:
            log.warning(
                "edge site=%s %s became=%s cause=%s", edge.site_id, edge.subject, edge.became, edge.cause
            )

    def _count(self, snapshot: Snapshot) -> None:
        for reading in snapshot.sites:
            for sample in reading.samples.values():
                self.metrics.readings.labels(quality=sample.quality).inc()
            if reading.troubles:
                self.metrics.device_troubles.labels(site=reading.site_id).inc(len(reading.troubles))

    async def _follow_meters(self) -> None:
        """Run the fast loop until cancelled; a failing pass is logged once and the next one tried."""
        failing = False
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            at = self.clock.now()
            try:
                self._orders = await self._ordered(at)
                self._keep(await self._fast_loop.step(at=at, orders=self._orders), at)
                failing = False
            except Exception:
                if not failing:
                    log.exception("fast_loop.failed")
                failing = True
            pause_s = max(0.0, self.settings.fast_loop_s - (loop.time() - began))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=pause_s)

    def _keep(self, done: Pass, at: datetime) -> None:
        """Keep what one pass did: every setpoint and change, and readings once in a while."""
        if done.edges:
            self._tell_edges(done.edges)
            self.outbox.post(partial(self.store.save_edges, done.edges))
        if done.setpoints:
            self.outbox.post(partial(self.store.save_setpoints, done.setpoints, done.deliveries))
            assets = {site.id: site for site in self.sites}
            written = {(one.site_id, one.asset) for one in done.deliveries if one.written}
            self._keep_memories(
                (site_id, asset.device)
                for site_id, name in written
                if (asset := assets[site_id].asset(name)) is not None
            )
        if self._kept_at is None or at - self._kept_at >= KEEP_READINGS_EVERY:
            self._kept_at = at
            self._count(done.snapshot)
            self.outbox.post(partial(self.store.save_readings, done.snapshot.sites, at))

    def _keep_memories(self, keys: Iterable[tuple[str, str]]) -> None:
        """Keep what devices must not forget: after every cycle, and at once where a register was written."""
        kept = {key: self._ports.devices[key].export_memory() for key in keys}
        if kept:
            self.outbox.post(partial(self.store.save_device_memories, kept, self.clock.now()))

    async def _journal(self, setpoints: Sequence[Setpoint]) -> None:
        await self.outbox.put(partial(self.store.save_setpoints, tuple(setpoints), ()))
        self._channels.offer(setpoints)

    async def _ordered(self, at: datetime) -> tuple[Order, ...]:
        """Return what people and the grid ask, now or later; the last known answer while the store refuses."""
        try:
            return await asyncio.to_thread(self.store.orders_from, at)
        except StoreError:
            return self._orders

    async def _settle_unanswered(self) -> None:
        """Say of setpoints journalled by a process that then died what is known of them: that nobody knows."""
        now = self.clock.now()
        since = now - 2 * self._ports.valid_for
        if self.latest is not None:
            since = min(since, self.latest.at - self._ports.valid_for)

        def unanswered() -> list[Setpoint]:
            return [
                one.setpoint
                for site in self.sites
                for one in self.store.setpoints(site.id, since, now)
                if one.delivery is None
            ]

        setpoints = await asyncio.to_thread(unanswered)
        if not setpoints:
            return
        log.warning("setpoints.unanswered count=%d the process before died while writing", len(setpoints))
        deliveries = tuple(
            Delivery(
                setpoint_id=setpoint.id,
                site_id=setpoint.site_id,
                asset=setpoint.asset,
                outcome=DeliveryOutcome.UNVERIFIED,
                held_kw=None,
                at=now,
                written=True,
                detail="the service died before the device answered",
            )
            for setpoint in setpoints
        )
        await self.outbox.put(partial(self.store.save_setpoints, setpoints, deliveries))

    async def _release(self) -> None:
        """Give every steered device back to its own mode."""
        at = self.clock.now()
        setpoints = [
            setpoint
            for site in self.sites
            for setpoint in derive_setpoints(
                site, None, plan=None, at=at, valid_until=at + GRACE, source=SetpointSource.SAFETY
            )
        ]
        deliveries = await publish(
            self._ports.devices, {site.id: site for site in self.sites}, setpoints, journal=self._journal
        )
        await self.outbox.put(partial(self.store.save_setpoints, tuple(setpoints), deliveries))

    def _prune(self, at: datetime) -> None:
        """Apply retention now and then, beside everything else: the store locks for short transactions only."""
        due = self._pruned_at is None or at - self._pruned_at >= PRUNE_EVERY
        if due and (self._pruning is None or self._pruning.done()):
            self._pruned_at = at
            retention = Retention(readings_days=self.settings.retention_days)
            self._pruning = asyncio.ensure_future(self._apply(retention, at))

    async def _apply(self, retention: Retention, at: datetime) -> None:
        try:
            await asyncio.to_thread(self.store.prune, at, retention)
        except StoreError as error:
            log.warning("store.not_pruned cause=%s", error)

    def _note_overlap(self, event: object) -> None:
        """A boundary came while a cycle still ran: counted now, told with the next record."""
        if not self._overlapped:
            log.warning("cycle.overlapped a cycle takes longer than its interval")
        self._overlapped += 1

    @property
    def _loop_span(self) -> timedelta:
        """Site time that five passes of the fast loop take."""
        wall_per_site_s = self.clock.wall_seconds(1.0) or 1.0
        return timedelta(seconds=5 * max(1.0, self.settings.fast_loop_s) / wall_per_site_s)


def make_service(settings: Settings) -> Service:
    """Build a service from its settings; raises ConfigError, DataError or StoreError with all that is wrong."""
    sites, folders = read_sites(settings)
    step_s = int(settings.interval.total_seconds())
    foresight = make_foresight(
        sites,
        folders,
        step_s=step_s,
        horizon=int(settings.horizon.total_seconds()) // step_s,
        weather=make_weather(sites, settings.weather),
    )
    now = settings.clock.now()
    if settings.history_file is not None:
        learn_from_recording(foresight, settings.history_file, now=now)
    store = Store.open(settings.store_url)
    learn_from_store(foresight, store, now=now)
    if restore_models(foresight, store, now=now):
        foresight.refit_prices()
    else:
        foresight.refit(interval_start(now, step_s))
        keep_models(foresight, store)
    links = LinkPool(clock=settings.clock.now, read_only=settings.read_only)
    devices = open_devices(sites, links)
    restore_memories(devices, store.device_memories())
    return Service(
        settings,
        sites,
        store=store,
        links=links,
        devices=devices,
        foresight=foresight,
        folders=folders,
        environment=os.environ,
    )


def from_environment() -> Service:
    """Build the service the environment describes."""
    return make_service(read_settings(os.environ))
