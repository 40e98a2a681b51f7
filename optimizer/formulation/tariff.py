"""Money beyond the price per kWh: progressive blocks, demand charges, demand response, capacity limits, changed plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimizer.arrays import BoolArray, FloatArray, Series
from optimizer.formulation.builder import SiteModel, Values, Vector
from optimizer.ladder import LADDER

if TYPE_CHECKING:
    from optimizer.problem import (
        CapacityLimit,
        DemandCharge,
        DemandResponse,
        DispatchProblem,
        ProgressiveTariff,
    )

MoneyShape = tuple[tuple[int, ...], tuple[tuple[int, ...], ...], int, int, tuple[int, ...]]
"""Blocks per tariff, interval groups per demand charge, responses, capacity limits, assets with a change cost."""


def money_shape(problem: DispatchProblem) -> MoneyShape:
    """Structure of the money terms of a problem."""
    return (
        tuple(len(tariff.blocks) for tariff in problem.tariffs),
        tuple(meter_groups(problem, charge) for charge in problem.demand_charges),
        len(problem.demand_responses),
        len(problem.capacity_limits),
        tuple(problem.position(change.asset) for change in problem.change_costs),
    )


def add_money(site: SiteModel, shape: MoneyShape, imported: Vector, exported: Vector) -> None:
    """Write every money term of the site."""
    tariffs, charges, responses, limits, changes = shape
    for k, blocks in enumerate(tariffs):
        add_progressive_blocks(site, f"tariff{k}", imported, blocks)
    for k, groups in enumerate(charges):
        add_demand_charge(site, f"demand{k}", imported, groups)
    for k in range(responses):
        add_demand_response(site, f"response{k}", imported, exported)
    for k in range(limits):
        if site.soft:
            add_capacity_limit(site, f"capacity{k}", imported, exported)
    for k, position in enumerate(changes):
        add_change_cost(site, f"change{k}", site.drawn[f"a{position}"])


def money_parameters(
    problem: DispatchProblem, reaches: tuple[FloatArray, FloatArray] | None
) -> dict[str, dict[str, Series]]:
    """The numbers of the money terms, by key."""
    numbers: dict[str, dict[str, Series]] = {}
    for k, tariff in enumerate(problem.tariffs):
        numbers[f"tariff{k}"] = {
            "size_kwh": block_sizes(tariff),
            "price": np.array([block.price_per_kwh for block in tariff.blocks]),
            "counted_h": problem.hours * tariff.applies,
        }
    for k, charge in enumerate(problem.demand_charges):
        numbers[f"demand{k}"] = _demand_numbers(problem, charge)
    for k, event in enumerate(problem.demand_responses):
        assert reaches is not None  # noqa: S101 - the caller computes them whenever there is an event
        numbers[f"response{k}"] = _response_numbers(problem, event, reaches)
    for k, limit in enumerate(problem.capacity_limits):
        numbers[f"capacity{k}"] = {
            "import_limit_kw": limit.import_limit_kw,
            "export_limit_kw": limit.export_limit_kw,
            "over_cost": event_price(problem, limit) * problem.hours,
        }
    for k, change in enumerate(problem.change_costs):
        numbers[f"change{k}"] = {
            "planned_kw": change.net_consumption_kw,
            "change_cost": change.price_per_kwh * problem.hours,
        }
    return numbers


def add_progressive_blocks(site: SiteModel, key: str, imported: Vector, blocks: int) -> None:
    """Convex blocks: sum_k block_k = sum_t hours[t] * applies[t] * import[t], 0 <= block_k <= size_k, price_k paid.

    size_k is what the billing period has left of the block: max(0, end_k - max(end_(k-1), used)).
    """
    block = site.variable(key, "block", blocks)
    size = site.parameter(key, "size_kwh", blocks)
    counted = site.parameter(key, "counted_h")
    site.rows(key, "size", lambda k: block[k] <= size[k], over=range(blocks))
    site.rows(
        key,
        "blocks",
        lambda _: sum(block) - sum(counted[t] * imported[t] for t in range(site.intervals)) == 0.0,
        over=[0],
    )
    site.cost(site.parameter(key, "price", blocks), block)


def block_sizes(tariff: ProgressiveTariff) -> FloatArray:
    """What the billing period has left of each block [kWh]."""
    ends = np.array([block.up_to_kwh for block in tariff.blocks])
    starts = np.concatenate(([0.0], ends[:-1]))
    left: FloatArray = np.maximum(0.0, ends - np.maximum(starts, tariff.used_kwh))
    return left


def add_demand_charge(site: SiteModel, key: str, imported: Vector, groups: tuple[int, ...]) -> None:
    """For each meter interval g: sum of weight[t] * import[t] over g - above <= floor - open_kwh / length of g.

    weight[t] = applies[t] * hours[t] / length of g; `above` is the demand beyond what is billed anyway; its price is
    paid. The meter interval that is already running brings its energy along.
    """
    above = site.variable(key, "above", 1)
    weight = site.parameter(key, "weight")
    floor = site.parameter(key, "floor_kw", len(groups))
    starts = np.concatenate(([0], np.cumsum(groups)))
    site.rows(
        key,
        "demand",
        lambda g: (
            sum(weight[t] * imported[t] for t in range(starts[g], starts[g + 1])) - above[0] <= floor[g]
        ),
        over=range(len(groups)),
    )
    site.cost(site.parameter(key, "price", 1), above)


def meter_groups(problem: DispatchProblem, charge: DemandCharge) -> tuple[int, ...]:
    """Number of model intervals in each demand-meter interval of the horizon."""
    n, size = problem.intervals, charge.meter_intervals
    over = min(size - 1, round(charge.open_h / float(problem.hours[0])))
    groups = [size - over]
    while sum(groups) < n:
        groups.append(size)
    groups[-1] -= sum(groups) - n
    return tuple(groups)


def _demand_numbers(problem: DispatchProblem, charge: DemandCharge) -> dict[str, Series]:
    groups = np.array(meter_groups(problem, charge))
    starts = np.concatenate(([0], np.cumsum(groups)[:-1]))
    length = np.add.reduceat(problem.hours, starts)
    length[0] += charge.open_h
    floor = np.full(len(groups), charge.floor_kw)
    floor[0] -= charge.open_kwh / length[0]
    return {
        "weight": charge.applies * problem.hours / np.repeat(length, groups),
        "floor_kw": floor,
        "price": charge.price_per_kw,
    }


def add_demand_response(site: SiteModel, key: str, imported: Vector, exported: Vector) -> None:
    """Reward: reduction = sum_t hours[t] * during[t] * (baseline[t] - import[t] + export[t]).

    rewarded <= reduction + away * (1 - responds); rewarded <= cap * responds; short >= committed - reduction. A
    negative reduction earns nothing and costs nothing, which no linear model can say: `responds` is 0 or 1.
    """
    rewarded = site.variable(key, "rewarded", 1)
    short = site.variable(key, "short", 1)
    responds = site.binary(key, "responds", 1)
    during = site.parameter(key, "during_h")
    baseline = site.parameter(key, "baseline_kwh", 1)
    cap = site.parameter(key, "cap_kwh", 1)
    away = site.parameter(key, "away_kwh", 1)
    committed = site.parameter(key, "committed_kwh", 1)
    net = sum(during[t] * imported[t] - during[t] * exported[t] for t in range(site.intervals))
    site.rows(
        key,
        "reduction",
        lambda _: rewarded[0] + net + away[0] * responds[0] <= baseline[0] + away[0],
        over=[0],
    )
    site.rows(key, "cap", lambda _: rewarded[0] <= cap[0] * responds[0], over=[0])
    site.rows(key, "short", lambda _: short[0] - net >= committed[0] - baseline[0], over=[0])
    site.cost(site.parameter(key, "reward", 1), rewarded)
    site.cost(site.parameter(key, "penalty", 1), short)


def _response_numbers(
    problem: DispatchProblem, event: DemandResponse, reaches: tuple[FloatArray, FloatArray]
) -> dict[str, Series]:
    during = problem.hours * event.during
    most_drawn, most_fed = reaches
    baseline = float(np.sum(during * event.baseline_kw))
    return {
        "during_h": during,
        "baseline_kwh": baseline,
        "cap_kwh": max(0.0, min(event.cap_kwh, baseline + float(during @ most_fed))),
        "away_kwh": max(0.0, float(during @ most_drawn) - baseline),
        "committed_kwh": event.committed_kwh,
        "reward": -event.reward_per_kwh,
        "penalty": event.penalty_per_kwh,
    }


def reduction_kwh(
    problem: DispatchProblem, event: DemandResponse, imported: FloatArray, exported: FloatArray
) -> float:
    """Reduction against the baseline [kWh]; negative above it."""
    return float(np.sum(problem.hours * event.during * (event.baseline_kw - imported + exported)))


def broken_response(
    problem: DispatchProblem,
    event: DemandResponse,
    values: Values,
    imported: FloatArray,
    exported: FloatArray,
) -> BoolArray:
    """True where the relaxation is paid for a reduction that is not there."""
    reduction = reduction_kwh(problem, event, imported, exported)
    rewarded = float(values.column("rewarded")[0])
    cheats = rewarded > max(0.0, reduction) + 1e-6
    undecided = 1e-6 < float(values.column("responds")[0]) < 1.0 - 1e-6
    return np.array([cheats or undecided])


def add_capacity_limit(site: SiteModel, key: str, imported: Vector, exported: Vector) -> None:
    """import[t] - over[t] <= event_limit[t]; export[t] - over[t] <= event_limit_out[t]; over is paid. Lean: a bound."""
    over = site.variable(key, "over")
    limit_in = site.parameter(key, "import_limit_kw")
    limit_out = site.parameter(key, "export_limit_kw")
    site.rows(key, "import", lambda t: imported[t] - over[t] <= limit_in[t])
    site.rows(key, "export", lambda t: exported[t] - over[t] <= limit_out[t])
    site.cost(site.parameter(key, "over_cost"), over)


def event_price(problem: DispatchProblem, limit: CapacityLimit) -> float:
    """Price of a kWh above an event's limit [currency/kWh]."""
    return LADDER.event_limit * problem.price_scale if limit.price_per_kwh is None else limit.price_per_kwh


def add_change_cost(site: SiteModel, key: str, drawn: Vector) -> None:
    """net_consumption[t] - up[t] + down[t] = planned[t]; both are paid."""
    up, down = site.variable(key, "up"), site.variable(key, "down")
    planned = site.parameter(key, "planned_kw")
    price = site.parameter(key, "change_cost")
    site.rows(key, "change", lambda t: drawn[t] - up[t] + down[t] == planned[t])
    site.cost(price, up)
    site.cost(price, down)
