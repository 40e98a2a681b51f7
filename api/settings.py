"""Settings of the HTTP side; the environment is read by `ems.settings`."""

import secrets
from dataclasses import dataclass, field

MIN_SECRET = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the service meets people and machines."""

    session_secret: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)
    """Signs sessions of the pages; made anew at each start unless given, which signs everybody out."""
    session_h: float = 12.0
    """A session ends after this [h]."""
    demo: bool = False
    """Offers the page where each home is one click away. Only for simulated homes on loopback."""
    open_metrics: bool = False
    """Whether `/metrics` answers without a key."""
    failures_per_min: int = 10
    """Failed sign-ins an address may make in a minute."""
    body_limit_bytes: int = 16_384
    """Largest body taken."""

    def __post_init__(self) -> None:
        """Refuse a secret that could be guessed."""
        if len(self.session_secret) < MIN_SECRET:
            raise ValueError(
                f"the session secret has {len(self.session_secret)} characters, at least {MIN_SECRET} are needed; "
                "make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
