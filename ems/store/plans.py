"""Plans: one row per site and cycle, exact."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from pydantic import ValidationError

from ems.codec import pack, unpack
from ems.errors import StoreError
from ems.plan import Plan
from ems.store.database import Database
from ems.store.packing import from_ms, to_ms
from ems.store.tables import plans


def insert(conn: sa.Connection, database: Database, decided: Sequence[Plan], at: datetime) -> None:
    """Keep the plans of a cycle. The same site and cycle again: the later stays, as it is the one in force."""
    if not decided:
        return
    at_ms = to_ms(at)
    statement = database.insert(plans)
    new = statement.excluded
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["site_id", "decided_at_ms"],
            set_={name: new[name] for name in ("issued_at_ms", "valid_until_ms", "source", "body")},
        ),
        [
            {
                "site_id": plan.site_id,
                "decided_at_ms": at_ms,
                "issued_at_ms": to_ms(plan.issued_at),
                "valid_until_ms": to_ms(plan.valid_until),
                "source": plan.source.value,
                "body": pack(plan),
            }
            for plan in decided
        ],
    )
    database.known.plans.update({plan.site_id: (plan, at_ms) for plan in decided})


def read(body: bytes, *, site_id: str, decided_at_ms: int) -> Plan:
    """Return a plan from its row."""
    try:
        return unpack(Plan, body)
    except ValidationError:
        raise StoreError(
            f"plan of {site_id} at {from_ms(decided_at_ms).isoformat()} was written by a version with other plans; "
            f"it cannot be read by this one"
        ) from None


def latest(conn: sa.Connection, site_id: str) -> Plan | None:
    """Return the plan decided last."""
    found = conn.execute(
        sa.select(plans.c.decided_at_ms, plans.c.body)
        .where(plans.c.site_id == site_id)
        .order_by(plans.c.decided_at_ms.desc())
        .limit(1)
    ).first()
    return None if found is None else read(found.body, site_id=site_id, decided_at_ms=found.decided_at_ms)


def in_force(conn: sa.Connection, site_id: str, at: datetime) -> Plan | None:
    """Return the plan decided last before or at `at`, unless it may not be acted on any more."""
    at_ms = to_ms(at)
    found = conn.execute(
        sa.select(plans.c.decided_at_ms, plans.c.body)
        .where(
            plans.c.site_id == site_id,
            plans.c.decided_at_ms <= at_ms,
            plans.c.issued_at_ms <= at_ms,
            plans.c.valid_until_ms > at_ms,
        )
        .order_by(plans.c.decided_at_ms.desc())
        .limit(1)
    ).first()
    return None if found is None else read(found.body, site_id=site_id, decided_at_ms=found.decided_at_ms)


def of_cycles(conn: sa.Connection, cycles_ms: set[int]) -> Mapping[tuple[str, int], Plan]:
    """Return the plans decided in some cycles, by site and cycle [ms]."""
    found = conn.execute(
        sa.select(plans.c.site_id, plans.c.decided_at_ms, plans.c.body).where(
            plans.c.decided_at_ms.in_(cycles_ms)
        )
    )
    return {
        (site_id, at_ms): read(body, site_id=site_id, decided_at_ms=at_ms) for site_id, at_ms, body in found
    }
