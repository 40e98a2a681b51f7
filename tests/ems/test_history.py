"""The window of the recent past: slides, keeps what it knows, never invents."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.history import RecentPast
from ems.readings import Quality
from tests.ems.made import AT, STEP, STEP_S, home, measured

SITES = (home(id="a"), home(id="b"))
WINDOW = 96


def past() -> RecentPast:
    return RecentPast(SITES, step_s=STEP_S, days=1)


def test_an_interval_lands_in_its_column_as_mean_power() -> None:
    here = past()
    here.add([measured(AT, site_id="a", load_kwh=0.5, pv_kwh=0.25), measured(AT, site_id="b", load_kwh=None)])
    assert here.start_at == AT + STEP - timedelta(days=1)
    assert here.load_kw[:, -1].tolist() == pytest.approx([2.0, np.nan], nan_ok=True)
    assert here.pv_kw[0, -1] == 1.0
    assert np.isnan(here.load_kw[:, :-1]).all()
    assert here.known == 1


@pytest.mark.parametrize(
    ("quality", "trust"),
    [(Quality.GOOD, 1.0), (Quality.ESTIMATED, 0.5), (Quality.STALE, 0.0), (Quality.BAD, 0.0)],
)
def test_quality_becomes_trust(quality: Quality, trust: float) -> None:
    here = past()
    here.add([measured(AT, site_id="a", quality=quality)])
    assert here.trust[0, -1] == trust


@given(positions=st.lists(st.integers(0, 300), min_size=1, max_size=60))
def test_intervals_in_any_order_leave_the_latest_day(positions: list[int]) -> None:
    here = past()
    here.add(
        measured(AT + position * STEP, site_id="a", load_kwh=position / 4, curtailed=position % 2 == 0)
        for position in positions
    )
    last = max(positions)
    assert here.start_at + timedelta(days=1) == AT + (last + 1) * STEP
    held = {position for position in positions if position > last - WINDOW}
    for column in range(WINDOW):
        position = last - WINDOW + 1 + column
        if position in held:
            assert here.load_kw[0, column] == position
            assert here.curtailed[0, column] == (position % 2 == 0)
            assert here.trust[0, column] == 1.0
        else:
            assert np.isnan(here.load_kw[0, column])
            assert not here.curtailed[0, column]
            assert here.trust[0, column] == 0.0
    assert np.isnan(here.load_kw[1]).all()


def test_a_site_that_is_not_of_the_batch_is_passed_over() -> None:
    here = past()
    here.add([measured(AT, site_id="elsewhere")])
    assert here.known == 0


def test_sliding_on_leaves_what_is_not_known_missing() -> None:
    here = past()
    here.add([measured(AT, site_id="a", load_kwh=0.5)])
    here.slide_to(AT + 3 * STEP)
    assert here.load_kw[0, -4:].tolist() == pytest.approx([np.nan, 2.0, np.nan, np.nan], nan_ok=True)
    here.slide_to(AT)  # never back
    assert here.start_at + timedelta(days=1) == AT + 3 * STEP
    here.slide_to(AT + timedelta(days=30))
    assert here.known == 0


def columns(*values: float) -> np.ndarray:
    return np.array([values, [np.nan] * len(values)])


def test_an_overlay_fills_and_leaves_what_it_does_not_know() -> None:
    here = past()
    here.add([measured(AT, site_id="a", load_kwh=0.5, pv_kwh=0.25, quality=Quality.ESTIMATED)])
    here.overlay(AT - STEP, columns(7.0, np.nan, 9.0), columns(np.nan, np.nan, np.nan))
    assert here.load_kw[0, -3:].tolist() == [7.0, 2.0, 9.0]
    assert here.pv_kw[0, -3:].tolist() == pytest.approx([np.nan, 1.0, np.nan], nan_ok=True)
    assert here.trust[0, -3:].tolist() == [1.0, 0.5, 1.0]  # the estimate stays one
    assert here.trust[1].tolist() == [0.0] * WINDOW


def test_an_overlay_longer_than_the_window_leaves_its_end() -> None:
    here = past()
    here.overlay(AT, columns(*range(200)), columns(*range(200)))
    assert here.load_kw[0].tolist() == list(range(104, 200))
    assert here.start_at == AT + 104 * STEP


@pytest.mark.parametrize("days_old", [1.5, 2, 400])
def test_an_overlay_older_than_the_window_changes_nothing(days_old: float) -> None:
    here = past()
    here.add([measured(AT, site_id="a", load_kwh=0.5)])
    here.overlay(AT - timedelta(days=days_old), columns(7.0, 8.0), columns(7.0, 8.0))
    assert here.known == 1
    assert here.load_kw[0, -1] == 2.0
