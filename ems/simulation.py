"""Closed loop on recorded data: the service's own forecasts and plans against physics, with no device in between.

In a simulated interval the fast loop sees that interval's measured values, as it would through the meter; forecasts
concern later intervals only. Costs are those of the connection; energy in the store at the end is worth `end_value` per
kWh in every one of the three costs, so a run is neither punished nor paid for how it ends.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ems.clock import grid_epochs
from ems.codec import FloatArray
from ems.errors import DataError
from ems.foresight import Foresight
from ems.hedging import USABLE, hedged_dispatch
from ems.history import DAYS
from ems.outlook import Band, Outlook, SiteOutlook
from ems.physics import Flows, Steering, mean_flows
from ems.planning import hindsight_cost, solve_in_process, steering_of, to_problem
from ems.readings import Quality
from ems.recorded import Recording
from ems.site import Site
from ems.state import MeasuredInterval, SitePowers, SiteState
from ems.tariffs import price_curve

START_FRAC = 0.5
"""Filling of every battery at the start."""


class Controller(StrEnum):
    """Who steers the storage."""

    PLAN = "plan"
    """The service: forecast, dispatch, fast loop."""
    RULES = "rules"
    """Store every surplus, serve every deficit."""
    IDLE = "idle"
    """Nobody."""


class Foreknowledge(StrEnum):
    """What the plan knows about later intervals."""

    MODEL = "model"
    """The service's forecasters."""
    NAIVE = "naive"
    """Mean of the same time of day over the last 7 days."""
    PERFECT = "perfect"
    """The recording itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationReport:
    """What one closed-loop run came to; the JSON of `ems simulate`."""

    site: str
    """The site."""
    controller: Controller
    """Who steered."""
    forecast: Foreknowledge
    """What the plan knew."""
    fast_loop: bool
    """Whether the first interval was re-solved with measured values."""
    start_at: datetime
    """Start of the first simulated interval (aware UTC)."""
    step_min: int
    """Interval length [min]."""
    horizon_h: float
    """How far plans reached [h]."""
    currency: str
    """Of all costs."""
    cost: float
    """Paid over the span, less the worth of energy left in the store."""
    cost_idle: float
    """The same with storage idle."""
    cost_hindsight: float
    """The least possible with perfect foresight over the whole span and the same energy left at its end."""
    captured: float | None
    """(cost_idle - cost) / (cost_idle - cost_hindsight); None where nothing can be saved."""
    end_value_per_kwh: float
    """What a kWh left in the store is worth in all three costs: mean price of the span times discharge efficiency."""
    import_kwh: float
    """Drawn from the grid."""
    export_kwh: float
    """Fed into it."""
    peak_import_kw: float
    """Highest mean import of an interval."""
    self_sufficiency_frac: float | None
    """Share of consumption that did not come from the grid."""
    self_consumption_frac: float | None
    """Share of solar energy that was not fed in."""
    co2_kg: float
    """Emissions of the imported energy."""
    full_cycles: float
    """Energy discharged per usable capacity."""
    unserved_kwh: float
    """Load above what the connection carries."""
    violations: int
    """Intervals in which a limit was broken."""
    intervals: int
    """Intervals simulated."""
    gap_intervals: int
    """Of these, intervals with a missing load or solar value, filled with the mean of the same time of the last days."""
    fallback_intervals: int
    """Intervals planned by the rule because no plan could be published."""
    solve_ms_p50: float | None
    """Median time to decide for one site [ms]; None without plans."""
    solve_ms_p99: float | None
    """99th percentile of the same [ms]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """One site's data on the grid of the simulation, history before the span included."""

    load_kw: FloatArray
    """Household load [kW], shape (N,), gaps filled."""
    pv_kw: FloatArray
    """Solar power available [kW], shape (N,), gaps filled."""
    known: NDArray[np.bool_]
    """True where both were recorded, shape (N,)."""
    buy_per_kwh: FloatArray
    """Price of imported energy [1/kWh], shape (N,)."""
    sell_per_kwh: FloatArray
    """Price paid for exported energy [1/kWh], shape (N,)."""
    co2_kg_per_kwh: FloatArray
    """Emission factor [kg/kWh], shape (N,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """How to simulate."""

    controller: Controller = Controller.PLAN
    """Who steers."""
    forecast: Foreknowledge = Foreknowledge.MODEL
    """What the plan knows about later intervals."""
    fast_loop: bool = True
    """Re-solve the first interval with measured values."""
    horizon: timedelta | None = timedelta(hours=48)
    """How far plans reach; None: to the end of the span, planned once (with perfect foresight only)."""


Progress = Callable[[int], None]


def simulate(
    sites: Sequence[Site],
    recording: Recording,
    foresight: Foresight | None,
    *,
    start_at: datetime,
    count: int,
    run: Run,
    progress: Progress = lambda done: None,
) -> tuple[SimulationReport, ...]:
    """Run a batch of sites over `count` intervals of a recording.

    Parameters
    ----------
    sites
        The batch.
    recording
        Data of all of them; `<site>.load_kw` or, for a single site, `load_kw`.
    foresight
        Forecasters on the grid of the recording, not yet taught; None unless `run.forecast` needs them.
    start_at, count
        The span; what lies before it is history.
    run
        Who steers, with what foreknowledge.
    progress
        Told the number of intervals done.

    Raises
    ------
    DataError
        A column is missing or the span holds nothing.
    """
    step_s = int(recording.step.total_seconds())
    first = int((start_at - recording.start_at) / recording.step)
    if first < 0 or count < 1 or first + count > recording.count:
        raise DataError(
            f"the span from {start_at.isoformat()} over {count} intervals is not inside the recording "
            f"({recording.start_at.isoformat()}, {recording.count} intervals)"
        )
    data = [recorded_site(site, recording, alone=len(sites) == 1) for site in sites]
    plan = _Planner(sites, data, foresight, recording, first=first, count=count, run=run)
    stored = [{b.name: START_FRAC * b.capacity_kwh for b in site.batteries} for site in sites]
    flows: list[list[Flows]] = [[] for _ in sites]
    for index in range(count):
        steerings = plan.steer(index, stored)
        for row, site in enumerate(sites):
            here = data[row]
            flow = mean_flows(
                site,
                steerings[row],
                load_kw=float(here.load_kw[first + index]),
                pv_kw=float(here.pv_kw[first + index]),
                stored_kwh=stored[row],
                hours=step_s / 3600.0,
            )
            stored[row] = dict(flow.stored_kwh)
            flows[row].append(flow)
        progress(index + 1)
    return tuple(
        _report(
            site, data[row], flows[row], plan, row, start_at=start_at, first=first, step_s=step_s, run=run
        )
        for row, site in enumerate(sites)
    )


def recorded_site(site: Site, recording: Recording, *, alone: bool) -> Recorded:
    """Take one site's columns out of a recording; missing values are filled and marked."""

    def column(name: str) -> FloatArray | None:
        named = recording.column(f"{site.id}.{name}")
        return recording.column(name) if named is None and alone else named

    load_kw = column("load_kw")
    if load_kw is None:
        raise DataError(
            f"the recording has no column {site.id}.load_kw; name it so, or load_kw for a single site"
        )
    roofs = [recording.column(f"{pv.name}.pv_kw") for pv in site.pvs] if alone else []
    pv_kw = column("pv_kw")
    if pv_kw is None:
        given = [roof for roof in roofs if roof is not None]
        pv_kw = np.sum(given, axis=0) if given else np.zeros(recording.count)
        if site.pvs and not given:
            raise DataError(f"site {site.id} has solar power, but the recording has no column pv_kw")
    starts_s = grid_epochs(recording.start_at, recording.count, int(recording.step.total_seconds()))

    def prices(name: str) -> FloatArray:
        given = column(name)
        if given is None:
            given = recording.column(name)
        if given is None:
            rate = site.tariff.buy if name == "buy_per_kwh" else site.tariff.sell
            try:
                given = price_curve(rate, starts_s, zone=site.time_zone).per_kwh
            except ValueError as error:
                raise DataError(f"site {site.id}: {error}; give a column {name}") from error
        if np.isnan(given).any():
            raise DataError(
                f"column {name} has {int(np.isnan(given).sum())} missing prices; a price cannot be guessed"
            )
        return given

    co2 = column("co2_kg_per_kwh")
    per_day = int(timedelta(days=1) / recording.step)
    return Recorded(
        load_kw=_filled(np.maximum(load_kw, 0.0), per_day),
        pv_kw=_filled(np.maximum(pv_kw, 0.0), per_day),
        known=np.isfinite(load_kw) & np.isfinite(pv_kw),
        buy_per_kwh=prices("buy_per_kwh"),
        sell_per_kwh=prices("sell_per_kwh"),
        co2_kg_per_kwh=np.full(recording.count, site.co2_kg_per_kwh)
        if co2 is None
        else _filled(co2, per_day),
    )


def _filled(series: FloatArray, per_day: int) -> FloatArray:
    """Fill gaps with the mean of the same time of day in the week before and after, and the rest with the mean."""
    filled = series.copy()
    mean = float(np.nanmean(series)) if np.isfinite(series).any() else 0.0
    for index in np.flatnonzero(np.isnan(series)):
        around = np.arange(index - 7 * per_day, index + 7 * per_day + 1, per_day)
        values = series[around[(around >= 0) & (around < len(series))]]
        known = values[np.isfinite(values)]
        filled[index] = float(known.mean()) if len(known) else mean
    return filled


class _Planner:
    """Decides each interval for the batch."""

    def __init__(
        self,
        sites: Sequence[Site],
        data: Sequence[Recorded],
        foresight: Foresight | None,
        recording: Recording,
        *,
        first: int,
        count: int,
        run: Run,
    ) -> None:
        self._sites = sites
        self._data = data
        self._foresight = foresight
        self._recording = recording
        self._first = first
        self._run = run
        self._step_s = int(recording.step.total_seconds())
        whole = run.horizon is None
        self._horizon = count if whole or run.horizon is None else max(2, int(run.horizon / recording.step))
        self._once: list[list[Steering]] | None = None
        self.solve_ms: list[float] = []
        self.fallbacks = [0] * len(sites)
        if (
            foresight is not None
            and run.controller is Controller.PLAN
            and run.forecast is not Foreknowledge.PERFECT
        ):
            begin = max(0, first - DAYS * 86_400 // self._step_s)
            foresight.past.overlay(
                recording.start_at + begin * recording.step,
                np.stack([np.where(d.known, d.load_kw, np.nan)[begin:first] for d in data]),
                np.stack([np.where(d.known, d.pv_kw, np.nan)[begin:first] for d in data]),
            )

    def steer(self, index: int, stored: Sequence[Mapping[str, float]]) -> Sequence[Steering]:
        """Return what each site does in interval `index` of the span."""
        match self._run.controller:
            case Controller.IDLE:
                return [Steering.idle(site) for site in self._sites]
            case Controller.RULES:
                return [Steering.own_mode(site) for site in self._sites]
            case Controller.PLAN:
                if self._run.horizon is None:
                    self._once = self._once or self._plan(0, stored, steps=self._horizon)
                    return [steerings[index] for steerings in self._once]
                return [steerings[0] for steerings in self._plan(index, stored, steps=1)]

    def _plan(self, index: int, stored: Sequence[Mapping[str, float]], *, steps: int) -> list[list[Steering]]:
        """Plan from interval `index` and return what each site does in the first `steps` intervals of the plan."""
        at = self._recording.start_at + (self._first + index) * self._recording.step
        outlook = self._outlook(index, at)
        if self._run.fast_loop and self._run.horizon is not None:
            return [[self._decide(row, index, stored[row], outlook)] for row in range(len(self._sites))]
        problems = [
            to_problem(site, self._state(row, index, stored[row], at), outlook.sites[row], outlook)
            for row, site in enumerate(self._sites)
        ]
        began = time.perf_counter()
        solutions = solve_in_process(problems)
        self.solve_ms.append((time.perf_counter() - began) * 1e3 / len(problems))
        planned = []
        for row, (site, solution) in enumerate(zip(self._sites, solutions, strict=True)):
            if solution.publishable:
                planned.append([steering_of(site, solution, step) for step in range(steps)])
            else:
                self.fallbacks[row] += steps
                planned.append([Steering.own_mode(site)] * steps)
        return planned

    def _decide(self, row: int, index: int, stored: Mapping[str, float], outlook: Outlook) -> Steering:
        """Decide one site's interval as the fast loop does: with what the meter shows, and all in mind that may come."""
        site = self._sites[row]
        began = time.perf_counter()
        state = self._state(row, index, stored, outlook.issued_at)
        first = hedged_dispatch(site, state, outlook.sites[row], outlook).resolve_first()
        self.solve_ms.append((time.perf_counter() - began) * 1e3)
        if first.outcome not in USABLE:
            self.fallbacks[row] += 1
            return Steering.own_mode(site)
        used_kw = -sum(first.net_consumption_kw[pv.name] for pv in site.pvs)
        return Steering(
            battery_kw={name: kw for name, kw in first.net_consumption_kw.items() if name in stored},
            pv_cap_kw=used_kw if site.pvs else None,
        )

    def _outlook(self, index: int, at: datetime) -> Outlook:
        begin = self._first + index
        expected = self._expected(index, at)
        return Outlook(
            issued_at=at,
            starts_s=grid_epochs(at, self._horizon, self._step_s),
            step_s=self._step_s,
            sites=tuple(
                SiteOutlook(
                    site_id=site.id,
                    load=load,
                    pv=pv,
                    buy_per_kwh=_ahead(here.buy_per_kwh, begin, self._horizon, self._step_s),
                    sell_per_kwh=_ahead(here.sell_per_kwh, begin, self._horizon, self._step_s),
                    prices_assumed=0,
                )
                for site, here, (load, pv) in zip(self._sites, self._data, expected, strict=True)
            ),
        )

    def _expected(self, index: int, at: datetime) -> Sequence[tuple[Band, Mapping[str, Band]]]:
        begin = self._first + index
        if self._run.forecast is Foreknowledge.PERFECT or self._foresight is None:
            return [
                (
                    _sure(_ahead(here.load_kw, begin, self._horizon, self._step_s)),
                    _split(site, _ahead(here.pv_kw, begin, self._horizon, self._step_s)),
                )
                for site, here in zip(self._sites, self._data, strict=True)
            ]
        if index and self._foresight.refit_due(at):
            self._foresight.refit(at)
        return self._foresight.expect(self._just_measured(begin - 1) if index else (), at=at)

    def _just_measured(self, position: int) -> tuple[MeasuredInterval, ...]:
        hours = self._step_s / 3600.0
        start_at = self._recording.start_at + position * self._recording.step
        return tuple(
            MeasuredInterval(
                site_id=site.id,
                start_at=start_at,
                hours=hours,
                import_kwh=None,
                export_kwh=None,
                load_kwh=float(here.load_kw[position]) * hours if here.known[position] else None,
                pv_kwh=float(here.pv_kw[position]) * hours if here.known[position] else None,
                charged_kwh=None,
                discharged_kwh=None,
                vehicle_kwh=None,
                stored_kwh=None,
                quality=Quality.GOOD if here.known[position] else Quality.BAD,
            )
            for site, here in zip(self._sites, self._data, strict=True)
        )

    def _state(self, row: int, index: int, stored: Mapping[str, float], at: datetime) -> SiteState:
        """Return the state as the fast loop sees it; without it nothing is known of the interval to come."""
        site, here, position = self._sites[row], self._data[row], self._first + index
        sees = self._run.fast_loop
        pv_kw = float(here.pv_kw[position])
        rated_kw = sum(pv.rated_kw for pv in site.pvs)
        return SiteState(
            site_id=site.id,
            at=at,
            powers=SitePowers(
                net_import_kw=None,
                load_kw=float(here.load_kw[position]) if sees else None,
                pv_kw={pv.name: pv_kw * pv.rated_kw / rated_kw if sees else None for pv in site.pvs},
                battery_kw={},
                vehicle_kw={},
            ),
            stored_kwh=stored,
            vehicles={},
            quality=Quality.GOOD,
        )


def _ahead(series: FloatArray, begin: int, horizon: int, step_s: int) -> FloatArray:
    """Return `horizon` values from `begin`; past the end of the recording its last day repeats."""
    ahead = series[begin : begin + horizon]
    if len(ahead) == horizon:
        return ahead
    last_day = series[-(86_400 // step_s) :]
    position = np.arange(begin + len(ahead), begin + horizon) - (len(series) - len(last_day))
    return np.concatenate([ahead, last_day[position % len(last_day)]])


def _sure(power_kw: FloatArray) -> Band:
    return Band(mean_kw=power_kw, low_kw=power_kw, high_kw=power_kw, source="perfect", quality="good")


def _split(site: Site, pv_kw: FloatArray) -> dict[str, Band]:
    rated_kw = sum(pv.rated_kw for pv in site.pvs)
    return {pv.name: _sure(pv_kw * (pv.rated_kw / rated_kw)) for pv in site.pvs}


def _report(
    site: Site,
    here: Recorded,
    flows: Sequence[Flows],
    plan: _Planner,
    row: int,
    *,
    start_at: datetime,
    first: int,
    step_s: int,
    run: Run,
) -> SimulationReport:
    span = slice(first, first + len(flows))
    hours = step_s / 3600.0
    buy, sell = here.buy_per_kwh[span], here.sell_per_kwh[span]
    import_kw = np.array([flow.import_kw for flow in flows])
    export_kw = np.array([flow.export_kw for flow in flows])
    end_value = end_value_per_kwh(site, buy)
    start_kwh = sum(START_FRAC * battery.capacity_kwh for battery in site.batteries)
    end_kwh = sum(flows[-1].stored_kwh.values())
    cost = float(np.sum(import_kw * buy - export_kw * sell) * hours) - end_value * (end_kwh - start_kwh)
    idle = [
        mean_flows(site, Steering.idle(site), load_kw=load, pv_kw=pv, stored_kwh={}, hours=hours)
        for load, pv in zip(here.load_kw[span], here.pv_kw[span], strict=True)
    ]
    cost_idle = float(
        sum(f.import_kw * b - f.export_kw * s for f, b, s in zip(idle, buy, sell, strict=True)) * hours
    )
    best = hindsight_cost(
        site,
        load_kw=here.load_kw[span],
        pv_kw=here.pv_kw[span],
        buy_per_kwh=buy,
        sell_per_kwh=sell,
        hours=hours,
        start_frac=START_FRAC,
        end_kwh=dict(flows[-1].stored_kwh),
        end_value_per_kwh=end_value,
    )
    possible = cost_idle - best
    drawn_kwh = float(here.load_kw[span].sum()) * hours
    solar_kwh = float(here.pv_kw[span].sum()) * hours
    capacity_kwh = sum(battery.capacity_kwh for battery in site.batteries)
    discharged_kwh = sum(flow.discharged_kw for flow in flows) * hours
    above_kw = np.maximum(import_kw - site.connection.import_limit_kw, 0.0)
    solve_ms = np.array(plan.solve_ms)
    return SimulationReport(
        site=site.id,
        controller=run.controller,
        forecast=run.forecast,
        fast_loop=run.fast_loop,
        start_at=start_at.astimezone(UTC),
        step_min=step_s // 60,
        horizon_h=(run.horizon or timedelta(seconds=step_s * len(flows))).total_seconds() / 3600.0,
        currency=site.currency,
        cost=cost,
        cost_idle=cost_idle,
        cost_hindsight=best,
        captured=(cost_idle - cost) / possible if possible > 1e-9 else None,
        end_value_per_kwh=end_value,
        import_kwh=float(import_kw.sum()) * hours,
        export_kwh=float(export_kw.sum()) * hours,
        peak_import_kw=float(import_kw.max()),
        self_sufficiency_frac=1.0 - float(import_kw.sum()) * hours / drawn_kwh if drawn_kwh else None,
        self_consumption_frac=1.0 - float(export_kw.sum()) * hours / solar_kwh if solar_kwh else None,
        co2_kg=float(np.sum(import_kw * here.co2_kg_per_kwh[span]) * hours),
        full_cycles=discharged_kwh / capacity_kwh if capacity_kwh else 0.0,
        unserved_kwh=float(above_kw.sum()) * hours,
        violations=sum(flow.violated for flow in flows),
        intervals=len(flows),
        gap_intervals=int(len(flows) - np.count_nonzero(here.known[span])),
        fallback_intervals=plan.fallbacks[row],
        solve_ms_p50=float(np.percentile(solve_ms, 50)) if len(solve_ms) else None,
        solve_ms_p99=float(np.percentile(solve_ms, 99)) if len(solve_ms) else None,
    )


def end_value_per_kwh(site: Site, buy_per_kwh: FloatArray) -> float:
    """Worth of a kWh left in the store: what it saves when it is used at the mean price of the span [1/kWh]."""
    if not site.batteries:
        return 0.0
    return max(0.0, float(buy_per_kwh.mean())) * site.batteries[0].discharge_eff_frac


def with_control(site: Site) -> Site:
    """Return the site with every consent given: a simulation moves nobody's appliance."""
    return replace(site, consents=replace(site.consents, control_storage=True, curtail_solar=True))
