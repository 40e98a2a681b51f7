"""Hedging: what may come instead of what is expected, so that the decision of now suits all of it.

A plan on expected values alone fills the battery exactly as far as the expected sun will need, and is wrong by half of
the days on either side. The fast loop asks what stored energy is worth in three courses of the day, and takes the mean.
"""

from collections.abc import Mapping
from dataclasses import replace

from ems.codec import FloatArray
from ems.outlook import Band, Outlook, SiteOutlook
from ems.planning import to_problem
from ems.site import Site
from ems.state import SiteState
from optimizer import Outcome, ValuedDispatch

USABLE = (Outcome.OPTIMAL, Outcome.FEASIBLE)
"""Outcomes of a decision that may be acted on."""
OUTER_WEIGHT = 0.3
"""Probability of each outer course: with 10 and 90 % quantiles, mean and variance of a distribution come out right with
0.3, 0.4, 0.3 (Swanson and Megill; compared in Keefer and Bodily, "Three-Point Approximations for Continuous Random
Variables", Management Science 29, 1983)."""
REACH_FRAC = 0.6
"""How far the outer courses go towards the quantiles: errors of neighbouring hours partly cancel over a day."""


def hedged_dispatch(site: Site, state: SiteState, expected: SiteOutlook, outlook: Outlook) -> ValuedDispatch:
    """Return what decides the first interval of an outlook, again and again, with all in mind that may come.

    Raises
    ------
    InvalidProblem
        The outlook or the state does not make a problem.
    """
    return ValuedDispatch(
        to_problem(site, state, expected, outlook),
        [(weight, to_problem(site, state, other, outlook)) for weight, other in besides(expected)],
    )


def besides(expected: SiteOutlook) -> tuple[tuple[float, SiteOutlook], ...]:
    """Return what may come instead, with its probability: a day that leaves more to draw, and one that leaves less.

    Nothing where the outlook is sure.
    """
    if _is_sure(expected.load) and all(_is_sure(band) for band in expected.pv.values()):
        return ()
    return (
        (OUTER_WEIGHT, _course(expected, load="high_kw", pv="low_kw")),
        (OUTER_WEIGHT, _course(expected, load="low_kw", pv="high_kw")),
    )


def _course(expected: SiteOutlook, *, load: str, pv: str) -> SiteOutlook:
    roofs: Mapping[str, Band] = {name: _moved(band, pv) for name, band in expected.pv.items()}
    return replace(expected, load=_moved(expected.load, load), pv=roofs)


def _moved(band: Band, towards: str) -> Band:
    quantile_kw: FloatArray = getattr(band, towards)
    return replace(band, mean_kw=band.mean_kw + REACH_FRAC * (quantile_kw - band.mean_kw))


def _is_sure(band: Band) -> bool:
    return bool((band.low_kw == band.mean_kw).all() and (band.high_kw == band.mean_kw).all())
