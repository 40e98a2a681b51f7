"""`/v1`: parse, ask, shape. Who may ask is a dependency; what can go wrong is in `api.problems`."""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api import schemas as wire
from api.deps import AnyDesk, Requires
from api.problems import (
    BodyTooLarge,
    Crowded,
    NotAllowed,
    NotSignedIn,
    TooManyAttempts,
    Unusable,
    documented,
)
from api.stream import Streams
from ems.access import Principal, Scope
from ems.channels import Verdict
from ems.errors import NoPlan, NotPossible, StoreError, UnknownAsset, UnknownSetpoint, UnknownSite
from ems.live import Changes
from ems.messages import AcknowledgementMessage, message_schema, setpoint_message
from ems.orders import OrderKind

ALWAYS = (NotSignedIn, NotAllowed, TooManyAttempts, RequestValidationError, StoreError)
AT_SITE = documented(*ALWAYS, UnknownSite)
FLEET = documented(*ALWAYS)

EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Setpoints"},
        }
    },
}
STREAM = "Each event is one `Setpoints` object; the first comes at once. Ends after an hour; ask again."

LONGEST_SPAN = timedelta(days=31)
"""Longest stretch of intervals, readings or setpoints answered at once."""

DAY = re.compile(r"^\d{4}-\d\d-\d\d$")


def _day(value: object) -> object:
    if isinstance(value, str) and not DAY.match(value):
        raise ValueError("write a day such as 2026-06-03")
    return value


Day = Annotated[date, BeforeValidator(_day)]

router = APIRouter(prefix="/v1")
SiteId = Annotated[
    str, Path(description="Id of the site.", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["home-01"])
]

AssetName = Annotated[
    str, Path(description="Name of a battery or vehicle.", pattern=r"^[a-z][a-z0-9_]{0,31}$")
]
EventId = Annotated[
    str,
    Path(description="The programme's name for the event.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
]


class NoQuery(BaseModel):
    """A route that takes no query: what is sent all the same is a mistake."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(NoQuery):
    """One page of a list in order of id."""

    after: str | None = Field(default=None, max_length=63, description="Only what comes after this id.")
    limit: int = Field(default=50, ge=1, le=500, description="Most to return.")


class SpanQuery(NoQuery):
    """A stretch of time [start, end); by default the last 24 hours."""

    start: wire.Instant | None = Field(
        default=None, description="First instant, with offset; 24 h before `end`."
    )
    end: wire.Instant | None = Field(default=None, description="End, exclusive, with offset; now.")

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """Return both ends; raises `Unusable`."""
        end = self.end or now
        try:
            start = self.start or end - timedelta(hours=24)
            length = end - start
        except OverflowError as error:
            raise Unusable("query.start", "the stretch lies outside the calendar") from error
        if not timedelta() < length <= LONGEST_SPAN:
            raise Unusable(
                "query.start", f"[start, end) must be longer than 0 and at most {LONGEST_SPAN.days} days"
            )
        return start, end


class LimitedSpanQuery(SpanQuery):
    """A stretch of time and the most to return of it."""

    limit: int = Field(default=500, ge=1, le=5000, description="Most to return.")


class ReadingsQuery(LimitedSpanQuery):
    """Which quantity, and when."""

    quantity: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}\.[a-z][a-z0-9_]{0,63}$",
        description="`device.quantity`; `/readings/latest` lists them.",
        examples=["meter.net_import_kw"],
    )


class IssueQuery(NoQuery):
    """Which issue of a forecast."""

    issued_at: wire.Instant | None = Field(default=None, description="The latest unless given.")


class SkillQuery(NoQuery):
    """Over how many days."""

    days: int = Field(default=28, ge=1, le=120, description="Scored local days that count, up to yesterday.")


class PlanQuery(NoQuery):
    """Which plan."""

    at: wire.Instant | None = Field(
        default=None, description="In force at this instant; else the one decided last."
    )


class DaysQuery(NoQuery):
    """Which local days."""

    first: Day | None = Field(
        default=None, description="First local day; by default so that `count` ends today."
    )
    count: int = Field(default=7, ge=1, le=62, description="How many.")


class SinceQuery(NoQuery):
    """Since when, and how many."""

    since: wire.Instant | None = Field(default=None, description="Only from here on; the last 7 days.")
    limit: int = Field(default=100, ge=1, le=1000, description="Most to return.")


Empty = Annotated[NoQuery, Query()]


@router.get("/sites", tags=["sites"], responses=FLEET)
def sites(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.SITES_READ))],
    query: Annotated[PageQuery, Query()],
) -> wire.SiteList:
    """Sites that are yours to see."""
    page, total, next_after = desk.queries.site_page(who, after=query.after, limit=query.limit)
    return wire.SiteList(sites=[wire.site_out(site) for site in page], total=total, next_after=next_after)


@router.get("/sites/{site_id}", tags=["sites"], responses=AT_SITE)
def site(
    desk: AnyDesk, who: Annotated[Principal, Depends(Requires(Scope.SITES_READ))], site_id: SiteId, _: Empty
) -> wire.SiteOut:
    """One site."""
    return wire.site_out(desk.queries.site(who, site_id))


@router.get("/sites/{site_id}/state", tags=["state"], responses=AT_SITE)
def state(
    desk: AnyDesk, who: Annotated[Principal, Depends(Requires(Scope.STATE_READ))], site_id: SiteId, _: Empty
) -> wire.StateOut:
    """What the site is doing now, and who steers it."""
    return wire.state_out(desk.queries.now(who, site_id), desk.queries.control(who, site_id))


@router.get("/sites/{site_id}/readings/latest", tags=["state"], responses=AT_SITE)
def latest_readings(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.READINGS_READ))],
    site_id: SiteId,
    _: Empty,
) -> wire.LatestReadings:
    """The newest reading of each quantity, with its source."""
    samples = desk.queries.latest_samples(who, site_id)
    return wire.LatestReadings(
        site_id=site_id, readings=[wire.sample_out(name, samples[name]) for name in sorted(samples)]
    )


@router.get("/sites/{site_id}/readings", tags=["state"], responses=AT_SITE)
def readings(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.READINGS_READ))],
    site_id: SiteId,
    query: Annotated[ReadingsQuery, Query()],
) -> wire.Readings:
    """What was read of one quantity: as read while that is kept, interval means before."""
    start, end = query.span(desk.queries.now_at())
    return wire.readings_out(
        desk.queries.samples(who, site_id, query.quantity, start, end, limit=query.limit)
    )


@router.get("/sites/{site_id}/forecasts", tags=["plan"], responses=AT_SITE)
def forecasts(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.FORECASTS_READ))],
    site_id: SiteId,
    query: Annotated[IssueQuery, Query()],
) -> wire.Forecasts:
    """What is expected of load, solar and prices."""
    currency = desk.queries.site(who, site_id).currency
    found = desk.queries.forecasts(who, site_id, query.issued_at)
    return wire.Forecasts(site_id=site_id, forecasts=[wire.forecast_out(f, currency) for f in found])


@router.get("/sites/{site_id}/forecasts/skill", tags=["plan"], responses=AT_SITE)
def site_skill(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.FORECASTS_READ))],
    site_id: SiteId,
    query: Annotated[SkillQuery, Query()],
) -> wire.SiteSkill:
    """How good the forecasts of the site were: every one the service made, held against what was measured."""
    return wire.site_skill_out(site_id, desk.queries.skill(who, site_id, days=query.days))


@router.get("/forecasts/skill", tags=["plan"], responses=FLEET)
def fleet_skill(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.FLEET_READ))],
    query: Annotated[SkillQuery, Query()],
) -> wire.FleetSkill:
    """The same over all sites that are yours to see, by model."""
    found = desk.queries.fleet_skill(who, days=query.days)
    return wire.FleetSkill(skill=[wire.skill_out(score) for score in found])


@router.get("/sites/{site_id}/plan", tags=["plan"], responses=AT_SITE | documented(NoPlan, UnknownSite))
def plan(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.PLANS_READ))],
    site_id: SiteId,
    query: Annotated[PlanQuery, Query()],
) -> wire.PlanOut:
    """What the site intends, and why."""
    currency = desk.queries.site(who, site_id).currency
    return wire.plan_out(desk.queries.plan(who, site_id, query.at), currency)


@router.get("/sites/{site_id}/setpoints/current", tags=["setpoints"], responses=AT_SITE)
def setpoints_in_force(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.SETPOINTS_READ))],
    site_id: SiteId,
    _: Empty,
) -> wire.Setpoints:
    """What each asset is to do now: one setpoint per asset and quantity, as every controller is told it."""
    found = desk.queries.setpoints_in_force(who, site_id)
    return wire.Setpoints(site_id=site_id, setpoints=[setpoint_message(setpoint) for setpoint in found])


@router.get(
    "/sites/{site_id}/setpoints/stream",
    tags=["setpoints"],
    response_class=StreamingResponse,
    responses=AT_SITE
    | documented(Crowded)
    | {200: {"description": STREAM, "content": {"text/event-stream": {"schema": EVENT}}}},
)
async def setpoint_stream(
    request: Request,
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.SETPOINTS_READ))],
    site_id: SiteId,
    _: Empty,
) -> StreamingResponse:
    """The same as `/setpoints/current`, pushed when it changes (server-sent events)."""

    def current() -> dict[str, object]:
        found = desk.queries.setpoints_in_force(who, site_id)
        answer = wire.Setpoints(site_id=site_id, setpoints=[setpoint_message(setpoint) for setpoint in found])
        return answer.model_dump(mode="json", by_alias=True)

    sent = first = await run_in_threadpool(current)

    def render(changes: Changes) -> Mapping[str, object]:
        nonlocal sent
        if not changes.recorded and site_id not in changes.site_ids:
            return {}
        news, before = current(), sent
        sent = news
        return news if news != before else {}

    streams: Streams = request.app.state.streams
    return streams.respond(("setpoints", site_id, who.id), render, first=first)


@router.get("/sites/{site_id}/setpoints", tags=["setpoints"], responses=AT_SITE)
def setpoints(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.SETPOINTS_READ))],
    site_id: SiteId,
    query: Annotated[LimitedSpanQuery, Query()],
) -> wire.SetpointHistory:
    """What was asked of the site's devices and controllers, and what became of it; newest first."""
    start, end = query.span(desk.queries.now_at())
    found = desk.queries.setpoints(who, site_id, start, end, limit=query.limit)
    return wire.SetpointHistory(
        site_id=site_id, setpoints=[wire.setpoint_out(delivered) for delivered in found]
    )


@router.get("/sites/{site_id}/acknowledgements", tags=["setpoints"], responses=AT_SITE)
def acknowledgements(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.SETPOINTS_READ))],
    site_id: SiteId,
    query: Annotated[LimitedSpanQuery, Query()],
) -> wire.Acknowledgements:
    """What building controllers said about setpoints, by when it arrived; newest first."""
    start, end = query.span(desk.queries.now_at())
    if query.end is None:
        end += timedelta(seconds=1)  # what arrived this very moment
    found = desk.queries.acknowledgements(who, site_id, start, end, limit=query.limit)
    return wire.Acknowledgements(
        site_id=site_id, acknowledgements=[wire.acknowledgement_out(said) for said in found]
    )


@router.post(
    "/sites/{site_id}/acknowledgements",
    tags=["setpoints"],
    responses=AT_SITE | documented(BodyTooLarge, NotPossible, UnknownSetpoint, UnknownSite),
)
def acknowledge(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.ACKNOWLEDGEMENTS_WRITE))],
    site_id: SiteId,
    body: AcknowledgementMessage,
    _: Empty,
) -> wire.AcknowledgementTaken:
    """Say how far a setpoint came. It is on disk when this answers; saying the same again changes nothing."""
    match desk.commands.acknowledge(who, site_id, body):
        case Verdict.RECORDED | Verdict.DUPLICATE | Verdict.LATE as verdict:
            return wire.AcknowledgementTaken(setpoint_id=body.setpoint_id, verdict=str(verdict))
        case Verdict.NOT_YOURS:
            raise NotPossible(f"the site file names no controller {body.controller!r}")
        case _:
            raise UnknownSetpoint(f"the site has no setpoint {body.setpoint_id!r}")


@router.get("/schemas/{name}", tags=["setpoints"], responses=FLEET)
def schema(
    who: Annotated[Principal, Depends(Requires(Scope.SETPOINTS_READ))],
    name: Literal["setpoint", "acknowledgement"],
    _: Empty,
) -> dict[str, JsonValue]:
    """The JSON Schema of what controllers are told and of what they answer, whichever channel they use."""
    return message_schema(name)


@router.get("/sites/{site_id}/accounts/intervals", tags=["accounts"], responses=AT_SITE)
def intervals(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.ACCOUNTS_READ))],
    site_id: SiteId,
    query: Annotated[SpanQuery, Query()],
) -> wire.Intervals:
    """Energy, cost and saving by interval."""
    start, end = query.span(desk.queries.now_at())
    site = desk.queries.site(who, site_id)
    accounts = desk.queries.accounts(who, site_id, start, end)
    return wire.Intervals(
        site_id=site_id,
        currency=site.currency,
        intervals=[wire.interval_out(account) for account in accounts],
    )


@router.get("/sites/{site_id}/accounts/days", tags=["accounts"], responses=AT_SITE)
def days(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.ACCOUNTS_READ))],
    site_id: SiteId,
    query: Annotated[DaysQuery, Query()],
) -> wire.Days:
    """Energy, cost and saving by local day."""
    site = desk.queries.site(who, site_id)
    try:
        first = query.first or desk.queries.today(site) - timedelta(days=query.count - 1)
        found = desk.queries.days(who, site_id, first, query.count)
    except OverflowError as error:
        raise Unusable("query.first", "the days lie outside the calendar") from error
    return wire.Days(
        site_id=site_id,
        time_zone=site.time_zone,
        currency=site.currency,
        days=[wire.day_out(day) for day in found],
    )


@router.get("/sites/{site_id}/edges", tags=["health"], responses=AT_SITE)
def site_edges(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.EDGES_READ))],
    site_id: SiteId,
    query: Annotated[SinceQuery, Query()],
) -> wire.Edges:
    """Changes at the site: steps on the ladder of control, devices lost and back."""
    since = query.since or desk.queries.now_at() - timedelta(days=7)
    return wire.edges_out(desk.queries.edges(who, site_id, since, limit=query.limit))


@router.get("/sites/{site_id}/control", tags=["control"], responses=AT_SITE)
def control(
    desk: AnyDesk, who: Annotated[Principal, Depends(Requires(Scope.STATE_READ))], site_id: SiteId, _: Empty
) -> wire.ControlOut:
    """Who steers the site."""
    return wire.control_out(desk.queries.control(who, site_id))


@router.put("/sites/{site_id}/control/pause", tags=["control"], responses=AT_SITE | documented(BodyTooLarge))
def pause(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.CONTROL_WRITE))],
    site_id: SiteId,
    body: wire.PauseIn,
    _: Empty,
) -> wire.ControlOut:
    """Leave the site to its devices for a while; replaces a pause in force. A person's word always wins."""
    desk.commands.pause(who, site_id, lasts=timedelta(hours=body.lasts_h), note=body.note)
    return wire.control_out(desk.queries.control(who, site_id))


@router.delete("/sites/{site_id}/control/pause", tags=["control"], status_code=204, responses=AT_SITE)
def resume(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.CONTROL_WRITE))],
    site_id: SiteId,
    _: Empty,
) -> Response:
    """Hand the site back to automatic control; nothing happens when it was not paused."""
    desk.commands.resume(who, site_id)
    return Response(status_code=204)


@router.put(
    "/sites/{site_id}/control/targets/{asset}",
    tags=["control"],
    responses=AT_SITE | documented(BodyTooLarge, UnknownAsset, UnknownSite, NotPossible),
)
def set_target(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.CONTROL_WRITE))],
    site_id: SiteId,
    asset: AssetName,
    body: wire.TargetIn,
    _: Empty,
) -> wire.ControlOut:
    """Take over one battery or vehicle for a while; it goes to a power and the plan goes along with it."""
    lasts = timedelta(hours=body.lasts_h)
    desk.commands.set_target(who, site_id, asset, value_kw=body.value_kw, lasts=lasts, note=body.note)
    return wire.control_out(desk.queries.control(who, site_id))


@router.delete(
    "/sites/{site_id}/control/targets/{asset}", tags=["control"], status_code=204, responses=AT_SITE
)
def end_target(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.CONTROL_WRITE))],
    site_id: SiteId,
    asset: AssetName,
    _: Empty,
) -> Response:
    """Give an asset back to the plan; nothing happens when nobody had taken it over."""
    desk.commands.end_target(who, site_id, asset)
    return Response(status_code=204)


@router.get("/sites/{site_id}/limits", tags=["grid"], responses=AT_SITE)
def limits(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.LIMITS_READ))],
    site_id: SiteId,
    _: Empty,
) -> wire.LimitsOut:
    """What bounds the connection now, and who set it."""
    return wire.limits_out(site_id, desk.queries.control(who, site_id))


@router.put("/sites/{site_id}/limits", tags=["grid"], responses=AT_SITE | documented(BodyTooLarge))
def set_limits(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.LIMITS_WRITE))],
    site_id: SiteId,
    body: wire.LimitsIn,
    _: Empty,
) -> wire.LimitsOut:
    """Limit the connection in the grid operator's name until `lasts_s` is over; the heartbeat of a limit signal."""
    desk.commands.set_limits(
        who,
        site_id,
        import_kw=body.import_limit_kw,
        export_kw=body.export_limit_kw,
        lasts=timedelta(seconds=body.lasts_s),
    )
    return wire.limits_out(site_id, desk.queries.control(who, site_id))


@router.delete("/sites/{site_id}/limits", tags=["grid"], status_code=204, responses=AT_SITE)
def end_limits(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.LIMITS_WRITE))],
    site_id: SiteId,
    _: Empty,
) -> Response:
    """End the grid operator's limits; a site that lives under a signal falls back to its fail-safe limit."""
    desk.commands.end_limits(who, site_id)
    return Response(status_code=204)


@router.put(
    "/sites/{site_id}/events/{event_id}",
    tags=["grid"],
    responses=AT_SITE | documented(BodyTooLarge, UnknownAsset, UnknownSite, NotPossible),
)
def set_event(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.EVENTS_WRITE))],
    site_id: SiteId,
    event_id: EventId,
    body: wire.EventIn,
    _: Empty,
) -> wire.ControlOut:
    """Announce a demand-response event to a site, or replace it; people of the site may still take over."""
    desk.commands.set_event(
        who,
        site_id,
        event_id,
        kind=OrderKind(body.kind),
        value_kw=body.value_kw,
        from_at=body.start,
        until_at=body.end,
        asset=body.asset,
    )
    return wire.control_out(desk.queries.control(who, site_id))


@router.delete("/sites/{site_id}/events/{event_id}", tags=["grid"], status_code=204, responses=AT_SITE)
def end_event(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.EVENTS_WRITE))],
    site_id: SiteId,
    event_id: EventId,
    _: Empty,
) -> Response:
    """Cancel an event; nothing happens when there is none of that name."""
    desk.commands.end_event(who, site_id, event_id)
    return Response(status_code=204)


@router.get("/cycles", tags=["health"], responses=FLEET)
def cycles(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.FLEET_READ))],
    query: Annotated[LimitedSpanQuery, Query()],
) -> wire.Cycles:
    """Planning cycles in figures: missed, overlapped, fallback, troubles; newest first."""
    start, end = query.span(desk.queries.now_at())
    found = desk.queries.cycles(start, end + timedelta(hours=0 if query.end else 1), limit=query.limit)
    return wire.Cycles(cycles=[wire.cycle_out(row) for row in found])


@router.get("/edges", tags=["health"], responses=FLEET)
def edges(
    desk: AnyDesk,
    who: Annotated[Principal, Depends(Requires(Scope.FLEET_READ))],
    query: Annotated[SinceQuery, Query()],
) -> wire.Edges:
    """Changes at all sites that are yours to see, newest first."""
    since = query.since or desk.queries.now_at() - timedelta(days=7)
    return wire.edges_out(desk.queries.edges(who, None, since, limit=query.limit))
