"""Overrides begin, end by themselves or early; keys are found, withdrawn, never replaced."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.access import AccessRole, accept, new_key
from ems.errors import StoreError
from ems.store import Override, OverrideKind, Store
from tests.ems.store.conftest import AT

HOUR = timedelta(hours=1)


def pause(override_id: str = "p1", site_id: str = "a", from_at=AT, until_at=AT + 2 * HOUR) -> Override:
    return Override(
        id=override_id,
        site_id=site_id,
        by="key:abc",
        kind=OverrideKind.PAUSE,
        from_at=from_at,
        until_at=until_at,
        note="손님이 와요",
    )


def test_an_override_holds_from_its_first_instant_until_its_last(store: Store) -> None:
    kept = pause()
    store.save_override(kept)
    store.save_override(kept)
    for at, holds in ((AT - HOUR, False), (AT, True), (AT + HOUR, True), (AT + 2 * HOUR, False)):
        assert (store.overrides_active(at) == (kept,)) is holds
        assert kept.holds_at(at) is holds


def test_an_override_ended_early_ends_there_and_keeps_its_first_end(store: Store) -> None:
    store.save_override(pause())
    ended = store.end_override("p1", AT + HOUR, "operator")
    assert ended == replace(pause(), ended_at=AT + HOUR, ended_by="operator")
    assert store.end_override("p1", AT + 1.5 * HOUR, "somebody else") == ended
    assert store.overrides_active(AT + HOUR) == ()
    assert store.overrides_active(AT + 0.5 * HOUR) == (ended,)
    assert not ended.holds_at(AT + HOUR)


def test_ending_what_never_was_says_so(store: Store) -> None:
    assert store.end_override("nothing", AT, "operator") is None


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
