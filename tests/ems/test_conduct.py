"""Conduct: what is held against a device and what is not, when it loses trust, and how it gets it back."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ems.conduct import (
    FIRST_TRIAL_AFTER,
    LAST_TRIAL_AFTER,
    Conduct,
    ConductBook,
    DeliveryScore,
    Trust,
    Verdict,
    judged,
    verdict,
    without_derated,
)
from ems.setpoints import Course, Setpoint, SetpointSource, derive_setpoints
from ems.site import BacnetController, BacnetPoint
from ems.state import SiteState
from tests.ems.made import AT, ROOF, STORE, home, home_with_car, reading, state

LIE = Verdict(followed=False, asked_kw=2.0, measured_kw=0.0)
TRUTH = Verdict(followed=True, asked_kw=2.0, measured_kw=2.0)
ASKED_AT = AT - timedelta(minutes=1)
SITE = home_with_car()


def asked(name: str, **course: object) -> Setpoint:
    given = Course(battery_kw={}, generation_limit_kw={}, vehicle_kw={})
    setpoints = derive_setpoints(
        SITE, replace(given, **course), plan=None, at=ASKED_AT,  # type: ignore[arg-type]
        valid_until=AT + timedelta(hours=1), source=SetpointSource.PLAN,
    )  # fmt: skip
    return next(setpoint for setpoint in setpoints if setpoint.asset == name)


def test_a_derated_asset_leaves_its_point_at_a_building_controller_alone() -> None:
    points = {"store": BacnetPoint(object="analog-value,1")}
    bacnet = BacnetController(channel="bacnet", address="192.0.2.9", points=points)
    site = home(assets=(ROOF, replace(STORE, controller="bms")), controllers={"bms": bacnet})
    derated = Conduct(score=0.1, trust=Trust.DERATED, until=AT + timedelta(hours=1))
    assert without_derated(site, {site.id: {"store": derated}}).assets == (ROOF,)


def doing(*, store: float | None = 0.0, car: float | None = 0.0, stored_kwh: float = 5.0) -> SiteState:
    here = state(stored_kwh={"store": stored_kwh})
    return replace(here, powers=replace(here.powers, battery_kw={"store": store}, vehicle_kw={"car": car}))


def of_store(
    kw: float,
    *,
    held_kw: float | None = None,
    asked_at: datetime = ASKED_AT,
    ac_kw: float = 0.0,
    **now: float,
) -> bool | None:
    seen = verdict(
        SITE, asked("store", battery_kw={"store": kw}), reading({"inverter.net_consumption_kw": ac_kw}),
        doing(**now), held_kw=held_kw, asked_at=asked_at,
    )  # fmt: skip
    return None if seen is None else seen.followed


@pytest.mark.parametrize(
    ("followed", "case"),
    [
        pytest.param(True, {"kw": 2.0, "store": 2.0}, id="does it"),
        pytest.param(True, {"kw": 2.0, "store": 1.75}, id="nearly: within 8 % of 4 kW"),
        pytest.param(False, {"kw": 2.0, "store": 0.0}, id="does nothing"),
        pytest.param(False, {"kw": -2.0, "store": 2.0}, id="does the opposite"),
        pytest.param(True, {"kw": 4.0, "held_kw": 2.5, "store": 2.5}, id="does what it said it would"),
        pytest.param(None, {"kw": 2.0, "store": 0.0, "asked_at": AT - timedelta(seconds=9)}, id="has just been asked"),
        pytest.param(None, {"kw": 2.0, "store": None}, id="cannot be seen"),
        pytest.param(None, {"kw": 2.0, "store": 0.0, "stored_kwh": 9.7}, id="is full"),
        pytest.param(None, {"kw": -2.0, "store": 0.0, "stored_kwh": 1.4}, id="is empty"),
        pytest.param(False, {"kw": -2.0, "store": 0.0, "stored_kwh": 9.7}, id="is full, asked to give"),
        pytest.param(None, {"kw": -3.0, "store": -1.0, "ac_kw": -4.9}, id="its inverter is at its rating"),
    ],
)  # fmt: skip
def test_what_is_held_against_a_battery(followed: bool | None, case: dict[str, float]) -> None:
    assert of_store(**case) is followed


@pytest.mark.parametrize(
    ("followed", "limit_kw", "drawn_kw"),
    [(True, 3.0, 3.1), (True, 3.0, 0.0), (False, 3.0, 7.0), (False, 0.0, 1.5)],
    ids=["at its limit", "takes less: that is no disobedience", "above it", "charges although paused"],
)
def test_what_is_held_against_a_charger(followed: bool, limit_kw: float, drawn_kw: float) -> None:
    seen = verdict(
        SITE, asked("car", vehicle_kw={"car": limit_kw}), reading({}), doing(car=drawn_kw),
        held_kw=None, asked_at=ASKED_AT,
    )  # fmt: skip
    assert seen is not None
    assert seen.followed is followed


def test_a_cap_on_solar_power_is_held_against_what_the_inverter_gives() -> None:
    cap = asked("roof", generation_limit_kw={"roof": 2.0})
    for given_kw, followed in ((1.5, True), (2.1, True), (3.5, False)):
        seen = verdict(
            SITE,
            cap,
            reading({"inverter.net_consumption_kw": -given_kw}),
            doing(),
            held_kw=None,
            asked_at=ASKED_AT,
        )
        assert seen is not None
        assert seen.followed is followed


def watched(seen: Verdict, *, seconds: int, start: Conduct | None = None, at: datetime = AT) -> list[Conduct]:
    conduct = Conduct(looked_at=at) if start is None else start
    course = []
    for second in range(1, seconds + 1):
        conduct = judged(conduct, seen, at=at + timedelta(seconds=second))
        course.append(conduct)
    return course


def test_a_minute_and_a_bit_of_lies_cost_trust_a_moment_does_not() -> None:
    course = watched(LIE, seconds=90)
    lost = next(second for second, conduct in enumerate(course, 1) if conduct.trust is Trust.DERATED)
    assert lost == pytest.approx(72, abs=2)  # -60 s * ln 0.3
    assert course[-1].cause == "asked 2 kW, measured 0 kW"
    assert watched(TRUTH, seconds=60, start=course[30], at=AT + timedelta(seconds=31))[-1].score > 0.8


def test_looking_rarely_does_not_make_one_look_a_minute_of_lies() -> None:
    once = judged(Conduct(looked_at=AT), LIE, at=AT + timedelta(hours=1))
    assert once.trust is Trust.TRUSTED


def test_what_cannot_be_judged_neither_helps_nor_hurts() -> None:
    assert watched(None, seconds=600)[-1].score == 1.0  # type: ignore[arg-type]


def test_a_derated_device_gets_a_trial_and_with_it_trust_or_a_longer_derating() -> None:
    derated = watched(LIE, seconds=90)[-1]
    assert derated.until is not None
    assert judged(derated, None, at=derated.until - timedelta(seconds=1)).trust is Trust.DERATED
    trial = judged(derated, None, at=derated.until)
    assert trial.trust is Trust.TRIAL

    behaved = watched(TRUTH, seconds=130, start=trial, at=derated.until)[-1]
    assert (behaved.trust, behaved.derated_for) == (Trust.TRUSTED, timedelta())

    again = watched(LIE, seconds=60, start=trial, at=derated.until)[-1]
    assert again.trust is Trust.DERATED
    assert again.derated_for == 2 * FIRST_TRIAL_AFTER


def test_the_longest_derating_is_six_hours() -> None:
    conduct = Conduct(trust=Trust.TRIAL, score=0.31, looked_at=AT, derated_for=LAST_TRIAL_AFTER)
    assert judged(conduct, LIE, at=AT + timedelta(seconds=30)).derated_for == LAST_TRIAL_AFTER


def test_plans_do_without_a_derated_asset_alone() -> None:
    conducts = {"home-01": {"store": Conduct(trust=Trust.DERATED), "car": Conduct(trust=Trust.TRIAL)}}
    assert [asset.name for asset in without_derated(SITE, conducts).assets] == ["roof", "car"]
    assert without_derated(SITE, {}) is SITE


def test_renewing_a_setpoint_does_not_give_a_liar_time_to_settle_again() -> None:
    """The same power asked for every five seconds for two minutes, and never given."""
    book, changes = ConductBook(), []
    for second in range(0, 120, 5):
        at = AT + timedelta(seconds=second)
        renewed = replace(asked("store", battery_kw={"store": 2.0}), id=f"s{second}", valid_from=at)
        now = replace(doing(store=0.0), at=at)
        changes += book.look(home(), [renewed], {}, reading({}), now).changed
    assert [(name, conduct.trust) for name, conduct in changes] == [("store", Trust.DERATED)]


def looks(
    *seen: tuple[int, Setpoint | None, float], held_kw: dict[str, float | None] | None = None
) -> list[DeliveryScore]:
    """Look at the battery at seconds after AT: what it is asked then, and what it does."""
    book, scores = ConductBook(), []
    for second, setpoint, kw in seen:
        now = replace(doing(store=kw), at=AT + timedelta(seconds=second))
        in_force = () if setpoint is None else (setpoint,)
        scores += book.look(home(), in_force, held_kw or {}, reading({}), now).ended
    return scores


def test_a_setpoint_that_ends_has_its_share_of_the_time_it_was_followed() -> None:
    """Asked for 2 kW a minute ago: 30 s of 2 kW, then 10 s of 1 kW, each look speaking for the time since the last."""
    first = asked("store", battery_kw={"store": 2.0})
    second = replace(first, id="next", value_kw=-1.0, valid_from=AT + timedelta(seconds=40))
    seen = [(s, first, 2.0) for s in range(0, 31, 10)] + [(40, first, 1.0), (41, second, 1.0)]
    assert looks(*seen) == [
        DeliveryScore(setpoint_id=first.id, watched_s=40.0, followed_frac=0.75, apart_kw=0.25)
    ]


def test_the_time_a_device_needs_to_settle_is_nobodys_score() -> None:
    """Asked at 0 s, it does the opposite until 10 s, then what it was asked: followed all the time it was watched."""
    now_asked = replace(asked("store", battery_kw={"store": 2.0}), valid_from=AT)
    (score,) = looks(
        (0, now_asked, -2.0),
        (9, now_asked, -2.0),
        (10, now_asked, 2.0),
        (20, now_asked, 2.0),
        (21, None, 0.0),
    )
    assert (score.followed_frac, score.watched_s) == (1.0, 11.0)


def test_of_a_setpoint_that_ended_before_its_device_could_settle_nothing_is_said() -> None:
    short = replace(asked("store", battery_kw={"store": 2.0}), valid_from=AT)
    assert looks((0, short, 0.0), (5, short, 0.0), (6, None, 0.0)) == []


def test_a_renewed_setpoint_is_scored_by_itself_from_its_first_second() -> None:
    first = asked("store", battery_kw={"store": 2.0})
    renewed = replace(first, id="renewed", valid_from=AT + timedelta(seconds=10))
    scores = looks(
        (0, first, 2.0), (10, first, 2.0), (11, renewed, 0.0), (13, renewed, 0.0), (14, None, 0.0)
    )  # fmt: skip
    assert [(score.setpoint_id, score.followed_frac) for score in scores] == [
        (first.id, 1.0),
        ("renewed", 0.0),
    ]


def test_a_device_that_clamps_and_says_so_is_scored_by_what_it_said() -> None:
    big = asked("store", battery_kw={"store": 4.0})
    (score,) = looks((0, big, 2.5), (10, big, 2.5), (11, None, 0.0), held_kw={big.id: 2.5})
    assert score.followed_frac == 1.0
