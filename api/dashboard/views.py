"""What each page shows, asked from the queries and put in words; templates only lay it out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from api.dashboard.words import N_, SMALL_KW, Words
from ems.access import Principal
from ems.feedback import Edge, IntervalAccount
from ems.orders import SetpointSource
from ems.plan import Action, Plan, PlanSource, Reason
from ems.queries import (
    Control,
    Course,
    Day,
    DeliveredSetpoint,
    Fleet,
    FleetRow,
    ForecastScore,
    Health,
    Point,
    Queries,
    ScoredDay,
    SiteNow,
    Skill,
)
from ems.readings import Quality
from ems.site import Site, VehicleAsset
from ems.state import GridState

BEHIND, AHEAD = timedelta(hours=12), timedelta(hours=24)
"""What a chart shows of past and future."""
FULL_FRAC, EMPTY_FRAC = 0.97, 0.02
"""From this level a resting battery counts as full; within this of its reserve, as empty."""
COMING_UP = 4
"""Changes of course told ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A reason in words."""

    when: str
    """Local time it begins."""
    sentence: str
    """Why."""
    worth: str | None
    """What it saves; None when that is nothing to speak of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One of the four flows of a home."""

    icon: str
    """Symbol of the sprite."""
    label: str
    """What it is."""
    value: str
    """Its power, or for a battery its level."""
    note: str
    """Which way it flows."""
    mark: str | None
    """`estimated` or `unknown` when it is not simply measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HourRow:
    """One hour of the table under a chart."""

    hour: str
    """Local time it begins."""
    cells: tuple[str, ...]
    """Values in words."""
    kind: str
    """Measured, estimated, planned or unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PresentView:
    """What of the household page follows the fast loop."""

    site: Site
    """The home."""
    words: Words
    """How it speaks."""
    now: SiteNow
    """Its present."""
    control: Control
    """Who steers it."""

    @property
    def headline(self) -> str:
        """The one sentence."""
        return self.words.headline(self.site, self.now)

    @property
    def chargeable(self) -> tuple[VehicleAsset, ...]:
        """Vehicles the household may ask to be charged at once."""
        steered = self.site.consents.control_vehicle and self.control.pause is None
        return self.site.vehicles if steered else ()

    @property
    def said_by_others(self) -> tuple[str, ...]:
        """Whose word counts beside the plan's: what the household asked of its car, and limits set from outside."""
        say, counts = self.words.say, self.control.standing
        told = [
            say(
                N_("The car may charge at once, as you asked, until %(time)s at the latest."),
                time=self.words.time(order.until_at),
            )
            for order in counts.targets.values()
            if order.source is SetpointSource.OVERRIDE
            and isinstance(self.site.asset(order.asset or ""), VehicleAsset)
        ]
        limit = counts.import_limit
        texts = {
            SetpointSource.GRID_OPERATOR: N_(
                "The grid operator lets this home draw at most %(power)s right now."
            ),
            SetpointSource.EVENT: N_("During a demand-response event this home draws at most %(power)s."),
            SetpointSource.SAFETY: N_(
                "The grid operator's signal is missing. Until it is back this home draws at most %(power)s."
            ),
        }
        if limit.source in texts:
            told.append(say(texts[limit.source], power=self.words.kw(limit.kw)))
        if self.now.grid is not GridState.PRESENT:
            told.insert(0, say(N_("The grid is down. Your home runs on its own battery and sun.")))
        return tuple(told)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Sun, home, battery, car and grid, as far as the home has them."""
        return tuple(_tiles(self.site, self.now, self.words))


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeView(PresentView):
    """The household page."""

    plan: Plan | None
    """The plan in force."""
    today: Day
    """The day so far."""
    yesterday: Day
    """The day before."""
    price_ahead: float | None
    """Mean price of imported energy over the next 24 hours [1/kWh]."""

    @property
    def kept_value(self) -> float | None:
        """What the energy gained in the batteries today is worth at the mean price ahead, in the site's currency.

        A plan's own value of stored energy would be sharper, but it leaps from cycle to cycle, and the number with it.
        """
        if self.today.stored_gain_kwh is None or self.price_ahead is None:
            return None
        effs = [battery.discharge_eff_frac for battery in self.site.batteries]
        return self.today.stored_gain_kwh * self.price_ahead * sum(effs) / len(effs)

    @property
    def number(self) -> tuple[str, str]:
        """The one number and what it is: saved, with what is still in the battery."""
        say, saving = self.words.say, self.today.saving
        if saving is None:
            return "–", say(N_("Today's saving is not known yet"))
        whole = saving + (self.kept_value or 0.0)
        if whole < 0 and self.words.money(whole) != self.words.money(0.0):
            return self.words.money(-whole), say(N_("more spent so far today than without the battery"))
        return self.words.money(whole), say(N_("saved today"))

    @property
    def number_note(self) -> str | None:
        """How much of the number is not money yet; None when none is."""
        kept = self.kept_value
        if self.today.saving is None or kept is None or self.words.money(abs(kept)) == self.words.money(0.0):
            return None
        if kept > 0:
            return self.words.say(
                N_("This counts %(amount)s for energy still in the battery."), amount=self.words.money(kept)
            )
        return self.words.say(
            N_("%(amount)s is taken off for energy taken from what the battery held this morning."),
            amount=self.words.money(-kept),
        )

    @property
    def why_now(self) -> tuple[Told, ...]:
        """Why each asset does what it does now."""
        return tuple(self._told(reason) for reason in self._reasons_now)

    @property
    def coming_up(self) -> tuple[Told, ...]:
        """The next changes of course."""
        if self.plan is None or self.control.pause is not None:
            return ()
        now = self.words.now_at
        ahead = [r for r in self.plan.reasons if now < r.start_at <= now + AHEAD]
        return tuple(self._told(reason) for reason in turns(ahead, self._reasons_now)[:COMING_UP])

    @property
    def _reasons_now(self) -> tuple[Reason, ...]:
        if self.plan is None or self.control.pause is not None:
            return ()
        found = [
            reason_now(self.plan, self.site, asset.name, self.words.now_at) for asset in self.site.batteries
        ]
        found += [self.plan.reason_at(asset.name, self.words.now_at) for asset in self.site.vehicles]
        return tuple(reason for reason in found if reason is not None)

    def _told(self, reason: Reason) -> Told:
        return told(reason, self.plan, self.site, self.words)


def reason_now(plan: Plan, site: Site, name: str, at: datetime) -> Reason | None:
    """Return why a battery does what it does at `at`.

    A plan tells changes of course and not their ends, so the last one told is believed only while the battery still
    does that; after it, a resting battery is full, empty, or has nothing to gain.
    """
    battery, index, reason = plan.batteries.get(name), plan.index_at(at), plan.reason_at(name, at)
    if battery is None or index is None or (reason is not None and reason.code == "rule"):
        return reason
    charging, giving = battery.charge_kw[index] > SMALL_KW, battery.discharge_kw[index] > SMALL_KW
    doing = Action.CHARGE if charging else Action.DISCHARGE if giving else Action.HOLD
    if reason is not None and reason.action is doing:
        return reason
    asset = next(found for found in site.batteries if found.name == name)
    level_frac = float(battery.stored_kwh[index]) / asset.capacity_kwh
    code = {Action.CHARGE: "store_for_later", Action.DISCHARGE: "serve_load", Action.HOLD: "no_gain"}[doing]
    if doing is Action.HOLD and level_frac > FULL_FRAC:
        code = "full"
    if doing is Action.HOLD and level_frac < asset.reserve_frac + EMPTY_FRAC:
        code = "empty"
    return Reason(asset=name, start_at=at, action=doing, code=code)


def turns(reasons: Sequence[Reason], before: Sequence[Reason] = ()) -> list[Reason]:
    """Return the reasons at which an asset turns to something else; the same for another hour is no news."""
    last = {reason.asset: reason.code for reason in before}
    found = []
    for reason in reasons:
        if last.get(reason.asset) != reason.code:
            found.append(reason)
        last[reason.asset] = reason.code
    return found


def told(reason: Reason, plan: Plan | None, site: Site, words: Words) -> Told:
    """Return a reason in words."""
    worth = None
    nothing = words.money(0.0)
    if reason.saving is not None and reason.saving > 0 and words.money(reason.saving) != nothing:
        minutes = 15 if plan is None else plan.step_s // 60
        worth = words.say(
            N_("Saves about %(amount)s in the first %(minutes)s minutes."),
            amount=words.money(reason.saving),
            minutes=minutes,
        )
    return Told(when=words.time(reason.start_at), sentence=words.reason(reason, site), worth=worth)


def present_view(queries: Queries, who: Principal, site_id: str, language: str) -> PresentView:
    """Ask only for what the fast loop changes."""
    site = queries.site(who, site_id)
    return PresentView(
        site=site,
        words=words_for(queries, site, language),
        now=queries.now(who, site_id),
        control=queries.control(who, site_id),
    )


def home_view(queries: Queries, who: Principal, site_id: str, language: str) -> HomeView:
    """Ask for everything the household page shows."""
    present = present_view(queries, who, site_id, language)
    site = present.site
    today = queries.today(site)
    days = queries.days(who, site_id, today - timedelta(days=1), 2)
    return HomeView(
        site=site,
        words=present.words,
        now=present.now,
        control=present.control,
        plan=queries.plan_in_force(who, site_id),
        today=days[1],
        yesterday=days[0],
        price_ahead=queries.price_ahead(who, site_id),
    )


def words_for(queries: Queries, site: Site, language: str) -> Words:
    """Return how a page about a site speaks."""
    return Words(language, site.time_zone, site.currency, queries.now_at())


def _tiles(site: Site, now: SiteNow, words: Words) -> Iterator[Tile]:
    powers, say = now.powers, words.say
    estimated = say(N_("estimated")) if now.quality is Quality.ESTIMATED else None

    def tile(icon: str, label: str, value: str, note: str, kw: float | None) -> Tile:
        mark = say(N_("unknown")) if kw is None else estimated
        return Tile(icon=icon, label=label, value=value if kw is not None else "–", note=note, mark=mark)

    if site.pvs:
        sun_kw = powers.total_pv_kw if powers.pv_kw else None
        yield tile("sun", say(N_("Sun")), words.kw(sun_kw), "", sun_kw)
    yield tile("home", say(N_("Home")), words.kw(powers.load_kw), "", powers.load_kw)
    if site.batteries:
        battery_kw = powers.total_battery_kw if powers.battery_kw else None
        level = now.stored_frac
        yield Tile(
            icon="battery",
            label=say(N_("Battery")),
            value="–" if level is None else words.share(level),
            note=_battery_note(battery_kw, words),
            mark=say(N_("unknown")) if level is None else estimated,
        )
    if site.vehicles:
        car_kw = powers.total_vehicle_kw if powers.vehicle_kw else None
        resting = car_kw is not None and car_kw <= SMALL_KW
        yield tile(
            "car", say(N_("Car")), words.kw(car_kw), say(N_("not charging")) if resting else "", car_kw
        )
    grid_kw = powers.net_import_kw
    yield tile(
        "grid",
        say(N_("Grid")),
        words.kw(None if grid_kw is None else abs(grid_kw)),
        _grid_note(grid_kw, words),
        grid_kw,
    )


def _battery_note(kw: float | None, words: Words) -> str:
    if kw is None:
        return ""
    if kw > SMALL_KW:
        return words.say(N_("charging with %(power)s"), power=words.kw(kw))
    if kw < -SMALL_KW:
        return words.say(N_("giving %(power)s"), power=words.kw(-kw))
    return words.say(N_("resting"))


def _grid_note(kw: float | None, words: Words) -> str:
    if kw is None or abs(kw) <= SMALL_KW:
        return ""
    return words.say(N_("buying")) if kw > 0 else words.say(N_("selling"))


def course_of(queries: Queries, who: Principal, site_id: str) -> Course:
    """Ask for the course a chart shows."""
    return queries.course(who, site_id, behind=BEHIND, ahead=AHEAD)


def course_json(course: Course, site: Site) -> dict[str, Any]:
    """Return a course for the chart; units in every name, unknown is null."""
    points = course.points

    def column(name: str) -> list[float | None]:
        values = [getattr(point, name) for point in points]
        return [None if value is None or value != value else round(value, 4) for value in values]

    return {
        "now_s": int(course.now_at.timestamp()),
        "step_s": course.step_s,
        "zone": site.time_zone,
        "starts_s": [int(point.start_at.timestamp()) for point in points],
        "planned": [point.planned for point in points],
        "estimated": [point.quality is not None and point.quality is not Quality.GOOD for point in points],
        "load_kw": column("load_kw"),
        "pv_kw": column("pv_kw"),
        "battery_kw": column("battery_kw"),
        "net_import_kw": column("net_import_kw"),
        "planned_import_kw": column("planned_import_kw"),
        "stored_end_frac": column("stored_frac"),
        "buy_per_kwh": column("buy_per_kwh"),
    }


def hours(course: Course, words: Words, columns: Sequence[str]) -> tuple[HourRow, ...]:
    """Return the table under a chart: one row an hour."""
    shown = {"stored_frac": words.share, "buy_per_kwh": words.price}
    rows = []
    for hour, group in groupby(course.points, key=lambda point: words.clock(point.start_at)[:2]):
        points = list(group)
        cells = [shown.get(name, words.kw)(_mean(points, name)) for name in columns]
        label = words.time(points[0].start_at.replace(minute=0)) if hour else ""
        rows.append(HourRow(hour=label, cells=tuple(cells), kind=words.say(_kind(points))))
    return tuple(rows)


def _kind(points: Sequence[Point]) -> str:
    if all(point.planned for point in points):
        return N_("planned")
    measured = [point.quality for point in points if not point.planned]
    if all(quality is None for quality in measured):
        return N_("unknown")
    return N_("measured") if all(quality is Quality.GOOD for quality in measured) else N_("estimated")


def _mean(points: Sequence[Point], name: str) -> float | None:
    values = [getattr(point, name) for point in points]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def chart_label(course: Course, site: Site, words: Words) -> str:
    """Return the chart in words, for those who do not see it."""
    parts = [
        words.say(
            N_("From %(start)s to %(end)s."),
            start=words.time(course.points[0].start_at),
            end=words.time(course.points[-1].start_at + timedelta(seconds=course.step_s)),
        )
        if course.points
        else words.say(N_("There is nothing to show yet."))
    ]
    wanted = [("load_kw", N_("Home up to %(value)s at %(time)s."))]
    if site.pvs:
        wanted.insert(0, ("pv_kw", N_("Sun up to %(value)s at %(time)s.")))
    for name, text in wanted:
        known = [(getattr(p, name), p.start_at) for p in course.points if getattr(p, name) is not None]
        if known:
            value, at = max(known)
            parts.append(words.say(text, value=words.kw(value), time=words.time(at)))
    levels = [point.stored_frac for point in course.points if point.stored_frac is not None]
    if levels:
        parts.append(
            words.say(
                N_("Battery between %(low)s and %(high)s."),
                low=words.share(min(levels)),
                high=words.share(max(levels)),
            )
        )
    prices = [point.buy_per_kwh for point in course.points if point.buy_per_kwh is not None]
    if prices:
        parts.append(
            words.say(
                N_("Price from %(low)s to %(high)s."),
                low=words.price(min(prices)),
                high=words.price(max(prices)),
            )
        )
    return " ".join(parts)


SKETCH_WIDTH, SKETCH_HEIGHT = 360, 120
"""Box the paths of a sketch are drawn in."""


def sketch(course: Course, names: Sequence[str]) -> dict[str, str]:
    """Return the course as SVG paths, for browsers that run no scripts; a gap stays a gap.

    Powers share one scale from zero up; a share of the battery has its own from 0 to 1.
    """
    powers = [getattr(p, name) or 0.0 for p in course.points for name in names if name.endswith("_kw")]
    top = max([0.5, *powers])
    across = SKETCH_WIDTH / max(1, len(course.points) - 1)
    paths = {}
    for name in names:
        ceiling, drawn, steps = (top if name.endswith("_kw") else 1.0), False, []
        for index, point in enumerate(course.points):
            value = getattr(point, name)
            if value is not None:
                y = SKETCH_HEIGHT * (1.0 - max(0.0, value) / ceiling)
                steps.append(f"{'L' if drawn else 'M'}{index * across:.1f} {y:.1f}")
            drawn = value is not None
        paths[name] = "".join(steps)
    paths["now"] = f"M{across * sum(not point.planned for point in course.points):.1f} 0V{SKETCH_HEIGHT}"
    return paths


SOURCES = {
    PlanSource.OPTIMAL: N_("optimal plan"),
    PlanSource.PREVIOUS: N_("earlier plan"),
    PlanSource.RULE: N_("simple rule"),
}


SERIES = {"load": N_("Home"), "pv": N_("Sun")}
LEADS = {1: N_("next hour"), 24: N_("day ahead")}
"""Leads a person is told of; the API has them all."""
SKILL_DAYS = 28
DAY_AHEAD_H = 24
RATIO_CEILING = 1.5
"""Top of the sketch of skill; worse days are drawn there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkillLine:
    """How the forecasts of one model came out at one lead."""

    score: ForecastScore
    """The figures."""
    words: Words
    """How it speaks."""

    @property
    def series(self) -> str:
        """What was forecast."""
        return self.words.say(SERIES[self.score.series])

    @property
    def lead(self) -> str:
        """How far ahead."""
        return self.words.say(LEADS[self.score.lead_h])

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Error, error against the 7-day mean, bias and coverage."""
        score = self.score
        return (
            self.words.share(score.nmae_frac),
            self.words.share(score.error_ratio),
            self.words.share(score.bias_frac),
            self.words.share(score.coverage_frac),
        )


def skill_lines(scores: Sequence[ForecastScore], words: Words) -> tuple[SkillLine, ...]:
    """Return what a person is told of skill, by series and lead."""
    told = [score for score in scores if score.lead_h in LEADS]
    return tuple(SkillLine(score=score, words=words) for score in told)


def skill_sketch(days: Sequence[ScoredDay]) -> dict[str, str]:
    """Return the day-ahead error against the 7-day mean, day by day, as SVG paths; a day without is a gap."""
    sums: dict[tuple[str, datetime], ForecastScore] = {}
    for day in days:
        if day.score.lead_h == DAY_AHEAD_H:
            key = (day.score.series, day.day_at)
            sums[key] = sums[key] + day.score if key in sums else day.score
    instants = sorted({day_at for _, day_at in sums})
    across = SKETCH_WIDTH / max(1, len(instants) - 1)
    paths = {}
    for series, name in (("load", "home"), ("pv", "pv_kw")):
        drawn, steps = False, []
        for index, day_at in enumerate(instants):
            score = sums.get((series, day_at))
            ratio = None if score is None else score.error_ratio
            if ratio is not None:
                y = SKETCH_HEIGHT * (1.0 - min(ratio, RATIO_CEILING) / RATIO_CEILING)
                steps.append(f"{'L' if drawn else 'M'}{index * across:.1f} {y:.1f}")
            drawn = ratio is not None
        if len(steps) > 1:
            paths[name] = "".join(steps)
    if paths:
        paths["now"] = f"M0 {SKETCH_HEIGHT * (1.0 - 1.0 / RATIO_CEILING):.1f}H{SKETCH_WIDTH}"
    return paths


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteLine:
    """One site in the operator's list."""

    row: FleetRow
    """The site."""
    words: Words
    """How it speaks."""

    @property
    def steered_by(self) -> str:
        """What it follows now."""
        if self.row.control.pause is not None:
            return self.words.say(N_("paused by a person"))
        if self.row.plan is None:
            return self.words.say(N_("no plan"))
        return self.words.say(SOURCES[self.row.plan.source])

    @property
    def trouble(self) -> str:
        """What is wrong, or nothing."""
        say, now = self.words.say, self.row.now
        told = [f"{device}: {cause}" for device, cause in now.troubles.items()]
        told += [say(N_("%(asset)s does not do what it is asked"), asset=name) for name in now.derated]
        if now.grid is not GridState.PRESENT:
            told.append(say(N_("no grid: an island")))
        if self.row.control.standing.signal_lost:
            told.append(say(N_("limit signal missing")))
        if told:
            return "; ".join(told)
        return self.words.say(N_("no readings")) if self.row.now.lost else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorView:
    """The operator's page."""

    words: Words
    """How it speaks; zone and money are those of the first site."""
    health: Health
    """The service."""
    fleet: Fleet
    """One page of sites."""
    edges: tuple[Edge, ...]
    """What changed lately."""
    zone: str
    """Zone of the times shown."""

    @property
    def lines(self) -> tuple[SiteLine, ...]:
        """The sites, those that need a person first."""
        ordered = sorted(self.fleet.rows, key=lambda row: (not row.attention, row.site.id))
        return tuple(
            SiteLine(
                row=row,
                words=Words(self.words.language, row.site.time_zone, row.site.currency, self.words.now_at),
            )
            for row in ordered
        )

    @property
    def troubled(self) -> int:
        """Sites of this page that need a person."""
        return sum(row.attention for row in self.fleet.rows)

    @property
    def headline(self) -> str:
        """The page in one sentence."""
        if not self.health.ready:
            return self.words.say(N_("The service is not ready."))
        if self.troubled:
            return self.words.say(N_("Sites that need attention: %(count)s."), count=self.troubled)
        return self.words.say(N_("All sites shown follow an optimal plan."))


def operator_view(
    queries: Queries, who: Principal, language: str, *, after: str | None, limit: int
) -> OperatorView:
    """Ask for everything the operator's page shows."""
    fleet = queries.fleet(who, after=after, limit=limit)
    first = fleet.rows[0].site if fleet.rows else None
    zone = first.time_zone if first else "UTC"
    now = queries.now_at()
    return OperatorView(
        words=Words(language, zone, first.currency if first else "EUR", now),
        health=queries.health(),
        fleet=fleet,
        edges=queries.edges(who, None, now - timedelta(days=2), limit=15),
        zone=zone,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One thing somebody asks of a site."""

    what: str
    """What it is about."""
    power: str
    """How much, in words."""
    by: str
    """In whose name, and which order."""
    until: str
    """When it holds."""
    lost: str | None
    """Who won against it and why; None where it counts or is still to come."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteView:
    """The operator's page of one site."""

    site: Site
    """The site."""
    words: Words
    """How it speaks."""
    now: SiteNow
    """Its present."""
    control: Control
    """Who steers it."""
    plan: Plan | None
    """The plan in force."""
    latest: tuple[IntervalAccount, ...]
    """The last intervals, newest first."""
    setpoints: tuple[DeliveredSetpoint, ...]
    """Newest first."""
    edges: tuple[Edge, ...]
    """What changed lately."""
    forecasts: Skill
    """How good its forecasts were."""

    @property
    def asked_by_others(self) -> tuple[Asked, ...]:
        """Orders in force or coming, those that do not count with the reason."""
        counts = self.control.standing
        lost = {entry.order.id: f"{entry.winner}: {entry.why}" for entry in counts.outranked}
        in_force = [*([counts.paused] if counts.paused else []), *counts.targets.values()]
        in_force += [entry.order for entry in counts.outranked]
        limits = (("import_limit", counts.import_limit), ("export_limit", counts.export_limit))
        told = [
            Asked(what=name, power=self.words.kw(limit.kw), by=str(limit.source), until="", lost=None)
            for name, limit in limits
            if limit.source is not None
        ]
        for order in (*in_force, *self.control.coming):
            power = "" if order.value_kw is None else self.words.kw(order.value_kw)
            told.append(
                Asked(
                    what=order.subject,
                    power=power,
                    by=f"{order.source} {order.note or order.by}",
                    until=f"{self.words.time(order.from_at)} – {self.words.time(order.ends_at)}",
                    lost=lost.get(order.id),
                )
            )
        return tuple(told)

    @property
    def skill_sketch(self) -> dict[str, str]:
        """The same day by day, as SVG paths; empty where there is too little."""
        return skill_sketch(self.forecasts.days)

    @property
    def drifting(self) -> tuple[str, ...]:
        """What of the site has changed its ways."""
        return tuple(self.words.say(SERIES[series]) for series in self.forecasts.drifting)

    @property
    def plan_words(self) -> str:
        """What it follows now."""
        return self.words.say(N_("no plan") if self.plan is None else SOURCES[self.plan.source])

    @property
    def reasons(self) -> tuple[Told, ...]:
        """The plan's reasons from now on."""
        if self.plan is None:
            return ()
        ahead = [r for r in self.plan.reasons if r.start_at >= self.words.now_at - timedelta(hours=1)]
        return tuple(told(reason, self.plan, self.site, self.words) for reason in turns(ahead)[:12])


def site_view(queries: Queries, who: Principal, site_id: str, language: str) -> SiteView:
    """Ask for everything the operator's page of one site shows."""
    site, now = queries.site(who, site_id), queries.now_at()
    accounts = queries.accounts(who, site_id, now - timedelta(hours=3), now)
    return SiteView(
        site=site,
        words=words_for(queries, site, language),
        now=queries.now(who, site_id),
        control=queries.control(who, site_id),
        plan=queries.plan_in_force(who, site_id),
        latest=tuple(reversed(accounts[-8:])),
        setpoints=queries.setpoints(
            who, site_id, now - timedelta(hours=6), now + timedelta(minutes=15), limit=12
        ),
        edges=queries.edges(who, site_id, now - timedelta(days=7), limit=12),
        forecasts=queries.skill(who, site_id, days=SKILL_DAYS),
    )


def fleet_course(queries: Queries, who: Principal, sites: Sequence[Site], now: datetime) -> dict[str, Any]:
    """Return plan against reality, summed over sites; an interval one of them lacks is unknown."""
    courses = [queries.course(who, site.id, behind=AHEAD, ahead=BEHIND) for site in sites]
    starts = sorted({point.start_at for course in courses for point in course.points})
    by_start = [{point.start_at: point for point in course.points} for course in courses]

    def column(name: str) -> list[float | None]:
        summed: list[float | None] = []
        for start in starts:
            values = [None if (p := points.get(start)) is None else getattr(p, name) for points in by_start]
            known = [value for value in values if value is not None]
            summed.append(round(sum(known), 3) if known and len(known) == len(values) else None)
        return summed

    planned = [any(p.planned for p in (points.get(start) for points in by_start) if p) for start in starts]
    return {
        "now_s": int(now.timestamp()),
        "step_s": courses[0].step_s if courses else 900,
        "zone": sites[0].time_zone if sites else "UTC",
        "starts_s": [int(start.timestamp()) for start in starts],
        "planned": planned,
        "estimated": [False] * len(starts),
        "net_import_kw": column("net_import_kw"),
        "planned_import_kw": column("planned_import_kw"),
    }
