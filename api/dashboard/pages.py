"""Pages and the forms on them. A page asks for a view and lays it out; live parts are the same templates again."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Depends, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from api.dashboard import views
from api.dashboard.languages import COOKIE as LANGUAGE_COOKIE
from api.dashboard.languages import LANGUAGES, language_of, translations
from api.deps import (
    COOKIE,
    AnyDesk,
    MaybeSession,
    SignedIn,
    address_of,
    own_form,
    same_origin,
    sign_in,
)
from api.identity import DEMO_OPERATOR, DEMO_PREFIX, Session, demo_principal
from api.problems import Kind, NotSignedIn, TooManyAttempts, Unusable
from api.stream import Streams
from ems.access import AccessRole, Scope
from ems.commands import LONGEST_PAUSE
from ems.errors import UnknownSite
from ems.live import Changes

TEMPLATES = Path(__file__).parent / "templates"
PAUSES = {"day": timedelta(hours=24), "open": LONGEST_PAUSE}
"""What the household page offers: a day, or until somebody switches back on."""
SITES_A_PAGE = 50
OPERATOR_PACE_S = 3.0
"""A page of 50 sites takes 50 plans to render, so it follows more slowly than a home's."""
YEAR_S = 365 * 86_400


@cache
def environment(language: str) -> Environment:
    """Return the templates in a language; one environment each, as texts are its globals."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    return made


router = APIRouter()

Resident = Annotated[Session, Depends(SignedIn(Scope.ACCOUNTS_READ))]
Steering = Annotated[Session, Depends(SignedIn(Scope.CONTROL_WRITE))]
Operator = Annotated[Session, Depends(SignedIn(Scope.FLEET_READ))]


def rendered(template: str, language: str, **context: object) -> str:
    """Return a template in a language."""
    template_of = environment(language).get_template(template)
    return template_of.render(language=language, languages=LANGUAGES, **context)


def page(request: Request, template: str, *, status: int = 200, **context: object) -> Response:
    """Return a whole page, remembering the language when the URL chose one."""
    language = language_of(request)
    links = {
        code: f"{request.url.path}?lang={code}"
        + "".join(f"&{k}={v}" for k, v in request.query_params.items() if k == "after")
        for code in LANGUAGES
    }
    body = rendered(template, language, path=request.url.path, links=links, status=status, **context)
    response = HTMLResponse(body, status_code=status, headers={"Content-Language": language})
    response.headers["Vary"] = "Accept-Language, Cookie"
    if request.query_params.get("lang") in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=YEAR_S, httponly=True, samesite="lax")
    return response


def error_page(request: Request, kind: Kind, detail: str, error: Exception) -> Response:
    """Return a problem as a page; who is not signed in is taken to where they can."""
    desk = request.app.state.desk
    if isinstance(error, NotSignedIn) and request.method == "GET":
        return RedirectResponse(
            "/" if desk.settings.demo else f"/signin?next={request.url.path}", status_code=303
        )
    return page(request, "error.html", status=kind.status, title=kind.title, detail=detail)


async def form_fields(request: Request) -> dict[str, str]:
    """Return the fields of a plain form; bodies are bounded by the middleware."""
    if (
        request.headers.get("content-type", "").partition(";")[0].strip()
        != "application/x-www-form-urlencoded"
    ):
        raise Unusable("body", "send a plain form")
    try:
        pairs = parse_qsl((await request.body()).decode("ascii"), max_num_fields=10, errors="strict")
    except (UnicodeDecodeError, ValueError) as error:
        raise Unusable("body", "the form cannot be read") from error
    return dict(pairs)


Fields = Annotated[dict[str, str], Depends(form_fields)]
SameOrigin = Depends(same_origin)


@router.get("/")
def front(request: Request, desk: AnyDesk, session: MaybeSession) -> Response:
    """The landing page of the demo; else to where the visitor belongs."""
    if desk.settings.demo:
        whole = demo_principal(DEMO_OPERATOR)
        return page(request, "demo.html", sites=desk.queries.sites(whole), session=session)
    if session is None:
        return RedirectResponse("/signin", status_code=303)
    return RedirectResponse(_home_of(session), status_code=303)


@router.post("/demo", dependencies=[SameOrigin])
def enter_demo(request: Request, desk: AnyDesk, fields: Fields) -> Response:
    """Enter the demo as one of its homes or as its operator."""
    entry = fields.get("entry", "")
    known = {DEMO_OPERATOR, *(site.id for site in desk.service.sites)}
    if not desk.settings.demo or entry not in known:
        raise UnknownSite("the demo has no such entry")
    target = "/operator" if entry == DEMO_OPERATOR else f"/homes/{entry}"
    return _signed_in(request, desk.sessions.issue(f"{DEMO_PREFIX}{entry}"), target)


@router.get("/signin")
def signin_page(request: Request, session: MaybeSession) -> Response:
    """Where a key is entered."""
    if session is not None:
        return RedirectResponse(_home_of(session), status_code=303)
    return page(request, "signin.html", next=_local(request.query_params.get("next", "")), failed=None)


@router.post("/signin", dependencies=[SameOrigin])
async def signin(request: Request, desk: AnyDesk, fields: Fields) -> Response:
    """Exchange a key for a session."""
    target = _local(fields.get("next", ""))
    try:
        who = await run_in_threadpool(sign_in, desk, fields.get("key", "").strip(), address_of(request))
    except NotSignedIn:
        return page(request, "signin.html", status=401, next=target, failed="wrong")
    except TooManyAttempts as error:
        response = page(request, "signin.html", status=429, next=target, failed="wait")
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response
    if who.role is AccessRole.CONTROLLER:
        return page(request, "signin.html", status=403, next=target, failed="machine")
    token = desk.sessions.issue(who.id)
    return _signed_in(request, token, target or _home_of(Session(principal=who, token=token)))


@router.post("/signout", dependencies=[SameOrigin])
def signout(desk: AnyDesk, session: MaybeSession, fields: Fields) -> Response:
    """End the session in this browser."""
    if session is not None:
        own_form(desk, session, fields)
    response = RedirectResponse("/", status_code=303)
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return response


@router.get("/about")
def about(request: Request, session: MaybeSession) -> Response:
    """What is recorded, who sees it, and what the words mean."""
    return page(request, "about.html", home=None if session is None else _home_of(session))


@router.get("/homes")
def own_homes(request: Request, desk: AnyDesk, session: Resident) -> Response:
    """A choice, for those who have more than one home."""
    sites = desk.queries.sites(session.principal)
    if len(sites) == 1:
        return RedirectResponse(f"/homes/{sites[0].id}", status_code=303)
    return page(request, "homes.html", sites=sites)


@router.get("/homes/{site_id}")
def home(request: Request, desk: AnyDesk, session: Resident, site_id: str) -> Response:
    """The household page."""
    language = language_of(request)
    view = views.home_view(desk.queries, session.principal, site_id, language)
    course = views.course_of(desk.queries, session.principal, site_id)
    columns = [
        *(["pv_kw"] if view.site.pvs else []),
        "load_kw",
        *(["stored_frac"] if view.site.batteries else []),
        "buy_per_kwh",
    ]
    return page(
        request,
        "home.html",
        view=view,
        words=view.words,
        form_token=desk.sessions.form_token(session.token),
        chart_label=views.chart_label(course, view.site, view.words),
        hours=views.hours(course, view.words, columns),
        columns=columns,
        sketch=views.sketch(course, columns[:-1]),
        operator=session.principal.may(Scope.FLEET_READ),
    )


@router.get("/homes/{site_id}/course")
def home_course(desk: AnyDesk, session: Resident, site_id: str) -> Response:
    """What the chart shows."""
    course = views.course_of(desk.queries, session.principal, site_id)
    return JSONResponse(views.course_json(course, desk.queries.site(session.principal, site_id)))


@router.get("/homes/{site_id}/parts")
def home_parts(request: Request, desk: AnyDesk, session: Resident, site_id: str) -> Response:
    """Every live part of the household page, for browsers that poll."""
    view = views.home_view(desk.queries, session.principal, site_id, language_of(request))
    return JSONResponse({"parts": _home_parts(view, HOME_PARTS), "course": True})


@router.get("/homes/{site_id}/live")
async def home_live(request: Request, desk: AnyDesk, session: Resident, site_id: str) -> Response:
    """The same, pushed when something changes."""
    who, language = session.principal, language_of(request)
    await run_in_threadpool(desk.queries.site, who, site_id)

    def render(changes: Changes) -> Mapping[str, object]:
        if not changes.recorded and site_id not in changes.site_ids:
            return {}
        if not changes.recorded:
            present = views.present_view(desk.queries, who, site_id, language)
            return {"parts": _home_parts(present, PRESENT_PARTS), "course": False}
        whole = views.home_view(desk.queries, who, site_id, language)
        return {"parts": _home_parts(whole, HOME_PARTS), "course": True}

    streams: Streams = request.app.state.streams
    return streams.respond(("home", site_id, language), render)


@router.post("/homes/{site_id}/control", dependencies=[SameOrigin])
def steer(desk: AnyDesk, session: Steering, site_id: str, fields: Fields) -> Response:
    """Pause or resume automatic control, or charge the car now, with one tap."""
    own_form(desk, session, fields)
    wish, asset = fields.get("wish", ""), fields.get("asset", "")
    if wish == "charge":
        desk.commands.charge_now(session.principal, site_id, asset)
    elif wish == "plan":
        desk.commands.end_target(session.principal, site_id, asset)
    elif wish == "resume":
        desk.commands.resume(session.principal, site_id)
    elif wish in PAUSES:
        desk.commands.pause(session.principal, site_id, lasts=PAUSES[wish])
    else:
        raise Unusable("body.wish", "must be `resume`, `day`, `open`, `charge` or `plan`")
    return RedirectResponse(f"/homes/{site_id}", status_code=303)


@router.get("/operator")
def operator(request: Request, desk: AnyDesk, session: Operator) -> Response:
    """Sites, health, latest cycle, plan against reality."""
    view = _operator_view(request, desk, session)
    return page(
        request, "operator.html", view=view, words=view.words, after=request.query_params.get("after"),
        skill=views.skill_lines(
            desk.queries.fleet_skill(session.principal, days=views.SKILL_DAYS), view.words
        ),
        form_token=desk.sessions.form_token(session.token),
    )  # fmt: skip


@router.get("/operator/parts")
def operator_parts(request: Request, desk: AnyDesk, session: Operator) -> Response:
    """Live parts of the operator's page, for browsers that poll."""
    view = _operator_view(request, desk, session)
    return JSONResponse({"parts": _operator_parts(view), "course": True})


@router.get("/operator/live")
async def operator_live(request: Request, desk: AnyDesk, session: Operator) -> Response:
    """The same, pushed when something changes."""
    who, language, after = session.principal, language_of(request), request.query_params.get("after")

    def render(changes: Changes) -> Mapping[str, object]:
        view = views.operator_view(desk.queries, who, language, after=after, limit=SITES_A_PAGE)
        return {"parts": _operator_parts(view), "course": changes.recorded}

    streams: Streams = request.app.state.streams
    return streams.respond(("operator", who.site_ids, after, language), render, pace_s=OPERATOR_PACE_S)


@router.get("/operator/course")
def operator_course(request: Request, desk: AnyDesk, session: Operator) -> Response:
    """Plan against reality of the sites on this page."""
    sites, _, _ = desk.queries.site_page(
        session.principal, after=request.query_params.get("after"), limit=SITES_A_PAGE
    )
    return JSONResponse(views.fleet_course(desk.queries, session.principal, sites, desk.queries.now_at()))


@router.get("/operator/sites/{site_id}")
def operator_site(request: Request, desk: AnyDesk, session: Operator, site_id: str) -> Response:
    """One site in detail."""
    view = views.site_view(desk.queries, session.principal, site_id, language_of(request))
    course = views.course_of(desk.queries, session.principal, site_id)
    columns = ["net_import_kw", "planned_import_kw", *(["stored_frac"] if view.site.batteries else [])]
    return page(
        request, "site.html", view=view, words=view.words,
        chart_label=views.chart_label(course, view.site, view.words),
        hours=views.hours(course, view.words, columns), columns=columns,
        skill=views.skill_lines(view.forecasts.scores, view.words),
        form_token=desk.sessions.form_token(session.token),
    )  # fmt: skip


@router.get("/operator/sites/{site_id}/course")
def operator_site_course(desk: AnyDesk, session: Operator, site_id: str) -> Response:
    """What the site's chart shows."""
    course = views.course_of(desk.queries, session.principal, site_id)
    return JSONResponse(views.course_json(course, desk.queries.site(session.principal, site_id)))


PRESENT_PARTS = ("headline", "now")
"""Parts of the household page that follow the fast loop."""
HOME_PARTS = (*PRESENT_PARTS, "number", "control_state", "why", "days")
"""All that follow a cycle; the form itself stays, so that nobody's tap meets a button that moved."""
OPERATOR_PARTS = ("operator_health", "operator_sites", "operator_edges")


def _home_parts(view: views.PresentView, wanted: tuple[str, ...]) -> dict[str, str]:
    return {
        name: rendered(f"parts/{name}.html", view.words.language, view=view, words=view.words)
        for name in wanted
    }


def _operator_view(request: Request, desk: Any, session: Session) -> views.OperatorView:
    return views.operator_view(
        desk.queries,
        session.principal,
        language_of(request),
        after=request.query_params.get("after"),
        limit=SITES_A_PAGE,
    )


def _operator_parts(view: views.OperatorView) -> dict[str, str]:
    return {
        name: rendered(f"parts/{name}.html", view.words.language, view=view, words=view.words)
        for name in OPERATOR_PARTS
    }


def _home_of(session: Session) -> str:
    return "/operator" if session.principal.role is AccessRole.OPERATOR else "/homes"


def _signed_in(request: Request, token: str, target: str) -> Response:
    response = RedirectResponse(target, status_code=303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=request.url.scheme == "https")
    return response


def _local(target: str) -> str:
    """Return a path of this service, or nothing: nobody is sent elsewhere after signing in."""
    parts = urlsplit(target)
    ours = (
        not parts.scheme
        and not parts.netloc
        and target.startswith("/")
        and not target.startswith(("//", "/\\"))
    )
    return target if ours else ""
