"""The seam to the forecasters: who is asked what, and that nothing later than now goes in."""

import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ems.foresight import REFIT_EVERY, Foresight, site_context
from ems.site import Role, Site
from ems.tariffs import PriceSeries, SeriesRate, Tariff
from ems.weather import WeatherWatch
from forecasting import FileWeather, Forecast, History, LoadForecaster, Quality, SiteContext, SolarForecaster
from tests.ems.made import AT, METER, ROOF, STEP, STEP_S, STORE, device, home, measured

HORIZON = 4
AT_S = int(AT.timestamp())
NO_ROOF = home(id="no-roof", assets=(STORE,))


class Fake:
    """Remembers what it was shown; expects its own number for each site."""

    made: list["Fake"]

    def __init__(self, contexts: Sequence[SiteContext], value: float) -> None:
        self.contexts = list(contexts)
        self.value = value
        self.fitted: list[History] = []
        self.seen: list[History] = []

    def fit(self, history: History, **_: object) -> "Fake":
        self.fitted.append(history)
        return self

    def predict(
        self, issued_at: datetime, horizon: int, levels: Sequence[float], *, recent: History, **_: object
    ) -> Forecast:
        self.seen.append(recent)
        rows = len(self.contexts)
        mean = self.value * (1.0 + np.arange(rows))[:, None] * np.ones((rows, horizon))
        spread = np.array([level - 0.5 for level in levels])
        return Forecast(
            issued_at=issued_at,
            start_at=issued_at,
            step=recent.step,
            levels=tuple(levels),
            quantiles=mean[:, None, :] + spread[None, :, None],
            mean=mean,
            sources=("fake",) * rows,
            qualities=(Quality.GOOD,) * rows,
        )


class Bench:
    """A foresight with the fakes it made."""

    def __init__(
        self, *sites: Site, load: float = 2.0, pv: float = 1.0, series: PriceSeries | None = None
    ) -> None:
        self.loads: list[Fake] = []
        self.pvs: list[Fake] = []

        def make_load(contexts: Sequence[SiteContext]) -> Fake:
            self.loads.append(Fake(contexts, load))
            return self.loads[-1]

        def make_pv(contexts: Sequence[SiteContext]) -> Fake:
            self.pvs.append(Fake(contexts, pv))
            return self.pvs[-1]

        self.foresight = Foresight(
            sites or (home(),), step_s=STEP_S, horizon=HORIZON, make_load=make_load, make_pv=make_pv,
            price_files=lambda site: {} if series is None else {"prices.csv": series},
        )  # fmt: skip


def test_each_site_gets_its_own_expectation_in_order() -> None:
    bench = Bench(home(id="a"), replace(NO_ROOF, id="b"), home(id="c"))
    found = bench.foresight.foresee((), at=AT)
    assert [site.site_id for site in found.sites] == ["a", "b", "c"]
    assert [site.load.mean_kw[0] for site in found.sites] == [2.0, 4.0, 6.0]
    assert [sorted(site.pv) for site in found.sites] == [["roof"], [], ["roof"]]
    assert found.sites[2].pv["roof"].mean_kw.tolist() == [2.0] * HORIZON  # second of the two roofs
    assert len(bench.pvs[-1].contexts) == 2
    assert (found.issued_at, found.step_s) == (AT, STEP_S)
    assert found.starts_s.tolist() == [int(AT.timestamp()) + STEP_S * t for t in range(HORIZON)]


def test_a_forecaster_sees_what_was_just_measured_and_nothing_later() -> None:
    bench = Bench()
    bench.foresight.foresee([measured(AT - STEP, load_kwh=0.5, pv_kwh=0.25)], at=AT)
    for seen, last_kw in ((bench.loads[-1].seen[-1], 2.0), (bench.pvs[-1].seen[-1], 1.0)):
        assert seen.end_at == AT
        assert seen.values[0, -1] == last_kw
    for fitted in (bench.loads[-1].fitted[-1], bench.pvs[-1].fitted[-1]):
        assert fitted.end_at <= AT


def test_what_a_model_was_shown_does_not_change_under_it() -> None:
    bench = Bench()
    bench.foresight.foresee([measured(AT - STEP, load_kwh=0.5)], at=AT)
    shown = bench.loads[-1].seen[-1].values.copy()
    bench.foresight.foresee([measured(AT, load_kwh=9.0)], at=AT + STEP)
    np.testing.assert_array_equal(bench.loads[-1].seen[0].values, shown)


def test_solar_held_back_is_marked_for_the_solar_model_only() -> None:
    bench = Bench()
    bench.foresight.foresee([measured(AT - STEP, curtailed=True)], at=AT)
    assert bench.pvs[-1].seen[-1].curtailed is not None
    assert bench.pvs[-1].seen[-1].curtailed[0, -1]
    assert bench.loads[-1].seen[-1].curtailed is None


def test_models_are_due_once_a_day() -> None:
    bench = Bench()
    assert bench.foresight.refit_due(AT)
    bench.foresight.foresee((), at=AT)
    assert not bench.foresight.refit_due(AT + REFIT_EVERY - STEP)
    assert bench.foresight.refit_due(AT + REFIT_EVERY)
    bench.foresight.foresee((), at=AT + STEP)
    assert len(bench.loads) == 1  # in between they only see the recent past
    bench.foresight.refit(AT + REFIT_EVERY)
    assert len(bench.loads) == 2
    assert bench.loads[1].fitted[0].end_at == AT + REFIT_EVERY


def test_expected_power_is_never_negative() -> None:
    found = Bench(load=0.1, pv=0.2).foresight.foresee((), at=AT).sites[0]
    for band in (found.load, found.pv["roof"]):
        assert (band.low_kw >= 0.0).all()
        assert (band.low_kw <= band.mean_kw).all()
        assert (band.mean_kw <= band.high_kw).all()


def test_several_roofs_share_by_nameplate_and_none_beats_its_own() -> None:
    sun = device(Role.PV_INVERTER)
    site = home(
        devices={"meter": METER, "inverter": sun, "sun": sun},
        assets=(replace(ROOF, rated_kw=6.0), replace(ROOF, name="barn", device="sun", rated_kw=3.0)),
    )
    found = Bench(site, pv=4.5).foresight.foresee((), at=AT).sites[0]
    assert {name: band.mean_kw[0] for name, band in found.pv.items()} == {"roof": 3.0, "barn": 1.5}
    glare = Bench(site, pv=18.0).foresight.foresee((), at=AT).sites[0]
    assert {name: band.mean_kw[0] for name, band in glare.pv.items()} == {"roof": 6.0, "barn": 3.0}


def test_a_site_is_told_to_the_forecaster_in_its_words() -> None:
    context = site_context(home(assets=(replace(ROOF, tilt_deg=30.0, azimuth_deg=180.0), STORE)))
    assert (context.time_zone, context.country) == ("Asia/Seoul", "KR")
    assert (context.latitude, context.longitude) == (37.5, 127.0)
    assert (context.nameplate_kw, context.tilt_deg, context.azimuth_deg) == (6.0, 30.0, 180.0)
    assert site_context(NO_ROOF).nameplate_kw is None


def test_prices_that_are_not_published_are_counted() -> None:
    series = PriceSeries(
        starts_s=int(AT.timestamp()) - 86_400 + 3600 * np.arange(24), per_kwh=np.arange(24.0), step_s=3600
    )
    rate = SeriesRate(kind="series", file="prices.csv")
    site = home(tariff=Tariff(buy=rate))
    found = Bench(site, series=series).foresight.foresee((), at=AT - timedelta(minutes=30)).sites[0]
    assert found.prices_assumed == 2
    assert found.buy_per_kwh.tolist() == [23.0, 23.0, 0.0, 0.0]
    assert found.sell_per_kwh.tolist() == [0.0] * HORIZON


def test_a_site_whose_prices_are_missing_has_unknown_prices_and_costs_nobody_else_anything() -> None:
    bench = Bench(home(tariff=Tariff(buy=SeriesRate(kind="series", file="prices.csv"))))
    (expected,) = bench.foresight.foresee((), at=AT).sites
    assert np.isnan(expected.buy_per_kwh).all()
    assert expected.prices_assumed == len(expected.buy_per_kwh)
    assert np.isfinite(expected.load.mean_kw).all()


class Sulking(Fake):
    """A model that fails, or takes its time."""

    trouble: Exception | None = None
    wait: threading.Event | None = None

    def predict(self, *args: Any, **more: Any) -> Forecast:
        if self.trouble is not None:
            raise self.trouble
        if self.wait is not None:
            self.wait.wait()
        return super().predict(*args, **more)


def sulking(within_s: float = 5.0) -> tuple[Foresight, Sulking]:
    model = Sulking([site_context(home())], 2.0)
    foresight = Foresight(
        [home(assets=(STORE,))], step_s=STEP_S, horizon=HORIZON, make_load=lambda _: model,
        make_pv=lambda _: model, price_files=lambda _: {}, within_s=within_s,
    )  # fmt: skip
    foresight.past.overlay(AT - timedelta(days=8), np.full((1, 8 * 96), 0.7), np.full((1, 8 * 96), np.nan))
    return foresight, model


def test_a_broken_model_is_stood_in_for_flagged_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    foresight, model = sulking()
    model.trouble = ZeroDivisionError("half a cloud")
    with caplog.at_level(logging.WARNING):
        bands = [foresight.foresee((), at=AT + index * STEP).sites[0].load for index in range(3)]
        model.trouble = None
        recovered = foresight.foresee((), at=AT + 3 * STEP).sites[0].load
    assert [(band.source, band.quality) for band in bands] == [("mean-7d", "fallback")] * 3
    assert bands[0].mean_kw == pytest.approx(0.7)
    assert recovered.source == "fake"
    told = [record.message for record in caplog.records if "forecast." in record.message]
    assert len(told) == 2
    assert "half a cloud" in told[0]
    assert "recovered" in told[1]


def test_a_slow_model_is_not_waited_for_and_not_asked_again_until_it_is_done() -> None:
    foresight, model = sulking(within_s=0.05)
    foresight.refit(AT)
    model.wait = threading.Event()
    for index in range(2):
        band = foresight.foresee((), at=AT + index * STEP).sites[0].load
        assert (band.source, band.quality) == ("mean-7d", "fallback")
    assert len(model.seen) == 0
    model.wait.set()
    model.wait = None
    while foresight._guard._running["load"].running():
        time.sleep(0.01)
    assert foresight.foresee((), at=AT + 2 * STEP).sites[0].load.source == "fake"


def grown(*, days: int = 40) -> Foresight:
    """A home with its own models after some weeks of a plain daily course."""
    foresight = Foresight(
        [home()], step_s=STEP_S, horizon=96, make_load=LoadForecaster, make_pv=SolarForecaster,
        price_files=lambda _: {},
    )  # fmt: skip
    hours = np.arange(days * 96) / 4.0
    local = (hours + 9.0) % 24.0
    load_kw = 0.5 + 0.4 * np.cos(2 * np.pi * (local - 19.0) / 24.0)
    pv_kw = np.maximum(0.0, 3.0 * np.cos(np.pi * (local - 12.5) / 14.0)) * (abs(local - 12.5) < 7)
    start = AT.replace(hour=0) - timedelta(days=days)
    foresight.past.overlay(start, load_kw[None], pv_kw[None])
    return foresight


def test_models_put_back_say_what_they_said_before_and_are_not_fitted_again() -> None:
    first = grown()
    at = AT.replace(hour=0)
    first.refit(at)
    second = grown()
    assert second.fleet == first.fleet
    assert second.restore(first.dump(), fitted_at=at)
    assert not second.refit_due(at + REFIT_EVERY - STEP)
    one, other = (foresight.foresee((), at=at).sites[0] for foresight in (first, second))
    # tables are kept in single precision
    np.testing.assert_allclose(other.load.mean_kw, one.load.mean_kw, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(other.pv["roof"].mean_kw, one.pv["roof"].mean_kw, rtol=1e-4, atol=1e-4)


def test_models_of_other_sites_or_damaged_ones_are_not_put_back() -> None:
    first = grown()
    first.refit(AT.replace(hour=0))
    bodies = dict(first.dump())
    two = Bench(home(id="a"), home(id="b")).foresight
    assert two.fleet != first.fleet
    assert not two.restore(bodies, fitted_at=AT)
    assert not grown().restore({"load": bodies["load"]}, fitted_at=AT)
    assert not grown().restore(bodies | {"solar": b"not a model"}, fitted_at=AT)
    assert not grown().restore({"load": bodies["solar"], "solar": bodies["load"]}, fitted_at=AT)


def test_a_site_that_changed_its_ways_is_served_by_the_simplest_model_and_flagged() -> None:
    foresight = grown()
    at = AT.replace(hour=0)
    foresight.refit(at)
    assert foresight.foresee((), at=at).sites[0].load.quality == "good"
    foresight.drifting = frozenset({("home-01", "load")})
    assert foresight.refit_due(at + STEP)
    foresight.refit(at)
    assert not foresight.refit_due(at + STEP)
    found = foresight.foresee((), at=at).sites[0]
    assert (found.load.source, found.load.quality) == ("recent-days", "fallback")
    assert found.pv["roof"].quality == "good"
    foresight.drifting = frozenset()
    foresight.refit(at)
    assert foresight.foresee((), at=at).sites[0].load.quality == "good"


def market(days: int, *, until: datetime) -> PriceSeries:
    """Prices with a daily course, published up to an instant."""
    starts_s = int(until.timestamp()) - 3600 * np.arange(days * 24, 0, -1)
    hours = (starts_s // 3600) % 24
    return PriceSeries(starts_s=starts_s, per_kwh=0.2 + 0.1 * np.sin(2 * np.pi * hours / 24.0), step_s=3600)


def market_bench(series: PriceSeries, horizon: int = 96) -> Foresight:
    site = home(tariff=Tariff(buy=SeriesRate(kind="series", file="prices.csv")))
    return Foresight(
        [site], step_s=STEP_S, horizon=horizon, make_load=lambda c: Fake(c, 1.0), make_pv=lambda c: Fake(c, 1.0),
        price_files=lambda _: {"prices.csv": series},
    )  # fmt: skip


def test_prices_not_published_yet_are_forecast_and_published_ones_stand() -> None:
    published_until = AT + timedelta(hours=10)
    series = market(30, until=published_until)
    (found,) = market_bench(series).foresee((), at=AT).sites
    assert (found.prices_assumed, found.prices_source) == (56, "price-ridge")
    index = np.searchsorted(series.starts_s, int(AT.timestamp()) + STEP_S * np.arange(40), side="right") - 1
    np.testing.assert_array_equal(found.buy_per_kwh[:40], series.per_kwh[index])
    hours = (int(published_until.timestamp()) // 3600 + np.arange(14)) % 24
    expected = 0.2 + 0.1 * np.sin(2 * np.pi * hours / 24.0)
    np.testing.assert_allclose(found.buy_per_kwh[40::4], expected, atol=0.03)
    assert (found.sell_per_kwh == 0.0).all()


def test_a_market_known_for_days_only_repeats_its_latest_day() -> None:
    series = market(3, until=AT)
    (found,) = market_bench(series, horizon=4).foresee((), at=AT).sites
    assert (found.prices_assumed, found.prices_source) == (4, "tariff")
    np.testing.assert_array_equal(found.buy_per_kwh, series.per_kwh[-24])


async def test_weather_that_arrives_is_learned_from_at_once_and_its_age_is_told(tmp_path: Path) -> None:
    at = AT.replace(hour=0)
    first = at - timedelta(days=40)
    times = [(first + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M") for hour in range(45 * 24)]
    hourly = {"time": times, "temperature_2m": [8.0 + hour % 24 for hour in range(len(times))],
              "shortwave_radiation": [400.0] * len(times)}  # fmt: skip
    file = tmp_path / "weather.json"
    file.write_text(json.dumps({"hourly": hourly}), encoding="utf-8")
    foresight = grown()
    foresight.weather = WeatherWatch([home()], FileWeather(file))
    foresight.refit(at)
    assert foresight.foresee((), at=at).sites[0].weather_age_s is None
    assert not foresight.refit_due(at)
    await foresight.weather.refresh(at)
    assert foresight.refit_due(at)
    foresight.refit(at)
    assert not foresight.refit_due(at)
    found = foresight.foresee((), at=at + timedelta(hours=1)).sites[0]
    assert found.weather_age_s == 3600.0
    assert np.isfinite(found.load.mean_kw).all()
    assert np.isfinite(found.pv["roof"].mean_kw).all()
    again = grown()
    again.weather = foresight.weather
    assert again.restore(foresight.dump(), fitted_at=at)
    assert not again.refit_due(at)  # these models know the weather
    late = foresight.foresee((), at=at + timedelta(hours=30)).sites[0]
    assert late.weather_age_s is None  # too old to be used; forecasts go on without
    assert np.isfinite(late.load.mean_kw).all()


def test_a_restart_without_a_fit_still_knows_the_market() -> None:
    foresight = market_bench(market(30, until=AT))
    foresight.refit_prices()
    told = [foresight._prices_of(foresight.sites[0], AT_S + STEP_S * np.arange(96)) for _ in range(2)]
    assert told[0][3] == "price-ridge"
    np.testing.assert_array_equal(told[0][0], told[1][0])
