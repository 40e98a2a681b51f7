"""Persistence: cycle records, time series, what people asked for. `Store` is the whole face."""

from ems.store.lease import Lease
from ems.store.store import Store
from ems.store.types import (
    CycleRow,
    DeliveredSetpoint,
    LoadPvHistory,
    Pruned,
    Retention,
    SampleSeries,
    SiteSums,
    StoredForecast,
    StoredSample,
)

__all__ = [
    "CycleRow",
    "DeliveredSetpoint",
    "Lease",
    "LoadPvHistory",
    "Pruned",
    "Retention",
    "SampleSeries",
    "SiteSums",
    "Store",
    "StoredForecast",
    "StoredSample",
]
