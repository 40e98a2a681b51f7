"""Simulated devices: physics behind registers, served on real sockets."""

from drivers.twin.profiles import Profile
from drivers.twin.serve import ServedDevice, ServedHome, serve
from drivers.twin.specs import (
    BatterySpec,
    ChargerSpec,
    HomeSpec,
    InverterSpec,
    Session,
    Totals,
)

__all__ = [
    "BatterySpec",
    "ChargerSpec",
    "HomeSpec",
    "InverterSpec",
    "Profile",
    "ServedDevice",
    "ServedHome",
    "Session",
    "Totals",
    "serve",
]
