from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from forecast_series import PARIS, SEOUL, home_load, midnight

from forecasting import (
    BrokenSeries,
    Forecast,
    History,
    HouseholdType,
    LoadForecaster,
    Quality,
    SiteContext,
    SlotMean,
    Weather,
)
from forecasting.calendars import local_grid
from forecasting.screening import screened


def day_ahead_mae(model: LoadForecaster | SlotMean, history: History, first_day: int, days: int) -> float:
    errors = []
    for day in range(first_day, first_day + days):
        issued_at = history.start_at + timedelta(days=day)
        made = model.predict(issued_at, history.steps_per_day, recent=history)
        first = history.index_of(issued_at)
        errors.append(np.abs(history.values[..., first : first + history.steps_per_day] - made.median_kw))
    return float(np.nanmean(errors))


def assert_sound(made: Forecast) -> None:
    assert np.isfinite(made.quantiles).all()
    assert (np.diff(made.quantiles, axis=-2) >= -1e-12).all()
    assert (made.quantiles >= 0.0).all()
    assert ((made.mean >= made.quantiles.min()) & (made.mean <= made.quantiles.max())).all()


@pytest.mark.parametrize("days", [0, 1, 3, 10, 20, 22, 40])
def test_there_is_a_forecast_from_the_first_minute(days: int) -> None:
    history = home_load(days=days)
    made = LoadForecaster(SEOUL).fit(history).predict(history.end_at, 48)
    assert_sound(made)
    expected = Quality.COLD if days == 0 else Quality.ESTIMATED if days < 21 else Quality.GOOD
    assert made.quality is expected


def test_the_first_day_follows_the_bill_and_the_household() -> None:
    empty = home_load(days=0)
    home = replace(SEOUL, daily_load_kwh=12.0)
    made = LoadForecaster(home).fit(empty).predict(empty.start_at, 24)
    assert made.mean_kw.sum() == pytest.approx(12.0, rel=0.15)
    assert made.mean_kw[18] > 1.5 * made.mean_kw[3]
    office = replace(home, household=HouseholdType.OFFICE)
    at_work = LoadForecaster(office).fit(empty).predict(empty.start_at, 24)
    assert at_work.mean_kw[13] > 2.0 * at_work.mean_kw[2]
    unknown = LoadForecaster(replace(SEOUL, nameplate_kw=None)).fit(empty).predict(empty.start_at, 24)
    width = made.quantile(0.9) / made.quantile(0.1)
    assert (unknown.quantile(0.9) / unknown.quantile(0.1) > width).all()


def test_a_week_beats_a_day_and_a_month_beats_the_week() -> None:
    history = home_load(days=100, seed=5)
    maes = []
    for days in (1, 8, 60):
        known = history.until(history.start_at + timedelta(days=70), last=timedelta(days=days))
        model = LoadForecaster(SEOUL).fit(known)
        maes.append(day_ahead_mae(model, history, 70, 14))
    assert maes[0] > maes[1] > maes[2]


def test_better_than_the_seven_day_mean_and_covered_as_announced() -> None:
    history = home_load(days=150, seed=3)
    model = LoadForecaster(SEOUL).fit(history.until(history.start_at + timedelta(days=100)))
    naive = SlotMean(SEOUL).fit(history)
    assert day_ahead_mae(model, history, 100, 48) < 0.95 * day_ahead_mae(naive, history, 100, 48)
    inside = []
    for day in range(100, 149):
        issued_at = history.start_at + timedelta(days=day)
        if day % 7 == 2:
            model.fit(history.until(issued_at))
        made = model.predict(issued_at, 24, recent=history)
        truth = history.values[day * 24 : day * 24 + 24]
        inside.append((truth >= made.quantiles_kw[0]) & (truth <= made.quantiles_kw[-1]))
    assert 0.75 <= np.mean(inside) <= 0.85


def test_a_holiday_is_forecast_like_a_sunday() -> None:
    history = home_load(days=115, start=(2025, 6, 16), seed=4)
    holiday = midnight(SEOUL, 2025, 10, 8)  # a Wednesday, substitute day of Chuseok
    model = LoadForecaster(SEOUL).fit(history.until(holiday))
    plain = LoadForecaster(replace(SEOUL, country=None)).fit(history.until(holiday))
    noon = slice(11, 14)
    as_holiday = model.predict(holiday, 24).median_kw[noon].mean()
    as_wednesday = plain.predict(holiday, 24).median_kw[noon].mean()
    assert date(2025, 10, 8).weekday() == 2
    assert as_holiday > 1.5 * as_wednesday


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 30, 23), (10, 26, 25)])
def test_days_of_23_and_25_hours(month: int, day: int, hours: int) -> None:
    change = midnight(PARIS, 2025, month, day)
    start = change - timedelta(days=70)
    local = start.astimezone(PARIS.zone)
    history = home_load(PARIS, days=80, start=(local.year, local.month, local.day), step_min=30)
    model = LoadForecaster(PARIS).fit(history.until(change))
    made = model.predict(change, 2 * hours + 48)
    assert_sound(made)
    grid = local_grid(made.start_at, made.step, made.horizon, "Europe/Paris")
    own_day, next_day = grid.day == grid.day[0], grid.day == grid.day[0] + 1
    assert int(own_day.sum()) == 2 * hours
    # the evening peak stands at the same wall-clock time on both days
    assert grid.slot[own_day][np.argmax(made.median_kw[own_day])] == pytest.approx(39, abs=3)
    assert grid.slot[next_day][np.argmax(made.median_kw[next_day])] == pytest.approx(39, abs=3)
    after = model.predict(change + timedelta(days=1), 48, recent=history)
    assert_sound(after)


def test_errors_of_the_last_hours_move_the_next_ones_and_fade() -> None:
    history = home_load(days=90, seed=6)
    rng = np.random.default_rng(8)
    drift = np.zeros(len(history))
    for index in range(1, len(drift)):
        drift[index] = 0.8 * drift[index - 1] + 0.3 * rng.standard_normal()
    values = history.values * np.exp(drift)
    history = replace(history, values=values)
    issued_at = history.start_at + timedelta(days=80, hours=10)
    model = LoadForecaster(SEOUL).fit(history.until(issued_at))
    high = values.copy()
    first = history.index_of(issued_at)
    high[first - 3 : first] *= 3.0
    calm = model.predict(issued_at, 30, recent=history).median_kw
    moved = model.predict(issued_at, 30, recent=replace(history, values=high)).median_kw
    lift = moved / calm
    assert lift[0] > 1.25
    assert lift[0] > lift[2] > lift[5]
    assert lift[12] < 1.0 + 0.5 * (lift[0] - 1.0)
    spread = np.log(model.predict(issued_at, 8, recent=history).quantile(0.9) / calm[:8])
    assert spread[0] < spread[7]


def test_gaps_bad_readings_and_a_dead_day_are_survived() -> None:
    history = home_load(days=70, seed=7)
    rng = np.random.default_rng(0)
    values = history.values.copy()
    values[rng.random(len(values)) < 0.3] = np.nan
    values[-30:] = np.nan
    reliability = np.ones_like(values)
    spoiled = values.copy()
    bad = rng.random(len(values)) < 0.1
    spoiled[bad] = 4_637.0
    reliability[bad] = 0.0
    holed = replace(history, values=spoiled, reliability=reliability)
    made = LoadForecaster(SEOUL).fit(holed).predict(history.end_at, 24)
    whole = LoadForecaster(SEOUL).fit(history).predict(history.end_at, 24)
    assert_sound(made)
    assert np.abs(made.median_kw - whole.median_kw).mean() < 0.25 * whole.median_kw.mean()


def test_a_frozen_meter_and_a_spike_are_not_learned() -> None:
    history = home_load(days=70, seed=7)
    values = history.values.copy()
    values[55 * 24 :] = 2.345
    values[40 * 24 + 3] = 4_637.0
    ill = replace(history, values=values)
    healthy = replace(history, values=np.where(values == 2.345, np.nan, history.values))
    whole = LoadForecaster(SEOUL).fit(healthy).predict(history.end_at, 24)
    made = LoadForecaster(SEOUL).fit(ill).predict(history.end_at, 24)
    assert np.abs(made.median_kw - whole.median_kw).mean() < 0.2 * whole.median_kw.mean()
    assert made.quantiles_kw.max() < 2.0 * whole.quantiles_kw.max()


def test_an_empty_house_and_a_constant_pump_are_not_ill() -> None:
    history = home_load(days=30)
    empty = history.values.copy()
    empty[10 * 24 : 20 * 24] = 0.0
    assert np.array_equal(screened(replace(history, values=empty)).values, empty)
    pump = replace(history, values=np.full(len(history), 0.7))
    assert screened(pump) is pump


def test_readings_that_stop_hours_before_the_issue() -> None:
    history = home_load(days=60)
    issued_at = history.end_at + timedelta(hours=31, minutes=20)
    made = LoadForecaster(SEOUL).fit(history).predict(issued_at, 24)
    assert made.start_at == history.end_at + timedelta(hours=32)
    assert_sound(made)
    assert made.median_kw[12] > 1.5 * made.median_kw.min()


def test_a_dead_meter_all_zero_or_constant_gives_numbers() -> None:
    history = home_load(days=50)
    for level in (0.0, 0.7):
        flat = replace(history, values=np.full(len(history), level))
        made = LoadForecaster(SEOUL).fit(flat).predict(flat.end_at, 24)
        assert made.median_kw == pytest.approx(np.full(24, level), abs=1e-6)


def test_a_site_in_a_fleet_is_forecast_as_if_alone() -> None:
    fleet = home_load(days=60, sites=3)
    together = LoadForecaster([SEOUL] * 3).fit(fleet).predict(fleet.end_at, 24)
    assert together.quantiles.shape == (3, 9, 24)
    for site in range(3):
        alone = LoadForecaster(SEOUL).fit(fleet.site(site)).predict(fleet.end_at, 24)
        assert alone.quantiles.shape == (9, 24)
        assert np.allclose(together.site(site).quantiles, alone.quantiles, atol=1e-9)
        assert together.sources[site] == alone.source


def test_sites_of_a_fleet_may_differ_in_age() -> None:
    fleet = home_load(days=60, sites=2)
    values = fleet.values.copy()
    values[1, : 57 * 24] = np.nan
    made = LoadForecaster([SEOUL] * 2).fit(replace(fleet, values=values)).predict(fleet.end_at, 24)
    assert made.qualities == (Quality.GOOD, Quality.ESTIMATED)
    assert made.sources == ("load-ridge", "recent-days")


def test_contexts_must_match_the_sites() -> None:
    with pytest.raises(BrokenSeries, match="2 sites described, history has 3"):
        LoadForecaster([SEOUL, SEOUL]).fit(home_load(days=5, sites=3))


def test_a_cold_spell_in_the_weather_forecast_raises_a_heated_home() -> None:
    context = SiteContext(time_zone="UTC")
    history = home_load(context, days=120, start=(2025, 1, 1), seed=9)
    rng = np.random.default_rng(3)
    daily = np.repeat(5.0 + 6.0 * rng.standard_normal(125), 24)
    heated = replace(history, values=history.values + 0.15 * np.maximum(15.0 - daily[: len(history)], 0.0))
    weather = Weather(start_at=history.start_at, step=history.step, outdoor_degc=daily)
    model = LoadForecaster(context).fit(heated, weather=weather)
    cold, mild = daily.copy(), daily.copy()
    cold[len(history) :] = -10.0
    mild[len(history) :] = 14.0
    at_cold = model.predict(heated.end_at, 24, weather=replace(weather, outdoor_degc=cold)).median_kw
    at_mild = model.predict(heated.end_at, 24, weather=replace(weather, outdoor_degc=mild)).median_kw
    assert at_cold.mean() - at_mild.mean() == pytest.approx(0.15 * 24.0, rel=0.4)
    assert_sound(model.predict(heated.end_at, 24))


def test_home_office_is_learned_after_retraining() -> None:
    history = home_load(days=130, at_home_from_day=91, seed=11)  # a Monday
    always = home_load(days=130, at_home_from_day=0, seed=11)
    change = history.start_at + timedelta(days=91)
    stale = LoadForecaster(SEOUL).fit(history.until(change))
    first_day = np.abs(
        history.until(change + timedelta(days=1)).since(change).values
        - stale.predict(change, 24, recent=history).median_kw
    ).mean()
    retrained = LoadForecaster(SEOUL).fit(history.until(change + timedelta(days=20)))
    recovered = day_ahead_mae(retrained, history, 111, 14)
    usual = day_ahead_mae(LoadForecaster(SEOUL).fit(always.until(change)), always, 111, 14)
    assert first_day > 1.5 * usual
    assert recovered < 1.15 * usual


def test_a_site_marked_as_drifting_follows_its_new_ways_and_is_flagged() -> None:
    history = home_load(days=130, at_home_from_day=110, seed=11)
    truth = history.since(history.start_at + timedelta(days=126))
    known = history.until(history.start_at + timedelta(days=126))
    marked = LoadForecaster(SEOUL).fit(known, drifting=np.array([True])).predict(known.end_at, 96)
    assert marked.quality is Quality.FALLBACK
    assert marked.source == "recent-days"
    stale = LoadForecaster(SEOUL).fit(history.until(history.start_at + timedelta(days=110)))
    old = stale.predict(history.start_at + timedelta(days=110), 96)
    error = [np.abs(made.median_kw - truth.values).mean() for made in (marked, old)]
    assert error[0] < 0.7 * error[1]
    healed = LoadForecaster(SEOUL).fit(known).predict(known.end_at, 96)
    assert healed.quality is Quality.GOOD
