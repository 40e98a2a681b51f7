"""What one may ask: scoped, pure reads over the store and the present.

Every question names who asks. A site that is not theirs to see does not exist for them: `UnknownSite`, the same as for a
site nobody has, so that no answer tells one home about another.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

from ems.access import ApiKey, Principal
from ems.channels import in_force, withheld
from ems.clock import Clock, day_edges, interval_start, local_day
from ems.errors import NoPlan, StoreError, UnknownSite
from ems.feedback import Edge, IntervalAccount
from ems.live import Live, LiveState
from ems.messages import Acknowledgement
from ems.orders import Order, Standing, standing
from ems.plan import Plan, PlanSource
from ems.readings import Quality, Sample, SiteReading
from ems.setpoints import Setpoint
from ems.site import Site
from ems.state import SitePowers, site_powers, total
from ems.store import (
    CycleRow,
    DeliveredSetpoint,
    ForecastScore,
    SampleSeries,
    ScoredDay,
    SiteSums,
    Store,
    StoredForecast,
    StoredSample,
)

__all__ = [
    "Control",
    "Course",
    "CycleRow",
    "Day",
    "DeliveredSetpoint",
    "Fleet",
    "FleetRow",
    "ForecastScore",
    "Health",
    "Point",
    "Queries",
    "SampleSeries",
    "ScoredDay",
    "SiteNow",
    "SiteSums",
    "Skill",
    "StoredForecast",
    "StoredSample",
]

LOST_AFTER_S = 300.0
"""Powers older than this say nothing about the present [site s]."""
LOST_AFTER_WALL_S = 10.0
"""The same for a replay that runs faster than real time [wall s]."""
LEADER_LATE = timedelta(minutes=1)
"""How much later than two intervals the latest cycle of a leader may be."""
STEP = timedelta(minutes=15)
"""Planning interval assumed before there is a plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteNow:
    """One site at present, as far as it is known."""

    site_id: str
    """The site."""
    at: datetime | None
    """When its devices were read (aware UTC); None when they never were."""
    lost: bool
    """Whether that is too long ago to speak of the present; the powers are then all None."""
    powers: SitePowers
    """Present powers; None is unknown."""
    stored_kwh: float | None
    """Energy in all batteries [kWh]."""
    stored_frac: float | None
    """The same as a share of their capacity."""
    setpoints: Mapping[str, Setpoint]
    """What is asked of each asset now."""
    troubles: Mapping[str, str]
    """Devices that do not answer, with the cause."""
    quality: Quality
    """Trust in the powers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """Who steers a site."""

    pause: Order | None
    """The request under which automatic control rests; None while it steers."""
    standing: Standing
    """Whose word counts now: targets, limits, and who lost against whom."""
    coming: tuple[Order, ...]
    """Orders that will hold later, soonest first."""
    storage_consented: bool
    """Whether the household lets the service steer storage or vehicle at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """One local day of one site in energy and money. A sum is None when no interval of it is known."""

    day: date
    """The local calendar day."""
    start_at: datetime
    """Its first instant (aware UTC)."""
    end_at: datetime
    """Its end (aware UTC); 23, 24 or 25 hours later."""
    expected: int
    """Intervals that should be on record by now."""
    known: int
    """Intervals that are, with their cost."""
    estimated: int
    """Of those, how many had something filled in."""
    import_kwh: float | None
    """Drawn from the grid [kWh]."""
    export_kwh: float | None
    """Fed into the grid [kWh]."""
    load_kwh: float | None
    """Household load without storage and vehicle [kWh]."""
    pv_kwh: float | None
    """Solar energy delivered [kWh]."""
    vehicle_kwh: float | None
    """Drawn by vehicles [kWh]."""
    cost: float | None
    """Paid, in the site's currency; income is negative."""
    saving: float | None
    """Saved against idle storage, in the site's currency."""
    stored_gain_kwh: float | None
    """Change of the energy in the batteries over the day so far [kWh]; None when unknown."""
    co2_kg: float | None
    """Emissions of the imported energy [kg]; None when the site names no factor."""

    @property
    def whole(self) -> bool:
        """Whether every interval that should be there is."""
        return self.known >= self.expected


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One interval of a chart; what is unknown is None."""

    start_at: datetime
    """Its start (aware UTC)."""
    planned: bool
    """Whether it lies ahead."""
    quality: Quality | None
    """Trust in what was measured; None ahead and where nothing was."""
    load_kw: float | None
    """Household load, >= 0 [kW]."""
    pv_kw: float | None
    """Solar power, >= 0 [kW]."""
    battery_kw: float | None
    """Net consumption of all batteries, charging + [kW]."""
    vehicle_kw: float | None
    """Drawn by vehicles [kW]."""
    net_import_kw: float | None
    """At the grid connection, + import [kW]."""
    planned_import_kw: float | None
    """What the plan in force expected there [kW]."""
    stored_frac: float | None
    """Energy in the batteries at the end, as a share of capacity."""
    buy_per_kwh: float | None
    """Price of imported energy [1/kWh]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """History behind and plan ahead of one site, on one grid."""

    now_at: datetime
    """The present (aware UTC)."""
    step_s: int
    """Interval length [s]."""
    points: tuple[Point, ...]
    """In order of time, without gaps: an interval nobody measured is there with None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill:
    """How the forecasts of one site came out lately."""

    since: datetime
    """First instant that counts (aware UTC)."""
    scores: tuple[ForecastScore, ...]
    """By series, lead and model."""
    days: tuple[ScoredDay, ...]
    """The same day by day, oldest first."""
    drifting: tuple[str, ...]
    """Series whose ways have changed, so that a simpler model stands in: `load`, `pv`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """Whether the service does its work."""

    ready: bool
    """Whether plans and setpoints can be relied on now."""
    reasons: tuple[str, ...]
    """Why not, each in one line; empty when ready."""
    leader: str | None
    """Who writes to the devices while this instance stands by; None when it does so itself."""
    latest: CycleRow | None
    """The latest cycle."""
    next_at: datetime | None
    """When the next one is due (aware UTC)."""
    cycles_24h: int
    """Cycles in the last 24 hours of site time."""
    missed_24h: int
    """Planning instants in that time without a cycle."""
    overlapped_24h: int
    """Planning instants in that time skipped because a cycle was still running."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetRow:
    """One site in a list."""

    site: Site
    """The site."""
    now: SiteNow
    """Its present."""
    plan: Plan | None
    """The plan in force."""
    control: Control
    """Who steers it."""
    today: SiteSums | None
    """Its local day so far."""

    @property
    def planned_import_kw(self) -> float | None:
        """What the plan expects at the grid connection now, + import [kW]."""
        if self.plan is None or self.now.at is None:
            return None
        # right after a cycle the latest reading is a moment older than its plan
        index = self.plan.index_at(max(self.now.at, self.plan.issued_at))
        if index is None:
            return None
        return float(self.plan.import_kw[index] - self.plan.export_kw[index])

    @property
    def attention(self) -> bool:
        """Whether a person should look at it."""
        steered = self.plan is not None and self.plan.source is PlanSource.OPTIMAL
        return bool(self.now.troubles) or self.now.lost or not steered


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """One page of sites."""

    rows: tuple[FleetRow, ...]
    """Sites in order of their id."""
    total: int
    """How many sites there are to see in all."""
    next_after: str | None
    """Ask on with this; None at the end."""


UNKNOWN = SitePowers(net_import_kw=None, load_kw=None, pv_kw={}, battery_kw={}, vehicle_kw={})


class Queries:
    """Questions of operators, controllers and residents."""

    def __init__(
        self,
        *,
        sites: Sequence[Site],
        store: Store,
        live: Live,
        clock: Clock,
        problems: Callable[[], Sequence[str]] = tuple,
        leader: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Take what answers rest on.

        `problems` says why the service is not well, each in one line; `leader` who acts while it stands by.
        """
        self._problems = problems
        self._leader = leader
        self._sites = {site.id: site for site in sorted(sites, key=lambda site: site.id)}
        self._store = store
        self._live = live
        self._clock = clock
        self._fleet_skill: tuple[tuple[int, int], tuple[ForecastScore, ...]] = ((0, 0), ())

    def now_at(self) -> datetime:
        """Return the present instant of site time (aware UTC)."""
        return self._clock.now()

    def key(self, key_id: str) -> ApiKey | None:
        """Return the record of a key."""
        return self._store.find_key(key_id)

    def site(self, who: Principal, site_id: str) -> Site:
        """Return a site; raises `UnknownSite`."""
        found = self._sites.get(site_id)
        if found is None or not who.sees(site_id):
            raise UnknownSite(f"no site {site_id!r} that you may see")
        return found

    def sites(self, who: Principal) -> tuple[Site, ...]:
        """Return every site that is theirs to see, in order of id."""
        return tuple(site for site in self._sites.values() if who.sees(site.id))

    def site_page(
        self, who: Principal, *, after: str | None, limit: int
    ) -> tuple[tuple[Site, ...], int, str | None]:
        """Return up to `limit` sites with an id beyond `after`, how many there are, and where to ask on."""
        visible = self.sites(who)
        rest = [site for site in visible if after is None or site.id > after]
        page = tuple(rest[:limit])
        return page, len(visible), page[-1].id if len(rest) > limit else None

    def now(self, who: Principal, site_id: str) -> SiteNow:
        """Return a site's present, from the fast loop or, before its first pass, from the latest readings."""
        site = self.site(who, site_id)
        live = self._live.latest(site.id)
        if live is None:
            live = self._from_samples(site, self._store.latest_samples([site.id]).get(site.id, {}))
        return self._present(site, live)

    def control(self, who: Principal, site_id: str) -> Control:
        """Return who steers a site."""
        site = self.site(who, site_id)
        return self._control(site, self._store.orders_from(self._clock.now()))

    def latest_samples(self, who: Principal, site_id: str) -> Mapping[str, Sample]:
        """Return the newest sample of each quantity of a site, by `device.quantity`."""
        site = self.site(who, site_id)
        return self._store.latest_samples([site.id]).get(site.id, {})

    def samples(
        self, who: Principal, site_id: str, quantity: str, start: datetime, end: datetime, *, limit: int
    ) -> SampleSeries:
        """Return what was read of one quantity in [start, end)."""
        return self._store.samples(self.site(who, site_id).id, quantity, start, end, limit)

    def forecasts(
        self, who: Principal, site_id: str, issued_at: datetime | None = None
    ) -> tuple[StoredForecast, ...]:
        """Return what is expected of load, solar and prices; series without a forecast are left out."""
        site = self.site(who, site_id)
        series = ["load", *(f"pv.{pv.name}" for pv in site.pvs), "buy", "sell"]
        found = (self._store.forecast(site.id, name, issued_at) for name in series)
        return tuple(forecast for forecast in found if forecast is not None)

    def skill(self, who: Principal, site_id: str, *, days: int) -> Skill:
        """Return how the forecasts of the last `days` scored days came out at a site."""
        site = self.site(who, site_id)
        since = self._clock.now() - timedelta(days=days + 1)
        return Skill(
            since=since,
            scores=self._store.forecast_scores([site.id], since).get(site.id, ()),
            days=self._store.scored_days(site.id, since),
            drifting=tuple(
                series
                for series in ("load", "pv")
                if self._became(site.id, f"forecast.{series}") == "drifting"
            ),
        )

    def fleet_skill(self, who: Principal, *, days: int) -> tuple[ForecastScore, ...]:
        """Return how the forecasts of all sites that are theirs came out, by series, lead and model."""
        now = self._clock.now()
        since = now - timedelta(days=days + 1)
        if who.site_ids is None:
            # days are scored once an hour at most, and for a city this is a sum over millions of rows
            asked = (days, int(now.timestamp()) // 3600)
            if self._fleet_skill[0] != asked or not self._fleet_skill[1]:
                self._fleet_skill = (asked, self._store.forecast_scores_of_all(since))
            return self._fleet_skill[1]
        found = self._store.forecast_scores([site.id for site in self.sites(who)], since)
        return added_up(score for scores in found.values() for score in scores)

    def _became(self, site_id: str, subject: str) -> str | None:
        """Return what a subject became last, as far back as drift is looked for."""
        edges = self._store.edges(site_id, self._clock.now() - timedelta(days=90), 1000)
        return next((edge.became for edge in edges if edge.subject == subject), None)

    def price_ahead(self, who: Principal, site_id: str) -> float | None:
        """Return the mean price of imported energy over the next 24 hours [1/kWh]; None when none is known."""
        prices = self._store.forecast(self.site(who, site_id).id, "buy")
        if prices is None:
            return None
        now_s = self._clock.now().timestamp()
        ahead = prices.mean[(prices.starts_s > now_s - prices.step_s) & (prices.starts_s < now_s + 86_400)]
        return float(ahead.mean()) if ahead.size else None

    def plan(self, who: Principal, site_id: str, at: datetime | None = None) -> Plan:
        """Return the plan decided last, or the one in force at an instant; raises `NoPlan`."""
        site = self.site(who, site_id)
        plan = self._store.latest_plan(site.id) if at is None else self._store.plan_in_force(site.id, at)
        if plan is None:
            when = "yet" if at is None else f"in force at {at.isoformat()}"
            raise NoPlan(f"site {site_id!r} has no plan {when}")
        return plan

    def plan_in_force(self, who: Principal, site_id: str) -> Plan | None:
        """Return the plan that may be acted on now, or None."""
        return self._store.plan_in_force(self.site(who, site_id).id, self._clock.now())

    def setpoints(
        self, who: Principal, site_id: str, start: datetime, end: datetime, *, limit: int
    ) -> tuple[DeliveredSetpoint, ...]:
        """Return the newest `limit` setpoints that begin in [start, end), newest first."""
        found = self._store.setpoints(self.site(who, site_id).id, start, end, limit)
        return tuple(reversed(found))

    def setpoints_in_force(self, who: Principal, site_id: str) -> tuple[Setpoint, ...]:
        """Return what counts now for each asset and quantity: what every building controller of the site is told.

        A setpoint on record has won its arbitration already, so the newest counts.
        """
        at = self._clock.now()
        recent = self._store.setpoints(self.site(who, site_id).id, at - timedelta(hours=2), at + STEP)
        return tuple(in_force((one.setpoint for one in recent if not withheld(one)), at).values())

    def acknowledgements(
        self, who: Principal, site_id: str, start: datetime, end: datetime, *, limit: int
    ) -> tuple[Acknowledgement, ...]:
        """Return the newest `limit` acknowledgements that arrived in [start, end), newest first."""
        found = self._store.acknowledgements(self.site(who, site_id).id, start, end, limit)
        return tuple(reversed(found))

    def accounts(
        self, who: Principal, site_id: str, start: datetime, end: datetime
    ) -> tuple[IntervalAccount, ...]:
        """Return the interval accounts that start in [start, end), oldest first."""
        return self._store.accounts(self.site(who, site_id).id, start, end)

    def days(self, who: Principal, site_id: str, first: date, count: int) -> tuple[Day, ...]:
        """Return `count` local days from `first`, oldest first; days to come are left out."""
        site, now = self.site(who, site_id), self._clock.now()
        step = self._step(site.id)
        spans = [day_edges(first + timedelta(days=offset), site.time_zone) for offset in range(count)]
        begun = [(start, end) for start, end in spans if start <= now]
        if not begun:
            return ()
        accounts = self._store.accounts(site.id, begun[0][0] - step, begun[-1][1])
        return tuple(_day(site, accounts, start, end, now=now, step=step) for start, end in begun)

    def today(self, site: Site) -> date:
        """Return the local calendar day of a site."""
        return local_day(self._clock.now(), site.time_zone)

    def edges(self, who: Principal, site_id: str | None, since: datetime, *, limit: int) -> tuple[Edge, ...]:
        """Return the newest changes of a site, or of all sites that are theirs, newest first."""
        if site_id is not None:
            return self._store.edges(self.site(who, site_id).id, since, limit)
        if who.site_ids is None:
            return self._store.edges(None, since, limit)
        own = [edge for site in self.sites(who) for edge in self._store.edges(site.id, since, limit)]
        return tuple(sorted(own, key=lambda edge: edge.at, reverse=True)[:limit])

    def cycles(self, since: datetime, until: datetime, *, limit: int) -> tuple[CycleRow, ...]:
        """Return the newest cycles of [since, until), newest first."""
        return tuple(reversed(self._store.cycles(since, until, limit)))

    def health(self) -> Health:
        """Tell whether the service does its work, and why not."""
        now, leader = self._clock.now(), self._leader()
        try:
            rows = self._store.cycles(now - timedelta(hours=24), now + STEP)
        except StoreError as error:
            return Health(
                ready=False, reasons=(*self._problems(), f"the store cannot be read: {error}"), leader=leader,
                latest=None, next_at=None, cycles_24h=0, missed_24h=0, overlapped_24h=0,
            )  # fmt: skip
        latest = rows[-1] if rows else None
        step = self._cadence(rows)
        reasons = list(self._problems())
        if leader is not None and (latest is None or now - latest.at > 2 * step + LEADER_LATE):
            seen = "none yet" if latest is None else f"from {latest.at.isoformat()}"
            reasons.append(f"standing by, but the latest cycle of the leader ({leader}) is {seen}")
        return Health(
            ready=not reasons,
            reasons=tuple(reasons),
            leader=leader,
            latest=latest,
            next_at=None if latest is None else latest.at + step,
            cycles_24h=len(rows),
            missed_24h=sum(row.missed for row in rows),
            overlapped_24h=sum(row.overlapped for row in rows),
        )

    def course(self, who: Principal, site_id: str, *, behind: timedelta, ahead: timedelta) -> Course:
        """Return what was measured and what is planned around the present."""
        site, now = self.site(who, site_id), self._clock.now()
        plan = self._store.plan_in_force(site.id, now)
        step = timedelta(seconds=plan.step_s) if plan is not None else STEP
        begins = interval_start(now, int(step.total_seconds()))
        first = interval_start(now - behind, int(step.total_seconds()))
        accounts = self._store.accounts(site.id, first, begins)
        return Course(
            now_at=now,
            step_s=int(step.total_seconds()),
            points=(
                *_measured_points(site, accounts, first, begins, step),
                *(() if plan is None else self._planned_points(site, plan, begins, begins + ahead)),
            ),
        )

    def fleet(self, who: Principal, *, after: str | None, limit: int) -> Fleet:
        """Return one page of sites with their present, plan and day."""
        page, count, next_after = self.site_page(who, after=after, limit=limit)
        now, orders = self._clock.now(), self._store.orders_from(self._clock.now())
        unseen = [site.id for site in page if self._live.latest(site.id) is None]
        samples = self._store.latest_samples(unseen) if unseen else {}
        sums = self._today_sums(page, now)
        return Fleet(
            rows=tuple(
                FleetRow(
                    site=site,
                    now=self._present(
                        site, self._live.latest(site.id) or self._from_samples(site, samples.get(site.id, {}))
                    ),
                    plan=self._store.plan_in_force(site.id, now),
                    control=self._control(site, orders),
                    today=sums.get(site.id),
                )
                for site in page
            ),
            total=count,
            next_after=next_after,
        )

    def _today_sums(self, sites: Sequence[Site], now: datetime) -> dict[str, SiteSums]:
        by_zone: dict[str, list[str]] = {}
        for site in sites:
            by_zone.setdefault(site.time_zone, []).append(site.id)
        return {
            sums.site_id: sums
            for zone, ids in by_zone.items()
            for sums in self._store.sums(ids, day_edges(local_day(now, zone), zone))
        }

    def _control(self, site: Site, orders: Sequence[Order]) -> Control:
        now = self._clock.now()
        live = self._live.latest(site.id)
        mine = [order for order in orders if order.site_id == site.id]
        counts = standing(site, (*mine, *(() if live is None else live.signal)), at=now)
        steerable = (site.consents.control_storage and site.batteries) or (
            site.consents.control_vehicle and site.vehicles
        )
        return Control(
            pause=counts.paused,
            storage_consented=bool(steerable),
            standing=counts,
            coming=tuple(order for order in mine if order.from_at > now),
        )

    def _present(self, site: Site, live: LiveState | None) -> SiteNow:
        lost = live is not None and self._lost(live.at)
        if live is None or lost:
            return SiteNow(
                site_id=site.id, at=live.at if live else None, lost=True, powers=UNKNOWN, stored_kwh=None,
                stored_frac=None, setpoints={}, troubles=live.troubles if live else {}, quality=Quality.BAD,
            )  # fmt: skip
        stored = (
            total({b.name: live.stored_kwh.get(b.name) for b in site.batteries}) if site.batteries else None
        )
        return SiteNow(
            site_id=site.id,
            at=live.at,
            lost=False,
            powers=live.powers,
            stored_kwh=stored,
            stored_frac=None if stored is None else stored / _capacity_kwh(site),
            setpoints=live.setpoints,
            troubles=live.troubles,
            quality=live.quality,
        )

    def _lost(self, at: datetime) -> bool:
        age_s = (self._clock.now() - at).total_seconds()
        return age_s > LOST_AFTER_S and not 0.0 < self._clock.wall_seconds(age_s) <= LOST_AFTER_WALL_S

    def _from_samples(self, site: Site, samples: Mapping[str, Sample]) -> LiveState | None:
        if not samples:
            return None
        reading = SiteReading(site_id=site.id, samples=samples, troubles={})
        powers = site_powers(site, reading)
        fracs = {b.name: (b.capacity_kwh, reading.usable(b.device, "stored_frac")) for b in site.batteries}
        known = powers.net_import_kw is not None and powers.load_kw is not None
        return LiveState(
            at=max(sample.measured_at for sample in samples.values()),
            powers=powers,
            stored_kwh={name: kwh * frac for name, (kwh, frac) in fracs.items() if frac is not None},
            setpoints={},
            troubles={},
            signal=(),
            quality=Quality.GOOD if known else Quality.BAD,
        )

    def _planned_points(self, site: Site, plan: Plan, start: datetime, end: datetime) -> list[Point]:
        prices = self._store.forecast(site.id, "buy")
        price_at = (
            {} if prices is None else dict(zip(prices.starts_s.tolist(), prices.mean.tolist(), strict=True))
        )
        capacity_kwh = sum(b.capacity_kwh for b in site.batteries if b.name in plan.batteries)
        points = []
        for index, epoch_s in enumerate(plan.starts_s.tolist()):
            at = interval_start(start, 1) + timedelta(seconds=epoch_s - int(start.timestamp()))
            if not start <= at < end:
                continue
            stored_kwh = sum(float(b.stored_kwh[index + 1]) for b in plan.batteries.values())
            net_kw = float(plan.import_kw[index] - plan.export_kw[index])
            points.append(
                Point(
                    start_at=at,
                    planned=True,
                    quality=None,
                    load_kw=float(plan.load_kw[index]),
                    pv_kw=sum(float(kw[index]) for kw in plan.pv_kw.values()) if site.pvs else None,
                    battery_kw=float(plan.battery_kw[index]) if plan.batteries else None,
                    vehicle_kw=sum(float(kw[index]) for kw in plan.vehicle_kw.values())
                    if site.vehicles
                    else None,
                    net_import_kw=net_kw,
                    planned_import_kw=net_kw,
                    stored_frac=stored_kwh / capacity_kwh if capacity_kwh else None,
                    buy_per_kwh=price_at.get(epoch_s),
                )
            )
        return points

    def _step(self, site_id: str) -> timedelta:
        plan = self._store.latest_plan(site_id)
        return STEP if plan is None else timedelta(seconds=plan.step_s)

    @staticmethod
    def _cadence(rows: Sequence[CycleRow]) -> timedelta:
        gaps = [after.at - before.at for before, after in pairwise(rows)]
        return min(gaps, default=STEP)


def added_up(scores: Iterable[ForecastScore]) -> tuple[ForecastScore, ...]:
    """Return the sums of scores of one series, lead and model each."""
    whole: dict[tuple[str, int, str], ForecastScore] = {}
    for score in scores:
        key = (score.series, score.lead_h, score.source)
        whole[key] = whole[key] + score if key in whole else score
    return tuple(whole[key] for key in sorted(whole))


def _capacity_kwh(site: Site) -> float:
    return sum(battery.capacity_kwh for battery in site.batteries)


def _sum(values: Sequence[float | None]) -> float | None:
    """Return the sum of what is known; None when nothing is. How much is missing is told beside it."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _day(
    site: Site,
    accounts: Sequence[IntervalAccount],
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    step: timedelta,
) -> Day:
    levels_kwh = [a.measured.stored_kwh for a in accounts if start - step <= a.start_at < end]
    known_kwh = [level for level in levels_kwh if level is not None]
    accounts = [account for account in accounts if start <= account.start_at < end]
    priced = [account for account in accounts if account.saving is not None]
    import_kwh = _sum([account.measured.import_kwh for account in accounts])
    return Day(
        day=local_day(start, site.time_zone),
        start_at=start,
        end_at=end,
        expected=int((min(now, end) - start) / step),
        known=len(priced),
        estimated=sum(account.quality is not Quality.GOOD for account in priced),
        import_kwh=import_kwh,
        export_kwh=_sum([account.measured.export_kwh for account in accounts]),
        load_kwh=_sum([account.measured.load_kwh for account in accounts]),
        pv_kwh=_sum([account.measured.pv_kwh for account in accounts]) if site.pvs else None,
        vehicle_kwh=_sum([account.measured.vehicle_kwh for account in accounts]) if site.vehicles else None,
        cost=_sum([account.cost for account in accounts]),
        saving=_sum([account.saving for account in priced]),
        stored_gain_kwh=known_kwh[-1] - known_kwh[0] if known_kwh and site.batteries else None,
        co2_kg=None if import_kwh is None or site.co2_kg_per_kwh == 0 else import_kwh * site.co2_kg_per_kwh,
    )


def _measured_points(
    site: Site, accounts: Sequence[IntervalAccount], start: datetime, end: datetime, step: timedelta
) -> list[Point]:
    by_start = {account.start_at: account for account in accounts}
    count = int((end - start) / step)
    return [
        _measured_point(site, by_start.get(start + index * step), start + index * step)
        for index in range(count)
    ]


def _measured_point(site: Site, account: IntervalAccount | None, at: datetime) -> Point:
    if account is None:
        return Point(
            start_at=at, planned=False, quality=None, load_kw=None, pv_kw=None, battery_kw=None, vehicle_kw=None,
            net_import_kw=None, planned_import_kw=None, stored_frac=None, buy_per_kwh=None,
        )  # fmt: skip
    energy = account.measured
    mean = _Mean(energy.hours)
    return Point(
        start_at=at,
        planned=False,
        quality=energy.quality,
        load_kw=mean.kw(energy.load_kwh),
        pv_kw=mean.kw(energy.pv_kwh) if site.pvs else None,
        battery_kw=mean.difference_kw(energy.charged_kwh, energy.discharged_kwh) if site.batteries else None,
        vehicle_kw=mean.kw(energy.vehicle_kwh) if site.vehicles else None,
        net_import_kw=mean.difference_kw(energy.import_kwh, energy.export_kwh),
        planned_import_kw=account.planned_import_kw,
        stored_frac=(
            None
            if energy.stored_kwh is None or not site.batteries
            else energy.stored_kwh / _capacity_kwh(site)
        ),
        buy_per_kwh=account.buy_per_kwh,
    )


@dataclass(frozen=True, slots=True)
class _Mean:
    """Energies of one interval to mean powers."""

    hours: float

    def kw(self, kwh: float | None) -> float | None:
        return None if kwh is None else kwh / self.hours

    def difference_kw(self, plus_kwh: float | None, minus_kwh: float | None) -> float | None:
        return None if plus_kwh is None or minus_kwh is None else (plus_kwh - minus_kwh) / self.hours
