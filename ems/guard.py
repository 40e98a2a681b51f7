"""Limits come first: what a course would do to the connection, and what keeps it within. Pure.

Plain arithmetic on what the meter shows, beside the optimiser on purpose: it holds when a forecast was wrong, when a
device does not do what it was told, and while a site runs on its devices' own modes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ems.orders import Standing
from ems.setpoints import Course, with_targets
from ems.site import BatteryAsset, Role, Site
from ems.state import SitePowers, SiteState, total

MARGIN_KW = 0.05
"""A limit is aimed at from this far below it [kW], so that neither noise nor a setpoint's dead band breaks it."""

TOLERANCE_KW = 1e-3
"""A course that lands on a limit by calculation is within it [kW]."""


def bounded_course(site: Site, course: Course | None, state: SiteState, counts: Standing) -> Course | None:
    """Return what a site is to do: a course with what people ask put in, bent to the limits that count.

    None leaves it to its devices: people paused it, or too little is known to steer.
    """
    if not state.steerable:
        return None
    if counts.paused is not None:
        return own_mode_within_limits(site, state.powers, state.stored_kwh, counts)
    if state.islanded:
        return course  # the inverter keeps the balance of an island, and no connection carries anything
    asked = with_targets(site, course, counts)
    return None if asked is None else within_limits(site, asked, state.powers, state.stored_kwh, counts)


def within_limits(
    site: Site, course: Course, powers: SitePowers, stored_kwh: Mapping[str, float], standing: Standing
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
    here = _Connection.of(site, powers)
    if here is None:
        return course
    net_kw = here.net_import_kw(course)
    if net_kw > standing.import_limit.kw + TOLERANCE_KW:
        return _drawing_less(here, course, stored_kwh, most_kw=standing.import_limit.kw - MARGIN_KW)
    if -net_kw > standing.export_limit.kw + TOLERANCE_KW:
        return _feeding_less(here, course, stored_kwh, most_kw=standing.export_limit.kw - MARGIN_KW)
    return course


def own_mode_within_limits(
    site: Site, powers: SitePowers, stored_kwh: Mapping[str, float], standing: Standing
) -> Course | None:
    """Return what a paused site does: its devices' own mode, steered only as far as somebody's limit asks for.

    None: nothing is known that would allow to say more than own mode.
    """
    here = _Connection.of(site, powers)
    if here is None:
        return None
    own = _own_course(here, stored_kwh)
    kept = within_limits(site, own, powers, stored_kwh, standing)
    return replace(own, battery_kw={}) if kept is own else kept


@dataclass(frozen=True, kw_only=True, slots=True)
class _Connection:
    """What the connection carries for a course, from what the meter shows now."""

    site: Site
    pv_kw: Mapping[str, float]
    """Solar power behind each hybrid inverter, by device [kW]."""
    fixed_kw: float
    """Net import without what is steered and what hybrid inverters feed [kW]."""

    @classmethod
    def of(cls, site: Site, powers: SitePowers) -> "_Connection | None":
        """Take away from the meter what is steered; None where one of it is unknown."""
        vehicle_kw = total(powers.vehicle_kw) if site.consents.control_vehicle else 0.0
        hybrids = [name for name, device in site.devices.items() if device.role is Role.HYBRID_INVERTER]
        pv_kw = {
            name: total({pv.name: powers.pv_kw.get(pv.name) for pv in site.pvs if pv.device == name})
            for name in hybrids
        }
        known_pv_kw = {name: kw for name, kw in pv_kw.items() if kw is not None}
        battery_kw = {name: kw for name, kw in powers.battery_kw.items() if kw is not None}
        known = len(battery_kw) == len(powers.battery_kw) and len(known_pv_kw) == len(pv_kw)
        if powers.net_import_kw is None or vehicle_kw is None or not known:
            return None
        idle = cls(site=site, pv_kw=known_pv_kw, fixed_kw=0.0)
        steered_kw = idle.net_import_kw(
            Course(battery_kw=battery_kw, generation_limit_kw={}, vehicle_kw={"all": vehicle_kw})
        )
        return replace(idle, fixed_kw=powers.net_import_kw - steered_kw)

    def net_import_kw(self, course: Course) -> float:
        """Return what the connection would carry [kW, import +]."""
        drawn_kw = self.fixed_kw + sum(course.vehicle_kw.values())
        for battery in self.site.batteries:
            if battery.device not in self.pv_kw:
                drawn_kw += course.battery_kw.get(battery.name, 0.0)
        return drawn_kw - sum(self._feeds_kw(device, course.battery_kw) for device in self.pv_kw)

    def battery_for(self, battery: BatteryAsset, course: Course, net_import_kw: float) -> float:
        """Return the power of a battery [kW, charging +] with which the connection carries `net_import_kw`."""
        now_kw = course.battery_kw.get(battery.name, 0.0)
        more_kw = net_import_kw - self.net_import_kw(course)
        if battery.device not in self.pv_kw:
            return now_kw + more_kw
        eff = self.site.devices[battery.device].conversion_eff_frac
        feeds_kw = self._feeds_kw(battery.device, course.battery_kw) - more_kw
        dc_kw = feeds_kw / eff if feeds_kw >= 0.0 else feeds_kw * eff
        return now_kw + self._dc_kw(battery.device, course.battery_kw) - dc_kw

    def _dc_kw(self, device: str, battery_kw: Mapping[str, float]) -> float:
        behind = [battery.name for battery in self.site.batteries if battery.device == device]
        return self.pv_kw[device] - sum(battery_kw.get(name, 0.0) for name in behind)

    def _feeds_kw(self, device: str, battery_kw: Mapping[str, float]) -> float:
        """Return the AC power a hybrid inverter feeds, from what is on its DC side."""
        eff, dc_kw = self.site.devices[device].conversion_eff_frac, self._dc_kw(device, battery_kw)
        return dc_kw * eff if dc_kw >= 0.0 else dc_kw / eff


def _own_course(here: _Connection, stored_kwh: Mapping[str, float]) -> Course:
    """Return what the devices do by themselves: vehicles charge in full, batteries serve what is left."""
    vehicles = here.site.vehicles if here.site.consents.control_vehicle else ()
    course = Course(
        battery_kw={},
        generation_limit_kw={},
        vehicle_kw={vehicle.name: vehicle.charge_limit_kw for vehicle in vehicles},
    )
    for battery in here.site.batteries:
        floor_kwh = battery.reserve_frac * battery.capacity_kwh
        gives_kw = battery.discharge_limit_kw if stored_kwh.get(battery.name, 0.0) > floor_kwh else 0.0
        takes_kw = battery.charge_limit_kw if _has_room(battery, stored_kwh) else 0.0
        kw = min(max(here.battery_for(battery, course, 0.0), -gives_kw), takes_kw)
        course = replace(course, battery_kw={**course.battery_kw, battery.name: kw})
    return course


def _drawing_less(
    here: _Connection, course: Course, stored_kwh: Mapping[str, float], *, most_kw: float
) -> Course:
    for vehicle in here.site.vehicles:
        excess_kw = here.net_import_kw(course) - most_kw
        if excess_kw <= 0.0 or vehicle.name not in course.vehicle_kw:
            continue
        left_kw = max(0.0, course.vehicle_kw[vehicle.name] - excess_kw)
        left_kw = left_kw if left_kw >= vehicle.charge_min_kw else 0.0
        course = replace(course, vehicle_kw={**course.vehicle_kw, vehicle.name: left_kw})
    for battery in here.site.batteries if here.site.consents.control_storage else ():
        if here.net_import_kw(course) <= most_kw:
            continue
        now_kw = course.battery_kw.get(battery.name, 0.0)
        gives_kw = battery.discharge_limit_kw if stored_kwh.get(battery.name, 0.0) > 0.0 else 0.0
        kw = min(max(here.battery_for(battery, course, most_kw), -gives_kw), now_kw)
        course = replace(course, battery_kw={**course.battery_kw, battery.name: kw})
    return course


def _feeding_less(
    here: _Connection, course: Course, stored_kwh: Mapping[str, float], *, most_kw: float
) -> Course:
    for battery in here.site.batteries if here.site.consents.control_storage else ():
        if -here.net_import_kw(course) <= most_kw:
            continue
        now_kw = course.battery_kw.get(battery.name, 0.0)
        takes_kw = battery.charge_limit_kw if _has_room(battery, stored_kwh) else max(now_kw, 0.0)
        kw = max(min(here.battery_for(battery, course, -most_kw), takes_kw), now_kw)
        course = replace(course, battery_kw={**course.battery_kw, battery.name: kw})
    return course


def _has_room(battery: BatteryAsset, stored_kwh: Mapping[str, float]) -> bool:
    stored = stored_kwh.get(battery.name)
    return stored is not None and stored < 0.995 * battery.capacity_kwh
