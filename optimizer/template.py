"""Shape -> compiled affine template, once; problem -> vectors, every time.

Pyomo's `ParameterizedLinearStandardFormCompiler` turns the model into sparse matrices whose entries are expressions
in the parameters. Each expression is affine, so the whole problem is `constant + S @ theta` with one sparse S. A row
with a single constant entry is a column bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyomo.environ as pyo
import scipy.sparse as sp
from pyomo.core.base.var import VarData
from pyomo.repn.linear import LinearRepnVisitor
from pyomo.repn.plugins.parameterized_standard_form import ParameterizedLinearStandardFormCompiler
from pyomo.repn.util import OrderedVarRecorder

from optimizer.arrays import CodeArray, FloatArray, IntArray
from optimizer.formulation.builder import AT_LOWER, BASIC, Family, Shape, SiteModel
from optimizer.formulation.site import formulate_site, site_parameters
from optimizer.problem import DispatchProblem
from optimizer.stack import rows

Where = slice | IntArray
IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Vectors:
    """Everything HiGHS wants for one problem, or a row each for a stack of them; matrix in compressed columns."""

    flat: FloatArray
    """All of the following but `theta`, one behind the other: they are views of it, to be changed in place."""
    cost: FloatArray
    lower: FloatArray
    upper: FloatArray
    row_lower: FloatArray
    row_upper: FloatArray
    matrix: FloatArray
    theta: FloatArray
    """The numbers all of it was made from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """entries += factor * numbers, for every problem of a batch at once."""

    entries: slice
    """Entries of the stacked vectors."""
    numbers: slice
    """Numbers of theta: as many as entries, or one for all of them."""
    factor: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rest:
    """entries += sums of factor * number: the few terms of an affine map that are in no run."""

    entries: IntArray
    """Entries of the stacked vectors."""
    first: IntArray
    """The first term of each; its last stands before the next entry's first."""
    numbers: IntArray
    """Number of theta of each term."""
    factors: FloatArray
    """Factor of each term."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Template:
    """A compiled shape."""

    shape: Shape
    starts: IndexArray
    """Column starts of the matrix, (columns + 1,)."""
    index: IndexArray
    """Row of each matrix entry."""
    slots: Mapping[Family, slice]
    """Where each parameter family stands in theta."""
    columns: Mapping[Family, Where]
    """Where each variable family stands among the columns."""
    rows: Mapping[Family, Where]
    """Where each constraint family stands among the rows."""
    binaries: Mapping[Family, Where]
    """Columns that stand for 0/1 decisions."""
    idle_rows: CodeArray
    """Codes of the rows in a start without a plan: equations hold, all others have slack."""
    constant: FloatArray
    """All vectors, one behind the other, at theta = 0."""
    moving: IntArray
    """Entries of `constant` that depend on theta."""
    affine: sp.csr_array
    """How they depend on it, (moving, theta)."""
    runs: tuple[Run, ...]
    """Most of the same map, as evenly spaced entries that depend on evenly spaced numbers."""
    rest: Rest
    """What is left of it."""
    tie: tuple[tuple[slice, slice], ...]
    """Columns that carry an order among equal plans, and the numbers that give it."""
    directions: frozenset[Family]
    """Binary families that only keep opposite powers apart, or a power off or at least at its least."""
    once: frozenset[Family]
    """Binary families of which at most one member is 1: the start of a run."""
    switched: Mapping[Family, Family]
    """Binary families without which a power is 0, and the power."""
    cuts: tuple[int, ...]
    """Where one vector ends and the next starts."""
    compile_seconds: float
    """What compiling took [s]."""

    @property
    def column_count(self) -> int:
        """Number of columns."""
        return self.cuts[0]

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return self.cuts[3] - self.cuts[2]

    def theta(self, problem: DispatchProblem, out: FloatArray) -> None:
        """Write the numbers of a problem into one row of parameters, or those of a stack into as many rows."""
        slots = self.slots
        for key, values in site_parameters(problem, self.shape).items():
            for name, value in values.items():
                slot = slots.get((key, name))
                if slot is not None:
                    out[..., slot] = value
        for position, asset in enumerate(problem.assets):
            key = f"a{position}"
            for name, value in asset.parameters(problem).items():
                slot = slots.get((key, name))
                if slot is not None:
                    out[..., slot] = value

    def vectors(
        self,
        problems: Sequence[DispatchProblem],
        scratch: FloatArray | None = None,
        stack: DispatchProblem | None = None,
    ) -> Vectors:
        """The vectors of many problems of this shape, a row each, run by run for all of them at once.

        They stand in `scratch` where it is given, which must have room for them (see `room`) and not be used again
        before they are done with: fresh memory for every batch costs more than filling it. `stack` is the problems as
        one, where they can be.
        """
        theta = self.thetas(problems, stack)
        size = self.room(len(problems))
        flat = (np.empty(size) if scratch is None else scratch[:size]).reshape(len(problems), -1)
        flat[:] = self.constant
        for run in self.runs:
            part = theta[:, run.numbers]
            flat[:, run.entries] += part if run.factor == 1.0 else run.factor * part
        rest = self.rest
        if rest.entries.size:
            flat[:, rest.entries] += np.add.reduceat(
                theta[:, rest.numbers] * rest.factors, rest.first, axis=1
            )
        a, b, c, d, e = self.cuts
        flat[:, :a] /= np.array([problem.price_scale for problem in problems])[:, None]
        return Vectors(
            flat=flat,
            cost=flat[:, :a],
            lower=flat[:, a:b],
            upper=flat[:, b:c],
            row_lower=flat[:, c:d],
            row_upper=flat[:, d:e],
            matrix=flat[:, e:],
            theta=theta,
        )

    def own_vectors(self, problem: DispatchProblem) -> Vectors:
        """The vectors of one problem."""
        return rows(self.vectors([problem]), 1)[0]

    def room(self, count: int) -> int:
        """Numbers that the vectors of so many problems take."""
        return count * self.constant.size

    def thetas(self, problems: Sequence[DispatchProblem], stack: DispatchProblem | None = None) -> FloatArray:
        """The numbers of many problems, (problems, theta); `stack` is the problems as one, where they can be."""
        theta = np.full((len(problems), self.affine.shape[1]), np.nan)
        if stack is not None:
            self.theta(stack, theta)
        else:
            for row, problem in zip(theta, problems, strict=True):
                self.theta(problem, row)
        if np.isnan(theta).any():
            missing = [family for family, slot in self.slots.items() if np.isnan(theta[:, slot]).any()]
            raise AssertionError(f"no numbers for {missing}")
        return theta


def compile_shape(shape: Shape) -> Template:
    """Write the Pyomo model of a shape and compile it."""
    began = time.perf_counter()
    site = formulate_site(shape)
    model = site.model
    model.objective = pyo.Objective(expr=pyo.quicksum(site.costs))
    parameters = [entry for family in site.parameters.values() for entry in family]
    form = ParameterizedLinearStandardFormCompiler().write(
        model,
        wrt=parameters,
        mixed_form=True,
        column_order=[entry for family in site.variables.values() for entry in family],
    )
    return _assemble(shape, site, form, parameters, began)


class _Affine:
    """Collects vector entries as constant plus linear in theta."""

    def __init__(self, parameters: Sequence[VarData]) -> None:
        self.position = {id(p): k for k, p in enumerate(parameters)}
        self.visitor = LinearRepnVisitor({}, var_recorder=OrderedVarRecorder({}, {}, None))
        self.constant: list[float] = []
        self.entry: list[int] = []
        self.param: list[int] = []
        self.coef: list[float] = []

    def split(self, expression: Any) -> tuple[float, list[tuple[int, float]]]:
        """Constant and linear part of a number or an expression."""
        if isinstance(expression, (int, float, np.number)):
            return float(expression), []
        if isinstance(expression, VarData):
            return 0.0, [(self.position[id(expression)], 1.0)]
        repn = self.visitor.walk_expression(expression)
        if repn.nonlinear is not None:
            raise AssertionError(f"a coefficient is not affine in the parameters: {expression}")
        scale = repn.multiplier
        return (
            float(repn.constant * scale),
            [(self.position[key], float(coef * scale)) for key, coef in repn.linear.items()],
        )

    def append(self, constant: float, linear: Iterable[tuple[int, float]] = (), factor: float = 1.0) -> None:
        """Add one entry of the stacked vectors."""
        at = len(self.constant)
        self.constant.append(constant * factor)
        for param, coef in linear:
            self.entry.append(at)
            self.param.append(param)
            self.coef.append(coef * factor)


def _assemble(
    shape: Shape, site: SiteModel, form: Any, parameters: Sequence[VarData], began: float
) -> Template:
    """Turn Pyomo's standard form into numbers; single-entry rows become column bounds."""
    affine = _Affine(parameters)
    matrix = form.A
    n_columns = len(form.columns)
    starts, index, data = matrix.indptr, matrix.indices, matrix.data
    entries_of_row = np.bincount(index, minlength=len(form.rows))
    column_of_entry = np.repeat(np.arange(n_columns), np.diff(starts))

    lower: list[tuple[float, list[tuple[int, float]]] | None] = [None] * n_columns
    upper: list[tuple[float, list[tuple[int, float]]] | None] = [None] * n_columns
    is_bound = np.zeros(len(form.rows), dtype=bool)
    for entry in np.flatnonzero(entries_of_row[index] == 1):
        row, column = index[entry], column_of_entry[entry]
        constant, linear = affine.split(data[entry])
        variable = form.columns[column]
        sense = form.rows[row].bound_type
        if linear or constant not in (1.0, -1.0):
            continue
        rhs, rhs_linear = affine.split(form.rhs[row])
        bound = (rhs * constant, [(p, c * constant) for p, c in rhs_linear])
        tops = sense == 0 or sense * constant > 0
        bottoms = sense == 0 or sense * constant < 0
        if (tops and (upper[column] or variable.ub is not None)) or (
            bottoms and (lower[column] or (variable.lb is not None and sense != 0))
        ):
            continue
        if tops:
            upper[column] = bound
        if bottoms:
            lower[column] = bound
        is_bound[row] = True

    costs: dict[int, Any] = dict(zip(_columns_of(form.c), form.c.data, strict=True))
    for column in range(n_columns):
        affine.append(*affine.split(costs.get(column, 0.0)))
    for bounds, default in ((lower, -np.inf), (upper, np.inf)):
        for column, variable in enumerate(form.columns):
            own = variable.lb if bounds is lower else variable.ub
            affine.append(*(bounds[column] or (default if own is None else own, [])))

    kept = np.flatnonzero(~is_bound)
    new_row = np.cumsum(~is_bound) - 1
    right = [affine.split(form.rhs[row]) for row in kept]
    sense_of = [form.rows[row].bound_type for row in kept]
    for side, open_end in ((1, -np.inf), (-1, np.inf)):
        for sense, (value, linear) in zip(sense_of, right, strict=True):
            if sense == side:
                affine.append(open_end)
            else:
                affine.append(value, linear)
    cuts = np.cumsum([n_columns, n_columns, n_columns, len(kept), len(kept)])
    keep_entry = ~is_bound[index]
    for entry in np.flatnonzero(keep_entry):
        affine.append(*affine.split(data[entry]))

    counts = np.bincount(column_of_entry[keep_entry], minlength=n_columns)
    moving, row_of = np.unique(np.array(affine.entry, dtype=np.int64), return_inverse=True)
    linear_map = sp.csr_array(
        (affine.coef, (row_of, affine.param)), shape=(len(moving), len(parameters)), dtype=np.float64
    )
    linear_map.sum_duplicates()
    columns = _families(site.variables, {id(v): k for k, v in enumerate(form.columns)})
    rows: dict[Family, list[int]] = {}
    for at, row in enumerate(kept):
        key, name = form.rows[row].constraint.parent_component().local_name.split(".", 1)
        rows.setdefault((key, name), []).append(at)
    slots: dict[Family, slice] = {}
    at = 0
    for family, vector in site.parameters.items():
        slots[family] = slice(at, at + len(vector))
        at += len(vector)
    runs, alone = _runs(linear_map, moving, slots)
    return Template(
        shape=shape,
        starts=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
        index=new_row[index[keep_entry]].astype(np.int32),
        slots=slots,
        columns=columns,
        rows={family: _where(at) for family, at in rows.items()},
        binaries={family: columns[family] for family in site.binaries if family in columns},
        idle_rows=np.where(np.array(sense_of) == 0, AT_LOWER, BASIC).astype(np.int32),
        constant=np.array(affine.constant),
        moving=moving,
        affine=linear_map,
        runs=tuple(runs),
        rest=_rest(linear_map, moving, alone),
        tie=_tie_map(affine, slots, n_columns, len(parameters)),
        directions=frozenset(site.directions),
        once=frozenset(family for family in site.once if family in columns),
        switched={switch: power for switch, power in site.switched.items() if switch in columns},
        cuts=tuple(int(cut) for cut in cuts),
        compile_seconds=time.perf_counter() - began,
    )


_LEAST_RUN = 8
"""Shorter runs are left to the sparse product."""


def _runs(
    affine: sp.csr_array, moving: IntArray, slots: Mapping[Family, slice]
) -> tuple[list[Run], IntArray]:
    """Cut an affine map into runs; the second part are the terms (places in `affine.data`) left over."""
    entry = np.repeat(moving, np.diff(affine.indptr))
    number, factor = affine.indices.astype(np.int64), affine.data
    family = np.searchsorted([slot.start for slot in slots.values()], number, side="right")
    order = np.lexsort((entry, factor, family))
    entry, number, factor, family = entry[order], number[order], factor[order], family[order]
    step, stride = np.diff(entry), np.diff(number)
    goes_on = (np.diff(family) == 0) & (np.diff(factor) == 0.0)
    runs, alone, first = [], [], 0
    while first < entry.size:
        last = first
        while (
            last < step.size and goes_on[last] and step[last] == step[first] and stride[last] == stride[first]
        ):
            last += 1
        if last - first + 1 < _LEAST_RUN or step[first] <= 0 or stride[first] < 0:
            alone.append(order[first])
            first += 1
            continue
        entries = slice(int(entry[first]), int(entry[last]) + 1, int(step[first]))
        numbers = slice(int(number[first]), int(number[last]) + 1, max(1, int(stride[first])))
        runs.append(Run(entries=entries, numbers=numbers, factor=float(factor[first])))
        first = last + 1
    return runs, np.array(alone, dtype=np.int64)


def _rest(affine: sp.csr_array, moving: IntArray, terms: IntArray) -> Rest:
    """The named terms (places in `affine.data`) of an affine map."""
    terms = np.sort(terms)
    row = np.repeat(np.arange(moving.size), np.diff(affine.indptr))[terms]
    entries, first = np.unique(row, return_index=True)
    return Rest(
        entries=moving[entries],
        first=first,
        numbers=affine.indices[terms].astype(np.int64),
        factors=affine.data[terms],
    )


def _tie_map(
    affine: _Affine, slots: Mapping[Family, slice], n_columns: int, n_parameters: int
) -> tuple[tuple[slice, slice], ...]:
    """Columns whose cost holds a `tie_` parameter, and that parameter; it enters with factor 1 (`SiteModel.prefer`)."""
    is_tie = np.zeros(n_parameters, dtype=bool)
    for (_, name), slot in slots.items():
        is_tie[slot] = name.startswith("tie_")
    entry, param = np.array(affine.entry, dtype=np.int64), np.array(affine.param, dtype=np.int64)
    kept = (entry < n_columns) & is_tie[param]
    entry, param = entry[kept], param[kept]
    ends = np.flatnonzero((np.diff(entry) != 1) | (np.diff(param) != 1)) + 1
    return tuple(
        (slice(int(e[0]), int(e[-1]) + 1), slice(int(p[0]), int(p[-1]) + 1))
        for e, p in zip(np.split(entry, ends), np.split(param, ends), strict=True)
        if e.size
    )


def _columns_of(matrix: Any) -> IntArray:
    """Column of each entry of a compressed-column matrix."""
    result: IntArray = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    return result


def _families(
    families: Mapping[Family, Sequence[VarData]], position: Mapping[int, int]
) -> dict[Family, Where]:
    """Where the members of each family stand; families no equation uses are left out."""
    found = {}
    for family, vector in families.items():
        at = [position[id(entry)] for entry in vector if id(entry) in position]
        if len(at) == len(vector) and at:
            found[family] = _where(at)
        elif at:
            raise AssertionError(f"family {family} is used only in part")
    return found


def positions(where: Where) -> IntArray:
    """The positions a family stands at."""
    return np.arange(where.start, where.stop) if isinstance(where, slice) else where


def _where(at: Sequence[int]) -> Where:
    """A slice where the positions are consecutive, else the positions."""
    if list(at) == list(range(at[0], at[0] + len(at))):
        return slice(at[0], at[0] + len(at))
    return np.array(at, dtype=np.int64)
