"""What a dispatch is asked: a site, its assets, its prices, its wishes. Frozen and validated, nothing derived.

Signs: every power is non-negative and named by its direction. Time: `hours` gives the length of each of the T
intervals, so a 23-hour day, a 100-interval day or a horizon with coarse tail are ordinary. Energies stand at the
T + 1 fence posts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from optimizer.arrays import BoolArray, Check, CodeArray, FloatArray, InvalidProblem, Series, freeze

if TYPE_CHECKING:
    from optimizer.audit import AuditReport
    from optimizer.formulation.builder import Cut, SiteModel, Values
    from optimizer.solution import AssetSchedule

__all__ = [
    "Asset",
    "CapacityLimit",
    "ChangeCost",
    "DemandCharge",
    "DemandResponse",
    "DispatchProblem",
    "GridConnection",
    "InvalidProblem",
    "Prices",
    "ProgressiveTariff",
    "TariffBlock",
]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GridConnection:
    """The connection of the site to the public grid."""

    import_limit_kw: Series = np.inf
    """Contracted import limit [kW], scalar or (T,): kept before every other wish, but it bends before load is cut."""
    export_limit_kw: Series = np.inf
    """Contracted export limit [kW], scalar or (T,); 0 forbids export."""
    import_rating_kw: Series = np.inf
    """What fuse and cable carry [kW]: physics, never exceeded. 0 where the site is islanded."""
    export_rating_kw: Series = np.inf
    """What fuse and cable carry outwards [kW]: physics, never exceeded. 0 where the site is islanded."""

    def __post_init__(self) -> None:
        freeze(self, "import_limit_kw", "export_limit_kw", "import_rating_kw", "export_rating_kw")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prices:
    """Prices of energy at the grid connection; negative ones are ordinary."""

    import_per_kwh: Series
    """Price of imported energy [currency/kWh], scalar or (T,)."""
    export_per_kwh: Series = 0.0
    """Reward for exported energy [currency/kWh], scalar or (T,)."""
    co2_kg_per_kwh: Series = 0.0
    """Carbon intensity of imported energy [kg/kWh], scalar or (T,)."""
    co2_per_kg: float = 0.0
    """Price the site puts on carbon [currency/kg]."""

    def __post_init__(self) -> None:
        freeze(self, "import_per_kwh", "export_per_kwh", "co2_kg_per_kwh", "co2_per_kg")


@dataclass(frozen=True, kw_only=True, slots=True)
class TariffBlock:
    """One step of a progressive tariff."""

    up_to_kwh: float
    """Import of the billing period at which the block ends [kWh]; inf for the last."""
    price_per_kwh: float
    """Price inside the block [currency/kWh], on top of `Prices.import_per_kwh`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProgressiveTariff:
    """Blocks of rising price over the import of one billing period (the Korean residential tariff has three)."""

    name: str
    """Name in the cost report."""
    blocks: tuple[TariffBlock, ...]
    """Blocks in order; prices must not fall, which keeps the tariff convex and the model linear."""
    used_kwh: float = 0.0
    """Imported in this billing period before the horizon starts [kWh]."""
    applies: Series = 1.0
    """1 where the interval belongs to this billing period, else 0; scalar or (T,)."""

    def __post_init__(self) -> None:
        freeze(self, "used_kwh", "applies")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DemandCharge:
    """A charge on the highest metered import of the billing period; several may stand side by side."""

    name: str
    """Name in the cost report."""
    price_per_kw: float
    """Price of each kW of billed demand above `floor_kw` [currency/kW]."""
    applies: Series = 1.0
    """1 where the interval counts, else 0; scalar or (T,)."""
    floor_kw: float = 0.0
    """Demand that will be billed whatever happens now [kW]: the running peak, or a ratchet on former months."""
    meter_intervals: int = 1
    """Model intervals to one demand-meter interval (3 for 15-minute demand on a 5-minute plan)."""
    open_kwh: float = 0.0
    """Imported in the demand-meter interval that is already running [kWh]."""
    open_h: float = 0.0
    """Hours of the running demand-meter interval that are already over [h]."""

    def __post_init__(self) -> None:
        freeze(self, "price_per_kw", "applies", "floor_kw", "open_kwh", "open_h")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DemandResponse:
    """A reward for importing less than a baseline during an event."""

    name: str
    """Event id in the cost report."""
    baseline_kw: Series
    """Baseline of net import [kW], scalar or (T,)."""
    during: Series
    """1 where the event runs, else 0, (T,)."""
    reward_per_kwh: float
    """Reward per verified kWh of reduction [currency/kWh]."""
    cap_kwh: float = np.inf
    """Reduction that is rewarded at most [kWh]."""
    committed_kwh: float = 0.0
    """Reduction the site has promised [kWh]."""
    penalty_per_kwh: float = 0.0
    """Price of each promised kWh that is missing [currency/kWh]."""

    def __post_init__(self) -> None:
        freeze(self, "baseline_kw", "during", "reward_per_kwh", "cap_kwh", "committed_kwh", "penalty_per_kwh")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CapacityLimit:
    """A limit somebody sends for a while (grid operator, OpenADR capacity limit): soft, on its own rung."""

    name: str
    """Event id in the report."""
    import_limit_kw: Series = np.inf
    """Import limit [kW], scalar or (T,); inf where the event does not run."""
    export_limit_kw: Series = np.inf
    """Export limit [kW], scalar or (T,); inf where the event does not run."""
    price_per_kwh: float | None = None
    """Price of each kWh above it [currency/kWh]; None takes the ladder's `event_limit`."""

    def __post_init__(self) -> None:
        freeze(self, "import_limit_kw", "export_limit_kw")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChangeCost:
    """What it costs to leave the previous plan of an asset, so that plans do not flap."""

    asset: str
    """Name of the asset."""
    net_consumption_kw: FloatArray
    """The previous plan, + drawn from the site bus [kW], (T,)."""
    price_per_kwh: Series
    """Price of each kWh that differs [currency/kWh], scalar or (T,); 0 where the old plan says nothing."""

    def __post_init__(self) -> None:
        freeze(self, "net_consumption_kw", "price_per_kwh")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Asset(ABC):
    """Something on the site that the dispatch knows. One module per asset holds all of it.

    Subclasses say what shape they have (what must be equal for two sites to share a compiled template), write
    their equations, give their numbers, read their schedule back and check it.
    """

    name: str
    """Unique on the site; appears in every report."""

    @abstractmethod
    def validate(self, check: Check) -> None:
        """Raise `InvalidProblem` for values that cannot be."""

    @abstractmethod
    def shape(self, problem: DispatchProblem) -> Hashable:
        """What decides the structure of the equations; numbers do not belong here."""

    @classmethod
    @abstractmethod
    def formulate(cls, site: SiteModel, key: str, shape: Any) -> None:
        """Declare variables and add the equations of this asset to the site's model."""

    @abstractmethod
    def parameters(self, problem: DispatchProblem) -> Mapping[str, Series]:
        """The numbers the equations of `formulate` name."""

    def stacks(self) -> bool:
        """True if what it says of numbers, answers and schedules is written for a stack of homes too (see `stack.py`)."""
        return False

    def reach(self, problem: DispatchProblem) -> tuple[Series, Series]:
        """The most it can draw from and feed into the site bus [kW], scalar or (T,), whatever is decided."""
        return 0.0, 0.0

    def needs_soft(self, problem: DispatchProblem) -> bool:
        """True if the lean model (wishes as bounds) is known to have no solution."""
        return False

    def lean_holds(self, problem: DispatchProblem, values: Values) -> bool:
        """True if no wish that the lean model kept as a bound is worth breaking at its price."""
        return True

    def unplanned(
        self, problem: DispatchProblem, left_kw: FloatArray
    ) -> tuple[Mapping[str, int | CodeArray], FloatArray] | None:
        """What it does without a plan: a start for the linear model. None: the asset knows no such start.

        Parameters
        ----------
        problem
            The site.
        left_kw
            What the site still needs, surplus negative, after all sun and the assets before this one, (T,); nan where one
            of them takes whatever is left.

        Returns
        -------
        tuple
            Where each variable family stands (see `builder.BASIC`), and what is left then. Basic are one entry per
            equality row of the asset, and one more in each interval in which it takes what is left.
        """
        return None

    def broken(self, problem: DispatchProblem, values: Values) -> Mapping[str, BoolArray]:
        """Per binary family: where the relaxed answer is not one the asset can follow."""
        return {}

    def shares(self, problem: DispatchProblem, values: Values) -> Mapping[str, FloatArray]:
        """Per binary family: how much of each decision a relaxed answer asks for, 0 to 1; NaN where nothing is asked.

        What is not named here asks for what its binaries stand at.
        """
        return {}

    def heat_reach(self, problem: DispatchProblem) -> Series:
        """The most heat it can give to its node [kW], scalar or (T,), whatever is decided."""
        return 0.0

    def cuts(self, problem: DispatchProblem, values: Sequence[Values]) -> list[Cut]:
        """Inequalities that hold for whole numbers and that a relaxed answer breaks; `values` of all assets, in order."""
        return []

    def constant_cost(self, problem: DispatchProblem) -> float:
        """Part of the cost that no decision changes, left out of the objective [currency]."""
        return 0.0

    @abstractmethod
    def read(self, problem: DispatchProblem, values: Values) -> AssetSchedule:
        """The schedule inside a solution."""

    def cut_kw(self, schedule: Any) -> FloatArray | None:
        """Power it asks for and does not get [kW], (T,); None where that is not how it wishes."""
        return None

    @abstractmethod
    def audit(self, problem: DispatchProblem, schedule: Any, report: AuditReport) -> None:
        """Recompute the asset from its schedule in plain numpy; tell the report what does not hold and what it costs."""


AnyAsset = TypeVar("AnyAsset", bound=Asset)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DispatchProblem:
    """One site over one horizon.

    Raises
    ------
    InvalidProblem
        For any value that cannot be; names site, asset, field, value and remedy.
    """

    site_id: str
    """Site the problem belongs to; only for reports and errors."""
    hours: FloatArray
    """Length of each interval [h], (T,); may differ within the horizon."""
    load_kw: FloatArray
    """Demand that is served whatever the price [kW], (T,); negative where it hides generation."""
    prices: Prices
    """Prices at the connection."""
    grid: GridConnection = field(default_factory=GridConnection)
    """Limits of the connection."""
    assets: tuple[Asset, ...] = ()
    """Everything that can be planned, in any order, names unique."""
    tariffs: tuple[ProgressiveTariff, ...] = ()
    """Progressive tariffs, one per billing period the horizon touches."""
    demand_charges: tuple[DemandCharge, ...] = ()
    """Demand charges."""
    demand_responses: tuple[DemandResponse, ...] = ()
    """Demand-response events with a reward."""
    capacity_limits: tuple[CapacityLimit, ...] = ()
    """Capacity-limit events."""
    change_costs: tuple[ChangeCost, ...] = ()
    """Costs of leaving the previous plan."""
    money_gap: float | None = None
    """Absolute gap at which a mixed-integer solve may stop [currency]; None: 0.03 kWh at the price scale, about 1 cent."""
    time_limit_s: float = 10.0
    """Time box of one solve [s]."""
    price_scale: float = field(init=False, repr=False)
    """Largest absolute price per kWh the site can see [currency/kWh]; 1 where everything is free."""

    def __post_init__(self) -> None:
        freeze(self, "hours", "load_kw")
        check = Check(self.site_id, None, 0)
        for name in ("hours", "load_kw"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.ndim != 1 or value.size == 0:
                check.refuse(name, value, "give a one-dimensional array with one value per interval")
        check.intervals = self.intervals
        self._validate_site(check)
        object.__setattr__(self, "price_scale", _price_scale(self))
        names = set()
        for asset in self.assets:
            if asset.name in names:
                check.refuse("assets", asset.name, "two assets carry this name")
            names.add(asset.name)
            asset.validate(Check(self.site_id, asset.name, self.intervals))
        for change in self.change_costs:
            if change.asset not in names:
                check.refuse("change_costs", change.asset, "no asset carries this name")
            if getattr(self.asset(change.asset), "inverter", None) is not None:
                check.refuse(
                    "change_costs", change.asset, "it hangs behind an inverter: name the inverter instead"
                )
        for asset in self.assets:
            inverter = getattr(asset, "inverter", None)
            if inverter is not None and inverter not in names:
                Check(self.site_id, asset.name, 0).refuse("inverter", inverter, "no asset carries this name")

    def _validate_site(self, check: Check) -> None:
        check.number("hours", self.hours, above=0.0)
        check.number("load_kw", self.load_kw)
        for owner, fields in (
            (self.grid, ("import_limit_kw", "export_limit_kw", "import_rating_kw", "export_rating_kw")),
            *((event, ("import_limit_kw", "export_limit_kw")) for event in self.capacity_limits),
        ):
            for name in fields:
                check.number(name, getattr(owner, name), least=0.0, endless=True)
        check.number("import_per_kwh", self.prices.import_per_kwh)
        check.number("export_per_kwh", self.prices.export_per_kwh)
        check.number("co2_kg_per_kwh", self.prices.co2_kg_per_kwh)
        check.number("co2_per_kg", self.prices.co2_per_kg)
        for tariff in self.tariffs:
            check.number(f"{tariff.name}.used_kwh", tariff.used_kwh, least=0.0)
            check.number(f"{tariff.name}.applies", tariff.applies, least=0.0, most=1.0)
            prices = [block.price_per_kwh for block in tariff.blocks]
            ends = [block.up_to_kwh for block in tariff.blocks]
            if not prices or prices != sorted(prices) or ends != sorted(ends) or ends[-1] != np.inf:
                check.refuse(
                    f"{tariff.name}.blocks", ends, "prices must not fall, ends must rise, the last is inf"
                )
        for charge in self.demand_charges:
            for name in ("price_per_kw", "floor_kw", "open_kwh", "open_h"):
                check.number(f"{charge.name}.{name}", getattr(charge, name), least=0.0)
            check.number(f"{charge.name}.applies", charge.applies, least=0.0, most=1.0)
            if charge.meter_intervals < 1:
                check.refuse(f"{charge.name}.meter_intervals", charge.meter_intervals, "must be at least 1")
        for event in self.demand_responses:
            check.number(f"{event.name}.baseline_kw", event.baseline_kw)
            check.number(f"{event.name}.during", event.during, least=0.0, most=1.0)
            for name in ("reward_per_kwh", "committed_kwh", "penalty_per_kwh"):
                check.number(f"{event.name}.{name}", getattr(event, name), least=0.0)
            check.number(f"{event.name}.cap_kwh", event.cap_kwh, least=0.0, endless=True)
        for change in self.change_costs:
            check.number(f"{change.asset}.net_consumption_kw", change.net_consumption_kw)
            check.number(f"{change.asset}.price_per_kwh", change.price_per_kwh, least=0.0)
        if self.money_gap is not None:
            check.number("money_gap", self.money_gap, least=0.0)
        check.number("time_limit_s", self.time_limit_s, above=0.0)

    @property
    def intervals(self) -> int:
        """Number of intervals T."""
        return int(self.hours.shape[-1])

    def of(self, kind: type[AnyAsset]) -> tuple[AnyAsset, ...]:
        """The site's assets of one kind."""
        return tuple(asset for asset in self.assets if isinstance(asset, kind))

    def heat_node(self, name: str) -> int:
        """Place of a heat node among the site's, in the order of the assets that name it."""
        names: list[str] = []
        for asset in self.assets:
            node = getattr(asset, "heat_node", None)
            if node is not None and node not in names:
                names.append(node)
        return names.index(name)

    def position(self, name: str) -> int:
        """Place of an asset among `assets`; `KeyError` if there is none of this name."""
        for position, asset in enumerate(self.assets):
            if asset.name == name:
                return position
        raise KeyError(name)

    def asset(self, name: str) -> Asset:
        """The asset with this name; `KeyError` if there is none."""
        return self.assets[self.position(name)]


def _price_scale(problem: DispatchProblem) -> float:
    prices = problem.prices
    seen = [
        float(np.max(np.abs(prices.import_per_kwh))),
        float(np.max(np.abs(prices.export_per_kwh))),
        float(np.max(prices.co2_kg_per_kwh)) * abs(prices.co2_per_kg),
    ]
    seen += [tariff.blocks[-1].price_per_kwh for tariff in problem.tariffs]
    seen += [event.reward_per_kwh for event in problem.demand_responses]
    return max(seen) or 1.0
