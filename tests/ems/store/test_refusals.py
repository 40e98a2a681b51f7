"""What can go wrong says file and remedy, loses nothing, and can be repeated."""

import sqlite3
from pathlib import Path

import pytest

from ems.errors import StoreError
from ems.setpoints import SetpointSource
from ems.store import Store
from ems.store import readings as reading_rows
from ems.store.database import Database
from ems.store.synthetic import Street
from tests.ems.store.conftest import AT, QUARTER, reading, sample


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ems.sqlite"


def refused(error: pytest.ExceptionInfo[StoreError], path: Path, *words: str) -> bool:
    """One line, names the file, says the words, and shows no driver behind it."""
    says = str(error.value)
    assert str(path) in says
    assert "\n" not in says
    assert error.value.__suppress_context__
    return all(word in says for word in words)


def test_a_full_disk_loses_nothing_and_the_write_can_be_repeated(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    street = Street(n_sites=3)
    first, second = street.cycle(AT), street.cycle(AT + QUARTER)
    store.save_cycle(first)
    cap_pages(store, 0)
    with pytest.raises(StoreError) as error:
        store.save_cycle(second)
    assert refused(error, path, "disk is full", "repeat the write")
    assert store.record(AT + QUARTER) is None
    assert store.samples("home00000", "meter.net_import_kw", AT + QUARTER, AT + 2 * QUARTER).samples == ()
    assert store.record(AT) is not None
    cap_pages(store, 1 << 30)
    store.save_cycle(second)
    assert store.record(AT + QUARTER) is not None
    store.close()


def cap_pages(store: Store, pages: int) -> None:
    """Let the file grow to so many pages (never below what it has)."""
    with store._database.engine.connect() as conn:
        conn.exec_driver_sql(f"PRAGMA max_page_count = {pages or 1}")


def test_what_a_failed_write_had_noted_is_written_again(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    failing = [reading("a", x=sample(1.0)), reading("a", x=sample(1.0))]
    with pytest.raises(ZeroDivisionError), store._database.writing() as conn:
        reading_rows.insert(conn, store._database, failing[:1], AT)
        raise ZeroDivisionError
    assert store.latest_samples(["a"]) == {}
    store.save_readings(failing[:1], AT)
    assert store.latest_samples(["a"])["a"]["x"].value == 1.0
    store.close()


def test_a_locked_file_is_refused_and_the_write_can_be_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ems.store.database.PRAGMAS", ("PRAGMA busy_timeout = 50",))
    store = Store.open(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as error:
        store.save_readings([reading(x=sample(1.0))], AT)
    assert refused(error, path, "locked by another process", "repeat the write")
    other.execute("ROLLBACK")
    other.close()
    store.save_readings([reading(x=sample(1.0))], AT)
    assert store.latest_samples(["a"])["a"]["x"].value == 1.0
    store.close()


def test_readers_do_not_wait_for_a_writer_elsewhere(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    store.save_readings([reading(x=sample(1.0))], AT)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.latest_samples(["a"])["a"]["x"].value == 1.0
    other.execute("ROLLBACK")
    other.close()
    store.close()


def test_a_file_that_may_only_be_read_can_be_read(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    store.save_readings([reading(x=sample(1.0))], AT)
    store.close()
    reader = Store.open(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert reader.latest_samples(["a"])["a"]["x"].value == 1.0
    with pytest.raises(StoreError) as error:
        reader.save_readings([reading(x=sample(2.0))], AT + QUARTER)
    assert refused(error, path, "read-only", "write permission")
    reader.close()


def test_a_file_of_something_else_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"site: home01\n" * 1000)
    before = path.read_bytes()
    with pytest.raises(StoreError) as error:
        Store.open(f"sqlite:///{path}")
    assert refused(error, path, "not a database", "move this one away")
    assert path.read_bytes() == before


def test_a_corrupt_file_is_refused_with_the_way_out(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    street = Street(n_sites=3)
    for i in range(5):
        store.save_readings(street.readings(AT + i * QUARTER), AT + i * QUARTER)
        store.save_setpoints(*street.setpoints(AT + i * QUARTER, SetpointSource.PLAN))
    store.close()
    whole = bytearray(path.read_bytes())
    whole[4096:] = b"\xa5" * (len(whole) - 4096)
    path.write_bytes(whole)
    with pytest.raises(StoreError) as error:
        Store.open(f"sqlite:///{path}").latest_samples(["home00000"])
    assert refused(error, path, "corrupt", "restore a backup")


def test_a_packed_value_that_was_spoilt_is_corruption_not_a_traceback(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    store.save_readings([reading(x=sample(1.0))], AT)
    with store._database.writing() as conn:
        conn.exec_driver_sql("UPDATE readings SET body = x'00112233'")
    for ask in (lambda: store.latest_samples(["a"]), lambda: store.samples("a", "x", AT, AT + QUARTER)):
        with pytest.raises(StoreError) as error:
            ask()
        assert refused(error, path, "corrupt", "restore a backup")
    store.close()


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "ems.sqlite"
    with pytest.raises(StoreError) as error:
        Store.open(f"sqlite:///{path}")
    assert refused(error, path, "cannot be opened", "folder")


@pytest.mark.parametrize("url", ["ems.sqlite", "mysql://host/ems", "postgresql://host:port/x", ""])
def test_a_url_of_no_database_says_what_to_write(url: str) -> None:
    with pytest.raises(StoreError, match=r"write sqlite:///FILE or postgresql://"):
        Store.open(url)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with pytest.raises(StoreError, match="does not answer") as error:
        Store.open("postgresql://ems:hush-hush@127.0.0.1:1/ems")
    assert "hush-hush" not in str(error.value)
    assert "127.0.0.1:1" in str(error.value)


@pytest.mark.service
def test_a_database_that_does_not_exist_is_named() -> None:
    with pytest.raises(StoreError, match="does not exist"):
        Store.open("postgresql://postgres@127.0.0.1:5432/ems_never_made")


def test_a_closed_store_can_be_told_from_a_broken_one(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    store.close()
    store.close()
    assert isinstance(store._database, Database)
