"""Hedging: what may come instead of what is expected, so that the decision of now suits all of it.

A plan on expected values alone fills the battery exactly as far as the expected sun will need, and is wrong by half of
the days on either side. The fast loop asks what stored energy is worth when the day may go on along several courses and
turn from one to another, and when every later interval is decided with what is seen then, as this one is.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ems.codec import FloatArray
from ems.orders import Order
from ems.outlook import Band, Outlook, SiteOutlook
from ems.planning import to_problem
from ems.site import Site
from ems.state import SiteState
from optimizer import Outcome, StoredWorth, ValuedDispatch

USABLE = (Outcome.OPTIMAL, Outcome.FEASIBLE)
"""Outcomes of a decision that may be acted on."""
OUTER_WEIGHT = 0.2
"""Probability of each outer course; the expected one keeps as much. Sigma points: see Julier and Uhlmann, "Unscented
Filtering and Nonlinear Estimation", Proceedings of the IEEE 92 (2004)."""
REACH = 1.2
"""How far the outer courses lie, in distances of the 10 and 90 % quantiles: 1.23 brings the spread of each quantity out
right (2 x 0.2 x 1.23^2 x 1.28^2 = 1) if the errors of all hours went together."""

HALF_LIFE_H = 1.0
"""Time in which a forecast's error is half forgotten [h]: errors of hours next to each other correlate by 0.48 (load) and
0.54 (sun) on ten measured homes, by 0.7 (sun) and 0 to 0.5 (load) on six more (`benchmarks/forecast_memory.py`)."""


def hedged_dispatch(
    site: Site,
    state: SiteState,
    expected: SiteOutlook,
    outlook: Outlook,
    *,
    orders: Sequence[Order] = (),
    worth: StoredWorth | None = None,
) -> ValuedDispatch:
    """Return what decides the first interval of an outlook, again and again, with all in mind that may come.

    Where it is known already what stored energy is worth after that interval, that is taken: a twentieth of the work.

    Raises
    ------
    InvalidProblem
        The outlook or the state does not make a problem.
    """
    problem = to_problem(site, state, expected, outlook, orders=orders)
    if worth is not None:
        return ValuedDispatch(problem, worth=worth)
    return ValuedDispatch(
        problem,
        [
            (weight, to_problem(site, state, other, outlook, orders=orders))
            for weight, other in besides(expected)
        ],
        half_life_h=HALF_LIFE_H,
    )


def besides(expected: SiteOutlook) -> tuple[tuple[float, SiteOutlook], ...]:
    """Return what may come instead, with its probability: more or less load, more or less sun.

    Nothing where the outlook is sure.
    """
    cases: list[SiteOutlook] = []
    if not _is_sure(expected.load):
        cases += [
            replace(expected, load=_moved(expected.load, expected.load.low_kw)),
            replace(expected, load=_moved(expected.load, expected.load.high_kw)),
        ]
    if not all(_is_sure(band) for band in expected.pv.values()):
        cases += [
            replace(expected, pv={name: _moved(band, band.low_kw) for name, band in expected.pv.items()}),
            replace(expected, pv={name: _moved(band, band.high_kw) for name, band in expected.pv.items()}),
        ]
    return tuple((OUTER_WEIGHT, case) for case in cases)


def _moved(band: Band, quantile_kw: FloatArray) -> Band:
    return replace(band, mean_kw=np.maximum(0.0, band.mean_kw + REACH * (quantile_kw - band.mean_kw)))


def _is_sure(band: Band) -> bool:
    return bool((band.low_kw == band.mean_kw).all() and (band.high_kw == band.mean_kw).all())
