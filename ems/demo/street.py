"""The demo's street: which homes there are, what is installed, and the site file that describes them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from drivers.twin import BatterySpec, ChargerSpec, HomeSpec, InverterSpec, Profile, Session
from ems.codec import FloatArray
from ems.errors import DataError
from ems.recorded import Recording, read_recording

START_AT = datetime.fromisoformat("2016-10-03T00:00:00-07:00")
"""Where the replay begins: a Monday, with 32 days of recording before it to learn from."""
RECORDED_HOMES = 10
WITH_VEHICLE = (3, 8)
"""Homes that charge a vehicle, counted from 1 within each ten."""
WITH_PLAIN_METER = (2, 6)
"""Homes whose meter speaks no SunSpec and is read through a device file."""

IMPORT_LIMIT_KW = 13.8
EXPORT_LIMIT_KW = 5.0
INVERTER_KW = 5.0
CAPACITY_KWH = 6.4
BATTERY_KW = 5.0
START_FRAC = 0.5
"""Filling of every battery at the start."""
CURRENCY = "USD"
EFFICIENCY = 0.95
CONVERSION = 0.97
CHARGER_KW = 11.04
"""16 A on three phases of 230 V."""
CHARGER_MIN_KW = 4.14
"""6 A on three phases of 230 V: the least a vehicle charges at."""
VEHICLE_KW = 7.4
"""Most the vehicles themselves draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """One home of the street."""

    id: str
    """Site id."""
    recorded_as: str
    """Home of the recording it replays."""
    shift: timedelta
    """How much earlier its recording is replayed; homes beyond ten repeat the ten on other weeks."""
    vehicle: bool
    """Whether it charges a vehicle."""
    plain_meter: bool
    """Whether its meter speaks no SunSpec."""


def street(count: int) -> tuple[Home, ...]:
    """Return the homes of a street of `count`."""
    homes = []
    for number in range(1, count + 1):
        original = (number - 1) % RECORDED_HOMES + 1
        homes.append(
            Home(
                id=f"home-{number:02d}",
                recorded_as=f"home-{original:02d}",
                shift=timedelta(weeks=((number - 1) // RECORDED_HOMES) % 3),
                vehicle=original in WITH_VEHICLE,
                plain_meter=original in WITH_PLAIN_METER,
            )
        )
    return tuple(homes)


def recording() -> Recording:
    """Read the measured load and solar power of the ten homes."""
    with as_file(files("ems.demo") / "data" / "homes.csv.gz") as path:
        return read_recording(path)


def home_spec(home: Home, recorded: Recording, sessions: Mapping[str, Sequence[Session]]) -> HomeSpec:
    """Describe a home to the simulated field."""
    return HomeSpec(
        name=home.id,
        load=_profile(home, recorded, "load_kw"),
        pv=_profile(home, recorded, "pv_kw"),
        battery=BatterySpec(
            capacity_kwh=CAPACITY_KWH,
            charge_limit_kw=BATTERY_KW,
            discharge_limit_kw=BATTERY_KW,
            charge_eff_frac=EFFICIENCY,
            discharge_eff_frac=EFFICIENCY,
            stored_frac=START_FRAC,
        ),
        inverter=InverterSpec(ac_limit_kw=INVERTER_KW, conversion_eff_frac=CONVERSION),
        charger=ChargerSpec(max_kw=CHARGER_KW, phases=3, fallback_current_a=16.0) if home.vehicle else None,
        sessions=tuple(sessions.get(home.recorded_as, ())) if home.vehicle else (),
        meter="eastron-sdm630" if home.plain_meter else "sunspec",
        import_limit_kw=IMPORT_LIMIT_KW,
        export_limit_kw=EXPORT_LIMIT_KW,
    )


def vehicle_sessions() -> dict[str, list[Session]]:
    """Read the recorded charging sessions, by home."""
    sessions: dict[str, list[Session]] = {}
    text = (files("ems.demo") / "data" / "vehicle_sessions.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        sessions.setdefault(row["home"], []).append(
            Session(
                plug_in_at=datetime.fromisoformat(row["plug_in_at"]),
                plug_out_at=datetime.fromisoformat(row["plug_out_at"]),
                wished_kwh=float(row["energy_kwh"]),
                max_kw=VEHICLE_KW,
            )
        )
    return sessions


def site_file(
    homes: Sequence[Home],
    endpoints: Mapping[str, Mapping[str, Mapping[str, object]]],
    *,
    import_limit_kw: float = IMPORT_LIMIT_KW,
) -> str:
    """Write the street as a site file; `endpoints` gives endpoint, unit_id and driver by home and device."""
    parts = [_defaults(import_limit_kw)]
    for home in homes:
        devices = "\n".join(
            f"      {name}: {{endpoint: '{at['endpoint']}', unit_id: {at['unit_id']}, driver: {at['driver']}, "
            f"{_ROLES[name]}}}"
            for name, at in endpoints[home.id].items()
        )
        parts.append(
            f"  - id: {home.id}\n    name: Home {int(home.id[-2:])}\n    devices:\n{devices}\n    assets:{_ASSETS}"
            + (_VEHICLE if home.vehicle else "")
        )
    return "\n".join(parts) + "\n"


def history_csv(homes: Sequence[Home], recorded: Recording, path: Path) -> None:
    """Write what was recorded before the replay begins, one column pair per home, for the service to learn from."""
    count = int((START_AT - recorded.start_at) / recorded.step)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["at"] + [f"{home.id}.{q}" for home in homes for q in ("load_kw", "pv_kw")])
        columns = [
            _shifted(recorded, f"{home.recorded_as}.{q}", home.shift)
            for home in homes
            for q in ("load_kw", "pv_kw")
        ]
        for row in range(count):
            at = recorded.start_at + row * recorded.step
            writer.writerow([at.isoformat()] + ["" if np.isnan(c[row]) else f"{c[row]:.3f}" for c in columns])


def _profile(home: Home, recorded: Recording, quantity: str) -> Profile:
    return Profile(
        start_at=recorded.start_at,
        step_s=recorded.step.total_seconds(),
        power_kw=_without_gaps(_shifted(recorded, f"{home.recorded_as}.{quantity}", home.shift)),
    )


def _shifted(recorded: Recording, name: str, shift: timedelta) -> FloatArray:
    series = recorded.column(name)
    if series is None:
        raise DataError(f"the demo's recording has no column {name!r}")
    return np.roll(series, int(shift / recorded.step))


def _without_gaps(series: FloatArray) -> FloatArray:
    """Give a blank hour the value of the same hour of the nearest earlier day that has one, else a later one."""
    days = series[: len(series) // 24 * 24].reshape(-1, 24).copy()
    for order in (range(1, len(days)), range(len(days) - 2, -1, -1)):
        step = 1 if order.step > 0 else -1
        for day in order:
            days[day] = np.where(np.isnan(days[day]), days[day - step], days[day])
    return np.concatenate([days.ravel(), series[days.size :]])


def _defaults(import_limit_kw: float) -> str:
    return f"""\
# The street of `ems demo`, as the service reads it. The same file with real endpoints runs on real devices.
defaults:
  time_zone: America/Los_Angeles
  currency: {CURRENCY}
  country: US
  latitude_deg: 34.1
  longitude_deg: -117.4
  co2_kg_per_kwh: 0.161
  owner: {{name: Demo household}}
  connection: {{import_limit_kw: {import_limit_kw}, export_limit_kw: {EXPORT_LIMIT_KW}}}
  consents: {{control_storage: true, control_vehicle: true, curtail_solar: true}}
  tariff:
    buy:
      kind: time_of_use
      seasons:
        - name: summer
          months: [6, 7, 8, 9]
          periods:
            - {{days: weekday, from_local: "15:00", to_local: "20:00", per_kwh: 0.54}}
            - {{days: weekend, from_local: "15:00", to_local: "20:00", per_kwh: 0.40}}
          otherwise_per_kwh: 0.22
        - name: winter
          months: [1, 2, 3, 4, 5, 10, 11, 12]
          periods:
            - {{days: all, from_local: "15:00", to_local: "20:00", per_kwh: 0.50}}
          otherwise_per_kwh: 0.21
    sell: {{kind: flat, per_kwh: 0.05}}
sites:"""


_ROLES = {
    "meter": "role: grid_meter",
    "inverter": f"role: hybrid_inverter, rated_kw: {INVERTER_KW}, conversion_eff_frac: {CONVERSION}",
    "charger": "role: charger",
}
_ASSETS = f"""
      - {{kind: pv, name: roof, device: inverter, rated_kw: 5.0}}
      - kind: battery
        name: battery
        device: inverter
        capacity_kwh: {CAPACITY_KWH}
        charge_limit_kw: {BATTERY_KW}
        discharge_limit_kw: {BATTERY_KW}
        charge_eff_frac: {EFFICIENCY}
        discharge_eff_frac: {EFFICIENCY}"""
_VEHICLE = f"""
      - kind: vehicle
        name: car
        device: charger
        charge_limit_kw: {VEHICLE_KW}
        charge_min_kw: {CHARGER_MIN_KW}
        wished_kwh: 12"""
