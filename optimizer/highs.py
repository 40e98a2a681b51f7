"""The only module that speaks to HiGHS: options, model, start, run, and its words turned into ours.

It calls the C interface of the library inside highspy. highspy's own Python layer turns every number of a model, a
basis and a solution into a Python object, which took half as long as solving the home of a battery and an array.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import highspy
import numpy as np

from optimizer.arrays import CodeArray, FloatArray, IntArray
from optimizer.solution import Outcome
from optimizer.template import Template, Vectors

Basis = tuple[CodeArray, CodeArray]
"""Codes of columns and rows: see `builder.BASIC`."""

Row = tuple[IntArray, FloatArray, float]
"""Columns of an inequality, their entries, and what the sum is at least."""


_STATUS = {
    int(highspy.HighsModelStatus.kOptimal): Outcome.OPTIMAL,
    int(highspy.HighsModelStatus.kInfeasible): Outcome.INFEASIBLE,
    int(highspy.HighsModelStatus.kUnboundedOrInfeasible): Outcome.INFEASIBLE,
    int(highspy.HighsModelStatus.kTimeLimit): Outcome.FEASIBLE,
    int(highspy.HighsModelStatus.kIterationLimit): Outcome.FEASIBLE,
    int(highspy.HighsModelStatus.kSolutionLimit): Outcome.FEASIBLE,
}
"""What HiGHS says of a model after a run; at any other word there is nothing to use."""

_OPTIMAL = int(highspy.HighsModelStatus.kOptimal)
_ERROR = int(highspy.HighsStatus.kError)
_COLUMN_WISE = 1
_MINIMISE = 1
_VALID_BASIS = int(highspy.BasisValidity.kBasisValidityValid)
_FEASIBLE_POINT = int(highspy.SolutionStatus.kSolutionStatusFeasible)


@dataclass(kw_only=True, slots=True)
class Answer:
    """What a run gave, or all the runs of a stack: then its numbers have a row per problem."""

    outcome: Outcome
    """OPTIMAL, or FEASIBLE with a feasible point and a gap; else there is no point."""
    x: FloatArray
    """Columns; empty without a point."""
    row_dual: FloatArray
    """Duals of the rows; zeros for mixed-integer runs, empty without a point."""
    column_dual: FloatArray
    """Reduced costs of the columns; zeros for mixed-integer runs, empty without a point."""
    objective: float
    """Objective of the point."""
    bound: float
    """No point has a lower objective; minus infinity where a linear run did not end."""
    seconds: float
    """Time inside `run` [s]."""
    message: str
    """HiGHS' own word."""


@cache
def _library() -> ctypes.CDLL:
    """HiGHS, found through the extension module that is linked against it."""
    library = ctypes.CDLL(highspy._core.__file__)
    if not hasattr(library, "Highs_create"):
        raise AssertionError(f"this build of highspy shows no C interface: {highspy._core.__file__}")
    library.Highs_create.restype = ctypes.c_void_p
    for name in ("Highs_getObjectiveValue", "Highs_getRunTime"):
        getattr(library, name).restype = ctypes.c_double
    if library.Highs_getSizeofHighsInt() != ctypes.sizeof(ctypes.c_int32):
        raise AssertionError("HiGHS was built with 64-bit integers; the module passes 32-bit ones")
    return library


def _address(array: np.ndarray[Any, Any]) -> ctypes.c_void_p:
    """Where the numbers of a contiguous array stand."""
    return ctypes.c_void_p(array.ctypes.data)


class Solver:
    """One HiGHS instance, one thread, deterministic."""

    def __init__(self) -> None:
        self._c = _library()
        self._highs = ctypes.c_void_p(self._c.Highs_create())
        self._options: dict[str, object] = {}
        self._lower = self._upper = self._duals = np.empty(0)
        self._rows = 0
        for option, value in (
            ("output_flag", False),
            ("threads", 1),
            ("parallel", "off"),
            ("random_seed", 0),
            ("mip_rel_gap", 0.0),
            ("dual_feasibility_tolerance", 1e-9),
            # On dispatch problems of a few hundred binaries these cost more than they find (see README).
            ("mip_heuristic_run_rins", False),
            ("mip_heuristic_run_root_reduced_cost", False),
            ("mip_allow_restart", False),
        ):
            self._set(option, value)
        self.use_presolve(False)

    def __del__(self) -> None:
        self._c.Highs_destroy(self._highs)

    def _set(self, option: str, value: bool | float | str) -> None:
        """Set an option, unless it has this value already."""
        if self._options.get(option) == value:
            return
        self._options[option] = value
        name, status = option.encode(), 0
        match value:
            case bool():
                status = self._c.Highs_setBoolOptionValue(self._highs, name, int(value))
            case int():
                status = self._c.Highs_setIntOptionValue(self._highs, name, value)
            case float():
                status = self._c.Highs_setDoubleOptionValue(self._highs, name, ctypes.c_double(value))
            case str():
                status = self._c.Highs_setStringOptionValue(self._highs, name, value.encode())
        if status == _ERROR:
            raise AssertionError(f"HiGHS refuses option {option} = {value!r}")

    def use_presolve(self, on: bool) -> None:
        """Presolve helps a cold or mixed-integer run and hinders a warm one."""
        self._set("presolve", "choose" if on else "off")

    def load(self, template: Template, vectors: Vectors, integral: IntArray | None = None) -> None:
        """Hand over one problem; `integral` names the columns that must be whole numbers."""
        # the vectors stand one behind the other; to ask each array for its address costs a tenth of the hand-over
        begin = vectors.flat.ctypes.data
        cost, lower, upper, row_lower, row_upper, matrix = (
            ctypes.c_void_p(begin + vectors.flat.itemsize * cut) for cut in (0, *template.cuts)
        )
        arguments = [
            self._highs,
            template.column_count,
            template.row_count,
            len(template.index),
            _COLUMN_WISE,
            _MINIMISE,
            ctypes.c_double(0.0),
            cost,
            lower,
            upper,
            row_lower,
            row_upper,
            _address(template.starts),
            _address(template.index),
            matrix,
        ]
        if integral is None:
            status = self._c.Highs_passLp(*arguments)
        else:
            kinds = np.zeros(template.column_count, dtype=np.int32)
            kinds[integral] = 1
            status = self._c.Highs_passMip(*arguments, _address(kinds))
        if status == _ERROR:
            raise AssertionError("HiGHS refuses the model")
        self._lower, self._upper, self._rows = vectors.lower, vectors.upper, template.row_count

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Add inequalities to the loaded problem."""
        starts = np.cumsum([0, *(columns.size for columns, _, _ in rows[:-1])]).astype(np.int32)
        index = np.concatenate([columns for columns, _, _ in rows]).astype(np.int32)
        entries = np.concatenate([values for _, values, _ in rows])
        least = np.array([bound for _, _, bound in rows])
        most = np.full(len(rows), np.inf)
        arguments = [self._highs, len(rows), _address(least), _address(most)]
        arguments += [len(index), _address(starts), _address(index), _address(entries)]
        if self._c.Highs_addRows(*arguments) == _ERROR:
            raise AssertionError("HiGHS refuses the rows")
        self._rows += len(rows)

    def release_rows(self, first: int) -> None:
        """Let the rows from `first` on bind nothing any more; the next run starts where the last one ended."""
        for row in range(first, self._rows):
            self._c.Highs_changeRowBounds(self._highs, row, ctypes.c_double(-np.inf), ctypes.c_double(np.inf))

    def start(self, basis: Basis) -> None:
        """Start the next run from a basis of the same shape."""
        columns, rows = basis
        if self._c.Highs_setBasis(self._highs, _address(columns), _address(rows)) == _ERROR:
            raise AssertionError("HiGHS refuses the basis")

    def basis(self) -> Basis | None:
        """The basis of the last run; None if it left none."""
        if self._info("basis_validity", ctypes.c_int32) != _VALID_BASIS:
            return None
        columns, rows = np.empty(self._lower.size, dtype=np.int32), np.empty(self._rows, dtype=np.int32)
        self._c.Highs_getBasis(self._highs, _address(columns), _address(rows))
        return columns, rows

    def guess(self, x: FloatArray) -> None:
        """Start the next mixed-integer run from this point."""
        self._c.Highs_setSolution(self._highs, _address(x), None, None, None)

    def limit(self, *, seconds: float, gap: float, whole: bool = False) -> None:
        """Time box [s] and absolute gap [objective] of the next run."""
        # A linear run is measured by the clock of the instance, a mixed-integer run by one of its own.
        self._set("time_limit", seconds if whole else self._c.Highs_getRunTime(self._highs) + seconds)
        if whole:
            self._set("mip_abs_gap", gap)

    def change(
        self,
        template: Template,
        price_scale: float,
        entries: IntArray,
        values: FloatArray,
        pinned: frozenset[int],
    ) -> None:
        """Change entries of the stacked vectors of the loaded problem (see `Template.constant`).

        `pinned` columns keep the bounds they have.
        """
        a, b, c, d, e = template.cuts
        part = np.searchsorted(template.cuts, entries, side="right")
        if (part == 0).any():
            at = entries[part == 0].astype(np.int32)
            costs = values[part == 0] / price_scale
            self._c.Highs_changeColsCostBySet(self._highs, len(at), _address(at), _address(costs))
        moved = set()
        for low, base, bounds in ((1, a, self._lower), (2, b, self._upper)):
            for entry, value in zip(entries[part == low], values[part == low], strict=True):
                column = int(entry - base)
                if column not in pinned:
                    bounds[column] = value
                    moved.add(column)
        if moved:
            at = np.array(sorted(moved))
            self.change_bounds(at, self._lower[at], self._upper[at])
        sides: dict[int, list[float]] = {}
        for low, base in ((3, c), (4, d)):
            for entry, value in zip(entries[part == low], values[part == low], strict=True):
                sides.setdefault(int(entry - base), [-np.inf, np.inf])[low - 3] = float(value)
        for row, (lower, upper) in sides.items():
            self._c.Highs_changeRowBounds(self._highs, row, ctypes.c_double(lower), ctypes.c_double(upper))
        for entry, value in zip(entries[part == 5] - e, values[part == 5], strict=True):
            column = int(np.searchsorted(template.starts, entry, side="right")) - 1
            row = int(template.index[entry])
            self._c.Highs_changeCoeff(self._highs, row, column, ctypes.c_double(float(value)))

    def change_bounds(self, columns: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """New bounds for some columns of the loaded problem."""
        at = columns.astype(np.int32)
        self._c.Highs_changeColsBoundsBySet(
            self._highs, len(at), _address(at), _address(lower), _address(upper)
        )

    def run(self, *, whole: bool = False) -> Answer:
        """Solve what is loaded; `whole` for mixed-integer problems."""
        c, highs = self._c, self._highs
        self._tune(whole=whole)
        began = time.perf_counter()
        c.Highs_run(highs)
        word = c.Highs_getModelStatus(highs)
        if not whole and word not in _STATUS:
            c.Highs_clearSolver(highs)  # a warm start can leave a dual infeasibility just above the tolerance
            c.Highs_run(highs)
            word = c.Highs_getModelStatus(highs)
        seconds = time.perf_counter() - began
        outcome = _STATUS.get(word, Outcome.FAILED)
        if outcome in (Outcome.INFEASIBLE, Outcome.FAILED):
            return _no_answer(outcome, seconds, word)
        objective = bound = c.Highs_getObjectiveValue(highs)
        if whole or outcome is Outcome.FEASIBLE:
            bound = self._info("mip_dual_bound", ctypes.c_double) if whole else -np.inf
            if self._info("primal_solution_status", ctypes.c_int32) != _FEASIBLE_POINT:
                return _no_answer(Outcome.FAILED, seconds, word, bound)
        x, row_dual = np.empty(self._lower.size), np.zeros(self._rows)
        column_dual = np.zeros(self._lower.size)
        duals = (None, None) if whole else (_address(column_dual), _address(row_dual))
        c.Highs_getSolution(highs, _address(x), duals[0], None, duals[1])
        return Answer(
            outcome=outcome,
            x=x,
            row_dual=row_dual,
            column_dual=column_dual,
            objective=objective,
            bound=bound,
            seconds=seconds,
            message="" if outcome is Outcome.OPTIMAL else _word(word),
        )

    def run_each(
        self, template: Template, vectors: Vectors, starts: CodeArray, seconds: Sequence[float]
    ) -> tuple[list[Answer], Answer | None]:
        """Solve a stack of linear problems one after the other, each from its own start: codes of the columns.

        The answers inside their bounds, and all of them as one where every problem has an optimum at once. Their duals
        stand in memory that the next stack uses again: fresh memory costs more than to fill it. Between two
        runs is as little as can be: after each, the processor has forgotten what Python needs.
        """
        c, highs = self._c, self._highs
        count, n, m = len(vectors.flat), template.column_count, template.row_count
        self.use_presolve(False)
        self._tune(whole=False)
        self._lower, self._upper, self._rows = vectors.lower[-1], vectors.upper[-1], m
        if self._duals.size < count * (n + m):
            self._duals = np.empty(count * (n + m))
        x, duals = np.empty((count, n)), np.split(self._duals, [count * n, count * (n + m)])
        column_dual, row_dual = duals[0].reshape(count, n), duals[1].reshape(count, m)
        pointers, places = [], []
        for array in (
            vectors.cost,
            vectors.lower,
            vectors.upper,
            vectors.row_lower,
            vectors.row_upper,
            vectors.matrix,
            starts,
            x,
            column_dual,
            row_dual,
        ):
            pointers.append(_address(array))
            places.append((pointers[-1], array.ctypes.data, array.strides[0]))
        *sides, matrix, start, point, reduced, dual = pointers
        shape = (_address(template.starts), _address(template.index))
        model = (
            highs,
            n,
            m,
            len(template.index),
            _COLUMN_WISE,
            _MINIMISE,
            ctypes.c_double(0.0),
            *sides,
            *shape,
            matrix,
        )
        rows = _address(template.idle_rows)
        answers = []
        for k in range(count):
            for pointer, begin, step in places:
                pointer.value = begin + k * step
            if c.Highs_passLp(*model) == _ERROR or c.Highs_setBasis(highs, start, rows) == _ERROR:
                raise AssertionError("HiGHS refuses the model or its start")
            self.limit(seconds=seconds[k], gap=0.0)
            began = time.perf_counter()
            c.Highs_run(highs)
            taken = time.perf_counter() - began
            if c.Highs_getModelStatus(highs) != _OPTIMAL:
                answer = self.run()
                if answer.x.size:
                    answer.x = np.clip(answer.x, vectors.lower[k], vectors.upper[k])
                answers.append(answer)
                continue
            c.Highs_getSolution(highs, point, reduced, None, dual)
            objective = c.Highs_getObjectiveValue(highs)
            answers.append(
                Answer(
                    outcome=Outcome.OPTIMAL,
                    x=x[k],
                    row_dual=row_dual[k],
                    column_dual=column_dual[k],
                    objective=objective,
                    bound=objective,
                    seconds=taken,
                    message="",
                )
            )
        np.clip(x, vectors.lower, vectors.upper, out=x)
        if any(answer.x.base is not x for answer in answers):
            return answers, None
        objectives: Any = np.array([[answer.objective] for answer in answers])
        return answers, Answer(
            outcome=Outcome.OPTIMAL,
            x=x,
            row_dual=row_dual,
            column_dual=column_dual,
            objective=objectives,
            bound=objectives,
            seconds=sum(answer.seconds for answer in answers),
            message="",
        )

    def _info(self, name: str, kind: type[ctypes.c_int32 | ctypes.c_double]) -> float:
        """A number about the last run."""
        value = kind()
        ask = self._c.Highs_getIntInfoValue if kind is ctypes.c_int32 else self._c.Highs_getDoubleInfoValue
        ask(self._highs, name.encode(), ctypes.byref(value))
        return float(value.value)

    def _tune(self, *, whole: bool) -> None:
        """Options that differ between linear and mixed-integer runs."""
        self._set("primal_feasibility_tolerance", 1e-7 if whole else 1e-9)
        # The order among equal plans (site.ramp) leaves no ties to perturb away; Devex is cheaper per iteration.
        self._set("dual_simplex_cost_perturbation_multiplier", 1.0 if whole else 0.0)
        self._set("simplex_dual_edge_weight_strategy", -1 if whole else 1)


def _word(status: int) -> str:
    """HiGHS' word for a model status."""
    return str(highspy.HighsModelStatus(status).name)


def _no_answer(outcome: Outcome, seconds: float, status: int, bound: float = -np.inf) -> Answer:
    nothing = np.empty(0)
    return Answer(
        outcome=outcome,
        x=nothing,
        row_dual=nothing,
        column_dual=nothing,
        objective=np.nan,
        bound=bound,
        seconds=seconds,
        message=_word(status),
    )
