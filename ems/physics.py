"""Mean powers of a site over one interval, given how its storage is steered: the plant of the simulation.

Independent of the optimiser's formulation on purpose; the two agree only because both are right.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ems.site import BatteryAsset, Role, Site

TOLERANCE_KW = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Steering:
    """How a site is steered for one interval."""

    battery_kw: Mapping[str, float] | None
    """Net consumption wished per battery, charging + [kW]; None leaves them to their own mode (self-consumption)."""
    pv_cap_kw: float | None = None
    """Most solar power to use [kW]; None uses all."""

    @classmethod
    def idle(cls, site: Site) -> "Steering":
        """Return storage at rest."""
        return cls(battery_kw={battery.name: 0.0 for battery in site.batteries})

    @classmethod
    def own_mode(cls, site: Site) -> "Steering":
        """Return every device in its own mode."""
        return cls(battery_kw=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Flows:
    """What flowed."""

    import_kw: float
    """Drawn from the grid, >= 0."""
    export_kw: float
    """Fed into the grid, >= 0."""
    pv_kw: float
    """Solar power used."""
    charged_kw: float
    """Into all batteries."""
    discharged_kw: float
    """Out of all batteries."""
    stored_kwh: Mapping[str, float]
    """Energy per battery at the end of the interval."""
    violated: bool
    """Whether a limit of the connection was broken."""


def mean_flows(
    site: Site,
    steering: Steering,
    *,
    load_kw: float,
    pv_kw: float,
    stored_kwh: Mapping[str, float],
    hours: float,
) -> Flows:
    """Return what flows in one interval.

    A battery gives and takes what it is asked for as far as limits and filling allow. Behind a hybrid inverter solar and
    battery powers are on its DC side and share its rating. Solar power is held back only where the export limit or the
    rating leaves no other way.
    """
    hybrid = [device for device in site.devices.values() if device.role is Role.HYBRID_INVERTER]
    eff = hybrid[0].conversion_eff_frac if hybrid else 1.0
    rating_kw = (hybrid[0].rated_kw or float("inf")) if hybrid else float("inf")
    used_kw = pv_kw if steering.pv_cap_kw is None else min(pv_kw, steering.pv_cap_kw)
    charge_kw: dict[str, float] = {}
    discharge_kw: dict[str, float] = {}
    deficit_kw = load_kw / eff - used_kw
    for battery in site.batteries:
        if battery.name not in stored_kwh:
            continue
        wished = (
            deficit_of(battery, deficit_kw, stored_kwh[battery.name], hours)
            if steering.battery_kw is None
            else steering.battery_kw.get(battery.name, 0.0)
        )
        charge_kw[battery.name] = _taken(battery, wished, stored_kwh[battery.name], hours)
        discharge_kw[battery.name] = _given(battery, wished, stored_kwh[battery.name], hours)
        deficit_kw += charge_kw[battery.name] - discharge_kw[battery.name]
    dc_kw = used_kw + sum(discharge_kw.values()) - sum(charge_kw.values())
    excess_kw = max(0.0, dc_kw * eff - rating_kw) / eff
    cut_kw = min(used_kw, excess_kw)
    used_kw -= cut_kw
    excess_kw -= cut_kw
    for name in discharge_kw:
        cut_kw = min(discharge_kw[name], excess_kw)
        discharge_kw[name] -= cut_kw
        excess_kw -= cut_kw
    lacking_kw = max(0.0, -dc_kw / eff - rating_kw) * eff
    for name in charge_kw:
        cut_kw = min(charge_kw[name], lacking_kw)
        charge_kw[name] -= cut_kw
        lacking_kw -= cut_kw
    dc_kw = used_kw + sum(discharge_kw.values()) - sum(charge_kw.values())
    net_kw = load_kw - (dc_kw * eff if dc_kw >= 0 else dc_kw / eff)
    over_kw = max(0.0, -net_kw - site.connection.export_limit_kw)
    if over_kw > 0.0 and site.consents.curtail_solar:
        cut_kw = min(used_kw, over_kw / eff)
        used_kw -= cut_kw
        net_kw += cut_kw * eff
    return Flows(
        import_kw=max(0.0, net_kw),
        export_kw=max(0.0, -net_kw),
        pv_kw=used_kw,
        charged_kw=sum(charge_kw.values()),
        discharged_kw=sum(discharge_kw.values()),
        stored_kwh={
            battery.name: stored_kwh[battery.name]
            + hours
            * (
                charge_kw[battery.name] * battery.charge_eff_frac
                - discharge_kw[battery.name] / battery.discharge_eff_frac
            )
            for battery in site.batteries
            if battery.name in charge_kw
        },
        violated=net_kw > site.connection.import_limit_kw + TOLERANCE_KW
        or -net_kw > site.connection.export_limit_kw + TOLERANCE_KW,
    )


def deficit_of(battery: BatteryAsset, deficit_kw: float, stored_kwh: float, hours: float) -> float:
    """Return what a battery in its own mode does about a deficit (+) or surplus (-) [kW, charging +], reserve kept."""
    if deficit_kw <= 0.0:
        return -deficit_kw
    spare_kwh = max(0.0, stored_kwh - battery.reserve_frac * battery.capacity_kwh)
    return -min(deficit_kw, spare_kwh * battery.discharge_eff_frac / hours)


def _taken(battery: BatteryAsset, wished_kw: float, stored_kwh: float, hours: float) -> float:
    room_kw = max(0.0, battery.capacity_kwh - stored_kwh) / (battery.charge_eff_frac * hours)
    return min(max(0.0, wished_kw), battery.charge_limit_kw, room_kw)


def _given(battery: BatteryAsset, wished_kw: float, stored_kwh: float, hours: float) -> float:
    there_kw = max(0.0, stored_kwh) * battery.discharge_eff_frac / hours
    return min(max(0.0, -wished_kw), battery.discharge_limit_kw, there_kw)
