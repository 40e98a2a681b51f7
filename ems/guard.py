"""Limits come first: what a course would do to the connection, and what keeps it within. Pure.

Plain arithmetic on what the meter shows, beside the optimiser on purpose: it holds when a forecast was wrong, when a
device does not do what it was told, and while a site runs on its devices' own modes.
"""

from collections.abc import Mapping
from dataclasses import replace

from ems.orders import Standing
from ems.setpoints import Course, with_targets
from ems.site import BatteryAsset, Role, Site
from ems.state import SitePowers, SiteState, total

MARGIN_KW = 0.02
"""A limit is aimed at from this far below it [kW], so that meter noise does not break it."""


def bounded_course(site: Site, course: Course | None, state: SiteState, counts: Standing) -> Course | None:
    """Return what a site is to do: a course with what people ask put in, bent to the limits that count.

    None leaves it to its devices: people paused it, or too little is known to steer.
    """
    if not state.steerable:
        return None
    if counts.paused is not None:
        return own_mode_within_limits(site, state.powers, state.stored_kwh, counts)
    asked = with_targets(site, course, counts)
    return None if asked is None else within_limits(site, asked, state.powers, state.stored_kwh, counts)


def within_limits(
    site: Site,
    course: Course,
    powers: SitePowers,
    stored_kwh: Mapping[str, float],
    standing: Standing,
) -> Course:
    """Return the course, bent as far as the connection's limits ask for; where the meter is unknown, as it is.

    Vehicles give way first, then charging, then batteries give what they have.

    Parameters
    ----------
    site
        The site.
    course
        What is to be done.
    powers
        What is measured now.
    stored_kwh
        Energy per battery [kWh]; a battery whose energy is unknown is not asked to give.
    standing
        Whose limits count.
    """
    fixed_kw = _fixed_kw(site, powers)
    if fixed_kw is None:
        return course
    net_kw = fixed_kw + _at_connection_kw(site, course.battery_kw) + sum(course.vehicle_kw.values())
    excess_kw = net_kw - standing.import_limit.kw
    surplus_kw = -net_kw - standing.export_limit.kw
    if excess_kw > 0.0:
        return _drawing_less(site, course, stored_kwh, excess_kw + MARGIN_KW)
    if surplus_kw > 0.0:
        return _feeding_less(site, course, stored_kwh, surplus_kw + MARGIN_KW)
    return course


def own_mode_within_limits(
    site: Site, powers: SitePowers, stored_kwh: Mapping[str, float], standing: Standing
) -> Course | None:
    """Return what a paused site does: its devices' own mode, steered only as far as somebody's limit asks for.

    None: nothing is known that would allow to say more than own mode.
    """
    fixed_kw = _fixed_kw(site, powers)
    if fixed_kw is None:
        return None
    own = _own_course(site, fixed_kw, stored_kwh)
    kept = within_limits(site, own, powers, stored_kwh, standing)
    return replace(own, battery_kw={}) if kept is own else kept


def _fixed_kw(site: Site, powers: SitePowers) -> float | None:
    """Return what the connection would carry without what is steered [kW, import +]; None where unknown."""
    vehicle_kw = total(powers.vehicle_kw) if site.consents.control_vehicle else 0.0
    if powers.net_import_kw is None or powers.total_battery_kw is None or vehicle_kw is None:
        return None
    measured_kw = {name: kw for name, kw in powers.battery_kw.items() if kw is not None}
    return powers.net_import_kw - _at_connection_kw(site, measured_kw) - vehicle_kw


def _at_connection_kw(site: Site, battery_kw: Mapping[str, float]) -> float:
    """Return what battery powers come to at the connection; behind a hybrid inverter they are on its DC side."""
    drawn_kw = 0.0
    for battery in site.batteries:
        device = site.devices[battery.device]
        share = device.conversion_eff_frac if device.role is Role.HYBRID_INVERTER else 1.0
        drawn_kw += share * battery_kw.get(battery.name, 0.0)
    return drawn_kw


def _own_course(site: Site, fixed_kw: float, stored_kwh: Mapping[str, float]) -> Course:
    """Return what the devices do by themselves: vehicles charge in full, batteries serve what is left."""
    vehicles = site.vehicles if site.consents.control_vehicle else ()
    vehicle_kw = {vehicle.name: vehicle.charge_limit_kw for vehicle in vehicles}
    deficit_kw = fixed_kw + sum(vehicle_kw.values())
    battery_kw = {}
    for battery in site.batteries:
        floor_kwh = battery.reserve_frac * battery.capacity_kwh
        gives_kw = battery.discharge_limit_kw if stored_kwh.get(battery.name, 0.0) > floor_kwh else 0.0
        takes_kw = battery.charge_limit_kw if _has_room(battery, stored_kwh) else 0.0
        battery_kw[battery.name] = min(max(-deficit_kw, -gives_kw), takes_kw)
        deficit_kw += battery_kw[battery.name]
    return Course(battery_kw=battery_kw, generation_limit_kw={}, vehicle_kw=vehicle_kw)


def _drawing_less(site: Site, course: Course, stored_kwh: Mapping[str, float], excess_kw: float) -> Course:
    vehicle_kw, battery_kw = dict(course.vehicle_kw), dict(course.battery_kw)
    for vehicle in site.vehicles:
        if excess_kw <= 0.0 or vehicle.name not in vehicle_kw:
            continue
        left_kw = max(0.0, vehicle_kw[vehicle.name] - excess_kw)
        left_kw = left_kw if left_kw >= vehicle.charge_min_kw else 0.0
        excess_kw -= vehicle_kw[vehicle.name] - left_kw
        vehicle_kw[vehicle.name] = left_kw
    for battery in site.batteries:
        if excess_kw <= 0.0 or not site.consents.control_storage:
            continue
        now_kw = battery_kw.get(battery.name, 0.0)
        least_kw = -battery.discharge_limit_kw if stored_kwh.get(battery.name, 0.0) > 0.0 else 0.0
        less_kw = min(max(now_kw - excess_kw, least_kw), now_kw)
        excess_kw -= now_kw - less_kw
        battery_kw[battery.name] = less_kw
    return replace(course, vehicle_kw=vehicle_kw, battery_kw=battery_kw)


def _feeding_less(site: Site, course: Course, stored_kwh: Mapping[str, float], surplus_kw: float) -> Course:
    battery_kw = dict(course.battery_kw)
    for battery in site.batteries:
        if surplus_kw <= 0.0 or not site.consents.control_storage:
            continue
        now_kw = battery_kw.get(battery.name, 0.0)
        most_kw = battery.charge_limit_kw if _has_room(battery, stored_kwh) else max(now_kw, 0.0)
        more_kw = max(min(now_kw + surplus_kw, most_kw), now_kw)
        surplus_kw -= more_kw - now_kw
        battery_kw[battery.name] = more_kw
    return replace(course, battery_kw=battery_kw)


def _has_room(battery: BatteryAsset, stored_kwh: Mapping[str, float]) -> bool:
    stored = stored_kwh.get(battery.name)
    return stored is not None and stored < 0.995 * battery.capacity_kwh
