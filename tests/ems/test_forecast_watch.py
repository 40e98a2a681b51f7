"""What looks after the forecasters, on a real store: scored days, gauges, alarms, models that survive a restart."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from ems.errors import StoreError
from ems.forecast_watch import ForecastWatch, process_that_gives_way
from ems.foresight import Foresight
from ems.metrics import Metrics
from ems.readings import SiteReading
from ems.state import VehicleState
from ems.store import ForecastScore, ScoredDay, Store
from ems.wiring import restore_models
from forecasting import LoadForecaster, SolarForecaster
from tests.ems.made import home, home_with_car, sample, state
from tests.ems.store.conftest import account

AT = datetime(2026, 3, 20, tzinfo=UTC)
DAY = timedelta(days=1)
STEP_S = 3600
SITE = home(id="a", time_zone="UTC", assets=(), devices={"meter": home().devices["meter"]})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    yield opened
    opened.close()


def make_foresight() -> Foresight:
    foresight = Foresight(
        [SITE], step_s=STEP_S, horizon=48, make_load=LoadForecaster, make_pv=SolarForecaster,
        price_files=lambda _: {},
    )  # fmt: skip
    hours = np.arange(30 * 24)
    load_kw = 1.0 + 0.5 * np.cos(2 * np.pi * (hours - 19) / 24.0)
    foresight.past.overlay(AT - 30 * DAY, load_kw[None], np.full((1, len(hours)), np.nan))
    return foresight


def in_thread() -> Executor:
    """Return a place to fit that takes less time to begin than a process."""
    return ThreadPoolExecutor(1)


def make_watch(
    foresight: Foresight, store: Store, *, elsewhere: Callable[[], Executor] = in_thread
) -> tuple[ForecastWatch, Metrics]:
    metrics = Metrics()
    watch = ForecastWatch([SITE], foresight, store=store, metrics=metrics, step_s=STEP_S, elsewhere=elsewhere)
    return watch, metrics


def gauge(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def keep_accounts(store: Store, start: datetime, hours: int, load_kw: float) -> None:
    from ems.store import accounts

    found = [
        account(start + timedelta(hours=h), site_id="a", load_kwh=load_kw, hours=1.0) for h in range(hours)
    ]
    with store._database.writing() as conn:
        accounts.insert(conn, store._database, found)


def keep_outlook(store: Store, foresight: Foresight, at: datetime) -> None:
    from ems.store import forecasts

    with store._database.writing() as conn:
        forecasts.insert(conn, store._database, foresight.foresee((), at=at))


def scored(day_at: datetime, loss: float) -> ScoredDay:
    return ScoredDay(
        site_id="a",
        day_at=day_at,
        score=ForecastScore(
            series="load", source="load-ridge", lead_h=24, scored=96, truth_kw=96.0, size_kw=100.0, error_kw=0.0,
            abs_error_kw=30.0, squared_error_kw2=10.0, pinball_kw=100.0 * loss, banded=96, inside=77, compared=0,
            compared_abs_error_kw=0.0, naive_abs_error_kw=0.0, compared_pinball_kw=0.0, naive_pinball_kw=0.0,
        ),
    )  # fmt: skip


async def test_forecasts_of_yesterday_become_scores_and_gauges_by_model(store: Store) -> None:
    foresight = make_foresight()
    keep_outlook(store, foresight, AT)
    keep_accounts(store, AT - 9 * DAY, 10 * 24, 1.0)
    watch, metrics = make_watch(foresight, store)
    watch.after_cycle(AT + DAY + timedelta(hours=1))
    await asyncio.gather(*watch._tasks.values())
    await watch.stop()
    assert {day.day_at for day in store.scored_days("a", AT - DAY)} == {AT}
    issued = store.forecast("a", "load")
    assert issued is not None
    model = issued.source
    labels = {"series": "load", "model": model, "lead_h": "24"}
    assert gauge(metrics, "ems_forecast_coverage_fraction", **labels) is not None
    assert gauge(metrics, "ems_forecast_bias_fraction", **labels) == pytest.approx(0.0, abs=0.3)
    assert gauge(metrics, "ems_forecast_drifting_sites", series="load") == 0.0
    told = [
        name for metric in metrics.registry.collect() for name in metric.samples if "forecast" in metric.name
    ]
    assert not any("site" in sample.labels for sample in told)


async def test_changed_ways_raise_an_alarm_once_and_a_fit_that_knows_of_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    foresight = make_foresight()
    foresight.refit(AT)
    store.save_scores([scored(AT - back * DAY, 0.3 if back <= 8 else 0.1) for back in range(45, 0, -1)])
    # the alarm was raised before the latest day: told again is only what the latest day changed
    watch, metrics = make_watch(foresight, store)
    with caplog.at_level(logging.WARNING):
        watch.after_cycle(AT)
        await asyncio.gather(*watch._tasks.values())
        assert foresight.drifting == {("a", "load")}
        assert gauge(metrics, "ems_forecast_drifting_sites", series="load") == 1.0
        assert foresight.refit_due(AT)
        watch.after_cycle(AT + timedelta(minutes=15))
        await asyncio.gather(*watch._tasks.values())
    assert foresight.foresee((), at=AT).sites[0].load.quality == "fallback"
    store.save_scores([scored(AT + day * DAY, 0.1) for day in range(12)])
    watch, metrics = make_watch(foresight, store)  # a restart finds the alarm in the scores
    for hours in (1, 2, 3):
        watch.after_cycle(AT + 12 * DAY + timedelta(hours=hours))
        await asyncio.gather(*watch._tasks.values())
    assert foresight.foresee((), at=AT + 12 * DAY).sites[0].load.quality != "fallback"
    assert gauge(metrics, "ems_forecast_drifting_sites", series="load") == 0.0
    await watch.stop()


async def test_the_day_an_alarm_is_raised_leaves_an_edge(store: Store) -> None:
    days = [scored(AT - back * DAY, 0.3 if back <= 8 else 0.1) for back in range(45, 0, -1)]
    watch, _ = make_watch(make_foresight(), store)
    for last in range(38, 46):
        store.save_scores(days[:last])
        watch._assessed = False
        watch._score_and_tell(AT - (45 - last) * DAY)
    edges = store.edges("a", AT - 60 * DAY)
    assert [(edge.subject, edge.became) for edge in edges] == [("forecast.load", "drifting")]
    await watch.stop()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_process_that_dies_while_it_fits_costs_one_night(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    context = get_context("spawn")
    places = [ProcessPoolExecutor(1, mp_context=context, initializer=die), ThreadPoolExecutor(1)]
    foresight = make_foresight()
    foresight.refit(AT - 2 * DAY)
    watch, _ = make_watch(foresight, store, elsewhere=lambda: places.pop(0))
    watch.after_cycle(AT)
    await asyncio.gather(*watch._tasks.values())
    assert foresight.fitted_at == AT - 2 * DAY
    assert "BrokenProcessPool" in (watch.trouble or "")
    assert "the models of yesterday stay in use" in caplog.text
    watch.after_cycle(AT + timedelta(minutes=15))
    await watch.stop()
    assert (foresight.fitted_at, watch.trouble) == (AT + timedelta(minutes=15), None)


async def test_a_restart_finds_the_models_of_the_process_before(store: Store) -> None:
    first = make_foresight()
    watch, _ = make_watch(first, store, elsewhere=process_that_gives_way)
    watch.after_cycle(AT)
    await watch.stop()
    assert first.fitted_at == AT
    second = make_foresight()
    assert restore_models(second, store, now=AT + timedelta(hours=2))
    assert second.fitted_at == AT
    assert not second.refit_due(AT + timedelta(hours=2))
    later = make_foresight()
    assert not restore_models(
        later, store, now=AT - timedelta(hours=1)
    )  # the clock went back: nothing of tomorrow


async def test_a_damaged_version_makes_way_for_the_one_before(store: Store) -> None:
    foresight = make_foresight()
    watch, _ = make_watch(foresight, store)
    for day in range(5):
        watch._fit_and_keep(AT + day * DAY)
    kept = store.models(foresight.fleet, AT + 9 * DAY)
    assert [model.fitted_at for model in kept] == [AT + day * DAY for day in (4, 3, 2)]
    from ems.store.types import StoredModel

    store.save_model(
        foresight.fleet, StoredModel(kind="load", fitted_at=AT + 4 * DAY, body=b"\x80\x04pickle")
    )
    again = make_foresight()
    assert restore_models(again, store, now=AT + 5 * DAY)
    assert again.fitted_at == AT + 3 * DAY
    await watch.stop()


async def test_what_chargers_said_becomes_an_expectation_of_the_next_stay(store: Store) -> None:
    car = home_with_car(id="a", time_zone="UTC")
    foresight = Foresight(
        [car],
        step_s=STEP_S,
        horizon=24,
        make_load=LoadForecaster,
        make_pv=SolarForecaster,
        price_files=lambda _: {},
    )
    for hour in range(20 * 24):
        at = AT - 20 * DAY + timedelta(hours=hour)
        there = at.hour >= 18 or at.hour < 7
        kw = 4.0 if at.hour in (18, 19) else 0.0
        samples = {
            "charger.plugged_in": sample(float(there)),
            "charger.vehicle_net_consumption_kw": sample(kw),
        }
        store.save_readings([SiteReading(site_id="a", samples=samples, troubles={})], at)
    watch = ForecastWatch(
        [car],
        foresight,
        store=store,
        metrics=Metrics(),
        step_s=STEP_S,
        elsewhere=in_thread,
    )
    watch.after_cycle(AT)
    await asyncio.gather(*watch._tasks.values())
    await watch.stop()
    away = state(site_id="a", vehicles={"car": VehicleState(
        plugged_in=False, arrived_at=None, session_kwh=None, wished_kwh=8.0, ready_at=None)})  # fmt: skip
    noon = AT - timedelta(hours=12)
    expected = foresight.foresee((), at=noon, states=[away]).sites[0].vehicles["car"]
    assert expected.arrival_h[1] == pytest.approx(6.0, abs=0.5)
    assert expected.energy_kwh[1] == pytest.approx(8.0, abs=0.5)
    assert int(expected.charging_kw.argmax()) == 6


async def test_a_store_that_refuses_costs_scores_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    foresight = make_foresight()
    watch, _ = make_watch(foresight, store)

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(store, "last_scored", refuse)
    monkeypatch.setattr(store, "save_model", refuse)
    with caplog.at_level(logging.WARNING):
        watch.after_cycle(AT)
        await watch.stop()
    assert foresight.fitted_at == AT
    assert watch.trouble is None
    assert sum("disk full" in record.message for record in caplog.records) == 2
