"""What the store costs, measured on the machine at hand: `ems bench store`."""

import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from ems.clock import StageWatch
from ems.readings import SiteReading
from ems.setpoints import SetpointSource
from ems.store import accounts as account_rows
from ems.store.store import Store
from ems.store.synthetic import QUANTITIES, STEP_S, Street
from ems.store.tables import metadata
from ems.store.types import Retention

AT = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STEP = timedelta(seconds=STEP_S)
DAY = timedelta(days=1)
CYCLES_A_DAY = 86_400 // STEP_S
PASSES_A_DAY = 1440


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreFigure:
    """One published figure."""

    figure: str
    """What was measured."""
    value: float
    """How much."""
    unit: str
    """Of the value."""
    target: str
    """What it should be."""
    holds: bool
    """Whether it is."""
    how: str
    """How it was measured."""


def store_figures() -> list[StoreFigure]:
    """Measure a new SQLite store in the folder for temporary files; takes about half a minute."""
    with tempfile.TemporaryDirectory(prefix="ems-bench-") as folder:
        return [
            *_fleet_figures(Path(folder) / "fleet.sqlite"),
            *_narrow_figures(Path(folder)),
            *_home_figures(Path(folder) / "homes.sqlite"),
            _history_figure(Path(folder) / "history.sqlite"),
        ]


def _at_most(figure: str, value: float, unit: str, limit: float, how: str) -> StoreFigure:
    return StoreFigure(
        figure=figure, value=value, unit=unit, target=f"<= {limit:g}", holds=value <= limit, how=how
    )


def _at_least(figure: str, value: float, unit: str, limit: float, how: str) -> StoreFigure:
    return StoreFigure(
        figure=figure, value=value, unit=unit, target=f">= {limit:g}", holds=value >= limit, how=how
    )


def _median_ms(calls: Sequence[Callable[[], object]]) -> float:
    taken = []
    for call in calls:
        watch = StageWatch()
        call()
        taken.append(watch.total_ms)
    return statistics.median(taken)


def _fleet_figures(path: Path) -> Iterator[StoreFigure]:
    """1,000 homes once a minute."""
    store, street = Store.open(f"sqlite:///{path}"), Street(n_sites=1000)
    passes = [(street.readings(AT + i * MINUTE), AT + i * MINUTE) for i in range(7)]
    asked = [street.setpoints(at, SetpointSource.FAST_LOOP) for _, at in passes]
    # the first pass keeps sites and layouts, which happens once
    store.save_readings(*passes[0])
    store.save_setpoints(*asked[0])
    one = [partial(store.save_readings, *p) for p in passes[1:]]
    pass_ms = _median_ms(one)
    setpoints_ms = _median_ms([partial(store.save_setpoints, *a) for a in asked[1:]])
    site_ids = [site.id for site in street.sites]
    latest_ms = _median_ms([lambda: store.latest_samples(site_ids)] * 3)
    samples_per_s = len(site_ids) * len(QUANTITIES) / pass_ms * 1e3
    how = (
        f"{len(site_ids)} homes, {len(QUANTITIES)} samples each, one synced transaction; median of {len(one)}"
    )
    yield _at_least("readings kept", samples_per_s, "samples/s", 100_000, how)
    yield _at_most("one pass over 1,000 homes kept", pass_ms, "ms", 1000, how)
    yield _at_most(
        "setpoints and deliveries of 1,000 homes kept", setpoints_ms, "ms", 1000,
        f"one each per home, one synced transaction; median of {len(one)}",
    )  # fmt: skip
    yield _at_most(
        "latest values of 1,000 homes", latest_ms, "ms", 1000, "every sample of every home; median of 3"
    )
    store.close()


def _narrow_figures(folder: Path) -> Iterator[StoreFigure]:
    """The same passes as one packed row per home, and as one row per sample ordered by series and instant.

    Both tables hold four hours already: an empty B-tree keeps many series on one page and shows nothing.
    """
    street = Street(n_sites=200)
    passes = [(street.readings(AT + i * MINUTE), AT + i * MINUTE) for i in range(250)]
    held, new = passes[:240], passes[240:]
    packed_path, narrow_path = folder / "packed.sqlite", folder / "narrow.sqlite"
    store = Store.open(f"sqlite:///{packed_path}")
    for one_pass in held:
        store.save_readings(*one_pass)
    narrow = sqlite3.connect(narrow_path, isolation_level=None)
    narrow.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000;"
        "CREATE TABLE samples (series INTEGER, at_ms INTEGER, value REAL, quality INTEGER,"
        " PRIMARY KEY (series, at_ms)) WITHOUT ROWID"
    )
    _save_narrow(narrow, held)
    packed_ms = _median_ms([partial(store.save_readings, *p) for p in new])
    narrow_ms = _median_ms([partial(_save_narrow, narrow, [p]) for p in new])
    store.close()
    narrow.close()
    how = (
        f"{len(street.sites)} homes x {len(QUANTITIES)} samples, four hours held; median of {len(new)} synced passes; "
        "the narrow rows by plain sqlite3, without source and age"
    )
    yield _at_least("packed against one row per sample: faster", narrow_ms / packed_ms, "x", 1, how)
    ratio = narrow_path.stat().st_size / packed_path.stat().st_size
    yield _at_least("packed against one row per sample: smaller", ratio, "x", 1, how)


def _save_narrow(file: sqlite3.Connection, passes: Sequence[tuple[Sequence[SiteReading], datetime]]) -> None:
    rows = sorted(
        (1000 * i + j, int(at.timestamp() * 1000), sample.value, 3)
        for readings, at in passes
        for i, reading in enumerate(readings)
        for j, sample in enumerate(reading.samples.values())
    )
    file.execute("BEGIN IMMEDIATE")
    file.executemany(
        "INSERT INTO samples VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", rows
    )
    file.execute("COMMIT")


def _home_figures(path: Path) -> Iterator[StoreFigure]:
    """Ten homes: a day of passes and setpoints each minute, cycles, and what each row takes on disk."""
    store, street = Store.open(f"sqlite:///{path}"), Street(n_sites=10)
    homes = len(street.sites)
    records = [street.cycle(AT + i * STEP) for i in range(40)]
    cycle_ms = _median_ms([partial(store.save_cycle, r) for r in records])
    yield _at_most(
        "a cycle of 10 homes kept", cycle_ms, "ms", 200, f"one synced transaction; median of {len(records)}"
    )
    for i in range(PASSES_A_DAY):
        at = AT + i * MINUTE
        store.save_readings(street.readings(at), at)
        if i % 4 == 0:
            store.save_setpoints(*street.setpoints(at, SetpointSource.FAST_LOOP))
    home = street.sites[4].id
    day_ms = _median_ms([lambda: store.samples(home, "meter.net_import_kw", AT, AT + DAY)] * 5)
    yield _at_most(
        "one quantity of a home over a day", day_ms, "ms", 100, f"{PASSES_A_DAY} passes; median of 5"
    )
    load_ms = _median_ms([store.latest_record] * 3)
    yield _at_most(
        "latest record of 10 homes", load_ms, "ms", 1000, "read, unpacked and put together; median of 3"
    )
    # half of the readings become means, so that both have rows to weigh
    watch = StageWatch()
    pruned = store.prune(AT + 0.5 * DAY, replace(Retention(), readings_days=0))
    averaged_per_s = pruned.readings / watch.total_ms * 1e3
    yield _at_least(
        "passes averaged by retention", averaged_per_s, "passes/s", 5000,
        f"{pruned.readings} passes of {len(QUANTITIES)} samples; 1,000 homes have 1,440,000 a day",
    )  # fmt: skip
    bytes_per_row = _bytes_per_row(store)
    store.close()
    a_day = _bytes_per_home_day(bytes_per_row, homes)
    yield _at_most(
        "readings of a home and day",
        a_day["readings"] / 1e3,
        "kB",
        1000,
        "a pass a minute; used pages per row",
    )
    yield _at_most("all of a home and day, before retention", sum(a_day.values()) / 1e6, "MB", 10,
                   "a pass and a setpoint a minute, a cycle each 15 minutes; used pages per row")  # fmt: skip
    bound = homes * _steady_bytes(a_day, Retention())
    yield _at_most(
        "file of 10 homes in the steady state", bound / 1e6, "MB", 1500,
        "default retention; days kept x bytes of a home and day, per table, measured rows",
    )  # fmt: skip


def _bytes_per_row(store: Store) -> dict[str, float]:
    """Empty one table after the other and see how many pages that frees."""

    def used_bytes(conn: sa.Connection) -> int:
        pages, free, size = (
            int(conn.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    weights = {}
    for table in metadata.tables.values():
        with store._database.writing() as conn:
            rows = conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            before = used_bytes(conn)
            conn.execute(sa.delete(table))
            weights[table.name] = (before - used_bytes(conn)) / max(1, rows)
    return weights


def _bytes_per_home_day(bytes_per_row: dict[str, float], homes: int) -> dict[str, float]:
    """Weigh a home and day: a pass and a setpoint a minute, a cycle each quarter of an hour."""
    rows = {
        "readings": PASSES_A_DAY,
        "reading_means": CYCLES_A_DAY,
        "accounts": CYCLES_A_DAY,
        "forecasts": 4 * CYCLES_A_DAY,
        "plans": CYCLES_A_DAY,
        "records": CYCLES_A_DAY * (homes + 1) / homes,
        "setpoints": PASSES_A_DAY,
        "deliveries": PASSES_A_DAY,
        "cycles": CYCLES_A_DAY / homes,
        "edges": 10,
    }
    return {name: count * bytes_per_row[name] for name, count in rows.items()}


def _steady_bytes(a_day: dict[str, float], retention: Retention) -> float:
    """Return what one home takes once every retention has run its length [byte]."""
    days = {
        "readings": retention.readings_days,
        "reading_means": retention.means_days,
        "accounts": retention.accounts_days,
        "forecasts": retention.forecasts_days,
        "plans": retention.plans_days,
        "records": retention.records_days,
        "setpoints": retention.setpoints_days,
        "deliveries": retention.setpoints_days,
        "cycles": retention.cycles_days,
        "edges": retention.edges_days,
    }
    return sum(a_day[name] * kept for name, kept in days.items())


def _history_figure(path: Path) -> StoreFigure:
    """What a forecaster asks for each night."""
    store, street = Store.open(f"sqlite:///{path}"), Street(n_sites=70)
    for day in range(35):
        found = [
            account for i in range(CYCLES_A_DAY) for account in street.accounts(AT + day * DAY + i * STEP)
        ]
        with store._database.writing() as conn:
            account_rows.insert(conn, store._database, found)
    site_ids = [site.id for site in street.sites]
    taken_ms = _median_ms([lambda: store.load_pv_history(site_ids, AT, AT + 35 * DAY, STEP_S)] * 3)
    store.close()
    return _at_most(
        "load and solar of 70 homes x 35 days",
        taken_ms,
        "ms",
        1000,
        "235,200 intervals, one query; median of 3",
    )
