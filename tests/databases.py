"""Databases of a test's own."""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

SERVER = os.environ.get("EMS_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")


@contextmanager
def empty_postgres() -> Iterator[str]:
    """Make an empty database on the local server, name its URL, and remove it; skips where there is no server."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    server = sa.make_url(SERVER)
    try:
        socket.create_connection((server.host or "127.0.0.1", server.port or 5432), timeout=1).close()
    except OSError as error:
        pytest.skip(f"no PostgreSQL at {server.host}:{server.port} ({error})")
    name = f"ems_test_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as conn:
        conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()
