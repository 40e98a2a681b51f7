"""The cycle: reading -> state -> outlook -> plan -> setpoint -> feedback, for a batch of sites.

It only goes forward. What one cycle leaves for the next is its record, and nothing else.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ems.clock import StageWatch
from ems.conduct import Conduct, Conducts, without_derated
from ems.feedback import Edge, IntervalAccount, edges_between, edges_of_grid, edges_of_standing, review
from ems.foresight import Foresight
from ems.guard import bounded_course
from ems.metering import SiteMeter
from ems.orders import Order, Standing, standing
from ems.outlook import Outlook
from ems.plan import Plan
from ems.planning import Solve, make_plans
from ems.publishing import Delivery, Journal, publish
from ems.readings import Device, Snapshot, take_snapshot
from ems.setpoints import Setpoint, SetpointSource, course_of_plan, derive_setpoints
from ems.site import Site
from ems.state import CarriedState, GridState, SiteState, carry, estimate_states, stored_total_kwh
from ems.turns import Turns


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleRecord:
    """Everything one cycle saw, decided and brought about; enough to make the same plan again."""

    at: datetime
    """Start of the first planned interval (aware UTC); names the record."""
    sites: tuple[Site, ...]
    """The batch as configured."""
    snapshot: Snapshot
    """What the devices said."""
    states: tuple[SiteState, ...]
    """What that was taken to mean."""
    outlook: Outlook
    """What was expected."""
    previous: tuple[Plan | None, ...]
    """The plans in force before."""
    plans: tuple[Plan, ...]
    """What was decided."""
    setpoints: tuple[Setpoint, ...]
    """What was asked of devices."""
    deliveries: tuple[Delivery, ...]
    """What became of it."""
    accounts: tuple[IntervalAccount, ...]
    """The intervals that had ended, in energy and money."""
    edges: tuple[Edge, ...]
    """What changed."""
    valid_for: timedelta
    """How long its plans and setpoints may be acted on."""
    missed: int
    """Planning instants since the previous record at which no cycle ran."""
    overlapped: int
    """Planning instants since the previous record that were skipped because a cycle was still running."""
    took_ms: float
    """Wall time of the whole cycle [ms]."""
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    """Wall time by stage of the way: reading, outlook, plan, setpoint [ms]."""
    orders: tuple[Order, ...] = ()
    """What people and the grid had asked for, then or later."""
    standings: tuple[Standing, ...] = ()
    """Whose word counted, and who lost against whom; one per site."""
    conducts: Mapping[str, Mapping[str, Conduct]] = field(default_factory=dict)
    """How devices had followed what they were asked, by site and asset; plans did without the derated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """What the cycle acts through."""

    devices: Mapping[tuple[str, str], Device]
    """By (site id, device name)."""
    meters: Mapping[str, SiteMeter]
    """What adds up energy between cycles, by site."""
    foresight: Foresight
    """The forecasters."""
    solve: Solve
    """The optimiser."""
    valid_for: timedelta
    """How long plans and setpoints may be acted on."""
    journal: Journal
    """Keeps setpoints before they are written, so that none is ever unknown."""
    acting: Turns = field(default_factory=Turns)
    """Taken by whoever decides and writes setpoints: the cycle and the fast loop never write at once."""
    now: Callable[[], datetime] | None = None
    """Site time, for what passes between decision and write; None: nothing does."""


async def run_cycle(
    sites: tuple[Site, ...],
    ports: Ports,
    previous: CycleRecord | None,
    *,
    at: datetime,
    orders: Sequence[Order] = (),
    conducts: Conducts | None = None,
    told: Mapping[str, tuple[Standing, GridState]] | None = None,
    missed: int = 0,
    overlapped: int = 0,
) -> CycleRecord:
    """Run one cycle for a batch.

    Parameters
    ----------
    sites, ports
        The batch and what it acts through.
    previous
        The record of the cycle before; None at a first start.
    at
        Start of the first interval to plan.
    orders
        What people and the grid ask of any site, then or later.
    told
        What the fast loop has told since `previous`, by site: whose word counts, and whether the grid is there. A change
        is told once, by whoever saw it first.
    conducts
        How devices have followed what they were asked; None: nothing is held against any.
    missed, overlapped
        Instants without a cycle since `previous`, for the record.
    """
    watch = StageWatch()
    ids = tuple(site.id for site in sites)
    before = plans_by_site(previous, sites)
    known = {site_id: dict(assets) for site_id, assets in (conducts or {}).items()}
    steered = tuple(without_derated(site, known) for site in sites)

    snapshot = await take_snapshot(ports.devices, ids, at=at)
    watch.lap("reading")
    carried = carried_states(previous)
    states = estimate_states(sites, snapshot, carried)
    for site, reading, state in zip(sites, snapshot.sites, states, strict=True):
        ports.meters[site.id].close(reading, at=at, stored_kwh=stored_total_kwh(site, state))
    measured = tuple(interval for site in sites for interval in ports.meters[site.id].unsettled)
    outlook = await asyncio.to_thread(ports.foresight.foresee, measured, at=at, states=states)
    watch.lap("outlook")
    plans = await asyncio.to_thread(
        make_plans,
        steered,
        states,
        outlook,
        before,
        solve=ports.solve,
        valid_for=ports.valid_for,
        orders=orders,
    )
    watch.lap("plan")
    counting = tuple(
        standing(site, (*orders, *state.signal), at=at) for site, state in zip(sites, states, strict=True)
    )
    async with ports.acting:
        setpoints = tuple(
            setpoint
            for site, rest, plan, state, counts in zip(sites, steered, plans, states, counting, strict=True)
            for setpoint in setpoints_of(site, rest, plan, state, counts, at=at, valid_for=ports.valid_for)
        )
        deliveries = await publish(
            ports.devices, {site.id: site for site in sites}, setpoints, journal=ports.journal, now=ports.now
        )
    watch.lap("setpoint")
    for site, plan, counts in zip(sites, plans, counting, strict=True):
        held_back = counts.paused is None and any(plan.holds_back(pv.name, at) for pv in site.pvs)
        ports.meters[site.id].curtailed = held_back
    accounts = review(sites, measured, before, prices=ports.foresight.prices)
    edges = edges_between(before, plans, troubles_by_site(previous), snapshot)
    for site, now, state in zip(sites, counting, states, strict=True):
        was, grid = (told or {}).get(site.id) or last_told(previous, site)
        edges += (*edges_of_standing(site, was, now, at=at), *edges_of_grid(site, grid, state))
    for meter in ports.meters.values():
        meter.settle()

    return CycleRecord(
        at=at,
        sites=sites,
        snapshot=snapshot,
        states=states,
        outlook=outlook,
        previous=before,
        plans=plans,
        setpoints=setpoints,
        deliveries=deliveries,
        accounts=accounts,
        edges=edges,
        valid_for=ports.valid_for,
        missed=missed,
        overlapped=overlapped,
        took_ms=watch.total_ms,
        stage_ms=watch.laps_ms,
        orders=tuple(orders),
        standings=counting,
        conducts=known,
    )


def setpoints_of(
    site: Site,
    steered: Site,
    plan: Plan,
    state: SiteState,
    counts: Standing,
    *,
    at: datetime,
    valid_for: timedelta,
) -> tuple[Setpoint, ...]:
    """Return what one site is asked at the start of an interval.

    Parameters
    ----------
    site, steered
        The site, and the same without what is derated: that gets its own mode.
    plan, state, counts
        What it intends, how it is, and whose word counts.
    at, valid_for
        From when on and how long it holds.
    """
    return derive_setpoints(
        site,
        bounded_course(steered, course_of_plan(steered, plan, at), state, counts),
        plan=plan,
        at=at,
        valid_until=at + valid_for,
        source=SetpointSource.OVERRIDE if counts.paused else SetpointSource.PLAN,
        standing=counts,
    )


def replay(record: CycleRecord, *, solve: Solve) -> tuple[Plan, ...]:
    """Make the plans of a record again from what it saw; the same input gives the same plans."""
    return make_plans(
        tuple(without_derated(site, record.conducts) for site in record.sites),
        record.states,
        record.outlook,
        record.previous,
        solve=solve,
        valid_for=record.valid_for,
        orders=record.orders,
    )


def plans_by_site(record: CycleRecord | None, sites: tuple[Site, ...]) -> tuple[Plan | None, ...]:
    """Return the plans a record left, in the order of `sites`; none for a site that was configured otherwise then."""
    if record is None:
        return (None,) * len(sites)
    configured = {site.id: site for site in record.sites}
    left = {plan.site_id: plan for plan in record.plans}
    return tuple(left.get(site.id) if configured.get(site.id) == site else None for site in sites)


def last_told(record: CycleRecord | None, site: Site) -> tuple[Standing | None, GridState]:
    """Return whose word counted at a site in a record, and whether the grid was there."""
    if record is not None:
        for known, counts, state in zip(record.sites, record.standings, record.states, strict=False):
            if known.id == site.id:
                return counts, state.grid
    return None, GridState.PRESENT


def troubles_by_site(record: CycleRecord | None) -> dict[str, Mapping[str, str]]:
    """Return the devices that could not be read, by site."""
    return {} if record is None else {reading.site_id: reading.troubles for reading in record.snapshot.sites}


def carried_states(record: CycleRecord | None) -> dict[str, CarriedState]:
    """Return what a record leaves for the next estimate."""
    return {} if record is None else {state.site_id: carry(state) for state in record.states}
