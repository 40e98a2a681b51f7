"""The model while it is being written: one Pyomo model per shape, parameters declared as variables to compile over.

Names: every asset has a `key` (`a0`, `a1`, .. in the order of the problem), every family a name; the pair finds
parameters, columns and rows again after compilation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyomo.environ as pyo

if TYPE_CHECKING:
    from optimizer.arrays import BoolArray, FloatArray, IntArray, Series
    from optimizer.formulation.tariff import MoneyShape
    from optimizer.problem import Asset

Expr = Any
"""A Pyomo expression; Pyomo carries no types."""

EXCLUSIVE_KW = 1e-6
"""Opposite powers below this are one direction [kW]."""

AT_LOWER, BASIC, AT_UPPER = 0, 1, 2
"""Codes of a starting basis, as HiGHS numbers them: at a bound, or basic."""

Vector = Sequence[Any]
"""Variables or parameters of one family, one per interval (or per fence post, or per segment)."""


Family = tuple[str, str]
"""Key and name of a family of variables, rows or numbers."""

EVERY: frozenset[Family] = frozenset({("*", "*")})
"""All binaries there are."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What two problems must share to use one compiled template."""

    intervals: int
    """Number of intervals T."""
    soft: bool
    """True with a slack on every soft limit; False with soft limits as bounds (see `engine.py`)."""
    discrete: frozenset[Family]
    """Binary families the model has, besides those of the assets that cannot be written without."""
    site: MoneyShape
    """Structure of the money terms."""
    assets: tuple[tuple[type[Asset], Hashable], ...]
    """Kind and structure of each asset."""


@dataclass(frozen=True, slots=True)
class Cut:
    """An inequality that every plan keeps and a relaxed answer breaks: sum of entry * column >= least."""

    terms: tuple[tuple[int, str, IntArray, FloatArray], ...]
    """Position of an asset, name of a variable family, its members, and an entry for each."""
    least: float
    """What the sum is at least."""


class Values(Protocol):
    """The part of a solution vector that belongs to one asset, read by family."""

    def has(self, name: str) -> bool:
        """True if the shape has the variable family."""

    def column(self, name: str) -> FloatArray:
        """Values of a variable family; zeros where the shape does not have it."""

    def row_dual(self, name: str) -> FloatArray:
        """Change of the objective [currency] per unit of right-hand side of a constraint family."""

    def column_dual(self, name: str) -> FloatArray:
        """Reduced costs of a variable family [currency per unit]."""


class SiteModel:
    """Collects parameters, variables, constraints and costs of one site."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.intervals = shape.intervals
        self.soft = shape.soft
        self.model = pyo.ConcreteModel()
        self.parameters: dict[tuple[str, str], Vector] = {}
        self.variables: dict[tuple[str, str], Vector] = {}
        self.binaries: dict[tuple[str, str], Vector] = {}
        self.directions: set[tuple[str, str]] = set()
        self.once: set[tuple[str, str]] = set()
        self.switched: dict[tuple[str, str], tuple[str, str]] = {}
        self.fed: list[list[Expr]] = [[] for _ in range(self.intervals)]
        """Per interval: power fed into the site bus, draws negative."""
        self.heat: defaultdict[int, list[list[Expr]]] = defaultdict(
            lambda: [[] for _ in range(self.intervals)]
        )
        """Per heat node and interval: heat given to the node, takings negative."""
        self.dc: defaultdict[str, list[list[Expr]]] = defaultdict(lambda: [[] for _ in range(self.intervals)])
        """Per hybrid inverter and interval: power fed into its DC bus, draws negative."""
        self.drawn: dict[str, list[Expr]] = {}
        """Per asset key and interval: net consumption at the site bus."""
        self.costs: list[Expr] = []
        self.closing: list[Callable[[], None]] = []
        """What must be written after every asset has spoken (inverters, heat nodes)."""

    def parameter(self, key: str, name: str, n: int | None = None) -> Vector:
        """Declare a family of numbers that differ from problem to problem (default: one per interval)."""
        family = pyo.Var(range(self.intervals if n is None else n))
        self.model.add_component(f"{key}__{name}", family)
        self.parameters[key, name] = vector = list(family.values())
        return vector

    def variable(self, key: str, name: str, n: int | None = None, *, lower: float | None = 0.0) -> Vector:
        """Declare a family of decisions, non-negative unless said otherwise."""
        family = pyo.Var(range(self.intervals if n is None else n), bounds=(lower, None))
        self.model.add_component(f"{key}_{name}", family)
        self.variables[key, name] = vector = list(family.values())
        return vector

    def binary(
        self,
        key: str,
        name: str,
        n: int | None = None,
        *,
        direction: bool = False,
        once: bool = False,
        bounded: bool = True,
        switches: str | None = None,
    ) -> Vector:
        """Declare a family of 0/1 decisions; they are relaxed until a relaxed answer breaks what they stand for.

        `direction` marks those that only keep opposite powers apart: the fast loop may decide them anew. `once` marks
        families of which at most one member is 1. Where `bounded` is False the asset writes the bounds itself,
        inside [0, 1]. `switches` names the power of the same asset that is 0 without them.
        """
        bounds = (0.0, 1.0) if bounded else (0.0, None)
        family = pyo.Var(range(self.intervals if n is None else n), bounds=bounds)
        self.model.add_component(f"{key}_{name}", family)
        self.variables[key, name] = self.binaries[key, name] = vector = list(family.values())
        if direction:
            self.directions.add((key, name))
        if once:
            self.once.add((key, name))
        if switches is not None:
            self.switched[key, name] = key, switches
        return vector

    def rows(
        self, key: str, name: str, rule: Callable[[int], Expr], over: Iterable[int] | None = None
    ) -> None:
        """Add one constraint family; `rule(t)` is its equation."""
        family = pyo.Constraint(
            range(self.intervals) if over is None else list(over), rule=lambda _, t: rule(t)
        )
        self.model.add_component(f"{key}.{name}", family)

    def asks_whole(self, key: str, name: str) -> bool:
        """True if this shape has the binary family; most linear answers need none of them."""
        return (
            (key, name) in self.shape.discrete or self.shape.discrete is EVERY or self.shape.discrete == EVERY
        )

    def feed(self, key: str, powers: Sequence[Expr]) -> None:
        """Let an asset feed the site bus (or draw, where an expression is negative)."""
        for t, power in enumerate(powers):
            self.fed[t].append(power)
        self.drawn[key] = [-power for power in powers]

    def feed_dc(self, inverter: str, powers: Sequence[Expr]) -> None:
        """Let an asset feed the DC bus of a hybrid inverter (or draw, where an expression is negative)."""
        for t, power in enumerate(powers):
            self.dc[inverter][t].append(power)

    def feed_heat(self, node: int, heats: Sequence[Expr]) -> None:
        """Let an asset give heat to a node (or take, where an expression is negative)."""
        for t, heat in enumerate(heats):
            self.heat[node][t].append(heat)

    def cost(self, prices: Iterable[Expr], amounts: Iterable[Expr]) -> None:
        """Add price times amount, element by element, to the objective."""
        self.costs.extend(price * amount for price, amount in zip(prices, amounts, strict=True))

    def prefer(self, key: str, name: str, amounts: Sequence[Expr]) -> None:
        """Add the order among equal plans: parameter `tie_<name>`, kept apart from money (see `site.ramp`)."""
        self.cost(self.parameter(key, f"tie_{name}", len(amounts)), amounts)


def add_least_power(site: SiteModel, key: str, power: Vector, most: Vector) -> None:
    """least[t] * on[t] <= power[t] <= limit[t] * on[t], with on[t] 0 or 1 where a relaxed answer was too weak."""
    on = site.binary(key, "on", direction=True, switches="power")
    least = site.parameter(key, "least_kw")
    site.rows(key, "on", lambda t: power[t] <= most[t] * on[t])
    site.rows(key, "least", lambda t: power[t] >= least[t] * on[t])


def weak_power(power: FloatArray, least: Series) -> BoolArray:
    """Everywhere, if a power is anywhere neither 0 nor at least the least: mending one interval breaks the next."""
    weak = (power > EXCLUSIVE_KW) & (power < np.asarray(least) - EXCLUSIVE_KW)
    return np.full(power.shape, bool(weak.any()))


def least_share(power: FloatArray, least: Series) -> FloatArray:
    """Intervals at the least power that a relaxed power is worth, (T,); 1 or more where it can stand as it is."""
    running = power > EXCLUSIVE_KW
    enough = running & (power >= np.asarray(least) - EXCLUSIVE_KW)
    share: FloatArray = np.where(enough, 1.0, running * power / np.maximum(least, EXCLUSIVE_KW))
    return share


def direction_share(one: FloatArray, other: FloatArray) -> FloatArray:
    """Share of one direction where two are used at once; NaN elsewhere, where nothing has to be decided."""
    both = np.minimum(one, other) > EXCLUSIVE_KW
    share: FloatArray = np.where(both, one / np.where(both, one + other, 1.0), np.nan)
    return share


def clash(one: FloatArray, other: FloatArray) -> BoolArray | None:
    """Where two non-negative powers are both above EXCLUSIVE_KW; None if nowhere."""
    if (one * other).max() <= EXCLUSIVE_KW**2:
        return None
    both: BoolArray = np.minimum(one, other) > EXCLUSIVE_KW
    return both if both.any() else None
