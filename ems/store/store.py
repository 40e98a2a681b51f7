"""The store's one door: what may be kept and asked, each as one call.

Synchronous and thread-safe; an asyncio caller uses `asyncio.to_thread`. Writes queue on one lock and are one transaction
each: when a call returns, its rows are on disk; when it raises `StoreError`, none of them is and it may be repeated.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self

from ems.access import ApiKey
from ems.cycle import CycleRecord
from ems.feedback import Edge, IntervalAccount
from ems.plan import Plan
from ems.publishing import Delivery
from ems.readings import Sample, SiteReading
from ems.setpoints import Setpoint
from ems.store.types import (
    CycleRow,
    DeliveredSetpoint,
    LoadPvHistory,
    Override,
    Pruned,
    Retention,
    SampleSeries,
    SiteSums,
    StoredForecast,
)


class Store:
    """Records and time series of one service."""

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a database, make or migrate its tables.

        Parameters
        ----------
        url
            `sqlite:///path/to/file.sqlite`, `sqlite://` (in memory, for tests) or
            `postgresql://user@host/database`.

        Raises
        ------
        StoreError
            When it cannot be opened, is corrupt, or was written by a newer version of this service.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection; nothing acknowledged waits for it."""
        raise NotImplementedError

    def save_cycle(self, record: CycleRecord) -> None:
        """Keep a cycle: its readings, forecasts, plans, setpoints, deliveries, accounts, edges and the record itself."""
        raise NotImplementedError

    def save_readings(self, readings: Sequence[SiteReading], at: datetime) -> None:
        """Keep one pass over the devices of many sites."""
        raise NotImplementedError

    def save_setpoints(self, setpoints: Sequence[Setpoint], deliveries: Sequence[Delivery]) -> None:
        """Keep what was asked of devices and what came of it; either may be empty."""
        raise NotImplementedError

    def save_edges(self, edges: Sequence[Edge]) -> None:
        """Keep changes noticed between two cycles."""
        raise NotImplementedError

    def latest_record(self) -> CycleRecord | None:
        """Return the newest cycle record that this version can read."""
        raise NotImplementedError

    def record(self, at: datetime) -> CycleRecord | None:
        """Return the record of the cycle that began at `at`; None when there is none (any more)."""
        raise NotImplementedError

    def cycles(self, since: datetime, until: datetime, limit: int = 1000) -> tuple[CycleRow, ...]:
        """Return the newest `limit` cycles of [since, until) in figures, oldest first."""
        raise NotImplementedError

    def accounts(self, site_id: str, start: datetime, end: datetime) -> tuple[IntervalAccount, ...]:
        """Return the interval accounts of one site that start in [start, end), oldest first."""
        raise NotImplementedError

    def sums(self, site_ids: Sequence[str], edges: Sequence[datetime]) -> tuple[SiteSums, ...]:
        """Return energy and money of each site between each two neighbouring `edges`.

        Ordered by site as asked, then by time; spans without an interval on record are left out. Edges are the
        caller's local-day edges, so days of 23 and 25 hours are right.
        """
        raise NotImplementedError

    def load_pv_history(
        self, site_ids: Sequence[str], start: datetime, end: datetime, step_s: int
    ) -> LoadPvHistory:
        """Return measured load and solar of many sites on one grid over [start, end); one query."""
        raise NotImplementedError

    def latest_samples(self, site_ids: Sequence[str]) -> Mapping[str, Mapping[str, Sample]]:
        """Return the newest sample of each quantity per site; sites never read are left out."""
        raise NotImplementedError

    def samples(
        self, site_id: str, key: str, start: datetime, end: datetime, limit: int = 10_000
    ) -> SampleSeries:
        """Return the values of one quantity in [start, end): as read while they are kept, interval means before."""
        raise NotImplementedError

    def forecast(self, site_id: str, series: str, issued_at: datetime | None = None) -> StoredForecast | None:
        """Return the forecast of a series issued at an instant, or the latest."""
        raise NotImplementedError

    def latest_plan(self, site_id: str) -> Plan | None:
        """Return the plan decided last, whether or not it may still be acted on."""
        raise NotImplementedError

    def plan_in_force(self, site_id: str, at: datetime) -> Plan | None:
        """Return the plan decided last before or at `at` that may be acted on at `at`."""
        raise NotImplementedError

    def setpoints(
        self, site_id: str, start: datetime, end: datetime, limit: int = 1000
    ) -> tuple[DeliveredSetpoint, ...]:
        """Return the newest `limit` setpoints that begin in [start, end) with their deliveries, oldest first."""
        raise NotImplementedError

    def edges(self, site_id: str | None, since: datetime, limit: int = 200) -> tuple[Edge, ...]:
        """Return the newest `limit` edges from `since` on, of one site or of all (None), newest first."""
        raise NotImplementedError

    def save_override(self, override: Override) -> None:
        """Keep a request to leave a site alone."""
        raise NotImplementedError

    def overrides_active(self, at: datetime) -> tuple[Override, ...]:
        """Return the overrides in force at `at`, of all sites."""
        raise NotImplementedError

    def end_override(self, override_id: str, at: datetime, by: str) -> Override | None:
        """End an override early and return it; None when it is unknown. An ended one stays as it ended."""
        raise NotImplementedError

    def add_key(self, key: ApiKey) -> None:
        """Keep an API key; StoreError when its id is taken by another key."""
        raise NotImplementedError

    def find_key(self, key_id: str) -> ApiKey | None:
        """Return a key by its public part, revoked or not."""
        raise NotImplementedError

    def revoke_key(self, key_id: str, at: datetime) -> bool:
        """Withdraw a key; False when there is none of that id. The first instant stays."""
        raise NotImplementedError

    def list_keys(self) -> tuple[ApiKey, ...]:
        """Return every key, oldest first; hashes only."""
        raise NotImplementedError

    def prune(self, now: datetime, retention: Retention) -> Pruned:
        """Average old readings and remove what is past its time, in short transactions."""
        raise NotImplementedError

    def size_bytes(self) -> int:
        """Return what the database takes on disk [byte]."""
        raise NotImplementedError
