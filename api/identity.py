"""Who is asking: keys of machines, sessions of people, and a brake on failed sign-ins. No framework here."""

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from ems.access import AccessRole, ApiKey, Principal, accept, principal_of, public_id

DEMO_OPERATOR = "operator"
DEMO_PREFIX = "demo-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A person at a browser."""

    principal: Principal
    """Who they are."""
    token: str
    """The signed cookie value."""


@dataclass(kw_only=True, slots=True)
class Sessions:
    """Signed sessions: nothing is kept on the server, so a restart with the same secret signs nobody out."""

    secret: str
    """Signs them; at least 32 characters."""
    lasts_s: float
    """They end after this [s]."""
    now_s: Callable[[], float]
    """Wall clock [epoch s]."""

    def issue(self, who: str) -> str:
        """Return a cookie value for a key id or a demo entry."""
        body = f"{who}.{int(self.now_s() + self.lasts_s)}.{secrets.token_urlsafe(12)}"
        packed = base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")
        return f"{packed}.{self._sign('session', packed)}"

    def who(self, token: str) -> str | None:
        """Return whose session it is; None when it is forged, broken or over."""
        packed, _, signature = token.partition(".")
        if not hmac.compare_digest(self._sign("session", packed).encode(), signature.encode()):
            return None
        body = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
        who, until_s, _ = body.rsplit(".", 2)
        return who if self.now_s() < int(until_s) else None

    def form_token(self, token: str) -> str:
        """Return what a form of this session must carry."""
        return self._sign("form", token)

    def form_is_ours(self, token: str, carried: str) -> bool:
        """Tell whether a form was made by our own page for this session."""
        return hmac.compare_digest(self.form_token(token).encode(), carried.encode())

    def _sign(self, purpose: str, text: str) -> str:
        signed = hmac.new(self.secret.encode(), f"{purpose}:{text}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


class Brake:
    """Counts failed sign-ins by address over a sliding minute.

    An address that failed too often is refused, except with keys that have worked from it before: a broken device
    behind a shared address must not lock its neighbours out.

    Parameters
    ----------
    failures_per_min
        Failures allowed in any 60 s.
    now_s
        Monotonic clock [s].
    """

    MOST_ADDRESSES = 10_000

    def __init__(self, *, failures_per_min: int, now_s: Callable[[], float]) -> None:
        self.failures_per_min = failures_per_min
        self.now_s = now_s
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._good: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait_s(self, address: str, key_id: str | None) -> int:
        """Return how long the address must wait [s]; 0 when it need not."""
        if key_id is not None and (address, key_id) in self._good:
            return 0
        failures = self._recent(address)
        if len(failures) < self.failures_per_min:
            return 0
        return max(1, int(failures[0] + 60 - self.now_s()) + 1)

    def failed(self, address: str) -> None:
        """Count a failure."""
        failures = self._failures.setdefault(address, deque(maxlen=self.failures_per_min))
        failures.append(self.now_s())
        self._failures.move_to_end(address)
        while len(self._failures) > self.MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def worked(self, address: str, key_id: str) -> None:
        """Remember that a key worked from an address."""
        self._good[address, key_id] = None
        self._good.move_to_end((address, key_id))
        while len(self._good) > self.MOST_ADDRESSES:
            self._good.popitem(last=False)

    def _recent(self, address: str) -> deque[float]:
        failures = self._failures.get(address, deque())
        while failures and failures[0] <= self.now_s() - 60:
            failures.popleft()
        return failures


def holder(key: str, find: Callable[[str], ApiKey | None]) -> Principal | None:
    """Return who holds a key, or None."""
    key_id = public_id(key)
    return accept(key, find(key_id) if key_id is not None else None)


def resume(who: str, find: Callable[[str], ApiKey | None], *, demo: bool) -> Principal | None:
    """Return who a session stands for now: a key revoked since ends its sessions at once."""
    if who.startswith(DEMO_PREFIX):
        return demo_principal(who.removeprefix(DEMO_PREFIX)) if demo else None
    record = find(who)
    return None if record is None or record.revoked_at is not None else principal_of(record)


def demo_principal(entry: str) -> Principal:
    """Return who enters the demo: the operator, or the resident of the home named."""
    if entry == DEMO_OPERATOR:
        return Principal(id="demo-operator", role=AccessRole.OPERATOR, site_ids=None)
    return Principal(id=f"demo-{entry}", role=AccessRole.RESIDENT, site_ids=frozenset({entry}))
