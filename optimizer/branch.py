"""Branch and bound over the few whole numbers that weigh most, with all others relaxed.

What runs when and what answers an event: a handful of such decisions makes most of what whole numbers cost, and the
linear model with a few of them fixed is a warm run of some milliseconds. So a few nodes prove a bound and find the
decisions, where a general search spends that time on its presolve (Land and Doig, "An automatic method of solving
discrete programming problems", Econometrica 28 (1960)).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from optimizer.arrays import FloatArray, IntArray
from optimizer.formulation.builder import Family
from optimizer.highs import Answer, Basis, Solver
from optimizer.solution import Outcome
from optimizer.template import Template, Vectors, positions

WHOLE = 1e-6
"""Distance at which a number counts as whole."""

_THRESHOLDS = (0.5, WHOLE, 1.0 - WHOLE, 0.25, 0.75)
"""Relaxed values from which a decision is rounded up, in the order of trial."""

_NEAR = 4
"""Neighbours on either side that count when the most torn decision is looked for: the middle of a torn stretch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search ends with."""

    values: dict[Family, FloatArray]
    """The decisions of the best point; empty if there is none."""
    objective: float
    """Objective of the best point, everything else relaxed; infinite if there is none."""
    bound: float
    """No point has a lower objective."""


@dataclass(frozen=True, slots=True)
class _Node:
    bound: float
    lower: FloatArray
    upper: FloatArray
    x: FloatArray
    basis: Basis | None


@dataclass(kw_only=True, slots=True)
class Branch:
    """One search in one loaded linear model; leaves the bounds of the model as they were."""

    template: Template
    vectors: Vectors
    solver: Solver
    run: Callable[[], Answer]
    """Solves what is loaded, warm."""
    families: Sequence[Family]
    """Binary families that are searched."""
    gap: float
    """Objective by which the best point may miss the bound."""
    open: Callable[[], bool]
    """False when the time for this search is over."""
    _columns: IntArray = field(init=False)
    _best: Answer | None = field(init=False, default=None)
    _settled: float = field(init=False, default=np.inf)
    """Lowest bound of what needs no more branching."""
    _tried: set[bytes] = field(init=False, default_factory=set)

    def search(self, relaxed: Answer) -> Found:
        """The best point within the gap or the time, from the relaxed answer; deepest first, then lowest bound first."""
        places = [positions(self.template.binaries[family]) for family in self.families]
        if all((_torn(relaxed.x[where]) == 0.0).all() for where in places):
            return Found(values=self._values(relaxed), objective=relaxed.objective, bound=relaxed.objective)
        self._columns = at = np.concatenate(places)
        lower, upper = self.vectors.lower[at].copy(), self.vectors.upper[at].copy()
        root = _Node(relaxed.objective, lower, upper, relaxed.x[at], self.solver.basis())
        for threshold in _THRESHOLDS:
            self._round(root, threshold)
        waiting: list[tuple[float, int, _Node]] = []
        number = count()
        node: _Node | None = root
        while True:
            if node is None:
                if not waiting or not self.open() or self._hopeless(waiting[0][0]):
                    break
                node = heapq.heappop(waiting)[2]
                self._round(node, 0.5)
            if self._hopeless(node.bound) or not self.open():
                heapq.heappush(waiting, (node.bound, next(number), node))
                node = None
                continue
            children = sorted(self._children(node), key=lambda child: child.bound)
            node = children[0] if children else None
            for child in children[1:]:
                heapq.heappush(waiting, (child.bound, next(number), child))
        self.solver.change_bounds(at, lower, upper)
        if root.basis is not None:
            self.solver.start(root.basis)
        best = self._best
        bound = min(self._settled, waiting[0][0] if waiting else np.inf)
        if best is None:
            return Found(values={}, objective=np.inf, bound=max(relaxed.objective, bound))
        return Found(
            values=self._values(best),
            objective=best.objective,
            bound=max(relaxed.objective, min(bound, best.objective)),
        )

    def _values(self, answer: Answer) -> dict[Family, FloatArray]:
        return {family: np.round(answer.x[self.template.binaries[family]]) for family in self.families}

    def _hopeless(self, bound: float) -> bool:
        """True if nothing better than the best point by more than the gap is below a node."""
        return self._best is not None and bound >= self._best.objective - self.gap

    def _solved(self, node: _Node, lower: FloatArray, upper: FloatArray) -> Answer:
        """The answer with these bounds, from where the node ended: the last run may have been far away."""
        if node.basis is not None:
            self.solver.start(node.basis)
        self.solver.change_bounds(self._columns, lower, upper)
        return self.run()

    def _keep(self, answer: Answer) -> None:
        if self._best is None or answer.objective < self._best.objective:
            self._best = answer

    def _children(self, node: _Node) -> list[_Node]:
        """Both sides of the most torn decision, as far as they are open; a point is kept when one is found."""
        children = []
        for lower, upper in self._sides(node):
            answer = self._solved(node, lower, upper)
            if answer.outcome is not Outcome.OPTIMAL:
                if (
                    answer.outcome is not Outcome.INFEASIBLE
                ):  # cut off: all that is known is what the node knew
                    self._settled = min(self._settled, node.bound)
                continue
            x = answer.x[self._columns]
            if (_torn(x) == 0.0).all():
                self._keep(answer)
                self._settled = min(self._settled, answer.objective)
            elif self._hopeless(answer.objective):
                self._settled = min(self._settled, answer.objective)
            else:
                children.append(_Node(answer.objective, lower, upper, x, self.solver.basis()))
        return children

    def _sides(self, node: _Node) -> list[tuple[FloatArray, FloatArray]]:
        """Bounds on both sides of a branching: the middle of what is most torn at 0 or at 1."""
        torn = _torn(node.x)
        around = np.convolve(torn, np.ones(2 * _NEAR + 1))[_NEAR : _NEAR + torn.size]
        k = int(np.argmax(torn * around))
        lower, upper = node.lower.copy(), node.upper.copy()
        lower[k], upper[k] = 1.0, 0.0
        return [(node.lower, upper), (lower, node.upper)]

    def _round(self, node: _Node, threshold: float) -> None:
        """Try the decisions nearest to a node."""
        values = np.clip((node.x > threshold).astype(np.float64), node.lower, node.upper)
        if values.tobytes() in self._tried:
            return
        self._tried.add(values.tobytes())
        answer = self._solved(node, values, values)
        if answer.outcome is Outcome.OPTIMAL:
            self._keep(answer)


def _torn(x: FloatArray) -> FloatArray:
    """Distance from whole numbers; 0 where it counts as whole."""
    distance = np.abs(x - np.round(x))
    return np.where(distance > WHOLE, distance, 0.0)
