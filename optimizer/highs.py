"""The only module that speaks to HiGHS: options, model, start, run, and its words turned into ours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt

from optimizer.arrays import FloatArray, IntArray
from optimizer.solution import Outcome
from optimizer.template import Template, Vectors

Basis = Any
"""A HiGHS basis: opaque outside this module."""

CodeArray = npt.NDArray[np.int8]

_CODES = np.array(
    [highspy.HighsBasisStatus.kLower, highspy.HighsBasisStatus.kUpper, highspy.HighsBasisStatus.kBasic],
    dtype=object,
)

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
    """Duals of the rows; zeros for mixed-integer runs, empty without a point."""
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
            ("mip_heuristic_run_root_reduced_cost", False),
            ("mip_allow_restart", False),
        ):
            self._set(option, value)
        self._presolve = ""
        self._whole: bool | None = None
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

    def start_at(self, columns: CodeArray, rows: CodeArray) -> None:
        """Start the next run from a basis given by codes: see `builder.AT_LOWER` and its like."""
        basis = highspy.HighsBasis()
        basis.col_status = _CODES[columns].tolist()
        basis.row_status = _statuses(rows.tobytes())
        basis.valid = True
        basis.alien = False
        self._highs.setBasis(basis)

    def basis(self) -> Basis:
        """The basis of the last run."""
        return self._highs.getBasis()

    def limit(self, *, seconds: float, gap: float, whole: bool = False) -> None:
        """Time box [s] and absolute gap [objective] of the next run."""
        # A linear run is measured by the clock of the instance, a mixed-integer run by one of its own.
        self._set("time_limit", seconds if whole else self._highs.getRunTime() + seconds)
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

    def change_row(self, row: int, value: float) -> None:
        """A new right-hand side for one equation of the loaded problem."""
        self._highs.changeRowBounds(row, value, value)

    def run(self, *, whole: bool = False) -> Answer:
        """Solve what is loaded; `whole` for mixed-integer problems."""
        highs = self._highs
        self._tune(whole=whole)
        began = time.perf_counter()
        highs.run()
        word = highs.getModelStatus()
        if not whole and word not in _STATUS:
            highs.clearSolver()  # a warm start can leave a dual infeasibility just above the tolerance
            highs.run()
            word = highs.getModelStatus()
        seconds = time.perf_counter() - began
        outcome = _STATUS.get(word, Outcome.FAILED)
        solution = highs.getSolution()
        if outcome in (Outcome.INFEASIBLE, Outcome.FAILED) or not solution.value_valid:
            outcome = Outcome.FAILED if outcome is Outcome.FEASIBLE else outcome
            return _no_answer(outcome, seconds, highs.modelStatusToString(word))
        objective, gap = highs.getObjectiveValue(), 0.0
        if whole or outcome is Outcome.FEASIBLE:
            info = highs.getInfo()
            if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
                return _no_answer(Outcome.FAILED, seconds, highs.modelStatusToString(word))
            gap = objective - info.mip_dual_bound if whole else np.inf
        return Answer(
            outcome=outcome,
            x=_array(solution.col_value),
            row_dual=np.zeros(highs.getNumRow()) if whole else _array(solution.row_dual),
            objective=objective,
            gap=gap,
            seconds=seconds,
            message="" if outcome is Outcome.OPTIMAL else highs.modelStatusToString(word),
        )

    def _tune(self, *, whole: bool) -> None:
        """Options that differ between linear and mixed-integer runs."""
        if whole is self._whole:
            return
        self._whole = whole
        self._set("primal_feasibility_tolerance", 1e-7 if whole else 1e-9)
        # The order among equal plans (site.ramp) leaves no ties to perturb away; Devex is cheaper per iteration.
        self._set("dual_simplex_cost_perturbation_multiplier", 1.0 if whole else 0.0)
        self._set("simplex_dual_edge_weight_strategy", -1 if whole else 1)


def _no_answer(outcome: Outcome, seconds: float, message: str) -> Answer:
    nothing = np.empty(0)
    return Answer(
        outcome=outcome,
        x=nothing,
        row_dual=nothing,
        objective=np.nan,
        gap=np.inf,
        seconds=seconds,
        message=message,
    )


@lru_cache(maxsize=64)
def _statuses(codes: bytes) -> list[Any]:
    statuses: list[Any] = _CODES[np.frombuffer(codes, dtype=np.int8)].tolist()
    return statuses


@lru_cache(maxsize=256)
def _doubles(count: int) -> Struct:
    return Struct(f"{count}d")


def _array(values: list[float]) -> FloatArray:
    """A list of floats as an array; packing is four times as fast as `np.array`."""
    return np.frombuffer(_doubles(len(values)).pack(*values), dtype=np.float64)
