"""What building controllers said about setpoints."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ems.messages import Acknowledgement, AcknowledgementState
from ems.store.database import Database
from ems.store.packing import from_ms, number, text, to_ms
from ems.store.tables import acknowledgements

IDS_AT_ONCE = 500


def insert(conn: sa.Connection, database: Database, said: Acknowledgement) -> bool:
    """Keep an acknowledgement; False when the same controller said the same before: the first stays."""
    done = conn.execute(
        database.insert(acknowledgements).on_conflict_do_nothing(),
        {
            "setpoint_id": said.setpoint_id,
            "controller": said.controller,
            "state": said.state.value,
            "site_id": said.site_id,
            "channel": said.channel,
            "value_kw": number(said.value_kw),
            "at_ms": to_ms(said.at),
            "arrived_ms": to_ms(said.arrived_at),
            "late": said.late,
            "detail": text(said.detail),
        },
    )
    return done.rowcount > 0


def between(
    conn: sa.Connection, site_id: str, start: datetime, end: datetime, limit: int
) -> tuple[Acknowledgement, ...]:
    """Return the newest acknowledgements that arrived in [start, end), oldest first."""
    row = acknowledgements.c
    found = conn.execute(
        sa.select(acknowledgements)
        .where(row.site_id == site_id, row.arrived_ms >= to_ms(start), row.arrived_ms < to_ms(end))
        .order_by(row.arrived_ms.desc(), row.setpoint_id, row.controller, row.state)
        .limit(limit)
    ).mappings()
    return tuple(_acknowledgement(one) for one in reversed(found.all()))


def of_setpoints(conn: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[Acknowledgement, ...]]:
    """Return what was said of each of some setpoints, in order of arrival."""
    found: dict[str, list[Acknowledgement]] = {}
    for begin in range(0, len(ids), IDS_AT_ONCE):
        wanted = acknowledgements.c.setpoint_id.in_(ids[begin : begin + IDS_AT_ONCE])
        ordered = sa.select(acknowledgements).where(wanted).order_by(acknowledgements.c.arrived_ms)
        for one in conn.execute(ordered).mappings():
            found.setdefault(one["setpoint_id"], []).append(_acknowledgement(one))
    return {setpoint_id: tuple(said) for setpoint_id, said in found.items()}


def _acknowledgement(row: Mapping[Any, Any]) -> Acknowledgement:
    return Acknowledgement(
        setpoint_id=row["setpoint_id"],
        site_id=row["site_id"],
        controller=row["controller"],
        channel=row["channel"],
        state=AcknowledgementState(row["state"]),
        value_kw=row["value_kw"],
        at=from_ms(row["at_ms"]),
        arrived_at=from_ms(row["arrived_ms"]),
        late=row["late"],
        detail=row["detail"],
    )
