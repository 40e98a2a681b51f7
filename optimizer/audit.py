"""An independent check of every solution: plain numpy on the problem and the schedule, no model, no solver.

Power and energy balances, ratings, windows and every line of the bill are recomputed from scratch. A solution that
does not pass cannot be published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.arrays import FloatArray, Series, largest, weighted
from optimizer.ladder import LADDER
from optimizer.solution import AssetSchedule, CostLine, UnmetWish

if TYPE_CHECKING:
    from optimizer.problem import DemandCharge, DispatchProblem, ProgressiveTariff

TOLERANCE = 1e-6
"""Largest error of a power or energy, as a share of the largest power or energy of the site (at least 1 kW)."""


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


class AuditReport:
    """Collects findings, cost lines and unmet wishes while assets are checked.

    Errors are gathered and looked at once at the end: most plans have none. Of a stack of homes (see `stack.py`) only
    that much is said, `clear`, and the cost lines carry an amount per home; a home that is not clear is asked alone.
    """

    __slots__ = (
        "_errors",
        "_lines",
        "_wishes",
        "clear",
        "costs",
        "findings",
        "schedules",
        "tolerance",
        "unmet",
    )

    def __init__(self, schedules: Sequence[AssetSchedule], *, tolerance: Series) -> None:
        self.schedules = schedules
        self.tolerance = tolerance
        self.clear = True
        self.findings: list[Finding] = []
        self.costs: list[CostLine] = []
        self.unmet: list[UnmetWish] = []
        self._lines: list[tuple[str, str, FloatArray, bool]] = []
        self._errors: list[tuple[str, str, str, FloatArray]] = []
        self._wishes: list[tuple[str, str, FloatArray, Series, Series, str]] = []

    def schedule(self, name: str) -> Any:
        """The schedule of another asset."""
        return next(schedule for schedule in self.schedules if schedule.name == name)

    def within(
        self,
        owner: str,
        rule: str,
        value: FloatArray,
        *,
        least: Series = 0.0,
        most: Series | None = None,
        unit: str = "kW",
    ) -> None:
        """Every value lies in [least, most]."""
        self._errors.append((owner, rule, unit, least - value))
        if most is not None:
            self._errors.append((owner, rule, unit, value - most))

    def zero(self, owner: str, rule: str, error: FloatArray, *, unit: str = "kW") -> None:
        """Every error vanishes."""
        self._errors.append((owner, rule, unit, np.abs(error)))

    def apart(self, owner: str, rule: str, one: FloatArray, other: FloatArray) -> None:
        """Of two opposite directions, one rests."""
        self._errors.append((owner, rule, "kW", np.minimum(one, other)))

    def charge(self, term: str, owner: str, amount: float | FloatArray, *, is_money: bool = True) -> None:
        """Add a line to the bill."""
        if not isinstance(amount, float):
            self._lines.append((term, owner, amount, is_money))
        elif amount:
            self.costs.append(CostLine(term=term, owner=owner, amount=float(amount), is_money=is_money))

    def amounts(self) -> FloatArray:
        """Of a stack: every line of the bills, a column per home."""
        return np.array([amounts for _, _, amounts, _ in self._lines])

    def bills(self, count: int) -> list[tuple[CostLine, ...]]:
        """The lines of each home of a stack."""
        lines = []
        for term, owner, amounts, is_money in self._lines:
            owners = [owner] * count if isinstance(owner, str) else owner
            lines.append(
                [
                    CostLine(term=term, owner=whose, amount=amount, is_money=is_money) if amount else None
                    for whose, amount in zip(owners, amounts.tolist(), strict=True)
                ]
            )
        if not lines:
            return [()] * count
        return [tuple(line for line in bill if line is not None) for bill in zip(*lines, strict=True)]

    def wish(
        self, wish: str, owner: str, missing: FloatArray, weight: Series, price: Series, *, unit: str = "kWh"
    ) -> None:
        """Note what is missing of a wish [unit per weight] and its price; only what is really missing is reported."""
        self._wishes.append((wish, owner, missing, weight, price, unit))

    def close(self) -> None:
        """Turn what was gathered into findings and unmet wishes."""
        if not isinstance(self.tolerance, float):
            self.clear = all(
                (error <= self.tolerance).all()
                for error in (*(entry[3] for entry in self._errors), *(entry[2] for entry in self._wishes))
            )
            return
        worst = np.concatenate([error for *_, error in self._errors]).max() if self._errors else 0.0
        if not worst <= self.tolerance:  # a NaN is a finding too
            for owner, rule, unit, error in self._errors:
                size = np.where(np.isnan(error), np.inf, error)
                at = int(np.argmax(size))
                if size[at] > self.tolerance:
                    self.findings.append(
                        Finding(rule=rule, owner=owner, interval=at, excess=float(size[at]), unit=unit)
                    )
        if self._wishes and np.concatenate([entry[2] for entry in self._wishes]).max() > self.tolerance:
            for entry in self._wishes:
                self._report_wish(*entry)

    def _report_wish(
        self, wish: str, owner: str, missing: FloatArray, weight: Series, price: Series, unit: str
    ) -> None:
        if missing.max() <= self.tolerance:
            return
        missing = np.maximum(missing, 0.0)
        cost = float(np.sum(missing * weight * price))
        first = int(np.argmax(missing > self.tolerance))
        amount = float(np.sum(missing * weight))
        self.unmet.append(
            UnmetWish(wish=wish, owner=owner, amount=amount, unit=unit, cost=cost, first_interval=first)
        )
        self.charge(wish, owner, cost, is_money=False)


def audit(
    problem: DispatchProblem,
    schedules: Sequence[AssetSchedule],
    import_kw: FloatArray,
    export_kw: FloatArray,
    unserved_kw: FloatArray,
    surplus_kw: FloatArray,
) -> AuditReport:
    """Check a schedule against its problem and write its bill.

    Rules: import - export = load - unserved + surplus + net consumption of every asset; no power negative; ratings
    of the connection; never both directions at once; each asset's own rules; each heat node gives what it gets.
    """
    grid = problem.grid
    size = np.maximum(1.0, np.maximum(largest(import_kw), largest(export_kw)))
    report = AuditReport(schedules, tolerance=TOLERANCE * size)
    for asset, schedule in zip(problem.assets, schedules, strict=True):
        asset.audit(problem, schedule, report)
    drawn = problem.load_kw
    emergency = bool(unserved_kw.any() or surplus_kw.any())
    if emergency:
        drawn = drawn - unserved_kw + surplus_kw
        report.within("grid", "unserved", unserved_kw, most=np.maximum(problem.load_kw, 0.0))
        report.within("grid", "surplus", surplus_kw)
        report.wish(
            "unserved_load", "grid", unserved_kw, problem.hours, LADDER.unserved_load * problem.price_scale
        )
        report.wish("surplus", "grid", surplus_kw, problem.hours, LADDER.surplus * problem.price_scale)
    for schedule in schedules:
        drawn = drawn + schedule.net_consumption_kw
    report.zero("grid", "bus_balance", import_kw - export_kw - drawn)
    report.within("grid", "import_rating", import_kw, most=_unless_inf(grid.import_rating_kw))
    report.within("grid", "export_rating", export_kw, most=_unless_inf(grid.export_rating_kw))
    report.apart("grid", "import_and_export", import_kw, export_kw)
    _bill_connection(problem, import_kw, export_kw, report)
    _bill_events(problem, import_kw, export_kw, report)
    _check_heat(schedules, report)
    report.close()
    return report


def _unless_inf(limit: Series) -> Series | None:
    """None where there is no limit at all."""
    return None if isinstance(limit, float) and limit == np.inf else limit


def _bill_connection(
    problem: DispatchProblem,
    import_kw: FloatArray,
    export_kw: FloatArray,
    report: AuditReport,
) -> None:
    """Energy money, carbon, and the wishes of the connection."""
    grid, prices, hours, scale = problem.grid, problem.prices, problem.hours, problem.price_scale
    imported_kwh, exported_kwh = hours * import_kw, hours * export_kw
    report.charge("import", "grid", weighted(imported_kwh, prices.import_per_kwh))
    report.charge("export", "grid", -weighted(exported_kwh, prices.export_per_kwh))
    carbon_per_kwh = prices.co2_per_kg * prices.co2_kg_per_kwh
    if np.any(carbon_per_kwh):
        report.charge("co2", "grid", weighted(imported_kwh, carbon_per_kwh), is_money=False)
    for wish, power, limit in (
        ("import_limit", import_kw, grid.import_limit_kw),
        ("export_limit", export_kw, grid.export_limit_kw),
    ):
        if _unless_inf(limit) is not None:
            report.wish(wish, "grid", power - limit, hours, LADDER.grid_limit * scale)


def _bill_events(
    problem: DispatchProblem, import_kw: FloatArray, export_kw: FloatArray, report: AuditReport
) -> None:
    """Progressive blocks, demand charges, demand response, capacity limits, changed plans."""
    hours = problem.hours
    for tariff in problem.tariffs:
        used = tariff.used_kwh
        now = used + float(np.sum(hours * tariff.applies * import_kw))
        report.charge("blocks", tariff.name, _blocks_bill(tariff, now) - _blocks_bill(tariff, used))
    for charge in problem.demand_charges:
        above = max(0.0, _metered_peak_kw(problem, charge, import_kw) - charge.floor_kw)
        report.charge("demand", charge.name, charge.price_per_kw * above)
    for event in problem.demand_responses:
        during = hours * event.during
        reduction = float(np.sum(during * event.baseline_kw)) - float(
            np.sum(during * (import_kw - export_kw))
        )
        report.charge("dr", event.name, -event.reward_per_kwh * min(event.cap_kwh, max(0.0, reduction)))
        report.charge(
            "dr_penalty", event.name, event.penalty_per_kwh * max(0.0, event.committed_kwh - reduction)
        )
    for limit in problem.capacity_limits:
        price = limit.price_per_kwh
        price = LADDER.event_limit * problem.price_scale if price is None else price
        over = np.maximum(import_kw - limit.import_limit_kw, export_kw - limit.export_limit_kw)
        report.wish("event_limit", limit.name, over, hours, price)
    for change in problem.change_costs:
        schedule = report.schedule(change.asset)
        moved = np.abs(schedule.net_consumption_kw - change.net_consumption_kw)
        report.charge(
            "change", change.asset, float(np.sum(moved * hours * change.price_per_kwh)), is_money=False
        )


def _blocks_bill(tariff: ProgressiveTariff, energy_kwh: float) -> float:
    """What the first `energy_kwh` of a billing period cost."""
    total, start = 0.0, 0.0
    for block in tariff.blocks:
        total += block.price_per_kwh * max(0.0, min(energy_kwh, block.up_to_kwh) - start)
        start = block.up_to_kwh
    return total


def _metered_peak_kw(problem: DispatchProblem, charge: DemandCharge, import_kw: FloatArray) -> float:
    """Highest mean import of the meter's own intervals, walking through them one by one."""
    applies = np.broadcast_to(charge.applies, problem.intervals)
    energy, length, peak = charge.open_kwh, charge.open_h, 0.0
    count = min(charge.meter_intervals - 1, round(charge.open_h / float(problem.hours[0])))
    for t in range(problem.intervals):
        energy += float(applies[t] * problem.hours[t] * import_kw[t])
        length += float(problem.hours[t])
        count += 1
        if count == charge.meter_intervals or t == problem.intervals - 1:
            peak = max(peak, energy / length)
            energy, length, count = 0.0, 0.0, 0
    return peak


def _check_heat(schedules: Sequence[AssetSchedule], report: AuditReport) -> None:
    """Every heat node gives what it gets."""
    nodes: dict[str, FloatArray] = {}
    for schedule in schedules:
        if schedule.heat_node is not None:
            nodes[schedule.heat_node] = nodes.get(schedule.heat_node, 0.0) + np.asarray(schedule.net_heat_kw)
    for node, error in nodes.items():
        report.zero(node, "heat_balance", error)
