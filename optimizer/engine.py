"""Solve one site or many: the only way in.

A site is first solved lean: no binaries, and every wish that can be a bound is one. The answer says itself whether
that was right: a bound whose reduced cost exceeds the price of breaking it, or a plan that charges and discharges at
once, sends the site to the model with slacks, or with binaries where they are missing. Most sites never go there.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from optimizer.arrays import BoolArray, CodeArray, FloatArray, IntArray, Series
from optimizer.audit import Audit, AuditReport, Finding, audit
from optimizer.branch import Branch
from optimizer.covers import broken_covers
from optimizer.dive import Dive
from optimizer.formulation.builder import (
    AT_LOWER,
    BASIC,
    EVERY,
    Cut,
    Family,
    Shape,
    clash,
    direction_share,
)
from optimizer.formulation.pv import Pv
from optimizer.formulation.site import GRID, limit_price, site_shape
from optimizer.formulation.tariff import broken_response, reduction_kwh
from optimizer.highs import Answer, Basis, Row, Solver
from optimizer.problem import Asset, DispatchProblem
from optimizer.solution import (
    AssetSchedule,
    CostLine,
    DispatchSolution,
    Outcome,
    SolveReport,
    UnmetWish,
)
from optimizer.stack import Owner, rows, stacked
from optimizer.template import Template, Vectors, compile_shape, positions

CHUNK = 64
"""Problems handed to a worker at once; their vectors are made by one sparse product."""

COST_TOLERANCE = 1e-6
"""Largest difference between the solver's objective and the recomputed bill, as a share of the bill's lines."""

USUAL_GAP = 0.03
"""Money gap of a mixed-integer solve if the problem names none, at a price scale of 1: see `DispatchProblem.money_gap`."""

_WORTH = 0.02
"""Share of the money gap that is worth another linear run of a dive."""

_SEARCH_FRAC = 0.1
"""Share of the time box without which branch and bound over all whole numbers is not worth beginning."""

_COMMIT_FRAC = 0.3
"""Share of the time box for the search of what runs when, before everything else is decided."""

_COMMIT_GAP = 0.1
"""Share of the money gap to which it searches."""

_CUT_ROUNDS = 5
"""Times that inequalities are looked for which whole numbers keep and the relaxed answer breaks."""

_WITHIN_REACH = 5.0
"""Money gaps from the relaxation at which a plan is worth improving before the search proper."""

_PASSED = Audit(findings=())

_LEAST_LINEAR_S = 2.0
"""Time a linear run gets at least [s]."""

_ROUNDS = 3
"""Rounds of adding binaries where the answer is broken before all of them are asked for."""


def solve(problem: DispatchProblem) -> DispatchSolution:
    """The best plan for one site, audited.

    Parameters
    ----------
    problem
        The site and its horizon.

    Returns
    -------
    DispatchSolution
        Use it only if `publishable`; `outcome` and `audit` say why it is not.
    """
    return solve_many([problem])[0]


def solve_many(
    problems: Sequence[DispatchProblem], executor: Executor | None = None
) -> list[DispatchSolution]:
    """Plans for many sites, in the order of the problems; a site's plan does not depend on the others.

    Parameters
    ----------
    problems
        Any mix of sites; sites of one shape share a compiled template.
    executor
        Where the work goes in chunks: a thread or process pool, Dask's executor; None works in this thread.
    """
    groups: defaultdict[Shape, list[int]] = defaultdict(list)
    for position, problem in enumerate(problems):
        groups[first_shape(problem)].append(position)
    chunks = [
        positions[start : start + CHUNK]
        for positions in groups.values()
        for start in range(0, len(positions), CHUNK)
    ]
    solutions: list[DispatchSolution | None] = [None] * len(problems)
    if executor is None:
        for chunk in chunks:
            for position, solution in zip(chunk, solve_chunk([problems[p] for p in chunk]), strict=True):
                solutions[position] = solution
    else:
        waiting = [(chunk, executor.submit(_answer_chunk, [problems[p] for p in chunk])) for chunk in chunks]
        for chunk, future in waiting:
            sent: _Sent = future.result()
            for position, solution in zip(chunk, sent.solutions([problems[p] for p in chunk]), strict=True):
                solutions[position] = solution
    return [solution for solution in solutions if solution is not None]


def _answer_chunk(problems: list[DispatchProblem]) -> _Sent:
    """What a worker does."""
    solutions = solve_chunk(problems)
    readings = [
        _Reading(
            schedules=solution.schedules,
            import_kw=solution.import_kw,
            export_kw=solution.export_kw,
            unserved_kw=solution.unserved_kw,
            surplus_kw=solution.surplus_kw,
            bus_price_per_kwh=solution.bus_price_per_kwh,
        )
        for solution in solutions
    ]
    return _Sent(
        readings=(stacked(readings) if _stack(problems[0]) else None) or readings,
        verdicts=[(one.outcome, one.costs, one.unmet, one.report, one.audit) for one in solutions],
    )


def solve_chunk(problems: Sequence[DispatchProblem]) -> list[DispatchSolution]:
    """Plans for problems of one shape."""
    shape = first_shape(problems[0])
    template, compiled = template_of(shape)
    works = [_Solve(problem) for problem in problems]
    works[0].compile_seconds = compiled
    stack = stacked_sites(problems, shape)
    starts = None if stack is None else unplanned_start(stack, template)
    if stack is not None and starts is not None:
        return _solved_together(template, stack, starts, works)
    vectors = rows(template.vectors(problems, own_scratch(template.room(len(problems)))), len(problems))
    # First all runs, then all readings: each keeps its own code and data in the processor's cache.
    answers = [work.first(template, own) for work, own in zip(works, vectors, strict=True)]
    return [
        work.follow(template, own, answer) for work, own, answer in zip(works, vectors, answers, strict=True)
    ]


def stacked_sites(problems: Sequence[DispatchProblem], shape: Shape) -> DispatchProblem | None:
    """Problems of one shape as one (see `stack.py`); None where they cannot be, or gain nothing by it."""
    if len(problems) == 1 or any(shape.site) or not _stack(problems[0]):
        return None
    return stacked(problems)


def _stack(problem: DispatchProblem) -> bool:
    """True if every asset of the site knows stacks."""
    return all(asset.stacks() for asset in problem.assets)


def _solved_together(
    template: Template, stack: DispatchProblem, starts: CodeArray, works: Sequence[_Solve]
) -> list[DispatchSolution]:
    """Solutions of a stack of problems: written, read and checked as one, solved one after the other.

    A problem whose first answer does not stand goes on alone.
    """
    problems = [work.problem for work in works]
    vectors = template.vectors(problems, own_scratch(template.room(len(works))), stack)
    own = rows(vectors, len(works))
    answers, answer = own_solver().run_each(
        template,
        vectors,
        np.broadcast_to(starts, (len(works), template.column_count)),
        [max(_LEAST_LINEAR_S, problem.time_limit_s) for problem in problems],
    )
    for work, one in zip(works, answers, strict=True):
        work.runs, work.solver_seconds = 1, one.seconds
        work.count(one.seconds)
    standing = list(range(len(works)))
    if answer is None or not _stands(stack, template, vectors, answer):
        standing = [k for k in standing if _stands(problems[k], template, own[k], answers[k])]
    finished: dict[int, DispatchSolution] = {}
    if len(standing) > 1:
        theta = vectors.theta
        if len(standing) < len(works) or answer is None:
            stack = _stacked([problems[k] for k in standing])
            answer = _stacked([answers[k] for k in standing])
            theta = theta[standing]
        finished = _finished_together(template, stack, theta, answer, {k: works[k] for k in standing})
    return [finished.get(k) or work.follow(template, own[k], answers[k]) for k, work in enumerate(works)]


def _stacked(some: Sequence[Owner]) -> Owner:
    """Some members of a stack as a stack."""
    stack = stacked(some)
    if stack is None:
        raise AssertionError("what was a stack is one no more")
    return stack


def _finished_together(
    template: Template, stack: DispatchProblem, theta: FloatArray, answer: Answer, works: Mapping[int, _Solve]
) -> dict[int, DispatchSolution]:
    """Solutions of a stack whose answers stand, read and checked as one; nothing where the audit does not pass all."""
    began = time.perf_counter()
    reading = _read(stack, template, answer)
    checked = _audited(stack, reading)
    claimed = _claimed(stack, template, theta, answer)
    if not checked.clear or _wrong_cost(claimed, checked.amounts(), np.ravel(stack.price_scale)).any():
        return {}
    parts = zip(works.items(), rows(reading, len(works)), checked.bills(len(works)), strict=True)
    share = (time.perf_counter() - began) / len(works)
    finished = {}
    for (k, work), part, costs in parts:
        work.count(share)
        finished[k] = work.solution(template, answer, part, costs=costs)
    return finished


def first_shape(problem: DispatchProblem) -> Shape:
    """The shape a problem is tried in first."""
    return site_shape(problem, soft=needs_soft(problem))


def needs_soft(problem: DispatchProblem) -> bool:
    """True if the lean model is known to have no solution."""
    return any(asset.needs_soft(problem) for asset in problem.assets)


_templates: dict[Shape, Template] = {}
_starts: dict[Shape, Basis] = {}
_compiling = threading.Lock()
_own = threading.local()


def _forget_after_fork() -> None:
    """A forked worker makes its own HiGHS: the parent's has threads the child does not have."""
    global _compiling, _own
    _compiling, _own = threading.Lock(), threading.local()
    _starts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def template_of(shape: Shape) -> tuple[Template, float]:
    """The compiled template of a shape, and what compiling took now [s]; 0 when it was known."""
    template = _templates.get(shape)
    if template is not None:
        return template, 0.0
    with _compiling:
        template = _templates.get(shape)
        if template is not None:
            return template, 0.0
        template = _templates[shape] = compile_shape(shape)
        return template, template.compile_seconds


def own_solver() -> Solver:
    """HiGHS of this thread."""
    solver: Solver | None = getattr(_own, "solver", None)
    if solver is None:
        solver = _own.solver = Solver()
    return solver


def own_scratch(size: int) -> FloatArray:
    """Memory of this thread for the vectors of one chunk at a time."""
    scratch: FloatArray | None = getattr(_own, "scratch", None)
    if scratch is None or scratch.size < size:
        scratch = _own.scratch = np.empty(size)
    return scratch


@lru_cache(maxsize=64)
def _zeros(count: int) -> FloatArray:
    nothing = np.zeros(count)
    nothing.flags.writeable = False
    return nothing


@dataclass(slots=True)
class AssetValues:
    """One asset's part of an answer; see `builder.Values`."""

    template: Template
    answer: Answer
    key: str
    scale: float

    def has(self, name: str) -> bool:
        """True if the shape has the variable family."""
        return (self.key, name) in self.template.columns

    def column(self, name: str) -> FloatArray:
        """Values of a variable family; zeros where the shape does not have it."""
        where = self.template.columns.get((self.key, name))
        return self.answer.x[..., where] if where is not None else _zeros(self.template.shape.intervals)

    def row_dual(self, name: str) -> FloatArray:
        """Change of the objective [currency] per unit of right-hand side of a constraint family."""
        where = self.template.rows.get((self.key, name))
        if where is None:
            return np.zeros(self.template.shape.intervals)
        return self.answer.row_dual[..., where] * self.scale

    def column_dual(self, name: str) -> FloatArray:
        """Reduced costs of a variable family [currency per unit]."""
        where = self.template.columns.get((self.key, name))
        if where is None:
            return np.zeros(self.template.shape.intervals)
        return self.answer.column_dual[..., where] * self.scale


@dataclass(slots=True)
class _Plan:
    """What a dive has found."""

    template: Template
    vectors: Vectors
    answer: Answer
    """A linear answer with the whole numbers fixed."""
    fixed: dict[Family, FloatArray]
    """The whole numbers; NaN where none is needed."""
    bound: float
    """No plan has a lower objective."""


@dataclass(slots=True)
class _Solve:
    """The way of one problem through lean, soft and discrete models."""

    problem: DispatchProblem
    compile_seconds: float = 0.0
    solver: Solver = field(default_factory=own_solver)
    template: Template = field(init=False)
    fixed: dict[Family, FloatArray] = field(default_factory=dict)
    clock: float = 0.0
    spent: float = 0.0
    paused: float = 0.0
    solver_seconds: float = 0.0
    runs: int = 0
    binaries: int = 0
    gap: float = 0.0

    def run_soft(self) -> DispatchSolution:
        """The same, but with every soft limit from the start."""
        shape = site_shape(self.problem, soft=True)
        template, _ = template_of(shape)
        vectors = template.own_vectors(self.problem)
        return self.follow(template, vectors, self.first(template, vectors))

    def first(self, template: Template, vectors: Vectors) -> Answer:
        """The first linear run."""
        self.clock = time.perf_counter()
        answer = self._linear(template, vectors, unplanned_start(self.problem, template))
        self.spent = time.perf_counter() - self.clock
        return answer

    def count(self, seconds: float) -> None:
        """Take note of time that was spent on it together with others."""
        self.spent, self.clock = self.spent + seconds, time.perf_counter()

    def follow(self, template: Template, vectors: Vectors, answer: Answer) -> DispatchSolution:
        """What the first answer asks for: nothing more, slacks, or binaries."""
        self.clock = time.perf_counter()
        if not template.shape.soft and not lean_holds(self.problem, template, vectors, answer):
            template, vectors = self._other(soft=True)
            answer = self._linear(template, vectors, None)
        if answer.outcome is Outcome.OPTIMAL:
            broken = broken_families(self.problem, template, answer)
            if broken:
                return self._discrete(broken)
        return self._finish(template, vectors, answer)

    def _linear(self, template: Template, vectors: Vectors, unplanned: CodeArray | None) -> Answer:
        """One linear run, from what happens without a plan or from the shape's start."""
        solver = self.solver
        solver.load(template, vectors)
        start = _starts.get(template.shape) if unplanned is None else (unplanned, template.idle_rows)
        solver.use_presolve(start is None)
        if start is not None:
            solver.start(start)
        answer = self._counted(solver, whole=False)
        if answer.outcome is Outcome.OPTIMAL:
            answer.x = np.minimum(np.maximum(answer.x, vectors.lower), vectors.upper)
            if start is None and (basis := solver.basis()) is not None:
                _starts[template.shape] = basis
        return answer

    def _counted(self, solver: Solver, *, whole: bool) -> Answer:
        """One run within the time that is left, to the money gap."""
        # linear runs are short, and without them there is no plan at all
        seconds = max(0.05, self._left()) if whole else max(_LEAST_LINEAR_S, self._left())
        solver.limit(seconds=seconds, gap=self._money_gap(), whole=whole)
        answer = solver.run(whole=whole)
        self.runs += 1
        self.solver_seconds += answer.seconds
        return answer

    def _money_gap(self) -> float:
        """Distance from the best plan at which a search may stop [objective]."""
        gap = self.problem.money_gap
        return USUAL_GAP if gap is None else gap / self.problem.price_scale

    def _left(self) -> float:
        """What is left of the time box [s]; compiling does not count."""
        gone = self.spent + time.perf_counter() - self.clock - self.paused
        return self.problem.time_limit_s - gone

    def _other(self, *, soft: bool, discrete: frozenset[Family] = frozenset()) -> tuple[Template, Vectors]:
        shape = site_shape(self.problem, soft=soft, discrete=discrete)
        other, seconds = template_of(shape)
        self.compile_seconds += seconds
        self.paused += seconds
        return other, other.own_vectors(self.problem)

    def _discrete(self, broken: dict[Family, BoolArray]) -> DispatchSolution:
        """A plan near the relaxation; where that does not prove it, a search that starts from it.

        Binaries are asked for in the families that are broken, and again in those which that broke.
        """
        wanted: dict[Family, BoolArray] = {}
        for round_ in range(_ROUNDS + 1):
            wanted = _joined(wanted, broken)
            # soft: the proof by duality that lets the lean model stand does not hold for whole numbers
            template, vectors = self._other(
                soft=True, discrete=EVERY if round_ == _ROUNDS else frozenset(wanted)
            )
            plan = self._dive(template, vectors)
            if plan is None:
                break
            broken = broken_families(self.problem, template, plan.answer)
            if not broken:
                return self._proven(plan) or self._searched(wanted, plan)
        return self._searched(wanted, None)

    def _dive(self, template: Template, vectors: Vectors) -> _Plan | None:
        """Whole numbers near the relaxation of a model, and the bound it proves; None if there are none near."""
        self.solver.use_presolve(True)
        self.solver.load(template, vectors)
        relaxed = self._counted(self.solver, whole=False)
        if relaxed.outcome is not Outcome.OPTIMAL:
            return None
        self.solver.use_presolve(False)
        relaxed = self._tightened(template, vectors, relaxed)
        commitments = self._commitments(template, vectors, relaxed)
        until = self._left() - _COMMIT_FRAC * self.problem.time_limit_s
        found = commitments.search(lambda: self._left() > until)
        dive = Dive(
            template=template,
            vectors=vectors,
            solver=self.solver,
            run=self._again,
            wanted=lambda answer: self._shares(template, answer),
            worth=_WORTH * max(self._money_gap(), USUAL_GAP),
            open=self._goes_on,
        )
        answer = dive.plan(relaxed, found.values)
        if answer is None:
            return None
        gap, bound = self._money_gap(), found.bound
        if gap < answer.objective - bound <= _WITHIN_REACH * gap:
            with dive.released():
                bound = commitments.search(self._goes_on, answer.objective - gap).bound
        if gap < answer.objective - bound <= _WITHIN_REACH * gap:
            answer = dive.improve(answer, bound + gap)
        if answer.row_dual.size > template.row_count:
            # the added rows hold by themselves now; without them the prices are those of the model
            self.solver.release_rows(template.row_count)
            released = self._again()
            if released.outcome is Outcome.OPTIMAL:
                answer = released
        return _Plan(template, vectors, answer, dict(dive.fixed), bound)

    def _again(self) -> Answer:
        """What is loaded, from where the last run ended."""
        return self._counted(self.solver, whole=False)

    def _tightened(self, template: Template, vectors: Vectors, relaxed: Answer) -> Answer:
        """The relaxed answer with rows that whole numbers keep anyway, as far as it broke them."""
        for _ in range(_CUT_ROUNDS):
            values = [of for _, of in _with_values(self.problem, template, relaxed)]
            broken = [
                _row(template, cut)
                for asset in self.problem.assets
                for cut in asset.cuts(self.problem, values)
            ]
            broken += broken_covers(template, vectors, relaxed.x)
            if not broken:
                break
            self.solver.add_rows(broken)
            tighter = self._again()
            if tighter.outcome is not Outcome.OPTIMAL:
                break
            relaxed = tighter
        return relaxed

    def _goes_on(self) -> bool:
        """True while there is time for more than putting the answer together."""
        return self._left() > _SEARCH_FRAC * self.problem.time_limit_s

    def _commitments(self, template: Template, vectors: Vectors, relaxed: Answer) -> Branch:
        """The search of what runs when and what answers an event, with all else relaxed.

        These few decisions weigh more than all others together.
        """
        return Branch(
            template=template,
            vectors=vectors,
            solver=self.solver,
            run=self._again,
            families=sorted(template.binaries.keys() - template.directions - template.once),
            gap=_COMMIT_GAP * self._money_gap(),
            relaxed=relaxed,
        )

    def _shares(self, template: Template, answer: Answer) -> dict[Family, FloatArray]:
        """Per binary family: how much of each decision a relaxed answer asks for; see `Asset.shares`."""
        found = {family: answer.x[where] for family, where in template.binaries.items()}
        grid = AssetValues(template, answer, GRID, self.problem.price_scale)
        found[GRID, "importing"] = direction_share(grid.column("import"), grid.column("export"))
        for asset, values in _with_values(self.problem, template, answer):
            for name, share in asset.shares(self.problem, values).items():
                found[values.key, name] = share
        return {family: found[family] for family in template.binaries}

    def _proven(self, plan: _Plan) -> DispatchSolution | None:
        """The plan, if the bound says that it is near enough to the best there is."""
        gap = plan.answer.objective - plan.bound
        if gap > self._money_gap():
            return None
        return self._planned(plan, Outcome.OPTIMAL)

    def _planned(self, plan: _Plan, outcome: Outcome) -> DispatchSolution:
        """A plan of the dive as an answer."""
        answer, vectors = plan.answer, plan.vectors
        self.gap = max(0.0, answer.objective - plan.bound) * self.problem.price_scale
        self.fixed = plan.fixed
        self.binaries = sum(int(np.isfinite(values).sum()) for values in plan.fixed.values())
        answer.x = np.minimum(np.maximum(answer.x, vectors.lower), vectors.upper)
        answer.outcome = outcome
        answer.message = "" if outcome is Outcome.OPTIMAL else "time box closed"
        return self._finish(plan.template, vectors, answer)

    def _searched(self, wanted: dict[Family, BoolArray], plan: _Plan | None) -> DispatchSolution:
        """Branch and bound in the time that is left; what an answer breaks is asked for in the next round."""
        bound = -np.inf if plan is None else plan.bound
        if plan is not None and self._left() < _SEARCH_FRAC * self.problem.time_limit_s:
            return self._planned(plan, Outcome.FEASIBLE)
        for round_ in range(_ROUNDS + 1):
            every = round_ == _ROUNDS
            template, vectors = self._other(soft=True, discrete=EVERY if every else frozenset(wanted))
            for family, where in template.binaries.items():
                if every or family not in template.directions:
                    wanted[family] = np.ones(len(positions(where)), dtype=bool)
            start = plan.answer.x if plan is not None and plan.template is template else None
            answer = self._whole(template, vectors, wanted, start)
            bound = max(bound, answer.bound)
            if answer.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
                break
            broken = broken_families(self.problem, template, answer)
            if not broken:
                settled = self._settle(template, vectors, answer, wanted, bound)
                if answer.outcome is Outcome.OPTIMAL:
                    return settled
                # what the search had when its time was over may be worse
                return _cheaper(settled, self._without_search(plan, bound))
            wanted = _joined(wanted, broken)
        return self._without_search(plan, bound)

    def _without_search(self, plan: _Plan | None, bound: float) -> DispatchSolution:
        """What there is when the search brings nothing: the plan of the dive, or one rounded from the relaxation."""
        if plan is None:
            return self._rounded()
        plan.bound = max(plan.bound, bound)
        return self._proven(plan) or self._planned(plan, Outcome.FEASIBLE)

    def _whole(
        self,
        template: Template,
        vectors: Vectors,
        wanted: dict[Family, BoolArray],
        start: FloatArray | None,
    ) -> Answer:
        """One mixed-integer run, from a plan where there is one."""
        solver, whole = self.solver, _columns(template, wanted)
        self.binaries = len(whole)
        solver.use_presolve(True)
        solver.load(template, vectors, integral=whole)
        if start is not None:
            start = start.copy()
            start[whole] = np.round(start[whole])
            solver.guess(start)
        answer = self._counted(solver, whole=True)
        if answer.x.size:
            answer.x = np.minimum(np.maximum(answer.x, vectors.lower), vectors.upper)
        return answer

    def _rounded(self) -> DispatchSolution:
        """A plan when the time box closes before the search has one: whole numbers rounded from the relaxation.

        Runs start where most of them starts, machines stay as they are, directions follow the larger side; every other
        limit is soft in this model, so a plan is left. The relaxation bounds the gap.
        """
        template, vectors = self._other(soft=True, discrete=EVERY)
        self.solver.use_presolve(True)
        self.solver.load(template, vectors)
        relaxed = self._counted(self.solver, whole=False)
        if relaxed.outcome is not Outcome.OPTIMAL:
            return self._finish(template, vectors, relaxed)
        answer = relaxed
        # whole runs first, then directions: on wherever a little was wanted, the nearer, every way left open
        before = answer
        for directions, how in ((False, "near"), (True, "up"), (True, "near"), (True, "open")):
            if directions and how == "up":
                before = answer
            if how != "up" and directions and answer.outcome is Outcome.OPTIMAL:
                break
            for family, where in template.binaries.items():
                if (family in template.directions) is directions:
                    columns = positions(where)
                    values = _rounded_values(
                        family[1],
                        before.x[columns],
                        vectors.lower[columns],
                        vectors.upper[columns],
                        directions=directions,
                        how=how,
                    )
                    vectors.lower[columns] = vectors.upper[columns] = values
            self.solver.load(template, vectors)
            answer = self._counted(self.solver, whole=False)
            if answer.outcome is not Outcome.OPTIMAL and not directions:
                return self._finish(template, vectors, answer)
        responding = self._responding(template, answer)
        if responding.size:
            vectors.lower[responding] = vectors.upper[responding] = 1.0
            self.solver.load(template, vectors)
            answer = self._counted(self.solver, whole=False)
        if answer.outcome is Outcome.OPTIMAL:
            answer.outcome = Outcome.FEASIBLE
            answer.x = np.minimum(np.maximum(answer.x, vectors.lower), vectors.upper)
            self.gap = max(0.0, answer.objective - relaxed.objective) * self.problem.price_scale
        return self._finish(template, vectors, answer)

    def _responding(self, template: Template, answer: Answer) -> IntArray:
        """Decisions of the events an answer earns from although it was not asked to."""
        if answer.outcome is not Outcome.OPTIMAL:
            return np.empty(0, dtype=np.int64)
        imported, exported = (answer.x[template.columns[GRID, name]] for name in ("import", "export"))
        earned = [
            positions(template.columns[f"response{k}", "responds"])
            for k, event in enumerate(self.problem.demand_responses)
            if reduction_kwh(self.problem, event, imported, exported) > 0.0
        ]
        return np.concatenate(earned) if earned else np.empty(0, dtype=np.int64)

    def _settle(
        self,
        template: Template,
        vectors: Vectors,
        found: Answer,
        wanted: dict[Family, BoolArray],
        bound: float,
    ) -> DispatchSolution:
        """Fix the whole numbers and solve the rest once more: exact powers, and marginal prices."""
        for family, where in template.binaries.items():
            if family not in template.directions:
                wanted[family] = np.ones(len(positions(where)), dtype=bool)
        self.fixed = {
            family: np.where(mask, np.round(found.x[template.binaries[family]]), np.nan)
            for family, mask in wanted.items()
        }
        whole = _columns(template, wanted)
        vectors.lower[whole] = vectors.upper[whole] = np.round(found.x[whole])
        self.gap = max(0.0, found.objective - bound) * self.problem.price_scale
        solver = self.solver
        solver.use_presolve(True)
        solver.load(template, vectors)
        answer = self._counted(solver, whole=False)
        if answer.outcome is not Outcome.OPTIMAL:
            answer = found
        else:
            answer.x = np.minimum(np.maximum(answer.x, vectors.lower), vectors.upper)
            answer.outcome = found.outcome
            if broken_families(self.problem, template, answer):
                # another optimum of the same money that breaks what the search kept: stay with the search's
                answer.x, answer.objective = found.x, found.objective
        return self._finish(template, vectors, answer)

    def _finish(self, template: Template, vectors: Vectors, answer: Answer) -> DispatchSolution:
        """Read, audit, and put together."""
        problem = self.problem
        if answer.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
            return self._nothing(answer)
        reading = _read(problem, template, answer)
        checked = _audited(problem, reading)
        claimed = _claimed(problem, template, vectors.theta, answer)
        amounts = np.array([line.amount for line in checked.costs])
        if _wrong_cost(claimed, amounts, problem.price_scale):
            excess = abs(float(claimed[0]) - float(amounts.sum()))
            checked.findings.append(
                Finding(rule="cost", owner="site", interval=0, excess=excess, unit="currency")
            )
        return self.solution(
            template,
            answer,
            reading,
            costs=tuple(checked.costs),
            unmet=tuple(checked.unmet),
            findings=tuple(checked.findings),
        )

    def solution(
        self,
        template: Template,
        answer: Answer,
        reading: _Reading,
        *,
        costs: tuple[CostLine, ...],
        unmet: tuple[UnmetWish, ...] = (),
        findings: tuple[Finding, ...] = (),
    ) -> DispatchSolution:
        """What was read and what the audit said of it, put together."""
        self.template = template
        outcome = answer.outcome if not findings else Outcome.FAILED
        report = self._report(answer, soft=template.shape.soft)
        return reading.solution(
            self.problem, outcome, costs, unmet, report, Audit(findings=findings) if findings else _PASSED
        )

    def _nothing(self, answer: Answer) -> DispatchSolution:
        """The solver gave no point."""
        nothing = np.zeros(self.problem.intervals)
        return DispatchSolution(
            problem=self.problem,
            outcome=answer.outcome,
            import_kw=nothing,
            export_kw=nothing,
            unserved_kw=nothing,
            surplus_kw=nothing,
            bus_price_per_kwh=nothing,
            report=self._report(answer, soft=True),
            audit=Audit(
                findings=(Finding(rule="no_solution", owner="site", interval=0, excess=np.inf, unit="kW"),)
            ),
        )

    def _report(self, answer: Answer, *, soft: bool) -> SolveReport:
        return SolveReport(
            gap=self.gap,
            seconds=self.spent + time.perf_counter() - self.clock,
            solver_seconds=self.solver_seconds,
            compile_seconds=self.compile_seconds,
            binaries=self.binaries,
            runs=self.runs,
            soft=soft,
            message="" if answer.outcome is Outcome.OPTIMAL else answer.message,
        )


def _row(template: Template, cut: Cut) -> Row:
    """Columns and entries of an inequality, and what it is at least."""
    columns = [positions(template.columns[f"a{asset}", name])[at] for asset, name, at, _ in cut.terms]
    return np.concatenate(columns), np.concatenate([entries for *_, entries in cut.terms]), cut.least


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """An answer in the words of the site; of one problem, or of a stack of them."""

    schedules: tuple[AssetSchedule, ...]
    import_kw: FloatArray
    export_kw: FloatArray
    unserved_kw: FloatArray
    surplus_kw: FloatArray
    bus_price_per_kwh: FloatArray

    def solution(
        self,
        problem: DispatchProblem,
        outcome: Outcome,
        costs: tuple[CostLine, ...],
        unmet: tuple[UnmetWish, ...],
        report: SolveReport,
        verdict: Audit,
    ) -> DispatchSolution:
        """The answer to one problem, with what else is to be said of it."""
        return DispatchSolution(
            problem=problem,
            outcome=outcome,
            schedules=self.schedules,
            import_kw=self.import_kw,
            export_kw=self.export_kw,
            unserved_kw=self.unserved_kw,
            surplus_kw=self.surplus_kw,
            costs=costs,
            unmet=unmet,
            bus_price_per_kwh=self.bus_price_per_kwh,
            report=report,
            audit=verdict,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sent:
    """Solutions on their way from a worker: without the questions, and with their series in one piece where they stack.

    To pickle each series by itself took longer than to check the plan.
    """

    readings: _Reading | list[_Reading]
    verdicts: list[tuple[Outcome, tuple[CostLine, ...], tuple[UnmetWish, ...], SolveReport, Audit]]

    def solutions(self, problems: Sequence[DispatchProblem]) -> list[DispatchSolution]:
        """The answers to these problems."""
        readings = self.readings if isinstance(self.readings, list) else rows(self.readings, len(problems))
        return [
            reading.solution(problem, *verdict)
            for problem, reading, verdict in zip(problems, readings, self.verdicts, strict=True)
        ]


def _with_values(
    problem: DispatchProblem, template: Template, answer: Answer
) -> Iterator[tuple[Asset, AssetValues]]:
    """Yield each asset with its part of an answer."""
    for position, asset in enumerate(problem.assets):
        yield asset, AssetValues(template, answer, f"a{position}", problem.price_scale)


def _read(problem: DispatchProblem, template: Template, answer: Answer) -> _Reading:
    grid = AssetValues(template, answer, GRID, problem.price_scale)
    return _Reading(
        schedules=tuple(
            asset.read(problem, values) for asset, values in _with_values(problem, template, answer)
        ),
        import_kw=grid.column("import"),
        export_kw=grid.column("export"),
        unserved_kw=grid.column("unserved"),
        surplus_kw=grid.column("surplus"),
        bus_price_per_kwh=grid.row_dual("bus") / problem.hours,
    )


def _audited(problem: DispatchProblem, reading: _Reading) -> AuditReport:
    return audit(
        problem,
        reading.schedules,
        reading.import_kw,
        reading.export_kw,
        reading.unserved_kw,
        reading.surplus_kw,
    )


def _claimed(problem: DispatchProblem, template: Template, theta: FloatArray, answer: Answer) -> FloatArray:
    """What the solver says the bill is [currency]; one per home of a stack."""
    constant = sum(asset.constant_cost(problem) for asset in problem.assets)
    claimed: FloatArray = constant + np.ravel(answer.objective * problem.price_scale)
    for columns, numbers in template.tie:
        claimed = claimed - np.einsum("...i,...i", answer.x[..., columns], theta[..., numbers])
    return claimed


def _wrong_cost(claimed: FloatArray, amounts: FloatArray, scale: Series) -> BoolArray:
    """Where the solver's cost is not the bill's, whose lines are `amounts`."""
    size = np.abs(amounts).sum(axis=0) + scale
    wrong: BoolArray = ~(np.abs(claimed - amounts.sum(axis=0)) <= COST_TOLERANCE * size)
    return wrong


def lean_holds(problem: DispatchProblem, template: Template, vectors: Vectors, answer: Answer) -> bool:
    """True if no bound of the lean model stands for a wish that is worth breaking."""
    if answer.outcome is not Outcome.OPTIMAL:
        return False
    grid = AssetValues(template, answer, GRID, problem.price_scale)
    for name in ("import", "export"):
        where = template.columns[GRID, name]
        touched = (answer.x[..., where] >= vectors.upper[..., where]).any()
        if touched and (-grid.column_dual(name) > limit_price(problem) * problem.hours).any():
            return False
    return all(asset.lean_holds(problem, values) for asset, values in _with_values(problem, template, answer))


def _stands(problem: DispatchProblem, template: Template, vectors: Vectors, answer: Answer) -> bool:
    """True if the first answer is the plan; of a stack: if each is."""
    if answer.outcome is not Outcome.OPTIMAL:
        return False
    if not template.shape.soft and not lean_holds(problem, template, vectors, answer):
        return False
    return not broken_families(problem, template, answer)


def unplanned_start(problem: DispatchProblem, template: Template) -> CodeArray | None:
    """Codes of the columns when every asset does what it does without a plan and the connection carries what is left.

    None if an asset knows no such start.
    """
    if any(template.shape.site) or template.shape.soft:
        return None
    left = problem.load_kw
    for roof in problem.of(Pv):
        left = left - roof.available_kw
    columns = np.zeros((*left.shape[:-1], template.column_count), dtype=np.int32)
    for position, asset in enumerate(problem.assets):
        start = asset.unplanned(problem, left)
        if start is None:
            return None
        codes, left = start
        for name, code in codes.items():
            columns[..., template.columns[f"a{position}", name]] = code
    columns[..., template.columns[GRID, "import"]] = np.where(left > 0.0, BASIC, AT_LOWER)
    columns[..., template.columns[GRID, "export"]] = np.where(left <= 0.0, BASIC, AT_LOWER)
    return columns


def broken_families(problem: DispatchProblem, template: Template, answer: Answer) -> dict[Family, BoolArray]:
    """Per binary family: where the relaxed answer cannot be followed."""
    found: dict[Family, BoolArray] = {}
    grid = AssetValues(template, answer, GRID, problem.price_scale)
    both = clash(grid.column("import"), grid.column("export"))
    if both is not None:
        found[GRID, "importing"] = both
    for k, event in enumerate(problem.demand_responses):
        values = AssetValues(template, answer, f"response{k}", problem.price_scale)
        mask = broken_response(problem, event, values, grid.column("import"), grid.column("export"))
        if mask.any():
            found[f"response{k}", "responds"] = mask
    for asset, values in _with_values(problem, template, answer):
        for name, mask in asset.broken(problem, values).items():
            if mask.any():
                found[values.key, name] = mask
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """The soft model a problem ends in, with its whole numbers decided."""

    template: Template
    fixed: dict[Family, FloatArray]
    """Values of the binaries that had to be whole; NaN where they did not."""


def settle(problem: DispatchProblem, solver: Solver) -> Settled:
    """Decide the whole numbers of a problem in the model with every soft limit: what the fast loop starts from."""
    work = _Solve(problem, solver=solver)
    work.run_soft()
    return Settled(template=work.template, fixed=work.fixed)


def _rounded_values(
    name: str, relaxed: FloatArray, least: FloatArray, most: FloatArray, *, directions: bool, how: str
) -> FloatArray:
    """Whole numbers near a relaxed answer that leave a plan: see `_Solve._rounded`."""
    if directions and how == "up":
        return np.ceil(relaxed - 1e-6)
    if how == "open":
        return np.ceil(relaxed - 1e-6) if name == "importing" else np.floor(relaxed + 1e-6)
    if directions:
        # a load that must not get more than its energy is only on where it is fully on
        return np.floor(relaxed + (1e-6 if name == "on" else 0.5))
    if name == "on" and relaxed[0] > 1e-6:
        return most.copy()  # a machine that runs stays on: it could be too high up to stop at once
    values = least.copy()
    if name == "start" and relaxed.sum() > 0.5:
        values[int(np.argmax(relaxed))] = 1.0
    return values


def _joined(one: dict[Family, BoolArray], other: dict[Family, BoolArray]) -> dict[Family, BoolArray]:
    """Masks of both."""
    return one | {family: one[family] | mask if family in one else mask for family, mask in other.items()}


def _cheaper(one: DispatchSolution, other: DispatchSolution) -> DispatchSolution:
    """The publishable one; of two, the cheaper."""
    if not one.publishable or (other.publishable and other.cost < one.cost):
        return other
    return one


def _columns(template: Template, wanted: dict[Family, BoolArray]) -> IntArray:
    """Columns of the wanted binaries."""
    return np.concatenate([positions(template.binaries[family])[mask] for family, mask in wanted.items()])
