"""The store's one door: what may be kept and asked, each as one call.

Synchronous and thread-safe; an asyncio caller uses `asyncio.to_thread`. Writes queue on one lock and are one transaction
each: when a call returns, its rows are on disk; when it raises `StoreError`, none of them is and it may be repeated.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self

from ems.access import ApiKey
from ems.conduct import DeliveryScore
from ems.cycle import CycleRecord
from ems.feedback import Edge, IntervalAccount
from ems.messages import Acknowledgement
from ems.orders import Order
from ems.plan import Plan
from ems.publishing import Delivery
from ems.readings import DeviceMemory, Sample, SiteReading
from ems.setpoints import Setpoint
from ems.store import accounts as account_rows
from ems.store import acknowledgements as acknowledgement_rows
from ems.store import forecasts as forecast_rows
from ems.store import history, memories, people
from ems.store import plans as plan_rows
from ems.store import readings as reading_rows
from ems.store import records as record_rows
from ems.store import retention as retention_pass
from ems.store import scores as score_rows
from ems.store import setpoints as setpoint_rows
from ems.store.database import Database, connect
from ems.store.lease import Lease, lease_of
from ems.store.schema import migrate
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
)


class Store:
    """Records and time series of one service."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        database = connect(url)
        try:
            migrate(database)
        except BaseException:
            database.engine.dispose()
            raise
        return cls(database)

    def close(self) -> None:
        """Close every connection; nothing acknowledged waits for it."""
        self._database.engine.dispose()

    def lease(self) -> Lease:
        """Return the lead over all instances on this database; not yet taken."""
        return lease_of(self._database)

    def save_cycle(self, record: CycleRecord) -> None:
        """Keep a cycle: its readings, forecasts, plans, setpoints, deliveries, accounts, edges and the record itself."""
        with self._database.writing() as conn:
            record_rows.insert(conn, self._database, record)
            reading_rows.insert(conn, self._database, record.snapshot.sites, record.snapshot.at)
            forecast_rows.insert(conn, self._database, record.outlook)
            plan_rows.insert(conn, self._database, record.plans, record.at)
            setpoint_rows.insert(conn, self._database, record.setpoints, record.deliveries)
            account_rows.insert(conn, self._database, record.accounts)
            setpoint_rows.insert_edges(conn, self._database, record.edges)

    def save_readings(self, readings: Sequence[SiteReading], at: datetime) -> None:
        """Keep one pass over the devices of many sites."""
        with self._database.writing() as conn:
            reading_rows.insert(conn, self._database, readings, at)

    def save_setpoints(self, setpoints: Sequence[Setpoint], deliveries: Sequence[Delivery]) -> None:
        """Keep what was asked of devices and what came of it; either may be empty."""
        with self._database.writing() as conn:
            setpoint_rows.insert(conn, self._database, setpoints, deliveries)

    def save_delivery_scores(self, scores: Sequence[DeliveryScore]) -> None:
        """Keep how setpoints were followed; of one that is not on record (any more) nothing is kept."""
        with self._database.writing() as conn:
            setpoint_rows.score(conn, scores)

    def save_acknowledgement(self, said: Acknowledgement, delivery: Delivery | None) -> bool:
        """Keep what a controller said, and the delivery it decides; False when it was on record before."""
        with self._database.writing() as conn:
            new = acknowledgement_rows.insert(conn, self._database, said)
            if new and delivery is not None:
                setpoint_rows.insert(conn, self._database, (), (delivery,))
            return new

    def save_edges(self, edges: Sequence[Edge]) -> None:
        """Keep changes noticed between two cycles."""
        with self._database.writing() as conn:
            setpoint_rows.insert_edges(conn, self._database, edges)

    def latest_record(self) -> CycleRecord | None:
        """Return the newest cycle record that this version can read."""
        with self._database.reading() as conn:
            return record_rows.latest(conn, self._database)

    def record(self, at: datetime) -> CycleRecord | None:
        """Return the record of the cycle that began at `at`; None when there is none (any more)."""
        with self._database.reading() as conn:
            return record_rows.one(conn, at)

    def cycles(self, since: datetime, until: datetime, limit: int = 1000) -> tuple[CycleRow, ...]:
        """Return the newest `limit` cycles of [since, until) in figures, oldest first."""
        with self._database.reading() as conn:
            return record_rows.rows(conn, since, until, limit)

    def accounts(self, site_id: str, start: datetime, end: datetime) -> tuple[IntervalAccount, ...]:
        """Return the interval accounts of one site that start in [start, end), oldest first."""
        with self._database.reading() as conn:
            return account_rows.between(conn, site_id, start, end)

    def sums(self, site_ids: Sequence[str], edges: Sequence[datetime]) -> tuple[SiteSums, ...]:
        """Return energy and money of each site between each two neighbouring `edges`.

        Ordered by site as asked, then by time; spans without an interval on record are left out. Edges are the
        caller's local-day edges, so days of 23 and 25 hours are right.
        """
        with self._database.reading() as conn:
            return account_rows.sums(conn, site_ids, edges)

    def load_pv_history(
        self, site_ids: Sequence[str], start: datetime, end: datetime, step_s: int
    ) -> LoadPvHistory:
        """Return measured load and solar of many sites on one grid over [start, end); one query."""
        with self._database.reading() as conn:
            return history.load_pv(conn, site_ids, start, end, step_s)

    def latest_samples(self, site_ids: Sequence[str]) -> Mapping[str, Mapping[str, Sample]]:
        """Return the newest sample of each quantity per site; sites never read are left out."""
        with self._database.reading() as conn:
            return reading_rows.latest(conn, site_ids)

    def samples(
        self, site_id: str, key: str, start: datetime, end: datetime, limit: int = 10_000
    ) -> SampleSeries:
        """Return the values of one quantity in [start, end): as read while they are kept, interval means before."""
        with self._database.reading() as conn:
            return reading_rows.series(conn, site_id, key, start, end, limit)

    def forecast(self, site_id: str, series: str, issued_at: datetime | None = None) -> StoredForecast | None:
        """Return the forecast of a series issued at an instant, or the latest."""
        with self._database.reading() as conn:
            return forecast_rows.one(conn, site_id, series, issued_at)

    def forecasts_issued(
        self, site_id: str, series: Sequence[str], since: datetime, until: datetime
    ) -> tuple[StoredForecast, ...]:
        """Return every forecast of some series issued in [since, until)."""
        with self._database.reading() as conn:
            return forecast_rows.issued(conn, site_id, series, since, until)

    def save_scores(self, scored: Sequence[ScoredDay]) -> None:
        """Keep how forecasts came out; a day scored again replaces what was there."""
        with self._database.writing() as conn:
            score_rows.insert(conn, self._database, scored)

    def last_scored(self, site_ids: Sequence[str]) -> Mapping[str, datetime]:
        """Return the first instant of the latest scored day by site; sites never scored are left out."""
        with self._database.reading() as conn:
            return score_rows.last_days(conn, site_ids)

    def forecast_scores(
        self, site_ids: Sequence[str] | None, since: datetime
    ) -> Mapping[str, tuple[ForecastScore, ...]]:
        """Return how the forecasts of the days from `since` came out, by site; None asks for every site."""
        with self._database.reading() as conn:
            return score_rows.total(conn, site_ids, since)

    def forecast_scores_of_all(self, since: datetime) -> tuple[ForecastScore, ...]:
        """Return the same over all sites together."""
        with self._database.reading() as conn:
            return score_rows.total_of_all(conn, since)

    def scored_days(self, site_id: str, since: datetime) -> tuple[ScoredDay, ...]:
        """Return how the forecasts of one site came out day by day, oldest first."""
        with self._database.reading() as conn:
            return score_rows.by_day(conn, site_id, since)

    def forecast_losses(self, since: datetime, lead_h: int) -> tuple[DayLoss, ...]:
        """Return the loss of every site and series day by day at one lead, oldest first."""
        with self._database.reading() as conn:
            return score_rows.losses(conn, since, lead_h)

    def save_model(self, fleet: str, model: StoredModel, keep: int = 3) -> None:
        """Keep a version of a fitted model for a fleet of sites, and of these versions only the newest."""
        with self._database.writing() as conn:
            score_rows.insert_model(conn, self._database, fleet, model, keep)

    def models(self, fleet: str, until: datetime) -> tuple[StoredModel, ...]:
        """Return the kept versions of a fleet's models that were fitted up to `until`, newest first."""
        with self._database.reading() as conn:
            return score_rows.newest_models(conn, fleet, until)

    def latest_plan(self, site_id: str) -> Plan | None:
        """Return the plan decided last, whether or not it may still be acted on."""
        with self._database.reading() as conn:
            return plan_rows.latest(conn, site_id)

    def plan_in_force(self, site_id: str, at: datetime) -> Plan | None:
        """Return the plan decided last before or at `at` that may be acted on at `at`."""
        with self._database.reading() as conn:
            return plan_rows.in_force(conn, site_id, at)

    def setpoints(
        self, site_id: str, start: datetime, end: datetime, limit: int = 1000
    ) -> tuple[DeliveredSetpoint, ...]:
        """Return the newest `limit` setpoints that begin in [start, end) with their deliveries, oldest first."""
        with self._database.reading() as conn:
            return setpoint_rows.between(conn, site_id, start, end, limit)

    def setpoint(self, setpoint_id: str) -> DeliveredSetpoint | None:
        """Return one setpoint with its delivery; None when there is none of that id (any more)."""
        with self._database.reading() as conn:
            return setpoint_rows.one(conn, setpoint_id)

    def acknowledgements(
        self, site_id: str, start: datetime, end: datetime, limit: int = 1000
    ) -> tuple[Acknowledgement, ...]:
        """Return the newest `limit` acknowledgements that arrived in [start, end), oldest first."""
        with self._database.reading() as conn:
            return acknowledgement_rows.between(conn, site_id, start, end, limit)

    def edges(self, site_id: str | None, since: datetime, limit: int = 200) -> tuple[Edge, ...]:
        """Return the newest `limit` edges from `since` on, of one site or of all (None), newest first."""
        with self._database.reading() as conn:
            return setpoint_rows.edges_since(conn, site_id, since, limit)

    def save_device_memories(self, kept: Mapping[tuple[str, str], DeviceMemory], at: datetime) -> None:
        """Keep what devices must not forget, by (site id, device name)."""
        with self._database.writing() as conn:
            memories.insert(conn, self._database, kept, at)

    def device_memories(self) -> Mapping[tuple[str, str], DeviceMemory]:
        """Return what devices must not forget, by (site id, device name)."""
        with self._database.reading() as conn:
            return memories.every(conn)

    def save_order(self, order: Order) -> None:
        """Keep somebody's word to a site."""
        with self._database.writing() as conn:
            people.insert_order(conn, self._database, order)

    def replace_orders(self, ended: Sequence[str], by: Order, at: datetime) -> None:
        """End orders and keep the one that takes their place, in one transaction."""
        with self._database.writing() as conn:
            for order_id in ended:
                people.end_order(conn, order_id, at, by.by)
            people.insert_order(conn, self._database, by)

    def orders_from(self, at: datetime) -> tuple[Order, ...]:
        """Return the orders of all sites that hold at `at` or will hold later."""
        with self._database.reading() as conn:
            return people.orders_from(conn, at)

    def find_order(self, order_id: str) -> Order | None:
        """Return an order by its id."""
        with self._database.reading() as conn:
            return people.find_order(conn, order_id)

    def renew_order(self, order_id: str, until: datetime) -> None:
        """Let an order hold longer than it said."""
        with self._database.writing() as conn:
            people.renew_order(conn, order_id, until)

    def end_order(self, order_id: str, at: datetime, by: str) -> Order | None:
        """End an order early and return it; None when it is unknown. An ended one stays as it ended."""
        with self._database.writing() as conn:
            return people.end_order(conn, order_id, at, by)

    def add_key(self, key: ApiKey) -> None:
        """Keep an API key; StoreError when its id is taken by another key."""
        with self._database.writing() as conn:
            people.insert_key(conn, self._database, key)

    def find_key(self, key_id: str) -> ApiKey | None:
        """Return a key by its public part, revoked or not."""
        with self._database.reading() as conn:
            return people.find_key(conn, key_id)

    def revoke_key(self, key_id: str, at: datetime) -> bool:
        """Withdraw a key; False when there is none of that id. The first instant stays."""
        with self._database.writing() as conn:
            return people.revoke_key(conn, key_id, at)

    def list_keys(self) -> tuple[ApiKey, ...]:
        """Return every key, oldest first; hashes only."""
        with self._database.reading() as conn:
            return people.list_keys(conn)

    def prune(self, now: datetime, retention: Retention) -> Pruned:
        """Average old readings and remove what is past its time, in short transactions."""
        return retention_pass.prune(self._database, now, retention)

    def size_bytes(self) -> int:
        """Return what the database takes on disk [byte]."""
        return self._database.size_bytes()
