"""Is it alive, is it ready, what does it count."""

from fastapi import APIRouter, Depends, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api import schemas as wire
from api.deps import AnyDesk, MayReadMetrics
from api.problems import NotAllowed, NotSignedIn, TooManyAttempts, documented
from api.routes.v1 import Empty
from ems.access import Scope
from ems.errors import StoreError

router = APIRouter(tags=["health"])


@router.get("/healthz/live", responses=documented(RequestValidationError))
def live(_: Empty) -> wire.LiveOut:
    """The process answers; nothing else is asked. Restart it when this fails."""
    return wire.LiveOut(live=True)


@router.get(
    "/healthz",
    responses=documented(RequestValidationError)
    | {503: {"description": "Not ready; `reasons` say why.", "model": wire.HealthOut}},
)
def ready(desk: AnyDesk, response: Response, _: Empty) -> wire.HealthOut:
    """Whether plans and setpoints can be relied on now, and if not, why."""
    health = desk.queries.health()
    response.status_code = 200 if health.ready else 503
    return wire.HealthOut(
        status="not_ready" if not health.ready else "ready" if health.leader is None else "standby",
        live=True,
        reasons=list(health.reasons),
        leader=health.leader,
        latest_cycle_at=None if health.latest is None else health.latest.at,
        next_cycle_at=health.next_at,
        cycles_24h=health.cycles_24h,
        missed_24h=health.missed_24h,
        overlapped_24h=health.overlapped_24h,
    )


@router.get(
    "/metrics",
    dependencies=[Depends(MayReadMetrics(Scope.METRICS_READ))],
    responses=documented(NotSignedIn, NotAllowed, TooManyAttempts, RequestValidationError, StoreError)
    | {
        200: {
            "description": "Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
    response_class=Response,
)
def metrics(desk: AnyDesk, _: Empty) -> Response:
    """What the service counts, for Prometheus."""
    return Response(generate_latest(desk.service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
