"""Interval accounts: rows, and sums in SQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ems.feedback import IntervalAccount
from ems.state import MeasuredInterval
from ems.store.database import Database
from ems.store.packing import QUALITIES, QUALITY_CODES, from_ms, number, to_ms
from ems.store.tables import accounts
from ems.store.types import SiteSums

ENERGIES = ("import_kwh", "export_kwh", "load_kwh", "pv_kwh", "charged_kwh", "discharged_kwh", "vehicle_kwh")
KEY = ("site_id", "start_ms")


def insert(conn: sa.Connection, database: Database, found: Sequence[IntervalAccount]) -> None:
    """Keep accounts. The same site and interval again: better quality wins, and a known cost over an unknown one."""
    if not found:
        return
    statement = database.insert(accounts)
    new, old = statement.excluded, accounts.c
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=KEY,
            set_={column.name: new[column.name] for column in accounts.columns if column.name not in KEY},
            where=(new.quality > old.quality)
            | ((new.quality == old.quality) & old.cost.is_(None) & new.cost.is_not(None)),
        ),
        [_row(account) for account in found],
    )


def _row(account: IntervalAccount) -> dict[str, Any]:
    measured = account.measured
    return {
        "site_id": measured.site_id,
        "start_ms": to_ms(measured.start_at),
        "hours": measured.hours,
        "quality": QUALITY_CODES[measured.quality],
        "curtailed": measured.curtailed,
        **{name: number(getattr(measured, name)) for name in (*ENERGIES, "stored_kwh")},
        "buy_per_kwh": account.buy_per_kwh,
        "sell_per_kwh": account.sell_per_kwh,
        "cost": number(account.cost),
        "cost_idle": number(account.cost_idle),
        "planned_import_kw": number(account.planned_import_kw),
    }


def _account(row: Mapping[Any, Any]) -> IntervalAccount:
    return IntervalAccount(
        measured=MeasuredInterval(
            site_id=row["site_id"],
            start_at=from_ms(row["start_ms"]),
            hours=row["hours"],
            **{name: row[name] for name in (*ENERGIES, "stored_kwh")},
            quality=QUALITIES[row["quality"]],
            curtailed=row["curtailed"],
        ),
        **{
            name: row[name]
            for name in ("buy_per_kwh", "sell_per_kwh", "cost", "cost_idle", "planned_import_kw")
        },
    )


def between(conn: sa.Connection, site_id: str, start: datetime, end: datetime) -> tuple[IntervalAccount, ...]:
    """Return accounts that start in [start, end), oldest first."""
    found = conn.execute(
        sa.select(accounts)
        .where(
            accounts.c.site_id == site_id,
            accounts.c.start_ms >= to_ms(start),
            accounts.c.start_ms < to_ms(end),
        )
        .order_by(accounts.c.start_ms)
    )
    return tuple(_account(row) for row in found.mappings())


def sums(conn: sa.Connection, site_ids: Sequence[str], edges: Sequence[datetime]) -> tuple[SiteSums, ...]:
    """Return energy and money per site and span between neighbouring edges; one pass in SQL."""
    if len(edges) < 2 or not site_ids:
        return ()
    marks = [to_ms(edge) for edge in edges]
    start_ms = accounts.c.start_ms
    bucket = sa.case(*((start_ms < mark, i) for i, mark in enumerate(marks[1:])), else_=-1).label("bucket")
    priced = sa.case((accounts.c.cost.is_not(None) & accounts.c.cost_idle.is_not(None), 1), else_=0)
    columns = [sa.func.sum(accounts.c[name]).label(name) for name in (*ENERGIES, "cost", "cost_idle")]
    found = conn.execute(
        sa.select(
            accounts.c.site_id,
            bucket,
            sa.func.count().label("intervals"),
            sa.func.sum(priced).label("intervals_priced"),
            *columns,
            sa.func.sum(accounts.c.cost_idle - accounts.c.cost).label("saving"),
        )
        .where(accounts.c.site_id.in_(site_ids), start_ms >= marks[0], start_ms < marks[-1])
        .group_by(accounts.c.site_id, bucket)
    )
    by_place = {(row["site_id"], row["bucket"]): row for row in found.mappings()}
    return tuple(
        _sums(by_place[site_id, i], edges[i], edges[i + 1])
        for site_id in dict.fromkeys(site_ids)
        for i in range(len(edges) - 1)
        if (site_id, i) in by_place
    )


def _sums(row: Mapping[Any, Any], start: datetime, end: datetime) -> SiteSums:
    return SiteSums(
        start_at=start,
        end_at=end,
        **{name: row[name] for name in ("site_id", "intervals", "intervals_priced", *ENERGIES)},
        **{name: row[name] for name in ("cost", "cost_idle", "saving")},
    )
