"""The ladder of control: on which rung each site stands at present, and the steps it takes.

optimal plan -> previous plan while valid -> rule -> the devices' own mode. The cycle tells which plan there is; between two
cycles a site may still fall to its devices, because a plan ran out or too little is known, and comes back.
"""

from datetime import datetime
from enum import StrEnum

from ems.feedback import Edge
from ems.metrics import Metrics
from ems.orders import Standing
from ems.plan import Plan, PlanSource
from ems.setpoints import Course
from ems.state import SiteState


class Rung(StrEnum):
    """What a site is steered by; best first."""

    OPTIMAL = "optimal"
    """A plan that was solved and audited."""
    PREVIOUS = "previous"
    """An earlier one, still valid."""
    RULE = "rule"
    """The rule, carried out by the devices themselves."""
    OWN_MODE = "own_mode"
    """Nothing: its devices are on their own."""
    PAUSED = "paused"
    """Nothing, by the word of its people."""


def rung_of(plan: Plan, course: Course | None, state: SiteState, counts: Standing) -> tuple[Rung, str]:
    """Return the rung a site stands on, and why it is no better one.

    Parameters
    ----------
    plan
        The latest plan.
    course
        What the site is to do now; None: its devices' own mode.
    state, counts
        What is known of it, and whose word counts.
    """
    if counts.paused is not None:
        return Rung.PAUSED, "its people took over"
    if plan.source is PlanSource.RULE:
        return Rung.RULE, plan.cause or ""
    if course is None:
        cause = f"unknown: {', '.join(state.missing)}" if not state.steerable else "the plan has run out"
        return Rung.OWN_MODE, cause
    return Rung(plan.source), plan.cause or ""


class Ladder:
    """Where every site stands; each step to its devices' own mode and back is told once."""

    def __init__(self, metrics: Metrics) -> None:
        self._sites_on = {rung: metrics.rungs.labels(rung=rung) for rung in Rung}
        self._rungs: dict[str, Rung] = {}

    def note(self, site_id: str, rung: Rung, cause: str, *, at: datetime) -> tuple[Edge, ...]:
        """Note where a site stands; returns the step if it is one that no plan tells."""
        before = self._rungs.get(site_id)
        if rung is not before:
            self._rungs[site_id] = rung
            self._sites_on[rung].inc()
            if before is not None:
                self._sites_on[before].dec()
        if (rung is Rung.OWN_MODE) == (before is Rung.OWN_MODE):
            return ()
        became = rung if rung is Rung.OWN_MODE else f"{rung} again"
        return (
            Edge(at=at, site_id=site_id, subject="steering", became=became, cause=cause or "all is known"),
        )

    def forget(self) -> None:
        """Steer nothing any more."""
        self._rungs.clear()
        for sites_on in self._sites_on.values():
            sites_on.set(0)
