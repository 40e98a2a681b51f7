"""Vehicles: stays out of what a charger says, and what they say of the next ones and of the plan."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ems.outlook import VehicleOutlook
from ems.planning import to_problem
from ems.site import Consents, Site
from ems.state import VehicleState
from ems.vehicles_ahead import VehiclesAhead, stays_of
from forecasting import Session
from tests.ems.made import AT, STEP_S, home_with_car, outlook, site_outlook, state

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 3, 1, 15, 0, tzinfo=UTC)
"""Midnight in Seoul."""


def said(*spans: tuple[float, float, float], until_h: float, kw: float = 4.0) -> tuple[np.ndarray, ...]:
    """Minute by minute: plugged in over spans of hours, drawing `kw` until the third number of hours is over."""
    at_s = MIDNIGHT.timestamp() + 60.0 * np.arange(round(until_h * 60))
    hours = (at_s - MIDNIGHT.timestamp()) / 3600.0
    there, drawn = np.zeros(len(at_s)), np.zeros(len(at_s))
    for begin, end, charged in spans:
        there[(hours >= begin) & (hours < end)] = 1.0
        drawn[(hours >= begin) & (hours < begin + charged)] = kw
    return at_s, there, drawn


def test_stays_have_their_ends_and_their_energy() -> None:
    first, second = stays_of(*said((1.0, 3.0, 1.5), (5.0, 6.0, 0.5), until_h=8.0))
    assert (first.plug_in_at, first.plug_out_at) == (
        MIDNIGHT + timedelta(hours=1), MIDNIGHT + timedelta(hours=3),
    )  # fmt: skip
    assert first.energy_kwh == pytest.approx(6.0)
    assert second.energy_kwh == pytest.approx(2.0)


def test_a_stay_that_goes_on_has_no_end_and_a_silent_charger_ends_one() -> None:
    at_s, there, drawn = said((1.0, 3.0, 1.0), (5.0, 8.0, 1.0), until_h=8.0)
    *_, last = stays_of(at_s, there, drawn)
    assert last.plug_out_at is None
    there[(at_s - at_s[0] >= 2 * 3600) & (at_s - at_s[0] < 5.5 * 3600)] = np.nan
    first, second = stays_of(at_s, there, drawn)
    assert first.plug_out_at is not None
    assert first.plug_out_at <= MIDNIGHT + timedelta(
        hours=4
    )  # at most two hours after the charger's last word
    assert second.plug_in_at == MIDNIGHT + timedelta(hours=5.5)
    assert stays_of(at_s[:0], there[:0], drawn[:0]) == []


def test_what_a_charger_says_later_goes_on_where_it_ended() -> None:
    whole = said((1.0, 3.0, 1.5), (5.0, 6.0, 0.5), (9.0, 12.0, 1.0), until_h=14.0)
    vehicles = VehiclesAhead([home_with_car()], step_s=STEP_S, horizon=96)
    assert vehicles.known_until("home-01", "car") is None
    for part in (slice(0, 130), slice(130, 600), slice(600, None)):
        vehicles.hear("home-01", "car", *(column[part] for column in whole))
    until = vehicles.known_until("home-01", "car")
    assert until is not None
    assert until > MIDNIGHT + timedelta(hours=14, minutes=-1)
    stays, known_from = vehicles._known["home-01", "car"]
    assert list(stays) == stays_of(*whole)
    assert known_from == MIDNIGHT


def commuter(days: int) -> list[Session]:
    """There from 18:00 to 07:00 and 8 kWh each night."""
    return [
        Session(
            plug_in_at=MIDNIGHT - (day - 0.75) * DAY,
            plug_out_at=MIDNIGHT - (day - 1) * DAY + timedelta(hours=7),
            energy_kwh=8.0,
        )
        for day in range(days, 1, -1)
    ]


def ahead(site: Site, days: int, at: datetime, here: VehicleState | None = None) -> dict[str, VehicleOutlook]:
    vehicles = VehiclesAhead([site], step_s=STEP_S, horizon=96)
    vehicles.learn(site.id, "car", commuter(days), known_from=MIDNIGHT - days * DAY)
    return vehicles.expect(site, {} if here is None else {"car": here}, at)


AWAY = VehicleState(plugged_in=False, arrived_at=None, session_kwh=None, wished_kwh=12.0, ready_at=None)


def test_a_commuter_is_expected_back_in_the_evening_with_the_usual_hunger() -> None:
    noon = MIDNIGHT + timedelta(hours=12) - DAY
    found = ahead(home_with_car(), 40, noon, AWAY)["car"]
    assert found.arrival_h[1] == pytest.approx(6.0, abs=0.5)
    assert found.energy_kwh[1] == pytest.approx(8.0, abs=0.5)
    assert found.plugged_in_prob[0] < 0.1
    assert found.plugged_in_prob[30] > 0.9
    assert (found.charging_kw[:23] < 0.05).all()
    assert found.charging_kw.sum() / 4.0 == pytest.approx(8.0, abs=0.1)
    assert found.charging_kw.argmax() in (24, 25)


def test_the_stay_at_hand_is_not_expected_a_second_time() -> None:
    evening = MIDNIGHT - timedelta(hours=5)
    here = replace(AWAY, plugged_in=True, arrived_at=evening - timedelta(hours=1), session_kwh=4.0)
    found = ahead(home_with_car(), 40, evening, here)["car"]
    assert found.departure_h[1] == pytest.approx(12.0, abs=0.5)
    assert (found.charging_kw[:80] < 0.05).all()


def test_too_little_is_known_of_a_new_car() -> None:
    assert ahead(home_with_car(), 10, MIDNIGHT - DAY / 2, AWAY) == {}
    assert VehiclesAhead([home_with_car()], step_s=STEP_S, horizon=96).expect(home_with_car(), {}, AT) == {}


def test_a_plan_counts_on_charging_nobody_steers_and_not_on_what_it_steers_itself() -> None:
    expected_kw = np.array([0.0, 0.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    car = VehicleOutlook(
        plugged_in_prob=np.full(8, 0.5), charging_kw=expected_kw, arrival_h=np.full(3, 0.5),
        departure_h=np.full(3, np.nan), energy_kwh=np.full(3, 1.0), similar_days=20.0,
    )  # fmt: skip
    told = outlook(replace(site_outlook(load_kw=1.0), vehicles={"car": car}))
    unsteered = home_with_car(consents=Consents(control_storage=True, control_vehicle=False))
    problem = to_problem(unsteered, state(load_kw=1.0), told.sites[0], told)
    np.testing.assert_allclose(problem.load_kw, 1.0 + expected_kw)
    steered = to_problem(home_with_car(), state(load_kw=1.0), told.sites[0], told)
    np.testing.assert_allclose(steered.load_kw, 1.0)
