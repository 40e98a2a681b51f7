"""What goes wrong, as problem+json (RFC 9457), from one table.

`TABLE` is the only place where an exception meets a status. Handlers raise; nobody returns an error by hand.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ems.errors import NoPlan, NotPossible, StoreError, UnknownAsset, UnknownSetpoint, UnknownSite

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class NotSignedIn(Exception):
    """No key, or one that is unknown, wrong or revoked (which of them is not told)."""


class NotAllowed(Exception):
    """The key is good, but its role does not include this."""


class TooManyAttempts(Exception):
    """Too many failed sign-ins from one address."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"too many failed sign-ins from your address; try again in {retry_after_s} s")


class BodyTooLarge(Exception):
    """More was sent than any request here needs."""


class Crowded(Exception):
    """More listeners than this process takes."""


class Forged(Exception):
    """A form did not come from our own page."""


class Unusable(Exception):
    """The request is well formed but cannot be answered as asked, e.g. a span that ends before it begins."""

    def __init__(self, at: str, problem: str) -> None:
        self.at = at
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem."""

    slug: str
    """Last part of its type URN."""
    status: HTTPStatus
    """Its HTTP status."""
    title: str
    """The same for every occurrence."""


TABLE: Mapping[type[Exception], Kind] = {
    NotSignedIn: Kind("not-signed-in", HTTPStatus.UNAUTHORIZED, "A valid key is needed"),
    NotAllowed: Kind("not-allowed", HTTPStatus.FORBIDDEN, "The role of this key does not include this"),
    Forged: Kind("forged", HTTPStatus.FORBIDDEN, "The form did not come from this service"),
    UnknownSite: Kind("unknown-site", HTTPStatus.NOT_FOUND, "No such site that you may see"),
    UnknownAsset: Kind("unknown-asset", HTTPStatus.NOT_FOUND, "The site has no such asset"),
    UnknownSetpoint: Kind("unknown-setpoint", HTTPStatus.NOT_FOUND, "The site has no such setpoint"),
    NoPlan: Kind("no-plan", HTTPStatus.NOT_FOUND, "The site has no such plan"),
    NotPossible: Kind("not-possible", HTTPStatus.CONFLICT, "What is asked is not possible here"),
    BodyTooLarge: Kind("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    Unusable: Kind("invalid", HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be understood"),
    RequestValidationError: Kind(
        "invalid", HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be understood"
    ),
    TooManyAttempts: Kind("too-many-attempts", HTTPStatus.TOO_MANY_REQUESTS, "Too many failed sign-ins"),
    StoreError: Kind(
        "store-unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The records cannot be read or written now"
    ),
    Crowded: Kind("crowded", HTTPStatus.SERVICE_UNAVAILABLE, "Too many pages are open"),
    Exception: Kind("internal", HTTPStatus.INTERNAL_SERVER_ERROR, "Something broke on our side"),
}
"""Every error that can leave the service."""

PLAIN = {
    404: Kind("no-such-path", HTTPStatus.NOT_FOUND, "Nothing is at this address"),
    405: Kind("method", HTTPStatus.METHOD_NOT_ALLOWED, "This address does not take that method"),
}
"""What the router itself refuses."""


class FieldProblem(BaseModel):
    """One field that is wrong."""

    model_config = ConfigDict(extra="forbid")

    at: str = Field(description="Where, e.g. `query.limit` or `body.lasts_h`.", examples=["query.limit"])
    problem: str = Field(
        description="What is wrong with it.", examples=["Input should be less than or equal to 500"]
    )


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="URN of the kind of problem.", examples=["urn:ems:problem:unknown-site"])
    title: str = Field(description="The kind in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="This occurrence in one line.")
    instance: str = Field(description="Path that was asked for.")
    reference: str = Field(description="Quote this when you ask for help; it is in the service's log.")
    errors: list[FieldProblem] = Field(default_factory=list, description="Fields that are wrong, if any.")


def problem_response(
    request: Request,
    kind: Kind,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return one problem as a response."""
    body = Problem(
        type=f"urn:ems:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request.url.path,
        reference=reference(request),
        errors=list(errors),
    )
    return JSONResponse(
        body.model_dump(mode="json"), status_code=kind.status, media_type=MEDIA_TYPE, headers=headers
    )


def reference(request: Request) -> str:
    """Return the request's own reference, made on first use."""
    if not hasattr(request.state, "reference"):
        request.state.reference = secrets.token_hex(6)
    return str(request.state.reference)


def kind_of(error: Exception) -> Kind:
    """Return the nearest row of the table."""
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def headers_of(error: Exception) -> dict[str, str] | None:
    """Return the headers an error brings along."""
    if isinstance(error, NotSignedIn):
        return {"WWW-Authenticate": 'Bearer realm="ems"'}
    if isinstance(error, TooManyAttempts):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, StoreError):
        return {"Retry-After": "5"}
    return None


def fields_of(error: Exception) -> list[FieldProblem]:
    """Return which fields are wrong, without repeating what was sent."""
    if isinstance(error, Unusable):
        return [FieldProblem(at=error.at, problem=str(error))]
    if isinstance(error, RequestValidationError):
        return [
            FieldProblem(at=".".join(str(part) for part in found["loc"]), problem=str(found["msg"]))
            for found in error.errors()
        ]
    return []


def detail_of(request: Request, error: Exception) -> str:
    """Return one line a caller can act on; what broke inside stays inside."""
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{field.at}: {field.problem}" for field in fields_of(error))
    if kind_of(error) is TABLE[Exception]:
        _log.exception(
            "request.failed reference=%s path=%s", reference(request), request.url.path, exc_info=error
        )
        return f"The service could not answer; reference {reference(request)}"
    if isinstance(error, StoreError):
        _log.error("store.refused reference=%s path=%s cause=%s", reference(request), request.url.path, error)
        return "The records cannot be read or written now; nothing of your request was kept"
    return str(error) or kind_of(error).title


async def to_problem(request: Request, error: Exception) -> Response:
    """Turn an error into a problem."""
    kind, detail, headers = kind_of(error), detail_of(request, error), headers_of(error)
    if wants_page(request):
        response: Response = request.app.state.error_page(request, kind, detail, error)
        response.headers.update(headers or {})
        return response
    return problem_response(request, kind, detail, errors=fields_of(error), headers=headers)


def wants_page(request: Request) -> bool:
    """Tell whether a person's browser asks for a page, rather than a program for data."""
    machines = request.url.path.startswith(("/v1", "/healthz", "/metrics", "/static"))
    return not machines and "text/html" in request.headers.get("accept", "")


async def plain_to_problem(request: Request, error: Exception) -> Response:
    """Turn what the router or the framework refuses into a problem."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 400:  # a body that is not JSON at all
        return problem_response(request, TABLE[Unusable], "the body is not valid JSON")
    kind = PLAIN.get(status) or Kind(f"http-{status}", HTTPStatus(status), HTTPStatus(status).phrase)
    headers = error.headers if isinstance(error, HTTPException) else None
    if wants_page(request):
        page: Response = request.app.state.error_page(request, kind, "", error)
        return page
    return problem_response(request, kind, f"{request.method} {request.url.path}", headers=headers)


def install(app: FastAPI) -> None:
    """Make the app answer every error as a problem."""
    for error in TABLE:
        app.add_exception_handler(error, to_problem)
    app.add_exception_handler(HTTPException, plain_to_problem)


def documented(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` for errors a route may answer with."""
    documented: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        kind = TABLE[error]
        entry = documented.setdefault(int(kind.status), {"description": kind.title, "content": {}})
        example = {
            "type": f"urn:ems:problem:{kind.slug}",
            "title": kind.title,
            "status": int(kind.status),
            "detail": kind.title,
            "instance": "/v1/sites/home-01",
            "reference": "5f0c1a9e22d4",
            "errors": [],
        }
        entry["content"] = {
            MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
        }
    return documented
