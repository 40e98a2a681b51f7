"""The service: schedule, supervise, stop. One process, one event loop, one batch of sites."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from drivers import LinkPool
from ems import garbage
from ems.bounded import Bounded
from ems.channels import Channels, Ledger, opener
from ems.clock import JumpWatch, interval_start
from ems.conduct import DeliveryScore
from ems.cycle import CycleRecord, Ports, run_cycle
from ems.errors import MayNotAct, StoreError
from ems.fast_loop import IN_FORCE, FastLoop, Pass
from ems.feedback import Edge
from ems.forecast_watch import ForecastWatch
from ems.foresight import Foresight
from ems.lead import Lead
from ems.live import Live
from ems.metrics import Metrics
from ems.orders import Order
from ems.outbox import Outbox
from ems.plan import PlanSource
from ems.planning import Solve, solve_in_process
from ems.publishing import Delivery, DeliveryOutcome, publish
from ems.readings import Device, SiteReading, Snapshot
from ems.rounds import Rounds
from ems.schedule import GridTrigger
from ems.setpoints import Setpoint, SetpointSource, derive_setpoints
from ems.settings import Settings, read_settings
from ems.site import Site
from ems.store import DeliveredSetpoint, Retention, Store
from ems.together import Together
from ems.watchdog import Manager
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
STEADY_FOR = timedelta(hours=1)
"""Nothing is pruned before the clock has run so long without being set: a wrong one would remove what is young."""
WATCH_EVERY_S = 1.0
"""Between two looks at the lead, the clock and the service itself [s]."""
JOURNAL_BEHIND_S = 60.0
"""A store that has not accepted a write for so long: devices go back to their own mode until it does [s]."""
STUCK_S = 60.0
"""A look of the fast loop at a site that takes longer hangs [s]."""
SOLVE_SHARE = 0.4
"""Share of the interval the optimiser may take for the batch; then the site steps down."""
SOLVE_AT_LEAST_S = 10.0


@dataclass(kw_only=True, slots=True)
class _Unkept:
    """What passes of the fast loop did and the store has not been given yet."""

    setpoints: list[Setpoint] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    scores: list[DeliveryScore] = field(default_factory=list)
    readings: dict[datetime, list[SiteReading]] = field(default_factory=dict)


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
    solve
        The optimiser.
    manager
        The service manager, told how the service is.
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
        solve: Solve = solve_in_process,
        manager: Manager = Manager(),  # noqa: B008 - frozen and without state
        folders: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.sites = tuple(sites)
        self._by_id = {site.id: site for site in self.sites}
        self.store = store
        self.clock = settings.clock
        self.metrics = Metrics()
        self.metrics.watch(partial(device_figures, devices), partial(link_figures, links))
        self.live = Live()
        self.outbox = Outbox(self.metrics)
        self.lead = Lead(store.lease(), self.metrics)
        self.manager = manager
        self.ledger = Ledger(self.sites, store=store, clock=self.clock, metrics=self.metrics)
        """What building controllers said."""
        self._new_channels = partial(
            Channels,
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
        self._channels = self._new_channels()
        self.latest = store.latest_record()
        """Record of the latest cycle, of this process or of the one before."""
        self.cycle_trouble: str | None = None
        """Why the latest cycle failed; None when it did not."""
        self._links = links
        self._step_s = int(settings.interval.total_seconds())
        self._overlapped = 0
        self._kept_at: dict[str, datetime] = {}
        self._unkept = _Unkept()
        self._unsettled = True
        self._pruned_at: datetime | None = None
        self._steady_since: datetime | None = None
        self._jumps = JumpWatch(self.clock)
        self._acts = False
        self._held_back: str | None = None
        self._cycling = asyncio.Lock()
        self._cycle_began_s: float | None = None
        self._watching: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Future[None] | None = None
        self._status_told = ""
        interval_wall_s = self.clock.wall_seconds(settings.interval.total_seconds())
        self._solve = Bounded(
            solve, within_s=max(SOLVE_AT_LEAST_S, SOLVE_SHARE * interval_wall_s), what="the optimiser"
        )
        self._orders: tuple[Order, ...] = ()
        self._rounds: Rounds | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._part_at = self.clock.now()
        self._failing: set[str] = set()
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
            solve=self._solve,
            valid_for=settings.interval + GRACE + self._loop_span,
            journal=Together(self._journal_all),
            now=self.clock.now,
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
        """Begin to lead, or to stand by for whoever does."""
        self._jumps = JumpWatch(self.clock)
        self._steady_since = self.clock.now()
        loop = asyncio.get_running_loop()
        self.ledger.listen(
            lambda setpoint, delivery: asyncio.run_coroutine_threadsafe(
                self._fast_loop.hear(setpoint, delivery), loop
            )
        )
        self._scheduler.add_listener(self._note_overlap, EVENT_JOB_MAX_INSTANCES)
        self._scheduler.start()
        if await self.lead.take():
            await self._begin_to_act()
            if self._behind():
                await self._cycle()
            self._run_fast_loop()
        self._watching = asyncio.create_task(self._keep_watch(), name="watch")
        log.info("service.started sites=%d interval_s=%d", len(self.sites), self._step_s)
        self.manager.say("READY=1")

    async def stop(self) -> None:
        """End: no new cycle, devices back to their own mode or left to a successor, everything that waits written."""
        self.manager.say("STOPPING=1")
        self._stopping.set()
        if self._watching is not None:
            await self._watching
        await self._end_acting()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        async with self._ports.acting:
            if await self.lead.still() and not await self._left_to_successor():
                await self._release(SetpointSource.SAFETY)
        if self.lead.mine:
            await self._channels.stop()
            await self._settle_unanswered()
            self._keep_memories(self._ports.devices)
        await self._forecasts.stop()
        if self._pruning is not None:
            await self._pruning
        if not await self.outbox.flush():
            log.error("store.lost_at_stop waiting=%d cause=%s", self.outbox.waiting, self.outbox.trouble)
        await self._links.close()
        await self.lead.give_up()
        self.store.close()
        log.info("service.stopped")

    @property
    def standing_by(self) -> str | None:
        """Who leads instead of this instance; None when it leads itself."""
        return None if self.lead.mine else self.lead.holder or "nobody yet"

    def problems(self) -> tuple[str, ...]:
        """Return why the service is not well, each in one line; empty when it is."""
        if not self.lead.mine:
            return ()
        found = []
        if self._held_back:
            found.append(f"devices are not written: {self._held_back}")
        if self._solve.hangs_s:
            found.append(f"the optimiser has not come back for {self._solve.hangs_s:.0f} s")
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

    async def _keep_watch(self) -> None:
        """Look after the lead, the clock and what waits, once a second; the manager hears of it while all is well."""
        failing = False
        while not self._stopping.is_set():
            try:
                await self._look_around()
                failing = False
            except Exception:
                if not failing:
                    log.exception("service.watch_failed")
                failing = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=WATCH_EVERY_S)

    async def _look_around(self) -> None:
        if await self.lead.still():
            jump = self._jumps.jumped()
            if jump is not None:
                await self._clock_was_set(jump)
        elif self._acts:
            await self._end_acting()
            self._fast_loop.let_go()
            await self._channels.stop()
            self._channels = self._new_channels()
            # many devices take one client: they are the successor's now
            await self._links.close()
        elif await self.lead.take():
            try:
                await self._take_over()
            except BaseException:
                # a lead that is not used is somebody else's, or ours in a second
                await self._end_acting()
                await self.lead.give_up()
                raise
        self.outbox.retry()
        if self._held_back and self.outbox.behind_s == 0.0:
            log.warning("devices.written_again the store accepts")
            self._held_back = None
        if not self.stuck():
            self.manager.well()
        if self._status() != self._status_told:
            self._status_told = self._status()
            self.manager.say(f"STATUS={self._status_told}")

    def _status(self) -> str:
        if not self.lead.mine:
            return f"standing by, {self.standing_by} leads"
        return "; ".join(self.problems()) or "leads"

    def stuck(self) -> tuple[str, ...]:
        """Return what hangs in a way that only a new process mends; empty when nothing does."""
        interval_s = self.clock.wall_seconds(self.settings.interval.total_seconds())
        look_s = 0.0 if self._rounds is None else self._rounds.longest_s
        cycle_s = 0.0 if self._cycle_began_s is None else time.monotonic() - self._cycle_began_s
        hangs = (
            ("a look of the fast loop", look_s, max(STUCK_S, 5 * self.settings.fast_loop_s)),
            ("a cycle", cycle_s, max(STUCK_S, interval_s)),
        )
        found = [
            f"{what} has been running for {took_s:.0f} s" for what, took_s, most_s in hangs if took_s > most_s
        ]
        if self._solve.hangs_s > max(STUCK_S, interval_s):
            found.append(f"the optimiser has not come back for {self._solve.hangs_s:.0f} s")
        return tuple(found)

    async def _begin_to_act(self) -> None:
        """Follow the plans and setpoints that are in force, and keep the schedule."""
        self._acts = True
        if self.latest is not None:
            self._fast_loop.follow(self.latest)
        self._shares, self._share_troubles = await share_devices(self.sites, self._links)
        self._fast_loop.resume(await self._settle_unanswered())
        await self._channels.start()
        self._scheduler.add_job(self._cycle, trigger=self._trigger, id="cycle", replace_existing=True)

    def _behind(self) -> bool:
        return self.latest is None or self.latest.at < self._trigger.boundary()

    def _run_fast_loop(self) -> None:
        if self.settings.fast_loop_s > 0:
            self._rounds = Rounds(
                [site.id for site in self.sites],
                period_s=self.settings.fast_loop_s,
                beside=self._beside_round,
                part=self._begin_part,
                follow=self._follow_site,
            )
            self._loop_task = asyncio.create_task(self._rounds.run(), name="fast-loop")

    def _catch_up(self) -> None:
        """Run a cycle now, beside whoever asks for it."""
        self._catching_up = asyncio.ensure_future(self._cycle())

    async def _take_over(self) -> None:
        """Go on where the instance that led until now ended."""
        self.latest = await asyncio.to_thread(self.store.latest_record)
        before = self.latest
        marks = make_meters(
            self.sites,
            step_s=self._step_s,
            readings={} if before is None else {r.site_id: r for r in before.snapshot.sites},
            at=None if before is None else before.at,
        )
        for site_id, meter in self._ports.meters.items():
            meter.forget()
            meter.marks = marks[site_id].marks
        restore_memories(self._ports.devices, await asyncio.to_thread(self.store.device_memories))
        now = self.clock.now()
        await asyncio.to_thread(learn_from_store, self._ports.foresight, self.store, now=now)
        self._jumps = JumpWatch(self.clock)
        self._steady_since = now
        self._kept_at.clear()
        self._pruned_at = None
        await self._begin_to_act()
        self._run_fast_loop()
        if self._behind():
            self._catch_up()

    async def _end_acting(self) -> None:
        """Stop schedule and fast loop; what they are just writing gets its outcome."""
        self._acts = False
        if self._scheduler.get_job("cycle") is not None:
            self._scheduler.remove_job("cycle")
        if self._rounds is not None and self._loop_task is not None:
            self._rounds.stop()
            await asyncio.wait([self._loop_task], timeout=STOP_WITHIN_S)
            self._loop_task.cancel()
            self._rounds = self._loop_task = None
            self._keep_passes()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S), self._cycling:
                pass
        await self._shares.aclose()

    async def _left_to_successor(self) -> bool:
        """Tell whether devices keep what they were asked: the next process follows it, or it expires."""
        if await self.lead.awaited():
            log.info("service.hands_over another instance stands by")
            return True
        if self.settings.keep_on_stop:
            log.info("service.leaves_setpoints until they expire")
        return self.settings.keep_on_stop

    async def _clock_was_set(self, jump: timedelta) -> None:
        """Plan for the time it is now; timers of the schedule were made for the time before."""
        log.warning("clock.jumped by_s=%.0f now=%s", jump.total_seconds(), self.clock.now().isoformat())
        self.metrics.clock_jumps.inc()
        self._steady_since = self.clock.now()
        self._kept_at.clear()
        self._pruned_at = None
        for meter in self._ports.meters.values():
            meter.disturb()
        self._scheduler.reschedule_job("cycle", trigger=self._trigger)
        self._catch_up()

    async def _cycle(self) -> None:
        """Run one cycle for the boundary just reached; an error ends this cycle, never the schedule."""
        async with self._cycling:
            self._cycle_began_s = time.monotonic()
            try:
                await self._cycle_now()
            finally:
                self._cycle_began_s = None

    async def _cycle_now(self) -> None:
        if not self._acts or self._stopping.is_set():
            return
        at = self._trigger.boundary()
        before = self.latest
        if before is not None and before.at > self.clock.now() + GRACE:
            log.error(
                "clock.was_ahead latest=%s now=%s: beginning anew", before.at.isoformat(), at.isoformat()
            )
            before = self.latest = self._pruned_at = None
            self._kept_at.clear()
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
            record = await run_cycle(
                self.sites,
                self._ports,
                before,
                at=at,
                orders=self._orders,
                conducts=self._fast_loop.book.conducts,
                told=self._fast_loop.told,
                missed=missed,
                overlapped=overlapped,
            )
            self._fast_loop.follow(record)
        except MayNotAct as error:
            await self._hold_back(error)
            return
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
        self._unsettled = True

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

    async def _beside_round(self) -> None:
        """Once a round of the fast loop: keep what it did, and hear what is asked of which site."""
        self._keep_passes()
        if self._unsettled and self._fast_loop.ready:
            self._unsettled = False
            garbage.settle()
        with self._telling_once("orders"):
            orders = await self._ordered(self.clock.now())
            changed = {order.site_id for order in set(self._orders).symmetric_difference(orders)}
            self._orders, self._part_at = orders, self.clock.now()
            if self._rounds is not None:
                self._rounds.at_once(changed)

    def _begin_part(self, span_s: float) -> None:
        self._part_at = self.clock.now()
        self._fast_loop.spend(span_s)

    async def _follow_site(self, site_id: str) -> None:
        """Let the fast loop look at a site; what fails there is tried again in the next round."""
        with self._telling_once(site_id):
            done = await self._fast_loop.follow_site(site_id, at=self._part_at, orders=self._orders)
            self._note_pass(done)
            if done.withheld is not None:
                await self._hold_back(done.withheld)

    @contextlib.contextmanager
    def _telling_once(self, what: str) -> Iterator[None]:
        """Log what fails, once until it succeeds, and go on."""
        try:
            yield
            self._failing.discard(what)
        except Exception:
            if what not in self._failing:
                log.exception("fast_loop.failed what=%s", what)
            self._failing.add(what)

    def _note_pass(self, done: Pass) -> None:
        """Note what one pass did, to be kept: every setpoint and change, and readings once in a while."""
        self._tell_edges(done.edges)
        kept = self._unkept
        kept.edges += done.edges
        kept.setpoints += done.setpoints
        kept.deliveries += done.deliveries
        kept.scores += done.scores
        at = done.snapshot.at
        for reading in done.snapshot.sites:
            kept_at = self._kept_at.get(reading.site_id)
            if kept_at is None or at - kept_at >= KEEP_READINGS_EVERY:
                self._kept_at[reading.site_id] = at
                self._count(done.snapshot)
                kept.readings.setdefault(at, []).append(reading)

    def _keep_passes(self) -> None:
        """Keep what passes did since the last time, all of it together."""
        kept, self._unkept = self._unkept, _Unkept()
        if kept.edges:
            self.outbox.post(partial(self.store.save_edges, kept.edges))
        if kept.setpoints:
            self.outbox.post(partial(self.store.save_setpoints, kept.setpoints, kept.deliveries))
            written = {(one.site_id, one.asset) for one in kept.deliveries if one.written}
            self._keep_memories(
                (site_id, asset.device)
                for site_id, name in written
                if (asset := self._by_id[site_id].asset(name)) is not None
            )
        if kept.scores:
            self.outbox.post(partial(self.store.save_delivery_scores, kept.scores))
        for at, readings in kept.readings.items():
            self.outbox.post(partial(self.store.save_readings, readings, at))

    def _keep_memories(self, keys: Iterable[tuple[str, str]]) -> None:
        """Keep what devices must not forget: after every cycle, and at once where a register was written."""
        kept = {key: self._ports.devices[key].export_memory() for key in keys}
        if kept:
            self.outbox.post(partial(self.store.save_device_memories, kept, self.clock.now()))

    async def _journal_all(self, setpoints: Sequence[Setpoint]) -> None:
        """Put setpoints on record before they are written; raises MayNotAct when they must not be."""
        if self.outbox.behind_s > JOURNAL_BEHIND_S:
            raise MayNotAct(f"the store has accepted nothing for {self.outbox.behind_s:.0f} s")
        await self.outbox.put(partial(self.store.save_setpoints, tuple(setpoints), ()))
        if not await self.lead.still():
            raise MayNotAct("this instance does not lead any more")
        self._channels.offer(setpoints)

    async def _note(self, setpoints: Sequence[Setpoint]) -> None:
        """Put on record that devices are given back; whatever else is the matter, that may be done."""
        await self.outbox.put(partial(self.store.save_setpoints, tuple(setpoints), ()))
        self._channels.offer(setpoints)

    async def _hold_back(self, error: MayNotAct) -> None:
        """Give the devices back once and then write nothing: what nobody can put on record must not go on."""
        if self._held_back is None and self.lead.mine:
            log.error("devices.held_back cause=%s", error)
            self._held_back = str(error)
            async with self._ports.acting:
                self._fast_loop.resume(())
                await self._release(SetpointSource.FAST_LOOP)

    async def _ordered(self, at: datetime) -> tuple[Order, ...]:
        """Return what people and the grid ask, now or later; the last known answer while the store refuses."""
        try:
            return await asyncio.to_thread(self.store.orders_from, at)
        except StoreError:
            return self._orders

    async def _settle_unanswered(self) -> list[Setpoint]:
        """Say of setpoints journalled by a process that then died what is known of them: that nobody knows.

        Returns what is in force: the latest setpoint of each asset, where its device was seen to hold it.
        """
        now = self.clock.now()
        since = now - 2 * self._ports.valid_for
        if self.latest is not None:
            since = min(since, self.latest.at - self._ports.valid_for)

        def asked() -> list[DeliveredSetpoint]:
            return [one for site in self.sites for one in self.store.setpoints(site.id, since, now)]

        found = await asyncio.to_thread(asked)
        newest = {(one.setpoint.site_id, one.setpoint.asset): one for one in found}
        in_force = [
            one.setpoint
            for one in newest.values()
            if one.delivery is not None
            and one.delivery.outcome in IN_FORCE
            and one.setpoint.valid_until > now
        ]
        setpoints = [one.setpoint for one in found if one.delivery is None]
        if not setpoints:
            return in_force
        log.warning("setpoints.unanswered count=%d the process before died while writing", len(setpoints))
        deliveries = tuple(
            Delivery.of(
                setpoint,
                DeliveryOutcome.UNVERIFIED,
                held_kw=None,
                at=now,
                written=True,
                detail="the service died before the device answered",
            )
            for setpoint in setpoints
        )
        await self.outbox.put(partial(self.store.save_setpoints, setpoints, deliveries))
        return in_force

    async def _release(self, source: SetpointSource) -> None:
        """Give every steered device back to its own mode."""
        at, told = self.clock.now(), self._fast_loop.told
        setpoints = [
            setpoint
            for site in self.sites
            for setpoint in derive_setpoints(
                site,
                None,
                plan=None,
                at=at,
                valid_until=at + GRACE,
                source=source,
                standing=told[site.id][0] if site.id in told else None,
            )
        ]
        deliveries = await publish(self._ports.devices, self._by_id, setpoints, journal=self._note)
        await self.outbox.put(partial(self.store.save_setpoints, tuple(setpoints), deliveries))

    def _prune(self, at: datetime) -> None:
        """Apply retention now and then, beside everything else: the store locks for short transactions only."""
        due = self._pruned_at is None or at - self._pruned_at >= PRUNE_EVERY
        steady = self._steady_since is not None and at - self._steady_since >= STEADY_FOR
        if due and steady and (self._pruning is None or self._pruning.done()):
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


def make_service(
    settings: Settings,
    *,
    solve: Solve = solve_in_process,
    manager: Manager = Manager(),  # noqa: B008 - frozen and without state
) -> Service:
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
        solve=solve,
        manager=manager,
        folders=folders,
        environment=os.environ,
    )


def from_environment() -> Service:
    """Build the service the environment describes."""
    return make_service(read_settings(os.environ), manager=Manager.of(os.environ))
