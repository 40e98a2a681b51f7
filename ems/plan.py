"""Plan: what each site intends, with its source and its reasons; and the rule that plans when nothing better can. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ems.codec import FloatArray, IntArray


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
    `ready_by`, `negative_price`, `export_limit`, `rule`, `no_gain`."""
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
    batteries: Mapping[str, BatteryPlan]
    """By battery."""
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

    def usable_at(self, at: datetime) -> bool:
        """Tell whether it may still be acted on."""
        return self.issued_at <= at < self.valid_until and self.index_at(at) is not None
