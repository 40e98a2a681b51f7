"""Setpoints, what came of them, how they were followed, and edges."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from ems.codec import from_json, to_json
from ems.conduct import DeliveryScore
from ems.feedback import Edge
from ems.plan import Reason
from ems.publishing import Delivery, DeliveryOutcome
from ems.setpoints import Quantity, Setpoint, SetpointKind, SetpointSource
from ems.store import acknowledgements, tables
from ems.store.database import Database
from ems.store.packing import from_ms, number, text, to_ms
from ems.store.readings import note_sites
from ems.store.types import DeliveredSetpoint


def insert(
    conn: sa.Connection, database: Database, setpoints: Sequence[Setpoint], deliveries: Sequence[Delivery]
) -> None:
    """Keep requests and outcomes.

    A setpoint id stands for one request: it never changes. A delivery of the same setpoint replaces an earlier one
    when it was known later: `applied` may follow `unverified`. `sent` gives way to an answer of the same instant.
    """
    note_sites(conn, database, [*(s.site_id for s in setpoints), *(d.site_id for d in deliveries)])
    if setpoints:
        conn.execute(
            database.insert(tables.setpoints).on_conflict_do_nothing(),
            [_setpoint_row(setpoint) for setpoint in setpoints],
        )
    if deliveries:
        statement = database.insert(tables.deliveries)
        new = statement.excluded
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=["setpoint_id"],
                set_={name: new[name] for name in ("outcome", "held_kw", "at_ms", "written", "detail")},
                where=sa.or_(
                    new.at_ms > tables.deliveries.c.at_ms,
                    sa.and_(
                        new.at_ms == tables.deliveries.c.at_ms,
                        tables.deliveries.c.outcome == DeliveryOutcome.SENT.value,
                    ),
                ),
            ),
            [_delivery_row(delivery) for delivery in deliveries],
        )


def _setpoint_row(setpoint: Setpoint) -> dict[str, Any]:
    return {
        "id": setpoint.id,
        "site_id": setpoint.site_id,
        "asset": setpoint.asset,
        "kind": setpoint.kind.value,
        "quantity": setpoint.quantity.value,
        "value_kw": number(setpoint.value_kw),
        "valid_from_ms": to_ms(setpoint.valid_from),
        "valid_until_ms": to_ms(setpoint.valid_until),
        "priority": setpoint.priority,
        "source": setpoint.source.value,
        "reason": None if setpoint.reason is None else to_json(setpoint.reason).decode(),
        "reverts_to": setpoint.reverts_to,
    }


def _delivery_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "setpoint_id": delivery.setpoint_id,
        "site_id": delivery.site_id,
        "asset": delivery.asset,
        "outcome": delivery.outcome.value,
        "held_kw": number(delivery.held_kw),
        "at_ms": to_ms(delivery.at),
        "written": delivery.written,
        "detail": text(delivery.detail),
    }


def score(conn: sa.Connection, scores: Sequence[DeliveryScore]) -> None:
    """Put beside the delivery of each setpoint how it was followed."""
    if scores:
        conn.execute(
            sa.update(tables.deliveries).where(tables.deliveries.c.setpoint_id == sa.bindparam("of")),
            [
                {
                    "of": one.setpoint_id,
                    "watched_s": one.watched_s,
                    "followed_frac": one.followed_frac,
                    "apart_kw": one.apart_kw,
                }
                for one in scores
            ],
        )


def between(
    conn: sa.Connection, site_id: str, start: datetime, end: datetime, limit: int
) -> tuple[DeliveredSetpoint, ...]:
    """Return the newest setpoints that begin in [start, end) with their deliveries, oldest first."""
    asked = tables.setpoints
    found = conn.execute(
        _delivered()
        .where(
            asked.c.site_id == site_id,
            asked.c.valid_from_ms >= to_ms(start),
            asked.c.valid_from_ms < to_ms(end),
        )
        .order_by(asked.c.valid_from_ms.desc(), asked.c.id.desc())
        .limit(limit)
    ).mappings()
    return _with_acknowledgements(conn, list(reversed(found.all())))


def one(conn: sa.Connection, setpoint_id: str) -> DeliveredSetpoint | None:
    """Return a setpoint with its delivery; None when there is none of that id (any more)."""
    found = conn.execute(_delivered().where(tables.setpoints.c.id == setpoint_id)).mappings().all()
    return next(iter(_with_acknowledgements(conn, found)), None)


def _delivered() -> sa.Select[Any]:
    asked, came = tables.setpoints, tables.deliveries
    outcome = ("outcome", "held_kw", "at_ms", "written", "detail")
    followed = ("watched_s", "followed_frac", "apart_kw")
    return sa.select(asked, *(came.c[name] for name in (*outcome, *followed))).join_from(
        asked, came, asked.c.id == came.c.setpoint_id, isouter=True
    )


def _with_acknowledgements(
    conn: sa.Connection, rows: Sequence[Mapping[Any, Any]]
) -> tuple[DeliveredSetpoint, ...]:
    said = acknowledgements.of_setpoints(conn, [row["id"] for row in rows])
    return tuple(
        DeliveredSetpoint(
            setpoint=_setpoint(row),
            delivery=None if row["outcome"] is None else _delivery(row),
            score=None if row["watched_s"] is None else _score(row),
            acknowledgements=said.get(row["id"], ()),
        )
        for row in rows
    )


def _setpoint(row: Mapping[Any, Any]) -> Setpoint:
    return Setpoint(
        id=row["id"],
        site_id=row["site_id"],
        asset=row["asset"],
        kind=SetpointKind(row["kind"]),
        quantity=Quantity(row["quantity"]),
        value_kw=row["value_kw"],
        valid_from=from_ms(row["valid_from_ms"]),
        valid_until=from_ms(row["valid_until_ms"]),
        priority=row["priority"],
        source=SetpointSource(row["source"]),
        reason=_reason(row["reason"]),
        reverts_to=row["reverts_to"],
    )


def _reason(body: str | None) -> Reason | None:
    # a reason written by another version is lost, the setpoint is not
    try:
        return None if body is None else from_json(Reason, body)
    except ValidationError:
        return None


def _delivery(row: Mapping[Any, Any]) -> Delivery:
    return Delivery(
        setpoint_id=row["id"],
        site_id=row["site_id"],
        asset=row["asset"],
        outcome=DeliveryOutcome(row["outcome"]),
        held_kw=row["held_kw"],
        at=from_ms(row["at_ms"]),
        written=row["written"],
        detail=row["detail"],
    )


def _score(row: Mapping[Any, Any]) -> DeliveryScore:
    return DeliveryScore(
        setpoint_id=row["id"],
        watched_s=row["watched_s"],
        followed_frac=row["followed_frac"],
        apart_kw=row["apart_kw"],
    )


def insert_edges(conn: sa.Connection, database: Database, edges: Sequence[Edge]) -> None:
    """Keep edges. The same change again changes nothing."""
    if edges:
        conn.execute(
            database.insert(tables.edges).on_conflict_do_nothing(),
            [
                {
                    "at_ms": to_ms(edge.at),
                    "site_id": edge.site_id,
                    "subject": edge.subject,
                    "became": edge.became,
                    "cause": text(edge.cause),
                }
                for edge in edges
            ],
        )


def edges_since(conn: sa.Connection, site_id: str | None, since: datetime, limit: int) -> tuple[Edge, ...]:
    """Return the newest edges, newest first."""
    edges = tables.edges.c
    wanted = sa.select(tables.edges).where(edges.at_ms >= to_ms(since))
    if site_id is not None:
        wanted = wanted.where(edges.site_id == site_id)
    found = conn.execute(wanted.order_by(edges.at_ms.desc(), edges.site_id, edges.subject).limit(limit))
    return tuple(
        Edge(
            at=from_ms(row["at_ms"]),
            site_id=row["site_id"],
            subject=row["subject"],
            became=row["became"],
            cause=row["cause"],
        )
        for row in found.mappings()
    )
