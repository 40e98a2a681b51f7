from __future__ import annotations

import io
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context

import numpy as np
import pytest
from forecast_series import SEOUL, home_load, plant_power

from forecasting import (
    LoadForecaster,
    NotFitted,
    PriceForecaster,
    SolarForecaster,
    UnsafeModel,
    Weather,
    dump_model,
    load_model,
    train,
)
from forecasting.persistence import FORMAT


@pytest.mark.parametrize("days", [3, 50])
@pytest.mark.parametrize("kind", [LoadForecaster, SolarForecaster, PriceForecaster])
def test_a_restored_model_predicts_the_same(
    kind: type[LoadForecaster | SolarForecaster | PriceForecaster], days: int
) -> None:
    history = plant_power(days=days)[0] if kind is SolarForecaster else home_load(days=days)
    model = kind(SEOUL).fit(history)
    packed = dump_model(model)
    again = load_model(packed, SEOUL)
    before = model.predict(history.end_at, 48, recent=history)
    after = again.predict(history.end_at, 48, recent=history)
    assert np.allclose(before.quantiles, after.quantiles, rtol=1e-5, atol=1e-6)
    assert before.sources == after.sources
    assert len(packed) < 60_000


def test_the_guided_part_is_kept() -> None:
    history, index = plant_power(days=60)
    weather = Weather(start_at=history.start_at, step=history.step, ghi_w_m2=700.0 * index)
    known = history.until(history.start_at + timedelta(days=55))
    model = SolarForecaster(SEOUL).fit(known, weather=weather)
    again = load_model(dump_model(model), SEOUL)
    before = model.predict(known.end_at, 24, recent=history, weather=weather)
    assert np.allclose(
        before.quantiles,
        again.predict(known.end_at, 24, recent=history, weather=weather).quantiles,
        atol=1e-5,
    )
    assert not np.allclose(before.quantiles, again.predict(known.end_at, 24, recent=history).quantiles)


def test_nothing_learned_is_nothing_to_store() -> None:
    with pytest.raises(NotFitted):
        dump_model(LoadForecaster(SEOUL))


def hostile() -> list[bytes]:
    good = dump_model(LoadForecaster(SEOUL).fit(home_load(days=3)))
    arrays = dict(np.load(io.BytesIO(good)))
    header = json.dumps({"format": FORMAT, "kind": "os"}).encode()
    wrong_kind = io.BytesIO()
    np.savez(wrong_kind, **{**arrays, "header": np.frombuffer(header, dtype=np.uint8)})
    cut = io.BytesIO()
    np.savez(cut, **{key: array for key, array in arrays.items() if key != "choice.chosen"})
    elsewhere = io.BytesIO()
    np.savez(elsewhere, **{**arrays, "choice.chosen": np.array([7])})
    pickled = io.BytesIO()
    np.savez(pickled, header=np.array([{"a": 1}], dtype=object))
    return [
        b"",
        b"not a zip",
        good[: len(good) // 2],
        pickle.dumps({"format": 1}),
        wrong_kind.getvalue(),
        cut.getvalue(),
        elsewhere.getvalue(),
        pickled.getvalue(),
    ]


@pytest.mark.parametrize("index", range(8))
def test_anything_else_is_refused(index: int) -> None:
    with pytest.raises(UnsafeModel):
        load_model(hostile()[index], SEOUL)


def test_a_model_of_other_sites_is_refused() -> None:
    packed = dump_model(LoadForecaster([SEOUL] * 2).fit(home_load(days=3, sites=2)))
    with pytest.raises(UnsafeModel, match="2"):
        load_model(packed, [SEOUL] * 3)


def test_training_runs_behind_an_executor() -> None:
    history = home_load(days=25)
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        packed = pool.submit(train, "load", SEOUL, history).result(timeout=50)
    there = load_model(packed, SEOUL).predict(history.end_at, 24, recent=history)
    here = LoadForecaster(SEOUL).fit(history).predict(history.end_at, 24)
    assert np.allclose(there.quantiles, here.quantiles, rtol=1e-5, atol=1e-6)
    assert load_model(train("load", SEOUL, history, None, packed), SEOUL).choice_ is not None


def test_a_site_without_a_reading_does_not_cost_the_others_their_model() -> None:
    both = home_load(days=50, sites=2)
    values = both.values.copy()
    values[1] = np.nan
    history = replace(both, values=values)
    model = LoadForecaster([SEOUL] * 2).fit(history)
    assert model.choice_ is not None
    assert list(model.choice_.chosen) == [1, 0]
    again = load_model(dump_model(model), [SEOUL] * 2)
    before, after = (one.predict(history.end_at, 48, recent=history) for one in (model, again))
    np.testing.assert_allclose(after.quantiles, before.quantiles, rtol=1e-5, atol=1e-6)
    assert before.sources == after.sources


def test_a_model_that_lost_the_numbers_of_a_site_it_serves_is_refused() -> None:
    packed = dump_model(LoadForecaster(SEOUL).fit(home_load(days=50)))
    arrays = dict(np.load(io.BytesIO(packed)))
    arrays["1.model.table"] = np.full_like(arrays["1.model.table"], np.nan)
    damaged = io.BytesIO()
    np.savez(damaged, **arrays)
    with pytest.raises(UnsafeModel, match="not a number"):
        load_model(damaged.getvalue(), SEOUL)
