from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from forecasting.calendars import day_matrix, is_holiday, local_grid

H = timedelta(hours=1)


@pytest.mark.parametrize(
    ("zone", "start", "hours_in_second_day"),
    [
        pytest.param("Europe/Paris", datetime(2025, 3, 28, 23, tzinfo=UTC), 23, id="spring: 23 hours"),
        pytest.param("Europe/Paris", datetime(2025, 10, 24, 22, tzinfo=UTC), 25, id="autumn: 25 hours"),
        pytest.param("Asia/Seoul", datetime(2025, 3, 28, 15, tzinfo=UTC), 24, id="no clock change"),
        pytest.param(
            "Australia/Lord_Howe", datetime(2025, 4, 4, 13, tzinfo=UTC), 25, id="24.5 hours: 25 starts"
        ),
    ],
)
def test_local_days_have_their_length(zone: str, start: datetime, hours_in_second_day: int) -> None:
    grid = local_grid(start, H, 75, zone)
    assert grid.slot[0] == 0
    assert int((grid.day == grid.day[0] + 1).sum()) == hours_in_second_day


def test_offset_with_minutes() -> None:
    grid = local_grid(datetime(2025, 1, 1, tzinfo=UTC), timedelta(minutes=15), 4, "Asia/Kolkata")
    assert grid.slot.tolist() == [22, 23, 24, 25]


def test_repeated_hour_is_averaged_and_missing_hour_is_a_gap() -> None:
    start = datetime(2025, 10, 24, 22, tzinfo=UTC)
    matrix, _ = day_matrix(np.arange(49.0)[None], local_grid(start, H, 49, "Europe/Paris"))
    assert matrix.shape == (1, 2, 24)
    assert matrix[0, 1, 1] == 25.0
    assert matrix[0, 1, 2] == 26.5
    assert matrix[0, 1, 3] == 28.0
    start = datetime(2025, 3, 28, 23, tzinfo=UTC)
    matrix, _ = day_matrix(np.arange(47.0)[None], local_grid(start, H, 47, "Europe/Paris"))
    assert np.isnan(matrix[0, 1, 2])
    assert matrix[0, 1, 3] == 26.0


def test_a_year_from_winter_to_winter_keeps_the_summer_on_the_wall_clock() -> None:
    start = datetime(2024, 12, 31, 23, tzinfo=UTC)
    grid = local_grid(start, H, 365 * 24, "Europe/Paris")
    by_the_clock = (grid.slot == 12).astype(np.float64)[None]
    matrix, _ = day_matrix(by_the_clock, grid)
    assert np.flatnonzero(np.nansum(matrix, axis=(0, 1))).tolist() == [12]
    assert matrix[0, :, 12].tolist() == [1.0] * 365


def test_korean_lunar_days_and_substitutes() -> None:
    days = np.array(
        [date(2025, 1, 29).toordinal(), date(2025, 10, 8).toordinal(), date(2025, 3, 5).toordinal()]
    )
    assert is_holiday(days, "KR").tolist() == [
        True,
        True,
        False,
    ]  # Seollal, substitute for Chuseok, Wednesday
    assert not is_holiday(days, None).any()
