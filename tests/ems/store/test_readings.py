"""Readings: exact, absent stays absent, the better pass of an instant stays."""

from datetime import timedelta

from ems.readings import Quality, Sample, Unit
from ems.store import Store
from tests.ems.store.conftest import AT, reading, sample

MINUTE = timedelta(minutes=1)


def test_samples_come_back_as_they_were(store: Store) -> None:
    kept = {
        "meter.net_import_kw": sample(-1.2345678901234567, at=AT + timedelta(milliseconds=37)),
        "meter.import_kwh": Sample(
            value=12345.678, unit=Unit.KWH, measured_at=AT - timedelta(days=40), quality=Quality.STALE,
            source="m 30", cause="frozen since 5 h",
        ),
        "meter.voltage_l1_v": Sample(
            value=None, unit=Unit.V, measured_at=AT, quality=Quality.BAD, source="m 2", cause="시간 초과"
        ),
        "charger.plugged_in": sample(0.0, unit=Unit.NONE, quality=Quality.ESTIMATED),
    }  # fmt: skip
    store.save_readings([reading("a", {"inverter": "no answer"}, **kept)], AT)
    assert store.latest_samples(["a", "nowhere"]) == {"a": kept}


def test_absent_is_none_and_never_zero(store: Store) -> None:
    store.save_readings([reading(x=sample(None, quality=Quality.BAD))], AT)
    (found,) = store.samples("a", "x", AT, AT + MINUTE).samples
    assert found.value is None
    assert found.quality is Quality.BAD


def test_of_two_passes_at_one_instant_the_one_with_more_usable_samples_stays(store: Store) -> None:
    poor = reading(x=sample(1.0), y=sample(None, quality=Quality.BAD))
    rich = reading(x=sample(2.0), y=sample(3.0))
    other = reading(x=sample(7.0), y=sample(8.0))
    for pass_ in (poor, rich, poor, other):
        store.save_readings([pass_], AT)
    assert {key: s.value for key, s in store.latest_samples(["a"])["a"].items()} == {"x": 2.0, "y": 3.0}


def test_a_pass_over_one_device_does_not_hide_the_others(store: Store) -> None:
    store.save_readings([reading(meter__kw=sample(1.0), inverter__kw=sample(5.0))], AT)
    store.save_readings([reading(meter__kw=sample(2.0))], AT + MINUTE)
    values = {key: s.value for key, s in store.latest_samples(["a"])["a"].items()}
    assert values == {"meter.kw": 2.0, "inverter.kw": 5.0}


def test_a_series_is_half_open_in_order_and_bounded(store: Store) -> None:
    for i in (3, 0, 2, 1, 4):
        store.save_readings([reading("a", x=sample(float(i))), reading("b", x=sample(9.0))], AT + i * MINUTE)
    whole = store.samples("a", "x", AT, AT + 4 * MINUTE)
    assert [s.value for s in whole.samples] == [0.0, 1.0, 2.0, 3.0]
    assert [s.at for s in whole.samples] == [AT + i * MINUTE for i in range(4)]
    assert (whole.unit, whole.complete) == ("kW", True)
    cut = store.samples("a", "x", AT, AT + 4 * MINUTE, limit=3)
    assert [s.value for s in cut.samples] == [0.0, 1.0, 2.0]
    assert not cut.complete
    nothing = store.samples("a", "no.such", AT, AT + 4 * MINUTE)
    assert nothing.samples == ()
    assert nothing.unit == ""


def test_a_garbled_text_of_a_device_is_no_reason_to_lose_a_pass(store: Store) -> None:
    garbled = Sample(
        value=None, unit=Unit.KW, measured_at=AT, quality=Quality.BAD, source="m\0 1", cause="got '\0\ud800'"
    )
    store.save_readings([reading("a", {"meter": "answered \0\ud800"}, x=garbled, y=sample(1.0))], AT)
    assert store.latest_samples(["a"])["a"]["y"].value == 1.0


def test_instants_keep_their_milliseconds(store: Store) -> None:
    store.save_readings([reading(x=sample(1.0))], AT + timedelta(milliseconds=1))
    store.save_readings([reading(x=sample(2.0))], AT + timedelta(milliseconds=2))
    found = store.samples("a", "x", AT, AT + MINUTE).samples
    assert [s.at - AT for s in found] == [timedelta(milliseconds=1), timedelta(milliseconds=2)]
