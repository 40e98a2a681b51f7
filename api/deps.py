"""What a request needs before it is answered: who asks, and whether they may."""

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.identity import Brake, Session, Sessions, holder, resume
from api.problems import Forged, NotAllowed, NotSignedIn, TooManyAttempts
from api.settings import Settings
from ems.access import AccessRole, Principal, Scope, public_id
from ems.channels import Ledger
from ems.clock import Clock
from ems.commands import Commands
from ems.live import Live
from ems.metrics import Metrics
from ems.queries import Queries
from ems.site import Site

COOKIE = "ems_session"


class RunningService(Protocol):
    """What the API needs of the service; `ems.service.Service` is one."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The batch."""
        ...

    @property
    def store(self) -> Any:
        """The records; handed to `Queries` unseen."""
        ...

    @property
    def clock(self) -> Clock:
        """Site time."""
        ...

    @property
    def live(self) -> Live:
        """The present."""
        ...

    @property
    def ledger(self) -> Ledger:
        """What building controllers said."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What it counts."""
        ...

    @property
    def standing_by(self) -> str | None:
        """Who writes to the devices instead of this instance; None when it does so itself."""
        ...

    def problems(self) -> tuple[str, ...]:
        """Return why it is not well, each in one line; empty when it is."""
        ...

    async def start(self) -> None:
        """Begin the cycle and the fast loop."""
        ...

    async def stop(self) -> None:
        """End both, leaving every device safe."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """Everything a handler works with; one per app, in `app.state.desk`."""

    settings: Settings
    """How the service meets people."""
    service: RunningService
    """The service."""
    queries: Queries
    """What one may ask."""
    sessions: Sessions
    """People at browsers."""
    brake: Brake
    """Failed sign-ins."""

    commands: Commands
    """What people may change."""


def desk_of(request: Request) -> Desk:
    """Return the app's desk."""
    desk: Desk = request.app.state.desk
    return desk


AnyDesk = Annotated[Desk, Depends(desk_of)]

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="ems_<id>_<secret>",
    description="A key of this service.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


def address_of(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client is not None else "unknown"


def sign_in(desk: Desk, key: str, address: str) -> Principal:
    """Return who holds a key; counts failures by address."""
    key_id = public_id(key)
    wait_s = desk.brake.wait_s(address, key_id)
    if wait_s:
        raise TooManyAttempts(wait_s)
    who = holder(key, desk.queries.key)
    if who is None:
        desk.brake.failed(address)
        raise NotSignedIn("the key is unknown, wrong or revoked")
    desk.brake.worked(address, who.id)
    return who


class Requires:
    """Dependency of every route of `/v1`: a valid key whose role includes a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request, credentials: Credentials) -> Principal:
        """Return who asks."""
        if credentials is None:
            raise NotSignedIn("send a key: Authorization: Bearer ems_<id>_<secret>")
        who = await run_in_threadpool(sign_in, desk_of(request), credentials.credentials, address_of(request))
        if not who.may(self.scope):
            raise NotAllowed(f"a {who.role} key does not include {self.scope}")
        return who


class MayReadMetrics(Requires):
    """Dependency of `/metrics`: the same, unless the installation opened it."""

    async def __call__(self, request: Request, credentials: Credentials) -> Principal:
        """Return who asks."""
        if desk_of(request).settings.open_metrics and credentials is None:
            return Principal(id="anonymous", role=AccessRole.CONTROLLER, site_ids=frozenset())
        return await super().__call__(request, credentials)


def session_of(request: Request) -> Session | None:
    """Return the browser's session, or None."""
    desk = desk_of(request)
    token = request.cookies.get(COOKIE, "")
    who = desk.sessions.who(token) if token else None
    principal = None if who is None else resume(who, desk.queries.key, demo=desk.settings.demo)
    return None if principal is None else Session(principal=principal, token=token)


MaybeSession = Annotated[Session | None, Depends(session_of)]


class SignedIn:
    """Dependency of every page that shows data: a session whose role includes a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, session: MaybeSession) -> Session:
        """Return the session."""
        if session is None:
            raise NotSignedIn("sign in first")
        if not session.principal.may(self.scope):
            raise NotAllowed(f"the {session.principal.role} role does not include {self.scope}")
        return session


def same_origin(request: Request) -> None:
    """Refuse a form that another site's page sent, as far as the browser tells."""
    sent_from = request.headers.get("sec-fetch-site")
    if sent_from is not None and sent_from not in ("same-origin", "none"):
        raise Forged("the form did not come from this service")
    origin = request.headers.get("origin")
    if sent_from is None and origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise Forged("the form did not come from this service")


def own_form(desk: Desk, session: Session, fields: dict[str, str]) -> None:
    """Refuse a form that our own page did not make for this session."""
    if not desk.sessions.form_is_ours(session.token, fields.get("token", "")):
        raise Forged("the form is too old; load the page again")
