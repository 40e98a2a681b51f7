"""What a device object must not forget when the process ends: counter offsets and how often each register was written.

Plain values, so that whoever runs the devices can keep them: `Device.export_memory()` gives one, `Device.restore()` takes
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterMemory:
    """Where a lifetime counter stood."""

    offset_kwh: float
    """Added to what the device shows, so that the counter goes on rising after a roll-over or a meter exchange [kWh]."""
    last_raw_kwh: float
    """What the device showed last [kWh]."""
    last_at: datetime
    """When it did, aware UTC."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetMemory:
    """What one register still bears."""

    left: float
    """Writes it bore at once at `at`."""
    at: datetime
    """Instant of `left`, aware UTC."""
    day: date
    """UTC day of `writes`."""
    writes: int
    """Write requests on that day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMemory:
    """What one device object must not forget."""

    counters: Mapping[str, CounterMemory] = field(default_factory=dict)
    """By canonical quantity."""
    budgets: Mapping[str, BudgetMemory] = field(default_factory=dict)
    """By register or point name."""
    serial: str | None = None
    """Serial number of the device that answered last; None where it tells none."""
