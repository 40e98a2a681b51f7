"""Orders: what people and the grid ask of a site until an instant, and which of them counts. Pure.

Who asks decides: safety > grid operator > resident or operator > demand-response event > plan. A target goes to whoever
ranks highest, then to the newest. Limits hold together, so the tightest counts; it binds every target, whoever asked for
it, with one exception: people who take over an asset leave the events of the site.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from ems.site import Site


class SetpointSource(StrEnum):
    """Who asked."""

    PLAN = "plan"
    """The planning cycle."""
    FAST_LOOP = "fast_loop"
    """The fast loop between two cycles."""
    EVENT = "event"
    """A demand-response event."""
    OVERRIDE = "override"
    """A resident or operator."""
    GRID_OPERATOR = "grid_operator"
    """The grid operator's limit signal."""
    SAFETY = "safety"
    """The service itself: a fail-safe limit, or a device given back to its own mode."""


PRIORITIES: Mapping[SetpointSource, int] = {
    SetpointSource.PLAN: 10,
    SetpointSource.FAST_LOOP: 10,
    SetpointSource.EVENT: 20,
    SetpointSource.OVERRIDE: 30,
    SetpointSource.GRID_OPERATOR: 40,
    SetpointSource.SAFETY: 50,
}
"""Higher wins. The fast loop carries the plan out, so it ranks with it."""


class OrderKind(StrEnum):
    """What is asked."""

    PAUSE = "pause"
    """Automatic control of the site rests; devices run their own mode."""
    TARGET = "target"
    """An asset goes to a power: battery charging +, discharging -; a vehicle charges with it."""
    IMPORT_LIMIT = "import_limit"
    """The site draws at most this from the grid; no value says that the signal is alive and sets no limit."""
    EXPORT_LIMIT = "export_limit"
    """The site feeds at most this into the grid; no value as above."""


LIMITS = (OrderKind.IMPORT_LIMIT, OrderKind.EXPORT_LIMIT)
"""Kinds that bound the connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Somebody's word to a site; it ends by itself at `until_at`."""

    id: str
    """Unique; the same request made twice has the same id."""
    site_id: str
    """The site."""
    by: str
    """Who asked: the key id, event or device the request came with."""
    kind: OrderKind
    """What is asked."""
    from_at: datetime
    """First instant it holds (aware UTC)."""
    until_at: datetime
    """It ends by itself here (aware UTC)."""
    source: SetpointSource = SetpointSource.OVERRIDE
    """In whose name; decides its rank."""
    asset: str | None = None
    """The asset of a target; None: the site."""
    value_kw: float | None = None
    """Target or limit [kW]; None for a pause, or for a signal that sets no limit."""
    note: str = ""
    """What was said about it."""
    ended_at: datetime | None = None
    """When somebody ended it early; None when nobody did (aware UTC)."""
    ended_by: str | None = None
    """Who ended it early."""

    @property
    def ends_at(self) -> datetime:
        """When it ceases to hold."""
        return self.until_at if self.ended_at is None else min(self.ended_at, self.until_at)

    @property
    def subject(self) -> str:
        """What two orders contend for: a target's asset, the pause of the site, or one of its limits."""
        return f"{self.asset}.{self.kind}" if self.kind is OrderKind.TARGET else str(self.kind)

    def holds_at(self, at: datetime) -> bool:
        """Tell whether it is in force."""
        return self.from_at <= at < self.ends_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Outranked:
    """An order in force that does not count, and why."""

    order: Order
    """The one that lost."""
    winner: str
    """Who won: the source, with the id of its order where there is one."""
    why: str
    """Why, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What bounds the connection in one direction."""

    kw: float
    """Most power [kW]."""
    source: SetpointSource | None
    """Who set it; None: it is the connection's own."""
    order_id: str | None = None
    """The order; None for the connection's own and for the fail-safe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What counts at one site at one instant."""

    paused: Order | None
    """The pause in force."""
    targets: Mapping[str, Order]
    """The target that counts, by asset."""
    import_limit: Limit
    """What bounds import."""
    export_limit: Limit
    """What bounds export."""
    signal_lost: bool
    """Whether the grid operator's signal that the site lives under is missing."""
    outranked: tuple[Outranked, ...] = ()
    """Orders in force that do not count."""


def standing(site: Site, orders: Iterable[Order], *, at: datetime) -> Standing:
    """Return what counts at `at`, and what does not and why.

    Parameters
    ----------
    site
        The site.
    orders
        Orders of any site and time; those of this site in force are looked at.
    at
        The instant (aware UTC).
    """
    holding = sorted(
        (order for order in orders if order.site_id == site.id and order.holds_at(at)), key=_rank
    )
    outranked: list[Outranked] = []
    paused = _first([order for order in holding if order.kind is OrderKind.PAUSE], outranked)
    targets: dict[str, Order] = {}
    for asset in site.assets:
        asked = [o for o in holding if o.kind is OrderKind.TARGET and o.asset == asset.name]
        if paused is not None:
            outranked += [_lost(order, paused, "the site is paused") for order in asked]
        elif (winner := _first(asked, outranked)) is not None:
            targets[asset.name] = winner
    people = paused or next((o for o in targets.values() if o.source is SetpointSource.OVERRIDE), None)
    bounds = []
    for order in holding:
        if order.kind not in LIMITS:
            continue
        if order.source is SetpointSource.EVENT and people is not None:
            outranked.append(_lost(order, people, "people have taken over: the site is out of its events"))
        else:
            bounds.append(order)
    lost = site.grid_signal is not None and not any(
        order.source is SetpointSource.GRID_OPERATOR for order in bounds
    )
    signal = site.grid_signal if lost else None
    return Standing(
        paused=paused,
        targets=targets,
        import_limit=_tightest(
            bounds,
            OrderKind.IMPORT_LIMIT,
            own_kw=site.connection.import_limit_kw,
            failsafe_kw=None if signal is None else signal.failsafe_import_kw,
            outranked=outranked,
        ),
        export_limit=_tightest(
            bounds,
            OrderKind.EXPORT_LIMIT,
            own_kw=site.connection.export_limit_kw,
            failsafe_kw=None if signal is None else signal.failsafe_export_kw,
            outranked=outranked,
        ),
        signal_lost=lost,
        outranked=tuple(outranked),
    )


def standings(site: Site, orders: Sequence[Order], instants: Sequence[datetime]) -> tuple[Standing, ...]:
    """Return what counts at each of `instants`, the first of which is now, as far as it is known now.

    A signal that is alive now is renewed later, so nothing is assumed to be lost then; one that is lost now is taken to
    stay lost.
    """
    mine = [order for order in orders if order.site_id == site.id]
    now = standing(site, mine, at=instants[0])
    later = site if now.signal_lost else replace(site, grid_signal=None)
    edges = sorted({edge for order in mine for edge in (order.from_at, order.ends_at)})
    found = [now]
    for before, at in pairwise(instants):
        changed = len(found) == 1 or any(before < edge <= at for edge in edges)
        found.append(standing(later, mine, at=at) if changed else found[-1])
    return tuple(found)


def _rank(order: Order) -> tuple[int, float, str]:
    return -PRIORITIES[order.source], -order.from_at.timestamp(), order.id


def _first(ranked: Sequence[Order], outranked: list[Outranked]) -> Order | None:
    """Return the first of orders in order of rank; the others are noted as lost."""
    for order in ranked[1:]:
        why = "it ranks lower" if order.source is not ranked[0].source else "a newer order of the same rank"
        outranked.append(_lost(order, ranked[0], why))
    return ranked[0] if ranked else None


def _tightest(
    bounds: Sequence[Order],
    kind: OrderKind,
    *,
    own_kw: float,
    failsafe_kw: float | None,
    outranked: list[Outranked],
) -> Limit:
    limit = Limit(kw=own_kw, source=None)
    if failsafe_kw is not None and failsafe_kw < own_kw:
        limit = Limit(kw=failsafe_kw, source=SetpointSource.SAFETY)
    asked = [order for order in bounds if order.kind is kind and order.value_kw is not None]
    for order in asked:
        if order.value_kw is not None and order.value_kw < limit.kw:
            limit = Limit(kw=order.value_kw, source=order.source, order_id=order.id)
    for order in asked:
        if order.id != limit.order_id:
            winner = (
                "connection" if limit.source is None else f"{limit.source} {limit.order_id or ''}".strip()
            )
            outranked.append(
                Outranked(order=order, winner=winner, why=f"{limit.kw:g} kW is the tighter limit")
            )
    return limit


def _lost(order: Order, winner: Order, why: str) -> Outranked:
    return Outranked(order=order, winner=f"{winner.source} {winner.id}", why=why)
