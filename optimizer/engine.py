"""Solve one site or many: the only way in."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from optimizer.problem import DispatchProblem
from optimizer.solution import DispatchSolution


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
    raise NotImplementedError
