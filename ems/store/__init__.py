"""Persistence: cycle records, time series, what people asked for. `Store` is the whole face."""

from ems.store.lease import Lease
from ems.store.store import Store
from ems.store.types import (
    CycleRow,
    DayLoss,
    DeliveredSetpoint,
    ForecastScore,
    LoadPvHistory,
    Pruned,
    Retention,
    SampleSeries,
    ScoredDay,
    SiteSums,
    StoredForecast,
    StoredModel,
    StoredSample,
)

__all__ = [
    "CycleRow",
    "DayLoss",
    "DeliveredSetpoint",
    "ForecastScore",
    "Lease",
    "LoadPvHistory",
    "Pruned",
    "Retention",
    "SampleSeries",
    "ScoredDay",
    "SiteSums",
    "Store",
    "StoredForecast",
    "StoredModel",
    "StoredSample",
]
