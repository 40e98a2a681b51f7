"""An independent check of every solution: plain numpy on the problem and the schedule, no model, no solver.

Power and energy balances, ratings, windows and every line of the bill are recomputed from scratch. A solution that
does not pass cannot be published.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that does not hold."""

    rule: str
    """Name of the rule, e.g. `bus_balance`."""
    owner: str
    """Asset or `grid`."""
    interval: int
    """Where it is worst."""
    excess: float
    """By how much, in `unit`."""
    unit: str
    """`kW`, `kWh`, `degC` or `currency`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """The result of the check."""

    findings: tuple[Finding, ...]
    """What does not hold; empty if all is well."""

    @property
    def passed(self) -> bool:
        """True if nothing was found."""
        return not self.findings
