"""Whole numbers near a relaxed answer: often so near that the relaxation itself proves the plan.

The relaxation of a dispatch problem is tight: what whole numbers cost on top of it is about as much as the money gap
allows. So the first search is for a plan, not for a bound: fix the whole numbers from the front of the horizon to its
end, a few intervals at a time, and let a warm linear run put right behind each step what the step has cost. Dives of
this kind are known as relax-and-fix (Pochet and Wolsey, "Production Planning by Mixed Integer Programming", 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from optimizer.arrays import FloatArray, IntArray
from optimizer.branch import WHOLE
from optimizer.formulation.builder import Family
from optimizer.highs import Answer, Solver
from optimizer.solution import Outcome
from optimizer.template import Template, Vectors, positions

_BLOCKS = 24
"""Steps from the front of the horizon to its end."""

_LONGEST = 8
"""Intervals decided at once at most."""

_STARTS = 8
"""Starts of a run that are tried."""

_NOTHING = 0.2
"""Share of what another run is worth that a step may cost without one."""

_FLIPS = 3
"""Rounds of single changes to a step that has cost something."""

_SWEEPS = 3
"""Sweeps until nothing is left to decide: a late step may break an early interval that was fine before."""

_EXCHANGED = 4
"""Decisions of a family in each direction that are looked at for an exchange."""

_PASSES = 3
"""Times a whole plan is looked through for something better."""


@dataclass(kw_only=True, slots=True)
class Dive:
    """One search in one loaded linear model; leaves the model as fixed as its plan."""

    template: Template
    vectors: Vectors
    solver: Solver
    run: Callable[[], Answer]
    """Solves what is loaded, warm."""
    wanted: Callable[[Answer], dict[Family, FloatArray]]
    """Per family: how much of each decision a relaxed answer asks for, 0 to 1; NaN where nothing has to be decided."""
    worth: float
    """Objective that is worth another linear run."""
    open: Callable[[], bool]
    """False when the time box is closing."""
    fixed: dict[Family, FloatArray] = field(default_factory=dict)
    """Whole numbers decided; NaN where not."""

    def plan(self, relaxed: Answer, given: Mapping[Family, FloatArray]) -> Answer | None:
        """A plan with every family whole where it has to be, or None where the dive runs aground.

        `given` are whole numbers of some families, decided before.
        """
        wanted = self.wanted(relaxed)
        self.fixed = {family: np.full(values.size, np.nan) for family, values in wanted.items()}
        answer = relaxed
        for family, values in given.items():
            self._fix(family, np.arange(values.size), values)
        if given:
            answer = self.run()
            if answer.outcome is not Outcome.OPTIMAL:
                return None
        swept: Answer | None = self._start(answer)
        for _ in range(_SWEEPS):
            if swept is None or swept.outcome is not Outcome.OPTIMAL:
                return None
            before = swept
            swept = self._sweep(before, self._steps(0, self.template.shape.intervals), np.inf)
            if swept is before:
                break
        return swept

    def improve(self, best: Answer, enough: float) -> Answer:
        """A plan at least as good, until its objective is below `enough`: other starts, and windows decided anew."""
        intervals, width = self.template.shape.intervals, 2 * self._block()
        for _ in range(_PASSES):
            before = best.objective
            for family in sorted(self.template.once):
                if best.objective <= enough or not self.open():
                    return best
                best = self._move(family, best)
            best = self._exchange(best, enough)
            for first in range(0, intervals, width // 2):
                if best.objective <= enough or not self.open():
                    return best
                best = self._again(first, min(first + width, intervals), best)
            if before - best.objective < self.worth:
                break
        return best

    def _block(self) -> int:
        return max(1, min(_LONGEST, self.template.shape.intervals // _BLOCKS))

    def _steps(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Steps from `first` to `end`; when time runs out, what is left is one step."""
        while first < end:
            last = min(first + self._block(), end) if self.open() else end
            yield first, last
            first = last

    def _fix(self, family: Family, where: IntArray, values: FloatArray) -> None:
        at = positions(self.template.binaries[family])[where]
        # a machine that must still run, or may not yet, is not up for decision
        values = np.clip(values, self.vectors.lower[at], self.vectors.upper[at])
        self.solver.change_bounds(at, values, values)
        self.fixed[family][where] = values

    def _free(self, family: Family, where: IntArray) -> None:
        at = positions(self.template.binaries[family])[where]
        self.solver.change_bounds(at, self.vectors.lower[at], self.vectors.upper[at])
        self.fixed[family][where] = np.nan

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let go of what is decided, for another search in the same model; decided again afterwards."""
        kept = {family: values.copy() for family, values in self.fixed.items()}
        for family, values in kept.items():
            self._free(family, np.arange(values.size))
        yield
        for family, values in kept.items():
            decided = np.flatnonzero(~np.isnan(values))
            self._fix(family, decided, values[decided])

    def _inside(self, family: Family, first: int, last: int) -> IntArray:
        """Members of a family in a window; families that are not per interval are decided at once, in the first one."""
        size = self.fixed[family].size
        if size == self.template.shape.intervals:
            return np.arange(first, last)
        return np.arange(size if first == 0 else 0)

    def _best(
        self,
        family: Family,
        where: IntArray,
        trials: Iterable[tuple[float, ...]],
        before: Answer,
        best: Answer | None = None,
    ) -> tuple[Answer | None, tuple[float, ...] | None]:
        """The best of some patterns for some members of a family; no pattern where none beats `best`.

        The first that costs next to nothing beyond `before` will do.
        """
        found, least = None, np.inf if best is None else self._expected(best)
        enough = self._expected(before) + _NOTHING * self.worth
        for trial in trials:
            if least <= enough:
                break
            self._fix(family, where, np.array(trial))
            answer = self.run()
            if answer.outcome is Outcome.OPTIMAL and (expected := self._expected(answer)) < least:
                best, found, least = answer, trial, expected
        return best, found

    def _expected(self, answer: Answer) -> float:
        """Objective, and something for every decision that is left between: putting it off is no way to save."""
        torn = 0.0
        for family, share in self.wanted(answer).items():
            between = share[np.isnan(self.fixed[family]) & (share > WHOLE) & (share < 1.0 - WHOLE)]
            torn += float(np.minimum(between, 1.0 - between).sum())
        return answer.objective + self.worth * torn

    def _start(self, relaxed: Answer) -> Answer:
        """Fix when runs start, one after the other; once more where that has cost something."""
        places = {family: self.template.binaries[family] for family in sorted(self.template.once)}
        order = sorted(places, key=lambda family: -float(relaxed.x[places[family]].max()))
        answer = relaxed
        for family in order:
            answer = self._choose(family, answer, None)
        for family in order:
            if answer.objective - relaxed.objective <= self.worth or not self.open():
                break
            kept = self.fixed[family].copy()
            self._free(family, np.arange(kept.size))
            free = self.run()
            if free.outcome is Outcome.OPTIMAL:
                answer = self._choose(family, free, (kept, answer))
        return answer

    def _choose(self, family: Family, relaxed: Answer, known: tuple[FloatArray, Answer] | None) -> Answer:
        """Fix the start of a run: the best of those the relaxed answer uses, and of some that cost little more."""
        chosen, best = known or (np.zeros(self.fixed[family].size), None)
        everywhere = np.arange(chosen.size)
        dearer = relaxed.column_dual[positions(self.template.binaries[family])]
        for k in self._starts(family, relaxed):
            least = relaxed.objective + max(0.0, float(dearer[k]))
            if best is not None and best.objective - least < 0.1 * self.worth:
                continue  # its reduced cost says that it cannot win
            start = (everywhere == k).astype(np.float64)
            self._fix(family, everywhere, start)
            answer = self.run()
            if answer.outcome is Outcome.OPTIMAL and (best is None or answer.objective < best.objective):
                best, chosen = answer, start
        self._fix(family, everywhere, chosen)
        return self.run() if best is None else best

    def _starts(self, family: Family, relaxed: Answer) -> list[int]:
        """Starts worth a trial: what the relaxed answer uses most, the ends of every stretch that is as cheap, some between.

        A stretch of equal reduced cost is one of equal prices; inside it another run or a limit may be in the way.
        """
        at = positions(self.template.binaries[family])
        share, dearer = relaxed.x[at], relaxed.column_dual[at]
        if share.sum() < 0.5:
            return []  # leaving the run out is what the relaxed answer wants
        used = [int(k) for k in np.argsort(-share, kind="stable")[:3] if share[k] > WHOLE]
        if share[used[0]] >= 1.0 - WHOLE:
            return used[:1]
        cheap = (self.vectors.upper[at] > 0.0) & (dearer < 0.4 * self.worth)
        padded = np.concatenate(((False,), cheap, (False,)))
        ends = np.flatnonzero(cheap & ~(padded[:-2] & padded[2:]))
        among = np.flatnonzero(cheap)
        between = among[:: max(1, among.size // _STARTS)]
        dear = np.flatnonzero((self.vectors.upper[at] > 0.0) & ~cheap)
        dear = dear[np.argsort(dearer[dear], kind="stable")]
        order = np.concatenate((np.array(used, dtype=np.int64), ends, between, dear)).tolist()
        return list(dict.fromkeys(order))[: len(used) + _STARTS]

    def _move(self, family: Family, best: Answer) -> Answer:
        """Another start for one run where that pays."""
        kept = self.fixed[family].copy()
        everywhere = np.arange(kept.size)
        self._free(family, everywhere)
        free = self.run()
        if free.outcome is Outcome.OPTIMAL and best.objective - free.objective > self.worth:
            share = free.x[positions(self.template.binaries[family])]
            for k in np.argsort(-share, kind="stable")[:4]:
                if share[k] <= WHOLE or kept[k] == 1.0:
                    continue
                start = np.zeros(share.size)
                start[k] = 1.0
                self._fix(family, everywhere, start)
                answer = self.run()
                if answer.outcome is Outcome.OPTIMAL and answer.objective < best.objective:
                    best, kept = answer, start
        self._fix(family, everywhere, kept)
        return best

    def _exchange(self, best: Answer, enough: float) -> Answer:
        """Single decisions turned round, or two of one family that differ, in the order their reduced costs suggest."""
        found = True
        while found and best.objective > enough:
            found = False
            for family, where in self._promising(best):
                if best.objective <= enough or not self.open():
                    return best
                kept = self.fixed[family][where]
                self._fix(family, where, 1.0 - kept)
                answer = self.run()
                if answer.outcome is Outcome.OPTIMAL and answer.objective < best.objective - 0.1 * self.worth:
                    best, found = answer, True
                    break
                self._fix(family, where, kept)
        return best

    def _promising(self, best: Answer) -> list[tuple[Family, IntArray]]:
        """Changes that the reduced costs of the whole numbers speak for, the most promising first."""
        scored: list[tuple[float, Family, IntArray]] = []
        for family in self.fixed.keys() - self.template.once:
            values = self.fixed[family]
            dearer = best.column_dual[positions(self.template.binaries[family])] * (1.0 - 2.0 * values)
            gain = np.where(np.isnan(values), -np.inf, -dearer)
            on = [int(k) for k in np.argsort(-gain, kind="stable") if values[k] == 0.0][:_EXCHANGED]
            off = [int(k) for k in np.argsort(-gain, kind="stable") if values[k] == 1.0][:_EXCHANGED]
            scored += [(gain[k], family, np.array([k])) for k in (*on, *off)]
            scored += [(gain[j] + gain[k], family, np.array([j, k])) for j in on for k in off]
        scored.sort(key=lambda entry: (-entry[0], entry[1], tuple(entry[2])))
        return [(family, where) for gain, family, where in scored if gain > self.worth]

    def _again(self, first: int, last: int, best: Answer) -> Answer:
        """Decide one window anew where that may pay: the relaxed window says what can be won at most."""
        kept = {}
        for family in self.fixed.keys() - self.template.once:
            where = self._inside(family, first, last)
            where = where[~np.isnan(self.fixed[family][where])]
            kept[family] = (where, self.fixed[family][where])
            self._free(family, where)
        free = self.run()
        if free.outcome is Outcome.OPTIMAL and best.objective - free.objective > self.worth:
            again = self._sweep(free, self._steps(first, last), best.objective - 0.1 * self.worth)
            if again is not None:
                return again
        for family, (where, values) in kept.items():
            self._fix(family, where, values)
        return best

    def _sweep(self, answer: Answer, steps: Iterable[tuple[int, int]], limit: float) -> Answer | None:
        """Decide step by step; None where nothing is feasible or the objective reaches `limit`."""
        for first, last in steps:
            for family in self.fixed:
                if family in self.template.once:
                    continue
                where = self._inside(family, first, last)
                share = self.wanted(answer)[family][where]
                where, share = where[~np.isnan(share)], share[~np.isnan(share)]
                if not ((share > WHOLE) & (share < 1.0 - WHOLE)).any():
                    self._fix(
                        family, where, (share > 0.5).astype(np.float64)
                    )  # changes nothing: no run needed
                    continue
                decided = self._decide(family, where, share, answer)
                if decided is None or decided.objective >= limit:
                    return None
                answer = decided
        return answer

    def _decide(self, family: Family, where: IntArray, share: FloatArray, before: Answer) -> Answer | None:
        """The best pattern found for some members of a family: some that keep the sum, then single changes to it."""
        tried = dict.fromkeys(patterns(share))
        best, found = self._best(family, where, tried, before)
        if found is None:
            best, found = self._best(family, where, ((1.0,) * share.size, (0.0,) * share.size), before)
        if found is None or best is None:
            return None
        for _ in range(_FLIPS):
            if best.objective - before.objective <= self.worth or not self.open():
                break
            more = [pattern for pattern in changes(found) if pattern not in tried]
            tried |= dict.fromkeys(more)
            best, better = self._best(family, where, more, before, best)
            if better is None or best is None:
                break
            found = better
        self._fix(family, where, np.array(found))
        return best


def patterns(share: FloatArray) -> list[tuple[float, ...]]:
    """Patterns of 0 and 1 that ask for about the sum of the shares: on early, in the middle, or late."""
    return list(dict.fromkeys(_diffused(share, start) for start in (1.0 - WHOLE, 0.5, WHOLE)))


def _diffused(share: FloatArray, carried: float) -> tuple[float, ...]:
    """On wherever what was asked for and not given adds up to a whole; `carried` is what there is to begin with."""
    pattern = []
    for wish in share:
        if wish >= 1.0 - WHOLE:
            pattern.append(1.0)
        elif wish <= WHOLE:
            pattern.append(0.0)
        else:
            carried += float(wish)
            whole = carried >= 1.0
            carried -= whole
            pattern.append(float(whole))
    return tuple(pattern)


def changes(pattern: tuple[float, ...]) -> Iterator[tuple[float, ...]]:
    """The pattern with one place changed, or two that differ exchanged."""
    for j, value in enumerate(pattern):
        yield (*pattern[:j], 1.0 - value, *pattern[j + 1 :])
        for i in range(j + 1, len(pattern)):
            if pattern[i] != value:
                yield (*pattern[:j], pattern[i], *pattern[j + 1 : i], value, *pattern[i + 1 :])
