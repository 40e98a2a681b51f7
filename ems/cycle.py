"""The cycle: reading -> state -> outlook -> plan -> setpoint -> feedback, for a batch of sites."""

from dataclasses import dataclass
from datetime import datetime

from ems.feedback import Edge, IntervalAccount
from ems.outlook import Outlook
from ems.plan import Plan
from ems.publishing import Delivery
from ems.readings import Snapshot
from ems.setpoints import Setpoint
from ems.site import Site
from ems.state import SiteState


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleRecord:
    """Everything one cycle saw, decided and brought about; enough to make the same plan again."""

    at: datetime
    """Start of the first planned interval (aware UTC); names the record."""
    sites: tuple[Site, ...]
    """The batch as configured."""
    snapshot: Snapshot
    """What the devices said."""
    states: tuple[SiteState, ...]
    """What that was taken to mean."""
    outlook: Outlook
    """What was expected."""
    previous: tuple[Plan | None, ...]
    """The plans in force before."""
    plans: tuple[Plan, ...]
    """What was decided."""
    setpoints: tuple[Setpoint, ...]
    """What was asked of devices."""
    deliveries: tuple[Delivery, ...]
    """What became of it."""
    accounts: tuple[IntervalAccount, ...]
    """The intervals that had ended, in energy and money."""
    edges: tuple[Edge, ...]
    """What changed."""
    missed: int
    """Planning instants since the previous record at which no cycle ran."""
    overlapped: int
    """Planning instants since the previous record that were skipped because a cycle was still running."""
    took_ms: float
    """Wall time of the whole cycle [ms]."""
