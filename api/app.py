"""The app: a factory whose lifespan starts and stops the service."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles

from api.dashboard import pages
from api.deps import Desk, RunningService
from api.identity import Brake, Sessions
from api.middleware import BodyLimit, SafeHeaders
from api.problems import Problem, install
from api.routes import health, v1
from api.settings import Settings
from api.stream import Streams
from ems.commands import Commands
from ems.queries import Queries

STATIC_FILES = Path(__file__).parent / "dashboard" / "static"
DESCRIPTION = """\
Reads, forecasts, plans and setpoints of an energy management service.

Send `Authorization: Bearer ems_<id>_<secret>`. Every key has a role (`operator`, `controller`, `resident`) and the sites
it opens; a site outside them answers 404, the same as one that does not exist. Instants are ISO 8601 with offset; power
is the mean over an interval; `null` is unknown, never 0. Errors are `application/problem+json`.
"""


def create_app(service: RunningService, settings: Settings | None = None) -> FastAPI:
    """Return the app for a service that is not running yet; its lifespan runs it.

    Parameters
    ----------
    service
        What is asked and told; started and stopped with the app.
    settings
        How it meets people and machines.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await app.state.streams.close()
            await service.stop()

    app = FastAPI(
        title="Energy management service",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.desk = Desk(
        settings=settings,
        service=service,
        queries=Queries(
            sites=service.sites,
            store=service.store,
            live=service.live,
            clock=service.clock,
            problems=service.problems,
            leader=lambda: service.standing_by,
        ),
        commands=Commands(
            sites={site.id: site for site in service.sites},
            store=service.store,
            live=service.live,
            clock=service.clock,
            ledger=service.ledger,
        ),
        sessions=Sessions(secret=settings.session_secret, lasts_s=settings.session_h * 3600, now_s=time.time),
        brake=Brake(failures_per_min=settings.failures_per_min, now_s=time.monotonic),
    )
    app.state.streams = Streams(service.live)
    app.state.error_page = pages.error_page
    app.add_middleware(BodyLimit, limit_bytes=settings.body_limit_bytes)
    app.add_middleware(SafeHeaders)
    install(app)
    app.include_router(v1.router)
    app.include_router(health.router)
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC_FILES), name="static")
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the schema, with our own problem instead of the framework's error shapes."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        found = schema.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= problem.pop("$defs", {})
        found["Problem"] = problem
        for name in ("HTTPValidationError", "ValidationError"):
            found.pop(name, None)
        app.openapi_schema = schema
    return app.openapi_schema


def from_environment() -> FastAPI:
    """Return the app the environment describes: `uvicorn --factory api.app:from_environment`."""
    from ems.service import from_environment as service_from_environment

    service = service_from_environment()
    made = Settings(demo=service.settings.demo, open_metrics=service.settings.demo)
    if service.settings.session_secret:
        made = Settings(
            session_secret=service.settings.session_secret,
            demo=service.settings.demo,
            open_metrics=service.settings.demo,
        )
    return create_app(service, made)
