"""Battery: losses in, losses out, losses while standing, a band it should stay in, wear."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import (
    BoolArray,
    Check,
    CodeArray,
    FloatArray,
    Series,
    after,
    freeze,
    mean_over,
    weighted,
)
from optimizer.formulation.builder import (
    AT_LOWER,
    AT_UPPER,
    BASIC,
    Expr,
    SiteModel,
    Values,
    Vector,
    clash,
    direction_share,
)
from optimizer.formulation.site import ramp, slope_of
from optimizer.ladder import LADDER
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import StoreSchedule

if TYPE_CHECKING:
    from optimizer.audit import AuditReport


@dataclass(frozen=True, kw_only=True, slots=True)
class WearSegment:
    """A slice of the depth of discharge with its own wear."""

    share_frac: float
    """Share of the capacity this slice covers."""
    wear_per_kwh: float
    """Wear per kWh discharged from this slice [currency/kWh]; deeper slices must not be cheaper."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Battery(Asset):
    """A stationary battery; `stored_kwh` is data and may lie anywhere, also outside the band."""

    capacity_kwh: float
    """Energy it can hold [kWh]; 0 is allowed and means it does nothing."""
    stored_kwh: float
    """Energy in it now [kWh]."""
    charge_limit_kw: Series
    """Power it can draw, at its terminals [kW], scalar or (T,)."""
    discharge_limit_kw: Series
    """Power it can give, at its terminals [kW], scalar or (T,)."""
    charge_efficiency_frac: float = 0.95
    """Stored per drawn."""
    discharge_efficiency_frac: float = 0.95
    """Given per taken from the store."""
    standby_loss_frac_per_h: float = 0.0
    """Share of the stored energy lost per hour [1/h]."""
    band_min_kwh: Series = 0.0
    """Reserve it should keep [kWh], scalar or (T,) for the fence post after each interval: soft."""
    band_max_kwh: Series | None = None
    """Level it should not pass [kWh], scalar or (T,) as above: soft; None is the capacity."""
    band_price_per_kwh_h: float | None = None
    """Price of being below the band [currency per kWh and hour]; None takes the ladder's `reserve`."""
    end_value_per_kwh: float | None = None
    """Value of energy left at the end [currency/kWh]; None: mean import price times discharge efficiency, at least 0."""
    wear_per_kwh: float = 0.0
    """Wear per kWh discharged at the terminals [currency/kWh]."""
    wear_segments: tuple[WearSegment, ...] = ()
    """Convex wear by depth of discharge, shallow slice first; empty: `wear_per_kwh` alone."""
    inverter: str | None = None
    """Hybrid inverter it hangs behind (DC-coupled); None: at the site bus."""
    asked_kw: FloatArray | None = None
    """Net consumption at its terminals that people asked for [kW, charging +], (T,); nan where nobody did.

    How much is soft; it never moves the other way."""

    def __post_init__(self) -> None:
        freeze(
            self,
            "capacity_kwh",
            "stored_kwh",
            "charge_limit_kw",
            "discharge_limit_kw",
            "charge_efficiency_frac",
            "discharge_efficiency_frac",
            "standby_loss_frac_per_h",
            "band_min_kwh",
            "band_max_kwh",
            "band_price_per_kwh_h",
            "end_value_per_kwh",
            "wear_per_kwh",
            "asked_kw",
        )

    def validate(self, check: Check) -> None:
        """Capacities and limits not negative, efficiencies in (0, 1], wear not falling with depth."""
        check.number("capacity_kwh", self.capacity_kwh, least=0.0)
        check.number("stored_kwh", self.stored_kwh, least=0.0)
        check.number("charge_limit_kw", self.charge_limit_kw, least=0.0)
        check.number("discharge_limit_kw", self.discharge_limit_kw, least=0.0)
        check.number("charge_efficiency_frac", self.charge_efficiency_frac, above=0.0, most=1.0)
        check.number("discharge_efficiency_frac", self.discharge_efficiency_frac, above=0.0, most=1.0)
        check.number("standby_loss_frac_per_h", self.standby_loss_frac_per_h, least=0.0, most=0.999)
        check.number("band_min_kwh", self.band_min_kwh, least=0.0)
        check.number("wear_per_kwh", self.wear_per_kwh, least=0.0)
        if self.band_max_kwh is not None:
            check.number("band_max_kwh", self.band_max_kwh, least=0.0)
        if self.band_price_per_kwh_h is not None:
            check.number("band_price_per_kwh_h", self.band_price_per_kwh_h, least=0.0)
        if self.end_value_per_kwh is not None:
            check.number("end_value_per_kwh", self.end_value_per_kwh)
        if self.asked_kw is not None:
            check.number("asked_kw", np.nan_to_num(self.asked_kw), length=check.intervals)
        wear = [segment.wear_per_kwh for segment in self.wear_segments]
        if wear != sorted(wear) or (wear and wear[0] < 0):
            check.refuse("wear_segments", wear, "deeper slices must not be cheaper")
        if wear and abs(sum(segment.share_frac for segment in self.wear_segments) - 1.0) > 1e-9:
            check.refuse(
                "wear_segments", [s.share_frac for s in self.wear_segments], "shares must add up to 1"
            )

    def shape(self, problem: DispatchProblem) -> Hashable:
        """Whether it leaks, where it hangs, how many wear slices, which ends of its band are inside its capacity."""
        inverter = None
        if self.inverter is not None:
            inverter = problem.position(self.inverter)
        return BatteryShape(
            leaks=self.standby_loss_frac_per_h > 0.0,
            inverter=inverter,
            segments=len(self.wear_segments),
            has_floor=self._has_floor(),
            has_ceiling=self.band_max_kwh is not None,
            is_asked=self.asked_kw is not None,
        )

    @classmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Write a battery."""
        charge = site.variable(key, "charge")
        discharge = site.variable(key, "discharge")
        stored = site.variable(key, "stored")
        add_power_limits(site, key, charge, discharge)
        add_stored_balance(site, key, charge, discharge, stored, leaks=shape.leaks)
        add_band(site, key, stored, has_floor=shape.has_floor, has_ceiling=shape.has_ceiling)
        if shape.is_asked:
            add_asked_power(site, key, charge, discharge)
        if shape.segments:
            add_wear_segments(site, key, charge, discharge, stored, segments=shape.segments)
        site.prefer(key, "charge", charge)
        site.prefer(key, "discharge", discharge)
        site.cost(site.parameter(key, "discharge_cost"), discharge)
        site.cost(site.parameter(key, "end_cost", 1), stored[-1:])
        if site.asks_whole(key, "charging"):
            add_one_direction(site, key, charge, discharge)
        net = [discharge[t] - charge[t] for t in range(site.intervals)]
        if shape.inverter is None:
            site.feed(key, net)
        else:
            site.feed_dc(f"a{shape.inverter}", net)

    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers of the equations above."""
        hours = problem.hours
        stored = self.stored_kwh
        keep = self._kept_frac(hours)
        top = np.maximum(self.capacity_kwh, stored)
        ceiling = top if self.band_max_kwh is None else _within(self.band_max_kwh, self.capacity_kwh)
        floor = _within(self.band_min_kwh, self.capacity_kwh)
        numbers: dict[str, Series] = {
            "charge_limit_kw": self.charge_limit_kw,
            "discharge_limit_kw": self.discharge_limit_kw,
            "gain_h": hours * self.charge_efficiency_frac,
            "drain_h": hours / self.discharge_efficiency_frac,
            "keep_frac": keep if isinstance(keep, float) else keep[..., 1:],
            "carried_kwh": stored * (keep if isinstance(keep, float) else keep[..., :1]),
            "top_kwh": top,
            "floor_kwh": floor,
            "ceiling_kwh": ceiling,
            "floor_cost": self._band_price(problem) * hours,
            "ceiling_cost": 0.1 * self._band_price(problem) * hours,
            "tie_charge": ramp(problem, slope_of(self.name, "charge")),
            "tie_discharge": ramp(problem, slope_of(self.name, "discharge")),
            "discharge_cost": hours * self.wear_per_kwh,
            "end_cost": -end_value(self, problem),
        }
        if self.asked_kw is not None:
            asked = ~np.isnan(self.asked_kw)
            numbers |= {
                # asked to charge it never discharges to have room again, and the other way round
                "charge_limit_kw": np.where(asked & ~(self.asked_kw > 0.0), 0.0, self.charge_limit_kw),
                "discharge_limit_kw": np.where(asked & ~(self.asked_kw < 0.0), 0.0, self.discharge_limit_kw),
                "asked_kw": np.where(asked, self.asked_kw, 0.0),
                "asked_cost": np.where(asked, self._override_price(problem), 0.0) * hours,
            }
        for k, (wear, size, first) in enumerate(_segments(self)):
            numbers |= {
                f"slice{k}_cost": hours * wear,
                f"slice{k}_kwh": size,
                f"slice{k}_carried_kwh": first * (keep if isinstance(keep, float) else keep[0]),
            }
        return numbers

    def stacks(self) -> bool:
        """Yes, but for wear by depth, which goes slice by slice."""
        return not self.wear_segments

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """Its power limits; nothing at the bus when it hangs behind an inverter."""
        if self.inverter is not None:
            return 0.0, 0.0
        return self.charge_limit_kw, self.discharge_limit_kw

    def needs_soft(self, problem: DispatchProblem) -> bool:
        """True if it stands outside its band now."""
        top = self.capacity_kwh if self.band_max_kwh is None else self.band_max_kwh
        least = self.band_min_kwh
        low = self.stored_kwh < min(
            self.capacity_kwh, least if isinstance(least, float) else float(least.max())
        )
        return low or (self.band_max_kwh is not None and self.stored_kwh > float(np.min(top)))

    def lean_holds(self, problem: DispatchProblem, values: Values) -> bool:
        """True if no kWh beyond the band would have been worth its price."""
        if self.band_max_kwh is None and isinstance(self.band_min_kwh, float) and self.band_min_kwh <= 0.0:
            return True
        slope = values.column_dual("stored")
        price = self._band_price(problem) * problem.hours
        return bool((slope <= price).all() and (self.band_max_kwh is None or (-slope <= 0.1 * price).all()))

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Where it charges and discharges at once."""
        both = clash(values.column("charge"), values.column("discharge"))
        return {} if both is None else {"charging": both}

    def shares(self, problem: DispatchProblem, values: Values) -> Mapping[str, FloatArray]:
        """A direction where it charges and discharges at once."""
        return {"charging": direction_share(values.column("charge"), values.column("discharge"))}

    def unplanned(
        self, problem: DispatchProblem, left_kw: FloatArray
    ) -> tuple[Mapping[str, int | CodeArray], FloatArray] | None:
        """It moves wherever that pays at the worth of energy left at the end, as if it could hold any amount.

        Only the bounds of the stored energy are missed then, and the reduced costs are those of an optimum.
        """
        if self.wear_segments or self.inverter is not None or self.asked_kw is not None:
            return None
        buys, sells = problem.prices.import_per_kwh, problem.prices.export_per_kwh
        worth = end_value(self, problem)
        worth_in = worth * self.charge_efficiency_frac
        worth_out = worth / self.discharge_efficiency_frac + self.wear_per_kwh
        takes = (left_kw < 0.0) & (sells < worth_in) | np.less(buys, worth_in)
        gives = (left_kw > 0.0) & (buys > worth_out) | np.greater(sells, worth_out)
        after_kw = left_kw + takes * self.charge_limit_kw - gives * self.discharge_limit_kw
        settles = left_kw * after_kw < 0.0
        moved = np.where(
            settles & np.greater_equal(buys, worth_in) & np.less_equal(sells, worth_out), BASIC, AT_UPPER
        )
        codes: dict[str, int | CodeArray] = {
            "charge": np.where(takes, moved, AT_LOWER),
            "discharge": np.where(gives, moved, AT_LOWER),
            "stored": BASIC,
        }
        return codes, np.where(moved == BASIC, np.nan, after_kw)

    def read(self, problem: DispatchProblem, values: Values) -> BatterySchedule:
        """Charge, discharge, stored energy and its value."""
        charge, discharge = values.column("charge"), values.column("discharge")
        keep = self._kept_frac(problem.hours[..., :1])
        value = -values.row_dual("stored_balance")
        return BatterySchedule(
            name=self.name,
            net_consumption_kw=charge - discharge if self.inverter is None else np.zeros(problem.intervals),
            charge_kw=charge,
            discharge_kw=discharge,
            stored_kwh=after(self.stored_kwh, values.column("stored")),
            stored_value_per_kwh=after(value[..., :1] * keep, value),
        )

    def audit(self, problem: DispatchProblem, schedule: BatterySchedule, report: AuditReport) -> None:
        """Energy in = energy out + losses + what is left; ratings; never both directions; wear and end value."""
        hours, name = problem.hours, self.name
        charge, discharge, stored = schedule.charge_kw, schedule.discharge_kw, schedule.stored_kwh
        kept = stored[..., :-1] * self._kept_frac(hours)
        flow = self.charge_efficiency_frac * charge - discharge / self.discharge_efficiency_frac
        report.zero(name, "stored_balance", stored[..., 1:] - kept - hours * flow, unit="kWh")
        report.within(name, "charge_limit", charge, most=self.charge_limit_kw)
        report.within(name, "discharge_limit", discharge, most=self.discharge_limit_kw)
        report.within(name, "stored", stored, most=np.maximum(self.capacity_kwh, self.stored_kwh), unit="kWh")
        report.apart(name, "charge_and_discharge", charge, discharge)
        if self.inverter is None:
            report.zero(name, "net_consumption", schedule.net_consumption_kw - (charge - discharge))
        report.zero(name, "stored_now", stored[..., :1] - self.stored_kwh, unit="kWh")
        price = self._band_price(problem)
        if self._has_floor():
            floor = _within(self.band_min_kwh, self.capacity_kwh)
            report.wish("reserve", name, floor - stored[..., 1:], hours, price, unit="kWh h")
        if self.band_max_kwh is not None:
            ceiling = np.minimum(self.band_max_kwh, self.capacity_kwh)
            report.wish("band_max", name, stored[..., 1:] - ceiling, hours, 0.1 * price, unit="kWh h")
        if self.asked_kw is not None:
            missed = np.nan_to_num(np.abs(charge - discharge - self.asked_kw))
            report.wish("override", name, missed, hours, self._override_price(problem), unit="kWh")
        report.charge("wear", name, weighted(hours * discharge, self.wear_per_kwh))
        if self.wear_segments:
            report.charge("wear_depth", name, _wear_by_depth(self, schedule, hours))
        report.charge(
            "end_value", name, -weighted(stored[..., -1:], end_value(self, problem)), is_money=False
        )

    def _kept_frac(self, hours: FloatArray) -> Series:
        """Share of the stored energy that is left after so many hours."""
        loss = self.standby_loss_frac_per_h
        return 1.0 if isinstance(loss, float) and loss == 0.0 else (1.0 - loss) ** hours

    def _has_floor(self) -> bool:
        least = self.band_min_kwh
        return least > 0.0 if isinstance(least, float) else bool((least > 0.0).any())

    def _override_price(self, problem: DispatchProblem) -> FloatArray:
        """Price of each kWh away from what was asked [currency/kWh], (T,); falling, so that what fits is done at once."""
        sooner = 2.0 - np.arange(problem.intervals) / problem.intervals
        return LADDER.override * problem.price_scale * sooner

    def _band_price(self, problem: DispatchProblem) -> float:
        if self.band_price_per_kwh_h is not None:
            return self.band_price_per_kwh_h
        return LADDER.reserve * problem.price_scale


@dataclass(frozen=True, slots=True)
class BatteryShape:
    """Structure of a battery's equations."""

    leaks: bool
    inverter: int | None
    segments: int
    has_floor: bool
    has_ceiling: bool
    is_asked: bool


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BatterySchedule(StoreSchedule):
    """What a battery does."""


def add_power_limits(site: SiteModel, key: str, charge: Vector, discharge: Vector) -> None:
    """charge[t] <= charge_limit[t]; discharge[t] <= discharge_limit[t]."""
    most_in = site.parameter(key, "charge_limit_kw")
    most_out = site.parameter(key, "discharge_limit_kw")
    site.rows(key, "charge_limit", lambda t: charge[t] <= most_in[t])
    site.rows(key, "discharge_limit", lambda t: discharge[t] <= most_out[t])


def add_stored_balance(
    site: SiteModel, key: str, charge: Vector, discharge: Vector, stored: Vector, *, leaks: bool
) -> None:
    """stored[t+1] = keep[t] * stored[t] + hours[t] * (eff_in * charge[t] - discharge[t] / eff_out).

    `stored[0]` is data: it enters as `carried = keep[0] * stored_now`. keep[t] = (1 - loss)^hours[t].
    """
    gain = site.parameter(key, "gain_h")
    drain = site.parameter(key, "drain_h")
    carried = site.parameter(key, "carried_kwh", 1)
    keep = site.parameter(key, "keep_frac", site.intervals - 1) if leaks else [1.0] * (site.intervals - 1)

    def balance(t: int) -> Expr:
        flow = gain[t] * charge[t] - drain[t] * discharge[t]
        if t == 0:
            return stored[0] - flow == carried[0]
        return stored[t] - keep[t - 1] * stored[t - 1] - flow == 0.0

    site.rows(key, "stored_balance", balance)


def add_band(site: SiteModel, key: str, stored: Vector, *, has_floor: bool, has_ceiling: bool) -> None:
    """stored[t] <= capacity; soft: stored[t] + below[t] >= floor[t], stored[t] - above[t] <= ceiling[t].

    Lean: floor[t] <= stored[t] <= ceiling[t] as bounds; exact while the reduced cost of the bound stays below the
    price of breaking it (checked by `lean_holds`).
    """
    top = site.parameter(key, "top_kwh" if site.soft else "ceiling_kwh")
    site.rows(key, "top", lambda t: stored[t] <= top[t])
    if not site.soft:
        if has_floor:
            for variable in stored:
                variable.setlb(None)
            floor = site.parameter(key, "floor_kwh")
            site.rows(key, "floor", lambda t: stored[t] >= floor[t])
        return
    if has_floor:
        floor = site.parameter(key, "floor_kwh")
        below = site.variable(key, "below")
        site.rows(key, "floor", lambda t: stored[t] + below[t] >= floor[t])
        site.cost(site.parameter(key, "floor_cost"), below)
    if has_ceiling:
        ceiling = site.parameter(key, "ceiling_kwh")
        above = site.variable(key, "above")
        site.rows(key, "ceiling", lambda t: stored[t] - above[t] <= ceiling[t])
        site.cost(site.parameter(key, "ceiling_cost"), above)


def add_asked_power(site: SiteModel, key: str, charge: Vector, discharge: Vector) -> None:
    """charge[t] - discharge[t] - over[t] + short[t] = asked[t]; both are paid where somebody asked, else free."""
    asked = site.parameter(key, "asked_kw")
    price = site.parameter(key, "asked_cost")
    over, short = site.variable(key, "over"), site.variable(key, "short")
    site.rows(key, "asked", lambda t: charge[t] - discharge[t] - over[t] + short[t] == asked[t])
    site.cost(price, over)
    site.cost(price, short)


def add_one_direction(site: SiteModel, key: str, charge: Vector, discharge: Vector) -> None:
    """charge[t] <= charge_limit[t] * charging[t]; discharge[t] <= discharge_limit[t] * (1 - charging[t])."""
    charging = site.binary(key, "charging", direction=True)
    most_in = site.parameters[key, "charge_limit_kw"]
    most_out = site.parameters[key, "discharge_limit_kw"]
    site.rows(key, "charging", lambda t: charge[t] <= most_in[t] * charging[t])
    site.rows(key, "discharging", lambda t: discharge[t] <= most_out[t] - most_out[t] * charging[t])


def add_wear_segments(
    site: SiteModel, key: str, charge: Vector, discharge: Vector, stored: Vector, *, segments: int
) -> None:
    """Slices: charge = sum of charge_k, discharge = sum of discharge_k, stored = sum of slice_k, each slice its own balance.

    slice_k[t+1] = slice_k[t] + hours[t] * (eff_in * charge_k[t] - discharge_k[t] / eff_out), 0 <= slice_k <= size_k;
    wear_k * discharge_k is paid. Shallow slices are cheaper, so they move first: cycle depth as in Xu et al.,
    "Factoring the Cycle Aging Cost of Batteries Participating in Electricity Markets", IEEE Trans. Power Syst. 33
    (2018). Standby loss is taken from the slices alike.
    """
    gain, drain = site.parameters[key, "gain_h"], site.parameters[key, "drain_h"]
    keep: Vector = site.parameters.get((key, "keep_frac"), [1.0] * (site.intervals - 1))
    parts = []
    for k in range(segments):
        into = site.variable(key, f"slice{k}_charge")
        out = site.variable(key, f"slice{k}_discharge")
        held = site.variable(key, f"slice{k}_stored")
        size = site.parameter(key, f"slice{k}_kwh")
        carried = site.parameter(key, f"slice{k}_carried_kwh", 1)

        def fits(t: int, held: Vector = held, size: Vector = size) -> Expr:
            return held[t] <= size[t]

        def balance(
            t: int, into: Vector = into, out: Vector = out, held: Vector = held, c: Vector = carried
        ) -> Expr:
            flow = gain[t] * into[t] - drain[t] * out[t]
            return held[t] - flow == c[0] if t == 0 else held[t] - keep[t - 1] * held[t - 1] - flow == 0.0

        site.rows(key, f"slice{k}_size", fits)
        site.rows(key, f"slice{k}_balance", balance)
        site.cost(site.parameter(key, f"slice{k}_cost"), out)
        parts.append((into, out))
    site.rows(key, "slices_charge", lambda t: charge[t] - sum(into[t] for into, _ in parts) == 0.0)
    site.rows(key, "slices_discharge", lambda t: discharge[t] - sum(out[t] for _, out in parts) == 0.0)
    _ = stored


def _within(level: Series, capacity: float) -> Series:
    within: Series = np.minimum(level, capacity)
    return within


def end_value(battery: Battery, problem: DispatchProblem) -> Series:
    """Value of one stored kWh at the end of the horizon [currency/kWh]."""
    if battery.end_value_per_kwh is not None:
        return battery.end_value_per_kwh
    price = problem.prices.import_per_kwh
    mean = price if isinstance(price, float) else mean_over(problem.hours, price)
    worth: Series = np.maximum(0.0, mean) * battery.discharge_efficiency_frac
    return worth


def _segments(battery: Battery) -> list[tuple[float, float, float]]:
    """Wear, size and first filling of each slice, shallow first; a resting battery is filled from the deepest."""
    left = battery.stored_kwh
    slices = []
    for segment in reversed(battery.wear_segments):
        size = segment.share_frac * battery.capacity_kwh
        first = min(left, size)
        left -= first
        slices.append((segment.wear_per_kwh, size, first))
    if slices and left > 0:
        wear, size, first = slices[-1]
        slices[-1] = (wear, size + left, first + left)
    return slices[::-1]


def _wear_by_depth(battery: Battery, schedule: BatterySchedule, hours: FloatArray) -> float:
    """Wear of a schedule when the cheapest slice that holds energy gives, and the shallowest with room takes."""
    slices = _segments(battery)
    held = [first for _, _, first in slices]
    total = 0.0
    for t, length in enumerate(hours):
        keep = (1.0 - battery.standby_loss_frac_per_h) ** float(length)
        held = [energy * keep for energy in held]
        taken = float(schedule.charge_kw[t] * battery.charge_efficiency_frac * length)
        given = float(schedule.discharge_kw[t] / battery.discharge_efficiency_frac * length)
        for k, (wear, size, _) in enumerate(slices):
            put = min(taken, size - held[k])
            held[k] += put
            taken -= put
            got = min(given, held[k])
            held[k] -= got
            given -= got
            total += wear * got * battery.discharge_efficiency_frac
    return total
