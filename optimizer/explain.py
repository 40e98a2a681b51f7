"""Why the plan is as it is, as data: binding limits, and one reason per asset and interval."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimizer.solution import DispatchSolution


class Why(StrEnum):
    """Kinds of reasons; the dashboard turns each into a sentence."""

    STORED_FOR_LATER = "stored_for_later"
    """Charged now because the energy is worth more in `until_interval`."""
    USED_FROM_STORE = "used_from_store"
    """Discharged now instead of buying at the bus price."""
    SOLD_FROM_STORE = "sold_from_store"
    """Discharged now and exported."""
    KEPT_FOR_LATER = "kept_for_later"
    """Idle although energy is there: worth more in `until_interval`."""
    WISH = "wish"
    """Done for a wish (departure, comfort, reserve)."""
    CURTAILED = "curtailed"
    """Generation cut because the bus price is not positive or a limit binds."""
    RUNS_NOW = "runs_now"
    """A flexible load runs here because it is cheapest inside its window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why an asset does what it does in one interval."""

    asset: str
    """Name of the asset."""
    interval: int
    """Interval the reason is for."""
    why: Why
    """Kind of reason."""
    energy_kwh: float
    """Energy concerned [kWh]."""
    until_interval: int | None = None
    """Interval the energy is kept for, where there is one."""
    saves: float = 0.0
    """Money this saves against doing nothing here [currency], at the plan's marginal prices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BindingLimit:
    """A limit that shapes the plan."""

    owner: str
    """Asset or `grid`."""
    limit: str
    """Which limit, e.g. `charge_kw`, `import_limit_kw`, `stored_max`."""
    intervals: tuple[int, ...]
    """Where it binds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Everything there is to say about a plan."""

    reasons: tuple[Reason, ...]
    """One per asset and interval in which it does something worth a sentence."""
    binding: tuple[BindingLimit, ...]
    """Limits that bind."""

    def reason(self, asset: str, interval: int) -> Reason | None:
        """The reason for one setpoint, if there is one."""
        return next((r for r in self.reasons if r.asset == asset and r.interval == interval), None)


def explain(solution: DispatchSolution) -> Explanation:
    """Reasons and binding limits of a solution."""
    raise NotImplementedError
