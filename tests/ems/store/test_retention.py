"""Old readings become means, everything ends some day, and the file stays bounded."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from ems.readings import Quality, Sample, Unit
from ems.setpoints import SetpointSource
from ems.store import Retention, Store
from ems.store.packing import layout_of, pack_samples
from ems.store.retention import interval_means
from ems.store.synthetic import Street
from tests.ems.store.conftest import AT, QUARTER, reading, sample

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SHORT = Retention(
    readings_days=1, means_days=4, accounts_days=6, forecasts_days=1, plans_days=1, records_days=0.5,
    setpoints_days=2, cycles_days=6, edges_days=6, orders_days=6,
)  # fmt: skip


def means_of(passes: Sequence[Mapping[str, Sample]]) -> dict[str, Sample]:
    """Means of passes as they lie in the table."""
    packed = [(layout_of(samples), pack_samples(tuple(samples.values()), 0)) for samples in passes]
    return interval_means(packed, AT)


def test_passes_over_different_devices_make_one_mean() -> None:
    means = means_of(
        [{"a": sample(1.0), "b": sample(10.0)}, {"b": sample(20.0)}, {"c": sample(7.0), "a": sample(3.0)}]
    )
    assert {key: found.value for key, found in means.items()} == {"a": 2.0, "b": 15.0, "c": 7.0}


def test_a_mean_is_made_of_usable_values_and_a_counter_keeps_its_last() -> None:
    passes = [
        {"kw": sample(1.0), "kwh": sample(10.0, unit=Unit.KWH), "gone": sample(None, quality=Quality.BAD)},
        {"kw": sample(50.0, quality=Quality.BAD), "kwh": sample(11.0, unit=Unit.KWH)},
        {
            "kw": sample(2.0, quality=Quality.ESTIMATED),
            "kwh": sample(None, unit=Unit.KWH, quality=Quality.BAD),
        },
    ]
    means = means_of(passes)
    assert (means["kw"].value, means["kw"].quality) == (1.5, Quality.ESTIMATED)
    assert (means["kwh"].value, means["kwh"].quality) == (11.0, Quality.GOOD)
    assert (means["gone"].value, means["gone"].quality) == (None, Quality.BAD)
    assert means["gone"].cause == "out of range"


def test_old_readings_become_means_and_a_series_reads_on_without_a_seam(store: Store) -> None:
    for i in range(45):
        store.save_readings([reading(x=sample(float(i)))], AT + i * MINUTE)
    pruned = store.prune(AT + 30 * MINUTE + 14 * DAY, Retention())
    assert (pruned.readings, pruned.means_made) == (30, 2)
    series = store.samples("a", "x", AT, AT + DAY)
    assert [(s.value, s.span_s) for s in series.samples[:3]] == [(7.0, 900), (22.0, 900), (30.0, 0)]
    assert [s.at for s in series.samples[:3]] == [AT, AT + QUARTER, AT + 2 * QUARTER]
    assert len(series.samples) == 2 + 15
    again = store.prune(AT + 30 * MINUTE + 14 * DAY, Retention())
    assert (again.readings, again.means_made, again.means) == (0, 0, 0)


def test_only_whole_intervals_are_averaged(store: Store) -> None:
    for i in range(30):
        store.save_readings([reading(x=sample(float(i)))], AT + i * MINUTE)
    store.prune(AT + 20 * MINUTE + 14 * DAY, Retention())
    series = store.samples("a", "x", AT, AT + DAY)
    assert [s.span_s for s in series.samples] == [900] + [0] * 15


def test_more_readings_than_fit_one_transaction_are_averaged_alike(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ems.store.retention.PASSES_AT_ONCE", 20)
    for i in range(60):
        store.save_readings([reading(x=sample(float(i)))], AT + i * MINUTE)
    pruned = store.prune(AT + 20 * DAY, Retention())
    assert (pruned.readings, pruned.means_made) == (60, 4)
    assert [s.value for s in store.samples("a", "x", AT, AT + DAY).samples] == [7.0, 22.0, 37.0, 52.0]


def test_a_late_reading_does_not_replace_a_mean_of_many(store: Store) -> None:
    for i in range(15):
        store.save_readings([reading(x=sample(float(i)))], AT + i * MINUTE)
    store.prune(AT + 20 * DAY, Retention())
    store.save_readings([reading(x=sample(99.0))], AT + MINUTE)
    store.prune(AT + 20 * DAY, Retention())
    assert [s.value for s in store.samples("a", "x", AT, AT + DAY).samples] == [7.0]


def test_each_kind_ends_at_its_own_time(store: Store) -> None:
    street = Street(n_sites=2)
    for day in range(5):
        store.save_cycle(street.cycle(AT + day * DAY))
    home, end = "home00000", AT + 30 * DAY
    store.prune(AT + 4 * DAY + MINUTE, SHORT)
    assert [row.at for row in store.cycles(AT, end)] == [AT + day * DAY for day in range(5)]
    assert len(store.accounts(home, AT - DAY, end)) == 5
    assert [s.setpoint.valid_from for s in store.setpoints(home, AT, end)] == [AT + 3 * DAY, AT + 4 * DAY]
    assert store.forecast(home, "load", AT + 3 * DAY) is None
    assert store.forecast(home, "load", AT + 4 * DAY) is not None
    assert store.record(AT + 3 * DAY) is None
    assert store.record(AT + 4 * DAY) is not None
    kept = store.samples(home, "meter.net_import_kw", AT, end).samples
    assert [(s.at - AT, s.span_s) for s in kept] == [(DAY, 900), (2 * DAY, 900), (3 * DAY, 0), (4 * DAY, 0)]
    store.prune(AT + 60 * DAY, SHORT)
    assert store.cycles(AT, end) == ()
    assert store.accounts(home, AT - DAY, end) == ()
    assert store.latest_plan(home) is None
    assert store.edges(None, AT) == ()


def test_a_record_never_outlives_the_plans_it_names(store: Store) -> None:
    street = Street(n_sites=1)
    for i in range(4):
        store.save_cycle(street.cycle(AT + i * QUARTER))
    store.prune(AT + 3 * DAY + 2 * QUARTER, Retention(records_days=3, plans_days=0))
    assert store.record(AT + QUARTER) is None
    kept = store.record(AT + 2 * QUARTER)
    assert kept is not None
    assert kept.previous[0] is not None
    assert kept.previous[0].issued_at == AT + QUARTER


def live_for(store: Store, street: Street, first_day: int, days: int) -> None:
    """Let a street run: a cycle, a pass and a setpoint every other hour, pruned once a day."""
    for hour in range(24 * first_day, 24 * (first_day + days), 2):
        at = AT + timedelta(hours=hour)
        store.save_cycle(street.cycle(at))
        store.save_readings(street.readings(at + 30 * MINUTE), at + 30 * MINUTE)
        store.save_setpoints(*street.setpoints(at + 30 * MINUTE, SetpointSource.FAST_LOOP))
        if hour % 24 == 22:
            store.prune(at, SHORT)


def test_once_every_retention_has_run_its_length_the_file_grows_no_more(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    street = Street(n_sites=2)
    live_for(store, street, 0, 8)
    settled = file_bytes(store)
    live_for(store, street, 8, 8)
    assert file_bytes(store) <= 1.05 * settled
    store.close()


def test_a_shorter_retention_gives_space_back(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    street = Street(n_sites=4)
    for i in range(40):
        store.save_cycle(street.cycle(AT + i * QUARTER))
    before = file_bytes(store)
    pruned = store.prune(AT + 30 * DAY, SHORT)
    assert pruned.freed_bytes > 0.5 * before
    assert file_bytes(store) < 0.5 * before
    store.close()


def file_bytes(store: Store) -> int:
    """Size of the file itself, with the log written back."""
    with store._database.engine.connect() as conn:
        conn.exec_driver_sql("ROLLBACK")
        conn.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        conn.exec_driver_sql("BEGIN")
    return Path(store._database.shown).stat().st_size
