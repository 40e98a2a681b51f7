"""Cycle records: a frame and one part per site, put together again exactly.

Plans are not kept twice: a part names the cycles in which its plan and its previous plan were decided, and the `plans`
table has them. A previous plan that is not in that table is kept in the part.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from ems.codec import pack, unpack
from ems.cycle import CycleRecord
from ems.errors import StoreError
from ems.outlook import SiteOutlook
from ems.plan import Plan, PlanSource
from ems.readings import SiteReading
from ems.site import Site
from ems.state import SiteState
from ems.store import plans as plan_rows
from ems.store.database import Database
from ems.store.packing import from_ms, to_ms
from ems.store.tables import cycles, records
from ems.store.types import CycleRow

FRAME = ""
"""Stands for the site id in the row of the frame: what belongs to no single site."""
TRIED = 20
"""How many of the newest records are tried when the newest cannot be read."""

REFERRED_MS = 86_400_000
"""A previous plan older than this is kept in the part, so that retention never parts it from its record [ms]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePart:
    """What a cycle record holds of one site, without its plan."""

    site: Site
    """The site as configured."""
    reading: SiteReading
    """What its devices said."""
    state: SiteState
    """What that was taken to mean."""
    outlook: SiteOutlook
    """What was expected."""
    previous: Plan | None
    """The plan in force before, when no cycle on record decided it."""
    previous_ms: int | None
    """Cycle that decided the plan in force before [ms since the epoch]; None when there was none, or it is inline."""


def insert(conn: sa.Connection, database: Database, record: CycleRecord) -> None:
    """Keep a record; its plans must be kept in the same transaction, after it. Again: the later replaces it."""
    at_ms = to_ms(record.at)
    rows = [
        {"at_ms": at_ms, "site_id": site_id, "position": position, "body": pack(part)}
        for site_id, position, part in _parts(record, database)
    ]
    conn.execute(sa.delete(records).where(records.c.at_ms == at_ms))
    conn.execute(sa.insert(records), rows)
    row = {
        "at_ms": at_ms,
        "took_ms": record.took_ms,
        "missed": record.missed,
        "overlapped": record.overlapped,
        "n_sites": len(record.sites),
        "n_fallback": sum(plan.source is not PlanSource.OPTIMAL for plan in record.plans),
        "n_troubles": sum(len(reading.troubles) for reading in record.snapshot.sites),
    }
    conn.execute(
        database.insert(cycles).values(row).on_conflict_do_update(index_elements=["at_ms"], set_=row)
    )


def _parts(record: CycleRecord, database: Database) -> Iterator[tuple[str, int, CycleRecord | SitePart]]:
    yield (
        FRAME,
        -1,
        replace(
            record,
            sites=(),
            snapshot=replace(record.snapshot, sites=()),
            states=(),
            outlook=replace(record.outlook, sites=()),
            previous=(),
            plans=(),
        ),
    )
    at_ms = to_ms(record.at)
    columns = zip(
        record.sites, record.snapshot.sites, record.states, record.outlook.sites, record.previous, strict=True
    )
    for position, (site, reading, state, outlook, previous) in enumerate(columns):
        last, last_ms = database.known.plans.get(site.id, (None, 0))
        kept = previous is not None and previous is last and 0 < at_ms - last_ms <= REFERRED_MS
        part = SitePart(
            site=site,
            reading=reading,
            state=state,
            outlook=outlook,
            previous=None if kept else previous,
            previous_ms=last_ms if kept else None,
        )
        yield site.id, position, part


def latest(conn: sa.Connection, database: Database) -> CycleRecord | None:
    """Return the newest record this version can read."""
    newest = conn.execute(
        sa.select(records.c.at_ms)
        .where(records.c.site_id == FRAME)
        .order_by(records.c.at_ms.desc())
        .limit(TRIED)
    )
    for (at_ms,) in newest.all():
        try:
            record = one(conn, from_ms(at_ms))
        except StoreError:
            continue
        if record is not None:
            database.known.plans.update({plan.site_id: (plan, at_ms) for plan in record.plans})
            return record
    return None


def one(conn: sa.Connection, at: datetime) -> CycleRecord | None:
    """Return the record of a cycle; None when there is none."""
    at_ms = to_ms(at)
    rows = conn.execute(
        sa.select(records.c.site_id, records.c.body)
        .where(records.c.at_ms == at_ms)
        .order_by(records.c.position)
    ).all()
    if not rows:
        return None
    try:
        frame = unpack(CycleRecord, rows[0].body)
        parts = [unpack(SitePart, row.body) for row in rows[1:]]
    except ValidationError:
        raise StoreError(
            f"cycle record {at.isoformat()} was written by a version with other records; replay it with that version"
        ) from None
    named_ms = {part.previous_ms for part in parts if part.previous_ms is not None} | {at_ms}
    decided = plan_rows.of_cycles(conn, named_ms)
    return replace(
        frame,
        sites=tuple(part.site for part in parts),
        snapshot=replace(frame.snapshot, sites=tuple(part.reading for part in parts)),
        states=tuple(part.state for part in parts),
        outlook=replace(frame.outlook, sites=tuple(part.outlook for part in parts)),
        previous=tuple(_previous(part, decided) for part in parts),
        plans=tuple(_plan(decided, part.site.id, at_ms) for part in parts),
    )


def _previous(part: SitePart, decided: Mapping[tuple[str, int], Plan]) -> Plan | None:
    return part.previous if part.previous_ms is None else _plan(decided, part.site.id, part.previous_ms)


def _plan(decided: Mapping[tuple[str, int], Plan], site_id: str, at_ms: int) -> Plan:
    plan = decided.get((site_id, at_ms))
    if plan is None:
        raise StoreError(f"the plan of {site_id} of {from_ms(at_ms).isoformat()} is not kept any more")
    return plan


def rows(conn: sa.Connection, since: datetime, until: datetime, limit: int) -> tuple[CycleRow, ...]:
    """Return the newest cycles of [since, until) in figures, oldest first."""
    found = conn.execute(
        sa.select(cycles)
        .where(cycles.c.at_ms >= to_ms(since), cycles.c.at_ms < to_ms(until))
        .order_by(cycles.c.at_ms.desc())
        .limit(limit)
    ).mappings()
    return tuple(_cycle(row) for row in reversed(found.all()))


def _cycle(row: Mapping[Any, Any]) -> CycleRow:
    figures = {column.name: row[column.name] for column in cycles.columns if column.name != "at_ms"}
    return CycleRow(at=from_ms(row["at_ms"]), **figures)
