"""Retention: old readings become interval means, and everything ends some day.

Each site and table is a transaction of its own, so that a long pass never keeps a cycle from writing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa

from ems.readings import Quality, Sample, Unit
from ems.store import tables
from ems.store.database import Database
from ems.store.packing import (
    QUALITIES,
    QUALITY_CODES,
    Layout,
    from_ms,
    layout_of,
    pack_samples,
    to_ms,
    unpack_columns,
)
from ems.store.readings import layouts_of, note_layout
from ems.store.types import Pruned, Retention

PASSES_AT_ONCE = 2000
"""Readings averaged in one transaction: about a day of one site."""
PLANS_OUTLIVE_DAYS = 2
"""Plans stay this much longer than the records that name them [days]."""
SLACK_FRAC = 0.25
"""Share of unused pages above which the file is shrunk: below, they will be written again soon."""
PAGES_AT_ONCE = 2000
"""Pages given back in one transaction: 8 MB."""


def prune(database: Database, now: datetime, retention: Retention) -> Pruned:
    """Average and remove what is past its time."""
    with database.reading() as conn:
        site_ids = conn.execute(sa.select(tables.sites.c.site_id)).scalars().all()

    def before(days: float) -> int:
        return to_ms(now - timedelta(days=days))

    step_ms = 1000 * retention.mean_step_s
    readings_ms = before(retention.readings_days) // step_ms * step_ms
    readings = means_made = 0
    for site_id in site_ids:
        while True:
            averaged, made = _average(database, site_id, readings_ms, retention.mean_step_s)
            readings += averaged
            means_made += made
            if not averaged:
                break
    by_site = {
        "means": (tables.reading_means, "start_ms", before(retention.means_days)),
        "accounts": (tables.accounts, "start_ms", before(retention.accounts_days)),
        "plans": (
            tables.plans,
            "decided_at_ms",
            before(max(retention.plans_days, retention.records_days + PLANS_OUTLIVE_DAYS)),
        ),
        "setpoints": (tables.setpoints, "valid_from_ms", before(retention.setpoints_days)),
        "deliveries": (tables.deliveries, "at_ms", before(retention.setpoints_days)),
        "acknowledgements": (tables.acknowledgements, "arrived_ms", before(retention.setpoints_days)),
    }
    at_once = {
        "records": (tables.records, "at_ms", before(retention.records_days)),
        "cycles": (tables.cycles, "at_ms", before(retention.cycles_days)),
        "edges": (tables.edges, "at_ms", before(retention.edges_days)),
        "orders": (tables.orders, "until_ms", before(retention.orders_days)),
        "scores": (tables.forecast_scores, "day_ms", before(retention.scores_days)),
    }
    counts = {
        name: _delete(database, table, column, mark, None) for name, (table, column, mark) in at_once.items()
    }
    for name, (table, column, mark) in by_site.items():
        counts[name] = sum(_delete(database, table, column, mark, site_id) for site_id in site_ids)
    counts["forecasts"] = sum(
        _delete_forecasts(database, site_id, before(retention.forecasts_days)) for site_id in site_ids
    )
    return Pruned(
        readings=readings,
        means_made=means_made,
        means=counts["means"],
        accounts=counts["accounts"],
        forecasts=counts["forecasts"],
        scores=counts["scores"],
        plans=counts["plans"],
        records=counts["records"],
        setpoints=counts["setpoints"] + counts["deliveries"] + counts["acknowledgements"],
        cycles=counts["cycles"],
        edges=counts["edges"],
        orders=counts["orders"],
        freed_bytes=_shrink(database) if database.is_sqlite else 0,
    )


def _delete(database: Database, table: sa.Table, column: str, mark: int, site_id: str | None) -> int:
    """Remove the rows of a table whose instant lies before a mark, of one site or of all."""
    statement = sa.delete(table).where(table.c[column] < mark)
    if site_id is not None:
        statement = statement.where(table.c.site_id == site_id)
    with database.writing() as conn:
        return conn.execute(statement).rowcount


def _delete_forecasts(database: Database, site_id: str, mark: int) -> int:
    """Remove forecasts of one site, series by series as their key is ordered."""
    row = tables.forecasts.c
    with database.writing() as conn:
        names = conn.execute(sa.select(row.series).where(row.site_id == site_id).distinct()).scalars().all()
        return sum(
            conn.execute(
                sa.delete(tables.forecasts).where(
                    row.site_id == site_id, row.series == name, row.issued_at_ms < mark
                )
            ).rowcount
            for name in names
        )


def _average(database: Database, site_id: str, mark: int, step_s: int) -> tuple[int, int]:
    """Replace some of the oldest readings of a site by interval means; return how many, and how many means."""
    row = tables.readings.c
    step_ms = 1000 * step_s
    with database.writing() as conn:
        found = conn.execute(
            sa.select(row.at_ms, row.layout_id, row.body)
            .where(row.site_id == site_id, row.at_ms < mark)
            .order_by(row.at_ms)
            .limit(PASSES_AT_ONCE)
        ).all()
        if not found:
            return 0, 0
        if len(found) == PASSES_AT_ONCE:
            # the last interval may go on behind the limit: leave it for the next round, unless it is all there is
            last_ms = found[-1].at_ms // step_ms * step_ms
            found = [r for r in found if r.at_ms < last_ms] or found
        layouts = layouts_of(conn, {r.layout_id for r in found})
        passes: dict[int, list[tuple[Layout, bytes]]] = {}
        for at_ms, layout_id, body in found:
            passes.setdefault(at_ms // step_ms * step_ms, []).append((layouts[layout_id], body))
        _insert_means(conn, database, site_id, step_s, passes)
        conn.execute(sa.delete(tables.readings).where(row.site_id == site_id, row.at_ms <= found[-1].at_ms))
    return len(found), len(passes)


def _insert_means(
    conn: sa.Connection,
    database: Database,
    site_id: str,
    step_s: int,
    passes: Mapping[int, Sequence[tuple[Layout, bytes]]],
) -> None:
    """Keep means. The same interval again: the one of more passes stays."""
    rows = []
    for start_ms, group in passes.items():
        samples = interval_means(group, from_ms(start_ms))
        layout: Layout = layout_of(samples)
        rows.append(
            {
                "site_id": site_id,
                "start_ms": start_ms,
                "span_s": step_s,
                "passes": len(group),
                "layout_id": note_layout(conn, database, layout),
                "body": pack_samples(tuple(samples.values()), start_ms),
            }
        )
    statement = database.insert(tables.reading_means)
    new = statement.excluded
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["site_id", "start_ms"],
            set_={name: new[name] for name in ("span_s", "passes", "layout_id", "body")},
            where=new.passes > tables.reading_means.c.passes,
        ),
        rows,
    )


def interval_means(passes: Sequence[tuple[Layout, bytes]], start_at: datetime) -> dict[str, Sample]:
    """Return one sample per quantity: the mean of the usable values, of a counter the last; none usable is absent.

    Parameters
    ----------
    passes
        Packed readings with their layouts, oldest first; layouts may differ.
    start_at
        Start of the interval.
    """
    layouts = dict.fromkeys(layout for layout, _ in passes)
    columns = {column[0]: column for layout in layouts for column in layout.columns}
    position = {key: i for i, key in enumerate(columns)}
    places = {layout: [position[key] for key, _, _ in layout.columns] for layout in layouts}
    values = np.full((len(passes), len(columns)), np.nan)
    codes = np.zeros(values.shape, dtype=np.int64)
    causes: dict[int, str] = {}
    for i, (layout, body) in enumerate(passes):
        place = places[layout]
        values[i, place], codes[i, place], said = unpack_columns(body, len(place))
        causes.update({place[j]: cause for j, cause in said.items()})

    usable = ~np.isnan(values) & (codes >= QUALITY_CODES[Quality.ESTIMATED])
    count = usable.sum(axis=0)
    mean = np.where(usable, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    last = values[len(passes) - 1 - np.argmax(usable[::-1], axis=0), np.arange(len(columns))]
    worst = np.where(usable, codes, len(QUALITIES) - 1).min(axis=0)
    return {
        key: Sample(
            value=None if count[i] == 0 else float((last if unit == Unit.KWH else mean)[i]),
            unit=Unit(unit),
            measured_at=start_at,
            quality=Quality.BAD if count[i] == 0 else QUALITIES[worst[i]],
            source=source,
            cause=causes.get(i) if count[i] == 0 else None,
        )
        for i, (key, unit, source) in enumerate(columns.values())
    }


def _shrink(database: Database) -> int:
    """Give unused pages back when there are many; return the bytes."""
    with database.reading() as conn:
        page_bytes = conn.exec_driver_sql("PRAGMA page_size").scalar_one()
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        free = conn.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    surplus = int(free - SLACK_FRAC / 2 * pages) if free > SLACK_FRAC * pages else 0
    given_back = 0
    while given_back < surplus:
        some = min(PAGES_AT_ONCE, surplus - given_back)
        database.give_back(some)
        given_back += some
    return given_back * int(page_bytes)
