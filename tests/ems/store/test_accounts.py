"""Accounts: the better value stays, sums over local days, columns for the forecasters."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from ems.clock import day_edges
from ems.readings import Quality
from ems.store import Store
from ems.store import accounts as account_rows
from tests.ems.store.conftest import AT, QUARTER, account

NAN = float("nan")


def keep(store: Store, *accounts) -> None:
    """Keep accounts the way a cycle does."""
    with store._database.writing() as conn:
        account_rows.insert(conn, store._database, accounts)


def test_an_account_comes_back_as_it_was(store: Store) -> None:
    full = account(curtailed=True)
    unknown = account(AT + QUARTER, load_kwh=None, cost=None, cost_idle=None, quality=Quality.BAD)
    keep(store, full, unknown)
    assert store.accounts("a", AT, AT + timedelta(hours=1)) == (full, unknown)
    assert store.accounts("a", AT, AT + QUARTER) == (full,)
    assert store.accounts("b", AT, AT + QUARTER) == ()


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        pytest.param(account(), account(load_kwh=9.0), 0, id="equal quality: the first stays"),
        pytest.param(account(quality=Quality.ESTIMATED), account(load_kwh=9.0), 1, id="better: replaced"),
        pytest.param(account(), account(load_kwh=9.0, quality=Quality.STALE), 0, id="worse: ignored"),
        pytest.param(account(cost=None), account(), 1, id="equal, but now the cost is known"),
        pytest.param(account(), account(cost=None), 0, id="equal, but the cost got lost"),
    ],
)
def test_of_two_accounts_of_one_interval_the_better_stays(store: Store, first, second, stays: int) -> None:
    keep(store, first)
    keep(store, second)
    assert store.accounts("a", AT, AT + QUARTER) == ((first, second)[stays],)


def test_sums_say_what_they_rest_on(store: Store) -> None:
    keep(
        store,
        account(load_kwh=0.5, cost=3.0, cost_idle=5.0),
        account(AT + QUARTER, load_kwh=None, cost=2.0, cost_idle=None),
        account(AT + 2 * QUARTER, load_kwh=0.25, cost=-1.0, cost_idle=0.5),
        account(site_id="b", load_kwh=None, cost=None, cost_idle=None),
    )
    a, b = store.sums(["a", "b", "c"], [AT, AT + timedelta(hours=1)])
    assert (a.site_id, a.intervals, a.intervals_priced) == ("a", 3, 2)
    assert (a.load_kwh, a.cost, a.cost_idle, a.saving) == (0.75, 4.0, 5.5, 3.5)
    assert (b.site_id, b.intervals, b.intervals_priced) == ("b", 1, 0)
    assert (b.load_kwh, b.cost, b.saving) == (None, None, None)


def test_sums_follow_local_days_of_23_and_25_hours(store: Store) -> None:
    hour = timedelta(hours=1)
    first = datetime(2026, 3, 27, tzinfo=UTC)
    keep(store, *(account(first + i * hour, hours=1.0, load_kwh=1.0) for i in range(5 * 24)))
    days = [date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30)]
    edges = [day_edges(day, "Europe/Berlin")[0] for day in days] + [day_edges(days[-1], "Europe/Berlin")[1]]
    found = store.sums(["a"], edges)
    assert [s.load_kwh for s in found] == [24.0, 23.0, 24.0]
    assert [s.start_at for s in found] == edges[:-1]


def test_sums_of_nothing_are_nothing(store: Store) -> None:
    keep(store, account())
    assert store.sums([], [AT, AT + QUARTER]) == ()
    assert store.sums(["a"], [AT]) == ()
    assert store.sums(["a"], [AT + QUARTER, AT + 2 * QUARTER]) == ()


def test_history_is_a_grid_with_gaps_left_open(store: Store) -> None:
    keep(
        store,
        account(load_kwh=0.5, pv_kwh=0.25),
        account(AT + 2 * QUARTER, load_kwh=None, pv_kwh=0.5, quality=Quality.ESTIMATED, curtailed=True),
        account(AT + QUARTER, site_id="b", load_kwh=1.0, pv_kwh=0.0),
    )
    history = store.load_pv_history(["b", "a", "c"], AT, AT + 4 * QUARTER, 900)
    assert history.site_ids == ("b", "a", "c")
    np.testing.assert_array_equal(history.load_kw, [[NAN, 4.0, NAN, NAN], [2.0, NAN, NAN, NAN], [NAN] * 4])
    np.testing.assert_array_equal(history.pv_kw, [[NAN, 0.0, NAN, NAN], [1.0, NAN, 2.0, NAN], [NAN] * 4])
    np.testing.assert_array_equal(history.quality, [[0, 3, 0, 0], [3, 0, 2, 0], [0] * 4])
    np.testing.assert_array_equal(history.curtailed, [[0] * 4, [0, 0, 1, 0], [0] * 4])


def test_history_averages_finer_accounts_only_where_all_are_there(store: Store) -> None:
    keep(
        store,
        *(account(AT + i * QUARTER, load_kwh=0.25 * i) for i in range(4)),
        *(account(AT + (4 + i) * QUARTER, load_kwh=1.0) for i in range(3)),
    )
    history = store.load_pv_history(["a"], AT, AT + timedelta(hours=2), 3600)
    np.testing.assert_allclose(history.load_kw, [[1.5, NAN]])


def test_history_spreads_a_coarser_account_over_its_cells(store: Store) -> None:
    keep(store, account(hours=1.0, load_kwh=2.0, quality=Quality.ESTIMATED))
    history = store.load_pv_history(["a"], AT, AT + timedelta(minutes=45), 900)
    np.testing.assert_allclose(history.load_kw, [[2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(history.quality, [[2, 2, 2]])


def test_history_of_nobody_or_nothing_has_its_shape(store: Store) -> None:
    assert store.load_pv_history([], AT, AT + QUARTER, 900).load_kw.shape == (0, 1)
    assert np.isnan(store.load_pv_history(["a"], AT, AT + 2 * QUARTER, 900).load_kw).all()
