"""Brings a database to this version's schema, and refuses one that is ahead of it."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ems.errors import StoreError
from ems.store.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x454D5301
"""Any number of ours; two services that start at once on PostgreSQL migrate one after the other."""


def migrate(database: Database) -> None:
    """Make or update the tables; does not write when they are right already, so a read-only file can be read."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with database.reading() as conn:
        if _revision(conn, script, database.shown) == script.get_current_head():
            return
    with database.writing() as conn:
        if not database.is_sqlite:
            conn.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        if _revision(conn, script, database.shown) == script.get_current_head():
            return
        config.attributes["connection"] = conn
        command.upgrade(config, "head")


def _revision(conn: sa.Connection, script: ScriptDirectory, shown: str) -> str | None:
    revision = MigrationContext.configure(conn).get_current_revision()
    known = {step.revision for step in script.walk_revisions()}
    if revision is not None and revision not in known:
        raise StoreError(
            f"{shown} was written by a newer version of this service (schema {revision}, this version knows up to "
            f"{script.get_current_head()}); start the newer version, or name another file"
        )
    if revision is None and sa.inspect(conn).get_table_names():
        raise StoreError(
            f"{shown} holds tables of something else (no alembic_version); name another database"
        )
    return revision
