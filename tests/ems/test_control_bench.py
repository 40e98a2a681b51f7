"""What the bench of control measures with: made loads, prices beside the homes, answers read off a field."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from drivers.twin import ServedHome
from ems import control_bench, step_bench
from ems.bench import figures_of
from ems.control_bench import FEE_PER_KWH, TAX
from ems.errors import DataError, EmsError
from ems.history import DAYS
from ems.recorded import Recording
from ems.step_field import LIMIT_KW, PERIOD_S, Watched, jumps_at_s


def test_a_load_put_into_jumps_keeps_its_hourly_means() -> None:
    hourly = np.repeat([0.5, 2.0, 1.0], 60)
    jumping = control_bench._jumping(hourly, np.random.default_rng(1))
    assert jumping.reshape(-1, 60).mean(axis=1) == pytest.approx([0.5, 2.0, 1.0])
    assert np.count_nonzero(np.abs(np.diff(jumping)) > 0.05) > 40


def test_dynamic_prices_carry_tax_and_fee() -> None:
    """A household pays the day-ahead price with tax and a fee, and is paid the price itself."""
    homes = control_bench._homes(None)
    dynamic = homes.recordings["dynamic"]
    spot, buy = dynamic.columns["sell_per_kwh"], dynamic.columns["buy_per_kwh"]
    assert buy == pytest.approx(TAX * spot + FEE_PER_KWH)
    assert "buy_per_kwh" not in homes.recordings["time of use"].columns, "there the site file's tariff counts"
    assert np.ptp(spot) > 0.05


def test_answers_are_read_off_what_a_home_did() -> None:
    """Jump at 100 s: the battery moves after 0.4 s, but only the second order brings the connection within its limit."""
    watched = Watched(cast(ServedHome, SimpleNamespace()))
    watched.seen = [
        (90.0, -0.8, 0.0),
        (100.4, -1.5, LIMIT_KW + 0.5),
        (101.5, -2.1, LIMIT_KW - 0.1),
        (100.0 + PERIOD_S, -9.0, 0.0),
    ]
    (answer,) = watched.answers([100.0])
    assert answer == {"answered_s": pytest.approx(0.4), "within_s": pytest.approx(1.5)}
    watched.seen = watched.seen[:1]
    assert watched.answers([100.0]) == [{"answered_s": None, "within_s": None}], (
        "no answer is not a quick one"
    )


def test_homes_jump_one_after_the_other() -> None:
    firsts = [jumps_at_s(home, 4, start_s=0.0, until_s=100.0)[0] for home in range(4)]
    assert firsts == [0.0, 10.0, 20.0, 30.0]


def test_weeks_of_a_year_begin_on_mondays_with_history_before_them() -> None:
    hours = 365 * 24
    year = Recording(
        start_at=datetime(2016, 8, 1, 7, tzinfo=UTC),
        step=timedelta(hours=1),
        columns={"load_kw": np.zeros(hours)},
        filled_gaps=0,
    )
    starts_at = control_bench._evenly_spaced(year, 7, zone="America/Los_Angeles")
    local = [at.astimezone(ZoneInfo("America/Los_Angeles")) for at in starts_at]
    assert len(set(starts_at)) == control_bench.SPANS
    assert {(at.weekday(), at.hour) for at in local} == {(0, 0)}, "also where the clocks were changed"
    assert starts_at[0] - year.start_at >= timedelta(days=DAYS)
    end_at = year.start_at + timedelta(hours=hours)
    assert end_at - timedelta(days=14) < starts_at[-1] <= end_at - timedelta(days=7)
    apart = np.diff([at.timestamp() for at in starts_at]) / timedelta(weeks=1).total_seconds()
    assert np.ptp(apart) < 1.1


def test_progress_of_parts_is_one_progress() -> None:
    told: list[int] = []
    for part in range(4):
        share = control_bench._share_of(control_bench._share_of(told.append, part // 2, 2), part % 2, 2)
        share(0)
        share(100)
    assert told == [0, 25, 25, 50, 50, 75, 75, 100]


def test_data_for_the_bench_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="citylearn2022"):
        control_bench._homes(tmp_path)
    with pytest.raises(EmsError, match="--data is for control"):
        figures_of("store", data=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)  # it waits for the next cycle to be over
def test_the_service_answers_every_jump_of_homes_on_real_sockets(tmp_path: Path) -> None:
    (found,) = step_bench.answers(tmp_path, 3, int(PERIOD_S), ready_s=60.0, through_cycle=False)
    assert len(found.answered_s) == 3
    assert (found.answered_s < step_bench.LOST_S).all(), (tmp_path / "service.log").read_text()[-2000:]
    assert (found.within_s < step_bench.LOST_S).all()
    assert 0.0 < found.look_s < step_bench.LOST_S


def test_what_does_not_get_ready_is_named_with_its_last_word(tmp_path: Path) -> None:
    (tmp_path / "service.log").write_text("one\nthe port is taken\n")
    with (
        step_bench._running(["-c", "raise SystemExit(2)"], (), tmp_path / "other.log") as process,
        pytest.raises(DataError, match="service: not ready in time: the port is taken"),
    ):
        process.wait()
        step_bench._wait_for(lambda: False, process, datetime.now(UTC), tmp_path / "service.log")
