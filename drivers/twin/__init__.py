"""Simulated devices: physics behind registers, served on real sockets."""

from drivers.twin.home import (
    BatterySpec,
    ChargerSpec,
    HomeSpec,
    InverterSpec,
    Profile,
    Session,
    Totals,
)
from drivers.twin.serve import ServedDevice, ServedHome, serve

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
