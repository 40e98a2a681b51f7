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

KEY_PATTERN = re.compile(r"^ems_(?P<id>[a-z0-9]{8})_(?P<secret>[A-Za-z0-9_-]{43})$")


class AccessRole(StrEnum):
    """Who a key was given to."""

    OPERATOR = "operator"
    """Runs the service: every site it is scoped to, health, cycles."""
    CONTROLLER = "controller"
    """A machine at a site that carries setpoints out."""
    RESIDENT = "resident"
    """A person of the household."""
    GRID_OPERATOR = "grid_operator"
    """Whoever may limit a site's connection; sees nothing of the household."""


class Scope(StrEnum):
    """What a request needs to be allowed."""

    SITES_READ = "sites:read"
    STATE_READ = "state:read"
    READINGS_READ = "readings:read"
    FORECASTS_READ = "forecasts:read"
    PLANS_READ = "plans:read"
    SETPOINTS_READ = "setpoints:read"
    ACKNOWLEDGEMENTS_WRITE = "acknowledgements:write"
    EDGES_READ = "edges:read"
    ACCOUNTS_READ = "accounts:read"
    CONTROL_WRITE = "control:write"
    LIMITS_READ = "limits:read"
    LIMITS_WRITE = "limits:write"
    EVENTS_WRITE = "events:write"
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
        Scope.LIMITS_READ,
    }
)
SCOPES: dict[AccessRole, frozenset[Scope]] = {
    AccessRole.OPERATOR: frozenset(Scope),
    AccessRole.CONTROLLER: _MACHINE | {Scope.ACKNOWLEDGEMENTS_WRITE},
    AccessRole.RESIDENT: _MACHINE | {Scope.ACCOUNTS_READ, Scope.CONTROL_WRITE},
    AccessRole.GRID_OPERATOR: frozenset({Scope.LIMITS_READ, Scope.LIMITS_WRITE}),
}
"""What each role may do, at the sites its key names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key as the store keeps it; the secret is not in it."""

    id: str
    """Public part, names the key in logs and audits."""
    sha256: str
    """SHA-256 of the whole key, hexadecimal."""
    role: AccessRole
    """Who it was given to."""
    site_ids: tuple[str, ...] | None
    """Sites it opens; None opens all and is for operators."""
    label: str
    """What a person calls it, e.g. `building controller, block 7`."""
    created_at: datetime
    """When it was made (aware UTC)."""
    revoked_at: datetime | None = None
    """When it ceased to be valid (aware UTC)."""

    def __post_init__(self) -> None:
        """Refuse a key that opens every home to somebody who does not run the service."""
        if self.site_ids is None and self.role is not AccessRole.OPERATOR:
            raise ValueError(f"a {self.role} key must name its sites")


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who is asking, once that is certain."""

    id: str
    """Key id, or `demo-...` for an entry of the demo."""
    role: AccessRole
    """What they are."""
    site_ids: frozenset[str] | None
    """Sites they may see; None is all."""

    def may(self, scope: Scope) -> bool:
        """Tell whether the role includes a scope."""
        return scope in SCOPES[self.role]

    def sees(self, site_id: str) -> bool:
        """Tell whether a site is theirs to see."""
        return self.site_ids is None or site_id in self.site_ids


def new_key(
    *, role: AccessRole, site_ids: tuple[str, ...] | None, label: str, at: datetime
) -> tuple[str, ApiKey]:
    """Make a key; the first value is shown once to whoever asked for it and kept nowhere."""
    key_id = secrets.token_hex(4)
    key = f"ems_{key_id}_{secrets.token_urlsafe(32)}"
    record = ApiKey(id=key_id, sha256=digest(key), role=role, site_ids=site_ids, label=label, created_at=at)
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
    sites = None if record.site_ids is None else frozenset(record.site_ids)
    return Principal(id=record.id, role=record.role, site_ids=sites)
