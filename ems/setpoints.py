"""Setpoint: plan to clamped, expiring requests to devices. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ems.orders import PRIORITIES, SetpointSource, Standing
from ems.plan import Plan, PlanSource, Reason
from ems.site import SITE, Asset, Site, VehicleAsset

__all__ = [
    "PRIORITIES",
    "Course",
    "Quantity",
    "Setpoint",
    "SetpointKind",
    "SetpointSource",
    "course_of_plan",
    "derive_setpoints",
    "with_targets",
]


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
    CONSUMPTION_LIMIT = "consumption_limit_kw"
    """Most a load behind a switch may draw [kW]: 0 cuts it, None lets it run."""
    IMPORT_LIMIT = "import_limit_kw"
    """Most the site may draw from the grid [kW]; kept by the service itself."""
    EXPORT_LIMIT = "export_limit_kw"
    """Most the site may feed into the grid [kW]; kept by the service itself."""
    OWN_MODE = "own_mode"
    """The device's own safe mode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setpoint:
    """One request to one asset; it never outlives `valid_until`."""

    id: str
    """Unique; the same request made twice has the same id."""
    site_id: str
    """The site."""
    asset: str
    """The asset, or `site` for the connection as a whole."""
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
    """Higher wins; see `ems.orders.PRIORITIES`."""
    source: SetpointSource
    """Who asked."""
    reason: Reason | None
    """Why, as data."""
    reverts_to: str
    """What the device does afterwards, e.g. `own_mode`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What one site is to do now: powers per asset, from the plan or from the fast loop."""

    battery_kw: Mapping[str, float]
    """Net consumption per battery, charging + [kW]."""
    generation_limit_kw: Mapping[str, float | None]
    """Cap on AC output per PV asset [kW]; None: no cap."""
    vehicle_kw: Mapping[str, float]
    """Power per vehicle [kW]."""
    cut: frozenset[str] = frozenset()
    """Loads behind switches that are cut."""


def course_of_plan(site: Site, plan: Plan, at: datetime) -> Course | None:
    """Return what the plan says for `at`; None where it leaves the site to its devices.

    Of assets the site has no more, because they were derated after the plan was made, nothing is said.
    """
    index = plan.index_at(at)
    if plan.source is PlanSource.RULE or index is None or not plan.usable_at(at):
        return None
    caps = {
        pv.name: max(0.0, float(plan.inverter_kw.get(pv.device, plan.pv_kw[pv.name])[index]))
        if plan.holds_back(pv.name, at)
        else None
        for pv in site.pvs
    }
    steered = {asset.name for asset in site.assets}
    return Course(
        # an island is carried by its inverter: a battery that forms the grid takes no power setpoint
        battery_kw={}
        if plan.islanded
        else {
            name: float(b.charge_kw[index] - b.discharge_kw[index])
            for name, b in plan.batteries.items()
            if name in steered
        },
        generation_limit_kw=caps,
        vehicle_kw={name: float(kw[index]) for name, kw in plan.vehicle_kw.items() if name in steered},
        cut=frozenset(name for name in plan.shed_kw if plan.sheds(name, at)),
    )


def with_targets(site: Site, course: Course | None, standing: Standing) -> Course | None:
    """Return the course with what people and events ask of single assets put in; None stays None without any.

    What is asked of an asset that is derated has to wait for its trial.
    """
    targets = {name: order for name, order in standing.targets.items() if site.asset(name) is not None}
    if not targets:
        return course
    battery_kw = {} if course is None else dict(course.battery_kw)
    vehicle_kw = {} if course is None else dict(course.vehicle_kw)
    for name, order in targets.items():
        asked = vehicle_kw if isinstance(site.asset(name), VehicleAsset) else battery_kw
        asked[name] = order.value_kw or 0.0
    return Course(
        battery_kw=battery_kw,
        generation_limit_kw={} if course is None else course.generation_limit_kw,
        vehicle_kw=vehicle_kw,
        cut=frozenset() if course is None else course.cut,
    )


def derive_setpoints(
    site: Site,
    course: Course | None,
    *,
    plan: Plan | None,
    at: datetime,
    valid_until: datetime,
    source: SetpointSource,
    standing: Standing | None = None,
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
        Who asks, where `standing` names nobody else.
    standing
        Whose word counts: names who asked for a target, and the limits of the connection others have set.
    """
    targets = {} if standing is None else standing.targets
    asked: list[tuple[Asset, Quantity, float | None]] = []
    for battery in site.batteries:
        if course is None or battery.name not in course.battery_kw:
            asked.append((battery, Quantity.OWN_MODE, None))
        else:
            kw = course.battery_kw[battery.name]
            kw = min(max(kw, -battery.discharge_limit_kw), battery.charge_limit_kw)
            asked.append((battery, Quantity.BATTERY_POWER, kw))
    for pv in site.pvs:
        cap_kw = None if course is None else course.generation_limit_kw.get(pv.name)
        asked.append((pv, Quantity.GENERATION_LIMIT, cap_kw))
    for vehicle in site.vehicles:
        kw = _let_go_kw(vehicle, source, standing)
        if course is not None:
            kw = course.vehicle_kw.get(vehicle.name, kw)
        on = kw >= 0.5 * vehicle.charge_min_kw and kw > 0.0
        kw = min(max(kw, vehicle.charge_min_kw), vehicle.charge_limit_kw) if on else 0.0
        asked.append((vehicle, Quantity.VEHICLE_LIMIT, kw))
    for load in site.sheddables:
        cut = course is not None and load.name in course.cut
        asked.append((load, Quantity.CONSUMPTION_LIMIT, 0.0 if cut else None))
    of_assets = [
        _setpoint(
            site,
            asset.name,
            quantity,
            value_kw,
            plan=plan,
            at=at,
            valid_until=valid_until,
            source=targets[asset.name].source if asset.name in targets else source,
        )
        for asset, quantity, value_kw in asked
        if _allowed(site, asset)
    ]
    of_site = [
        _setpoint(
            site, SITE, quantity, limit.kw, plan=None, at=at, valid_until=valid_until, source=limit.source
        )
        for quantity, limit in (
            ()
            if standing is None
            else (
                (Quantity.IMPORT_LIMIT, standing.import_limit),
                (Quantity.EXPORT_LIMIT, standing.export_limit),
            )
        )
        if limit.source is not None
    ]
    return (*of_assets, *of_site)


def _let_go_kw(vehicle: VehicleAsset, source: SetpointSource, standing: Standing | None) -> float:
    """Return what a charger may give whose vehicle nobody steers [kW].

    People who take over, and a service that stops, leave the charger its full power; a service that does not know keeps
    to the least there is. While somebody else's limit holds, one that stops leaves the least and one that does not
    know nothing.
    """
    if standing is not None and standing.import_limit.source is not None:
        return vehicle.charge_min_kw if source is SetpointSource.SAFETY else 0.0
    taken_over = source in (SetpointSource.OVERRIDE, SetpointSource.SAFETY)
    return vehicle.charge_limit_kw if taken_over else vehicle.charge_min_kw


def _allowed(site: Site, asset: Asset) -> bool:
    """Tell whether the household lets the service steer this asset, and its device may be written."""
    consents = site.consents
    consent = {
        "battery": consents.control_storage,
        "pv": consents.curtail_solar,
        "vehicle": consents.control_vehicle,
        "sheddable": consents.shed_loads,
    }[asset.kind]
    return consent and (asset.controller is not None or not site.devices[asset.device].read_only)


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
