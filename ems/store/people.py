"""What people ask for and who they are: orders and API keys."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ems.access import AccessRole, ApiKey
from ems.errors import StoreError
from ems.orders import Order, OrderKind, SetpointSource
from ems.store.database import Database
from ems.store.packing import from_ms, text, to_ms
from ems.store.tables import api_keys, orders


def insert_order(conn: sa.Connection, database: Database, order: Order) -> None:
    """Keep an order. The same id again changes nothing."""
    conn.execute(
        database.insert(orders).on_conflict_do_nothing(),
        {
            "id": order.id,
            "site_id": order.site_id,
            "by": order.by,
            "kind": order.kind.value,
            "source": order.source.value,
            "asset": order.asset,
            "value_kw": order.value_kw,
            "from_ms": to_ms(order.from_at),
            "until_ms": to_ms(order.until_at),
            "note": text(order.note),
            "ended_ms": None if order.ended_at is None else to_ms(order.ended_at),
            "ended_by": order.ended_by,
        },
    )


def orders_from(conn: sa.Connection, at: datetime) -> tuple[Order, ...]:
    """Return the orders that hold at `at` or will hold later."""
    at_ms = to_ms(at)
    row = orders.c
    found = conn.execute(
        sa.select(orders)
        .where(row.until_ms > at_ms, sa.or_(row.ended_ms.is_(None), row.ended_ms > at_ms))
        .order_by(row.from_ms, row.id)
    )
    return tuple(_order(found_row) for found_row in found.mappings())


def find_order(conn: sa.Connection, order_id: str) -> Order | None:
    """Return an order by its id."""
    row = conn.execute(sa.select(orders).where(orders.c.id == order_id)).mappings().first()
    return None if row is None else _order(row)


def end_order(conn: sa.Connection, order_id: str, at: datetime, by: str) -> Order | None:
    """End an order; the first end stays."""
    conn.execute(
        sa.update(orders)
        .where(orders.c.id == order_id, orders.c.ended_ms.is_(None))
        .values(ended_ms=to_ms(at), ended_by=by)
    )
    return find_order(conn, order_id)


def renew_order(conn: sa.Connection, order_id: str, until: datetime) -> None:
    """Let an order that was not ended hold longer; it never ends earlier by this."""
    until_ms = to_ms(until)
    conn.execute(
        sa.update(orders)
        .where(orders.c.id == order_id, orders.c.ended_ms.is_(None), orders.c.until_ms < until_ms)
        .values(until_ms=until_ms)
    )


def _order(row: Mapping[Any, Any]) -> Order:
    return Order(
        id=row["id"],
        site_id=row["site_id"],
        by=row["by"],
        kind=OrderKind(row["kind"]),
        source=SetpointSource(row["source"]),
        asset=row["asset"],
        value_kw=row["value_kw"],
        from_at=from_ms(row["from_ms"]),
        until_at=from_ms(row["until_ms"]),
        note=row["note"],
        ended_at=None if row["ended_ms"] is None else from_ms(row["ended_ms"]),
        ended_by=row["ended_by"],
    )


def insert_key(conn: sa.Connection, database: Database, key: ApiKey) -> None:
    """Keep a key. The same key again changes nothing; another key of that id is refused."""
    kept = find_key(conn, key.id)
    if kept is not None and kept.sha256 != key.sha256:
        raise StoreError(f"key {key.id} is taken by {kept.label!r}; make a new one")
    conn.execute(
        database.insert(api_keys).on_conflict_do_nothing(),
        {
            "id": key.id,
            "sha256": key.sha256,
            "role": key.role.value,
            "site_ids": None if key.site_ids is None else json.dumps(key.site_ids),
            "label": text(key.label),
            "created_ms": to_ms(key.created_at),
            "revoked_ms": None if key.revoked_at is None else to_ms(key.revoked_at),
        },
    )


def find_key(conn: sa.Connection, key_id: str) -> ApiKey | None:
    """Return a key by its public part."""
    row = conn.execute(sa.select(api_keys).where(api_keys.c.id == key_id)).mappings().first()
    return None if row is None else _key(row)


def revoke_key(conn: sa.Connection, key_id: str, at: datetime) -> bool:
    """Withdraw a key; the first instant stays."""
    one = api_keys.c.id == key_id
    conn.execute(sa.update(api_keys).where(one, api_keys.c.revoked_ms.is_(None)).values(revoked_ms=to_ms(at)))
    return conn.execute(sa.select(api_keys.c.id).where(one)).first() is not None


def list_keys(conn: sa.Connection) -> tuple[ApiKey, ...]:
    """Return every key, oldest first."""
    found = conn.execute(sa.select(api_keys).order_by(api_keys.c.created_ms, api_keys.c.id))
    return tuple(_key(row) for row in found.mappings())


def _key(row: Mapping[Any, Any]) -> ApiKey:
    return ApiKey(
        id=row["id"],
        sha256=row["sha256"],
        role=AccessRole(row["role"]),
        site_ids=None if row["site_ids"] is None else tuple(json.loads(row["site_ids"])),
        label=row["label"],
        created_at=from_ms(row["created_ms"]),
        revoked_at=None if row["revoked_ms"] is None else from_ms(row["revoked_ms"]),
    )
