"""Recorded CSV: gaps stay missing, and what is wrong is named by file, line and value."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ems.errors import DataError
from ems.recorded import read_price_series, read_recording

QUARTERS = ["2026-03-01T00:00:00+09:00", "2026-03-01T00:15:00+09:00", "2026-03-01T00:30:00+09:00"]


def written(folder: Path, *rows: str, header: str = "at,load_kw") -> Path:
    path = folder / "data.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def rows(*instants: str, value: str = "1.0") -> list[str]:
    return [f"{at},{value}" for at in instants]


def test_a_recording_is_read_on_its_grid(tmp_path: Path) -> None:
    path = written(
        tmp_path, *[f"{at},{i}.5,-{i}" for i, at in enumerate(QUARTERS)], header="at,load_kw,a.pv_kw"
    )
    found = read_recording(path)
    assert found.start_at == datetime(2026, 2, 28, 15, tzinfo=UTC)
    assert (found.step, found.count, found.filled_gaps) == (timedelta(minutes=15), 3, 0)
    assert found.columns["load_kw"].tolist() == [0.5, 1.5, 2.5]
    assert found.columns["a.pv_kw"].tolist() == [0.0, -1.0, -2.0]
    assert found.column("pv_kw") is None


def test_what_is_missing_stays_missing_and_is_never_zero(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "2026-03-01T00:00Z,1",
        "2026-03-01T00:15Z,",
        "2026-03-01T00:30Z,3",
        "2026-03-01T01:15Z,6",
    )
    found = read_recording(path)
    np.testing.assert_array_equal(found.columns["load_kw"], [1.0, np.nan, 3.0, np.nan, np.nan, 6.0])
    assert found.filled_gaps == 2


def test_a_day_of_25_hours_is_one_even_series(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        *rows(
            "2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
        ),
    )  # fmt: skip
    assert read_recording(path).filled_gaps == 0


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, *rows(QUARTERS[0]), "", *rows(*QUARTERS[1:]), "", "")
    assert read_recording(path).count == 3


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path, *[f"{at}, 1.0" for at in QUARTERS], header="\ufeffat, load_kw")
    assert read_recording(path).columns["load_kw"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param(rows("2026-03-01T00:00:00", QUARTERS[1]), "line 2: at = '2026-03-01T00:00:00' has no offset",
                     id="missing offset"),
        pytest.param(rows("2026-03-01", QUARTERS[1]), "line 2: at = '2026-03-01' has no offset", id="only a date"),
        pytest.param(rows(QUARTERS[0], QUARTERS[0]), "line 3: at = '2026-03-01T00:00:00+09:00' repeats", id="repeated"),
        pytest.param(rows(QUARTERS[0], "2026-02-28T15:00:00Z"), "line 3: at = '2026-02-28T15:00:00Z' repeats",
                     id="repeated in another offset"),
        pytest.param(rows(QUARTERS[1], QUARTERS[0]), "line 3: at = '2026-03-01T00:00:00+09:00' is before",
                     id="unordered"),
        pytest.param(rows(*QUARTERS, "2026-03-01T00:40:00+09:00"), "line 5: 600 s after the line before",
                     id="uneven step"),
        pytest.param(rows(QUARTERS[0], QUARTERS[1], "2026-03-01T00:20:00+09:00", QUARTERS[2],
                          "2026-03-01T00:45:00+09:00"), "line 4: 300 s after the line before",
                     id="one row between the grid"),
        pytest.param(rows("2026-03-01T00:00Z", "2026-03-01T02:00Z"), "step of 7200 s", id="step beyond an hour"),
        pytest.param(rows("2026-03-01T00:00:00Z", "2026-03-01T00:00:30Z"), "step of 30 s", id="step below a minute"),
        pytest.param(rows("01.03.2026 00:00", QUARTERS[1]), "line 2: at = '01.03.2026 00:00' is not ISO 8601",
                     id="local way of writing dates"),
        pytest.param(rows(QUARTERS[0], ""), "line 3: at is blank", id="instant missing"),
        pytest.param([*rows(QUARTERS[0]), f"{QUARTERS[1]},1.2 kW"], "line 3: load_kw = '1.2 kW' is not a number",
                     id="unit in the cell"),
        pytest.param([*rows(QUARTERS[0]), f'{QUARTERS[1]},"1,2"'], "line 3: load_kw = '1,2' is not a number",
                     id="decimal comma"),
        pytest.param([*rows(QUARTERS[0]), f"{QUARTERS[1]},inf"], "line 3: load_kw = 'inf' is not a number",
                     id="infinite"),
        pytest.param([*rows(QUARTERS[0]), "", f"{QUARTERS[1]},x"], "line 4: load_kw = 'x'", id="line after a blank one"),
        pytest.param([f"{at},1,2" for at in QUARTERS], "more cells than the header", id="a cell too many in every row"),
        pytest.param([*rows(QUARTERS[0]), f"{QUARTERS[1]},1,2"], "not readable as CSV", id="a cell too many in one row"),
        pytest.param(rows(QUARTERS[0]), "fewer than two rows", id="one row"),
        pytest.param([], "fewer than two rows", id="no row"),
    ],
)  # fmt: skip
def test_a_mistake_names_line_and_value(tmp_path: Path, lines: list[str], told: str) -> None:
    path = written(tmp_path, *lines)
    with pytest.raises(DataError) as caught:
        read_recording(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        pytest.param("at,load", "'load' does not end with a unit", id="no unit"),
        pytest.param("at,load_mwh", "'load_mwh' does not end with a unit", id="unit not known"),
        pytest.param("at,a.load_kw.raw", "does not end with a unit", id="unit not at the end"),
        pytest.param("time,load_kw", "the first column is 'time'", id="instants elsewhere"),
        pytest.param("at;load_kw", "the first column is 'at;load_kw'", id="semicolons"),
        pytest.param("at", "add a column", id="nothing beside the instants"),
    ],
)
def test_a_header_must_say_what_is_in_it(tmp_path: Path, header: str, told: str) -> None:
    cells = 1 if header in ("at", "at;load_kw") else 2
    path = written(tmp_path, *[",".join([at, "1"][:cells]) for at in QUARTERS], header=header)
    with pytest.raises(DataError, match=r"data\.csv") as caught:
        read_recording(path)
    assert told in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "binary"])
def test_a_file_that_is_no_csv_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.csv"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else bytes(range(256)) * 4)
    with pytest.raises(DataError, match=r"data\.csv"):
        read_recording(path)


def test_prices_are_read_by_column_and_blanks_are_not_prices(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "2026-03-01T00:00Z,0.1,9",
        "2026-03-01T01:00Z,0.2,9",
        "2026-03-01T02:00Z,,9",
        header="at,per_kwh,other_per_kwh",
    )
    series = read_price_series(path, "per_kwh")
    assert series.per_kwh.tolist() == [0.1, 0.2]
    assert series.step_s == 3600
    with pytest.raises(DataError, match="no column 'spot_per_kwh'; it has at, per_kwh, other_per_kwh"):
        read_price_series(path, "spot_per_kwh")


def test_a_price_column_without_a_price_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, *rows(*QUARTERS, value=""), header="at,per_kwh")
    with pytest.raises(DataError, match="holds no price"):
        read_price_series(path, "per_kwh")
