"""What a dispatch answers: schedules, money, marginal values, reasons, and whether anybody may use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from optimizer.arrays import FloatArray

if TYPE_CHECKING:
    from optimizer.audit import Audit
    from optimizer.explain import Explanation
    from optimizer.problem import DispatchProblem

__all__ = [
    "AssetSchedule",
    "CostLine",
    "DispatchSolution",
    "Outcome",
    "SolveReport",
    "StoreSchedule",
    "UnmetWish",
]


class Outcome(StrEnum):
    """How a solve ended."""

    OPTIMAL = "optimal"
    """Within the money gap of the best plan there is."""
    FEASIBLE = "feasible"
    """The time box closed first; the plan keeps every limit, `SolveReport.gap` says how far it may be from the best."""
    INFEASIBLE = "infeasible"
    """No plan keeps the physics: a promise of the formulation is broken, please report."""
    FAILED = "failed"
    """The solver gave nothing usable, or the audit refused what it gave."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AssetSchedule:
    """What one asset does; kinds add their own series."""

    name: str
    """Name of the asset."""
    net_consumption_kw: FloatArray
    """Power at the site bus, + drawn, - fed in [kW], (T,). 0 for assets behind a hybrid inverter."""
    heat_node: str | None = None
    """Heat node it is joined to, if any."""
    net_heat_kw: FloatArray | float = 0.0
    """Heat given to the asset's heat node, - taken from it [kW], (T,)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoreSchedule(AssetSchedule):
    """An asset that holds energy."""

    charge_kw: FloatArray
    """Mean power into the asset [kW], (T,), >= 0."""
    discharge_kw: FloatArray
    """Mean power out of the asset [kW], (T,), >= 0."""
    stored_kwh: FloatArray
    """Energy at the fence posts [kWh], (T + 1,)."""
    stored_value_per_kwh: FloatArray
    """What one more stored kWh is worth at each fence post [currency/kWh], (T + 1,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostLine:
    """One line of the bill of a plan."""

    term: str
    """What it is for: `import`, `export`, `co2`, `wear`, `fuel`, `start`, `blocks`, `demand`, `dr`, `change`, `end_value`
    or the wish it is the price of."""
    owner: str
    """Asset, tariff or event it belongs to; `grid` for the connection."""
    amount: float
    """Cost over the horizon [currency]; negative earns."""
    is_money: bool
    """True if it is real money; False for the price of a wish or a bookkeeping value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnmetWish:
    """A wish that could not be kept, or not at its price."""

    wish: str
    """Rung of the ladder (`grid_limit`, `reserve`, `departure`, `comfort`, ...)."""
    owner: str
    """Asset or event it belongs to."""
    amount: float
    """How much is missing, in `unit`."""
    unit: str
    """`kWh`, `kWh h` or `degC h`."""
    cost: float
    """Price paid for it in the objective [currency]."""
    first_interval: int
    """First interval in which it is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SolveReport:
    """How the answer came about."""

    gap: float
    """Money by which a better plan could exist at most [currency]; 0 for linear problems."""
    seconds: float
    """Wall time from parameters to audited schedule [s]."""
    solver_seconds: float
    """Time inside the solver's `run` [s]."""
    compile_seconds: float
    """Time spent compiling templates for this solve [s]; 0 when the shape was known."""
    binaries: int
    """Binaries that had to be integral; 0 when the relaxation was already a plan."""
    runs: int
    """Solver runs: 1 for the lean linear model, more where a wish or an exclusivity had to be looked at."""
    soft: bool
    """True when the model with every soft limit was needed."""
    message: str = ""
    """The solver's own word where the outcome is not optimal."""


AnySchedule = TypeVar("AnySchedule", bound=AssetSchedule)


@dataclass(frozen=True, kw_only=True, eq=False)
class DispatchSolution:
    """An answer. Use it only if `publishable`."""

    problem: DispatchProblem
    """The question."""
    outcome: Outcome
    """How the solve ended."""
    schedules: tuple[AssetSchedule, ...] = ()
    """One per asset, in the order of `problem.assets`."""
    import_kw: FloatArray = field(repr=False)
    """Mean import [kW], (T,), >= 0."""
    export_kw: FloatArray = field(repr=False)
    """Mean export [kW], (T,), >= 0."""
    unserved_kw: FloatArray = field(repr=False)
    """Critical load that is not served [kW], (T,); 0 in every plan that is not an emergency."""
    surplus_kw: FloatArray = field(repr=False)
    """Generation nobody can take [kW], (T,); must be shed by hardware protection."""
    costs: tuple[CostLine, ...] = ()
    """The bill, recomputed by the audit from the schedules, not taken from the solver."""
    unmet: tuple[UnmetWish, ...] = ()
    """Wishes that are not met."""
    bus_price_per_kwh: FloatArray = field(repr=False)
    """What one more kWh of demand would cost in each interval [currency/kWh], (T,): the marginal price at the bus."""
    report: SolveReport
    """How the answer came about."""
    audit: Audit
    """The independent check of this answer."""

    @property
    def publishable(self) -> bool:
        """True if the plan passed its audit and may leave the house."""
        return self.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE) and self.audit.passed

    @property
    def cost(self) -> float:
        """Everything the plan was asked to minimise: money, wishes, and the value of what is left [currency]."""
        return float(sum(line.amount for line in self.costs))

    @property
    def money(self) -> float:
        """Real money over the horizon [currency]; wishes and the value of stored energy left out."""
        return float(sum(line.amount for line in self.costs if line.is_money))

    @property
    def tie_break_cost(self) -> float:
        """What the preference among equal plans can have cost at most [currency]; see `formulation.site.ramp`."""
        from optimizer.formulation.site import (
            tie_break_bound,
        )  # the formulation reads solutions, so it stands above

        return tie_break_bound(self.problem)

    def schedule(self, name: str) -> AssetSchedule:
        """The schedule of one asset; `KeyError` if the site has none of this name."""
        for schedule in self.schedules:
            if schedule.name == name:
                return schedule
        raise KeyError(name)

    def schedules_of(self, kind: type[AnySchedule]) -> tuple[AnySchedule, ...]:
        """Schedules of one kind, in the order of the assets."""
        return tuple(schedule for schedule in self.schedules if isinstance(schedule, kind))

    @cached_property
    def explanation(self) -> Explanation:
        """Binding limits, and a reason per asset and interval; computed when asked for."""
        from optimizer.explain import explain  # explain reads solutions, so it stands above

        return explain(self)
