"""Connections and transactions, and the words for what can go wrong with them."""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from ems.errors import StoreError
from ems.store.known import Known

BUSY_S = 5.0
"""How long a write waits for another process before it gives up [s]."""
SERVER_WIRE = {
    "connect_timeout": int(BUSY_S),
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""PostgreSQL: a line that went dead is found out in about 10 s, not after the quarter of an hour TCP allows itself."""
READERS = 40
"""Connections beyond the five that are kept open: more than the threads asyncio gives to blocking calls."""
PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit returns after fsync: an acknowledged row survives power loss
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16000",
    "PRAGMA temp_store = MEMORY",
)
AGAIN = "; nothing was written, repeat the write"
LOCKED = ("is locked by another process", "stop the other service or tool that has it open" + AGAIN)
FULL = ("has no room: the disk is full", "free space on that disk or shorten the retention" + AGAIN)
READ_ONLY = ("is read-only", "give the service's user write permission on it and its folder" + AGAIN)
CORRUPT = ("is corrupt", "stop the service, keep a copy, restore a backup or run `sqlite3 FILE .recover`")
DISK = ("cannot be read or written: input/output error", "check the disk and its free space" + AGAIN)
NOT_OURS = ("is not a database", "name another file, or move this one away to begin anew")
NO_FILE = ("cannot be opened", "make its folder exist and writable for the service's user")
NO_ANSWER = ("does not answer", "start the server, or mend host and port in the URL" + AGAIN)
NO_ENTRY = ("refuses this user", "mend user and password in the URL, or grant the user the rights")
NO_DATABASE = ("does not exist", "create it, or mend its name in the URL")
REMEDIES = (
    ("SQLITE_BUSY", LOCKED),
    ("SQLITE_LOCKED", LOCKED),
    ("SQLITE_FULL", FULL),
    ("SQLITE_READONLY", READ_ONLY),
    ("SQLITE_NOTADB", NOT_OURS),
    ("SQLITE_CORRUPT", CORRUPT),
    ("SQLITE_CANTOPEN", NO_FILE),
    ("SQLITE_IOERR", DISK),
    ("53100", FULL),
    ("55P03", LOCKED),
    ("40", LOCKED),
    ("25006", READ_ONLY),
    ("42501", NO_ENTRY),
    ("28", NO_ENTRY),
    ("3D000", NO_DATABASE),
    ("58030", DISK),
    ("XX00", CORRUPT),
    ("08", NO_ANSWER),
    ("57P", NO_ANSWER),
)
"""Beginning of SQLite's error name or PostgreSQL's SQLSTATE: what is the matter, what to do."""


class Database:
    """One SQLite file or PostgreSQL database: many readers, one writer at a time."""

    def __init__(self, engine: sa.Engine, *, shown: str, in_memory: bool) -> None:
        self.engine = engine
        self.shown = shown
        self.is_sqlite = engine.dialect.name == "sqlite"
        # SQLite reads a snapshot anyway; PostgreSQL would take a new one for each query
        self._readers = (
            engine if self.is_sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._driver_errors = (SQLAlchemyError, engine.dialect.loaded_dbapi.Error)
        self.known = Known()
        self._write_lock = threading.RLock()
        self.in_memory = in_memory

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a snapshot to read from: every query in the block sees the same instant."""
        # one connection is all a database in memory has: readers queue with the writers there
        with (
            self._write_lock if self.in_memory else nullcontext(),
            self.translating(),
            self._readers.connect() as conn,
        ):
            yield conn

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction: committed and on disk when the block ends, undone when it raises."""
        with self._write_lock:
            try:
                with (
                    self.translating(),
                    self.engine.connect().execution_options(ems_write=True) as conn,
                    conn.begin(),
                ):
                    yield conn
            except BaseException:
                self.known.forget()
                raise

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn what a driver raises into a `StoreError` that names file and remedy."""
        try:
            yield
        except self._driver_errors as error:
            raise refusal(error, self.shown) from None
        except zlib.error as error:
            raise StoreError(f"{self.shown} {CORRUPT[0]} (packed value: {error}); {CORRUPT[1]}") from None

    def size_bytes(self) -> int:
        """Return what it takes on disk [byte]."""
        with self.reading() as conn:
            if not self.is_sqlite:
                return int(conn.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)
            pages, page_bytes = (
                int(conn.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "page_size")
            )
        log = Path(f"{self.shown}-wal")
        return pages * page_bytes + (log.stat().st_size if not self.in_memory and log.exists() else 0)

    def give_back(self, pages: int) -> None:
        """Return unused pages of a SQLite file to the file system."""
        with self._write_lock, self.translating(), self.engine.connect() as conn:
            conn.rollback()
            # each step of this statement frees one page, and only a script is stepped to its end
            conn.connection.cursor().executescript(f"PRAGMA incremental_vacuum({pages})").close()

    def insert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        """Return the dialect's insert, which knows `ON CONFLICT`."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)


def connect(url: str) -> Database:
    """Return a database for a URL without touching it yet."""
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        elif parsed.get_backend_name() != "sqlite":
            raise StoreError(
                f"{parsed.render_as_string()}: no such kind of database; write sqlite:///FILE or postgresql://..."
            )
        in_memory = parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:")
        options: dict[str, Any] = {"poolclass": StaticPool} if in_memory else {"max_overflow": READERS}
        if parsed.get_backend_name() == "postgresql":
            options |= {"pool_pre_ping": True, "connect_args": SERVER_WIRE}
        else:
            options["connect_args"] = {"check_same_thread": False, "timeout": BUSY_S}
        engine = sa.create_engine(parsed, **options)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise StoreError(
            f"{url}: not a database URL; write sqlite:///FILE or postgresql://user@host/name"
        ) from None
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{parsed.render_as_string()}: {error.name} is not installed; install ems[postgres]"
        ) from None
    shown = (
        parsed.database if engine.dialect.name == "sqlite" and parsed.database else parsed.render_as_string()
    )
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    return Database(engine, shown=shown, in_memory=in_memory)


def _prepare_sqlite(engine: sa.Engine) -> None:
    """Let SQLAlchemy, not the driver, begin transactions: a write takes its lock at once and never upgrades later."""

    @sa.event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            # only takes on an empty file, and takes a lock: pruned pages can be given back later
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL").close()
        for pragma in PRAGMAS:
            connection.execute(pragma).close()

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        write = conn.get_execution_options().get("ems_write", False)
        conn.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def refusal(error: Exception, shown: str) -> StoreError:
    """Return what a person can act on."""
    driver = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(driver, "sqlite_errorname", None) or getattr(driver, "sqlstate", None)
    # psycopg knows no SQLSTATE as long as nobody answered
    if code is None and isinstance(error, OperationalError):
        code = "08"
    says = str(driver).strip().splitlines()[0]
    for beginning, (problem, remedy) in REMEDIES:
        if code is not None and code.startswith(beginning):
            return StoreError(f"{shown} {problem} ({says}); {remedy}")
    return StoreError(f"{shown}: the database refused ({says}); nothing was written")
