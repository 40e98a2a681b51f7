"""What is installed in a simulated home, what happens in it, and what truly flowed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from drivers.twin.profiles import Profile, Weather


@dataclass(frozen=True, kw_only=True, slots=True)
class BatterySpec:
    """A battery as its nameplate tells it."""

    capacity_kwh: float
    """Usable energy between empty and full [kWh]."""
    charge_limit_kw: float
    """Largest charging power at its terminals [kW]."""
    discharge_limit_kw: float
    """Largest discharging power at its terminals [kW]."""
    charge_eff_frac: float = 0.95
    """Energy stored per energy taken in."""
    discharge_eff_frac: float = 0.95
    """Energy given per energy taken from store."""
    min_stored_frac: float = 0.05
    """The battery's own floor; discharging stops here."""
    max_stored_frac: float = 1.0
    """The battery's own ceiling; charging stops here."""
    stored_frac: float = 0.5
    """Filling at the start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InverterSpec:
    """A hybrid inverter: PV and battery on its DC side, the home on its AC side."""

    ac_limit_kw: float
    """AC rating in both directions [kW]."""
    conversion_eff_frac: float = 0.97
    """AC energy out per DC energy in, and DC out per AC in."""
    models: Literal["100", "110", "700"] = "100"
    """SunSpec generation it speaks: 101/103 (integers) or 111/113 (floats) with 120-124 and 160, or 701-714 (IEEE 1547)."""
    phases: Literal[1, 3] = 3
    """Phases it feeds."""
    battery_bank: bool = False
    """Also shows its battery as model 802; not with 700."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A vehicle plugged in."""

    plug_in_at: datetime
    """Aware UTC."""
    plug_out_at: datetime
    """Aware UTC, after plug_in_at."""
    wished_kwh: float
    """Energy the vehicle takes before it is full [kWh at the charger]."""
    max_kw: float
    """Most the vehicle itself draws [kW]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargerSpec:
    """A charging station."""

    max_kw: float = 11.0
    """Rating [kW]."""
    phases: int = 3
    """1 or 3."""
    voltage_v: float = 230.0
    """Phase to neutral [V]."""
    min_current_a: float = 6.0
    """IEC 61851: below this the station pauses [A]."""
    timeout_s: float = 3600.0
    """Without a word from its controller for so long it falls back [s]."""
    fallback_current_a: float = 16.0
    """Current limit it falls back to [A]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatPumpSpec:
    """A heat pump with the house it keeps warm."""

    driver: str
    """Device file whose registers it shows."""
    weather: Weather
    """Outdoor temperature."""
    heat_kw: float = 8.0
    """Heat given while the compressor runs [kW]."""
    flow_degc: float = 35.0
    """Flow temperature while it runs."""
    carnot_frac: float = 0.4
    """Share of Carnot's coefficient it reaches."""
    loss_kw_per_k: float = 0.2
    """Heat loss of the house per kelvin to the outside [kW/K]."""
    capacity_kwh_per_k: float = 10.0
    """Heat stored in the house per kelvin [kWh/K]."""
    wished_degc: float = 21.0
    """Room temperature the thermostat holds."""
    band_k: float = 1.0
    """Width of the thermostat's band [K]."""
    room_degc: float = 21.0
    """Room temperature at the start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeSpec:
    """One home: profiles and equipment."""

    name: str
    """Prefix of its devices' names."""
    load: Profile
    """Uncontrollable consumption."""
    pv: Profile | None = None
    """PV available at AC, before rating and curtailment."""
    battery: BatterySpec | None = None
    """Needs an inverter."""
    inverter: InverterSpec | None = None
    """Needed by PV and battery."""
    charger: ChargerSpec | None = None
    """Charging station, if any."""
    sessions: tuple[Session, ...] = ()
    """Ordered, not overlapping."""
    heat_pump: HeatPumpSpec | None = None
    """Heat pump, if any; its consumption is not part of `load`."""
    meter: Literal["sunspec", "eastron-sdm630"] = "sunspec"
    """What the grid meter speaks."""
    switched_kw: float | None = None
    """Most of `load` that is behind a switch and can be cut [kW]; None: there is no switch."""
    import_limit_kw: float | None = None
    """Connection limit; exceeding it counts as a violation."""
    export_limit_kw: float | None = None
    """Connection limit; exceeding it counts as a violation."""


@dataclass(slots=True)
class Totals:
    """Ground truth since the start [kWh unless named otherwise]; no device sees these."""

    from_at: datetime
    to_at: datetime
    import_kwh: float = 0.0
    export_kwh: float = 0.0
    load_kwh: float = 0.0
    pv_kwh: float = 0.0
    """PV energy made, at AC equivalent."""
    pv_available_kwh: float = 0.0
    """PV energy that could have been made without curtailment or clipping."""
    battery_charged_kwh: float = 0.0
    """At the battery's terminals."""
    battery_discharged_kwh: float = 0.0
    """At the battery's terminals."""
    vehicle_kwh: float = 0.0
    heat_pump_kwh: float = 0.0
    """Electricity drawn by the heat pump."""
    unserved_kwh: float = 0.0
    """Load that was wanted while the grid was lost and could not be served."""
    cut_kwh: float = 0.0
    """Load that was cut by its switch."""
    unserved_vehicle_kwh: float = 0.0
    """Wished but missing at plug-out."""
    max_import_kw: float = 0.0
    max_export_kw: float = 0.0
    import_violation_s: float = 0.0
    """Time above the import limit [s]."""
    export_violation_s: float = 0.0
    """Time above the export limit [s]."""
    commands: int = 0
    """Writes the devices of this home accepted."""
    reversions: int = 0
    """Times a device reverted because no new setpoint came."""
