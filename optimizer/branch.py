"""Branch and bound over the few whole numbers that weigh most, with all others relaxed.

What runs when and what answers an event: a handful of such decisions makes most of what whole numbers cost, and the
linear model with a few of them fixed is a warm run of some milliseconds. So a few nodes prove a bound and find the
decisions, where a general search spends that time on its presolve (Land and Doig, "An automatic method of solving
discrete programming problems", Econometrica 28 (1960)).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
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


_DEEPER = 0.25
"""Share of the way from the lowest bound to the best point up to which a search goes deeper before it goes elsewhere."""


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
    """One search in one loaded linear model, which can stop and go on; it leaves the bounds of the model as they were."""

    template: Template
    vectors: Vectors
    solver: Solver
    run: Callable[[], Answer]
    """Solves what is loaded, warm."""
    families: Sequence[Family]
    """Binary families that are searched."""
    gap: float
    """Objective by which the best point may miss the bound."""
    relaxed: Answer
    """What is loaded, solved as it is: where the search begins."""
    _columns: IntArray = field(init=False)
    _root: _Node = field(init=False)
    _best: Answer | None = field(init=False, default=None)
    _settled: float = field(init=False, default=np.inf)
    """Lowest bound of what needs no more branching."""
    _tried: set[bytes] = field(init=False, default_factory=set)
    _waiting: list[tuple[float, int, _Node]] = field(init=False, default_factory=list)
    _number: Iterator[int] = field(init=False, default_factory=count)

    def __post_init__(self) -> None:
        places = [positions(self.template.binaries[family]) for family in self.families]
        self._columns = at = np.concatenate([np.empty(0, dtype=np.int64), *places])
        lower, upper = self.vectors.lower[at].copy(), self.vectors.upper[at].copy()
        self._root = _Node(self.relaxed.objective, lower, upper, self.relaxed.x[at], self.solver.basis())
        if (_torn(self._root.x) == 0.0).all():
            self._best, self._settled = self.relaxed, self.relaxed.objective
        else:
            self._wait(self._root)

    def search(self, open_: Callable[[], bool], enough: float = np.inf) -> Found:
        """The best point, within the gap or until time is over or the bound is enough; from the lowest bound, deeper first.

        Parameters
        ----------
        open_
            False when the time for this search is over.
        enough
            A bound that is all that is asked for.
        """
        if self._waiting:
            self._explore(open_, enough)
        bound = min(self._settled, self._waiting[0][0] if self._waiting else np.inf)
        best = self._best
        if best is None:
            return Found(values={}, objective=np.inf, bound=max(self.relaxed.objective, bound))
        return Found(
            values=self._values(best),
            objective=best.objective,
            bound=max(self.relaxed.objective, min(bound, best.objective)),
        )

    def _explore(self, open_: Callable[[], bool], enough: float) -> None:
        if not self._tried:
            for threshold in _THRESHOLDS:
                self._round(self._root, threshold)
        while self._waiting and open_() and not self._over(self._waiting[0][0], enough):
            lowest = heapq.heappop(self._waiting)[2]
            self._round(lowest, 0.5)
            node: _Node | None = lowest
            while node is not None:
                children = sorted(self._children(node), key=lambda child: child.bound)
                node = children.pop(0) if children and open_() and self._deeper(children[0].bound) else None
                for child in children:
                    self._wait(child)
        self.solver.change_bounds(self._columns, self._root.lower, self._root.upper)
        if self._root.basis is not None:
            self.solver.start(self._root.basis)

    def _wait(self, node: _Node) -> None:
        heapq.heappush(self._waiting, (node.bound, next(self._number), node))

    def _over(self, lowest: float, enough: float) -> bool:
        """True if nothing is left to find, or the bound is enough."""
        return self._hopeless(lowest) or min(lowest, self._settled) >= enough

    def _values(self, answer: Answer) -> dict[Family, FloatArray]:
        return {family: np.round(answer.x[self.template.binaries[family]]) for family in self.families}

    def _hopeless(self, bound: float) -> bool:
        """True if nothing better than the best point by more than the gap is below a node."""
        return self._best is not None and bound >= self._best.objective - self.gap

    def _deeper(self, bound: float) -> bool:
        """True if it is worth to go on below a node before what has the lowest bound."""
        if self._best is None:
            return True
        lowest = min(bound, self._waiting[0][0]) if self._waiting else bound
        return not self._hopeless(bound) and bound <= lowest + _DEEPER * (self._best.objective - lowest)

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
