"""What a demo came to: the living summary and the key figures, from the service's store and the field's truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ems.clock import interval_start
from ems.demo.street import CAPACITY_KWH, CURRENCY, START_AT, START_FRAC, Home
from ems.store import Store

INTERVAL = timedelta(minutes=15)
METER_TOLERANCE_FRAC = 0.005
"""Meter totals and truth may differ by this much: counters have steps, the last interval is still open."""

OPEN_INTERVAL_KWH = 1.0
"""What a home may draw after the last whole interval, while everything is stopped [kWh]."""
MANY = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What the summary shows."""

    at: datetime
    """Site time."""
    import_kwh: float
    """Drawn from the grid by all homes since the start."""
    export_kwh: float
    """Fed into it."""
    pv_kwh: float
    """Solar energy."""
    stored_frac: float
    """Mean filling of the batteries, as the field truly has it."""
    saving: float
    """Saved against idle storage so far."""
    currency: str
    """Of the saving."""
    cycles: int
    """Cycles on record."""
    plan: str
    """How the latest plans came about."""
    troubles: int
    """Devices that did not answer in the latest cycle."""
    restarts: int
    """Times the service was started again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyFigures:
    """What a demo of limited span came to."""

    homes: int
    """Homes."""
    span_h: float
    """Simulated span [h]."""
    import_kwh: float
    """Drawn from the grid, by the meters."""
    import_truth_kwh: float
    """The same as it truly flowed."""
    export_kwh: float
    """Fed in, by the meters."""
    cost: float
    """Paid."""
    cost_idle: float
    """Had been paid with storage idle."""
    stored_kwh: float
    """Energy in all batteries now, less what was there at the start, as it truly is."""
    currency: str
    """Of the costs."""
    cycles: int
    """Cycles on record."""
    missed: int
    """Planning instants without a cycle."""
    fallbacks: int
    """Plans that were not optimal."""
    setpoints: int
    """Setpoints written."""
    undelivered: int
    """Setpoints whose outcome is not known."""
    lost_intervals: int
    """Intervals of a home without a measured account."""
    violation_s: float
    """Time above a connection limit, all homes, as it truly was [s]."""
    restarts: int
    """Times the service was started again."""

    @property
    def saving(self) -> float:
        """Saved against idle storage."""
        return self.cost_idle - self.cost

    @property
    def sound(self) -> bool:
        """Whether no limit was broken and nothing was lost."""
        return not (self.violation_s or self.undelivered or self.lost_intervals or self.lost_kwh)

    @property
    def lost_kwh(self) -> float:
        """Imported energy the meters' readings do not account for, beyond their steps [kWh]."""
        gap = abs(self.import_truth_kwh - self.import_kwh)
        allowed = METER_TOLERANCE_FRAC * self.import_truth_kwh + OPEN_INTERVAL_KWH * self.homes
        return gap if gap > allowed else 0.0


def progress(
    store: Store,
    homes: Sequence[Home],
    truth: Mapping[str, Mapping[str, Any]],
    *,
    at: datetime,
    restarts: int,
) -> Progress:
    """Return what happened up to `at`."""
    sums = store.sums([home.id for home in homes], [START_AT, max(at, START_AT + INTERVAL)])
    cycles = store.cycles(START_AT, at + INTERVAL, limit=MANY)
    plan = store.latest_plan(homes[0].id)
    return Progress(
        at=at,
        import_kwh=sum(one.import_kwh or 0.0 for one in sums),
        export_kwh=sum(one.export_kwh or 0.0 for one in sums),
        pv_kwh=sum(one.pv_kwh or 0.0 for one in sums),
        stored_frac=sum(float(told["stored_frac"]) for told in truth.values()) / max(1, len(truth)),
        saving=sum(one.saving or 0.0 for one in sums),
        currency=CURRENCY,
        cycles=len(cycles),
        plan="none yet" if plan is None else str(plan.source),
        troubles=cycles[-1].n_troubles if cycles else 0,
        restarts=restarts,
    )


def key_figures(
    store: Store,
    homes: Sequence[Home],
    truth: Mapping[str, Mapping[str, Any]],
    *,
    end_at: datetime,
    restarts: int,
) -> KeyFigures:
    """Return what the span to `end_at` came to: whole intervals from the first cycle on."""
    end_at = interval_start(end_at, int(INTERVAL.total_seconds()))
    ids = [home.id for home in homes]
    cycles = store.cycles(START_AT, end_at + INTERVAL, limit=MANY)
    begin_at = cycles[0].at if cycles else START_AT
    sums = store.sums(ids, [begin_at, end_at])
    expected = round((end_at - begin_at) / INTERVAL)
    setpoints = [
        one for site_id in ids for one in store.setpoints(site_id, START_AT, end_at + INTERVAL, limit=MANY)
    ]
    stored_kwh = sum(CAPACITY_KWH * (float(told["stored_frac"]) - START_FRAC) for told in truth.values())
    return KeyFigures(
        homes=len(ids),
        span_h=(end_at - begin_at) / timedelta(hours=1),
        import_kwh=sum(one.import_kwh or 0.0 for one in sums),
        import_truth_kwh=sum(float(told["import_kwh"]) for told in truth.values()),
        export_kwh=sum(one.export_kwh or 0.0 for one in sums),
        cost=sum(one.cost or 0.0 for one in sums),
        cost_idle=sum(one.cost_idle or 0.0 for one in sums),
        stored_kwh=stored_kwh,
        currency=CURRENCY,
        cycles=len(cycles),
        missed=sum(cycle.missed for cycle in cycles),
        fallbacks=sum(cycle.n_fallback for cycle in cycles),
        setpoints=len(setpoints),
        undelivered=sum(one.delivery is None for one in setpoints),
        lost_intervals=expected * len(ids) - sum(one.intervals_priced for one in sums),
        violation_s=sum(
            float(told["import_violation_s"]) + float(told["export_violation_s"]) for told in truth.values()
        ),
        restarts=restarts,
    )
