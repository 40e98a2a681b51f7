"""Simulated devices: physics behind registers, served on real sockets."""

from drivers.twin.profiles import Profile, Weather
from drivers.twin.serve import ServedDevice, ServedHome, serve
from drivers.twin.specs import (
    BatterySpec,
    ChargerSpec,
    HeatPumpSpec,
    HomeSpec,
    InverterSpec,
    Session,
    Totals,
)

__all__ = [
    "BatterySpec",
    "ChargerSpec",
    "HeatPumpSpec",
    "HomeSpec",
    "InverterSpec",
    "Profile",
    "ServedDevice",
    "ServedHome",
    "Session",
    "Totals",
    "Weather",
    "serve",
]
