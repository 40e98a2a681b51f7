"""A cycle comes back as it was, once, and after a restart."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from ems.codec import pack, to_json
from ems.cycle import CycleRecord
from ems.errors import StoreError
from ems.plan import PlanSource
from ems.store import Store
from ems.store.synthetic import Street
from tests.ems.store.conftest import AT, QUARTER


def same(found: CycleRecord | None, kept: CycleRecord) -> bool:
    """Tell whether two records are the same to the last bit."""
    return found is not None and to_json(found) == to_json(kept)


def test_a_record_comes_back_to_the_last_bit(store: Store) -> None:
    street = Street(n_sites=3)
    first, second = street.cycle(AT), street.cycle(AT + QUARTER)
    store.save_cycle(first)
    store.save_cycle(second)
    assert same(store.record(AT), first)
    assert same(store.record(AT + QUARTER), second)
    assert second.previous[0] is not None
    assert same(store.latest_record(), second)
    assert store.record(AT + 2 * QUARTER) is None


def test_an_empty_store_has_no_latest_record(store: Store) -> None:
    assert store.latest_record() is None
    assert store.latest_plan("home00000") is None
    assert store.cycles(AT, AT + QUARTER) == ()


def test_a_cycle_written_twice_is_there_once(store: Store) -> None:
    record = Street(n_sites=2).cycle(AT)
    store.save_cycle(record)
    once = [rows_of(store, name) for name in TABLES]
    store.save_cycle(record)
    assert [rows_of(store, name) for name in TABLES] == once
    assert all(rows for rows in once)


TABLES = (
    "readings",
    "forecasts",
    "plans",
    "records",
    "cycles",
    "setpoints",
    "deliveries",
    "accounts",
    "edges",
)


def rows_of(store: Store, table: str) -> list[tuple[object, ...]]:
    """Everything in a table, in order."""
    with store._database.reading() as conn:
        return sorted((tuple(row) for row in conn.execute(sa.text(f"SELECT * FROM {table}"))), key=repr)


def test_a_cycle_run_again_replaces_plan_and_record(store: Store) -> None:
    first = Street(n_sites=2, seed=1).cycle(AT)
    again = Street(n_sites=2, seed=2).cycle(AT)
    store.save_cycle(first)
    # its previous plans are the ones that are about to be replaced in the table
    again = replace(again, previous=first.plans, missed=1)
    store.save_cycle(again)
    assert same(store.record(AT), again)
    assert [row.missed for row in store.cycles(AT, AT + QUARTER)] == [1]


def test_after_a_restart_the_chain_of_plans_goes_on(url: str) -> None:
    street = Street(n_sites=2)
    before = Store.open(url)
    before.save_cycle(street.cycle(AT))
    before.close()
    after = Store.open(url)
    found = after.latest_record()
    assert found is not None
    second = replace(street.cycle(AT + QUARTER), previous=found.plans)
    after.save_cycle(second)
    third = street.cycle(AT + 2 * QUARTER)
    after.save_cycle(replace(third, previous=second.plans))
    assert same(after.record(AT + QUARTER), second)
    after.close()


def test_a_previous_plan_of_unknown_origin_is_kept_with_the_record(store: Store) -> None:
    elsewhere = Street(n_sites=2, seed=5).cycle(AT - QUARTER)
    record = replace(Street(n_sites=2).cycle(AT), previous=(elsewhere.plans[0], None))
    store.save_cycle(record)
    assert same(store.record(AT), record)


def test_a_cycle_row_counts_fallbacks_and_troubles(store: Store) -> None:
    record = Street(n_sites=3).cycle(AT)
    rule = replace(record.plans[1], source=PlanSource.RULE, cause="no state of charge")
    lost = replace(record.snapshot.sites[2], troubles={"meter": "timeout", "inverter": "timeout"})
    record = replace(
        record,
        plans=(record.plans[0], rule, record.plans[2]),
        snapshot=replace(record.snapshot, sites=(*record.snapshot.sites[:2], lost)),
        missed=2,
        overlapped=1,
    )
    store.save_cycle(record)
    (row,) = store.cycles(AT, AT + QUARTER)
    assert (row.at, row.n_sites, row.n_fallback, row.n_troubles, row.missed, row.overlapped) == (
        AT,
        3,
        1,
        2,
        2,
        1,
    )


def test_cycles_are_the_newest_of_the_span_oldest_first(store: Store) -> None:
    street = Street(n_sites=1)
    for i in range(4):
        store.save_cycle(street.cycle(AT + i * QUARTER))
    found = store.cycles(AT, AT + 3 * QUARTER, limit=2)
    assert [row.at for row in found] == [AT + QUARTER, AT + 2 * QUARTER]


def test_a_record_of_another_version_is_named_and_stepped_over(store: Store) -> None:
    street = Street(n_sites=1)
    readable = street.cycle(AT)
    store.save_cycle(readable)
    store.save_cycle(street.cycle(AT + QUARTER))
    with store._database.writing() as conn:
        conn.execute(
            sa.text("UPDATE records SET body = :body WHERE at_ms = :at AND site_id <> ''"),
            {"body": pack(readable.edges[0]), "at": int((AT + QUARTER).timestamp() * 1000)},
        )
    with pytest.raises(StoreError, match=r"2026-03-01T12:15:00.*other records"):
        store.record(AT + QUARTER)
    assert same(store.latest_record(), readable)
