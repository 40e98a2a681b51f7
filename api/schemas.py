"""Wire types of `/v1`. Every field name carries its unit; every series says when it starts and how long its steps are.

Signs: `net_import_kw` is positive when the site draws from the grid, `net_consumption_kw` when an asset draws from the
site (charging +). Instants are UTC with offset. `null` is unknown, never 0.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from ems.commands import LONGEST_LIMIT, LONGEST_PAUSE, LONGEST_TARGET
from ems.conduct import Trust
from ems.feedback import Edge, IntervalAccount
from ems.messages import Acknowledgement, SetpointMessage, setpoint_message
from ems.orders import Limit, Order, OrderKind, SetpointSource
from ems.plan import Plan, Reason
from ems.queries import (
    Control,
    CycleRow,
    Day,
    DeliveredSetpoint,
    ForecastScore,
    SampleSeries,
    SiteNow,
    Skill,
    StoredForecast,
)
from ems.readings import Quality, Sample
from ems.site import Site
from ems.state import GridState

INSTANT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)$")


def _instant(value: object) -> object:
    if isinstance(value, str):
        if not INSTANT.match(value):
            raise ValueError("write an instant such as 2026-06-03T09:15:00Z, with offset; in a URL, + is %2B")
        return datetime.fromisoformat(value.upper())
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
"""What is sent to us: ISO 8601 with offset and nothing else; a bare number is not a time."""
At = Annotated[AwareDatetime, Field(examples=["2026-06-03T09:15:00Z"])]
Iso = Annotated[str, Field(description="ISO 8601 duration.", examples=["PT900S"])]


class Wire(BaseModel):
    """What every wire type shares: nothing unsaid goes in or out."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)


class Series(Wire):
    """Values on an even grid: value `i` holds for [start + i * duration, start + (i + 1) * duration)."""

    name: str
    """What it is, e.g. `load_kw`."""
    start: At
    """First instant of the first value."""
    duration: Iso
    """Length of each interval."""
    unit: str
    """Unit of every value: `kW`, `kWh`, `frac`, or currency per kWh, e.g. `KRW/kWh`."""
    values: list[float | None]
    """In order of time; null is unknown."""
    at: Literal["mean", "end"] = "mean"
    """`mean` over the interval, or the state at its `end`."""


class AssetOut(Wire):
    """An asset of a site."""

    name: str
    """Unique within the site."""
    kind: Literal["pv", "battery", "vehicle", "sheddable"]
    """What it is."""
    device: str
    """Device that measures and steers it."""
    rated_kw: float | None
    """Nameplate of solar modules [kW]."""
    capacity_kwh: float | None
    """Usable capacity of a battery [kWh]."""
    charge_limit_kw: float | None
    """Most it draws [kW]."""
    discharge_limit_kw: float | None
    """Most it gives [kW]."""


class SiteOut(Wire):
    """A site."""

    id: str
    """Unique within the service."""
    name: str
    """Name people see."""
    time_zone: str
    """IANA zone in which its days begin and end."""
    currency: str
    """ISO 4217 code of all its prices and costs."""
    country: str
    """ISO 3166 code."""
    import_limit_kw: float
    """Most it may draw from the grid [kW]."""
    export_limit_kw: float
    """Most it may feed in [kW]."""
    assets: list[AssetOut]
    """What there is to forecast and steer."""


class SiteList(Wire):
    """One page of sites."""

    sites: list[SiteOut]
    """In order of id."""
    total: int
    """How many there are to see."""
    next_after: str | None
    """Ask on with `after=` this; null at the end."""


class PauseOut(Wire):
    """A person took control."""

    by: str
    """Key id of who asked."""
    since: At
    """When it began."""
    until: At
    """It ends by itself here."""
    note: str
    """What they said."""


class OrderOut(Wire):
    """What somebody asks of the site until an instant."""

    id: str
    """Unique."""
    kind: OrderKind
    """What is asked."""
    source: SetpointSource
    """In whose name; decides its rank."""
    by: str
    """Key or device it came with."""
    asset: str | None
    """The asset of a target; null: the site."""
    value_kw: float | None
    """Target (charging +) or limit [kW]."""
    start: At
    """First instant it holds."""
    end: At
    """It ends by itself here."""
    note: str
    """What was said about it; of an event, the programme's name for it."""


class OutrankedOut(Wire):
    """An order in force that does not count."""

    order: OrderOut
    """The order."""
    winner: str
    """Whose word counts instead."""
    why: str
    """Why."""


class LimitOut(Wire):
    """What bounds the connection in one direction."""

    kw: float
    """Most power [kW]."""
    source: SetpointSource | None
    """Who set it; null: it is the connection's own."""
    order_id: str | None
    """The order, where there is one."""


class LimitsOut(Wire):
    """What bounds a site's connection."""

    site_id: str
    """The site."""
    import_limit: LimitOut
    """What bounds the power drawn from the grid."""
    export_limit: LimitOut
    """What bounds the power fed into the grid."""
    signal_lost: bool
    """Whether the signal the site lives under is missing; its fail-safe limit holds then."""


class ControlOut(Wire):
    """Who steers the site."""

    automatic: bool
    """Whether the service steers; false while paused."""
    consented: bool
    """Whether the household lets it steer storage or a vehicle at all."""
    pause: PauseOut | None
    """The pause in force."""
    targets: list[OrderOut]
    """Assets somebody has taken over, with the order that counts for each."""
    import_limit: LimitOut
    """What bounds the power drawn from the grid."""
    export_limit: LimitOut
    """What bounds the power fed into the grid."""
    signal_lost: bool
    """Whether the grid operator's signal the site lives under is missing; its fail-safe limit holds then."""
    outranked: list[OutrankedOut]
    """Orders in force that do not count, and why."""
    coming: list[OrderOut]
    """Orders that will hold later."""


class TargetIn(Wire):
    """Take over one battery or vehicle."""

    value_kw: float = Field(ge=-1e6, le=1e6, allow_inf_nan=False, examples=[2.5])
    """Battery: charging +, discharging - [kW]. Vehicle: charging power, 0 holds it back."""
    lasts_h: float = Field(
        ge=1 / 60, le=LONGEST_TARGET.total_seconds() / 3600, allow_inf_nan=False, examples=[2]
    )
    """For how long [h]."""
    note: Annotated[str, StringConstraints(max_length=200)] = ""
    """Why, if you like."""


class LimitsIn(Wire):
    """The grid operator's limits; send them again before they run out."""

    import_limit_kw: float | None = Field(ge=0, le=1e6, allow_inf_nan=False, examples=[4.2])
    """Most the site may draw [kW]; null: the signal is alive and sets no limit."""
    export_limit_kw: float | None = Field(default=None, ge=0, le=1e6, allow_inf_nan=False)
    """Most the site may feed in [kW]; null as above."""
    lasts_s: float = Field(ge=1, le=LONGEST_LIMIT.total_seconds(), allow_inf_nan=False, examples=[120])
    """How long they hold unless sent again [s]; about three times the pause between two messages."""


class EventIn(Wire):
    """A demand-response event of a programme."""

    kind: Literal["import_limit", "export_limit", "target"]
    """A limit of the connection, or a target of an asset."""
    asset: Annotated[str, StringConstraints(max_length=32)] | None = None
    """The battery or vehicle of a target."""
    value_kw: float = Field(ge=-1e6, le=1e6, allow_inf_nan=False, examples=[3.0])
    """Limit, or power of the asset, charging + [kW]."""
    start: Instant
    """First instant it holds."""
    end: Instant
    """It ends here."""


class PauseIn(Wire):
    """Ask the service to leave the site to its devices for a while."""

    lasts_h: float = Field(
        ge=1 / 60, le=LONGEST_PAUSE.total_seconds() / 3600, allow_inf_nan=False, examples=[24]
    )
    """For how long [h]."""
    note: Annotated[str, StringConstraints(max_length=200)] = ""
    """Why, if you like."""


class ConductOut(Wire):
    """How an asset follows what it is asked, measured."""

    score: float
    """0 never, 1 always; the last minute counts most."""
    trust: Trust
    """`trusted`; `derated`: plans do without it; `trial`: it is asked again."""
    until: At | None
    """End of a derating."""
    cause: str
    """What was seen when trust was last lost."""


class StateOut(Wire):
    """A site at present."""

    site_id: str
    """The site."""
    at: At | None
    """When its devices were read; null when they never were."""
    lost: bool
    """True when that is too long ago to speak of the present; powers are then null."""
    quality: Quality
    """Trust in the powers."""
    net_import_kw: float | None
    """At the grid connection, + import [kW]."""
    load_kw: float | None
    """Household without storage, vehicle and solar [kW]."""
    pv_kw: dict[str, float | None]
    """Solar power by asset, >= 0 [kW]."""
    battery_net_consumption_kw: dict[str, float | None]
    """By battery, charging + [kW]."""
    vehicle_net_consumption_kw: dict[str, float | None]
    """By vehicle, charging + [kW]."""
    stored_kwh: float | None
    """Energy in all batteries [kWh]."""
    stored_frac: float | None
    """The same as a share of their capacity."""
    troubles: dict[str, str]
    """Devices that do not answer, with the cause."""
    grid: GridState
    """`present`, `lost` (the site runs as an island) or `returning`."""
    conduct: dict[str, ConductOut]
    """How assets follow what they are asked, by asset."""
    control: ControlOut
    """Who steers."""


class SampleOut(Wire):
    """One reading."""

    quantity: str
    """`device.quantity`, e.g. `meter.net_import_kw`."""
    value: float | None
    """In `unit`; null is absent."""
    unit: str
    """Unit of the value."""
    measured_at: At
    """When the device answered."""
    quality: Quality
    """Trust in it."""
    source: str
    """Device and register or point it came from."""
    cause: str | None
    """Why it is not good."""


class LatestReadings(Wire):
    """The newest reading of each quantity."""

    site_id: str
    """The site."""
    readings: list[SampleOut]
    """In order of quantity."""


class ReadingPoint(Wire):
    """One kept value."""

    start: At
    """Instant it was read at, or start of the interval it is the mean of."""
    duration: Iso
    """`PT0S` for a value as read; else the length of that interval."""
    value: float | None
    """In the unit of the series."""
    quality: Quality
    """Trust in it."""


class Readings(Wire):
    """What was read of one quantity. Readings come when devices answer, so each point says when."""

    site_id: str
    """The site."""
    quantity: str
    """`device.quantity`."""
    unit: str
    """Unit of the values."""
    points: list[ReadingPoint]
    """Oldest first."""
    next_start: At | None
    """Ask on with `start=` this; null when this is all."""


class ForecastOut(Wire):
    """What is expected of one series."""

    series: str
    """`load`, `pv.<asset>`, `buy` or `sell`."""
    issued_at: At
    """Nothing known later than this went in."""
    source: str
    """The model that made it, or `tariff`."""
    quality: str
    """`good`, `estimated`, `cold` or `fallback`."""
    mean: Series
    """Expected value."""
    low: Series | None
    """10 % quantile; null for prices."""
    high: Series | None
    """90 % quantile; null for prices."""


class Forecasts(Wire):
    """What a site expects."""

    site_id: str
    """The site."""
    forecasts: list[ForecastOut]
    """One per series."""


class SkillOut(Wire):
    """How the forecasts of one model came out at one lead. Null: nothing to say it by."""

    series: str
    """`load` or `pv` (all roofs together)."""
    model: str
    """The model that made them."""
    lead_h: int
    """Intervals that begin less than this many hours after the issue, and not less than the lead before it (1, 2, 4, 8,
    24, 48)."""
    scored: int
    """Forecasts of intervals that were scored: every one the service made."""
    nmae_frac: float | None
    """Mean absolute error over mean level."""
    rmse_kw: float | None
    """Root mean squared error [kW]."""
    bias_frac: float | None
    """Mean error over mean level; positive: forecast too high."""
    pinball_kw: float | None
    """Mean pinball loss over the levels 0.1, 0.5 and 0.9 [kW]."""
    coverage_frac: float | None
    """Share of truths inside the 80 % band; 0.8 is meant."""
    error_ratio: float | None
    """Absolute error over that of the 7-day mean; below 1 the model is better."""
    pinball_ratio: float | None
    """Pinball loss over that of the 7-day mean; below 1 the model is better."""


class SkillDayOut(SkillOut):
    """The same for one local day."""

    day_start: At
    """First instant of the day."""


class SiteSkill(Wire):
    """How the forecasts of a site came out."""

    site_id: str
    """The site."""
    since: At
    """Days before this do not count."""
    drifting: list[str]
    """Series whose ways have changed (`load`, `pv`): a simpler model stands in until the new ways are learned."""
    skill: list[SkillOut]
    """By series, lead and model."""
    days: list[SkillDayOut]
    """The same day by day, oldest first."""


class FleetSkill(Wire):
    """How the forecasts of all sites came out."""

    skill: list[SkillOut]
    """By series, lead and model."""


class ReasonOut(Wire):
    """Why an asset does what it does."""

    asset: str
    """The asset."""
    start: At
    """First interval it holds for."""
    action: str
    """`charge`, `discharge`, `hold` or `curtail`."""
    code: str
    """`store_surplus`, `store_for_later`, `serve_load`, `sell_now`, `keep_for_later`, `full`, `empty`, `ready_by`,
    `negative_price`, `export_limit`, `rule` or `no_gain`."""
    later_at: At | None
    """The later instant it is done for."""
    saving: float | None
    """What it is worth in that interval, in `currency` of the plan."""


class UnmetOut(Wire):
    """A wish the plan could not fulfil."""

    wish: str
    """Its name."""
    amount: float
    """By how much it is missed, in `unit`."""
    unit: str
    """kWh, kW, degC or h."""
    cost: float
    """Price paid for missing it, in `currency` of the plan."""


class PlanOut(Wire):
    """What a site intends."""

    site_id: str
    """The site."""
    issued_at: At
    """When it was made."""
    valid_until: At
    """After this nobody may act on it."""
    source: str
    """`optimal` (solved and audited), `previous` (an earlier audited one) or `rule` (store surplus, serve deficit)."""
    cause: str | None
    """Why it is not optimal; null when it is."""
    currency: str
    """ISO 4217 code of costs and savings."""
    cost: dict[str, float]
    """Expected cost by term over the horizon, in `currency`."""
    series: list[Series]
    """`import_kw`, `export_kw`, `load_kw`, `pv_kw:<asset>`, `battery_net_consumption_kw:<asset>`,
    `stored_kwh:<asset>` (at the end), `vehicle_kw:<asset>`, `marginal_per_kwh`."""
    reasons: list[ReasonOut]
    """One per asset and change of course, in order of time."""
    unmet: list[UnmetOut]
    """Wishes it could not fulfil."""
    solve_ms: float
    """Time spent solving this site [ms]."""


class DeliveryOut(Wire):
    """What became of a setpoint."""

    outcome: str
    """`applied`, `clamped`, `refused`, `unverified`, or `sent` to a controller that has not answered yet."""
    held_kw: float | None
    """What the device holds now [kW]; null in its own mode or when unknown."""
    at: At
    """When that was known."""
    written: bool
    """False when the device held it already and nothing was sent."""
    detail: str
    """Why it was clamped, refused or left unverified."""


class DeliveryScoreOut(Wire):
    """How a setpoint was followed while it was in force, as measured."""

    watched_s: float
    """How long that could be said [s]: after the device had had time to settle."""
    followed_frac: float
    """Share of that time in which what was measured agreed with what was asked, 0 to 1."""
    apart_kw: float
    """How far the two were apart while they did not agree, as a mean over all that time [kW]."""


class AcknowledgementOut(Wire):
    """What a building controller said about a setpoint."""

    setpoint_id: str
    """The setpoint."""
    controller: str
    """Who said it: a name in the site file."""
    channel: str
    """`mqtt`, `http` or `bacnet`."""
    state: str
    """`received`, `applied`, `clamped`, `refused` or `expired`."""
    value_kw: float | None
    """What the asset follows [kW]."""
    at: At
    """When that was so, by the controller's clock."""
    arrived_at: At
    """When the service heard of it first."""
    late: bool
    """It came after the setpoint's end: kept, but it changes nothing."""
    detail: str
    """Why, for people."""


class Acknowledgements(Wire):
    """What building controllers of a site said."""

    site_id: str
    """The site."""
    acknowledgements: list[AcknowledgementOut]
    """Newest first."""


class AcknowledgementTaken(Wire):
    """What became of an acknowledgement."""

    setpoint_id: str
    """The setpoint."""
    verdict: str
    """`recorded`: on disk; `duplicate`: said before, nothing changed; `late`: on disk, but the setpoint had ended."""


class SetpointOut(SetpointMessage):
    """A setpoint as every controller is told it, and what became of it."""

    delivery: DeliveryOut | None
    """What became of it; null when nothing is known yet."""
    score: DeliveryScoreOut | None
    """How it was followed; null while it is in force and where that could not be said."""
    acknowledgements: list[AcknowledgementOut]
    """What building controllers said about it, in order of arrival."""


class SetpointHistory(Wire):
    """Setpoints of a site with what became of them."""

    site_id: str
    """The site."""
    setpoints: list[SetpointOut]
    """Newest first."""


class Setpoints(Wire):
    """What the assets of a site are to do now."""

    site_id: str
    """The site."""
    setpoints: list[SetpointMessage]
    """One per asset and quantity; an asset that is not named runs its own mode."""


class IntervalOut(Wire):
    """One interval in energy and money."""

    start: At
    """Its first instant."""
    duration: Iso
    """Its length."""
    quality: Quality
    """Trust in the energy."""
    import_kwh: float | None
    """Drawn from the grid [kWh]."""
    export_kwh: float | None
    """Fed into the grid [kWh]."""
    load_kwh: float | None
    """Household load without storage and vehicle [kWh]."""
    pv_kwh: float | None
    """Solar energy delivered [kWh]."""
    charged_kwh: float | None
    """Drawn by batteries [kWh]."""
    discharged_kwh: float | None
    """Given by batteries [kWh]."""
    vehicle_kwh: float | None
    """Drawn by vehicles [kWh]."""
    stored_kwh: float | None
    """In the batteries at the end [kWh]."""
    curtailed: bool
    """Whether solar power was held back on command."""
    buy_per_kwh: float
    """Price of imported energy [currency/kWh]."""
    sell_per_kwh: float
    """Price paid for exported energy [currency/kWh]."""
    cost: float | None
    """Paid, in `currency`; income is negative."""
    cost_idle: float | None
    """The same with storage idle."""
    saving: float | None
    """`cost_idle` - `cost`."""
    planned_net_import_kw: float | None
    """What the plan of that interval expected, + import [kW]."""


class DayOut(Wire):
    """One local day in energy and money. A sum covers the intervals that are known; `known` says how many those are."""

    day: date
    """The local calendar day."""
    start: At
    """Its first instant."""
    duration: Iso
    """Its length: 23, 24 or 25 hours."""
    expected: int
    """Intervals that should be on record by now."""
    known: int
    """Intervals whose saving is known."""
    estimated: int
    """Of those, how many had something filled in."""
    import_kwh: float | None
    """Drawn from the grid [kWh]."""
    export_kwh: float | None
    """Fed into the grid [kWh]."""
    load_kwh: float | None
    """Household load [kWh]."""
    pv_kwh: float | None
    """Solar energy delivered [kWh]."""
    vehicle_kwh: float | None
    """Drawn by vehicles [kWh]."""
    cost: float | None
    """Paid, in `currency`; income is negative."""
    saving: float | None
    """Saved against idle storage, in `currency`; energy still in the store is not in it."""
    stored_gain_kwh: float | None
    """Change of the energy in the batteries over the day so far [kWh]."""
    co2_kg: float | None
    """Emissions of the imported energy [kg]."""


class Intervals(Wire):
    """Accounts by interval."""

    site_id: str
    """The site."""
    currency: str
    """ISO 4217 code of all money in it."""
    intervals: list[IntervalOut]
    """Oldest first; an interval nobody measured is left out."""


class Days(Wire):
    """Accounts by local day."""

    site_id: str
    """The site."""
    time_zone: str
    """Zone the days belong to."""
    currency: str
    """ISO 4217 code of all money in it."""
    days: list[DayOut]
    """Oldest first; days to come are left out."""


class EdgeOut(Wire):
    """A change worth telling once."""

    at: At
    """When."""
    site_id: str
    """Where."""
    subject: str
    """What changed, e.g. `plan` or `device.inverter`."""
    became: str
    """What it is now, e.g. `rule`, `lost`, `back`."""
    cause: str
    """Why, in one line."""


class Edges(Wire):
    """Changes, newest first."""

    edges: list[EdgeOut]
    """Steps on the ladder of control, devices lost and back."""


class CycleOut(Wire):
    """One planning cycle in figures."""

    at: At
    """Start of the first interval it planned."""
    took_ms: float
    """Its wall time [ms]."""
    missed: int
    """Planning instants before it at which no cycle ran."""
    overlapped: int
    """Planning instants before it skipped because a cycle was still running."""
    sites: int
    """Sites in the batch."""
    fallback_sites: int
    """Sites whose plan is not an optimal one."""
    device_troubles: int
    """Devices that could not be read."""


class Cycles(Wire):
    """Health of the planning cycle."""

    cycles: list[CycleOut]
    """Newest first."""


class HealthOut(Wire):
    """Whether the service does its work."""

    status: Literal["ready", "standby", "not_ready"]
    """`ready` when plans and setpoints can be relied on; `standby` when they can, and another instance makes them."""
    live: Literal[True]
    """The process answers."""
    reasons: list[str]
    """Why it is not ready."""
    leader: str | None
    """Who writes to the devices while this instance stands by; null when it does so itself."""
    latest_cycle_at: At | None
    """Start of the interval planned last."""
    next_cycle_at: At | None
    """When the next cycle is due."""
    cycles_24h: int
    """Cycles in the last 24 hours of site time."""
    missed_24h: int
    """Planning instants without a cycle in that time."""
    overlapped_24h: int
    """Planning instants skipped in that time because a cycle was still running."""


class LiveOut(Wire):
    """The process answers."""

    live: Literal[True]
    """Always true; an answer is the point."""


def iso(length: timedelta | float) -> str:
    """Return an ISO 8601 duration."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    return f"PT{seconds:.0f}S"


def site_out(site: Site) -> SiteOut:
    """Return a site as it goes out; who owns it and where it lies stay inside."""
    return SiteOut(
        id=site.id,
        name=site.name,
        time_zone=site.time_zone,
        currency=site.currency,
        country=site.country,
        import_limit_kw=site.connection.import_limit_kw,
        export_limit_kw=site.connection.export_limit_kw,
        assets=[
            AssetOut(
                name=asset.name,
                kind=asset.kind,
                device=asset.device,
                rated_kw=getattr(asset, "rated_kw", None),
                capacity_kwh=getattr(asset, "capacity_kwh", None),
                charge_limit_kw=getattr(asset, "charge_limit_kw", None),
                discharge_limit_kw=getattr(asset, "discharge_limit_kw", None),
            )
            for asset in site.assets
        ],
    )


def control_out(control: Control) -> ControlOut:
    """Return who steers."""
    pause = control.pause
    return ControlOut(
        automatic=pause is None,
        consented=control.storage_consented,
        pause=None
        if pause is None
        else PauseOut(by=pause.by, since=pause.from_at, until=pause.until_at, note=pause.note),
        targets=[order_out(order) for order in control.standing.targets.values()],
        import_limit=limit_out(control.standing.import_limit),
        export_limit=limit_out(control.standing.export_limit),
        signal_lost=control.standing.signal_lost,
        outranked=[
            OutrankedOut(order=order_out(lost.order), winner=lost.winner, why=lost.why)
            for lost in control.standing.outranked
        ],
        coming=[order_out(order) for order in control.coming],
    )


def limits_out(site_id: str, control: Control) -> LimitsOut:
    """Return what bounds the connection, and nothing of the household."""
    return LimitsOut(
        site_id=site_id,
        import_limit=limit_out(control.standing.import_limit),
        export_limit=limit_out(control.standing.export_limit),
        signal_lost=control.standing.signal_lost,
    )


def order_out(order: Order) -> OrderOut:
    """Return an order."""
    return OrderOut(
        id=order.id,
        kind=order.kind,
        source=order.source,
        by=order.by,
        asset=order.asset,
        value_kw=order.value_kw,
        start=order.from_at,
        end=order.ends_at,
        note=order.note,
    )


def limit_out(limit: Limit) -> LimitOut:
    """Return a limit of the connection."""
    return LimitOut(kw=limit.kw, source=limit.source, order_id=limit.order_id)


def state_out(now: SiteNow, control: Control) -> StateOut:
    """Return a site's present."""
    return StateOut(
        site_id=now.site_id,
        at=now.at,
        lost=now.lost,
        quality=now.quality,
        net_import_kw=now.powers.net_import_kw,
        load_kw=now.powers.load_kw,
        pv_kw=dict(now.powers.pv_kw),
        battery_net_consumption_kw=dict(now.powers.battery_kw),
        vehicle_net_consumption_kw=dict(now.powers.vehicle_kw),
        stored_kwh=now.stored_kwh,
        stored_frac=now.stored_frac,
        troubles=dict(now.troubles),
        grid=now.grid,
        conduct={
            name: ConductOut(score=one.score, trust=one.trust, until=one.until, cause=one.cause)
            for name, one in now.conduct.items()
        },
        control=control_out(control),
    )


def sample_out(quantity: str, sample: Sample) -> SampleOut:
    """Return one reading."""
    return SampleOut(
        quantity=quantity,
        value=sample.value,
        unit=str(sample.unit),
        measured_at=sample.measured_at,
        quality=sample.quality,
        source=sample.source,
        cause=sample.cause,
    )


def readings_out(series: SampleSeries) -> Readings:
    """Return what was read of one quantity."""
    return Readings(
        site_id=series.site_id,
        quantity=series.key,
        unit=series.unit,
        points=[
            ReadingPoint(start=s.at, duration=iso(s.span_s), value=s.value, quality=s.quality)
            for s in series.samples
        ],
        next_start=None
        if series.complete or not series.samples
        else series.samples[-1].at + timedelta(milliseconds=1),
    )


def forecast_out(forecast: StoredForecast, currency: str) -> ForecastOut:
    """Return one forecast."""
    unit = "kW" if forecast.unit == "kW" else f"{currency}/kWh"
    name = "kw" if unit == "kW" else "per_kwh"

    def series(values: Any) -> Series | None:
        if values is None:
            return None
        return grid_series(f"{forecast.series}_{name}", forecast.starts_s, forecast.step_s, unit, values)

    mean = series(forecast.mean)
    assert mean is not None  # noqa: S101 - narrows the type; a forecast always has a mean
    return ForecastOut(
        series=forecast.series,
        issued_at=forecast.issued_at,
        source=forecast.source,
        quality=forecast.quality,
        mean=mean,
        low=series(forecast.low),
        high=series(forecast.high),
    )


def skill_out(score: ForecastScore) -> SkillOut:
    """Return how forecasts came out."""
    return SkillOut(**_skill(score))


def site_skill_out(site_id: str, skill: Skill) -> SiteSkill:
    """Return how the forecasts of a site came out."""
    return SiteSkill(
        site_id=site_id,
        since=skill.since,
        drifting=list(skill.drifting),
        skill=[skill_out(score) for score in skill.scores],
        days=[SkillDayOut(day_start=day.day_at, **_skill(day.score)) for day in skill.days],
    )


def _skill(score: ForecastScore) -> dict[str, Any]:
    return {
        "series": score.series,
        "model": score.source,
        "lead_h": score.lead_h,
        "scored": score.scored,
        "nmae_frac": score.nmae_frac,
        "rmse_kw": score.rmse_kw,
        "bias_frac": score.bias_frac,
        "pinball_kw": score.mean_pinball_kw,
        "coverage_frac": score.coverage_frac,
        "error_ratio": score.error_ratio,
        "pinball_ratio": score.pinball_ratio,
    }


def grid_series(
    name: str, starts_s: Any, step_s: int, unit: str, values: Any, at: Literal["mean", "end"] = "mean"
) -> Series:
    """Return an array on the grid of a plan or forecast; NaN becomes null."""
    return Series(
        name=name,
        start=datetime.fromtimestamp(int(starts_s[0]), UTC),
        duration=iso(step_s),
        unit=unit,
        values=[None if value != value else float(value) for value in values.tolist()],
        at=at,
    )


def reason_out(reason: Reason) -> ReasonOut:
    """Return one reason."""
    return ReasonOut(
        asset=reason.asset,
        start=reason.start_at,
        action=str(reason.action),
        code=reason.code,
        later_at=reason.later_at,
        saving=reason.saving,
    )


def plan_out(plan: Plan, currency: str) -> PlanOut:
    """Return a plan."""

    def series(name: str, unit: str, values: Any, at: Literal["mean", "end"] = "mean") -> Series:
        return grid_series(name, plan.starts_s, plan.step_s, unit, values, at)

    found = [
        series("import_kw", "kW", plan.import_kw),
        series("export_kw", "kW", plan.export_kw),
        series("load_kw", "kW", plan.load_kw),
        series("marginal_per_kwh", f"{currency}/kWh", plan.marginal_per_kwh),
        *(series(f"pv_kw:{name}", "kW", kw) for name, kw in plan.pv_kw.items()),
        *(series(f"vehicle_kw:{name}", "kW", kw) for name, kw in plan.vehicle_kw.items()),
    ]
    for name, battery in plan.batteries.items():
        net_kw = battery.charge_kw - battery.discharge_kw
        found.append(series(f"battery_net_consumption_kw:{name}", "kW", net_kw))
        found.append(series(f"stored_kwh:{name}", "kWh", battery.stored_kwh[1:], "end"))
    return PlanOut(
        site_id=plan.site_id,
        issued_at=plan.issued_at,
        valid_until=plan.valid_until,
        source=str(plan.source),
        cause=plan.cause,
        currency=currency,
        cost=dict(plan.cost),
        series=found,
        reasons=[reason_out(reason) for reason in plan.reasons],
        unmet=[UnmetOut(wish=u.wish, amount=u.amount, unit=u.unit, cost=u.cost) for u in plan.unmet],
        solve_ms=plan.solve_ms,
    )


def setpoint_out(delivered: DeliveredSetpoint) -> SetpointOut:
    """Return a setpoint with its delivery and what controllers said."""
    came, score = delivered.delivery, delivered.score
    return SetpointOut(
        **dict(setpoint_message(delivered.setpoint)),
        delivery=None
        if came is None
        else DeliveryOut(
            outcome=str(came.outcome),
            held_kw=came.held_kw,
            at=came.at,
            written=came.written,
            detail=came.detail,
        ),
        score=None
        if score is None
        else DeliveryScoreOut(
            watched_s=score.watched_s, followed_frac=score.followed_frac, apart_kw=score.apart_kw
        ),
        acknowledgements=[acknowledgement_out(said) for said in delivered.acknowledgements],
    )


def acknowledgement_out(said: Acknowledgement) -> AcknowledgementOut:
    """Return one acknowledgement."""
    return AcknowledgementOut(
        setpoint_id=said.setpoint_id,
        controller=said.controller,
        channel=said.channel,
        state=str(said.state),
        value_kw=said.value_kw,
        at=said.at,
        arrived_at=said.arrived_at,
        late=said.late,
        detail=said.detail,
    )


def interval_out(account: IntervalAccount) -> IntervalOut:
    """Return one interval."""
    energy = account.measured
    return IntervalOut(
        start=energy.start_at,
        duration=iso(energy.hours * 3600),
        quality=energy.quality,
        import_kwh=energy.import_kwh,
        export_kwh=energy.export_kwh,
        load_kwh=energy.load_kwh,
        pv_kwh=energy.pv_kwh,
        charged_kwh=energy.charged_kwh,
        discharged_kwh=energy.discharged_kwh,
        vehicle_kwh=energy.vehicle_kwh,
        stored_kwh=energy.stored_kwh,
        curtailed=energy.curtailed,
        buy_per_kwh=account.buy_per_kwh,
        sell_per_kwh=account.sell_per_kwh,
        cost=account.cost,
        cost_idle=account.cost_idle,
        saving=account.saving,
        planned_net_import_kw=account.planned_import_kw,
    )


def day_out(day: Day) -> DayOut:
    """Return one day."""
    return DayOut(
        day=day.day,
        start=day.start_at,
        duration=iso(day.end_at - day.start_at),
        expected=day.expected,
        known=day.known,
        estimated=day.estimated,
        import_kwh=day.import_kwh,
        export_kwh=day.export_kwh,
        load_kwh=day.load_kwh,
        pv_kwh=day.pv_kwh,
        vehicle_kwh=day.vehicle_kwh,
        cost=day.cost,
        saving=day.saving,
        stored_gain_kwh=day.stored_gain_kwh,
        co2_kg=day.co2_kg,
    )


def edges_out(edges: Sequence[Edge]) -> Edges:
    """Return changes."""
    return Edges(
        edges=[
            EdgeOut(at=e.at, site_id=e.site_id, subject=e.subject, became=e.became, cause=e.cause)
            for e in edges
        ]
    )


def cycle_out(row: CycleRow) -> CycleOut:
    """Return one cycle."""
    return CycleOut(
        at=row.at,
        took_ms=row.took_ms,
        missed=row.missed,
        overlapped=row.overlapped,
        sites=row.n_sites,
        fallback_sites=row.n_fallback,
        device_troubles=row.n_troubles,
    )
