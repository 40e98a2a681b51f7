"""The canonical quantities: one name, one unit, one sign for every device. drivers/README.md explains each."""

from typing import Final

from drivers.protocols import Capability, Unit

_SUFFIX_UNITS: Final = (
    ("_kwh", Unit.KWH),
    ("_kw", Unit.KW),
    ("_kvar", Unit.KVAR),
    ("_kva", Unit.KVA),
    ("_v", Unit.V),
    ("_a", Unit.A),
    ("_hz", Unit.HZ),
    ("_degc", Unit.DEGC),
    ("_frac", Unit.FRAC),
    ("_s", Unit.S),
)

METER: Final = (
    "net_import_kw",
    "net_import_l1_kw",
    "net_import_l2_kw",
    "net_import_l3_kw",
    "import_kwh",
    "export_kwh",
    "voltage_l1_v",
    "voltage_l2_v",
    "voltage_l3_v",
    "current_l1_a",
    "current_l2_a",
    "current_l3_a",
    "frequency_hz",
    "reactive_kvar",
    "apparent_kva",
)
INVERTER: Final = (
    "net_consumption_kw",
    "generated_kwh",
    "consumed_kwh",
    "pv_kw",
    "pv_kwh",
    "ac_limit_kw",
    "generation_limit_kw",
    "grid_connected",
    "temperature_degc",
)
BATTERY: Final = (
    "battery_net_consumption_kw",
    "stored_frac",
    "capacity_kwh",
    "charged_kwh",
    "discharged_kwh",
    "charge_limit_kw",
    "discharge_limit_kw",
    "health_frac",
)
CHARGER: Final = (
    "vehicle_net_consumption_kw",
    "plugged_in",
    "session_kwh",
    "vehicle_kwh",
    "vehicle_charge_limit_kw",
    "vehicle_current_a",
)
HEAT_PUMP: Final = (
    "heat_pump_net_consumption_kw",
    "heat_pump_kwh",
    "flow_degc",
    "return_degc",
    "tank_degc",
    "outdoor_degc",
    "room_degc",
)
SWITCH: Final = ("closed",)
SIGNAL: Final = (
    "import_limit_kw",
    "export_limit_kw",
    "limit_active",
)
CANONICAL: Final = frozenset(METER + INVERTER + BATTERY + CHARGER + HEAT_PUMP + SWITCH + SIGNAL)

COUNTERS: Final = frozenset(
    {
        "import_kwh",
        "export_kwh",
        "generated_kwh",
        "consumed_kwh",
        "pv_kwh",
        "charged_kwh",
        "discharged_kwh",
        "vehicle_kwh",
        "heat_pump_kwh",
    }
)
"""Lifetime counters: they only ever rise."""

NEVER_NEGATIVE: Final = COUNTERS | {
    "pv_kw",
    "ac_limit_kw",
    "generation_limit_kw",
    "capacity_kwh",
    "charge_limit_kw",
    "discharge_limit_kw",
    "session_kwh",
    "vehicle_charge_limit_kw",
    "vehicle_current_a",
    "import_limit_kw",
    "export_limit_kw",
    "limit_active",
    "frequency_hz",
    "apparent_kva",
    "voltage_l1_v",
    "voltage_l2_v",
    "voltage_l3_v",
}
"""Quantities that cannot be below zero."""

_REVEALS: Final = {
    "net_import_kw": Capability.MEASURES_GRID,
    "net_consumption_kw": Capability.MEASURES_GENERATION,
    "pv_kw": Capability.MEASURES_GENERATION,
    "stored_frac": Capability.HOLDS_ENERGY,
    "vehicle_net_consumption_kw": Capability.CHARGES_VEHICLE,
    "heat_pump_net_consumption_kw": Capability.HEATS,
}


def unit_of(name: str) -> Unit:
    """Unit a quantity's name ends with."""
    return next((unit for suffix, unit in _SUFFIX_UNITS if name.endswith(suffix)), Unit.NONE)


def capabilities_of(quantities: frozenset[str]) -> frozenset[Capability]:
    """What a device that gives these quantities is good for."""
    return frozenset(_REVEALS[name] for name in quantities if name in _REVEALS)
