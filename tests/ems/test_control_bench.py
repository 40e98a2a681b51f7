"""What the bench of control measures with: made loads, prices beside the homes, answers read off a field."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from drivers.twin import ServedHome
from ems import control_bench
from ems.bench import figures_of
from ems.control_bench import FEE_PER_KWH, TAX
from ems.errors import DataError, EmsError
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


def test_data_for_the_bench_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="citylearn2022"):
        control_bench._homes(tmp_path)
    with pytest.raises(EmsError, match="--data is for control"):
        figures_of("store", data=tmp_path)
