"""The lead: of several instances on one store, the one that may write to devices.

It dies with its process, so nobody has to decide that a leader is dead: the kernel drops a file lock, PostgreSQL drops
a session's lock. It is never remembered: `holds` asks, and an answer that does not come is a no.
"""

import fcntl
import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from ems.errors import StoreError
from ems.store.database import Database

KEY = 0x454D53
"""First half of PostgreSQL's lock key: EMS."""
LEADS, NEXT = 1, 2
"""Second half: the lead itself; the first in line for it."""
ANSWER_S = 2
"""How long PostgreSQL may take to say that the lead still holds [s]."""
WIRE = {
    "connect_timeout": 5,
    "tcp_user_timeout": ANSWER_S * 1000,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "options": "-c tcp_keepalives_idle=6 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
    f"-c statement_timeout={ANSWER_S * 1000}",
}
"""The holder notices a dead line within ANSWER_S; the server ends a session, and with it the lead, after 12 s of silence."""


class Lease(Protocol):
    """The lead of one store. Calls block; any thread may call."""

    def take(self) -> bool:
        """Take the lead if it is free; else stand in line."""
        ...

    def holds(self) -> bool:
        """Ask whether it is still ours; False when that cannot be found out."""
        ...

    def awaited(self) -> bool:
        """Tell whether another instance stands in line."""
        ...

    def holder(self) -> str:
        """Name who leads, as far as it is known."""
        ...

    def release(self) -> None:
        """Give up the lead and the place in line."""
        ...


class SoleLease:
    """A database in memory: nobody else can see it."""

    def take(self) -> bool:
        """Nobody contests it."""
        return True

    def holds(self) -> bool:
        """Always."""
        return True

    def awaited(self) -> bool:
        """Never."""
        return False

    def holder(self) -> str:
        """Our own process."""
        return _me()

    def release(self) -> None:
        """Nothing to give up."""


class FileLease:
    """Locks on two files beside a SQLite database; the kernel drops them when their process is gone, however it went.

    A file system that machines share must lock across them (NFS 4 does); one database has one machine otherwise.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.lead")
        self._line = database.with_name(f"{database.name}.next")
        self._held: IO[str] | None = None
        self._in_line: IO[str] | None = None
        self._turn = threading.Lock()

    def take(self) -> bool:
        """Take the lead if it is free; else stand in line."""
        with self._turn:
            if self._held is not None and not _is_at(self._held, self._path):
                _close(self._held)
                self._held = None
            self._held = self._held or _locked(self._path)
            if self._held is None:
                self._in_line = self._in_line or _locked(self._line)
                return False
            _close(self._in_line)
            self._in_line = None
            self._held.seek(0)
            self._held.truncate()
            json.dump({"holder": _me()}, self._held)
            self._held.flush()
            return True

    def holds(self) -> bool:
        """Tell whether the locked file is still the one that others would lock."""
        with self._turn:
            return self._held is not None and _is_at(self._held, self._path)

    def awaited(self) -> bool:
        """Tell whether another instance stands in line."""
        with self._turn:
            if self._in_line is not None:
                return False
            probe = _locked(self._line)
            _close(probe)
            return probe is None

    def holder(self) -> str:
        """Name who leads, as far as it is known."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(self._path.read_text(encoding="utf-8"))["holder"])
        return "another process"

    def release(self) -> None:
        """Give up the lead and the place in line."""
        with self._turn:
            _close(self._held)
            _close(self._in_line)
            self._held = self._in_line = None


class SessionLease:
    """An advisory lock of a session of its own; the server drops it with the session."""

    def __init__(self, url: sa.URL) -> None:
        options = WIRE | {"application_name": f"ems {_me()}"}
        self._engine = sa.create_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options
        )
        self._session: sa.Connection | None = None
        self._turn = threading.Lock()

    def take(self) -> bool:
        """Take the lead if it is free; else stand in line."""
        with self._turn:
            try:
                session = self._session = self._session or self._engine.connect()
                if not session.scalar(sa.select(sa.func.pg_try_advisory_lock(KEY, LEADS))):
                    if not self._owns(session, NEXT):
                        session.scalar(sa.select(sa.func.pg_try_advisory_lock(KEY, NEXT)))
                    return False
                session.scalar(sa.select(sa.func.pg_advisory_unlock(KEY, NEXT)))
            except SQLAlchemyError:
                self._drop()
                return False
            return True

    def holds(self) -> bool:
        """Ask the server whether this very session holds it; a pooler between us would be found out, too."""
        with self._turn:
            if self._session is None:
                return False
            try:
                return self._owns(self._session, LEADS)
            except SQLAlchemyError:
                self._drop()
                return False

    def awaited(self) -> bool:
        """Tell whether another instance stands in line."""
        with self._turn:
            try:
                return self._session is not None and bool(self._session.scalar(_owner(NEXT)))
            except SQLAlchemyError:
                return False

    def holder(self) -> str:
        """Name who leads, as far as it is known."""
        with self._turn:
            if self._session is None:
                return "nobody that can be asked"
            try:
                name = self._session.scalar(
                    sa.text("SELECT application_name FROM pg_stat_activity WHERE pid = :pid"),
                    {"pid": self._session.scalar(_owner(LEADS))},
                )
            except SQLAlchemyError:
                name = None
            return str(name).removeprefix("ems ") if name else "another session"

    def release(self) -> None:
        """Give up the lead and the place in line."""
        with self._turn:
            self._drop()

    def _owns(self, session: sa.Connection, what: int) -> bool:
        return bool(session.scalar(sa.select(_owner(what).scalar_subquery() == sa.func.pg_backend_pid())))

    def _drop(self) -> None:
        if self._session is not None:
            with suppress(SQLAlchemyError):
                self._session.invalidate()
                self._session.close()
            self._session = None


def lease_of(database: Database) -> Lease:
    """Return the lead of a database."""
    if database.in_memory:
        return SoleLease()
    if database.is_sqlite:
        return FileLease(Path(database.shown).resolve())
    return SessionLease(database.engine.url)


def _owner(what: int) -> sa.Select[tuple[int]]:
    """Select the process of the session that owns a lock of this database."""
    locks = sa.table(
        "pg_locks", *map(sa.column, ("locktype", "classid", "objid", "granted", "pid", "database"))
    )
    here = sa.select(sa.text("oid")).select_from(sa.text("pg_database WHERE datname = current_database()"))
    return sa.select(locks.c.pid).where(
        locks.c.locktype == "advisory",
        locks.c.classid == KEY,
        locks.c.objid == what,
        locks.c.granted,
        locks.c.database == here.scalar_subquery(),
    )


def _locked(path: Path) -> IO[str] | None:
    """Open and lock a file; None when another holds it."""
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened ({error.strerror}); make its folder writable for the service's user"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    if _is_at(file, path):
        return file
    file.close()
    return None


def _is_at(file: IO[str], path: Path) -> bool:
    """Tell whether an open file is the one a path leads to: a lock on a removed file keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _close(file: IO[str] | None) -> None:
    if file is not None:
        file.close()


def _me() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}"
