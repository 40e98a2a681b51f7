"""Which plan counts when; forecasts by issue."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from ems.codec import to_json
from ems.store import Store
from ems.store.synthetic import Street
from tests.ems.store.conftest import AT, QUARTER

HOME = "home00000"


def test_the_plan_in_force_is_the_one_decided_last(store: Store) -> None:
    street = Street(n_sites=1)
    first, second = street.cycle(AT), street.cycle(AT + QUARTER)
    store.save_cycle(first)
    store.save_cycle(second)
    during_first = store.plan_in_force(HOME, AT + timedelta(minutes=14, seconds=59))
    during_second = store.plan_in_force(HOME, AT + QUARTER)
    assert during_first is not None
    assert to_json(during_first) == to_json(first.plans[0])
    assert during_second is not None
    assert to_json(during_second) == to_json(second.plans[0])
    latest = store.latest_plan(HOME)
    assert latest is not None
    assert to_json(latest) == to_json(second.plans[0])


def test_a_plan_that_has_run_out_is_latest_but_not_in_force(store: Store) -> None:
    record = Street(n_sites=1).cycle(AT)
    store.save_cycle(record)
    end_at = record.plans[0].valid_until
    assert store.plan_in_force(HOME, end_at - timedelta(seconds=1)) is not None
    assert store.plan_in_force(HOME, end_at) is None
    assert store.plan_in_force(HOME, AT - timedelta(seconds=1)) is None
    assert store.latest_plan(HOME) is not None
    assert store.plan_in_force("elsewhere", AT) is None


def test_a_forecast_comes_back_by_issue_or_the_latest(store: Store) -> None:
    street = Street(n_sites=1)
    first, second = street.cycle(AT), street.cycle(AT + QUARTER)
    store.save_cycle(first)
    store.save_cycle(second)
    early = store.forecast(HOME, "pv.roof", issued_at=AT)
    late = store.forecast(HOME, "pv.roof")
    assert early is not None
    assert late is not None
    assert late.issued_at == AT + QUARTER
    want = first.outlook.sites[0].pv["roof"]
    assert early.low is not None
    assert early.high is not None
    # single precision: 24 bits
    np.testing.assert_allclose(early.mean, want.mean_kw, rtol=2**-23)
    np.testing.assert_allclose(early.low, want.low_kw, rtol=2**-23)
    np.testing.assert_allclose(early.high, want.high_kw, rtol=2**-23)
    np.testing.assert_array_equal(early.starts_s, first.outlook.starts_s)
    assert (early.source, early.quality, early.unit) == ("clear-sky", "good", "kW")
    assert store.forecast(HOME, "pv.barn") is None


def test_prices_are_series_without_quantiles_and_say_when_they_are_assumed(store: Store) -> None:
    record = Street(n_sites=1).cycle(AT)
    assumed = replace(record.outlook.sites[0], prices_assumed=96)
    store.save_cycle(replace(record, outlook=replace(record.outlook, sites=(assumed,))))
    buy = store.forecast(HOME, "buy")
    assert buy is not None
    np.testing.assert_allclose(buy.mean, assumed.buy_per_kwh, rtol=2**-23)
    assert (buy.low, buy.high, buy.unit, buy.quality) == (None, None, "1/kWh", "estimated")
