"""Every error is a problem+json with a kind, a reference and nothing secret; the schema says which."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from api.problems import TABLE
from ems.errors import StoreError

FIELDS = {"type", "title", "status", "detail", "instance", "reference", "errors"}


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) == FIELDS
    assert body["status"] == status
    return body


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/v1/nowhere", 404, "no-such-path"),
        ("POST", "/v1/sites", 405, "method"),
        ("GET", "/v1/sites/home-99", 404, "unknown-site"),
        ("GET", "/v1/sites/home-01/plan?at=2020-01-01T00:00:00Z", 404, "no-plan"),
        ("GET", "/v1/sites?limit=0", 422, "invalid"),
        ("GET", "/v1/sites?limit=501", 422, "invalid"),
        ("GET", "/v1/sites?limits=5", 422, "invalid"),
        ("GET", "/v1/sites/NOT-AN-ID", 422, "invalid"),
        ("GET", "/v1/sites/home-01/readings", 422, "invalid"),
        ("GET", "/v1/sites/home-01/readings?quantity=x", 422, "invalid"),
        ("GET", "/v1/sites/home-01/setpoints?start=2026-06-03T00:00:00", 422, "invalid"),
        (
            "GET",
            "/v1/sites/home-01/setpoints?start=2026-06-03T04:00:00Z&end=2026-06-03T03:00:00Z",
            422,
            "invalid",
        ),
        ("GET", "/v1/sites/home-01/accounts/intervals?start=2020-01-01T00:00:00Z", 422, "invalid"),
        ("GET", "/v1/sites/home-01/accounts/intervals?end=0001-01-01T00:00:00Z", 422, "invalid"),
        ("GET", "/v1/sites/home-01/accounts/days?first=9999-12-31&count=5", 422, "invalid"),
        ("GET", "/v1/edges?since=0.83", 422, "invalid"),
        ("GET", "/v1/edges?since=1780460400", 422, "invalid"),
        ("GET", "/v1/sites/home-01/accounts/days?first=20260603", 422, "invalid"),
        ("GET", "/healthz?x=1", 422, "invalid"),
    ],
)
def test_kind(shared: tuple[TestClient, Any], method: str, path: str, status: int, slug: str) -> None:
    client, street = shared
    body = problem(client.request(method, path, headers=street.headers("operator")), status)
    assert body["type"] == f"urn:ems:problem:{slug}"


@pytest.mark.parametrize(
    ("body", "at"),
    [
        (b"{}", "body.lasts_h"),
        (b'{"lasts_h": "4"}', "body.lasts_h"),
        (b'{"lasts_h": 0}', "body.lasts_h"),
        (b'{"lasts_h": 1e-300}', "body.lasts_h"),
        (b'{"lasts_h": 9000}', "body.lasts_h"),
        (b'{"lasts_h": true}', "body.lasts_h"),
        (b'{"lasts_h": NaN}', "body.lasts_h"),
        (b'{"lasts_h": 1, "until": 3}', "body.until"),
        (b"[", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_pause_that_cannot_be_meant_changes_nothing(
    client: TestClient, street: Any, body: bytes, at: str | None
) -> None:
    answer = client.put(
        "/v1/sites/home-01/control/pause",
        content=body,
        headers=street.headers("resident") | {"content-type": "application/json"},
    )
    found = problem(answer, 422)
    if at is not None:
        assert [field["at"] for field in found["errors"]] == [at]
    assert street.service.store.orders_from(street.service.clock.now()) == ()


def test_a_body_beyond_need_is_refused_unread(client: TestClient, street: Any) -> None:
    answer = client.put(
        "/v1/sites/home-01/control/pause", content=b" " * 20_000, headers=street.headers("resident")
    )
    problem(answer, 413)


def test_a_store_that_refuses_is_told_without_its_innards(
    client: TestClient, street: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreError("disk full at /secret/path")

    monkeypatch.setattr(street.service.store, "edges", refuse)
    answer = client.get("/v1/edges", headers=street.headers("operator"))
    body = problem(answer, 503)
    assert answer.headers["retry-after"]
    assert "/secret/path" not in answer.text
    assert len(body["reference"]) == 12


def test_what_breaks_inside_stays_inside(
    street: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(street.service.store, "edges", broken)
    with TestClient(street.app, raise_server_exceptions=False) as client:
        answer = client.get("/v1/edges", headers=street.headers("operator"))
    body = problem(answer, 500)
    assert "secret" not in answer.text
    assert body["reference"] in caplog.text


def test_every_status_of_the_table_is_documented_somewhere(street: Any) -> None:
    schema = street.app.openapi()
    documented = {
        int(status)
        for path in schema["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    wanted = {int(kind.status) for error, kind in TABLE.items() if error is not Exception}
    assert wanted <= documented


def test_every_error_in_the_schema_is_a_problem(street: Any) -> None:
    schema = street.app.openapi()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and (path, status) != ("/healthz", "503"):
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
    assert set(schema["components"]["schemas"]["Problem"]["properties"]) == FIELDS
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_headers_keep_browsers_in(client: TestClient) -> None:
    answer = client.get("/about")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
