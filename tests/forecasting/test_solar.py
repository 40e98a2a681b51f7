from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from forecast_series import PARIS, SEOUL, midnight, plant_power

from forecasting import BrokenSeries, History, Quality, SiteContext, SlotMean, SolarForecaster, Weather
from forecasting.clearsky import Plane, clear_sky, fit_mix, planes_of
from forecasting.place import place_of


def night(context: SiteContext, made_from: History, horizon: int) -> np.ndarray:
    sky = clear_sky(context, start_at=made_from.end_at, step=made_from.step, count=horizon)
    return np.asarray(sky.horizontal_kw_m2 == 0.0)


@pytest.mark.parametrize("step_min", [15, 60])
@pytest.mark.parametrize("days", [0, 3, 45])
def test_exactly_zero_at_night_and_never_above_the_inverter(days: int, step_min: int) -> None:
    history, _ = plant_power(days=days, step_min=step_min)
    small = replace(SEOUL, nameplate_kw=3.0)
    horizon = 2 * history.steps_per_day
    made = SolarForecaster(small).fit(history).predict(history.end_at, horizon)
    dark = night(small, history, horizon)
    assert dark.mean() > 0.3
    assert (made.quantiles_kw[:, dark] == 0.0).all()
    assert (made.mean_kw[dark] == 0.0).all()
    assert made.quantiles_kw.max() <= 3.0
    assert made.quantiles_kw.max() > 1.0
    assert (np.diff(made.quantiles_kw, axis=0) >= -1e-12).all()


def test_the_sun_does_not_keep_summer_time() -> None:
    change = midnight(PARIS, 2025, 3, 30)
    start = (change - timedelta(days=40)).astimezone(PARIS.zone)
    history, _ = plant_power(PARIS, days=60, start=(start.year, start.month, start.day), cloudy=False)
    model = SolarForecaster(PARIS).fit(history.until(change))
    made = model.predict(change, 23 + 24)
    truth = history.since(change).values[: 23 + 24]
    assert np.abs(made.median_kw - truth).max() < 0.25


def test_orientation_is_learned() -> None:
    step = timedelta(hours=1)
    start_at = midnight(SEOUL, 2025, 5, 1)
    east = replace(SEOUL, tilt_deg=35.0, azimuth_deg=90.0, nameplate_kw=4.0)
    sky = clear_sky(east, start_at=start_at, step=step, count=720)
    power_kw = 4.0 * sky.planes_kw_m2[:, 0]
    unknown = replace(SEOUL, nameplate_kw=4.5)
    fan = clear_sky(unknown, start_at=start_at, step=step, count=720).planes_kw_m2
    mix = fit_mix(power_kw, fan, 24)
    strongest = planes_of(unknown)[int(mix.argmax())]
    assert strongest == Plane(tilt_deg=35.0, azimuth_deg=90.0)
    made = SolarForecaster(unknown).fit(History(start_at=start_at, step=step, values=power_kw))
    morning = made.predict(start_at + 720 * step, 24).median_kw
    assert 8 <= int(morning.argmax()) <= 11


def test_shading_in_the_afternoon_is_learned() -> None:
    history, _ = plant_power(days=60, cloudy=False)
    hour = np.arange(len(history)) % 24
    shaded = replace(history, values=np.where(hour >= 15, 0.2 * history.values, history.values))
    made = SolarForecaster(SEOUL).fit(shaded).predict(shaded.end_at, 24).median_kw
    open_sky = SolarForecaster(SEOUL).fit(history).predict(history.end_at, 24).median_kw
    assert made[16] < 0.4 * open_sky[16]
    assert made[11] > 0.8 * open_sky[11]


def test_curtailed_intervals_do_not_teach_a_low_sun() -> None:
    history, _ = plant_power(days=60, cloudy=False)
    held = (np.arange(len(history)) % 24 >= 11) & (np.arange(len(history)) % 24 <= 13)
    delivered = np.where(held, np.minimum(history.values, 0.5), history.values)
    marked = replace(history, values=delivered, curtailed=held & (delivered < history.values))
    made = SolarForecaster(SEOUL).fit(marked).predict(history.end_at, 24).median_kw
    truth = SolarForecaster(SEOUL).fit(history).predict(history.end_at, 24).median_kw
    assert made[12] > 0.8 * truth[12]


def test_weather_that_knows_the_sky_is_used_and_its_absence_is_a_state() -> None:
    history, index = plant_power(days=80, seed=4)
    sky = clear_sky(SEOUL, start_at=history.start_at, step=history.step, count=len(history))
    weather = Weather(
        start_at=history.start_at, step=history.step, ghi_w_m2=1000.0 * index * sky.horizontal_kw_m2
    )
    known = history.until(history.start_at + timedelta(days=70))
    model = SolarForecaster(SEOUL).fit(known, weather=weather)
    with_weather, without = [], []
    for day in range(70, 80):
        issued_at = history.start_at + timedelta(days=day)
        truth = history.values[day * 24 : day * 24 + 24]
        told = model.predict(issued_at, 24, recent=history, weather=weather)
        untold = model.predict(issued_at, 24, recent=history)
        with_weather.append(np.abs(told.median_kw - truth).mean())
        without.append(np.abs(untold.median_kw - truth).mean())
    assert np.mean(with_weather) < 0.5 * np.mean(without)
    far = replace(weather, ghi_w_m2=weather.ghi_w_m2[: 70 * 24 + 12])  # type: ignore[index]
    half = model.predict(known.end_at, 24, weather=far)
    assert np.isfinite(half.quantiles).all()
    untold_afternoon = model.predict(known.end_at, 24).quantiles[:, 14:]
    assert np.array_equal(half.quantiles[:, 14:], untold_afternoon)


def test_better_than_the_seven_day_mean_without_weather() -> None:
    history, _ = plant_power(days=120, seed=6)
    model = SolarForecaster(SEOUL).fit(history.until(history.start_at + timedelta(days=90)))
    naive = SlotMean(SEOUL).fit(history)
    own, theirs = [], []
    for day in range(90, 118):
        issued_at = history.start_at + timedelta(days=day)
        truth = history.values[day * 24 : day * 24 + 24]
        own.append(np.abs(model.predict(issued_at, 24, recent=history).median_kw - truth).mean())
        theirs.append(np.abs(naive.predict(issued_at, 24, recent=history).mean_kw - truth).mean())
    assert np.mean(own) < np.mean(theirs)


def test_the_first_day_needs_only_rating_and_place() -> None:
    empty, _ = plant_power(days=0)
    made = SolarForecaster(SEOUL).fit(empty).predict(empty.start_at, 24)
    assert made.quality is Quality.COLD
    assert 0.5 < made.median_kw.max() < 5.0
    with pytest.raises(BrokenSeries, match="nameplate_kw"):
        SolarForecaster(replace(SEOUL, nameplate_kw=None)).fit(empty)


def test_without_coordinates_the_city_of_the_time_zone_stands_in() -> None:
    assert place_of(SiteContext(time_zone="Asia/Seoul")) == pytest.approx((37.55, 126.97), abs=0.02)
    assert place_of(SiteContext(time_zone="Asia/Seoul", latitude=35.1, longitude=129.0)) == (35.1, 129.0)
    with pytest.raises(BrokenSeries, match="latitude"):
        place_of(SiteContext(time_zone="UTC"))


def test_counters_that_caught_up_do_not_teach_a_giant_plant() -> None:
    unrated = replace(SEOUL, nameplate_kw=None)
    history, _ = plant_power(days=60)
    values = history.values.copy()
    values[[300, 325, 611, 900]] = [80.0, 55.0, 120.0, 70.0]
    made = SolarForecaster(unrated).fit(replace(history, values=values)).predict(history.end_at, 24)
    whole = SolarForecaster(unrated).fit(history).predict(history.end_at, 24)
    assert made.quantiles_kw.max() < 1.1 * whole.quantiles_kw.max()
    assert np.abs(made.median_kw - whole.median_kw).max() < 0.3


def test_a_plant_that_has_not_started_is_forecast_to_give_nothing() -> None:
    history, _ = plant_power(days=40)
    dead = replace(history, values=np.zeros(len(history)))
    made = SolarForecaster(replace(SEOUL, nameplate_kw=None)).fit(dead).predict(dead.end_at, 24)
    assert (made.quantiles_kw == 0.0).all()


def test_southern_plants_face_north() -> None:
    sydney = SiteContext(time_zone="Australia/Sydney", latitude=-33.87, longitude=151.2, nameplate_kw=5.0)
    history, _ = plant_power(sydney, days=30, start=(2025, 6, 1), cloudy=False)
    made = SolarForecaster(sydney).fit(history).predict(history.end_at, 24)
    truth_like = history.values[-24:]
    assert np.abs(made.median_kw - truth_like).max() < 0.4


def laid_over(history: History, first_day: int, last_day: int, value: float) -> History:
    """One value on all intervals of the local days [first_day, last_day), as a meter that stands still tells it."""
    values = history.values.copy()
    values[first_day * history.steps_per_day : last_day * history.steps_per_day] = value
    return replace(history, values=values)


def test_a_meter_that_stands_still_day_and_night_teaches_nothing() -> None:
    history, _ = plant_power(days=60)
    after = history.end_at
    sound = SolarForecaster(SEOUL).fit(laid_over(history, 20, 34, np.nan)).predict(after, 48)
    stuck = laid_over(history, 20, 34, 2.2)
    made = SolarForecaster(SEOUL).fit(stuck).predict(after, 48, recent=laid_over(history, 20, 34, np.nan))
    np.testing.assert_allclose(
        made.median_kw, sound.median_kw, atol=0.05
    )  # of 3.6 kW; the top of the plant is learned too
    assert (made.quantiles_kw[:, night(SEOUL, history, 48)] == 0.0).all()


@pytest.mark.parametrize(("silent", "chance"), [(1, 1 / 3), (4, 2 / 3), (30, 30 / 32)])
def test_a_silent_plant_probably_stays_silent_and_says_so(silent: int, chance: float) -> None:
    history, _ = plant_power(days=60)
    dead = laid_over(history, 60 - silent, 60, 0.0)
    model = SolarForecaster(SEOUL).fit(history.until(history.end_at - timedelta(days=silent)))
    levels = tuple(round(level, 2) for level in np.arange(0.05, 1.0, 0.05))
    usual = model.predict(history.end_at - timedelta(days=silent), 24, levels)
    made = model.predict(history.end_at, 24, levels, recent=dead)
    assert made.quality is Quality.FALLBACK
    noon = int(usual.mean_kw.argmax())
    nothing = np.array(levels)[made.quantiles_kw[:, noon] == 0.0]
    assert nothing.max(initial=0.0) == pytest.approx(chance, abs=0.06)
    assert (np.diff(made.quantiles_kw, axis=0) >= 0.0).all()


def test_a_plant_that_gives_again_is_itself_again_at_once() -> None:
    history, _ = plant_power(days=60)
    dead = laid_over(history, 50, 60, 0.0)
    model = SolarForecaster(SEOUL).fit(dead)
    more, _ = plant_power(days=61)
    morning = history.end_at + timedelta(hours=11)
    back = replace(more, values=np.concatenate([dead.values, more.values[-24:]])).until(morning)
    made = model.predict(morning, 24, recent=back)
    assert made.quality is not Quality.FALLBACK
    assert made.median_kw.max() > 1.0


def test_a_dark_morning_is_not_a_silent_plant() -> None:
    history, _ = plant_power(days=60)
    late = laid_over(history, 59, 60, 0.0).until(history.end_at - timedelta(hours=15))
    model = SolarForecaster(SEOUL).fit(history.until(history.end_at - timedelta(days=1)))
    made = model.predict(history.end_at - timedelta(hours=15), 24, recent=late)
    assert made.quality is not Quality.FALLBACK
    assert made.median_kw.max() > 0.5


def test_a_winter_of_silence_does_not_teach_a_low_sun() -> None:
    history, _ = plant_power(days=120)
    gone = SolarForecaster(SEOUL).fit(laid_over(history, 30, 70, np.nan)).predict(history.end_at, 24)
    dead = SolarForecaster(SEOUL).fit(laid_over(history, 30, 70, 0.0)).predict(history.end_at, 24)
    assert dead.mean_kw.sum() == pytest.approx(gone.mean_kw.sum(), rel=0.05)
