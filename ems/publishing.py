"""Setpoint: write, read back, record what came of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DeliveryOutcome(StrEnum):
    """What became of a setpoint at its device."""

    APPLIED = "applied"
    """The device holds it, seen by reading back."""
    CLAMPED = "clamped"
    """The device holds something nearer to its limits."""
    REFUSED = "refused"
    """Nothing was changed."""
    UNVERIFIED = "unverified"
    """Sent, but the device could not be seen to hold it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What came of one setpoint."""

    setpoint_id: str
    """The setpoint."""
    site_id: str
    """The site."""
    asset: str
    """The asset."""
    outcome: DeliveryOutcome
    """What became of it."""
    held_kw: float | None
    """What the device holds now [kW]; None when it is in its own mode or unknown."""
    at: datetime
    """When that was known (aware UTC)."""
    written: bool
    """False when the device held it already and nothing was sent."""
    detail: str
    """Why it was clamped, refused or left unverified; empty when applied."""
