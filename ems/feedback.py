"""Feedback: what happened, what it cost, what it saved. Pure.

The saving of an interval is what the same household would have paid with its storage idle, at the same prices and with
the same load and sun, less what it did pay.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ems.codec import FloatArray, IntArray
from ems.conduct import Conduct, Trust
from ems.metering import conversion
from ems.orders import Limit, Order, Standing, standing
from ems.plan import Plan
from ems.readings import Quality, Snapshot
from ems.site import Site
from ems.state import GridState, MeasuredInterval, SiteState


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalAccount:
    """One interval of one site in energy and money."""

    measured: MeasuredInterval
    """The energy."""
    buy_per_kwh: float
    """Price of imported energy [1/kWh]."""
    sell_per_kwh: float
    """Price paid for exported energy [1/kWh]."""
    cost: float | None
    """Paid for the interval, in the site's currency; income is negative; None when energy is unknown."""
    cost_idle: float | None
    """The same with storage idle."""
    planned_import_kw: float | None
    """What the plan of that interval expected to draw, net [kW], + import."""

    @property
    def site_id(self) -> str:
        """The site."""
        return self.measured.site_id

    @property
    def start_at(self) -> datetime:
        """Start of the interval."""
        return self.measured.start_at

    @property
    def quality(self) -> Quality:
        """Trust in the energy."""
        return self.measured.quality

    @property
    def saving(self) -> float | None:
        """Saved against idle storage, in the site's currency."""
        if self.cost is None or self.cost_idle is None:
            return None
        return self.cost_idle - self.cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A change worth telling once: a step on the ladder of control, a device lost or back."""

    at: datetime
    """When (aware UTC)."""
    site_id: str
    """Where."""
    subject: str
    """What changed, e.g. `plan` or `device.inverter`."""
    became: str
    """What it is now, e.g. `rule`, `lost`, `back`."""
    cause: str
    """Why, in one line."""


Prices = Callable[[Site, IntArray], tuple[FloatArray, FloatArray, int]]
"""What a site pays and is paid per interval [1/kWh], and how many of the prices are assumed."""


def review(
    sites: Sequence[Site],
    measured: Sequence[MeasuredInterval],
    plans: Sequence[Plan | None],
    *,
    prices: Prices,
) -> tuple[IntervalAccount, ...]:
    """Value every interval that has ended.

    Parameters
    ----------
    sites, plans
        The batch and the plans that were in force, in the same order.
    measured
        The energy of the intervals, in any order.
    prices
        Looks up what held at an interval.
    """
    by_id = {site.id: (site, plan) for site, plan in zip(sites, plans, strict=True)}
    accounts = []
    for interval in measured:
        site, plan = by_id[interval.site_id]
        buy_per_kwh, sell_per_kwh, _ = prices(site, np.array([int(interval.start_at.timestamp())]))
        accounts.append(
            account(
                site,
                interval,
                buy_per_kwh=float(buy_per_kwh[0]),
                sell_per_kwh=float(sell_per_kwh[0]),
                plan=plan,
            )
        )
    return tuple(accounts)


def account(
    site: Site, measured: MeasuredInterval, *, buy_per_kwh: float, sell_per_kwh: float, plan: Plan | None
) -> IntervalAccount:
    """Value one interval.

    Parameters
    ----------
    site
        The site.
    measured
        The energy of the interval.
    buy_per_kwh, sell_per_kwh
        Prices that held [1/kWh].
    plan
        The plan that was in force, for what it expected.
    """
    cost = None
    if measured.import_kwh is not None and measured.export_kwh is not None:
        cost = measured.import_kwh * buy_per_kwh - measured.export_kwh * sell_per_kwh
    index = None if plan is None else plan.index_at(measured.start_at)
    return IntervalAccount(
        measured=measured,
        buy_per_kwh=buy_per_kwh,
        sell_per_kwh=sell_per_kwh,
        cost=cost,
        cost_idle=_cost_idle(site, measured, buy_per_kwh, sell_per_kwh),
        planned_import_kw=None
        if plan is None or index is None
        else float(plan.import_kw[index] - plan.export_kw[index]),
    )


def _cost_idle(
    site: Site, measured: MeasuredInterval, buy_per_kwh: float, sell_per_kwh: float
) -> float | None:
    """Return what the interval had cost with storage idle: the same load, vehicle and sun, no battery."""
    vehicle_kwh = measured.vehicle_kwh if site.vehicles else 0.0
    if measured.load_kwh is None or vehicle_kwh is None or (site.pvs and measured.pv_kwh is None):
        return None
    net_kwh = measured.load_kwh + vehicle_kwh - conversion(site, measured.pv_kwh or 0.0)
    return max(0.0, net_kwh) * buy_per_kwh - max(0.0, -net_kwh) * sell_per_kwh


def edges_between(
    before: Sequence[Plan | None],
    now: Sequence[Plan],
    lost_before: Mapping[str, Mapping[str, str]],
    snapshot: Snapshot,
) -> tuple[Edge, ...]:
    """Return what changed since the previous cycle: rungs of the ladder, devices lost and back. Levels are not told."""
    edges: list[Edge] = []
    for previous, plan, reading in zip(before, now, snapshot.sites, strict=True):
        was = None if previous is None else previous.source
        if plan.source is not was and (was is not None or plan.cause is not None):
            edges.append(_edge(snapshot, plan.site_id, "plan", plan.source, plan.cause or "solved again"))
        lost = lost_before.get(plan.site_id, {})
        for device, cause in reading.troubles.items():
            if device not in lost:
                edges.append(_edge(snapshot, plan.site_id, f"device.{device}", "lost", cause))
        for device in lost:
            if device not in reading.troubles:
                edges.append(_edge(snapshot, plan.site_id, f"device.{device}", "back", "answers again"))
    return tuple(edges)


def edges_of_standing(
    site: Site, before: Standing | None, now: Standing, *, at: datetime
) -> tuple[Edge, ...]:
    """Return what changed in whose word counts: limits, pauses, targets, the signal, and who lost against whom."""
    was = standing(site, (), at=at) if before is None else before
    found: list[tuple[str, str, str]] = []
    for name, old, new in (
        ("limit.import", was.import_limit, now.import_limit),
        ("limit.export", was.export_limit, now.export_limit),
    ):
        if (old.kw, old.source) != (new.kw, new.source):
            found.append((name, f"{new.kw:g} kW", _who(new)))
    if _id(was.paused) != _id(now.paused):
        found.append(("control", "automatic" if now.paused is None else "paused", _said(now.paused)))
    for asset in sorted({*was.targets, *now.targets}):
        old_order, new_order = was.targets.get(asset), now.targets.get(asset)
        if _id(old_order) != _id(new_order):
            became = "as planned" if new_order is None else f"{new_order.value_kw or 0.0:g} kW"
            found.append((f"target.{asset}", became, _said(new_order)))
    if was.signal_lost != now.signal_lost:
        cause = "not heard within its heartbeat: fail-safe limit" if now.signal_lost else "heard again"
        found.append(("grid_signal", "lost" if now.signal_lost else "back", cause))
    known = {loser.order.id for loser in was.outranked}
    for loser in now.outranked:
        if loser.order.id not in known:
            cause = f"{loser.order.source} {loser.order.id} gives way to {loser.winner}: {loser.why}"
            found.append((f"order.{loser.order.subject}", "outranked", cause))
    return tuple(
        Edge(at=at, site_id=site.id, subject=subject, became=became, cause=cause)
        for subject, became, cause in found
    )


def edges_of_grid(site: Site, before: GridState, now: SiteState) -> tuple[Edge, ...]:
    """Return the grid's going and coming."""
    if now.grid is before:
        return ()
    causes = {
        GridState.LOST: "the grid is dead: the site runs as an island",
        GridState.RETURNING: "voltage is back; waiting for it to last",
        GridState.PRESENT: "carries the site again",
    }
    return (Edge(at=now.at, site_id=site.id, subject="grid", became=now.grid, cause=causes[now.grid]),)


def edges_of_conduct(site: Site, changed: Sequence[tuple[str, Conduct]], *, at: datetime) -> tuple[Edge, ...]:
    """Return the assets that lost trust, are on trial or have it again."""
    causes = {Trust.TRIAL: "asked again, and watched", Trust.TRUSTED: "did what it was asked"}
    return tuple(
        Edge(
            at=at,
            site_id=site.id,
            subject=f"conduct.{asset}",
            became=conduct.trust,
            cause=causes.get(conduct.trust, conduct.cause),
        )
        for asset, conduct in changed
    )


def _id(order: Order | None) -> str | None:
    return None if order is None else order.id


def _said(order: Order | None) -> str:
    return "it ended" if order is None else f"{order.source} {order.by} until {order.until_at.isoformat()}"


def _who(limit: Limit) -> str:
    return (
        "the connection's own" if limit.source is None else f"{limit.source} {limit.order_id or ''}".strip()
    )


def _edge(snapshot: Snapshot, site_id: str, subject: str, became: str, cause: str) -> Edge:
    return Edge(at=snapshot.at, site_id=site_id, subject=subject, became=became, cause=cause)
