"""The fast loop: keep each site on the best course between two plans.

Every second it reads the meters and re-solves the compiled dispatch, warm, with what is there now in the plan's first
interval. It writes only what changed or is about to expire, and what it writes is journalled first.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ems.clock import StageWatch
from ems.conduct import ConductBook, without_derated
from ems.cycle import CycleRecord, Ports
from ems.errors import MayNotAct
from ems.feedback import Edge, edges_of_conduct, edges_of_grid, edges_of_standing
from ems.guard import bounded_course
from ems.ladder import Ladder, rung_of
from ems.live import Live, LiveState
from ems.metrics import Metrics
from ems.orders import Order, Standing, standing
from ems.outlook import Outlook, SiteOutlook
from ems.plan import Plan
from ems.planning import make_plans, to_problem
from ems.publishing import Delivery, DeliveryOutcome, publish
from ems.readings import Quality, SiteReading, Snapshot, take_snapshot
from ems.setpoints import Course, Quantity, Setpoint, SetpointSource, course_of_plan, derive_setpoints
from ems.site import Site
from ems.state import CarriedState, SiteState, carry, estimate_state
from optimizer import FirstInterval, InvalidProblem, Outcome, WarmDispatch

log = logging.getLogger("ems.fast_loop")

DEAD_BAND_KW = 0.05
"""A setpoint that moved less than this is not written again [kW]."""
USABLE = (Outcome.OPTIMAL, Outcome.FEASIBLE)
IN_FORCE = (DeliveryOutcome.APPLIED, DeliveryOutcome.CLAMPED)
RETRY_SHARE = 0.1
"""A setpoint that was refused is tried again after this share of its validity."""


@dataclass(kw_only=True, slots=True)
class _Course:
    """What one site follows between two cycles."""

    site: Site
    plan: Plan
    outlook: Outlook
    expected: SiteOutlook
    carried: CarriedState
    warm: WarmDispatch | None
    standing: Standing
    """Whose word counted in the latest pass."""
    asked: dict[str, Setpoint] = field(default_factory=dict)
    """Setpoints in force, by asset and quantity."""
    clamped_kw: dict[str, float | None] = field(default_factory=dict)
    """What devices hold instead, by setpoint id [kW]."""
    refused_at: dict[str, datetime] = field(default_factory=dict)
    """When a setpoint was last refused, by asset and quantity."""


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
    ) -> None:
        self._sites = {site.id: site for site in sites}
        self._ports = ports
        self._live = live
        self._metrics = metrics
        self._valid_for = valid_for
        self._courses: dict[str, _Course] = {}
        self._failing: dict[str, str] = {}
        self.book = ConductBook()
        """How devices follow what they are asked."""
        self.trouble: str | None = None
        """Why the latest pass left a site to its devices by mistake of ours; None when it did not."""
        self._followed_at: datetime | None = None
        self._ladder = Ladder(metrics)

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
        for plan in record.plans:
            site, state = self._sites.get(plan.site_id), states[plan.site_id]
            if site is None or site != configured[plan.site_id]:
                continue
            steered = without_derated(site, self.book.conducts)
            self._courses[site.id] = _Course(
                site=steered,
                plan=plan,
                outlook=record.outlook,
                expected=expected[site.id],
                carried=carry(state),
                warm=_warm(steered, state, expected[site.id], record.outlook, record.orders),
                standing=counting[site.id],
                asked=asked.get(site.id, {}),
                clamped_kw=clamped_kw,
            )

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

    async def step(self, *, at: datetime, orders: Sequence[Order] = ()) -> Pass:
        """Read, decide, write what changed. Device trouble is a value; it ends nobody else's pass."""
        watch = StageWatch()
        snapshot = await take_snapshot(self._ports.devices, tuple(self._sites), at=at)
        async with self._ports.acting:
            if self._followed_at is not None and at < self._followed_at:
                # a cycle came in between: what was read is older than the plan that is in force now
                return Pass(snapshot=snapshot, setpoints=(), deliveries=())
            setpoints: list[Setpoint] = []
            edges: list[Edge] = []
            self.trouble = None
            for reading in snapshot.sites:
                setpoints += self._decide_or_let_go(reading, at=at, orders=orders, edges=edges)
            self._ladder.count()
            withheld: MayNotAct | None = None
            deliveries: tuple[Delivery, ...] = ()
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
            withheld=withheld,
        )

    def _decide_or_let_go(
        self, reading: SiteReading, *, at: datetime, orders: Sequence[Order], edges: list[Edge]
    ) -> list[Setpoint]:
        """Decide for one site; a mistake of ours there gives it back to its devices and ends nobody else's pass."""
        try:
            return self._decide(reading, at=at, orders=orders, edges=edges)
        except Exception as error:
            site = self._sites[reading.site_id]
            if self._failing.get(site.id) is None:
                log.exception("fast_loop.site_failed site=%s", site.id)
            self._failing[site.id] = self.trouble = f"{site.id}: {type(error).__name__}: {error}"
            course = self._courses.pop(site.id, None)
            if course is None:
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

    def _decide(
        self, reading: SiteReading, *, at: datetime, orders: Sequence[Order], edges: list[Edge]
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
            told = self.book.look(site, tuple(asked.values()), course.clamped_kw, reading, state)
            edges += edges_of_conduct(site, told, at=at)
            if told or _asks_anew(course.standing, counts):
                course.site = without_derated(site, self.book.conducts)
                course.warm = _warm(course.site, state, course.expected, course.outlook, orders)
            course.standing = counts
            now = bounded_course(course.site, self._course(course, state, at), state, counts)
            edges += self._ladder.note(site.id, *rung_of(course.plan, now, state, counts), at=at)
            wanted = derive_setpoints(
                site,
                now,
                plan=course.plan,
                at=at,
                valid_until=at + self._valid_for,
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
                quality=state.quality,
            ),
        )
        return [setpoint for setpoint in wanted if course is not None and self._is_due(course, setpoint, at)]

    def _is_due(self, course: _Course, wanted: Setpoint, at: datetime) -> bool:
        """Tell whether a setpoint must be written now."""
        refused_at = course.refused_at.get(_key(wanted))
        # here and below, an age below zero is from before the clock was set back: it says nothing
        if refused_at is not None and timedelta(0) <= at - refused_at < RETRY_SHARE * self._valid_for:
            return False
        return _differs(course.asked.get(_key(wanted)), wanted, at)

    def _course(self, course: _Course, state: SiteState, at: datetime) -> Course | None:
        """Return what the site is to do now: re-solved with the meter where that is known, else as planned."""
        planned = course_of_plan(course.site, course.plan, at)
        if planned is None or not state.steerable or course.standing.paused is not None:
            return None
        if course.plan.islanded:
            return planned  # the inverter follows the load of an island faster than we could
        if course.warm is None or state.powers.load_kw is None:
            return planned
        first = course.warm.resolve_first(
            load_kw=max(0.0, state.powers.load_kw),
            pv_available_kw=_available_kw(course, state, planned, at),
            stored_kwh=dict(state.stored_kwh),
            import_limit_kw=course.standing.import_limit.kw,
            export_limit_kw=course.standing.export_limit.kw,
        )
        return planned if first.outcome not in USABLE else merged(course.site, planned, first)

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
        course.warm = _warm(course.site, state, course.expected, course.outlook, orders)

    def _remember(self, setpoints: Sequence[Setpoint], deliveries: Sequence[Delivery]) -> None:
        outcomes = {delivery.setpoint_id: delivery for delivery in deliveries}
        for setpoint in setpoints:
            delivery = outcomes[setpoint.id]
            course = self._courses.get(setpoint.site_id)
            if course is None:
                continue
            self._metrics.setpoints.labels(outcome=delivery.outcome).inc()
            if delivery.outcome in IN_FORCE:
                _replace(course.asked, _as_held(setpoint, delivery))
                if delivery.outcome is DeliveryOutcome.CLAMPED:
                    course.clamped_kw[setpoint.id] = delivery.held_kw
                course.refused_at.pop(_key(setpoint), None)
            else:
                course.asked.pop(_key(setpoint), None)
                course.refused_at[_key(setpoint)] = setpoint.valid_from


def _asks_anew(before: Standing, now: Standing) -> bool:
    """Tell whether people ask for something else than the warm dispatch was made with; limits it takes as they come."""
    return (before.paused, before.targets) != (now.paused, now.targets)


def _warm(
    site: Site, state: SiteState, expected: SiteOutlook, outlook: Outlook, orders: Sequence[Order]
) -> WarmDispatch | None:
    """Return the compiled dispatch of a site, warm; None where its state does not carry one."""
    if state.quality is Quality.BAD:
        return None
    try:
        return WarmDispatch(to_problem(site, state, expected, outlook, orders=orders))
    except InvalidProblem as error:
        log.warning("fast_loop.no_dispatch site=%s cause=%s", site.id, error)
        return None


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
        if first.curtailed_kw.get(pv.name, 0.0) > DEAD_BAND_KW:
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


def _differs(held: Setpoint | None, wanted: Setpoint, at: datetime) -> bool:
    """Tell whether a setpoint must be written: new, moved beyond the dead band, or half expired."""
    if held is None:
        return True
    if wanted.value_kw is None or held.value_kw is None:
        return wanted.value_kw is not held.value_kw
    if abs(wanted.value_kw - held.value_kw) > DEAD_BAND_KW:
        return True
    return not timedelta(0) <= at - held.valid_from < (held.valid_until - held.valid_from) / 2


def _as_held(setpoint: Setpoint, delivery: Delivery) -> Setpoint:
    """Return the setpoint as the device holds it; a ramp step on its way there differs and so is asked again."""
    return replace(setpoint, value_kw=delivery.held_kw) if delivery.underway else setpoint


def _replace(asked: dict[str, Setpoint], setpoint: Setpoint) -> None:
    """Put a setpoint in force; an asset has one quantity at a time."""
    for key in [key for key, held in asked.items() if held.asset == setpoint.asset]:
        del asked[key]
    asked[_key(setpoint)] = setpoint
