"""State: snapshot and what was carried over, to what each site is doing now. Pure.

The site's own load is never measured by itself: it is what the grid meter shows less what every other device draws.
It is unknown as soon as one of them is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from ems.orders import Order, OrderKind, SetpointSource
from ems.readings import Quality, SiteReading, Snapshot
from ems.site import Role, Site, VehicleAsset


class GridState(StrEnum):
    """Whether the public grid carries a site."""

    PRESENT = "present"
    """It does."""
    LOST = "lost"
    """It is dead, or the site has been cut off: an island."""
    RETURNING = "returning"
    """It is back, but not for long enough to count on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePowers:
    """Mean or present powers of one site; None is unknown, never 0."""

    net_import_kw: float | None
    """Drawn from the grid, + import [kW]."""
    load_kw: float | None
    """Drawn by the household without storage, vehicle and solar [kW]."""
    pv_kw: Mapping[str, float | None]
    """Solar power delivered per PV asset, >= 0 [kW]."""
    battery_kw: Mapping[str, float | None]
    """Net consumption per battery, charging + [kW]."""
    vehicle_kw: Mapping[str, float | None]
    """Drawn per vehicle, charging + [kW]."""

    @property
    def total_pv_kw(self) -> float | None:
        """All solar power delivered [kW]; None as soon as one array is unknown."""
        return total(self.pv_kw)

    @property
    def total_battery_kw(self) -> float | None:
        """Net consumption of all batteries [kW]; None as soon as one is unknown."""
        return total(self.battery_kw)

    @property
    def total_vehicle_kw(self) -> float | None:
        """Drawn by all vehicles [kW]; None as soon as one is unknown."""
        return total(self.vehicle_kw)


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredInterval:
    """Energy of one interval of one site, as far as it is known."""

    site_id: str
    """The site."""
    start_at: datetime
    """Start of the interval (aware UTC)."""
    hours: float
    """Its length [h]."""
    import_kwh: float | None
    """Drawn from the grid [kWh]."""
    export_kwh: float | None
    """Fed into the grid [kWh]."""
    load_kwh: float | None
    """Household load without storage and vehicle [kWh]."""
    pv_kwh: float | None
    """Solar energy delivered [kWh]."""
    charged_kwh: float | None
    """Drawn by batteries [kWh]."""
    discharged_kwh: float | None
    """Given by batteries [kWh]."""
    vehicle_kwh: float | None
    """Drawn by vehicles [kWh]."""
    stored_kwh: float | None
    """Energy in the batteries at the end of the interval [kWh]."""
    quality: Quality
    """`good` from counters or a full set of samples, `estimated` where something had to be filled in."""
    curtailed: bool = False
    """Whether solar power was held back on command, so that it says nothing about the sun."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VehicleState:
    """A vehicle at its charger."""

    plugged_in: bool | None
    """Whether it is there; None when the charger does not say."""
    arrived_at: datetime | None
    """Start of the running session."""
    session_kwh: float | None
    """Drawn in the running session so far [kWh]."""
    wished_kwh: float
    """Energy the session should bring in all [kWh drawn]."""
    ready_at: datetime | None
    """When it should be there (aware UTC)."""
    takes_nothing: bool = False
    """It may charge but does not: full, or asleep. It is not planned for until it draws again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteState:
    """What one site is doing now, with how far it can be trusted."""

    site_id: str
    """The site."""
    at: datetime
    """The instant it holds for (aware UTC)."""
    powers: SitePowers
    """Present powers."""
    stored_kwh: Mapping[str, float]
    """Energy per battery [kWh]; a battery whose state is unknown is not in it."""
    vehicles: Mapping[str, VehicleState]
    """By vehicle asset."""
    quality: Quality
    """`good`; `estimated` when something was carried over; `bad` when the plan cannot rest on it."""
    stored_at: datetime | None = None
    """When the stored energies were measured; None when one was never known."""
    missing: tuple[str, ...] = ()
    """What is unknown, e.g. `meter.net_import_kw`."""
    signal: tuple[Order, ...] = ()
    """What the grid operator's device said last, as orders that hold until it must be heard again."""
    grid: GridState = GridState.PRESENT
    """Whether the public grid carries the site."""
    grid_since: datetime | None = None
    """Since when the grid is lost or coming back (aware UTC); None while it is there."""
    shed_kw: Mapping[str, float] = field(default_factory=dict)
    """What loads that can be cut draw now, by asset [kW]; one that is not measured is not in it."""
    cut: frozenset[str] = frozenset()
    """Loads that their switches show as cut; what the household draws now is without them."""

    @property
    def islanded(self) -> bool:
        """Whether the site carries itself, or has not yet settled on the returned grid."""
        return self.grid is not GridState.PRESENT

    @property
    def steerable(self) -> bool:
        """Whether enough is known to steer: without the meter or a state of charge, devices are safer on their own."""
        return self.quality is not Quality.BAD and self.powers.net_import_kw is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class CarriedState:
    """What one site's previous cycle leaves for the next estimate."""

    stored_kwh: Mapping[str, float] = field(default_factory=dict)
    """Last known energy per battery [kWh]."""
    stored_at: datetime | None = None
    """When it was known."""
    sessions: Mapping[str, VehicleState] = field(default_factory=dict)
    """Last known vehicle states."""
    signal: tuple[Order, ...] = ()
    """What the grid operator's device said last."""
    grid: GridState = GridState.PRESENT
    """Whether the grid was there."""
    grid_since: datetime | None = None
    """Since when it was not."""


GRID_SETTLES = timedelta(seconds=60)
"""The grid must be back for this long before the site acts as if it were."""
DEAD_V = 60.0
"""A phase below this is dead, at any nominal voltage of a public grid [V]."""
ALIVE_HZ = (42.0, 68.0)
"""No public grid runs outside these [Hz]; some meters show 0 on a dead one."""
STORED_MAX_AGE = timedelta(minutes=30)
"""A state of charge older than this is unknown, not old."""


def total(parts: Mapping[str, float | None]) -> float | None:
    """Return the sum; None as soon as one part is unknown."""
    known = [part for part in parts.values() if part is not None]
    return sum(known) if len(known) == len(parts) else None


def site_powers(site: Site, reading: SiteReading) -> SitePowers:
    """Return present powers of one site from one reading; what cannot be derived is None."""
    net_import_kw = reading.usable(site.grid_meter, "net_import_kw")
    drawn_kw = {
        name: reading.usable(
            name, "vehicle_net_consumption_kw" if device.role is Role.CHARGER else "net_consumption_kw"
        )
        for name, device in site.devices.items()
        if device.role not in (Role.GRID_METER, Role.GRID_SIGNAL, Role.SWITCH)
    }
    others_kw = total(drawn_kw)
    return SitePowers(
        net_import_kw=net_import_kw,
        load_kw=None if net_import_kw is None or others_kw is None else net_import_kw - others_kw,
        pv_kw={pv.name: reading.usable(pv.device, "pv_kw") for pv in site.pvs},
        battery_kw={b.name: reading.usable(b.device, "battery_net_consumption_kw") for b in site.batteries},
        vehicle_kw={v.name: reading.usable(v.device, "vehicle_net_consumption_kw") for v in site.vehicles},
    )


def estimate_states(
    sites: tuple[Site, ...], snapshot: Snapshot, carried: Mapping[str, CarriedState]
) -> tuple[SiteState, ...]:
    """Return the state of each site of the batch, in order."""
    return tuple(
        estimate_state(site, reading, carried.get(site.id, CarriedState()), at=snapshot.at)
        for site, reading in zip(sites, snapshot.sites, strict=True)
    )


def estimate_state(site: Site, reading: SiteReading, carried: CarriedState, *, at: datetime) -> SiteState:
    """Return what one site is doing now.

    A state of charge that is missing is carried over for `STORED_MAX_AGE` and marked; after that it is unknown, and
    whoever steers the battery must do without it.
    """
    powers = site_powers(site, reading)
    stored_kwh: dict[str, float] = {}
    missing = [f"{site.grid_meter}.net_import_kw"] if powers.net_import_kw is None else []
    estimated = powers.load_kw is None
    for battery in site.batteries:
        frac = reading.usable(battery.device, "stored_frac")
        if frac is not None:
            stored_kwh[battery.name] = frac * battery.capacity_kwh
            continue
        missing.append(f"{battery.device}.stored_frac")
        # from the future: the clock was set back since, and how old it is nobody knows
        fresh = carried.stored_at is not None and timedelta(0) <= at - carried.stored_at <= STORED_MAX_AGE
        if fresh and battery.name in carried.stored_kwh:
            stored_kwh[battery.name] = carried.stored_kwh[battery.name]
            estimated = True
    vehicles = {
        vehicle.name: _vehicle_state(site, vehicle, reading, carried.sessions.get(vehicle.name), at=at)
        for vehicle in site.vehicles
    }
    grid, grid_since = _grid(site, reading, carried, at=at)
    measured_now = not any(key.endswith(".stored_frac") for key in missing)
    unsure = len(stored_kwh) < len(site.batteries)
    quality = Quality.BAD if unsure else Quality.ESTIMATED if estimated else Quality.GOOD
    return SiteState(
        site_id=site.id,
        at=at,
        powers=powers,
        stored_kwh=stored_kwh,
        vehicles=vehicles,
        quality=quality,
        stored_at=at if measured_now else carried.stored_at,
        missing=tuple(missing),
        signal=_signal(site, reading, carried.signal, at=at),
        grid=grid,
        grid_since=grid_since,
        shed_kw={
            load.name: kw
            for load in site.sheddables
            if (kw := reading.usable(load.device, "net_consumption_kw")) is not None
        },
        cut=frozenset(load.name for load in site.sheddables if reading.usable(load.device, "closed") == 0.0),
    )


def carry(state: SiteState) -> CarriedState:
    """Return what a state leaves for the next estimate."""
    return CarriedState(
        stored_kwh=state.stored_kwh,
        stored_at=state.stored_at,
        sessions=state.vehicles,
        signal=state.signal,
        grid=state.grid,
        grid_since=state.grid_since,
    )


def stored_total_kwh(site: Site, state: SiteState) -> float | None:
    """Return the energy in all batteries of a site [kWh]; None as soon as one is unknown or there is none."""
    if not site.batteries or len(state.stored_kwh) < len(site.batteries):
        return None
    return sum(state.stored_kwh.values())


def _vehicle_state(
    site: Site, vehicle: VehicleAsset, reading: SiteReading, carried: VehicleState | None, *, at: datetime
) -> VehicleState:
    """Follow a session: it begins when the charger first says so, and keeps its arrival and wish until it ends."""
    plugged = reading.usable(vehicle.device, "plugged_in")
    session_kwh = reading.usable(vehicle.device, "session_kwh")
    if plugged is None and carried is not None:
        return replace(carried, plugged_in=None)
    if not plugged:
        return VehicleState(
            plugged_in=None if plugged is None else False,
            arrived_at=None,
            session_kwh=None,
            wished_kwh=vehicle.wished_kwh,
            ready_at=None,
        )
    if carried is not None and carried.plugged_in is not False and carried.arrived_at is not None:
        idle = _takes_nothing(vehicle, reading)
        return replace(carried, plugged_in=True, session_kwh=session_kwh, takes_nothing=idle)
    return VehicleState(
        plugged_in=True,
        arrived_at=at,
        session_kwh=session_kwh,
        wished_kwh=vehicle.wished_kwh,
        ready_at=_next_local(at, vehicle.ready_by_local, site.time_zone),
    )


def _grid(
    site: Site, reading: SiteReading, carried: CarriedState, *, at: datetime
) -> tuple[GridState, datetime | None]:
    """Return whether the grid carries the site, and since when it does not; silence changes nothing.

    Seen at the grid meter (dead phases, no frequency) or told by an inverter (`grid_connected`).
    """
    if site.backup is None:
        return GridState.PRESENT, None
    volts = [reading.usable(site.grid_meter, f"voltage_l{line}_v") for line in (1, 2, 3)]
    seen_v = [volt for volt in volts if volt is not None]
    hertz = reading.usable(site.grid_meter, "frequency_hz")
    told = [value for name in site.devices if (value := reading.usable(name, "grid_connected")) is not None]
    dead = (bool(seen_v) and max(seen_v) < DEAD_V) or (
        hertz is not None and not ALIVE_HZ[0] <= hertz <= ALIVE_HZ[1]
    )
    if dead or 0.0 in told:
        since = carried.grid_since if carried.grid is GridState.LOST else at
        return GridState.LOST, since
    if not seen_v and hertz is None and not told:
        return carried.grid, carried.grid_since
    if carried.grid is GridState.LOST:
        return GridState.RETURNING, at
    back_at = carried.grid_since
    if carried.grid is GridState.RETURNING and back_at is not None and at - back_at < GRID_SETTLES:
        return GridState.RETURNING, back_at
    return GridState.PRESENT, None


def _signal(
    site: Site, reading: SiteReading, carried: tuple[Order, ...], *, at: datetime
) -> tuple[Order, ...]:
    """Return what the grid operator's device says; while it is silent, what it said last stands until it runs out."""
    signal = site.grid_signal
    if signal is None or signal.device is None:
        return ()
    if signal.device in reading.troubles or not any(
        key.startswith(f"{signal.device}.") for key in reading.samples
    ):
        return carried
    import_kw = reading.usable(signal.device, "import_limit_kw")
    if signal.relay_import_kw is not None:
        active = reading.usable(signal.device, "limit_active")
        if active is None:
            return carried
        if active:
            import_kw = (
                signal.relay_import_kw if import_kw is None else min(import_kw, signal.relay_import_kw)
            )
    said = {
        OrderKind.IMPORT_LIMIT: import_kw,
        OrderKind.EXPORT_LIMIT: reading.usable(signal.device, "export_limit_kw"),
    }
    return tuple(
        Order(
            id=f"{site.id}.{signal.device}.{kind}",
            site_id=site.id,
            by=signal.device,
            kind=kind,
            source=SetpointSource.GRID_OPERATOR,
            value_kw=value_kw,
            from_at=at,
            until_at=at + timedelta(seconds=signal.heartbeat_s),
        )
        for kind, value_kw in said.items()
    )


def _takes_nothing(vehicle: VehicleAsset, reading: SiteReading) -> bool:
    """Tell whether a vehicle that may charge draws nothing; False where the charger does not say what it may."""
    allowed_kw = reading.usable(vehicle.device, "vehicle_charge_limit_kw")
    drawn_kw = reading.usable(vehicle.device, "vehicle_net_consumption_kw")
    if allowed_kw is None or drawn_kw is None:
        return False
    return allowed_kw >= 0.9 * vehicle.charge_min_kw and drawn_kw < 0.05 * vehicle.charge_limit_kw


def _next_local(at: datetime, clock_time: str, zone: str) -> datetime:
    """Return the first instant after `at` at which the local clock shows `clock_time`."""
    local_time = time.fromisoformat(clock_time)
    today = at.astimezone(ZoneInfo(zone)).date()
    shown = (
        datetime.combine(
            today + timedelta(days=days), local_time.replace(fold=fold), ZoneInfo(zone)
        ).astimezone(UTC)
        for days in (0, 1)
        for fold in (0, 1)
    )
    return min(ready for ready in shown if ready > at)
