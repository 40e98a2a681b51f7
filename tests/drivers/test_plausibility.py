"""Readings no meter should give are caught, by a named rule, and never turned into another number."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.plausibility import Plausibility
from drivers.protocols import Quality

START = datetime(2025, 6, 1, tzinfo=UTC)


def judge(name, *values, max_kw=None, minutes=5.0):
    """Verdicts on values that come so many minutes apart: (value, rule)."""
    rules = Plausibility(max_kw=max_kw)
    found = []
    for number, value in enumerate(values):
        shown, flag = rules.judge(name, value, START + timedelta(minutes=minutes * number))
        found.append((shown, flag.rule if flag else None, flag.quality if flag else Quality.GOOD))
    return found


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        pytest.param("pv_kw", -0.5, "below_zero", id="negative PV"),
        pytest.param("import_kwh", -1.0, "below_zero", id="negative counter"),
        pytest.param("stored_frac", 1.7, "not_a_fraction", id="percent taken for a fraction"),
        pytest.param("frequency_hz", 5.0, "not_a_grid", id="frequency off by ten"),
        pytest.param("voltage_l1_v", 2301.0, "not_a_grid", id="volts off by ten"),
        pytest.param("outdoor_degc", -3276.8, "not_a_temperature", id="a sensor that broke"),
        pytest.param("tank_degc", 480.0, "not_a_temperature", id="degrees off by ten"),
        pytest.param("net_import_kw", 26.0, "above_nameplate", id="more than the connection carries"),
        pytest.param("net_consumption_kw", -30.0, "above_nameplate", id="more than the inverter gives"),
    ],
)
def test_an_impossible_value_is_bad_and_absent(name, value, rule):
    assert judge(name, value, max_kw=20.0) == [(None, rule, Quality.BAD)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net_import_kw", -20.0),
        ("stored_frac", 1.0),
        ("stored_frac", 0.0),
        ("pv_kw", 0.0),
        ("frequency_hz", 60.0),
        ("voltage_l1_v", 0.0),
        ("voltage_l1_v", 347.0),
        ("outdoor_degc", -41.5),
    ],
)
def test_an_ordinary_value_passes(name, value):
    assert judge(name, value, max_kw=20.0) == [(value, None, Quality.GOOD)]


def test_a_counter_that_goes_back_once_is_not_believed():
    shown = judge("import_kwh", 100.0, 100.5, 3.0, 101.0)
    assert [value for value, *_ in shown] == [100.0, 100.5, None, 101.0]
    assert shown[2][1] == "counter_went_back"


def test_a_counter_that_jumps_beyond_the_connection_is_not_believed():
    shown = judge("import_kwh", 100.0, 150.0, 100.4, max_kw=10.0)
    assert [value for value, *_ in shown] == [100.0, None, 100.4]
    assert shown[1][1] == "counter_jumped"


@given(
    step_kwh=st.sampled_from([0.001, 0.1, 1.0, 10.0]),
    looks=st.lists(st.tuples(st.floats(0.5, 3600), st.floats(0, 5)), min_size=5, max_size=60),
    start_kwh=st.floats(0, 9),
)
def test_a_coarse_counter_is_believed_however_often_one_looks(step_kwh, looks, start_kwh):
    """1 kWh at once is no jump of a counter that counts whole kWh; it stands for the time since its last step."""
    rules, at, true_kwh = Plausibility(max_kw=5.0), START, start_kwh
    shown = []
    for seconds, kw in looks:
        at += timedelta(seconds=seconds)
        true_kwh += kw * seconds / 3600
        raw = step_kwh * int(true_kwh / step_kwh)
        value, flag = rules.judge("import_kwh", raw, at)
        assert flag is None, flag
        shown.append(value)
    assert shown == sorted(shown) and shown[-1] <= true_kwh + 1e-9


def test_a_jump_is_caught_once_the_counters_steps_are_known():
    shown = judge("import_kwh", 100.0, 100.4, 100.8, 103.8, 101.2, max_kw=10.0)
    assert [rule for _, rule, _ in shown] == [None, None, None, "counter_jumped", None]


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        pytest.param(99999.8, 0.3, 0.5, id="five digits of kWh"),
        pytest.param(2**32 / 1000 - 0.2, 0.1, 0.3, id="32 bits of Wh"),
    ],
)
def test_a_counter_that_rolls_over_goes_on_rising(before, after, gone):
    (_, second, third) = judge("import_kwh", before, after, after + 1.0)
    assert second[0] - before == pytest.approx(gone)
    assert second[1:] == ("counter_rolled_over", Quality.ESTIMATED)
    assert third[0] - second[0] == pytest.approx(1.0)


def test_an_exchanged_meter_is_believed_after_three_readings_and_goes_on_from_the_old():
    shown = judge("import_kwh", 5000.0, 5000.2, 12.0, 12.1, 12.3, 12.6)
    assert [value for value, *_ in shown[2:4]] == [None, None]
    assert shown[4][1:] == ("meter_exchanged", Quality.ESTIMATED)
    assert shown[4][0] == pytest.approx(5000.2 + 0.3), (
        "what the new meter counted while it was not believed is kept"
    )
    assert shown[5][0] - shown[4][0] == pytest.approx(0.3)


def frozen(values, passes, seconds):
    rules = Plausibility(max_kw=None)
    at = [START + timedelta(seconds=seconds * number) for number in range(passes)]
    return [rules.frozen(values, when) for when in at][-1]


def test_a_device_is_frozen_when_nothing_moves_although_power_flows():
    assert frozen({"net_import_kw": 1.5, "import_kwh": 10.0}, passes=25, seconds=30).rule == "frozen"


@pytest.mark.parametrize(
    ("values", "passes", "seconds"),
    [
        pytest.param({"net_consumption_kw": 0.0, "generated_kwh": 10.0}, 100, 30, id="an inverter at night"),
        pytest.param({"net_import_kw": 1.5}, 25, 1, id="asked often in a short time"),
        pytest.param({"net_import_kw": 1.5}, 5, 600, id="too few readings"),
        pytest.param({}, 100, 30, id="nothing read"),
    ],
)
def test_a_quiet_device_is_not_frozen(values, passes, seconds):
    assert frozen(values, passes, seconds) is None


def test_a_counter_read_after_the_clock_was_set_back_is_believed():
    plausibility = Plausibility(max_kw=10.0)
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert plausibility.judge("import_kwh", 100.0, at) == (100.0, None)
    assert plausibility.judge("import_kwh", 100.02, at - timedelta(hours=1)) == (100.02, None)
