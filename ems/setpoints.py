"""Setpoint: plan to clamped, expiring requests to devices. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ems.plan import Plan, PlanSource, Reason
from ems.site import BatteryAsset, PvAsset, Site, VehicleAsset


class SetpointKind(StrEnum):
    """The three families that must be kept apart."""

    TARGET = "target"
    """Go there."""
    LIMIT = "limit"
    """Stay below."""
    MODE = "mode"
    """Run your own programme."""


class Quantity(StrEnum):
    """What a setpoint sets."""

    BATTERY_POWER = "battery_net_consumption_kw"
    """Charging +, discharging - [kW]."""
    GENERATION_LIMIT = "generation_limit_kw"
    """Most AC output [kW]; None lifts the limit."""
    VEHICLE_LIMIT = "vehicle_charge_limit_kw"
    """Most the vehicle may draw [kW]; 0 pauses."""
    OWN_MODE = "own_mode"
    """The device's own safe mode."""


class SetpointSource(StrEnum):
    """Who asked."""

    PLAN = "plan"
    """The planning cycle."""
    FAST_LOOP = "fast_loop"
    """The fast loop between two cycles."""
    OVERRIDE = "override"
    """A resident or operator."""
    SAFETY = "safety"
    """The service itself, giving a device back to its own mode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setpoint:
    """One request to one asset; it never outlives `valid_until`."""

    id: str
    """Unique; the same request made twice has the same id."""
    site_id: str
    """The site."""
    asset: str
    """The asset."""
    kind: SetpointKind
    """Target, limit or mode."""
    quantity: Quantity
    """What it sets."""
    value_kw: float | None
    """The value [kW]; None lifts a limit or returns to the device's own mode."""
    valid_from: datetime
    """First instant it holds (aware UTC)."""
    valid_until: datetime
    """The device reverts by itself after this (aware UTC)."""
    priority: int
    """Higher wins: plan 10, override 30, safety 50."""
    source: SetpointSource
    """Who asked."""
    reason: Reason | None
    """Why, as data."""
    reverts_to: str
    """What the device does afterwards, e.g. `own_mode`."""


PRIORITIES: Mapping[SetpointSource, int] = {
    SetpointSource.PLAN: 10,
    SetpointSource.FAST_LOOP: 10,
    SetpointSource.OVERRIDE: 30,
    SetpointSource.SAFETY: 50,
}
"""Higher wins. The fast loop carries the plan out, so it ranks with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What one site is to do now: powers per asset, from the plan or from the fast loop."""

    battery_kw: Mapping[str, float]
    """Net consumption per battery, charging + [kW]."""
    generation_limit_kw: Mapping[str, float | None]
    """Cap on AC output per PV asset [kW]; None: no cap."""
    vehicle_kw: Mapping[str, float]
    """Power per vehicle [kW]."""


def course_of_plan(site: Site, plan: Plan, at: datetime) -> Course | None:
    """Return what the plan says for `at`; None where it leaves the site to its devices."""
    index = plan.index_at(at)
    if plan.source is PlanSource.RULE or index is None or not plan.usable_at(at):
        return None
    caps = {
        pv.name: max(0.0, float(plan.inverter_kw.get(pv.device, plan.pv_kw[pv.name])[index]))
        if plan.holds_back(pv.name, at)
        else None
        for pv in site.pvs
    }
    return Course(
        battery_kw={
            name: float(b.charge_kw[index] - b.discharge_kw[index]) for name, b in plan.batteries.items()
        },
        generation_limit_kw=caps,
        vehicle_kw={name: float(kw[index]) for name, kw in plan.vehicle_kw.items()},
    )


def derive_setpoints(
    site: Site,
    course: Course | None,
    *,
    plan: Plan | None,
    at: datetime,
    valid_until: datetime,
    source: SetpointSource,
) -> tuple[Setpoint, ...]:
    """Return the setpoints of one site: clamped to ratings, within consents, expiring.

    Parameters
    ----------
    site
        The site; assets without consent and devices marked read-only get nothing.
    course
        What to do; None gives every device back to its own mode.
    plan
        Where the reasons come from.
    at, valid_until
        The stretch they hold for.
    source
        Who asks.
    """
    asked: list[tuple[BatteryAsset | PvAsset | VehicleAsset, Quantity, float | None]] = []
    for battery in site.batteries:
        if course is None or battery.name not in course.battery_kw:
            asked.append((battery, Quantity.OWN_MODE, None))
        else:
            kw = course.battery_kw[battery.name]
            asked.append(
                (
                    battery,
                    Quantity.BATTERY_POWER,
                    min(max(kw, -battery.discharge_limit_kw), battery.charge_limit_kw),
                )
            )
    for pv in site.pvs:
        asked.append(
            (
                pv,
                Quantity.GENERATION_LIMIT,
                None if course is None else course.generation_limit_kw.get(pv.name),
            )
        )
    # people who take over get the charger's full power; a service that does not know keeps to the least there is
    let_go = source in (SetpointSource.OVERRIDE, SetpointSource.SAFETY)
    for vehicle in site.vehicles:
        kw = vehicle.charge_limit_kw if let_go else vehicle.charge_min_kw
        if course is not None:
            kw = course.vehicle_kw.get(vehicle.name, kw)
        on = kw >= 0.5 * vehicle.charge_min_kw
        asked.append(
            (
                vehicle,
                Quantity.VEHICLE_LIMIT,
                min(max(kw, vehicle.charge_min_kw), vehicle.charge_limit_kw) if on else 0.0,
            )
        )
    return tuple(
        _setpoint(
            site, asset.name, quantity, value_kw, plan=plan, at=at, valid_until=valid_until, source=source
        )
        for asset, quantity, value_kw in asked
        if _allowed(site, asset)
    )


def _allowed(site: Site, asset: BatteryAsset | PvAsset | VehicleAsset) -> bool:
    """Tell whether the household lets the service steer this asset, and its device may be written."""
    consents = site.consents
    consent = {
        "battery": consents.control_storage,
        "pv": consents.curtail_solar,
        "vehicle": consents.control_vehicle,
    }[asset.kind]
    return consent and not site.devices[asset.device].read_only


def _setpoint(
    site: Site,
    asset: str,
    quantity: Quantity,
    value_kw: float | None,
    *,
    plan: Plan | None,
    at: datetime,
    valid_until: datetime,
    source: SetpointSource,
) -> Setpoint:
    kind = {Quantity.BATTERY_POWER: SetpointKind.TARGET, Quantity.OWN_MODE: SetpointKind.MODE}.get(
        quantity, SetpointKind.LIMIT
    )
    # the value belongs to it: a clock that was set back comes by the same instant again, with something else to ask
    told = "none" if value_kw is None else f"{value_kw:.3f}"
    return Setpoint(
        id=f"{site.id}.{asset}.{quantity}.{int(at.timestamp() * 1000)}.{told}",
        site_id=site.id,
        asset=asset,
        kind=kind,
        quantity=quantity,
        value_kw=None if value_kw is None else round(value_kw, 3),
        valid_from=at,
        valid_until=valid_until,
        priority=PRIORITIES[source],
        source=source,
        reason=None if plan is None else plan.reason_at(asset, at),
        reverts_to="own_mode",
    )
