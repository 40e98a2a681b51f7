"""The fast loop's call: the same compiled dispatch, re-solved warm with what the meter shows now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.sparse as sp

from optimizer.arrays import FloatArray
from optimizer.engine import AssetValues, broken_families, settle, template_of
from optimizer.formulation.battery import Battery
from optimizer.formulation.builder import Family
from optimizer.formulation.pv import Pv
from optimizer.formulation.site import GRID, site_shape
from optimizer.formulation.vehicle import Vehicle
from optimizer.highs import Answer, Solver
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import AssetSchedule, DispatchSolution, Outcome, StoreSchedule
from optimizer.template import Template, positions

_MOST_BRANCHES = 4
"""Directions decided by trying both sides in one call (2 to the 4th runs); more are left as the relaxation has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstInterval:
    """What to do now."""

    outcome: Outcome
    """`optimal` or `feasible` may be used, anything else not."""
    import_kw: float
    """Import that results [kW]."""
    export_kw: float
    """Export that results [kW]."""
    net_consumption_kw: Mapping[str, float]
    """Per asset: power at the site bus, + drawn [kW]; assets behind a hybrid inverter: on its DC side."""
    curtailed_kw: Mapping[str, float]
    """Per solar array: power to hold back [kW]."""
    unserved_kw: float
    """Critical load that cannot be served [kW]."""
    surplus_kw: float
    """Generation nobody can take [kW]."""
    bus_price_per_kwh: float
    """Marginal price at the bus now [currency/kWh]."""
    stored_value_per_kwh: Mapping[str, float]
    """Per store: what one more kWh is worth after this interval [currency/kWh]."""
    solver_seconds: float
    """Time inside the solver [s]."""


class WarmDispatch:
    """One site's compiled dispatch, kept warm between two plans. Not safe for two threads at once.

    It is the model with every soft limit, so it answers whatever the meter shows. Whole-number decisions of the plan
    (starts, runs) stay as planned; directions (charge or discharge, import or export) are decided anew.
    """

    def __init__(self, start: DispatchProblem | DispatchSolution) -> None:
        problem = start.problem if isinstance(start, DispatchSolution) else start
        self.problem = problem
        self._solver = Solver()
        settled = settle(problem, self._solver)
        self._plan = settled.fixed
        self._adopt(problem, settled.template)

    def _adopt(self, problem: DispatchProblem, template: Template) -> None:
        """Load a template with the plan's whole numbers fixed, and solve it once."""
        self._template = template
        self._by_parameter = sp.csc_array(template.affine)
        self._theta = template.thetas([problem])[0]
        self._now = {
            family: int(positions(where)[0])
            for family, where in template.binaries.items()
            if family in template.directions
        }
        self._vectors = vectors = template.own_vectors(problem)
        pinned: list[int] = []
        for family, values in self._plan.items():
            known = ~np.isnan(values)
            if family in self._now:
                known[0] = False
            columns = positions(template.binaries[family])[known]
            vectors.lower[columns] = vectors.upper[columns] = values[known]
            pinned += columns.tolist()
        self._pinned = frozenset(pinned)
        self._solver.use_presolve(True)
        self._solver.load(template, vectors)
        self._solver.limit(seconds=problem.time_limit_s, gap=0.0)
        self._solver.run()
        self._solver.use_presolve(False)

    def resolve_first(
        self,
        *,
        load_kw: float | None = None,
        pv_available_kw: Mapping[str, float] | None = None,
        stored_kwh: Mapping[str, float] | None = None,
        import_limit_kw: float | None = None,
        export_limit_kw: float | None = None,
        remaining_h: float | None = None,
    ) -> FirstInterval:
        """Solve again with what is there now in the first interval; the rest of the horizon stays as planned.

        Parameters
        ----------
        load_kw
            Uncontrolled load now [kW].
        pv_available_kw
            Available generation now, per array [kW].
        stored_kwh
            Energy now, per battery or vehicle [kWh].
        import_limit_kw, export_limit_kw
            Limit that holds now [kW], e.g. a grid operator's signal.
        remaining_h
            What is left of the first interval [h].
        """
        problem = _with_first(
            self.problem,
            load_kw=load_kw,
            available_kw=pv_available_kw or {},
            stored_kwh=stored_kwh or {},
            import_limit_kw=import_limit_kw,
            export_limit_kw=export_limit_kw,
            remaining_h=remaining_h,
        )
        self._change(problem)
        self._solver.limit(seconds=self.problem.time_limit_s, gap=0.0)
        answer = self._solver.run()
        seconds = answer.seconds
        if answer.outcome is Outcome.OPTIMAL:
            torn = self._torn(problem, answer)
            while missing := frozenset(torn) - self._now.keys():
                shape = site_shape(problem, soft=True, discrete=self._template.shape.discrete | missing)
                self._adopt(problem, template_of(shape)[0])
                answer = self._solver.run()
                torn = self._torn(problem, answer)
            decided: list[Family] = []
            while torn and len(decided) < _MOST_BRANCHES:
                decided += [family for family in torn if family not in decided]
                answer, more = self._decide(decided, answer)
                seconds += more
                torn = [family for family in self._torn(problem, answer) if family not in decided]
        return self._read(problem, answer, seconds)

    def _change(self, problem: DispatchProblem) -> None:
        """Change what differs from the loaded problem, entry by entry."""
        template = self._template
        theta = template.thetas([problem])[0]
        changed = np.flatnonzero(theta != self._theta)
        self._theta = theta
        if not changed.size:
            return
        columns = self._by_parameter
        rows = np.unique(
            np.concatenate([columns.indices[columns.indptr[k] : columns.indptr[k + 1]] for k in changed])
        )
        entries = template.moving[rows]
        values = template.constant[entries] + template.affine[rows] @ theta
        self._solver.change(template, problem.price_scale, entries, values, self._pinned)

    def _torn(self, problem: DispatchProblem, answer: Answer) -> list[Family]:
        """Directions that the answer leaves open in the first interval."""
        if answer.outcome is not Outcome.OPTIMAL:
            return []
        broken = broken_families(problem, self._template, answer)
        settled = self._template.binaries.keys() - self._now.keys()
        return [family for family, mask in broken.items() if mask[0] and family not in settled]

    def _decide(self, torn: list[Family], answer: Answer) -> tuple[Answer, float]:
        """Try every combination of directions in the first interval; the cheapest wins, the first of equals."""
        columns = np.array([self._now[family] for family in torn])
        best, seconds = answer, 0.0
        found = False
        for sides in product((0.0, 1.0), repeat=len(torn)):
            side = np.array(sides)
            self._solver.change_bounds(columns, side, side)
            answer = self._solver.run()
            seconds += answer.seconds
            if answer.outcome is Outcome.OPTIMAL and (not found or answer.objective < best.objective):
                best, found = answer, True
        self._solver.change_bounds(columns, np.zeros(len(columns)), np.ones(len(columns)))
        return best, seconds

    def _read(self, problem: DispatchProblem, answer: Answer, seconds: float) -> FirstInterval:
        """The first interval of an answer, checked."""
        if answer.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE) or not answer.row_dual.size:
            return _no_decision(Outcome.FAILED, seconds)
        scale = problem.price_scale
        grid = AssetValues(self._template, answer, GRID, scale)
        schedules = [
            asset.read(problem, AssetValues(self._template, answer, f"a{position}", scale))
            for position, asset in enumerate(problem.assets)
        ]
        imported, exported, unserved, surplus = (
            max(0.0, float(grid.column(name)[0])) for name in ("import", "export", "unserved", "surplus")
        )
        drawn = sum(float(schedule.net_consumption_kw[0]) for schedule in schedules)
        balance = imported - exported - (float(problem.load_kw[0]) - unserved + surplus + drawn)
        size = max(1.0, imported, exported, abs(float(problem.load_kw[0])))
        both = min(imported, exported)
        if abs(balance) > 1e-6 * size or both > 1e-6 * size:
            return _no_decision(Outcome.FAILED, seconds)
        return FirstInterval(
            outcome=answer.outcome,
            import_kw=imported,
            export_kw=exported,
            net_consumption_kw=MappingProxyType({s.name: _power(s) for s in schedules}),
            curtailed_kw=MappingProxyType(
                {s.name: float(s.curtailed_kw[0]) for s in schedules if hasattr(s, "curtailed_kw")}
            ),
            unserved_kw=unserved,
            surplus_kw=surplus,
            bus_price_per_kwh=float(grid.row_dual("bus")[0] / problem.hours[0]),
            stored_value_per_kwh=MappingProxyType(
                {s.name: float(s.stored_value_per_kwh[1]) for s in schedules if isinstance(s, StoreSchedule)}
            ),
            solver_seconds=seconds,
        )


def _power(schedule: AssetSchedule) -> float:
    """Power of an asset now, + drawn: at the site bus, or at its own terminals where it has no bus power."""
    if isinstance(schedule, StoreSchedule):
        return float(schedule.charge_kw[0] - schedule.discharge_kw[0])
    used: Any = getattr(schedule, "used_kw", None)
    return -float(used[0]) if used is not None else float(schedule.net_consumption_kw[0])


def _no_decision(outcome: Outcome, seconds: float) -> FirstInterval:
    nothing: Mapping[str, float] = MappingProxyType({})
    return FirstInterval(
        outcome=outcome,
        import_kw=0.0,
        export_kw=0.0,
        net_consumption_kw=nothing,
        curtailed_kw=nothing,
        unserved_kw=0.0,
        surplus_kw=0.0,
        bus_price_per_kwh=np.nan,
        stored_value_per_kwh=nothing,
        solver_seconds=seconds,
    )


def _with_first(
    problem: DispatchProblem,
    *,
    load_kw: float | None,
    available_kw: Mapping[str, float],
    stored_kwh: Mapping[str, float],
    import_limit_kw: float | None,
    export_limit_kw: float | None,
    remaining_h: float | None,
) -> DispatchProblem:
    """The problem with other values in its first interval."""
    changes: dict[str, Any] = {}
    if load_kw is not None:
        changes["load_kw"] = _put_first(problem.load_kw, load_kw)
    if remaining_h is not None:
        changes["hours"] = _put_first(problem.hours, remaining_h)
    limits = {}
    n = problem.intervals
    if import_limit_kw is not None:
        limits["import_limit_kw"] = _put_first(
            np.broadcast_to(problem.grid.import_limit_kw, n), import_limit_kw
        )
    if export_limit_kw is not None:
        limits["export_limit_kw"] = _put_first(
            np.broadcast_to(problem.grid.export_limit_kw, n), export_limit_kw
        )
    if limits:
        changes["grid"] = replace(problem.grid, **limits)
    if available_kw or stored_kwh:
        assets: list[Asset] = []
        for asset in problem.assets:
            if isinstance(asset, Pv) and asset.name in available_kw:
                asset = replace(asset, available_kw=_put_first(asset.available_kw, available_kw[asset.name]))
            elif isinstance(asset, (Battery, Vehicle)) and asset.name in stored_kwh:
                asset = replace(asset, stored_kwh=stored_kwh[asset.name])
            assets.append(asset)
        known = {asset.name for asset in problem.assets}
        for name in (*available_kw, *stored_kwh):
            if name not in known:
                raise KeyError(name)
        changes["assets"] = tuple(assets)
    return replace(problem, **changes) if changes else problem


def _put_first(values: FloatArray, first: float) -> FloatArray:
    changed = np.array(values)
    changed[0] = first
    return changed
