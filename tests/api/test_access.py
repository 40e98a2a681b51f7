"""Who may ask what: every route has a scope, every role its own, and nobody sees another's home."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.testclient import TestClient

from api.deps import Requires, SignedIn
from api.settings import Settings
from ems.access import SCOPES, AccessRole, Principal, Scope, accept, new_key, public_id

PUBLIC = {"/", "/demo", "/signin", "/signout", "/about", "/healthz", "/healthz/live"}
"""Routes that show nothing of any home."""

V1: dict[tuple[str, str], set[str]] = {
    ("GET", "/v1/sites"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/state"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/readings/latest"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/readings"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/forecasts"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/forecasts/skill"): {"operator", "controller", "resident"},
    ("GET", "/v1/forecasts/skill"): {"operator"},
    ("GET", "/v1/sites/{site_id}/plan"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/setpoints"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/setpoints/current"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/setpoints/stream"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/acknowledgements"): {"operator", "controller", "resident"},
    ("POST", "/v1/sites/{site_id}/acknowledgements"): {"operator", "controller"},
    ("GET", "/v1/schemas/{name}"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/edges"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/control"): {"operator", "controller", "resident"},
    ("GET", "/v1/sites/{site_id}/accounts/intervals"): {"operator", "resident"},
    ("GET", "/v1/sites/{site_id}/accounts/days"): {"operator", "resident"},
    ("PUT", "/v1/sites/{site_id}/control/pause"): {"operator", "resident"},
    ("DELETE", "/v1/sites/{site_id}/control/pause"): {"operator", "resident"},
    ("PUT", "/v1/sites/{site_id}/control/targets/{asset}"): {"operator", "resident"},
    ("DELETE", "/v1/sites/{site_id}/control/targets/{asset}"): {"operator", "resident"},
    ("GET", "/v1/sites/{site_id}/limits"): {"operator", "controller", "resident", "grid_operator"},
    ("PUT", "/v1/sites/{site_id}/limits"): {"operator", "grid_operator"},
    ("DELETE", "/v1/sites/{site_id}/limits"): {"operator", "grid_operator"},
    ("PUT", "/v1/sites/{site_id}/events/{event_id}"): {"operator"},
    ("DELETE", "/v1/sites/{site_id}/events/{event_id}"): {"operator"},
    ("GET", "/v1/cycles"): {"operator"},
    ("GET", "/v1/edges"): {"operator"},
    ("GET", "/metrics"): {"operator"},
}
"""Who gets in where. A new route must be entered here."""


BODIES = {
    "pause": {"lasts_h": 1},
    "{asset}": {"value_kw": 1.0, "lasts_h": 1},
    "limits": {"import_limit_kw": 4.2, "lasts_s": 60},
    "{event_id}": {
        "kind": "import_limit", "value_kw": 3.0, "start": "2026-06-03T05:00:00Z", "end": "2026-06-03T06:00:00Z"
    },
}  # fmt: skip
"""What is sent to each route that takes a body, by the last part of its path."""


def routes_of(routes: list[BaseRoute]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes)


def guards(dependant: Dependant) -> Iterator[Requires | SignedIn]:
    if isinstance(dependant.call, Requires | SignedIn):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from guards(inner)


def ask(client: TestClient, method: str, path: str, headers: dict[str, str], site_id: str = "home-01") -> Any:
    if path.endswith("/stream"):
        client.app.state.streams.longest_s = 0.0  # type: ignore[attr-defined]
    url = path.replace("{site_id}", site_id).replace("{asset}", "battery").replace("{event_id}", "dr-7")
    if url.endswith("/readings"):
        url += "?quantity=meter.net_import_kw"
    url = url.replace("{name}", "setpoint")
    acknowledgement = {
        "schema": "ems.acknowledgement/1", "setpoint_id": f"{site_id}.battery.1780460100", "state": "applied",
        "at": "2026-06-03T04:20:00Z", "controller": "bms",
    }  # fmt: skip
    body = {"json": BODIES[path.rsplit("/", 1)[1]]} if method == "PUT" else {}
    if method == "POST":
        body = {"json": acknowledgement}
    return client.request(method, url, headers=headers, **body)


def test_every_route_has_a_scope_or_is_public(street: Any) -> None:
    found = list(routes_of(street.app.routes))
    assert len(found) > 30
    bare = {route.path for route in found if not list(guards(route.dependant))}
    assert bare == PUBLIC


def test_the_matrix_names_every_machine_route(street: Any) -> None:
    found = {
        (method, route.path)
        for route in routes_of(street.app.routes)
        for method in route.methods
        if route.include_in_schema and any(type(g) is not SignedIn for g in guards(route.dependant))
    }
    assert found == set(V1)


@pytest.mark.parametrize("role", ["operator", "controller", "resident", "grid_operator"])
@pytest.mark.parametrize(("method", "path"), V1, ids=lambda value: value)
def test_role(shared: tuple[TestClient, Any], method: str, path: str, role: str) -> None:
    client, street = shared
    answer = ask(client, method, path, street.headers(role))
    if role in V1[method, path]:
        assert answer.status_code in (200, 204)
    else:
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:ems:problem:not-allowed"


@pytest.mark.parametrize("role", ["controller", "resident", "grid_operator"])
@pytest.mark.parametrize(
    ("method", "path"), [key for key in V1 if "{site_id}" in key[1]], ids=lambda value: value
)
def test_another_home_does_not_exist(
    shared: tuple[TestClient, Any], method: str, path: str, role: str
) -> None:
    client, street = shared
    others = ask(client, method, path, street.headers(role), "home-02")
    nobodys = ask(client, method, path, street.headers(role), "home-99")
    if role not in V1[method, path]:
        assert others.status_code == nobodys.status_code == 403
        return
    assert others.status_code == nobodys.status_code == 404
    one, other = others.json(), nobodys.json()
    assert (one["type"], one["title"]) == (other["type"], other["title"])
    assert one["detail"].replace("home-02", "") == other["detail"].replace("home-99", "")


def test_a_list_holds_only_what_is_ones_own(client: TestClient, street: Any) -> None:
    own = client.get("/v1/sites", headers=street.headers("resident")).json()
    assert [site["id"] for site in own["sites"]] == ["home-01"]
    assert own["total"] == 1
    everything = client.get("/v1/sites", headers=street.headers("operator")).json()
    assert everything["total"] == 3


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="no key"),
        pytest.param("Basic abc", id="another scheme"),
        pytest.param("Bearer nonsense", id="not a key"),
        pytest.param("Bearer ems_00000000_" + "A" * 43, id="unknown key"),
    ],
)
def test_without_a_good_key_there_is_nothing(client: TestClient, header: str | None) -> None:
    answer = client.get("/v1/sites", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_wrong_secret_behind_a_right_id_is_refused(client: TestClient, street: Any) -> None:
    key = street.keys["operator"]
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert client.get("/v1/sites", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401


def test_a_revoked_key_ends_its_requests_and_its_sessions(client: TestClient, street: Any) -> None:
    client.post("/signin", data={"key": street.keys["resident"]})
    assert client.get("/homes/home-01").status_code == 200
    street.service.store.revoke_key(public_id(street.keys["resident"]), street.service.clock.now())
    assert client.get("/v1/sites", headers=street.headers("resident")).status_code == 401
    answer = client.get("/homes/home-01", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin?next=/homes/home-01")


def test_failures_are_braked_and_good_keys_are_not_locked_out(
    street_with: Callable[[Settings], Any],
) -> None:
    street = street_with(Settings(failures_per_min=3))
    with TestClient(street.app) as client:
        bad = {"Authorization": "Bearer ems_00000000_" + "A" * 43}
        assert client.get("/v1/sites", headers=street.headers("resident")).status_code == 200
        assert [client.get("/v1/sites", headers=bad).status_code for _ in range(5)] == [401] * 3 + [429] * 2
        braked = client.get("/v1/sites", headers=bad)
        assert 0 < int(braked.headers["retry-after"]) <= 61
        assert client.get("/v1/sites", headers=street.headers("resident")).status_code == 200
        assert client.get("/v1/sites", headers=street.headers("neighbour")).status_code == 429
        assert client.post("/signin", data={"key": "guess"}).status_code == 429


def test_keys_are_never_logged(client: TestClient, street: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = street.keys["resident"].split("_", 2)[2]
    client.get("/v1/sites", headers=street.headers("resident"))
    client.get("/v1/sites", headers={"Authorization": f"Bearer ems_00000000_{secret}"})
    client.post("/signin", data={"key": street.keys["resident"]})
    client.post("/signin", data={"key": f"x{street.keys['resident']}"})
    assert secret not in caplog.text


def test_only_a_hash_of_a_key_is_stored(street: Any) -> None:
    held = " ".join(str(key) for key in street.service.store.list_keys())
    for key in street.keys.values():
        assert key.split("_", 2)[2] not in held


def test_only_operators_open_every_site() -> None:
    at = __import__("datetime").datetime(2026, 6, 3, tzinfo=__import__("datetime").UTC)
    for role in (AccessRole.RESIDENT, AccessRole.CONTROLLER):
        with pytest.raises(ValueError, match="must name its sites"):
            new_key(role=role, site_ids=None, label="", at=at)
    key, record = new_key(role=AccessRole.OPERATOR, site_ids=None, label="", at=at)
    assert accept(key, record) == Principal(id=record.id, role=AccessRole.OPERATOR, site_ids=None)
    assert accept(key, None) is None


def test_roles_nest_as_documented() -> None:
    controller = SCOPES[AccessRole.CONTROLLER] - {
        Scope.ACKNOWLEDGEMENTS_WRITE
    }  # a person carries nothing out
    assert controller < SCOPES[AccessRole.RESIDENT] < SCOPES[AccessRole.OPERATOR]
    assert SCOPES[AccessRole.OPERATOR] == frozenset(Scope)


def test_a_secret_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Settings(session_secret="short")
