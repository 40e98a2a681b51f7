"""What `/v1` says about hand-made records: which setpoint counts, what a day is, what is old, what was changed by whom."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

from ems.access import AccessRole, Principal
from ems.clock import ScaledClock
from ems.commands import LONGEST_PAUSE, Commands
from ems.conduct import DeliveryScore
from ems.errors import UnknownSite
from ems.feedback import Edge
from ems.queries import ForecastScore, Queries, ScoredDay
from ems.setpoints import Quantity, SetpointKind, SetpointSource

EVERYBODY = Principal(id="op", role=AccessRole.OPERATOR, site_ids=None)


def queries_of(service: Any, **changes: Any) -> Queries:
    parts = {"sites": service.sites, "store": service.store, "live": service.live, "clock": service.clock}
    return Queries(**(parts | changes))


def test_the_setpoint_that_counts_is_the_newest_and_a_mode_leaves_no_target_beside_it(
    street: Any, kit: ModuleType
) -> None:
    site, store = street.service.sites[0], street.service.store
    planned, _ = kit.make_setpoint(site)
    later = replace(planned, id="later", valid_from=planned.valid_from + timedelta(minutes=3), value_kw=2.0)
    wished = replace(
        later, id="wished", kind=SetpointKind.MODE, quantity=Quantity.OWN_MODE, value_kw=None,
        valid_from=later.valid_from + timedelta(minutes=1), source=SetpointSource.OVERRIDE,
    )  # fmt: skip
    over = replace(planned, id="over", priority=50, valid_until=kit.NOW - timedelta(seconds=1))
    other = replace(
        planned, id="roof", asset="roof", kind=SetpointKind.LIMIT, quantity=Quantity.GENERATION_LIMIT
    )
    store.save_setpoints([later, over, other], [])
    counting = queries_of(street.service).setpoints_in_force(EVERYBODY, site.id)
    assert [(c.asset, c.id) for c in counting] == [("battery", "later"), ("roof", "roof")]
    store.save_setpoints([wished], [])
    counting = queries_of(street.service).setpoints_in_force(EVERYBODY, site.id)
    assert [c.id for c in counting] == ["wished", "roof"]


def test_a_setpoint_that_ran_out_is_not_handed_on(client: TestClient, street: Any, kit: ModuleType) -> None:
    street.service.clock.at = kit.AT + timedelta(minutes=16)
    answer = client.get("/v1/sites/home-01/setpoints/current", headers=street.headers("controller")).json()
    assert answer["setpoints"] == []
    history = client.get("/v1/sites/home-01/setpoints", headers=street.headers("controller")).json()
    (told,) = history["setpoints"]
    assert (told["delivery"]["outcome"], told["score"]) == ("applied", None)


def test_a_setpoint_tells_how_it_was_followed(client: TestClient, street: Any) -> None:
    (told,) = client.get("/v1/sites/home-01/setpoints", headers=street.headers("controller")).json()[
        "setpoints"
    ]
    score = DeliveryScore(setpoint_id=told["id"], watched_s=880.0, followed_frac=0.75, apart_kw=0.2)
    street.service.store.save_delivery_scores([score])
    (told,) = client.get("/v1/sites/home-01/setpoints", headers=street.headers("controller")).json()[
        "setpoints"
    ]
    assert told["score"] == {"watched_s": 880.0, "followed_frac": 0.75, "apart_kw": 0.2}


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 10, 25), 25), (date(2026, 3, 29), 23), (date(2026, 6, 3), 24)]
)
def test_a_local_day_has_its_own_length(street: Any, kit: ModuleType, day: date, hours: int) -> None:
    site = replace(street.service.sites[0], time_zone="Europe/Berlin")
    clock = kit.ManualClock(at=datetime(2026, 12, 1, tzinfo=UTC))
    (found,) = queries_of(street.service, sites=(site,), clock=clock).days(EVERYBODY, site.id, day, 1)
    assert found.end_at - found.start_at == timedelta(hours=hours)
    assert found.expected == hours * 4


def test_a_day_adds_up_what_is_known_and_says_how_much_that_is(client: TestClient, street: Any) -> None:
    url = "/v1/sites/home-01/accounts/"
    headers = street.headers("resident")
    today = client.get(url + "days?count=1", headers=headers).json()["days"][0]
    start = today["start"].replace("+", "%2B")
    rows = client.get(f"{url}intervals?start={start}", headers=headers).json()["intervals"]
    assert (today["expected"], today["known"], len(rows)) == (53, 45, 45)
    for name in ("import_kwh", "export_kwh", "load_kwh", "pv_kwh", "cost", "saving"):
        assert today[name] == pytest.approx(sum(row[name] for row in rows))
    assert today["estimated"] == 4
    assert today["vehicle_kwh"] is None  # this home has no car: unknown is not zero


def test_old_powers_are_not_the_present(street: Any, kit: ModuleType) -> None:
    street.service.clock.advance(301)
    now = queries_of(street.service).now(EVERYBODY, "home-01")
    assert now.lost
    assert now.powers.load_kw is None
    assert now.stored_frac is None
    assert now.at == kit.NOW


@pytest.mark.parametrize(("speed", "lost"), [(1.0, True), (144.0, False)])
def test_in_a_fast_replay_minutes_pass_in_seconds(
    street: Any, kit: ModuleType, speed: float, lost: bool
) -> None:
    class Frozen(ScaledClock):
        def now(self) -> datetime:
            return kit.NOW + timedelta(minutes=10)

    clock = Frozen(site_start_at=kit.NOW, wall_start_at=kit.NOW, speed=speed)
    assert queries_of(street.service, clock=clock).now(EVERYBODY, "home-01").lost is lost


def test_before_the_fast_loop_ran_the_latest_readings_count(street: Any, kit: ModuleType) -> None:
    now = queries_of(street.service, live=kit.Live()).now(EVERYBODY, "home-01")
    assert now.at == kit.AT
    assert now.powers.load_kw == pytest.approx(kit.load_kw(kit.AT))
    assert now.stored_frac == pytest.approx(kit.stored_frac(kit.AT))


def test_series_lie_on_their_grid(client: TestClient, street: Any, kit: ModuleType) -> None:
    plan = client.get("/v1/sites/home-01/plan", headers=street.headers("controller")).json()
    assert {(s["start"], s["duration"], len(s["values"])) for s in plan["series"]} == {
        ("2026-06-03T04:15:00Z", "PT900S", 192)
    }
    units = {s["name"]: (s["unit"], s["at"]) for s in plan["series"]}
    assert units["battery_net_consumption_kw:battery"] == ("kW", "mean")
    assert units["stored_kwh:battery"] == ("kWh", "end")
    assert units["marginal_per_kwh"] == ("KRW/kWh", "mean")
    assert plan["reasons"][0]["code"] == "store_surplus"
    forecasts = client.get("/v1/sites/home-01/forecasts", headers=street.headers("controller")).json()[
        "forecasts"
    ]
    assert [f["series"] for f in forecasts] == ["load", "pv.roof", "buy", "sell"]
    assert forecasts[0]["low"]["values"][0] < forecasts[0]["mean"]["values"][0]
    assert forecasts[2]["low"] is None


def test_lists_come_in_pages(client: TestClient, street: Any) -> None:
    headers = street.headers("operator")
    first = client.get("/v1/sites?limit=2", headers=headers).json()
    assert ([s["id"] for s in first["sites"]], first["next_after"]) == (["home-01", "home-02"], "home-02")
    rest = client.get(f"/v1/sites?limit=2&after={first['next_after']}", headers=headers).json()
    assert ([s["id"] for s in rest["sites"]], rest["next_after"], rest["total"]) == (["home-03"], None, 3)


def test_readings_come_in_pages_without_a_gap(client: TestClient, street: Any, kit: ModuleType) -> None:
    site = street.service.sites[0]
    for minute in range(5):
        at = kit.AT - timedelta(hours=1, minutes=-minute)
        street.service.store.save_readings([kit.make_reading(site, at)], at)
    url = "/v1/sites/home-01/readings?quantity=meter.net_import_kw&limit=4"
    headers = street.headers("controller")
    first = client.get(url, headers=headers).json()
    rest = client.get(f"{url}&start={first['next_start']}", headers=headers).json()
    starts = [point["start"] for point in first["points"] + rest["points"]]
    assert len(first["points"]) == 4
    assert len(set(starts)) == len(starts) == 6
    assert rest["next_start"] is None


def test_a_pause_is_on_record_with_who_when_and_why(client: TestClient, street: Any) -> None:
    headers = street.headers("resident")
    answer = client.put(
        "/v1/sites/home-01/control/pause", json={"lasts_h": 2, "note": "guests"}, headers=headers
    ).json()
    assert answer["automatic"] is False
    assert answer["pause"]["by"] == street.keys["resident"].split("_")[1]
    assert (answer["pause"]["until"], answer["pause"]["note"]) == ("2026-06-03T06:20:00Z", "guests")
    assert client.get("/v1/sites/home-01/state", headers=headers).json()["control"] == answer
    assert client.delete("/v1/sites/home-01/control/pause", headers=headers).status_code == 204
    assert client.delete("/v1/sites/home-01/control/pause", headers=headers).status_code == 204
    assert client.get("/v1/sites/home-01/control", headers=headers).json()["automatic"] is True


def test_a_resident_takes_over_the_battery_and_gives_it_back(client: TestClient, street: Any) -> None:
    headers = street.headers("resident")
    url = "/v1/sites/home-01/control/targets/battery"
    answer = client.put(url, headers=headers, json={"value_kw": 1.5, "lasts_h": 2, "note": "guests"}).json()
    (target,) = answer["targets"]
    assert (target["asset"], target["value_kw"], target["source"]) == ("battery", 1.5, "override")
    assert (target["start"], target["end"]) == ("2026-06-03T04:20:00Z", "2026-06-03T06:20:00Z")
    again = client.put(url, headers=headers, json={"value_kw": -1.0, "lasts_h": 1}).json()
    assert [one["value_kw"] for one in again["targets"]] == [-1.0], "the later word replaces the earlier"
    assert again["outranked"] == []
    assert client.delete(url, headers=headers).status_code == 204
    assert client.get("/v1/sites/home-01/control", headers=headers).json()["targets"] == []


@pytest.mark.parametrize(
    ("asset", "kw", "status", "kind"),
    [
        ("battery", 99.0, 409, "not-possible"),
        ("roof", 1.0, 404, "unknown-asset"),
        ("nothing", 1.0, 404, "unknown-asset"),
    ],
)
def test_a_target_that_cannot_be_is_refused_by_name(
    client: TestClient, street: Any, asset: str, kw: float, status: int, kind: str
) -> None:
    answer = client.put(
        f"/v1/sites/home-01/control/targets/{asset}",
        headers=street.headers("resident"),
        json={"value_kw": kw, "lasts_h": 2},
    )
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:ems:problem:{kind}")
    assert asset in answer.json()["detail"]


def test_the_grid_operators_limit_is_renewed_by_sending_it_again(client: TestClient, street: Any) -> None:
    headers, url = street.headers("grid_operator"), "/v1/sites/home-01/limits"
    first = client.put(url, headers=headers, json={"import_limit_kw": 4.2, "lasts_s": 60}).json()
    assert first["import_limit"]["kw"] == 4.2
    assert first["import_limit"]["source"] == "grid_operator"
    street.service.clock.advance(50)
    renewed = client.put(url, headers=headers, json={"import_limit_kw": 4.2, "lasts_s": 60}).json()
    assert renewed["import_limit"]["order_id"] == first["import_limit"]["order_id"]
    street.service.clock.advance(50)
    assert client.get(url, headers=headers).json()["import_limit"]["kw"] == 4.2
    street.service.clock.advance(20)
    assert client.get(url, headers=headers).json()["import_limit"]["source"] is None, "not renewed, it ended"


def test_an_event_gives_way_to_people_and_says_so(client: TestClient, street: Any) -> None:
    event = {
        "kind": "import_limit",
        "value_kw": 1.0,
        "start": "2026-06-03T04:00:00Z",
        "end": "2026-06-03T06:00:00Z",
    }
    operator, resident = street.headers("operator"), street.headers("resident")
    answer = client.put("/v1/sites/home-01/events/dr-7", headers=operator, json=event).json()
    assert (answer["import_limit"]["kw"], answer["import_limit"]["source"]) == (1.0, "event")
    client.put("/v1/sites/home-01/control/pause", headers=resident, json={"lasts_h": 1})
    paused = client.get("/v1/sites/home-01/control", headers=operator).json()
    assert paused["import_limit"]["source"] is None
    assert [(lost["order"]["note"], lost["order"]["source"]) for lost in paused["outranked"]] == [
        ("dr-7", "event")
    ]
    moved = event | {"start": "2026-06-03T05:00:00Z"}
    later = client.put("/v1/sites/home-01/events/dr-7", headers=operator, json=moved).json()
    assert [order["start"] for order in later["coming"]] == ["2026-06-03T05:00:00Z"], "one event, one order"
    assert client.delete("/v1/sites/home-01/events/dr-7", headers=operator).status_code == 204
    assert client.get("/v1/sites/home-01/control", headers=operator).json()["coming"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"end": "2026-06-03T04:00:00Z"},
        {"start": "2027-01-01T00:00:00Z", "end": "2027-01-01T01:00:00Z"},
        {"value_kw": -1.0},
        {"kind": "target"},
        {"asset": "battery"},
    ],
    ids=[
        "ends before it begins",
        "too far ahead",
        "a limit below zero",
        "a target of nobody",
        "a limit of an asset",
    ],
)
def test_an_event_that_cannot_be_is_refused(client: TestClient, street: Any, change: dict[str, Any]) -> None:
    event = {
        "kind": "import_limit",
        "value_kw": 1.0,
        "start": "2026-06-03T05:00:00Z",
        "end": "2026-06-03T06:00:00Z",
    }
    answer = client.put(
        "/v1/sites/home-01/events/dr-7", headers=street.headers("operator"), json=event | change
    )
    assert answer.status_code == 409


def test_the_latest_pause_counts_even_when_it_is_shorter(street: Any, kit: ModuleType) -> None:
    service, told = street.service, []
    commands = Commands(
        sites={"home-01": service.sites[0]},
        store=service.store,
        live=service.live,
        clock=service.clock,
        ledger=service.ledger,
        changed=told.append,
    )
    commands.pause(EVERYBODY, "home-01", lasts=LONGEST_PAUSE)
    service.clock.advance(1)
    commands.pause(EVERYBODY, "home-01", lasts=timedelta(hours=1))
    assert commands.paused(kit.NOW + timedelta(minutes=50)) == {"home-01"}
    assert commands.paused(kit.NOW + timedelta(hours=2)) == frozenset()
    assert told == ["home-01", "home-01"]
    for lasts in (timedelta(), timedelta(days=367)):
        with pytest.raises(ValueError, match="at most 366 days"):
            commands.pause(EVERYBODY, "home-01", lasts=lasts)
    with pytest.raises(UnknownSite):
        commands.pause(EVERYBODY, "home-02", lasts=timedelta(hours=1))


def test_cycles_tell_what_went_wrong(client: TestClient, street: Any) -> None:
    (cycle,) = client.get("/v1/cycles", headers=street.headers("operator")).json()["cycles"]
    assert (cycle["missed"], cycle["overlapped"], cycle["fallback_sites"], cycle["sites"]) == (1, 0, 1, 3)
    health = client.get("/healthz").json()
    assert (health["status"], health["missed_24h"], health["next_cycle_at"]) == (
        "ready",
        1,
        "2026-06-03T04:30:00Z",
    )


def scored(site_id: str, day_at: datetime, *, lead_h: int = 24, source: str = "load-ridge") -> ScoredDay:
    """A day of 96 forecasts of a flat 2 kW: 0.5 kW off, against 1 kW of the 7-day mean; 72 of 96 in the band."""
    return ScoredDay(
        site_id=site_id,
        day_at=day_at,
        score=ForecastScore(
            series="load", source=source, lead_h=lead_h, scored=96, truth_kw=192.0, size_kw=192.0, error_kw=-9.6,
            abs_error_kw=48.0, squared_error_kw2=24.0, pinball_kw=19.2, banded=96, inside=72, compared=48,
            compared_abs_error_kw=24.0, naive_abs_error_kw=48.0, compared_pinball_kw=9.6, naive_pinball_kw=12.0,
        ),
    )  # fmt: skip


def test_skill_of_a_site_is_the_sum_of_its_days_and_nobody_elses(
    client: TestClient, street: Any, kit: ModuleType
) -> None:
    yesterday = kit.AT - timedelta(days=1)
    street.service.store.save_scores(
        [
            scored("home-01", yesterday),
            scored("home-01", yesterday - timedelta(days=1)),
            scored("home-02", yesterday),
            scored("home-01", yesterday - timedelta(days=60)),
        ]
    )
    answer = client.get("/v1/sites/home-01/forecasts/skill", headers=street.headers("resident")).json()
    (told,) = answer["skill"]
    assert (told["series"], told["model"], told["lead_h"], told["scored"]) == ("load", "load-ridge", 24, 192)
    assert (told["nmae_frac"], told["coverage_frac"], told["error_ratio"]) == (0.25, 0.75, 0.5)
    assert told["bias_frac"] == pytest.approx(-0.05)
    assert (told["rmse_kw"], told["pinball_kw"]) == (0.5, pytest.approx(0.2))
    assert told["pinball_ratio"] == pytest.approx(0.8)
    assert len(answer["days"]) == 2
    assert answer["drifting"] == []
    fleet = client.get("/v1/forecasts/skill?days=7", headers=street.headers("operator")).json()
    assert fleet["skill"][0]["scored"] == 3 * 96


def test_a_series_that_drifts_is_named_until_it_is_usual_again(
    client: TestClient, street: Any, kit: ModuleType
) -> None:
    def drifting() -> list[str]:
        url = "/v1/sites/home-01/forecasts/skill"
        return client.get(url, headers=street.headers("operator")).json()["drifting"]

    def became(what: str, days_ago: int) -> None:
        at = kit.AT - timedelta(days=days_ago)
        street.service.store.save_edges(
            [Edge(at=at, site_id="home-01", subject="forecast.load", became=what, cause="test")]
        )

    became("drifting", 9)
    assert drifting() == ["load"]
    became("usual", 2)
    assert drifting() == []
