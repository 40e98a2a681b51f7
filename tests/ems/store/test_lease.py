"""The lead of a store: one process has it, it dies with its process, and it is asked for, not remembered."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from ems.errors import StoreError
from ems.store import Lease, Store
from ems.store.lease import KEY

OTHER = """
import sys
from ems.store import Store
store = Store.open(sys.argv[1])
lease = store.lease()
for line in sys.stdin:
    print(getattr(lease, line.strip())(), flush=True)
"""


@pytest.fixture
def lease(store: Store) -> Iterator[Lease]:
    """The lead as this process sees it."""
    held = store.lease()
    yield held
    held.release()


class Other:
    """Another process with the same store open."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, what: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)


@contextmanager
def another(url: str) -> Iterator[Other]:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Other(process)
        if process.poll() is None:
            process.kill()


def becomes_true(ask, seconds: float = 15.0) -> bool:
    end_s = time.monotonic() + seconds
    while not ask():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True


def test_it_belongs_to_one_process_and_passes_on_when_that_gives_it_up_or_is_killed(
    url: str, lease: Lease
) -> None:
    assert lease.take()
    assert lease.take(), "taking it twice is taking it once"
    assert not lease.awaited()
    with another(url) as other:
        assert other.ask("take") == "False"
        assert lease.awaited()

        lease.release()
        assert not lease.holds()
        assert other.ask("take") == "True"
        assert not lease.take()
        assert not lease.holds()
        assert f"process {other.process.pid}" in lease.holder()
        assert other.ask("awaited") == "True"

        # frozen is not dead: it may wake up in the middle of a write, so nobody else may begin
        os.kill(other.process.pid, signal.SIGSTOP)
        assert not lease.take()
        os.kill(other.process.pid, signal.SIGCONT)
        assert other.ask("holds") == "True"

        other.kill()
        assert becomes_true(lease.take)
        assert lease.holds()
        assert not lease.awaited()


def test_a_lock_file_that_was_removed_no_longer_counts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ems.sqlite'}"
    one, two = Store.open(url).lease(), Store.open(url).lease()
    assert one.take()
    (tmp_path / "ems.sqlite.lead").unlink()
    assert not one.holds()
    assert two.take()
    assert two.holds()
    assert not one.holds()
    assert not one.take()
    assert two.holds()
    one.release()
    two.release()


def test_two_names_of_one_file_are_one_store(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    (tmp_path / "alias.sqlite").symlink_to(tmp_path / "ems.sqlite")
    one, two = store.lease(), Store.open(f"sqlite:///{tmp_path / 'alias.sqlite'}").lease()
    assert one.take()
    assert not two.take()
    one.release()
    two.release()


def test_a_folder_that_takes_no_lock_is_named(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    (tmp_path / "ems.sqlite.lead").mkdir()
    with pytest.raises(StoreError, match=r"ems\.sqlite\.lead cannot be opened"):
        store.lease().take()


def test_a_store_in_memory_has_no_rival() -> None:
    lease = Store.open("sqlite://").lease()
    assert lease.take()
    assert lease.holds()
    assert not lease.awaited()


@pytest.mark.service
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_server_that_ends_the_session_ends_the_lead(url: str, lease: Lease) -> None:
    assert lease.take()
    with another(url) as other:
        assert other.ask("take") == "False"
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as conn:
            conn.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks "
                    "WHERE locktype = 'advisory' AND classid = :key AND objid = 1 AND granted"
                ),
                {"key": KEY},
            )
        admin.dispose()
        assert not lease.holds()
        assert becomes_true(lambda: other.ask("take") == "True")
        assert not lease.take()
