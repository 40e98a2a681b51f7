"""Setpoint: plan to clamped, expiring requests to devices. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ems.plan import Reason


class SetpointKind(StrEnum):
    """The three families that must be kept apart."""

    TARGET = "target"
    """Go there."""
    LIMIT = "limit"
    """Stay below."""
    MODE = "mode"
    """Run your own programme."""


class Quantity(StrEnum):
    """What a setpoint sets."""

    BATTERY_POWER = "battery_net_consumption_kw"
    """Charging +, discharging - [kW]."""
    GENERATION_LIMIT = "generation_limit_kw"
    """Most AC output [kW]; None lifts the limit."""
    VEHICLE_LIMIT = "vehicle_charge_limit_kw"
    """Most the vehicle may draw [kW]; 0 pauses."""
    OWN_MODE = "own_mode"
    """The device's own safe mode."""


class SetpointSource(StrEnum):
    """Who asked."""

    PLAN = "plan"
    """The planning cycle."""
    FAST_LOOP = "fast_loop"
    """The fast loop between two cycles."""
    OVERRIDE = "override"
    """A resident or operator."""
    SAFETY = "safety"
    """The service itself, giving a device back to its own mode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setpoint:
    """One request to one asset; it never outlives `valid_until`."""

    id: str
    """Unique; the same request made twice has the same id."""
    site_id: str
    """The site."""
    asset: str
    """The asset."""
    kind: SetpointKind
    """Target, limit or mode."""
    quantity: Quantity
    """What it sets."""
    value_kw: float | None
    """The value [kW]; None lifts a limit or returns to the device's own mode."""
    valid_from: datetime
    """First instant it holds (aware UTC)."""
    valid_until: datetime
    """The device reverts by itself after this (aware UTC)."""
    priority: int
    """Higher wins: plan 10, override 30, safety 50."""
    source: SetpointSource
    """Who asked."""
    reason: Reason | None
    """Why, as data."""
    reverts_to: str
    """What the device does afterwards, e.g. `own_mode`."""
