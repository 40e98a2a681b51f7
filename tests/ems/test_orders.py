"""Whose word counts: the documented ranking, case by case, and that nobody's word is lost without a note."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.feedback import edges_of_standing
from ems.orders import LIMITS, PRIORITIES, Order, OrderKind, SetpointSource, standing, standings
from ems.site import GridSignal
from tests.ems.made import AT, STEP, home, home_with_car, order

PAUSE, TARGET, IMPORT, EXPORT = (
    OrderKind.PAUSE, OrderKind.TARGET, OrderKind.IMPORT_LIMIT, OrderKind.EXPORT_LIMIT,
)  # fmt: skip
EVENT, GRID, PERSON = SetpointSource.EVENT, SetpointSource.GRID_OPERATOR, SetpointSource.OVERRIDE
SIGNALLED = home(grid_signal=GridSignal(failsafe_import_kw=4.2, failsafe_export_kw=0.0, heartbeat_s=60.0))


def test_the_ranking_is_safety_grid_operator_people_event_plan() -> None:
    ranked = sorted(PRIORITIES, key=lambda source: -PRIORITIES[source])
    assert [str(source) for source in ranked] == [
        "safety", "grid_operator", "override", "event", "plan", "fast_loop"
    ]  # fmt: skip


def test_a_person_wins_an_asset_against_an_event_and_the_event_is_told_why() -> None:
    event = order(TARGET, -3.0, asset="store", source=EVENT)
    person = order(TARGET, 2.0, asset="store")
    counts = standing(home(), (event, person), at=AT)
    assert counts.targets == {"store": person}
    (lost,) = counts.outranked
    assert (lost.order, lost.winner) == (event, "override override-target")


def test_the_newest_of_two_equals_counts() -> None:
    older = order(TARGET, 1.0, asset="store", order_id="older", since_h=-2)
    newer = order(TARGET, -1.0, asset="store", order_id="newer", since_h=-1)
    counts = standing(home(), (older, newer), at=AT)
    assert counts.targets["store"] == newer
    assert [lost.order for lost in counts.outranked] == [older]


def test_an_event_of_another_asset_holds_beside_a_persons_target_but_its_limits_do_not() -> None:
    on_car = order(TARGET, 0.0, asset="car", source=EVENT)
    on_store = order(TARGET, 2.0, asset="store")
    limit = order(IMPORT, 3.0, source=EVENT)
    counts = standing(home_with_car(), (on_car, on_store, limit), at=AT)
    assert counts.targets == {"car": on_car, "store": on_store}
    assert counts.import_limit.kw == 10.0
    assert [lost.order for lost in counts.outranked] == [limit]


def test_a_pause_ends_targets_and_events_but_not_the_grid_operators_limit() -> None:
    target = order(TARGET, 2.0, asset="store")
    event, grid = order(IMPORT, 3.0, source=EVENT), order(IMPORT, 4.2, source=GRID)
    pause = order(PAUSE)
    counts = standing(home(), (target, event, grid, pause), at=AT)
    assert (counts.paused, counts.targets) == (pause, {})
    assert (counts.import_limit.kw, counts.import_limit.source) == (4.2, GRID)
    assert {lost.order for lost in counts.outranked} == {target, event}


def test_the_tightest_limit_counts_whoever_set_it() -> None:
    event, grid = order(IMPORT, 3.0, source=EVENT), order(IMPORT, 4.2, source=GRID)
    counts = standing(home(), (event, grid), at=AT)
    assert (counts.import_limit.kw, counts.import_limit.order_id) == (3.0, event.id)
    (lost,) = counts.outranked
    assert (lost.order, lost.why) == (grid, "3 kW is the tighter limit")


def test_a_limit_wider_than_the_connection_changes_nothing() -> None:
    counts = standing(home(), (order(IMPORT, 50.0, source=GRID),), at=AT)
    assert (counts.import_limit.kw, counts.import_limit.source) == (10.0, None)


def test_a_silent_signal_means_the_fail_safe_limit_and_one_that_says_no_limit_means_none() -> None:
    silent = standing(SIGNALLED, (), at=AT)
    assert silent.signal_lost
    assert (silent.import_limit.kw, silent.import_limit.source) == (4.2, SetpointSource.SAFETY)
    assert silent.export_limit.kw == 0.0
    heard = standing(SIGNALLED, (order(IMPORT, None, source=GRID),), at=AT)
    assert not heard.signal_lost
    assert (heard.import_limit.kw, heard.export_limit.kw) == (10.0, 5.0)


def test_a_resident_cannot_stand_in_for_the_signal() -> None:
    assert standing(SIGNALLED, (order(PAUSE), order(IMPORT, 9.0)), at=AT).signal_lost


def test_a_fail_safe_limit_is_tightened_by_others_and_never_widened() -> None:
    tight = standing(SIGNALLED, (order(IMPORT, 1.0, source=EVENT),), at=AT)
    wide = standing(SIGNALLED, (order(IMPORT, 8.0, source=EVENT),), at=AT)
    assert (tight.import_limit.kw, wide.import_limit.kw) == (1.0, 4.2)


@pytest.mark.parametrize(
    ("minutes", "paused"),
    [(0, True), (119, True), (120, False)],
    ids=["now", "to its last instant", "not at its end"],
)
def test_an_order_ends_by_itself(minutes: int, paused: bool) -> None:
    counts = standing(home(), (order(PAUSE),), at=AT + timedelta(minutes=minutes))
    assert (counts.paused is not None) is paused


def test_what_will_hold_over_a_horizon_is_known_now() -> None:
    soon = order(IMPORT, 3.0, source=EVENT, since_h=1.0, lasts_h=0.5)
    instants = [AT + t * STEP for t in range(12)]
    kw = [counts.import_limit.kw for counts in standings(home(), (soon,), instants)]
    assert kw == [10.0] * 4 + [3.0] * 2 + [10.0] * 6


def test_a_signal_alive_now_is_not_planned_to_fall_silent_and_a_lost_one_not_to_come_back() -> None:
    instants = [AT + t * STEP for t in range(4)]
    alive = order(IMPORT, 6.0, source=GRID, since_h=-0.01, lasts_h=0.1)
    assert [c.import_limit.kw for c in standings(SIGNALLED, (alive,), instants)] == [6.0, 10.0, 10.0, 10.0]
    assert [c.import_limit.kw for c in standings(SIGNALLED, (), instants)] == [4.2] * 4


orders = st.builds(
    order,
    st.sampled_from([PAUSE, IMPORT, EXPORT]),
    st.floats(0, 20),
    source=st.sampled_from([EVENT, GRID, PERSON]),
    since_h=st.floats(-4, 1),
    lasts_h=st.floats(0.1, 6),
    order_id=st.uuids().map(str),
) | st.builds(
    order,
    st.just(TARGET),
    st.floats(-3, 4),
    asset=st.sampled_from(["store", "car"]),
    source=st.sampled_from([EVENT, PERSON]),
    since_h=st.floats(-4, 1),
    lasts_h=st.floats(0.1, 6),
    order_id=st.uuids().map(str),
)


@given(st.lists(orders, max_size=8))
def test_every_order_in_force_counts_or_is_told_why_not(given_orders: list[Order]) -> None:
    site = home_with_car()
    counts = standing(site, given_orders, at=AT)
    lost = {entry.order.id for entry in counts.outranked}
    counted = {o.id for o in (counts.paused, *counts.targets.values()) if o is not None}
    counted |= {limit.order_id for limit in (counts.import_limit, counts.export_limit) if limit.order_id}
    assert not lost & counted
    assert lost | counted == {o.id for o in given_orders if o.holds_at(AT)}
    assert counts.import_limit.kw <= site.connection.import_limit_kw
    for o in given_orders:
        if o.holds_at(AT) and o.kind in LIMITS and o.source is GRID:
            bound = counts.import_limit if o.kind is IMPORT else counts.export_limit
            assert bound.kw <= (o.value_kw or 0.0), "nobody widens the grid operator's limit"


def test_each_change_is_told_once_with_who_and_why() -> None:
    site = home()
    before = standing(site, (), at=AT)
    event, person = order(TARGET, -3.0, asset="store", source=EVENT), order(TARGET, 2.0, asset="store")
    grid = order(IMPORT, 4.2, source=GRID)
    now = standing(site, (event, person, grid), at=AT)
    told = {(edge.subject, edge.became) for edge in edges_of_standing(site, before, now, at=AT)}
    assert told == {
        ("limit.import", "4.2 kW"), ("target.store", "2 kW"), ("order.store.target", "outranked")
    }  # fmt: skip
    assert edges_of_standing(site, now, now, at=AT) == ()
    over = {(edge.subject, edge.became) for edge in edges_of_standing(site, now, before, at=AT)}
    assert over == {("limit.import", "10 kW"), ("target.store", "as planned")}
