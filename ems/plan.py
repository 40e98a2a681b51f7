"""Plan: what each site intends, with its source and its reasons; and the rule that plans when nothing better can. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np

from ems.codec import FloatArray, IntArray
from ems.outlook import SiteOutlook
from ems.site import BatteryAsset, Site

CURTAILED_KW = 0.01
"""Solar power held back below this is rounding, not a decision [kW]."""


class PlanSource(StrEnum):
    """Rung of the ladder of control a plan comes from; best first."""

    OPTIMAL = "optimal"
    """Solved and audited."""
    PREVIOUS = "previous"
    """An earlier audited plan, still valid."""
    RULE = "rule"
    """Store surplus, serve deficit; flagged."""


class Action(StrEnum):
    """What an asset does in an interval."""

    CHARGE = "charge"
    DISCHARGE = "discharge"
    HOLD = "hold"
    CURTAIL = "curtail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why an asset does what it does, as data; a sentence in Korean or English is made from it on the page."""

    asset: str
    """The asset."""
    start_at: datetime
    """First interval it holds for (aware UTC)."""
    action: Action
    """What it does."""
    code: str
    """Kind of reason: `store_surplus`, `store_for_later`, `serve_load`, `sell_now`, `keep_for_later`, `full`, `empty`,
    `ready_by`, `negative_price`, `export_limit`, `outage`, `rule`, `no_gain`."""
    later_at: datetime | None = None
    """The later instant it is done for, e.g. the evening peak (aware UTC)."""
    saving: float | None = None
    """What it is worth in this interval, in the site's currency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmet:
    """A wish the plan could not fulfil."""

    wish: str
    """Its name, e.g. `vehicle.departure_energy`."""
    amount: float
    """By how much it is missed."""
    unit: str
    """kWh, kW, degC or h."""
    cost: float
    """The price paid for missing it, in the site's currency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatteryPlan:
    """A battery over the horizon."""

    charge_kw: FloatArray
    """Drawn per interval [kW], shape (T,), >= 0."""
    discharge_kw: FloatArray
    """Given per interval [kW], shape (T,), >= 0."""
    stored_kwh: FloatArray
    """Energy at the interval boundaries [kWh], shape (T + 1,)."""
    value_per_kwh: FloatArray
    """What one more kWh in the store would be worth [1/kWh], shape (T,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one site intends over the horizon."""

    site_id: str
    """The site."""
    issued_at: datetime
    """When it was made (aware UTC)."""
    valid_until: datetime
    """After this nobody may act on it (aware UTC)."""
    source: PlanSource
    """Rung of the ladder it comes from."""
    cause: str | None
    """Why it is not optimal; None when it is."""
    starts_s: IntArray
    """Interval starts [epoch s], shape (T,)."""
    step_s: int
    """Interval length [s]."""
    import_kw: FloatArray
    """Drawn from the grid [kW], shape (T,), >= 0."""
    export_kw: FloatArray
    """Fed into the grid [kW], shape (T,), >= 0."""
    load_kw: FloatArray
    """Load it was made for [kW], shape (T,)."""
    pv_kw: Mapping[str, FloatArray]
    """Solar power used, by PV asset [kW], shape (T,) each."""
    inverter_kw: Mapping[str, FloatArray]
    """AC output per hybrid inverter, by device [kW], shape (T,) each, giving +."""
    batteries: Mapping[str, BatteryPlan]
    """By battery; powers of a battery behind a hybrid inverter are on its DC side."""
    vehicle_kw: Mapping[str, FloatArray]
    """Drawn by vehicles [kW], shape (T,) each, >= 0."""
    cost: Mapping[str, float]
    """Expected cost by term over the horizon, in the site's currency."""
    marginal_per_kwh: FloatArray
    """What one more kWh of load would cost [1/kWh], shape (T,)."""
    reasons: tuple[Reason, ...]
    """One per asset and change of course, in order of time."""
    unmet: tuple[Unmet, ...]
    """Wishes it could not fulfil."""
    solve_ms: float
    """Time spent solving this site [ms]."""
    pv_available_kw: Mapping[str, FloatArray] = field(default_factory=dict)
    """Solar power it counted on, by PV asset [kW], shape (T,) each; an asset that is not in it is never held back."""
    shed_kw: Mapping[str, FloatArray] = field(default_factory=dict)
    """What it cuts of loads that can be cut, by asset [kW], shape (T,) each; only planned for an island."""
    islanded: bool = False
    """Whether it was made for a site the grid does not carry."""

    @property
    def battery_kw(self) -> FloatArray:
        """Net consumption of all batteries [kW], charging +, shape (T,)."""
        net_kw = 0.0 * self.load_kw
        for battery in self.batteries.values():
            net_kw = net_kw + battery.charge_kw - battery.discharge_kw
        return net_kw

    def index_at(self, at: datetime) -> int | None:
        """Return the interval that holds `at`; None outside the horizon."""
        index = int((at.timestamp() - int(self.starts_s[0])) // self.step_s)
        return index if 0 <= index < len(self.starts_s) else None

    def holds_back(self, pv: str, at: datetime) -> bool:
        """Tell whether it uses less solar power of an asset at `at` than it counted on."""
        index = self.index_at(at)
        if index is None or pv not in self.pv_available_kw:
            return False
        return bool(self.pv_available_kw[pv][index] - self.pv_kw[pv][index] > CURTAILED_KW)

    def sheds(self, asset: str, at: datetime) -> bool:
        """Tell whether it cuts most of a load at `at`."""
        index = self.index_at(at)
        return index is not None and asset in self.shed_kw and bool(self.shed_kw[asset][index] > CURTAILED_KW)

    def reason_at(self, asset: str, at: datetime) -> Reason | None:
        """Return why an asset does what it does at `at`, or None when there is nothing to say."""
        begun = [reason for reason in self.reasons if reason.asset == asset and reason.start_at <= at]
        return begun[-1] if begun else None

    def usable_at(self, at: datetime) -> bool:
        """Tell whether it may still be acted on."""
        return self.issued_at <= at < self.valid_until and self.index_at(at) is not None


def rule_plan(
    site: Site,
    outlook: SiteOutlook,
    *,
    starts_s: IntArray,
    step_s: int,
    issued_at: datetime,
    valid_until: datetime,
    stored_kwh: Mapping[str, float],
    cause: str,
) -> Plan:
    """Plan by rule: store every surplus, serve every deficit; vehicles are their chargers' affair and not in its powers.

    This is also what an inverter does in its own mode, so a site on this rung is given back to its devices. A battery
    whose state is unknown is left out: it neither helps nor hurts the plan.
    """
    hours = step_s / 3600.0
    horizon = len(starts_s)
    load_kw = outlook.load.mean_kw
    pv_kw = {name: band.mean_kw for name, band in outlook.pv.items()}
    net_kw = load_kw - sum(pv_kw.values(), np.zeros(horizon))
    batteries = {}
    for battery in site.batteries:
        if battery.name not in stored_kwh:
            continue
        planned = self_consumption(battery, net_kw, hours, stored_kwh[battery.name])
        net_kw = net_kw + planned.charge_kw - planned.discharge_kw
        batteries[battery.name] = planned
    return Plan(
        site_id=site.id,
        issued_at=issued_at,
        valid_until=valid_until,
        source=PlanSource.RULE,
        cause=cause,
        starts_s=starts_s,
        step_s=step_s,
        import_kw=np.maximum(net_kw, 0.0),
        export_kw=np.maximum(-net_kw, 0.0),
        load_kw=load_kw,
        pv_kw=pv_kw,
        inverter_kw={},
        batteries=batteries,
        vehicle_kw={},
        cost={
            "import": float(np.sum(np.maximum(net_kw, 0.0) * outlook.buy_per_kwh) * hours),
            "export": -float(np.sum(np.maximum(-net_kw, 0.0) * outlook.sell_per_kwh) * hours),
        },
        marginal_per_kwh=outlook.buy_per_kwh,
        reasons=tuple(
            Reason(asset=battery.name, start_at=issued_at, action=Action.HOLD, code="rule")
            for battery in site.batteries
        ),
        unmet=(),
        solve_ms=0.0,
    )


def self_consumption(
    battery: BatteryAsset, net_kw: FloatArray, hours: float, stored_kwh: float
) -> BatteryPlan:
    """Follow the surplus or deficit `net_kw` (+ deficit) within the battery's limits, interval by interval."""
    charge_kw, discharge_kw = np.zeros(len(net_kw)), np.zeros(len(net_kw))
    level_kwh = np.full(len(net_kw) + 1, stored_kwh)
    floor_kwh = battery.reserve_frac * battery.capacity_kwh
    for t, deficit_kw in enumerate(net_kw):
        room_kw = max(0.0, battery.capacity_kwh - level_kwh[t]) / (hours * battery.charge_eff_frac)
        there_kw = max(0.0, level_kwh[t] - floor_kwh) * battery.discharge_eff_frac / hours
        charge_kw[t] = min(max(0.0, -deficit_kw), battery.charge_limit_kw, room_kw)
        discharge_kw[t] = min(max(0.0, deficit_kw), battery.discharge_limit_kw, there_kw)
        gained_kw = charge_kw[t] * battery.charge_eff_frac - discharge_kw[t] / battery.discharge_eff_frac
        level_kwh[t + 1] = level_kwh[t] + gained_kw * hours
    return BatteryPlan(
        charge_kw=charge_kw,
        discharge_kw=discharge_kw,
        stored_kwh=level_kwh,
        value_per_kwh=np.zeros(len(net_kw)),
    )
