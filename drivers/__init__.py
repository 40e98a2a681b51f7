"""Reading and writing devices. Knows registers, not sites."""

from drivers.device import Device, DeviceCounters, known_drivers, open_device
from drivers.errors import DeviceFileError, DriverError, EndpointError, UnknownDriverError
from drivers.identity import Identity
from drivers.memory import BudgetMemory, CounterMemory, DeviceMemory
from drivers.modbus import LinkCounters, LinkPool, Pacing
from drivers.protocols import (
    AcceptsBatteryPower,
    Applied,
    Capability,
    Clamped,
    Clock,
    DeviceReading,
    LimitsCharge,
    LimitsGeneration,
    Quality,
    Reads,
    Receipt,
    Refused,
    Releases,
    Sample,
    Trouble,
    TroubleKind,
    Unit,
    Unverified,
)

__all__ = [
    "AcceptsBatteryPower",
    "Applied",
    "BudgetMemory",
    "Capability",
    "Clamped",
    "Clock",
    "CounterMemory",
    "Device",
    "DeviceCounters",
    "DeviceFileError",
    "DeviceMemory",
    "DeviceReading",
    "DriverError",
    "EndpointError",
    "Identity",
    "LimitsCharge",
    "LimitsGeneration",
    "LinkCounters",
    "LinkPool",
    "Pacing",
    "Quality",
    "Reads",
    "Receipt",
    "Refused",
    "Releases",
    "Sample",
    "Trouble",
    "TroubleKind",
    "Unit",
    "UnknownDriverError",
    "Unverified",
    "known_drivers",
    "open_device",
]
