"""The site bus and its connection: balance, limits, energy money, and the order among equal plans."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from optimizer.arrays import FloatArray, Series
from optimizer.formulation.builder import Expr, Family, Shape, SiteModel, Vector
from optimizer.formulation.tariff import MoneyShape, add_money, event_price, money_parameters, money_shape
from optimizer.ladder import LADDER, TIE_BREAK

if TYPE_CHECKING:
    from optimizer.problem import DispatchProblem

GRID = "grid"
"""Key of the connection among parameters, columns and rows."""


def site_shape(problem: DispatchProblem, *, soft: bool, discrete: frozenset[Family] = frozenset()) -> Shape:
    """The shape of a problem; see `Shape`."""
    return Shape(
        intervals=problem.intervals,
        soft=soft,
        discrete=discrete,
        site=money_shape(problem),
        assets=tuple((type(asset), asset.shape(problem)) for asset in problem.assets),
    )


def formulate_site(shape: Shape) -> SiteModel:
    """Write the whole model of one shape: assets first, then the buses that join them."""
    site = SiteModel(shape)
    for index, (kind, structure) in enumerate(shape.assets):
        kind.formulate(site, f"a{index}", structure)
    add_heat_nodes(site)
    for close in site.closing:
        close()
    add_connection(site, shape.site)
    return site


def add_heat_nodes(site: SiteModel) -> None:
    """Every heat node gives what it gets: sum of heats[t] = 0."""
    for node, heats in site.heat.items():

        def balance(t: int, heats: list[list[Expr]] = heats) -> Expr:
            return sum(heats[t]) == 0.0

        site.rows(f"node{node}", "heat", balance)


def add_connection(site: SiteModel, money: MoneyShape) -> None:
    """Import and export, what they cost, and the balance that ties all assets together."""
    imported = site.variable(GRID, "import")
    exported = site.variable(GRID, "export")
    add_import_limits(site, imported)
    add_export_limits(site, exported)
    site.cost(site.parameter(GRID, "import_cost"), imported)
    site.cost(site.parameter(GRID, "export_cost"), exported)
    site.prefer(GRID, "import", imported)
    site.prefer(GRID, "export", exported)
    if site.asks_whole(GRID, "importing"):
        add_one_direction(site, imported, exported)
    add_bus_balance(site, imported, exported)
    add_money(site, money, imported, exported)


def add_import_limits(site: SiteModel, imported: Vector) -> None:
    """import[t] <= rating[t]; soft: import[t] - import_excess[t] <= limit[t]; lean: import[t] <= min(limit, rating)[t]."""
    most = site.parameter(GRID, "import_most_kw")
    site.rows(GRID, "import_most", lambda t: imported[t] <= most[t])
    if site.soft:
        limit = site.parameter(GRID, "import_limit_kw")
        excess = site.variable(GRID, "import_excess")
        site.rows(GRID, "import_limit", lambda t: imported[t] - excess[t] <= limit[t])
        site.cost(site.parameter(GRID, "limit_cost"), excess)


def add_export_limits(site: SiteModel, exported: Vector) -> None:
    """export[t] <= rating[t]; soft: export[t] - export_excess[t] <= limit[t]; lean: export[t] <= min(limit, rating)[t]."""
    most = site.parameter(GRID, "export_most_kw")
    site.rows(GRID, "export_most", lambda t: exported[t] <= most[t])
    if site.soft:
        limit = site.parameter(GRID, "export_limit_kw")
        excess = site.variable(GRID, "export_excess")
        site.rows(GRID, "export_limit", lambda t: exported[t] - excess[t] <= limit[t])
        site.cost(site.parameters[GRID, "limit_cost"], excess)


def add_one_direction(site: SiteModel, imported: Vector, exported: Vector) -> None:
    """import[t] <= import_reach[t] * importing[t]; export[t] <= export_reach[t] * (1 - importing[t])."""
    importing = site.binary(GRID, "importing", direction=True)
    import_reach = site.parameter(GRID, "import_reach_kw")
    export_reach = site.parameter(GRID, "export_reach_kw")
    site.rows(GRID, "importing", lambda t: imported[t] <= import_reach[t] * importing[t])
    site.rows(GRID, "exporting", lambda t: exported[t] <= export_reach[t] - export_reach[t] * importing[t])


def add_bus_balance(site: SiteModel, imported: Vector, exported: Vector) -> None:
    """import[t] - export[t] + sum of feeds[t] = load[t] - unserved[t] + surplus[t]; unserved[t] <= max(load[t], 0)."""
    load = site.parameter(GRID, "load_kw")
    if not site.soft:
        site.rows(GRID, "bus", lambda t: imported[t] - exported[t] + sum(site.fed[t]) == load[t])
        return
    unserved = site.variable(GRID, "unserved")
    surplus = site.variable(GRID, "surplus")
    most = site.parameter(GRID, "unserved_most_kw")
    site.rows(GRID, "unserved_most", lambda t: unserved[t] <= most[t])
    site.rows(
        GRID,
        "bus",
        lambda t: imported[t] - exported[t] + sum(site.fed[t]) + unserved[t] - surplus[t] == load[t],
    )
    site.cost(site.parameter(GRID, "unserved_cost"), unserved)
    site.cost(site.parameter(GRID, "surplus_cost"), surplus)


def site_parameters(problem: DispatchProblem, shape: Shape) -> dict[str, dict[str, Series]]:
    """The numbers `add_connection` and the money terms name, by key."""
    grid, prices, hours = problem.grid, problem.prices, problem.hours
    scale = problem.price_scale
    small = TIE_BREAK * scale * hours
    values: dict[str, Series] = {
        "load_kw": problem.load_kw,
        "import_cost": hours * (prices.import_per_kwh + prices.co2_per_kg * prices.co2_kg_per_kwh),
        "export_cost": -hours * prices.export_per_kwh,
        "tie_import": small,
        "tie_export": small,
    }
    import_most, export_most = grid.import_rating_kw, grid.export_rating_kw
    reaches = None
    earns = np.any(np.greater(prices.export_per_kwh, prices.import_per_kwh), axis=-1, keepdims=True)
    if shape.discrete or problem.demand_responses or earns.any():
        reaches = reach(problem)
        limited = earns | bool(shape.discrete or problem.demand_responses)
        import_most = np.where(limited, np.minimum(import_most, reaches[0]), import_most)
        export_most = np.where(limited, np.minimum(export_most, reaches[1]), export_most)
    if shape.soft:
        ladder = scale * hours
        values |= {
            "import_most_kw": import_most,
            "export_most_kw": export_most,
            "import_limit_kw": grid.import_limit_kw,
            "export_limit_kw": grid.export_limit_kw,
            "limit_cost": LADDER.grid_limit * ladder,
            "unserved_most_kw": np.maximum(problem.load_kw, 0.0),
            "unserved_cost": LADDER.unserved_load * ladder,
            "surplus_cost": LADDER.surplus * ladder,
        }
    else:
        for event in problem.capacity_limits:
            import_most = np.minimum(import_most, event.import_limit_kw)
            export_most = np.minimum(export_most, event.export_limit_kw)
        values |= {
            "import_most_kw": np.minimum(grid.import_limit_kw, import_most),
            "export_most_kw": np.minimum(grid.export_limit_kw, export_most),
        }
    if shape.discrete and reaches is not None:
        values |= {"import_reach_kw": reaches[0], "export_reach_kw": reaches[1]}
    return {GRID: values} | money_parameters(problem, reaches)


def limit_price(problem: DispatchProblem) -> float:
    """Lowest price of a kWh above any soft limit of the connection [currency/kWh]."""
    events = [event_price(problem, event) for event in problem.capacity_limits]
    price = LADDER.grid_limit * problem.price_scale
    return min(price, *events) if events else price


def reach(problem: DispatchProblem) -> tuple[FloatArray, FloatArray]:
    """The most the site can import and export per interval [kW], (T,), whatever is decided."""
    draw = np.maximum(problem.load_kw, 0.0)
    feed = np.maximum(-problem.load_kw, 0.0)
    for asset in problem.assets:
        most_drawn, most_fed = asset.reach(problem)
        draw = draw + most_drawn
        feed = feed + most_fed
    return np.minimum(draw, problem.grid.import_rating_kw), np.minimum(feed, problem.grid.export_rating_kw)


def slope_of(name: str | tuple[str, ...], family: str) -> Series:
    """A slope in [0.5, 1.5) that is always the same for one family of one asset; a column for the names of a stack."""
    if isinstance(name, str):
        return _slope_of(name, family)
    return np.array([[_slope_of(one, family)] for one in name])


@lru_cache(maxsize=100_000)
def _slope_of(name: str, family: str) -> float:
    return 0.5 + crc32(f"{name}/{family}".encode()) / 2**32


def ramp(problem: DispatchProblem, slope: Series) -> FloatArray:
    """Cost per kW [currency/kW], (T,), that lets the earlier of two equal intervals win.

    A share TIE_BREAK of the price scale, rising with time; `slope` differs between the families that could
    trade places, so that no two plans of equal money are equal here. What it can cost at most is reported as
    `DispatchSolution.tie_break_cost`.
    """
    result: FloatArray = (
        (TIE_BREAK * problem.price_scale * slope) * problem.hours * _rising(problem.intervals)
    )
    return result


@lru_cache(maxsize=64)
def _rising(intervals: int) -> FloatArray:
    """From 1 towards 2 over the horizon."""
    steps: FloatArray = 1.0 + np.arange(intervals) / intervals
    return steps


def tie_break_bound(problem: DispatchProblem) -> float:
    """What the preference among equal plans can cost at most [currency]: its largest minus its smallest value."""
    drawn, fed = reach(problem)
    return 3.0 * TIE_BREAK * problem.price_scale * float(problem.hours @ (3.0 * (drawn + fed)))
