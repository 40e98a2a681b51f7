"""Who may ask: keys, roles, scopes. Pure; the store keeps the records, the API asks here.

A key is `ems_<id>_<secret>`. Only the SHA-256 of the whole key is stored: the secret has 256 random bits, so a slow hash
would protect nothing that a fast one does not.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ems.store.types import ApiKey, KeyRole

__all__ = [
    "SCOPES",
    "ApiKey",
    "KeyRole",
    "Principal",
    "Scope",
    "accept",
    "digest",
    "new_key",
    "principal_of",
    "public_id",
]

KEY_PATTERN = re.compile(r"^ems_(?P<id>[a-z0-9]{8})_(?P<secret>[A-Za-z0-9_-]{43})$")


class Scope(StrEnum):
    """What a request needs to be allowed."""

    SITES_READ = "sites:read"
    STATE_READ = "state:read"
    READINGS_READ = "readings:read"
    FORECASTS_READ = "forecasts:read"
    PLANS_READ = "plans:read"
    SETPOINTS_READ = "setpoints:read"
    EDGES_READ = "edges:read"
    ACCOUNTS_READ = "accounts:read"
    CONTROL_WRITE = "control:write"
    FLEET_READ = "fleet:read"
    METRICS_READ = "metrics:read"


_MACHINE = frozenset(
    {
        Scope.SITES_READ,
        Scope.STATE_READ,
        Scope.READINGS_READ,
        Scope.FORECASTS_READ,
        Scope.PLANS_READ,
        Scope.SETPOINTS_READ,
        Scope.EDGES_READ,
    }
)
SCOPES: dict[KeyRole, frozenset[Scope]] = {
    KeyRole.OPERATOR: frozenset(Scope),
    KeyRole.CONTROLLER: _MACHINE,
    KeyRole.RESIDENT: _MACHINE | {Scope.ACCOUNTS_READ, Scope.CONTROL_WRITE},
}
"""What each role may do, at the sites its key names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who is asking, once that is certain."""

    id: str
    """Key id, or `demo-...` for an entry of the demo."""
    role: KeyRole
    """What they are."""
    site_ids: frozenset[str] | None
    """Sites they may see; None is all."""

    def may(self, scope: Scope) -> bool:
        """Tell whether the role includes a scope."""
        return scope in SCOPES[self.role]

    def sees(self, site_id: str) -> bool:
        """Tell whether a site is theirs to see."""
        return self.site_ids is None or site_id in self.site_ids


def new_key(*, role: KeyRole, site_ids: tuple[str, ...], label: str, at: datetime) -> tuple[str, ApiKey]:
    """Make a key; the first value is shown once to whoever asked for it and kept nowhere.

    Raises `ValueError` for a key that would open every home to somebody who does not run the service.
    """
    if not site_ids and role is not KeyRole.OPERATOR:
        raise ValueError(f"a {role} key must name its sites")
    key_id = secrets.token_hex(4)
    key = f"ems_{key_id}_{secrets.token_urlsafe(32)}"
    record = ApiKey(
        key_id=key_id, sha256=digest(key), role=role, site_ids=site_ids, label=label, created_at=at
    )
    return key, record


def digest(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def public_id(key: str) -> str | None:
    """Return the public part of a key; None when it is not formed like one."""
    found = KEY_PATTERN.match(key)
    return found["id"] if found else None


def accept(key: str, record: ApiKey | None) -> Principal | None:
    """Return who holds a key; None when it is unknown, wrong or revoked. Takes the same time either way."""
    expected = record.sha256 if record is not None else "0" * 64
    right = hmac.compare_digest(digest(key), expected)
    if record is None or not right or record.revoked_at is not None:
        return None
    return principal_of(record)


def principal_of(record: ApiKey) -> Principal:
    """Return who a valid record stands for."""
    everywhere = record.role is KeyRole.OPERATOR and not record.site_ids
    return Principal(
        id=record.key_id, role=record.role, site_ids=None if everywhere else frozenset(record.site_ids)
    )
