"""Readings: one packed row per site and pass; in time, one per site and interval."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from ems.readings import Sample, SiteReading
from ems.store import tables
from ems.store.database import Database
from ems.store.packing import (
    Layout,
    from_ms,
    layout_of,
    pack_samples,
    text,
    to_ms,
    unpack_one,
    unpack_samples,
)
from ems.store.types import SampleSeries, StoredSample

LATEST_PASSES = 60
"""How far back, in passes, a quantity that the newest pass did not read is looked for."""


def note_sites(conn: sa.Connection, database: Database, site_ids: Sequence[str]) -> None:
    """Keep ids of sites that were not seen before."""
    new = sorted(set(site_ids) - database.known.sites)
    if new:
        conn.execute(
            database.insert(tables.sites).on_conflict_do_nothing(), [{"site_id": site_id} for site_id in new]
        )
        database.known.sites.update(new)


def note_layout(conn: sa.Connection, database: Database, layout: Layout) -> int:
    """Return the id of a layout; keep it when it was not seen before."""
    layout_id = database.known.layouts.get(layout)
    if layout_id is None:
        layout_id = layout.id
        conn.execute(
            database.insert(tables.layouts).on_conflict_do_nothing(),
            {"layout_id": layout_id, "body": layout.to_json()},
        )
        database.known.layouts[layout] = layout_id
    return layout_id


def insert(conn: sa.Connection, database: Database, readings: Sequence[SiteReading], at: datetime) -> None:
    """Keep one pass. The same site and instant again: whichever pass has more usable samples stays."""
    if not readings:
        return
    note_sites(conn, database, [reading.site_id for reading in readings])
    at_ms = to_ms(at)
    rows = [
        {
            "site_id": reading.site_id,
            "at_ms": at_ms,
            "usable": sum(sample.usable for sample in reading.samples.values()),
            "layout_id": note_layout(conn, database, layout_of(reading.samples)),
            "body": pack_samples(tuple(reading.samples.values()), at_ms),
            "troubles": text(json.dumps(dict(reading.troubles))) if reading.troubles else None,
        }
        for reading in readings
    ]
    statement = database.insert(tables.readings)
    new = statement.excluded
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["site_id", "at_ms"],
            set_={name: new[name] for name in ("usable", "layout_id", "body", "troubles")},
            where=new.usable > tables.readings.c.usable,
        ),
        rows,
    )


def layouts_of(conn: sa.Connection, layout_ids: set[int]) -> dict[int, Layout]:
    """Return layouts by id."""
    found = conn.execute(
        sa.select(tables.layouts.c.layout_id, tables.layouts.c.body).where(
            tables.layouts.c.layout_id.in_(layout_ids)
        )
    )
    return {layout_id: Layout.from_json(body) for layout_id, body in found}


def latest(conn: sa.Connection, site_ids: Sequence[str]) -> Mapping[str, Mapping[str, Sample]]:
    """Return the newest sample of each quantity per site.

    A pass that read only some devices does not hide the others: per layout the newest of the last `LATEST_PASSES`
    passes counts.
    """
    readings = tables.readings.c
    heads = (
        sa.select(readings.at_ms, readings.layout_id)
        .where(readings.site_id == sa.bindparam("site"))
        .order_by(readings.at_ms.desc())
        .limit(LATEST_PASSES)
    )
    newest: dict[str, dict[int, int]] = {}
    for site_id in site_ids:
        for at_ms, layout_id in conn.execute(heads, {"site": site_id}):
            newest.setdefault(site_id, {}).setdefault(layout_id, at_ms)
    layouts = layouts_of(conn, {layout_id for found in newest.values() for layout_id in found})
    one = sa.select(readings.body).where(
        readings.site_id == sa.bindparam("site"), readings.at_ms == sa.bindparam("at")
    )
    answer: dict[str, dict[str, Sample]] = {}
    for site_id, found in newest.items():
        samples: dict[str, Sample] = {}
        for layout_id, at_ms in sorted(found.items(), key=lambda item: item[1]):
            body = conn.execute(one, {"site": site_id, "at": at_ms}).scalar_one()
            samples.update(unpack_samples(body, layouts[layout_id], at_ms))
        answer[site_id] = samples
    return answer


def series(
    conn: sa.Connection, site_id: str, key: str, start: datetime, end: datetime, limit: int
) -> SampleSeries:
    """Return one quantity over [start, end), means where the readings are gone."""
    rows = [
        *_rows(conn, tables.reading_means, site_id, start, end, limit),
        *_rows(conn, tables.readings, site_id, start, end, limit),
    ]
    rows.sort(key=lambda row: row[0])
    layouts = layouts_of(conn, {row[2] for row in rows})
    kept = rows[:limit]
    units = {unit for layout in layouts.values() for column, unit, _ in layout.columns if column == key}
    return SampleSeries(
        site_id=site_id,
        key=key,
        unit=min(units, default=""),
        samples=tuple(_one_of(kept, layouts, key)),
        complete=len(rows) <= limit,
    )


def _rows(
    conn: sa.Connection, table: sa.Table, site_id: str, start: datetime, end: datetime, limit: int
) -> Sequence[tuple[int, int, int, bytes]]:
    """Return (at_ms, span_s, layout_id, body) of readings or means, one more than `limit` at most."""
    is_mean = table is tables.reading_means
    at_ms = table.c.start_ms if is_mean else table.c.at_ms
    span_s = table.c.span_s if is_mean else sa.literal(0)
    found = conn.execute(
        sa.select(at_ms, span_s, table.c.layout_id, table.c.body)
        .where(table.c.site_id == site_id, at_ms >= to_ms(start), at_ms < to_ms(end))
        .order_by(at_ms)
        .limit(limit + 1)
    )
    return [(row[0], row[1], row[2], row[3]) for row in found]


def _one_of(
    rows: Sequence[tuple[int, int, int, bytes]], layouts: Mapping[int, Layout], key: str
) -> Iterator[StoredSample]:
    positions = {layout_id: layout.index(key) for layout_id, layout in layouts.items()}
    for at_ms, span_s, layout_id, body in rows:
        index = positions[layout_id]
        if index is None:
            continue
        value, quality, measured_at = unpack_one(body, len(layouts[layout_id].columns), index, at_ms)
        yield StoredSample(
            at=from_ms(at_ms), span_s=span_s, value=value, quality=quality, measured_at=measured_at
        )
