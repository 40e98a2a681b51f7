"""What devices must not forget over a restart: counter offsets, and how often their registers were written."""

import logging
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from pydantic import ValidationError

from ems.codec import from_json, to_json
from ems.readings import DeviceMemory
from ems.store.database import Database
from ems.store.packing import to_ms
from ems.store.readings import note_sites
from ems.store.tables import device_memories

log = logging.getLogger("ems.store")


def insert(
    conn: sa.Connection, database: Database, memories: Mapping[tuple[str, str], DeviceMemory], at: datetime
) -> None:
    """Keep memories by (site id, device name); each replaces the one before."""
    if not memories:
        return
    note_sites(conn, database, [site_id for site_id, _ in memories])
    statement = database.insert(device_memories)
    new = statement.excluded
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["site_id", "device"], set_={"at_ms": new.at_ms, "body": new.body}
        ),
        [
            {"site_id": site_id, "device": device, "at_ms": to_ms(at), "body": to_json(memory)}
            for (site_id, device), memory in memories.items()
        ],
    )


def every(conn: sa.Connection) -> dict[tuple[str, str], DeviceMemory]:
    """Return every memory; one written by a version with other types is left out."""
    found: dict[tuple[str, str], DeviceMemory] = {}
    for site_id, device, body in conn.execute(
        sa.select(device_memories.c.site_id, device_memories.c.device, device_memories.c.body)
    ):
        try:
            found[site_id, device] = from_json(DeviceMemory, body)
        except ValidationError:
            log.warning("device.memory_unreadable site=%s device=%s", site_id, device)
    return found
