"""Plan: the seam to the optimiser. Outlook and state to a problem, a solution back to a plan."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from ems.codec import FloatArray
from ems.orders import Order, Standing, standings
from ems.outlook import Outlook, SiteOutlook
from ems.physics import Steering
from ems.plan import Action, BatteryPlan, Plan, PlanSource, Reason, Unmet, rule_plan
from ems.readings import Quality
from ems.site import BatteryAsset, Role, Site, VehicleAsset
from ems.state import SiteState, VehicleState
from optimizer import (
    LADDER,
    Battery,
    DispatchProblem,
    DispatchSolution,
    GridConnection,
    HybridInverter,
    InvalidProblem,
    InverterSchedule,
    Prices,
    Pv,
    PvSchedule,
    SheddableLoad,
    SheddableSchedule,
    StoreSchedule,
    Vehicle,
    Why,
    solve,
    solve_many,
)
from optimizer import Reason as SolverReason

log = logging.getLogger("ems.planning")

Solve = Callable[[Sequence[DispatchProblem]], Sequence[DispatchSolution]]
"""Solves a batch in order; the composition root decides where it runs."""

UNLIMITED_VEHICLE_KWH = 200.0
"""Assumed room in a vehicle whose battery is unknown [kWh]; the wish, not this, ends a session."""
SOLVE_WITHIN_S = 2.0
"""Time box of one site's solve [s]; linear sites need milliseconds, the box is for vehicles with a least power."""
EMPTY_FRAC = 0.02
"""A battery this near to its reserve is empty to the people who live with it."""
SAME_KW = 1e-6
"""Plans whose powers differ by less are the same [kW]."""


def solve_in_process(problems: Sequence[DispatchProblem]) -> Sequence[DispatchSolution]:
    """Solve a batch in this process."""
    return solve_many(problems)


def make_plans(
    sites: Sequence[Site],
    states: Sequence[SiteState],
    outlook: Outlook,
    previous: Sequence[Plan | None],
    *,
    solve: Solve,
    valid_for: timedelta,
    orders: Sequence[Order] = (),
) -> tuple[Plan, ...]:
    """Plan each site of the batch, stepping down the ladder of control where it must.

    Parameters
    ----------
    sites, states, outlook.sites, previous
        One per site, in the same order.
    solve
        The optimiser.
    valid_for
        How long a plan may be acted on.
    orders
        What people and the grid ask, of any site and time; the plans go along with it.
    """
    problems: dict[int, DispatchProblem] = {}
    causes: dict[int, str] = {}
    for index, (site, state, expected) in enumerate(zip(sites, states, outlook.sites, strict=True)):
        if state.quality is Quality.BAD:
            causes[index] = f"unknown: {', '.join(state.missing)}"
            continue
        try:
            problems[index] = to_problem(
                site,
                state,
                expected,
                outlook,
                held_back=_held_back(site, previous[index], outlook),
                orders=orders,
            )
        except InvalidProblem as error:
            causes[index] = str(error)
    try:
        solutions = dict(zip(problems, solve(list(problems.values())), strict=True))
    except Exception as error:
        log.exception("planning.solver_failed sites=%d", len(problems))
        solutions = {}
        causes |= dict.fromkeys(problems, f"solver failed: {type(error).__name__}: {error}")
    plans = []
    for index, site in enumerate(sites):
        solution = solutions.get(index)
        if solution is not None and solution.publishable:
            plans.append(from_solution(site, solution, outlook, valid_for=valid_for))
            continue
        cause = causes.get(index) or _refusal(solutions[index])
        plans.append(_step_down(site, states[index], outlook, index, previous[index], cause, valid_for))
    return tuple(plans)


def to_problem(
    site: Site,
    state: SiteState,
    expected: SiteOutlook,
    outlook: Outlook,
    *,
    held_back: Collection[str] = (),
    orders: Sequence[Order] = (),
) -> DispatchProblem:
    """Translate one site to the optimiser's words; the first interval takes what is measured now.

    Solar assets in `held_back` deliver less than the sun gives: there the forecast counts where it is higher. What
    people and the grid ask is gone along with: limits bound the connection, an asset that is taken over does what was
    asked of it, and one that is paused what its own mode would do.
    """
    horizon = len(outlook.starts_s)
    hours = np.full(horizon, outlook.step_s / 3600.0)
    instants = [state.at, *(_start(outlook, t) for t in range(1, horizon))]
    counts = standings(site, (*orders, *state.signal), instants)
    own_mode = _own_mode(site, state, expected, outlook) if any(now.paused for now in counts) else None
    alone = _alone(site, state, hours)
    assets: list[HybridInverter | Pv | Battery | Vehicle | SheddableLoad] = [*_inverters(site)]
    for pv in site.pvs:
        band = expected.pv[pv.name]
        forecast_kw = band.low_kw if state.islanded else band.mean_kw
        available_kw = _now_first(forecast_kw, state.powers.pv_kw.get(pv.name))
        if pv.name in held_back:
            available_kw = np.maximum(available_kw, forecast_kw)
        assets.append(
            Pv(
                name=pv.name,
                available_kw=available_kw,
                curtailable=site.consents.curtail_solar,
                inverter=_behind(site, pv.device),
            )
        )
    assets += [
        replace(
            _as_battery(site, battery, state.stored_kwh[battery.name]),
            end_value_per_kwh=end_value_per_kwh(battery, expected),
            asked_kw=None if state.islanded else _asked_kw(battery, counts, own_mode),
            # an outage is what the reserve was kept for
            band_min_kwh=battery.capacity_kwh
            * (site.own_reserve_frac(battery.name) if state.islanded else battery.reserve_frac),
            # what a battery itself keeps back is not there for an island: as dear as load that stays dark
            band_price_per_kwh_h=LADDER.unserved_load * float(np.abs(expected.buy_per_kwh).max())
            if state.islanded
            else None,
        )
        for battery in site.batteries
        if site.consents.control_storage
    ]
    assets += [
        session
        for vehicle in site.vehicles
        if _is_planned(site, vehicle, counts[0])
        and (session := _session(vehicle, state.vehicles.get(vehicle.name), outlook)) is not None
    ]
    # nobody helps an island out: it is planned for a high load and little sun
    load_kw = _now_first(
        expected.load.high_kw if state.islanded else expected.load.mean_kw, state.powers.load_kw
    )
    for vehicle in site.vehicles:
        if not _is_planned(site, vehicle, counts[0]):
            load_kw = load_kw + _charging_at_will(
                vehicle, state, hours, kw=_asked_charge_kw(vehicle, counts[0])
            )
            if vehicle.name in expected.vehicles:
                load_kw = load_kw + expected.vehicles[vehicle.name].charging_kw
    if state.islanded:
        load_kw[0] += sum(load.rated_kw for load in site.sheddables if load.name in state.cut)
        sheddable_kw = _sheddable_kw(site, state, load_kw)
        assets += [
            SheddableLoad(
                name=load.name,
                demand_kw=np.where(alone, sheddable_kw[load.name], 0.0),
                priority_class=load.shed_class,
            )
            for load in site.sheddables
            if site.consents.shed_loads
        ]
        load_kw = load_kw - np.where(alone, sum(sheddable_kw.values(), np.zeros(horizon)), 0.0)
    return DispatchProblem(
        site_id=site.id,
        hours=hours,
        load_kw=load_kw,
        prices=Prices(
            import_per_kwh=expected.buy_per_kwh,
            export_per_kwh=expected.sell_per_kwh,
            co2_kg_per_kwh=site.co2_kg_per_kwh,
        ),
        grid=GridConnection(
            import_limit_kw=np.array([now.import_limit.kw for now in counts]),
            export_limit_kw=np.array([now.export_limit.kw for now in counts]),
            import_rating_kw=np.where(alone, 0.0, np.inf) if state.islanded else np.inf,
            export_rating_kw=np.where(alone, 0.0, np.inf) if state.islanded else np.inf,
        ),
        assets=tuple(assets),
        time_limit_s=SOLVE_WITHIN_S,
    )


def from_solution(site: Site, solution: DispatchSolution, outlook: Outlook, *, valid_for: timedelta) -> Plan:
    """Translate an audited solution to a plan."""
    batteries, vehicle_kw = {}, {}
    for store in solution.schedules_of(StoreSchedule):
        asset = site.asset(store.name)
        if isinstance(asset, VehicleAsset):
            vehicle_kw[store.name] = store.charge_kw
        else:
            batteries[store.name] = BatteryPlan(
                charge_kw=store.charge_kw,
                discharge_kw=store.discharge_kw,
                stored_kwh=store.stored_kwh,
                value_per_kwh=store.stored_value_per_kwh[1:],
            )
    cost: dict[str, float] = {}
    for line in solution.costs:
        cost[line.term] = cost.get(line.term, 0.0) + line.amount
    issued_at = outlook.issued_at
    return Plan(
        site_id=site.id,
        issued_at=issued_at,
        valid_until=issued_at + valid_for,
        source=PlanSource.OPTIMAL,
        cause=None,
        starts_s=outlook.starts_s,
        step_s=outlook.step_s,
        import_kw=solution.import_kw,
        export_kw=solution.export_kw,
        load_kw=solution.problem.load_kw,
        pv_kw={pv.name: pv.used_kw for pv in solution.schedules_of(PvSchedule)},
        inverter_kw={i.name: i.to_ac_kw - i.to_dc_kw for i in solution.schedules_of(InverterSchedule)},
        batteries=batteries,
        vehicle_kw=vehicle_kw,
        cost=cost,
        marginal_per_kwh=solution.bus_price_per_kwh,
        reasons=_reasons(site, solution, batteries, outlook),
        unmet=tuple(
            Unmet(wish=f"{wish.owner}.{wish.wish}", amount=wish.amount, unit=wish.unit, cost=wish.cost)
            for wish in solution.unmet
        ),
        solve_ms=solution.report.seconds * 1e3,
        pv_available_kw={pv.name: pv.available_kw for pv in solution.problem.of(Pv)},
        shed_kw={load.name: load.shed_kw for load in solution.schedules_of(SheddableSchedule)},
        islanded=not np.all(solution.problem.grid.import_rating_kw),
    )


def plans_differ(plan: Plan, other: Plan) -> str | None:
    """Return where two plans differ by more than rounding, or None when they are the same."""
    if plan.source is not other.source:
        return f"source {plan.source} against {other.source}"
    pairs = {
        "import_kw": (plan.import_kw, other.import_kw),
        "export_kw": (plan.export_kw, other.export_kw),
        "battery_kw": (plan.battery_kw, other.battery_kw),
        **{
            f"{name}.vehicle_kw": (kw, other.vehicle_kw.get(name, np.array(np.nan)))
            for name, kw in plan.vehicle_kw.items()
        },
    }
    for name, (one, two) in pairs.items():
        if one.shape != two.shape or not np.allclose(one, two, rtol=0.0, atol=SAME_KW):
            return f"{name} differs by up to {np.max(np.abs(one - two)) if one.shape == two.shape else np.nan:.6f} kW"
    return None


def steering_of(site: Site, solution: DispatchSolution, interval: int) -> Steering:
    """Return what a solution does in one interval, for the plant of the simulation."""
    return Steering(
        battery_kw={
            store.name: float(store.charge_kw[interval] - store.discharge_kw[interval])
            for store in solution.schedules_of(StoreSchedule)
        },
        pv_cap_kw=float(sum(pv.used_kw[interval] for pv in solution.schedules_of(PvSchedule)))
        if site.pvs
        else None,
    )


def hindsight_cost(
    site: Site,
    *,
    load_kw: FloatArray,
    pv_kw: FloatArray,
    buy_per_kwh: FloatArray,
    sell_per_kwh: FloatArray,
    hours: float,
    start_frac: float,
    end_kwh: Mapping[str, float],
    end_value_per_kwh: float,
) -> float:
    """Return the least a span can cost when all of it is known, ending with `end_kwh` in each battery.

    The same formulation as every plan, over the whole span at once.
    """
    rated_kw = sum(pv.rated_kw for pv in site.pvs)
    batteries = []
    for battery in site.batteries:
        floor_kwh = np.full(len(load_kw), battery.reserve_frac * battery.capacity_kwh)
        ceiling_kwh = np.full(len(load_kw), battery.capacity_kwh)
        floor_kwh[-1] = ceiling_kwh[-1] = end_kwh[battery.name]
        batteries.append(
            replace(
                _as_battery(site, battery, start_frac * battery.capacity_kwh),
                band_min_kwh=floor_kwh,
                band_max_kwh=ceiling_kwh,
                end_value_per_kwh=end_value_per_kwh,
            )
        )
    problem = DispatchProblem(
        site_id=site.id,
        hours=np.full(len(load_kw), hours),
        load_kw=load_kw,
        prices=Prices(import_per_kwh=buy_per_kwh, export_per_kwh=sell_per_kwh),
        grid=_grid(site),
        assets=(
            *_inverters(site),
            *(
                Pv(
                    name=pv.name,
                    available_kw=pv_kw * (pv.rated_kw / rated_kw),
                    curtailable=site.consents.curtail_solar,
                    inverter=_behind(site, pv.device),
                )
                for pv in site.pvs
            ),
            *batteries,
        ),
        time_limit_s=600.0,
    )
    solution = solve(problem)
    if not solution.publishable:
        raise RuntimeError(f"{site.id}: no plan in hindsight: {_refusal(solution)}")
    start_kwh = sum(start_frac * battery.capacity_kwh for battery in site.batteries)
    left_kwh = sum(float(store.stored_kwh[-1]) for store in solution.schedules_of(StoreSchedule))
    paid = float(np.sum(solution.import_kw * buy_per_kwh - solution.export_kw * sell_per_kwh) * hours)
    return paid - end_value_per_kwh * (left_kwh - start_kwh)


def _refusal(solution: DispatchSolution) -> str:
    if solution.audit.passed:
        return f"solver: {solution.outcome} {solution.report.message}".strip()
    return f"audit: {solution.audit.findings[0]}"


def _step_down(
    site: Site,
    state: SiteState,
    outlook: Outlook,
    index: int,
    previous: Plan | None,
    cause: str,
    valid_for: timedelta,
) -> Plan:
    """Take the next rung: the previous audited plan while it is valid, else the rule."""
    at = outlook.issued_at
    earlier = (
        previous is not None
        and previous.source is not PlanSource.RULE
        and previous.usable_at(at)
        and previous.islanded == state.islanded
    )
    if previous is not None and earlier and state.quality is not Quality.BAD:
        return replace(previous, source=PlanSource.PREVIOUS, cause=cause)
    return rule_plan(
        site,
        outlook.sites[index],
        starts_s=outlook.starts_s,
        step_s=outlook.step_s,
        issued_at=at,
        valid_until=at + valid_for,
        stored_kwh=state.stored_kwh,
        cause=cause,
    )


def _held_back(site: Site, previous: Plan | None, outlook: Outlook) -> frozenset[str]:
    """Return the solar assets that were held back until now, so that their meter says nothing about the sun."""
    if previous is None:
        return frozenset()
    just_before = outlook.issued_at - timedelta(seconds=1)
    return frozenset(pv.name for pv in site.pvs if previous.holds_back(pv.name, just_before))


def _now_first(expected_kw: FloatArray, now_kw: float | None) -> FloatArray:
    """Put what is measured now into the first interval; a forecast never beats the meter."""
    if now_kw is None:
        return expected_kw
    merged = expected_kw.copy()
    merged[0] = max(0.0, now_kw)
    return merged


def _behind(site: Site, device: str) -> str | None:
    return device if site.devices[device].role is Role.HYBRID_INVERTER else None


def _as_battery(site: Site, battery: BatteryAsset, stored_kwh: float) -> Battery:
    return Battery(
        name=battery.name,
        capacity_kwh=battery.capacity_kwh,
        stored_kwh=stored_kwh,
        charge_limit_kw=battery.charge_limit_kw,
        discharge_limit_kw=battery.discharge_limit_kw,
        charge_efficiency_frac=battery.charge_eff_frac,
        discharge_efficiency_frac=battery.discharge_eff_frac,
        band_min_kwh=battery.reserve_frac * battery.capacity_kwh,
        wear_per_kwh=battery.wear_per_kwh,
        inverter=_behind(site, battery.device),
    )


def _inverters(site: Site) -> list[HybridInverter]:
    return [
        HybridInverter(
            name=name,
            rating_kw=device.rated_kw or 0.0,
            to_ac_efficiency_frac=device.conversion_eff_frac,
            to_dc_efficiency_frac=device.conversion_eff_frac,
        )
        for name, device in site.devices.items()
        if device.role is Role.HYBRID_INVERTER
    ]


def _grid(site: Site) -> GridConnection:
    return GridConnection(
        import_limit_kw=site.connection.import_limit_kw, export_limit_kw=site.connection.export_limit_kw
    )


def end_value_per_kwh(battery: BatteryAsset, expected: SiteOutlook) -> float:
    """Value of a kWh left in the store at the end of the horizon [1/kWh]: the cheapest way to have it there.

    A store that is full at the end saves filling it later, at the lowest price of the horizon; more than that would
    make the plan hoard.
    """
    return max(0.0, float(expected.buy_per_kwh.min())) * battery.discharge_eff_frac


def _session(vehicle: VehicleAsset, state: VehicleState | None, outlook: Outlook) -> Vehicle | None:
    """Return the running session, or None while no vehicle is there or it takes nothing (it may then charge freely)."""
    if state is None or not state.plugged_in or state.ready_at is None or state.takes_nothing:
        return None
    drawn_kwh = state.session_kwh or 0.0
    departure = (state.ready_at - outlook.issued_at).total_seconds() / outlook.step_s
    return Vehicle(
        name=vehicle.name,
        capacity_kwh=UNLIMITED_VEHICLE_KWH,
        stored_kwh=min(drawn_kwh * vehicle.charge_eff_frac, UNLIMITED_VEHICLE_KWH),
        wished_kwh=state.wished_kwh * vehicle.charge_eff_frac,
        arrival=0.0,
        departure=max(1.0, departure),
        charge_limit_kw=vehicle.charge_limit_kw,
        min_charge_kw=vehicle.charge_min_kw,
        charge_efficiency_frac=vehicle.charge_eff_frac,
    )


def _alone(site: Site, state: SiteState, hours: FloatArray) -> NDArray[np.bool_]:
    """Return in which intervals the grid is taken to be away, shape (T,)."""
    if not state.islanded or site.backup is None or state.grid_since is None:
        return np.zeros(len(hours), dtype=bool)
    gone_h = (state.at - state.grid_since).total_seconds() / 3600.0
    # an outage that lasts longer than it was taken for is taken to last as long again: energy is never planned away
    left_h = site.backup.outage_h - gone_h % site.backup.outage_h
    return np.concatenate([[0.0], np.cumsum(hours)[:-1]]) < left_h


def _sheddable_kw(site: Site, state: SiteState, load_kw: FloatArray) -> dict[str, FloatArray]:
    """Return what of the expected load is behind switches [kW], per asset: measured now, else by nameplate."""
    left_kw, found = load_kw.copy(), {}
    for load in site.sheddables if site.consents.shed_loads else ():
        drawn_kw = load.rated_kw if load.name in state.cut else state.shed_kw.get(load.name, load.rated_kw)
        found[load.name] = np.clip(left_kw, 0.0, drawn_kw)
        left_kw = left_kw - found[load.name]
    return found


def _is_planned(site: Site, vehicle: VehicleAsset, now: Standing) -> bool:
    """Tell whether the plan decides when a vehicle charges: allowed to, and nobody has taken it over."""
    taken_over = now.paused is not None or vehicle.name in now.targets
    return site.consents.control_vehicle and not taken_over


def _asked_charge_kw(vehicle: VehicleAsset, now: Standing) -> float | None:
    """Return what a vehicle that was taken over charges with [kW]; None where nobody has."""
    target = now.targets.get(vehicle.name)
    if target is not None and target.value_kw is not None:
        return min(max(target.value_kw, 0.0), vehicle.charge_limit_kw)
    return vehicle.charge_limit_kw if now.paused is not None else None


def _own_mode(
    site: Site, state: SiteState, expected: SiteOutlook, outlook: Outlook
) -> Mapping[str, BatteryPlan]:
    """Return what batteries in their own mode would do from now on."""
    by_rule = rule_plan(
        site,
        expected,
        starts_s=outlook.starts_s,
        step_s=outlook.step_s,
        issued_at=outlook.issued_at,
        valid_until=outlook.issued_at,
        stored_kwh=state.stored_kwh,
        cause="own mode",
    )
    return by_rule.batteries


def _asked_kw(
    battery: BatteryAsset, counts: Sequence[Standing], own_mode: Mapping[str, BatteryPlan] | None
) -> FloatArray | None:
    """Return what a battery is asked for per interval [kW, charging +], nan where nobody asks; None: nowhere."""
    asked = np.full(len(counts), np.nan)
    for t, now in enumerate(counts):
        target = now.targets.get(battery.name)
        if target is not None and target.value_kw is not None:
            asked[t] = min(max(target.value_kw, -battery.discharge_limit_kw), battery.charge_limit_kw)
        elif now.paused is not None and own_mode is not None:
            left = own_mode[battery.name]
            asked[t] = left.charge_kw[t] - left.discharge_kw[t]
    return None if np.isnan(asked).all() else asked


def _charging_at_will(
    vehicle: VehicleAsset, state: SiteState, hours: FloatArray, *, kw: float | None = None
) -> FloatArray:
    """Return what a vehicle the plan does not steer will draw [kW]: `kw` or its present power until its wish is there."""
    session = state.vehicles.get(vehicle.name)
    drawn_kw = (state.powers.vehicle_kw.get(vehicle.name) or 0.0) if kw is None else kw
    if session is None or not session.plugged_in or drawn_kw <= 0.0:
        return np.zeros(len(hours))
    left_kwh = max(0.0, session.wished_kwh - (session.session_kwh or 0.0))
    before_kwh = np.concatenate([[0.0], np.cumsum(hours * drawn_kw)[:-1]])
    return np.clip((left_kwh - before_kwh) / hours, 0.0, drawn_kw)


def _reasons(
    site: Site, solution: DispatchSolution, batteries: Mapping[str, BatteryPlan], outlook: Outlook
) -> tuple[Reason, ...]:
    """Turn the solver's reasons into one per asset and change of course."""
    told: list[Reason] = []
    by_asset: dict[str, list[Reason]] = {}
    for found in solution.explanation.reasons:
        by_asset.setdefault(found.asset, []).append(_reason(site, found, solution, batteries, outlook))
    for reasons in by_asset.values():
        last: Reason | None = None
        for reason in sorted(reasons, key=lambda r: r.start_at):
            if last is None or (reason.code, reason.later_at) != (last.code, last.later_at):
                told.append(reason)
            last = reason
    return tuple(sorted(told, key=lambda reason: (reason.start_at, reason.asset)))


def _reason(
    site: Site,
    found: SolverReason,
    solution: DispatchSolution,
    batteries: Mapping[str, BatteryPlan],
    outlook: Outlook,
) -> Reason:
    action, code = _WORDS[found.why]
    if found.why is Why.STORED_FOR_LATER and solution.import_kw[found.interval] <= 1e-6:
        code = "store_surplus"
    asset = site.asset(found.asset)
    if isinstance(asset, VehicleAsset):
        code = "ready_by"
    if isinstance(asset, BatteryAsset) and found.why is Why.KEPT_FOR_LATER:
        stored_kwh = batteries[asset.name].stored_kwh[found.interval]
        if stored_kwh - asset.reserve_frac * asset.capacity_kwh < EMPTY_FRAC * asset.capacity_kwh:
            code = "empty"
    if found.why is Why.CURTAILED and outlook.sites and solution.bus_price_per_kwh[found.interval] < 0:
        code = "negative_price"
    return Reason(
        asset=found.asset,
        start_at=_start(outlook, found.interval),
        action=action,
        code=code,
        later_at=None if found.until_interval is None else _start(outlook, found.until_interval),
        saving=found.saves,
    )


_WORDS: Mapping[Why, tuple[Action, str]] = {
    Why.STORED_FOR_LATER: (Action.CHARGE, "store_for_later"),
    Why.USED_FROM_STORE: (Action.DISCHARGE, "serve_load"),
    Why.SOLD_FROM_STORE: (Action.DISCHARGE, "sell_now"),
    Why.KEPT_FOR_LATER: (Action.HOLD, "keep_for_later"),
    Why.CURTAILED: (Action.CURTAIL, "export_limit"),
    Why.RUNS_NOW: (Action.CHARGE, "store_for_later"),
    Why.GENERATED: (Action.DISCHARGE, "serve_load"),
    Why.CUT: (Action.CURTAIL, "outage"),
}


def _start(outlook: Outlook, interval: int) -> datetime:
    index = min(interval, len(outlook.starts_s) - 1)
    return datetime.fromtimestamp(int(outlook.starts_s[index]), UTC)
