"""The only module that speaks to HiGHS: options, model, start, run, and its words turned into ours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from optimizer.arrays import FloatArray, IntArray
from optimizer.solution import Outcome
from optimizer.template import Template, Vectors

Basis = Any
"""A HiGHS basis: opaque outside this module."""

_STATUS = {
    highspy.HighsModelStatus.kOptimal: Outcome.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: Outcome.INFEASIBLE,
    highspy.HighsModelStatus.kUnboundedOrInfeasible: Outcome.INFEASIBLE,
    highspy.HighsModelStatus.kTimeLimit: Outcome.FEASIBLE,
    highspy.HighsModelStatus.kIterationLimit: Outcome.FEASIBLE,
    highspy.HighsModelStatus.kSolutionLimit: Outcome.FEASIBLE,
}


@dataclass(kw_only=True, slots=True)
class Answer:
    """What a run gave."""

    outcome: Outcome
    """OPTIMAL, or FEASIBLE with a feasible point and a gap; else there is no point."""
    x: FloatArray
    """Columns; empty without a point."""
    row_dual: FloatArray
    """Duals of the rows; empty for mixed-integer runs."""
    column_dual: FloatArray
    """Reduced costs; empty for mixed-integer runs."""
    objective: float
    """Objective of the point."""
    gap: float
    """Objective minus the proven bound."""
    seconds: float
    """Time inside `run` [s]."""
    message: str
    """HiGHS' own word."""


class Solver:
    """One HiGHS instance, one thread, deterministic."""

    def __init__(self) -> None:
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in (
            ("output_flag", False),
            ("threads", 1),
            ("parallel", "off"),
            ("random_seed", 0),
            ("mip_rel_gap", 0.0),
            ("dual_feasibility_tolerance", 1e-9),
            # On dispatch problems of a few hundred binaries these cost more than they find (see README).
            ("mip_heuristic_run_rins", False),
            ("mip_heuristic_run_rens", False),
            ("mip_heuristic_run_root_reduced_cost", False),
            ("mip_allow_restart", False),
        ):
            self._set(option, value)
        self._presolve = ""
        self._tolerance = 0.0
        self.use_presolve(False)

    def _set(self, option: str, value: object) -> None:
        status = self._highs.setOptionValue(option, value)
        if status != highspy.HighsStatus.kOk:
            raise AssertionError(f"HiGHS refuses option {option} = {value!r}")

    def use_presolve(self, on: bool) -> None:
        """Presolve helps a cold or mixed-integer run and hinders a warm one."""
        word = "choose" if on else "off"
        if word != self._presolve:
            self._set("presolve", word)
            self._presolve = word

    def load(self, template: Template, vectors: Vectors, integral: IntArray | None = None) -> None:
        """Hand over one problem; `integral` names the columns that must be whole numbers."""
        n, m = template.column_count, template.row_count
        kinds = np.zeros(n, dtype=np.int32)
        if integral is not None:
            kinds[integral] = 1
        status = self._highs.passModel(
            n,
            m,
            len(template.index),
            1,  # compressed columns
            1,  # minimise
            0.0,
            vectors.cost,
            vectors.lower,
            vectors.upper,
            vectors.row_lower,
            vectors.row_upper,
            template.starts,
            template.index,
            vectors.matrix,
            kinds,
        )
        if status == highspy.HighsStatus.kError:
            raise AssertionError("HiGHS refuses the model")

    def start(self, basis: Basis) -> None:
        """Start the next run from a basis of the same shape."""
        self._highs.setBasis(basis)

    def basis(self) -> Basis:
        """The basis of the last run."""
        return self._highs.getBasis()

    def limit(self, *, seconds: float, gap: float) -> None:
        """Time box [s] and absolute gap [objective] of the next runs."""
        self._set("time_limit", self._highs.getRunTime() + seconds)
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
        highs = self._highs
        a, b, c, d, e = template.cuts
        part = np.searchsorted(template.cuts, entries, side="right")
        if (part == 0).any():
            at = entries[part == 0]
            highs.changeColsCost(len(at), at.astype(np.int32), values[part == 0] / price_scale)
        moved: dict[int, list[float]] = {}
        for low, base in ((1, a), (2, b)):
            for entry, value in zip(entries[part == low], values[part == low], strict=True):
                column = int(entry - base)
                if column not in pinned:
                    moved.setdefault(column, [np.nan, np.nan])[low - 1] = float(value)
        for column, (lower, upper) in moved.items():
            _, _, old_lower, old_upper, _ = highs.getCol(column)
            highs.changeColBounds(
                column, old_lower if np.isnan(lower) else lower, old_upper if np.isnan(upper) else upper
            )
        moved = {}
        for low, base in ((3, c), (4, d)):
            for entry, value in zip(entries[part == low], values[part == low], strict=True):
                moved.setdefault(int(entry - base), [-np.inf, np.inf])[low - 3] = float(value)
        for row, (lower, upper) in moved.items():
            highs.changeRowBounds(row, lower, upper)
        for entry, value in zip(entries[part == 5] - e, values[part == 5], strict=True):
            column = int(np.searchsorted(template.starts, entry, side="right")) - 1
            highs.changeCoeff(int(template.index[entry]), column, float(value))

    def change_bounds(self, columns: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        """New bounds for some columns of the loaded problem."""
        self._highs.changeColsBounds(len(columns), columns.astype(np.int32), lower, upper)

    def run(self, *, whole: bool = False) -> Answer:
        """Solve what is loaded; `whole` for mixed-integer problems."""
        highs = self._highs
        tolerance = 1e-7 if whole else 1e-9
        if tolerance != self._tolerance:
            self._set("primal_feasibility_tolerance", tolerance)
            self._tolerance = tolerance
        began = time.perf_counter()
        highs.run()
        word = highs.getModelStatus()
        if not whole and word not in _STATUS:
            highs.clearSolver()  # a warm start can leave a dual infeasibility just above the tolerance
            highs.run()
            word = highs.getModelStatus()
        seconds = time.perf_counter() - began
        outcome = _STATUS.get(word, Outcome.FAILED)
        empty = np.empty(0)
        solution = highs.getSolution()
        if outcome in (Outcome.INFEASIBLE, Outcome.FAILED) or not solution.value_valid:
            failed = Outcome.FAILED if outcome is Outcome.FEASIBLE else outcome
            return Answer(
                outcome=failed,
                x=empty,
                row_dual=empty,
                column_dual=empty,
                objective=np.nan,
                gap=np.inf,
                seconds=seconds,
                message=highs.modelStatusToString(word),
            )
        info = highs.getInfo() if whole or outcome is Outcome.FEASIBLE else None
        feasible = (
            info is None or info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        )
        objective = highs.getObjectiveValue()
        gap = 0.0
        if info is not None:
            gap = objective - info.mip_dual_bound if whole else np.inf
        return Answer(
            outcome=outcome if feasible else Outcome.FAILED,
            x=np.array(solution.col_value),
            row_dual=empty if whole else np.array(solution.row_dual),
            column_dual=empty if whole else np.array(solution.col_dual),
            objective=objective,
            gap=gap,
            seconds=seconds,
            message=highs.modelStatusToString(word),
        )
