"""Keys: only the right one opens, only what its role and sites allow."""

from dataclasses import replace

import pytest

from ems.access import SCOPES, AccessRole, Scope, accept, digest, new_key, public_id
from tests.ems.made import AT


def made(role: AccessRole = AccessRole.RESIDENT, sites: tuple[str, ...] | None = ("home-01",)):
    return new_key(role=role, site_ids=sites, label="a test", at=AT)


def test_the_right_key_opens_its_own_home_and_no_other() -> None:
    key, record = made()
    principal = accept(key, record)
    assert principal is not None
    assert principal.sees("home-01")
    assert not principal.sees("home-02")
    assert public_id(key) == record.id
    assert record.sha256 == digest(key)
    assert key.rsplit("_", 1)[1] not in repr(record)  # the secret is kept nowhere


def test_no_other_key_opens() -> None:
    key, record = made()
    other, _ = made()
    assert accept(other, record) is None
    assert accept(key, None) is None
    assert accept(key + "x", record) is None
    assert accept(key, replace(record, revoked_at=AT)) is None


@pytest.mark.parametrize("text", ["", "ems_", "ems_abcdefgh_short", "x" * 60, "ems_ABCDEFGH_" + "a" * 43])
def test_what_is_not_formed_like_a_key_has_no_public_part(text: str) -> None:
    assert public_id(text) is None


@pytest.mark.parametrize("role", [AccessRole.CONTROLLER, AccessRole.RESIDENT])
def test_only_an_operator_may_see_every_site(role: AccessRole) -> None:
    with pytest.raises(ValueError, match="must name its sites"):
        made(role, None)
    key, record = made(AccessRole.OPERATOR, None)
    principal = accept(key, record)
    assert principal is not None
    assert principal.sees("any")


def test_who_may_do_what() -> None:
    assert SCOPES[AccessRole.OPERATOR] == frozenset(Scope)
    assert Scope.ACCOUNTS_READ not in SCOPES[AccessRole.CONTROLLER]  # a machine needs no bill
    assert Scope.CONTROL_WRITE in SCOPES[AccessRole.RESIDENT]
    assert Scope.FLEET_READ not in SCOPES[AccessRole.RESIDENT]
