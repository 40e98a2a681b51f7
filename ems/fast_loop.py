"""The fast loop: keep each site on the best course between two plans.

Every second it reads the meters of each site and decides the plan's first interval anew with what is there now: from the
worth of the stored energy, or by solving the compiled dispatch again, warm, where that is not enough. It writes only what
changed or is about to expire, and what it writes is journalled first. When it believes what it sees is told in
`following.py`, who has its turn when in `rounds.py`.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ems.clock import StageWatch
from ems.conduct import ConductBook, DeliveryScore, without_derated
from ems.cycle import CycleRecord, Ports
from ems.errors import MayNotAct
from ems.feedback import Edge, edges_of_conduct, edges_of_grid, edges_of_standing
from ems.following import (
    Pace,
    Swing,
    WriteBudget,
    band_kw,
    beyond_arrival_kw,
    certain_load_kw,
    is_over,
    longest_validity,
    seen_again,
    swing_after,
)
from ems.guard import bounded_course, within_limits
from ems.hedging import USABLE, hedged_dispatch
from ems.ladder import Ladder, rung_of
from ems.live import Live, LiveState
from ems.metrics import Metrics
from ems.orders import Order, Standing, standing
from ems.outlook import Outlook, SiteOutlook, from_interval
from ems.plan import Plan
from ems.planning import make_plans
from ems.publishing import Delivery, DeliveryOutcome, publish
from ems.readings import Capability, Device, Quality, SiteReading, Snapshot, take_snapshot
from ems.setpoints import Course, Quantity, Setpoint, SetpointSource, course_of_plan, derive_setpoints
from ems.site import Site
from ems.state import CarriedState, GridState, SitePowers, SiteState, carry, estimate_state
from optimizer import DispatchProblem, FirstInterval, InvalidProblem, StoredWorth, ValuedDispatch, Vehicle

log = logging.getLogger("ems.fast_loop")

IN_FORCE = (DeliveryOutcome.APPLIED, DeliveryOutcome.CLAMPED, DeliveryOutcome.SENT)
RETRY_SHARE = 0.1
"""A setpoint that was refused is tried again after this share of its validity."""
CURTAILED_KW = 0.05
"""Solar power held back by less than this is not capped [kW]."""
MAKE_WITHIN_S = 0.2
"""Time of a pass over all sites for making what decides a new interval [s]; many homes get ready over several passes."""
MAKE_SHARE = 0.2
"""Share of the time for that where sites are followed one after the other."""
DECIDE_EVERY = timedelta(seconds=30)
"""However little changes, it is decided anew after this time."""
SAME_SHARE = 0.4
"""Powers that moved by less than this share of the dead band lead to the same setpoint."""
PLENTY_PER_DAY = 20_000
"""Registers that bear this many writes a day are written whenever it helps."""
CONTROLS = {
    Quantity.BATTERY_POWER: "battery_power",
    Quantity.GENERATION_LIMIT: "generation_limit",
    Quantity.VEHICLE_LIMIT: "charge_limit",
}
"""Control of a device that carries out a quantity."""


@dataclass(kw_only=True, slots=True)
class _Course:
    """What one site follows between two cycles."""

    site: Site
    plan: Plan
    outlook: Outlook
    expected: SiteOutlook
    carried: CarriedState
    state: SiteState
    """What the dispatch rests on."""
    standing: Standing
    """Whose word counted in the latest pass."""
    orders: Sequence[Order]
    """What people and the grid ask for."""
    dispatch: ValuedDispatch | None = None
    """Decides the present interval anew; None until it is made, and where the state does not carry a problem."""
    made_for: int | None = None
    """Interval of the plan `dispatch` was made for; None before it is made."""
    standing_in: int | None = None
    """Interval of the plan for which `dispatch` only stands in until it is made; None when it does not."""
    worths: dict[int, StoredWorth] = field(default_factory=dict)
    """What stored energy is worth after the interval that begins at an instant [epoch s], as found last."""
    alone: ValuedDispatch | None = None
    """The same without the vehicles, for moments in which their power is given; made when first needed."""
    decided: Course | None = None
    """What was decided last, kept while a change is under way."""
    decided_on: tuple[float, ...] = ()
    """Load, sun and limits it was decided on [kW]."""
    decided_at: datetime | None = None
    """When it was decided."""
    believed_kw: float | None = None
    """Load as known last [kW]."""
    swing: Swing | None = None
    """A change of power under way."""
    paused_until: dict[str, datetime] = field(default_factory=dict)
    """Vehicles that wait because the connection was full, and until when."""
    asked: dict[str, Setpoint] = field(default_factory=dict)
    """Setpoints in force, by asset and quantity."""
    clamped_kw: dict[str, float | None] = field(default_factory=dict)
    """What devices hold instead, by setpoint id [kW]."""
    refused_at: dict[str, datetime] = field(default_factory=dict)
    """When a setpoint was last refused, by asset and quantity."""
    urgent: bool = False
    """Whether a limit of the connection is at stake in this pass."""

    def forget(self, orders: Sequence[Order], state: SiteState) -> None:
        """Rest on other orders and another state from now on: what was made for the ones before must be made anew."""
        self.orders, self.state = orders, state
        self.made_for = self.standing_in = None
        self.worths = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """What one pass of the loop saw and did."""

    snapshot: Snapshot
    """What the devices said."""
    setpoints: tuple[Setpoint, ...]
    """What was written."""
    deliveries: tuple[Delivery, ...]
    """What became of it."""
    edges: tuple[Edge, ...] = ()
    """What changed: whose word counts, how devices behave, who steers."""
    scores: tuple[DeliveryScore, ...] = ()
    """How setpoints that have ended were followed."""
    withheld: MayNotAct | None = None
    """Why nothing was written although something should have been; None when nothing stood against it."""


class FastLoop:
    """Follows the plans of the latest cycle, meter by meter."""

    def __init__(
        self,
        sites: Sequence[Site],
        ports: Ports,
        *,
        live: Live,
        metrics: Metrics,
        valid_for: timedelta,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._sites = {site.id: site for site in sites}
        self._ports = ports
        self._live = live
        self._metrics = metrics
        self._valid_for = valid_for
        self._courses: dict[str, _Course] = {}
        self._validities: dict[str, timedelta] = {}
        self._budgets: dict[tuple[str, str], WriteBudget] = {}
        self._failed: set[str] = set()
        self._troubles: dict[str, str] = {}
        self.book = ConductBook()
        """How devices follow what they are asked."""
        self._followed_at: datetime | None = None
        self._ladder = Ladder(metrics)
        self._make_left_s = 0.0
        self._devices: dict[str, dict[tuple[str, str], Device]] = {site.id: {} for site in sites}
        for (site_id, name), device in ports.devices.items():
            self._devices.setdefault(site_id, {})[site_id, name] = device

    @property
    def told(self) -> dict[str, tuple[Standing, GridState]]:
        """Whose word counts and whether the grid is there, as far as it was told, by site."""
        return {site_id: (course.standing, course.carried.grid) for site_id, course in self._courses.items()}

    def follow(self, record: CycleRecord) -> None:
        """Take over the plans of a cycle; a site that was configured otherwise then waits for its next plan."""
        configured = {site.id: site for site in record.sites}
        self._followed_at = record.at
        states = {state.site_id: state for state in record.states}
        expected = {site.site_id: site for site in record.outlook.sites}
        asked: dict[str, dict[str, Setpoint]] = {}
        in_force = {d.setpoint_id: d for d in record.deliveries if d.outcome in IN_FORCE}
        clamped_kw = {
            d.setpoint_id: d.held_kw for d in record.deliveries if d.outcome is DeliveryOutcome.CLAMPED
        }
        self.book.adopt(record.conducts)
        for setpoint in record.setpoints:
            if setpoint.id in in_force:
                held = _as_held(setpoint, in_force[setpoint.id])
                asked.setdefault(setpoint.site_id, {})[_key(setpoint)] = held
        counting = {site.id: counts for site, counts in zip(record.sites, record.standings, strict=True)}
        written_at = {delivery.setpoint_id: delivery.at for delivery in record.deliveries}
        for plan in record.plans:
            site, state = self._sites.get(plan.site_id), states[plan.site_id]
            if site is None or site != configured[plan.site_id]:
                continue
            before = self._courses.get(site.id)
            mine = asked.get(site.id, {})
            course = _Course(
                site=without_derated(site, self.book.conducts),
                plan=plan,
                outlook=record.outlook,
                expected=expected[site.id],
                carried=carry(state),
                state=state,
                standing=counting[site.id],
                orders=record.orders,
                believed_kw=state.powers.load_kw,
                swing=None if before is None else before.swing,
                worths={} if before is None else before.worths,
                paused_until={} if before is None else before.paused_until,
                asked=mine,
                clamped_kw=clamped_kw,
            )
            self._courses[site.id] = course
            if mine:
                latest = max(written_at[setpoint.id] for setpoint in mine.values())
                self._open_swing(course, state, mine.values(), at=latest)

    @property
    def ready(self) -> bool:
        """Whether every site has what decides its present interval; after a cycle that takes a few passes."""
        return all(course.made_for is not None for course in self._courses.values())

    def resume(self, in_force: Sequence[Setpoint]) -> None:
        """Take up what a process before this one asked of devices: it is written again when it is due, not at once."""
        for course in self._courses.values():
            course.asked.clear()
        for setpoint in in_force:
            if (taken := self._courses.get(setpoint.site_id)) is not None:
                _replace(taken.asked, setpoint)

    def let_go(self) -> None:
        """Follow nothing any more: another instance does."""
        self._courses.clear()
        self._ladder.forget()
        self._followed_at = None

    @property
    def trouble(self) -> str | None:
        """Why the latest pass left a site to its devices by mistake of ours; None when none did."""
        return next(iter(self._troubles.values()), None)

    async def step(self, *, at: datetime, orders: Sequence[Order] = ()) -> Pass:
        """Follow all sites, all at once."""
        self._make_left_s = MAKE_WITHIN_S
        done = await asyncio.gather(*(self.follow_site(name, at=at, orders=orders) for name in self._sites))
        return Pass(
            snapshot=Snapshot(at=at, sites=tuple(reading for one in done for reading in one.snapshot.sites)),
            setpoints=tuple(setpoint for one in done for setpoint in one.setpoints),
            deliveries=tuple(delivery for one in done for delivery in one.deliveries),
            edges=tuple(edge for one in done for edge in one.edges),
            scores=tuple(score for one in done for score in one.scores),
            withheld=next((one.withheld for one in done if one.withheld is not None), None),
        )

    def spend(self, span_s: float) -> None:
        """Let `follow_site` take its share of a span of time for making what decides a new interval [s]."""
        # what was overdrawn is paid back first: one that is made may take longer than a short span allows
        self._make_left_s = min(self._make_left_s, 0.0) + MAKE_SHARE * span_s

    async def follow_site(self, site_id: str, *, at: datetime, orders: Sequence[Order] = ()) -> Pass:
        """Read, decide, write what changed at one site. Device trouble is a value; it ends nobody else's pass."""
        watch = StageWatch()
        snapshot = await take_snapshot(self._devices[site_id], (site_id,), at=at)
        async with self._ports.acting.of(site_id):
            if self._followed_at is not None and at < self._followed_at:
                # a cycle came in between: what was read is older than the plan that is in force now
                return Pass(snapshot=snapshot, setpoints=(), deliveries=())
            edges: list[Edge] = []
            scores: list[DeliveryScore] = []
            setpoints = self._decide_or_let_go(
                snapshot.sites[0], at=at, orders=orders, edges=edges, scores=scores
            )
            withheld: MayNotAct | None = None
            deliveries: tuple[Delivery, ...] = ()
            if setpoints:
                try:
                    deliveries = await publish(
                        self._ports.devices,
                        self._sites,
                        setpoints,
                        journal=self._ports.journal,
                        now=self._ports.now,
                    )
                except MayNotAct as error:
                    setpoints, withheld = [], error
                self._remember(setpoints, deliveries)
        self._metrics.fast_loop_seconds.observe(watch.total_ms / 1e3)
        return Pass(
            snapshot=snapshot,
            setpoints=tuple(setpoints),
            deliveries=deliveries,
            edges=tuple(edges),
            scores=tuple(scores),
            withheld=withheld,
        )

    def _decide_or_let_go(
        self,
        reading: SiteReading,
        *,
        at: datetime,
        orders: Sequence[Order],
        edges: list[Edge],
        scores: list[DeliveryScore],
    ) -> list[Setpoint]:
        """Decide for one site; a mistake of ours there gives it back to its devices and ends nobody else's pass."""
        site = self._sites[reading.site_id]
        try:
            decided = self._decide(reading, at=at, orders=orders, edges=edges, scores=scores)
        except Exception as error:
            if site.id not in self._failed:
                log.exception("fast_loop.site_failed site=%s", site.id)
            self._failed.add(site.id)
            self._troubles[site.id] = f"{site.id}: {type(error).__name__}: {error}"
            if self._courses.pop(site.id, None) is None:
                return []
            return list(
                derive_setpoints(
                    site,
                    None,
                    plan=None,
                    at=at,
                    valid_until=at + self._valid_for,
                    source=SetpointSource.FAST_LOOP,
                )
            )
        self._troubles.pop(site.id, None)
        return decided

    def _decide(
        self,
        reading: SiteReading,
        *,
        at: datetime,
        orders: Sequence[Order],
        edges: list[Edge],
        scores: list[DeliveryScore],
    ) -> list[Setpoint]:
        """Return the setpoints of one site that must be written now."""
        site = self._sites[reading.site_id]
        course = self._courses.get(site.id)
        state = estimate_state(site, reading, CarriedState() if course is None else course.carried, at=at)
        self._ports.meters[site.id].note(at, state.powers)
        asked = {} if course is None else course.asked
        wanted: tuple[Setpoint, ...] = ()
        if course is not None:
            was, course.carried = course.carried.grid, carry(state)
            counts = standing(site, (*orders, *state.signal), at=at)
            edges += edges_of_grid(site, was, state)
            if state.islanded != course.plan.islanded:
                self._plan_anew(course, state, orders, at)
            edges += edges_of_standing(site, course.standing, counts, at=at)
            look = self.book.look(site, tuple(asked.values()), course.clamped_kw, reading, state)
            edges += edges_of_conduct(site, look.changed, at=at)
            scores += look.ended
            if look.changed or _asks_anew(course.standing, counts):
                course.site = without_derated(site, self.book.conducts)
                course.forget(orders, state)
            course.standing = counts
            decided = self._course(course, state, at)
            now = bounded_course(course.site, decided, _as_believed(course, state), counts)
            edges += self._ladder.note(site.id, *rung_of(course.plan, now, state, counts), at=at)
            wanted = derive_setpoints(
                site,
                now,
                plan=course.plan,
                at=at,
                valid_until=at + self._validity(site),
                source=SetpointSource.OVERRIDE if counts.paused else SetpointSource.FAST_LOOP,
                standing=counts,
            )
        self._live.publish(
            site.id,
            LiveState(
                at=at,
                powers=state.powers,
                stored_kwh=state.stored_kwh,
                setpoints={setpoint.asset: setpoint for setpoint in asked.values()},
                troubles=reading.troubles,
                signal=state.signal,
                conduct=dict(self.book.conducts.get(site.id, {})),
                grid=state.grid,
                quality=state.quality,
            ),
        )
        if course is None:
            return []
        found = (self._due(course, setpoint, at) for setpoint in wanted)
        due = [setpoint for setpoint in found if setpoint is not None]
        self._open_swing(course, state, due, at=at)
        return due

    def _due(self, course: _Course, wanted: Setpoint, at: datetime) -> Setpoint | None:
        """Return what must be written now: what is new or moved far enough for what a write costs, or is half expired."""
        refused_at = course.refused_at.get(_key(wanted))
        # here and below, an age below zero is from before the clock was set back: it says nothing
        if refused_at is not None and timedelta(0) <= at - refused_at < RETRY_SHARE * self._valid_for:
            return None
        held = course.asked.get(_key(wanted))
        if held is None or (wanted.value_kw is None) is not (held.value_kw is None):
            return wanted
        half = (held.valid_until - held.valid_from) / 2
        half_expired = not timedelta(0) <= at - held.valid_from < half
        if wanted.value_kw is None or held.value_kw is None:
            return wanted if half_expired else None
        budget = None if course.urgent else self._budget(course.site, wanted, at)
        worth_a_write_kw = self._pace.dead_band_kw if budget is None else band_kw(budget, self._pace)
        if worth_a_write_kw is not None and abs(wanted.value_kw - held.value_kw) > worth_a_write_kw:
            return wanted
        if not half_expired:
            return None
        # where writes are scarce a renewal keeps the value: a device without a timer then needs no write at all
        return wanted if budget is None else replace(wanted, value_kw=held.value_kw)

    def _budget(self, site: Site, setpoint: Setpoint, at: datetime) -> WriteBudget | None:
        """Return what the registers behind a setpoint still bear; None where that is plenty."""
        per_day = self._writes_per_day(site, setpoint.asset, setpoint.quantity)
        if per_day is None or per_day >= PLENTY_PER_DAY:
            return None
        key = (site.id, setpoint.asset)
        budget = self._budgets.get(key) or WriteBudget.full(per_day, at)
        self._budgets[key] = budget.now(at)
        return self._budgets[key]

    def _writes_per_day(self, site: Site, asset: str, quantity: Quantity) -> int | None:
        found = site.asset(asset)
        if found is None or quantity not in CONTROLS:
            return None
        return self._ports.devices[site.id, found.device].writes_per_day.get(CONTROLS[quantity])

    def _validity(self, site: Site) -> timedelta:
        """Return how long setpoints of a site hold: longer where every renewal wears a register that is kept in flash."""
        known = self._validities.get(site.id)
        if known is not None:
            return known
        scarce: dict[str, int] = {}
        devices = {name: self._ports.devices[site.id, name] for name in site.devices}
        for name, device in devices.items():
            if Capability.REVERTS in device.capabilities:
                scarce |= {f"{name}.{c}": n for c, n in device.writes_per_day.items() if n < PLENTY_PER_DAY}
        validity = longest_validity(scarce, usual=self._valid_for)
        if all(device.capabilities for device in devices.values()):
            self._validities[site.id] = validity
        return validity

    def _course(self, course: _Course, state: SiteState, at: datetime) -> Course | None:
        """Return what the site is to do now: decided anew with the meter where that is known, else as planned."""
        planned = course_of_plan(course.site, course.plan, at)
        course.urgent = False
        if planned is None or not state.steerable or course.standing.paused is not None:
            course.decided = course.swing = None
            return None
        if course.plan.islanded:
            return planned  # the inverter follows the load of an island faster than we could
        load_kw = self._load_kw(course, state, at)
        if load_kw is None:
            return planned
        course.urgent = _breaks_limit(course, state, load_kw, by_kw=self._pace.dead_band_kw)
        self._make_ready(course, state, at)
        if course.dispatch is None:
            return planned
        if (
            course.decided is None
            or course.urgent
            or (course.swing is None and self._is_news(course, state, load_kw, at))
        ):
            course.decided = self._decided(course, planned, state, load_kw, at)
            course.decided_on, course.decided_at = _inputs_kw(course, state, load_kw), at
        return course.decided

    def _is_news(self, course: _Course, state: SiteState, load_kw: float, at: datetime) -> bool:
        """Tell whether what is seen could lead to another setpoint than it did last time."""
        now_kw = _inputs_kw(course, state, load_kw)
        old = course.decided_at is None or not timedelta(0) <= at - course.decided_at < DECIDE_EVERY
        if old or len(now_kw) != len(course.decided_on):
            return True
        return any(
            abs(now - before) > SAME_SHARE * self._pace.dead_band_kw
            for now, before in zip(now_kw, course.decided_on, strict=True)
        )

    def _make_ready(self, course: _Course, state: SiteState, at: datetime) -> None:
        """Make what decides the present interval. A pass makes only so many; for others what is known stands in so long."""
        index = course.plan.index_at(at)
        if index == course.made_for or index is None:
            return
        start_s, worth = int(course.plan.starts_s[index]), None
        if self._make_left_s <= 0.0:
            if index == course.standing_in:
                return
            worth = course.worths.get(start_s)
            if worth is None and not course.urgent:
                if course.made_for is not None or course.standing_in is not None:
                    course.dispatch = course.decided = course.standing_in = None
                return
        outlook, expected = course.outlook, course.expected
        if index:
            outlook, expected = from_interval(outlook, expected, index)
        known = state if index or worth is not None else course.state
        began_s = time.perf_counter()
        course.dispatch = _dispatch(course.site, known, expected, outlook, course.orders, worth)
        self._make_left_s -= time.perf_counter() - began_s
        course.alone = course.decided = None
        if worth is not None:
            course.standing_in = index
            return
        course.made_for, course.standing_in = index, None
        found = None if course.dispatch is None else course.dispatch.worth
        if found is not None and found.later is not None:
            course.worths = {start_s: found, start_s + course.outlook.step_s: found.later}

    def _load_kw(self, course: _Course, state: SiteState, at: datetime) -> float | None:
        """Return the load that is certain now [kW]; closes the swing when meter and devices agree again."""
        seen, meter_kw = state.powers, state.powers.net_import_kw
        if seen.load_kw is None or meter_kw is None:
            return None
        swing = course.swing
        if swing is not None:
            apart_kw = max(_apart_kw(course, seen, self._pace), default=0.0)
            course.swing = swing = seen_again(swing, at=at, apart_kw=apart_kw)
            if is_over(swing, at=at, meter_kw=meter_kw, pace=self._pace):
                course.swing = swing = None
        if swing is None or course.believed_kw is None:
            course.believed_kw = seen.load_kw
        else:
            course.believed_kw = certain_load_kw(
                swing, believed_kw=course.believed_kw, meter_kw=meter_kw, drawn_kw=meter_kw - seen.load_kw
            )
        return course.believed_kw

    def _decided(
        self, course: _Course, planned: Course, state: SiteState, load_kw: float, at: datetime
    ) -> Course:
        """Decide anew. A vehicle that would break the connection's limit is throttled, or paused for a while."""
        dispatch = course.dispatch
        if dispatch is None:
            return planned
        vehicles = [vehicle.name for vehicle in dispatch.problem.of(Vehicle)]
        loose_kw = sum(kw or 0.0 for name, kw in state.powers.vehicle_kw.items() if name not in vehicles)
        available_kw = _available_kw(course, state, planned, at)

        def ask(of: ValuedDispatch, others_kw: float) -> FirstInterval:
            steered = {asset.name for asset in of.problem.assets}  # a derated battery is none of them
            return of.resolve_first(
                load_kw=max(0.0, load_kw) + loose_kw + others_kw,
                pv_available_kw=available_kw,
                stored_kwh={name: kwh for name, kwh in state.stored_kwh.items() if name in steered},
                import_limit_kw=course.standing.import_limit.kw,
                export_limit_kw=course.standing.export_limit.kw,
            )

        first = ask(dispatch, 0.0)
        if first.outcome not in USABLE:
            return planned
        decided = merged(course.site, planned, first)
        if not vehicles:
            return decided
        seen = _as_believed(course, state)
        kept = within_limits(course.site, decided, seen.powers, seen.stored_kwh, course.standing)
        vehicle_kw = {
            name: 0.0 if at < course.paused_until.get(name, at) else max(0.0, kept.vehicle_kw[name])
            for name in vehicles
        }
        for name in vehicles:
            held = course.asked.get(f"{name}.{Quantity.VEHICLE_LIMIT}")
            if held is not None and held.value_kw and vehicle_kw[name] == 0.0:
                course.paused_until[name] = at + self._pace.vehicle_pause
        if any(abs(vehicle_kw[name] - first.net_consumption_kw[name]) > CURTAILED_KW for name in vehicles):
            # a vehicle that yields leaves the battery another task
            if course.alone is None:
                course.alone = ValuedDispatch(_without_vehicles(dispatch.problem))
            other = ask(course.alone, sum(vehicle_kw.values()))
            decided = decided if other.outcome not in USABLE else merged(course.site, planned, other)
        return replace(decided, vehicle_kw={**decided.vehicle_kw, **vehicle_kw})

    def _open_swing(
        self, course: _Course, state: SiteState, setpoints: Iterable[Setpoint], *, at: datetime
    ) -> None:
        """Note that devices are about to change their power."""
        seen = state.powers
        changes = [
            (setpoint.value_kw, seen.battery_kw.get(setpoint.asset, seen.vehicle_kw.get(setpoint.asset)))
            for setpoint in setpoints
            if setpoint.quantity in (Quantity.BATTERY_POWER, Quantity.VEHICLE_LIMIT)
        ]
        change_kw = sum(to - now for to, now in changes if to is not None and now is not None)
        if abs(change_kw) <= self._pace.dead_band_kw or seen.net_import_kw is None or seen.load_kw is None:
            return
        course.swing = swing_after(
            course.swing,
            at=at,
            drawn_kw=seen.net_import_kw - seen.load_kw,
            change_kw=change_kw,
            meter_kw=seen.net_import_kw,
        )

    def _plan_anew(self, course: _Course, state: SiteState, orders: Sequence[Order], at: datetime) -> None:
        """Plan one site between two cycles: the grid went or came, and the plan in force speaks of another world."""
        outlook = replace(course.outlook, sites=(course.expected,))
        (plan,) = make_plans(
            (course.site,),
            (state,),
            outlook,
            (course.plan,),
            solve=self._ports.solve,
            valid_for=course.plan.valid_until - course.plan.issued_at,
            orders=orders,
        )
        course.plan = plan
        course.forget(orders, state)

    async def hear(self, setpoint: Setpoint, delivery: Delivery) -> None:
        """Take over what a building controller answered to a setpoint that was sent to it, while that is in force."""
        async with self._ports.acting.of(setpoint.site_id):
            course = self._courses.get(setpoint.site_id)
            held = None if course is None else course.asked.get(_key(setpoint))
            if held is not None and held.id == setpoint.id:
                self._remember((setpoint,), (delivery,))

    def _remember(self, setpoints: Sequence[Setpoint], deliveries: Sequence[Delivery]) -> None:
        outcomes = {delivery.setpoint_id: delivery for delivery in deliveries}
        for setpoint in setpoints:
            delivery = outcomes[setpoint.id]
            course = self._courses.get(setpoint.site_id)
            if course is None:
                continue
            self._metrics.setpoints.labels(outcome=delivery.outcome).inc()
            budget = self._budget(course.site, setpoint, setpoint.valid_from) if delivery.written else None
            if budget is not None:
                self._budgets[setpoint.site_id, setpoint.asset] = budget.spent()
            if delivery.outcome in IN_FORCE:
                _replace(course.asked, _as_held(setpoint, delivery))
                if delivery.outcome is DeliveryOutcome.CLAMPED:
                    course.clamped_kw[setpoint.id] = delivery.held_kw
                course.refused_at.pop(_key(setpoint), None)
            else:
                course.asked.pop(_key(setpoint), None)
                course.refused_at[_key(setpoint)] = setpoint.valid_from


def _asks_anew(before: Standing, now: Standing) -> bool:
    """Tell whether people ask for something else than the dispatch was made with; limits it takes as they come."""
    return (before.paused, before.targets) != (now.paused, now.targets)


def _dispatch(
    site: Site,
    state: SiteState,
    expected: SiteOutlook,
    outlook: Outlook,
    orders: Sequence[Order],
    worth: StoredWorth | None,
) -> ValuedDispatch | None:
    """Return what decides a site's first interval; None where its state does not carry a problem."""
    if state.quality is Quality.BAD:
        return None
    try:
        return hedged_dispatch(site, state, expected, outlook, orders=orders, worth=worth)
    except InvalidProblem as error:
        log.warning("fast_loop.no_dispatch site=%s cause=%s", site.id, error)
        return None


def _inputs_kw(course: _Course, state: SiteState, load_kw: float) -> tuple[float, ...]:
    """What a decision rests on: load, sun, vehicles and limits [kW], and stored energy as the power it gives for an hour."""
    counts = course.standing
    powers = (*state.powers.pv_kw.values(), *state.powers.vehicle_kw.values())
    return (
        load_kw,
        counts.import_limit.kw,
        counts.export_limit.kw,
        *(0.0 if kw is None else kw for kw in powers),
        *state.stored_kwh.values(),
    )


def _as_believed(course: _Course, state: SiteState) -> SiteState:
    """Return the state with the meter as it would be if all devices showed their power at the same instant."""
    powers = state.powers
    if course.believed_kw is None or powers.load_kw is None or powers.net_import_kw is None:
        return state
    if course.believed_kw == powers.load_kw:
        return state
    meter_kw = powers.net_import_kw + course.believed_kw - powers.load_kw
    return replace(state, powers=replace(powers, net_import_kw=meter_kw, load_kw=course.believed_kw))


def _without_vehicles(problem: DispatchProblem) -> DispatchProblem:
    return replace(problem, assets=tuple(a for a in problem.assets if not isinstance(a, Vehicle)))


def _apart_kw(course: _Course, seen: SitePowers, pace: Pace) -> Iterator[float]:
    """Yield how far each battery is from its setpoint beyond what counts as arrived [kW]."""
    for name, shown_kw in seen.battery_kw.items():
        held = course.asked.get(f"{name}.{Quantity.BATTERY_POWER}")
        if held is not None and held.value_kw is not None and shown_kw is not None:
            yield beyond_arrival_kw(held.value_kw, shown_kw, pace)


def _breaks_limit(course: _Course, state: SiteState, load_kw: float, *, by_kw: float) -> bool:
    """Tell whether the connection's limits would be broken once batteries are where they were sent."""
    seen, counts = state.powers, course.standing
    if seen.net_import_kw is None or seen.load_kw is None:
        return False
    net_kw = load_kw + seen.net_import_kw - seen.load_kw
    for name, shown_kw in seen.battery_kw.items():
        held = course.asked.get(f"{name}.{Quantity.BATTERY_POWER}")
        if held is not None and held.value_kw is not None and shown_kw is not None:
            net_kw += held.value_kw - shown_kw
    return net_kw > counts.import_limit.kw + by_kw or -net_kw > counts.export_limit.kw + by_kw


def _available_kw(course: _Course, state: SiteState, planned: Course, at: datetime) -> dict[str, float]:
    """Return the solar power available now: what is delivered, or what was expected where it is held back."""
    index = course.plan.index_at(at) or 0
    available = {}
    for pv in course.site.pvs:
        delivered_kw = state.powers.pv_kw[pv.name]
        expected_kw = float(course.expected.pv[pv.name].mean_kw[min(index, len(course.plan.starts_s) - 1)])
        asked = course.asked.get(f"{pv.name}.{Quantity.GENERATION_LIMIT}")
        capped = asked is not None and asked.value_kw is not None
        held_back = capped or planned.generation_limit_kw.get(pv.name) is not None
        if delivered_kw is None:
            available[pv.name] = expected_kw
        else:
            available[pv.name] = max(delivered_kw, expected_kw) if held_back else delivered_kw
    return available


def merged(site: Site, planned: Course, first: FirstInterval) -> Course:
    """Take powers from the fresh decision. A cap on solar power follows it down at once; it is lifted by plans only."""
    fresh = first.net_consumption_kw
    caps: dict[str, float | None] = {}
    for pv in site.pvs:
        cap_kw = planned.generation_limit_kw.get(pv.name)
        if first.curtailed_kw.get(pv.name, 0.0) > CURTAILED_KW:
            now_kw = max(0.0, -fresh.get(pv.device, fresh.get(pv.name, 0.0)))
            cap_kw = now_kw if cap_kw is None else min(cap_kw, now_kw)
        caps[pv.name] = cap_kw
    return Course(
        battery_kw={name: fresh.get(name, kw) for name, kw in planned.battery_kw.items()},
        generation_limit_kw=caps,
        vehicle_kw={name: fresh.get(name, kw) for name, kw in planned.vehicle_kw.items()},
    )


def _key(setpoint: Setpoint) -> str:
    return f"{setpoint.asset}.{setpoint.quantity}"


def _as_held(setpoint: Setpoint, delivery: Delivery) -> Setpoint:
    """Return the setpoint as the device holds it; a ramp step on its way there differs and so is asked again."""
    return replace(setpoint, value_kw=delivery.held_kw) if delivery.underway else setpoint


def _replace(asked: dict[str, Setpoint], setpoint: Setpoint) -> None:
    """Put a setpoint in force; an asset has one quantity at a time."""
    for key in [key for key, held in asked.items() if held.asset == setpoint.asset]:
        del asked[key]
    asked[_key(setpoint)] = setpoint
