"""Setpoints are on record before they are written; what came of them joins later."""

from dataclasses import replace
from datetime import timedelta

from ems.codec import to_json
from ems.conduct import DeliveryScore
from ems.feedback import Edge
from ems.publishing import DeliveryOutcome
from ems.setpoints import SetpointSource
from ems.store import Store
from ems.store.synthetic import Street
from tests.ems.store.conftest import AT

HOME = "home00000"
MINUTE = timedelta(minutes=1)


def test_a_setpoint_is_there_before_anything_came_of_it(store: Store) -> None:
    (asked,), (came,) = Street(n_sites=1).setpoints(AT, SetpointSource.FAST_LOOP)
    store.save_setpoints([asked], [])
    (found,) = store.setpoints(HOME, AT, AT + MINUTE)
    assert to_json(found.setpoint) == to_json(asked)
    assert found.delivery is None
    store.save_setpoints([], [came])
    (found,) = store.setpoints(HOME, AT, AT + MINUTE)
    assert found.delivery == came


def test_a_lifted_limit_has_no_value_and_no_reason(store: Store) -> None:
    (asked,), _ = Street(n_sites=1).setpoints(AT, SetpointSource.SAFETY)
    lifted = replace(asked, value_kw=None, reason=None)
    store.save_setpoints([lifted], [])
    assert store.setpoints(HOME, AT, AT + MINUTE)[0].setpoint == lifted


def test_the_later_outcome_of_a_setpoint_stays(store: Store) -> None:
    (asked,), (applied,) = Street(n_sites=1).setpoints(AT, SetpointSource.PLAN)
    unverified = replace(
        applied, outcome=DeliveryOutcome.UNVERIFIED, held_kw=None, at=AT, detail="no answer to the read-back"
    )
    store.save_setpoints([asked], [unverified])
    store.save_setpoints([asked], [applied])
    store.save_setpoints([asked], [unverified])
    assert store.setpoints(HOME, AT, AT + MINUTE)[0].delivery == applied


def test_a_request_never_changes_under_its_id(store: Store) -> None:
    (asked,), _ = Street(n_sites=1).setpoints(AT, SetpointSource.PLAN)
    store.save_setpoints([asked], [])
    store.save_setpoints([replace(asked, value_kw=99.0)], [])
    assert [found.setpoint.value_kw for found in store.setpoints(HOME, AT, AT + MINUTE)] == [asked.value_kw]


def test_setpoints_are_the_newest_of_the_span_oldest_first(store: Store) -> None:
    street = Street(n_sites=2)
    for i in range(5):
        store.save_setpoints(*street.setpoints(AT + i * MINUTE, SetpointSource.FAST_LOOP))
    found = store.setpoints(HOME, AT, AT + 4 * MINUTE, limit=2)
    assert [f.setpoint.valid_from for f in found] == [AT + 2 * MINUTE, AT + 3 * MINUTE]
    assert {f.setpoint.site_id for f in found} == {HOME}


def test_edges_come_newest_first_of_one_site_or_all(store: Store) -> None:
    def edge(minutes: int, site_id: str, became: str) -> Edge:
        return Edge(
            at=AT + minutes * MINUTE, site_id=site_id, subject="device.meter", became=became, cause="timeout"
        )

    edges = [edge(0, "a", "lost"), edge(1, "b", "lost"), edge(2, "a", "back")]
    store.save_edges(edges)
    store.save_edges(edges[:1])
    assert store.edges(None, AT) == tuple(reversed(edges))
    assert store.edges("a", AT) == (edges[2], edges[0])
    assert store.edges("a", AT + MINUTE) == (edges[2],)
    assert store.edges(None, AT, limit=1) == (edges[2],)


def test_how_a_setpoint_was_followed_joins_it_and_outlives_a_later_outcome(store: Store) -> None:
    (asked,), (came,) = Street(n_sites=1).setpoints(AT, SetpointSource.FAST_LOOP)
    store.save_setpoints([asked], [came])
    assert store.setpoints(HOME, AT, AT + MINUTE)[0].score is None
    score = DeliveryScore(setpoint_id=asked.id, watched_s=170.0, followed_frac=0.9, apart_kw=0.12)
    unknown = replace(score, setpoint_id="of nobody")
    store.save_delivery_scores([score, unknown])
    store.save_setpoints([], [replace(came, at=came.at + MINUTE, outcome=DeliveryOutcome.UNVERIFIED)])
    found = store.setpoint(asked.id)
    assert found is not None
    assert (found.score, found.delivery and found.delivery.outcome) == (score, DeliveryOutcome.UNVERIFIED)
