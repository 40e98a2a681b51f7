from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from forecasting import BrokenSeries, Session, SiteContext, VehicleForecaster

SEOUL = ZoneInfo("Asia/Seoul")
CONTEXT = SiteContext(time_zone="Asia/Seoul", country="KR")
FIRST = datetime(2025, 3, 3, tzinfo=SEOUL)  # a Monday


def commuter(days: int, seed: int = 1) -> list[Session]:
    """Home at about 18:30, gone at about 07:30 on weekdays; at home all weekend."""
    rng = np.random.default_rng(seed)
    sessions = []
    for day in range(days):
        if (FIRST + timedelta(days=day)).weekday() >= 5:
            continue
        arrive = FIRST + timedelta(days=day, hours=18.5 + 0.4 * rng.standard_normal())
        nights = 3 if arrive.weekday() == 4 else 1
        leave = FIRST + timedelta(days=day + nights, hours=7.5 + 0.3 * rng.standard_normal())
        sessions.append(Session(plug_in_at=arrive, plug_out_at=leave, energy_kwh=10.0 + rng.random()))
    return sessions


def test_a_commuter_is_learned() -> None:
    issued_at = FIRST + timedelta(days=58, hours=12)  # a Wednesday noon
    made = VehicleForecaster(CONTEXT).fit(commuter(56)).predict(issued_at, 96)
    hour = 12.0 + 0.25 * np.arange(96)
    assert made.plugged_in_prob[(hour > 13) & (hour < 16)].max() < 0.2
    assert made.plugged_in_prob[(hour > 21) & (hour < 29)].min() > 0.8
    assert made.arrival_h[4] == pytest.approx(6.5, abs=0.75)
    assert np.isnan(made.departure_h).all()
    assert made.energy_kwh[4] == pytest.approx(10.5, abs=0.6)


def test_plugged_in_now_says_when_it_leaves() -> None:
    sessions = [s for s in commuter(60) if s.plug_in_at < FIRST + timedelta(days=57, hours=22)]
    sessions[-1] = Session(plug_in_at=sessions[-1].plug_in_at, plug_out_at=None, energy_kwh=0.0)
    issued_at = FIRST + timedelta(days=57, hours=22)  # Tuesday night
    made = VehicleForecaster(CONTEXT).fit(sessions).predict(issued_at, 96)
    assert made.plugged_in_prob[0] > 0.9
    assert made.departure_h[4] == pytest.approx(9.5, abs=0.75)
    assert (np.diff(made.departure_h) >= 0).all()
    assert made.arrival_h[4] == pytest.approx(20.5, abs=1.0)


def test_the_weekend_is_not_a_weekday() -> None:
    model = VehicleForecaster(CONTEXT).fit(commuter(110))
    friday_night = model.predict(FIRST + timedelta(days=109, hours=22), 48)
    thursday_night = model.predict(FIRST + timedelta(days=108, hours=22), 48)
    # 08:00 to 10:00 of the next morning
    assert friday_night.plugged_in_prob[42:].mean() > thursday_night.plugged_in_prob[42:].mean() + 0.2


def test_the_future_of_the_record_is_not_looked_at() -> None:
    issued_at = FIRST + timedelta(days=40, hours=12)
    whole = VehicleForecaster(CONTEXT).fit(commuter(80)).predict(issued_at, 96)
    known = VehicleForecaster(CONTEXT).fit([s for s in commuter(80) if s.plug_in_at <= issued_at])
    assert np.array_equal(whole.plugged_in_prob, known.predict(issued_at, 96).plugged_in_prob)


def test_a_new_vehicle_has_a_usual_week() -> None:
    made = VehicleForecaster(CONTEXT).fit([]).predict(FIRST + timedelta(hours=12), 96)
    hour = 12.0 + 0.25 * np.arange(96)
    assert made.similar_days == 0.0
    assert made.plugged_in_prob[(hour > 24) & (hour < 29)].mean() > 0.6
    assert made.plugged_in_prob[hour < 15].mean() < 0.4
    assert np.isfinite(made.energy_kwh).all()


def test_a_forgotten_plug_out_is_not_a_stay_of_weeks() -> None:
    sessions = [Session(plug_in_at=FIRST, plug_out_at=None, energy_kwh=5.0)]
    model = VehicleForecaster(CONTEXT).fit(sessions)
    assert np.isfinite(model.predict(FIRST + timedelta(days=2), 96).departure_h).all()
    assert np.isnan(model.predict(FIRST + timedelta(days=20), 96).departure_h).all()


def test_impossible_sessions_are_refused_by_field() -> None:
    with pytest.raises(BrokenSeries, match="plug_out_at"):
        Session(plug_in_at=FIRST, plug_out_at=FIRST - timedelta(hours=1), energy_kwh=1.0)
    with pytest.raises(BrokenSeries, match="plug_in_at"):
        Session(plug_in_at=datetime(2025, 1, 1), plug_out_at=None, energy_kwh=1.0)  # noqa: DTZ001
