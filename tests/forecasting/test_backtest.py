from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from forecast_series import PARIS, SEOUL, home_load

from forecasting import (
    DEFAULT_LEVELS,
    BrokenSeries,
    Forecast,
    History,
    LoadForecaster,
    Quality,
    Weather,
    backtest_report,
    backtest_svg,
    write_backtest_svg,
)
from forecasting.metrics import pinball_loss, score


class Spy:
    """Knows the truth, adds one kW, and notes what it was shown."""

    name = "spy"
    memory = timedelta(days=10)

    def __init__(self, truth: History) -> None:
        self.truth = truth
        self.fitted_until: list[datetime] = []
        self.seen_until: list[tuple[datetime, datetime]] = []

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        self.fitted_until.append(history.end_at)
        return self

    def predict(
        self,
        issued_at: datetime,
        horizon: int,
        levels: Sequence[float] = DEFAULT_LEVELS,
        *,
        recent: History | None = None,
        weather: Weather | None = None,
    ) -> Forecast:
        assert recent is not None
        self.seen_until.append((issued_at, recent.end_at))
        first = self.truth.index_of(issued_at)
        path = np.resize(self.truth.columns[0, first : first + horizon], horizon) + 1.0
        offsets = np.linspace(-2.0, 0.0, len(levels))[:, None]
        return Forecast(
            issued_at=issued_at,
            start_at=issued_at,
            step=self.truth.step,
            levels=tuple(levels),
            quantiles=path + offsets,
            mean=path,
            sources=("spy",),
            qualities=(Quality.GOOD,),
        )


def test_issues_at_local_midnight_refits_weekly_and_shows_only_the_past() -> None:
    history = home_load(PARIS, days=60, start=(2025, 3, 1))
    spy = Spy(history)
    report = backtest_report(history, {"spy": spy}, context=PARIS)
    assert report.test_days == 32
    assert {at.astimezone(PARIS.zone).hour for at, _ in spy.seen_until} == {0}
    assert all(seen <= issued for issued, seen in spy.seen_until)
    gaps = np.diff([at.timestamp() for at in spy.fitted_until]) / 86_400
    assert gaps == pytest.approx(np.full(len(gaps), 7.0), abs=0.05)
    spied = report.model("spy")
    assert spied.overall.bias == pytest.approx(1.0)
    assert spied.overall.mae == pytest.approx(0.0, abs=1e-9)
    assert spied.overall.rmse == pytest.approx(1.0)
    assert spied.overall.intervals == 32 * 24 - 1


def test_days_of_23_hours_are_issued_once_and_whole() -> None:
    history = home_load(PARIS, days=40, start=(2025, 3, 1))
    spy = Spy(history)
    backtest_report(history, {"spy": spy}, context=PARIS, warm_up_days=25)
    issues = [at for at, _ in spy.seen_until]
    lengths = {(b - a) / timedelta(hours=1) for a, b in itertools.pairwise(issues)}
    assert lengths == {23.0, 24.0}


def test_everyone_is_scored_on_the_same_intervals() -> None:
    history = home_load(days=50, sites=2)
    values = history.values.copy()
    values[0, 40 * 24 : 42 * 24] = np.nan
    holed = History(start_at=history.start_at, step=history.step, values=values)
    report = backtest_report(holed, {"load": LoadForecaster([SEOUL] * 2)}, context=SEOUL, test_days=20)
    # the two missing days, the day "yesterday" has nothing for and the two a week later
    assert {model.per_site[0].intervals for model in report.models} == {(20 - 2 - 1 - 2 - 0) * 24}
    assert {model.per_site[1].intervals for model in report.models} == {20 * 24}
    assert report.model("mean-7d").mae_ratio == 1.0
    assert report.model("mean-7d").pinball_ratio == 1.0
    assert report.model("load").mae_ratio < 1.0


def test_hourly_issues_are_scored_per_lead_and_nearer_is_better() -> None:
    rng = np.random.default_rng(3)
    history = home_load(days=120)
    walk = np.zeros(len(history))
    for index in range(1, len(walk)):
        walk[index] = 0.9 * walk[index - 1] + 0.25 * rng.standard_normal()
    history = History(start_at=history.start_at, step=history.step, values=history.values * np.exp(walk))
    report = backtest_report(
        history, {"load": LoadForecaster(SEOUL)}, context=SEOUL, test_days=14, lead_hours=(1, 4)
    )
    near, far = report.model("load").per_lead
    assert (near.from_h, near.to_h, far.to_h) == (0.0, 1.0, 4.0)
    assert near.scores.mae < far.scores.mae
    assert near.scores.mae < report.model("load").overall.mae
    assert report.model("yesterday").per_lead == ()


def test_too_short_a_history_is_refused_with_its_length() -> None:
    with pytest.raises(BrokenSeries, match=r"10\.0 days is too short"):
        backtest_report(home_load(days=10), {}, context=SEOUL)


def test_the_report_is_plain_data_and_the_chart_is_well_formed(tmp_path: Path) -> None:
    history = home_load(days=45)
    report = backtest_report(history, {"load": LoadForecaster(SEOUL)}, context=SEOUL)
    assert asdict(report)["models"][0]["name"] == "yesterday"
    path = tmp_path / "chart.svg"
    write_backtest_svg(report, path, title="Home <1> & co")
    drawn = ET.fromstring(path.read_text(encoding="utf-8"))
    text = "".join(drawn.itertext())
    assert "Home <1> & co" in text
    assert "mean-7d" in text
    assert "nan" not in backtest_svg(report, title="x").split("</title>")[1].split("polygon")[1]


def test_scores_by_hand() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    quantiles = np.array([[0.0, 2.5, 0.0], [1.0, 3.0, 0.0], [2.0, 4.0, 0.0]])
    mean = np.array([1.5, 3.0, 0.0])
    levels = (0.1, 0.5, 0.9)
    got = score(truth, quantiles, mean, levels, np.array([True, True, False]))
    assert got.mae == 0.5
    assert got.bias == 0.75
    assert got.coverage_frac == 0.5
    assert got.nmae_frac == pytest.approx(0.5 / 1.5)
    # 0.1*1, 0.5*0, 0.1*1 at the first; 0.9*0.5, 0.5*1, 0.1*2 at the second
    assert pinball_loss(truth, quantiles, levels)[:2] == pytest.approx([0.2 / 3, 1.15 / 3])


def test_the_night_does_not_count_as_covered() -> None:
    truth = np.array([0.0, 5.0])
    quantiles = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    got = score(truth, quantiles, truth, (0.1, 0.5, 0.9), np.array([True, True]))
    assert got.coverage_frac == 0.0
