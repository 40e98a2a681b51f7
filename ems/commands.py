"""What people and the grid may change, audited: who asked, when, and until when it holds.

Everything is an order (`ems.orders`) that ends by itself. People's word always wins over the plan's, and the next solve
plans around it. An order is on disk before the caller hears that it was taken.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from ems.access import Principal
from ems.channels import Ledger, Verdict
from ems.clock import Clock
from ems.errors import NotPossible, UnknownAsset, UnknownSite
from ems.live import Live
from ems.messages import AcknowledgementMessage
from ems.orders import LIMITS, Order, OrderKind, SetpointSource
from ems.site import BatteryAsset, Site, VehicleAsset
from ems.store import Store

_log = logging.getLogger(__name__)

LONGEST_PAUSE = timedelta(days=366)
"""Nothing is switched off for ever by one tap; after a year somebody is asked again."""
LONGEST_TARGET = timedelta(days=7)
"""An asset taken over by a person returns to the plan within a week."""
CHARGE_NOW_FOR = timedelta(hours=12)
"""A vehicle somebody wanted full at once is the plan's again after a night."""
LONGEST_LIMIT = timedelta(days=31)
"""A limit nobody renews ends within a month."""
EVENT_AHEAD = timedelta(days=31)
"""How far ahead an event may begin."""


class Commands:
    """Requests of residents, operators and the grid operator."""

    def __init__(
        self,
        *,
        sites: Mapping[str, Site],
        store: Store,
        live: Live,
        clock: Clock,
        ledger: Ledger,
        changed: Callable[[str], None] | None = None,
    ) -> None:
        """Take what commands act on.

        Parameters
        ----------
        sites
            Sites of the service, by id.
        store, live, clock
            Where requests are kept, who is told of them, and the time they are made at.
        ledger
            Who keeps what building controllers say.
        changed
            Called with the site id after each request, from any thread, so that devices follow at once.
        """
        self._sites = sites
        self._store = store
        self._live = live
        self._clock = clock
        self._ledger = ledger
        self._changed = changed

    def pause(self, who: Principal, site_id: str, *, lasts: timedelta, note: str = "") -> Order:
        """Take a site out of automatic control for a while; an earlier pause is replaced.

        Parameters
        ----------
        who
            The person asking; their key id goes on record.
        site_id
            The site.
        lasts
            For how long, more than 0 and at most `LONGEST_PAUSE`.
        note
            What they say about it.
        """
        self._site(who, site_id)
        return self._order(who, site_id, OrderKind.PAUSE, lasts=lasts, longest=LONGEST_PAUSE, note=note)

    def resume(self, who: Principal, site_id: str) -> bool:
        """Hand a site back to automatic control; False when it was not paused."""
        self._site(who, site_id)
        return self._end(who, self._held(site_id, OrderKind.PAUSE))

    def set_target(
        self, who: Principal, site_id: str, asset: str, *, value_kw: float, lasts: timedelta, note: str = ""
    ) -> Order:
        """Take over one battery or vehicle: it goes to a power until `lasts` is over; an earlier target is replaced.

        Parameters
        ----------
        who, site_id, asset
            Who asks, and of what.
        value_kw
            Battery: charging +, discharging -. Vehicle: charging power, 0 to hold it back [kW].
        lasts
            For how long, more than 0 and at most `LONGEST_TARGET`.
        note
            What they say about it.

        Raises
        ------
        UnknownSite, UnknownAsset, NotPossible
            No such site or asset, the household does not let it be steered, or the power is beyond its rating.
        """
        site = self._site(who, site_id)
        self._check_target(site, asset, value_kw)
        return self._order(
            who, site_id, OrderKind.TARGET,
            asset=asset, value_kw=value_kw, lasts=lasts, longest=LONGEST_TARGET, note=note,
        )  # fmt: skip

    def charge_now(self, who: Principal, site_id: str, vehicle: str) -> Order:
        """Let a vehicle charge with all its charger gives, whatever the plan says; ends by itself."""
        asset = self._site(who, site_id).asset(vehicle)
        if not isinstance(asset, VehicleAsset):
            raise UnknownAsset(f"{site_id} has no vehicle {vehicle!r}")
        return self.set_target(who, site_id, vehicle, value_kw=asset.charge_limit_kw, lasts=CHARGE_NOW_FOR)

    def end_target(self, who: Principal, site_id: str, asset: str) -> bool:
        """Give an asset back to the plan; False when nobody had taken it over."""
        self._site(who, site_id)
        held = self._held(site_id, OrderKind.TARGET)
        return self._end(who, [o for o in held if o.asset == asset and o.source is SetpointSource.OVERRIDE])

    def set_limits(
        self,
        who: Principal,
        site_id: str,
        *,
        import_kw: float | None,
        export_kw: float | None,
        lasts: timedelta,
    ) -> tuple[Order, ...]:
        """Limit a site's connection in the grid operator's name; the same limit again lets it hold longer.

        Parameters
        ----------
        who, site_id
            Who asks, and of what.
        import_kw, export_kw
            Most the site may draw and feed in [kW]; None says that the signal is alive and sets no limit.
        lasts
            Until it must be renewed, more than 0 and at most `LONGEST_LIMIT`. A site that lives under a signal falls
            back to its fail-safe limit when nothing was renewed in time.
        """
        self._site(who, site_id)
        values = {OrderKind.IMPORT_LIMIT: import_kw, OrderKind.EXPORT_LIMIT: export_kw}
        return tuple(self._limit(who, site_id, kind, value_kw, lasts) for kind, value_kw in values.items())

    def end_limits(self, who: Principal, site_id: str) -> bool:
        """End the grid operator's limits of a site; False when there were none."""
        self._site(who, site_id)
        held = [order for kind in LIMITS for order in self._held(site_id, kind)]
        return self._end(who, [order for order in held if order.source is SetpointSource.GRID_OPERATOR])

    def set_event(
        self,
        who: Principal,
        site_id: str,
        event_id: str,
        *,
        kind: OrderKind,
        value_kw: float,
        from_at: datetime,
        until_at: datetime,
        asset: str | None = None,
    ) -> Order:
        """Announce a demand-response event: a limit of the connection or a target of an asset. Again: it is replaced.

        Parameters
        ----------
        who, site_id
            Who asks, and of what.
        event_id
            The programme's own name for it; one event is one order of a site.
        kind, value_kw, asset
            What is asked.
        from_at, until_at
            When it holds (aware UTC).
        """
        site = self._site(who, site_id)
        now = self._clock.now()
        if kind is OrderKind.PAUSE or (kind is OrderKind.TARGET) != (asset is not None):
            raise NotPossible("an event is a target of a named asset, or a limit of the site without one")
        if asset is not None:
            self._check_target(site, asset, value_kw)
        if asset is None and value_kw < 0.0:
            raise NotPossible(f"{event_id}: a limit of {value_kw:g} kW is below zero")
        if not from_at < until_at or until_at <= now or from_at - now > EVENT_AHEAD:
            raise NotPossible(
                f"an event ends after it begins, is not over, and begins within {EVENT_AHEAD.days} days"
            )
        held = [o for o in self._store.orders_from(now) if o.site_id == site_id and o.note == event_id]
        order = Order(
            id=str(uuid4()),
            site_id=site_id,
            by=who.id,
            kind=kind,
            source=SetpointSource.EVENT,
            asset=asset,
            value_kw=value_kw,
            from_at=from_at,
            until_at=until_at,
            note=event_id,
        )
        self._keep(order, replacing=[o for o in held if o.source is SetpointSource.EVENT])
        return order

    def end_event(self, who: Principal, site_id: str, event_id: str) -> bool:
        """Cancel an event; False when none of that name holds or will hold."""
        self._site(who, site_id)
        held = [o for o in self._store.orders_from(self._clock.now()) if o.site_id == site_id]
        return self._end(who, [o for o in held if o.source is SetpointSource.EVENT and o.note == event_id])

    def paused(self, at: datetime) -> frozenset[str]:
        """Return the sites whose people took control at `at`."""
        held = self._store.orders_from(at)
        return frozenset(o.site_id for o in held if o.kind is OrderKind.PAUSE and o.holds_at(at))

    def _order(
        self,
        who: Principal,
        site_id: str,
        kind: OrderKind,
        *,
        lasts: timedelta,
        longest: timedelta,
        note: str,
        asset: str | None = None,
        value_kw: float | None = None,
    ) -> Order:
        """Keep what a person asks, in the place of what people asked of the same before."""
        if not timedelta() < lasts <= longest:
            raise ValueError(f"a {kind} lasts more than 0 and at most {longest.days} days, not {lasts}")
        now = self._clock.now()
        order = Order(
            id=str(uuid4()),
            site_id=site_id,
            by=who.id,
            kind=kind,
            asset=asset,
            value_kw=value_kw,
            from_at=now,
            until_at=now + lasts,
            note=note,
        )
        held = [o for o in self._held(site_id, kind) if o.source is order.source and o.asset == asset]
        self._keep(order, replacing=held)
        return order

    def _limit(
        self, who: Principal, site_id: str, kind: OrderKind, value_kw: float | None, lasts: timedelta
    ) -> Order:
        if not timedelta() < lasts <= LONGEST_LIMIT:
            raise ValueError(f"a limit lasts more than 0 and at most {LONGEST_LIMIT.days} days, not {lasts}")
        now = self._clock.now()
        held = [o for o in self._held(site_id, kind) if o.source is SetpointSource.GRID_OPERATOR]
        same = next((o for o in held if o.value_kw == value_kw and o.until_at <= now + lasts), None)
        if same is not None:
            self._store.renew_order(same.id, now + lasts)
            return same
        order = Order(
            id=str(uuid4()),
            site_id=site_id,
            by=who.id,
            kind=kind,
            source=SetpointSource.GRID_OPERATOR,
            value_kw=value_kw,
            from_at=now,
            until_at=now + lasts,
        )
        self._keep(order, replacing=held)
        return order

    def _keep(self, order: Order, *, replacing: list[Order]) -> None:
        self._store.replace_orders([held.id for held in replacing], order, self._clock.now())
        _log.info(
            "order.taken site=%s %s source=%s by=%s value_kw=%s until=%s",
            order.site_id, order.subject, order.source, order.by, order.value_kw, order.until_at.isoformat(),
        )  # fmt: skip
        self._tell(order.site_id)

    def _end(self, who: Principal, held: list[Order]) -> bool:
        now = self._clock.now()
        for order in held:
            self._store.end_order(order.id, now, who.id)
            _log.info("order.ended site=%s %s by=%s", order.site_id, order.subject, who.id)
        if held:
            self._tell(held[0].site_id)
        return bool(held)

    def acknowledge(self, who: Principal, site_id: str, message: AcknowledgementMessage) -> Verdict:
        """Keep what a building controller says about a setpoint; on disk when it returns."""
        self._site(who, site_id)
        return self._ledger.record(message, site_id=site_id, channel="http")

    def _held(self, site_id: str, kind: OrderKind) -> list[Order]:
        now = self._clock.now()
        return [
            order
            for order in self._store.orders_from(now)
            if order.site_id == site_id and order.kind is kind and order.holds_at(now)
        ]

    def _check_target(self, site: Site, name: str, value_kw: float) -> None:
        asset = site.asset(name)
        if not isinstance(asset, BatteryAsset | VehicleAsset):
            raise UnknownAsset(f"{site.id} has no battery or vehicle {name!r}")
        if isinstance(asset, BatteryAsset):
            allowed, least_kw = site.consents.control_storage, -asset.discharge_limit_kw
        else:
            allowed, least_kw = site.consents.control_vehicle, 0.0
        if not allowed:
            raise NotPossible(f"{name}: the household does not let this service steer it; see its consents")
        if not least_kw <= value_kw <= asset.charge_limit_kw:
            raise NotPossible(
                f"{name}: {value_kw:g} kW is outside its {least_kw:g} to {asset.charge_limit_kw:g} kW"
            )

    def _site(self, who: Principal, site_id: str) -> Site:
        site = self._sites.get(site_id)
        if site is None or not who.sees(site_id):
            raise UnknownSite(f"no site {site_id!r} that you may see")
        return site

    def _tell(self, site_id: str) -> None:
        self._live.announce()
        if self._changed is not None:
            self._changed(site_id)
