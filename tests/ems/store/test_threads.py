"""Many threads, one store: nothing is lost, readers see whole passes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

from ems.store import Store
from ems.store import readings as reading_rows
from tests.ems.store.conftest import AT, reading, sample

SITES = ("a", "b", "c")


def test_a_store_in_memory_serves_many_threads_too() -> None:
    memory = Store.open("sqlite://")
    test_writers_in_many_threads_lose_nothing(memory)
    memory.close()


def test_more_readers_than_kept_connections_are_served(store: Store) -> None:
    store.save_readings([reading("a", x=sample(1.0))], AT)
    together = Barrier(30)

    def look(_: int) -> float | None:
        with store._database.reading() as conn:
            together.wait(timeout=20)
            return reading_rows.latest(conn, ["a"])["a"]["x"].value

    with ThreadPoolExecutor(30) as pool:
        assert set(pool.map(look, range(30))) == {1.0}


def test_writers_in_many_threads_lose_nothing(store: Store) -> None:
    def write(i: int) -> None:
        store.save_readings(
            [reading(site_id, x=sample(float(i))) for site_id in SITES], AT + timedelta(seconds=i)
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    for site_id in SITES:
        found = store.samples(site_id, "x", AT, AT + timedelta(seconds=200)).samples
        assert [s.value for s in found] == [float(i) for i in range(200)]


def test_a_reader_sees_all_of_a_pass_or_none(store: Store) -> None:
    def write(i: int) -> None:
        store.save_readings(
            [reading(site_id, x=sample(float(i))) for site_id in SITES], AT + timedelta(seconds=i)
        )

    def look(_: int) -> set[float | None]:
        return {samples["x"].value for samples in store.latest_samples(SITES).values()}

    write(0)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, i) for i in range(1, 60)]
        seen = list(pool.map(look, range(60)))
        for done in writes:
            done.result()
    assert all(len(values) == 1 for values in seen)
