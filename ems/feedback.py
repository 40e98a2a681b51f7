"""Feedback: what happened, what it cost, what it saved. Pure.

The saving of an interval is what the same household would have paid with its storage idle, at the same prices and with
the same load and sun, less what it did pay.
"""

from dataclasses import dataclass
from datetime import datetime

from ems.readings import Quality
from ems.state import MeasuredInterval


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalAccount:
    """One interval of one site in energy and money."""

    measured: MeasuredInterval
    """The energy."""
    buy_per_kwh: float
    """Price of imported energy [1/kWh]."""
    sell_per_kwh: float
    """Price paid for exported energy [1/kWh]."""
    cost: float | None
    """Paid for the interval, in the site's currency; income is negative; None when energy is unknown."""
    cost_idle: float | None
    """The same with storage idle."""
    stored_value: float | None
    """Value of the change of stored energy over the interval, in the site's currency: charging is not a loss."""
    planned_import_kw: float | None
    """What the plan of that interval expected to draw, net [kW], + import."""

    @property
    def site_id(self) -> str:
        """The site."""
        return self.measured.site_id

    @property
    def start_at(self) -> datetime:
        """Start of the interval."""
        return self.measured.start_at

    @property
    def quality(self) -> Quality:
        """Trust in the energy."""
        return self.measured.quality

    @property
    def saving(self) -> float | None:
        """Saved against idle storage, in the site's currency."""
        if self.cost is None or self.cost_idle is None:
            return None
        return self.cost_idle - self.cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A change worth telling once: a step on the ladder of control, a device lost or back."""

    at: datetime
    """When (aware UTC)."""
    site_id: str
    """Where."""
    subject: str
    """What changed, e.g. `plan` or `device.inverter`."""
    became: str
    """What it is now, e.g. `rule`, `lost`, `back`."""
    cause: str
    """Why, in one line."""
