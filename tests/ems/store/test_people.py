"""Orders begin, end by themselves or early; keys are found, withdrawn, never replaced."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.access import AccessRole, accept, new_key
from ems.errors import StoreError
from ems.orders import Order, OrderKind, SetpointSource
from ems.store import Store
from tests.ems.store.conftest import AT

HOUR = timedelta(hours=1)


def pause(order_id: str = "p1", site_id: str = "a", from_at=AT, until_at=AT + 2 * HOUR) -> Order:
    return Order(
        id=order_id,
        site_id=site_id,
        by="key:abc",
        kind=OrderKind.PAUSE,
        from_at=from_at,
        until_at=until_at,
        note="손님이 와요",
    )


def test_an_order_holds_from_its_first_instant_until_its_last(store: Store) -> None:
    kept = pause()
    store.save_order(kept)
    store.save_order(kept)
    for at, holds, known in (
        (AT - HOUR, False, True),
        (AT, True, True),
        (AT + HOUR, True, True),
        (AT + 2 * HOUR, False, False),
    ):
        assert (store.orders_from(at) == (kept,)) is known, "those that will hold later are known too"
        assert kept.holds_at(at) is holds


def test_a_signal_that_is_renewed_holds_longer_and_never_shorter(store: Store) -> None:
    limit = replace(
        pause(), kind=OrderKind.IMPORT_LIMIT, source=SetpointSource.GRID_OPERATOR, value_kw=4.2, asset=None
    )
    store.save_order(limit)
    store.renew_order("p1", AT + 3 * HOUR)
    store.renew_order("p1", AT + HOUR)
    assert store.find_order("p1") == replace(limit, until_at=AT + 3 * HOUR)
    store.end_order("p1", AT + HOUR, "grid")
    store.renew_order("p1", AT + 9 * HOUR)
    ended = store.find_order("p1")
    assert ended is not None
    assert ended.ends_at == AT + HOUR, "what was ended is not brought back by a late heartbeat"


def test_an_order_takes_the_place_of_others_in_one_step(store: Store) -> None:
    store.save_order(pause())
    target = Order(
        id="t1", site_id="a", by="key:abc", kind=OrderKind.TARGET, asset="battery", value_kw=-2.5,
        from_at=AT + HOUR, until_at=AT + 2 * HOUR, source=SetpointSource.EVENT,
    )  # fmt: skip
    store.replace_orders(["p1"], target, AT + HOUR)
    assert store.orders_from(AT + HOUR) == (target,)


def test_an_order_ended_early_ends_there_and_keeps_its_first_end(store: Store) -> None:
    store.save_order(pause())
    ended = store.end_order("p1", AT + HOUR, "operator")
    assert ended == replace(pause(), ended_at=AT + HOUR, ended_by="operator")
    assert store.end_order("p1", AT + 1.5 * HOUR, "somebody else") == ended
    assert store.orders_from(AT + HOUR) == ()
    assert store.orders_from(AT + 0.5 * HOUR) == (ended,)
    assert not ended.holds_at(AT + HOUR)


def test_ending_what_never_was_says_so(store: Store) -> None:
    assert store.end_order("nothing", AT, "operator") is None


def test_a_key_opens_until_it_is_withdrawn(store: Store) -> None:
    secret, key = new_key(role=AccessRole.RESIDENT, site_ids=("a",), label="거실 태블릿", at=AT)
    store.add_key(key)
    store.add_key(key)
    assert store.find_key(key.id) == key
    assert accept(secret, store.find_key(key.id)) is not None
    assert store.revoke_key(key.id, AT + HOUR)
    assert store.revoke_key(key.id, AT + 2 * HOUR)
    assert store.find_key(key.id) == replace(key, revoked_at=AT + HOUR)
    assert accept(secret, store.find_key(key.id)) is None


def test_keys_are_listed_oldest_first_without_secrets(store: Store) -> None:
    made = [
        new_key(role=AccessRole.OPERATOR, site_ids=None, label="later", at=AT + HOUR),
        new_key(role=AccessRole.CONTROLLER, site_ids=(), label="earlier", at=AT),
    ]
    for _, key in made:
        store.add_key(key)
    assert store.list_keys() == (made[1][1], made[0][1])
    assert made[0][0] not in repr(store.list_keys())


def test_another_key_of_the_same_id_is_refused(store: Store) -> None:
    _, key = new_key(role=AccessRole.OPERATOR, site_ids=None, label="first", at=AT)
    store.add_key(key)
    with pytest.raises(StoreError, match="taken"):
        store.add_key(replace(key, sha256="0" * 64))
    assert store.find_key(key.id) == key
    assert store.find_key("unknown") is None
    assert not store.revoke_key("unknown", AT)
