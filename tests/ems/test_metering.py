"""Energy per interval: counters decide, nothing is lost over missed boundaries, misbehaving counters yield nothing."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.metering import SiteMeter, conversion
from ems.readings import Quality, SiteReading
from ems.site import Role
from ems.state import MeasuredInterval, SitePowers
from tests.ems.made import AT, METER, STEP, STEP_S, device, home, home_with_car, reading, sample

COUNTERS = {
    "meter.import_kwh": 1000.0,
    "meter.export_kwh": 500.0,
    "inverter.pv_kwh": 300.0,
    "inverter.charged_kwh": 200.0,
    "inverter.discharged_kwh": 150.0,
}
MINUTE = timedelta(minutes=1)


def counted(**risen: float | None) -> SiteReading:
    """Counters that stand `risen` above their start; None is a counter that did not answer."""
    values: dict[str, float | None] = dict(COUNTERS)
    for key in COUNTERS:
        rise = risen.get(key.split(".")[1], 0.0)
        values[key] = None if rise is None else COUNTERS[key] + rise
    return reading(values)


def powers(
    net_kw: float | None = 1.0,
    *,
    load_kw: float | None = 1.0,
    pv_kw: float | None = 0.0,
    battery_kw: float | None = 0.0,
) -> SitePowers:
    return SitePowers(
        net_import_kw=net_kw,
        load_kw=load_kw,
        pv_kw={"roof": pv_kw},
        battery_kw={"store": battery_kw},
        vehicle_kw={},
    )


def started(first: SiteReading | None = None) -> SiteMeter:
    meter = SiteMeter(site=home(), step_s=STEP_S)
    assert meter.close(first or counted(), at=AT, stored_kwh=5.0) == ()
    return meter


def sampled(meter: SiteMeter, minutes: Iterable[int], seen: SitePowers) -> None:
    for minute in minutes:
        meter.note(AT + minute * MINUTE, seen)


def closed(meter: SiteMeter, now: SiteReading, *, steps: int = 1) -> tuple[MeasuredInterval, ...]:
    return meter.close(now, at=AT + steps * STEP, stored_kwh=6.0)


def test_counters_decide_and_samples_give_what_no_counter_counts() -> None:
    meter = started()
    sampled(meter, range(16), powers(load_kw=2.0))
    (found,) = closed(meter, counted(import_kwh=0.4, export_kwh=0.1, pv_kwh=0.5, charged_kwh=0.2))
    assert found.start_at == AT
    assert (found.import_kwh, found.export_kwh) == (pytest.approx(0.4), pytest.approx(0.1))
    assert (found.pv_kwh, found.charged_kwh, found.discharged_kwh) == (
        pytest.approx(0.5),
        pytest.approx(0.2),
        0.0,
    )
    assert found.load_kwh == pytest.approx(0.5)  # 2 kW for a quarter of an hour
    assert found.stored_kwh == 6.0
    assert found.quality is Quality.GOOD


def test_without_counters_the_mean_of_samples_is_an_estimate() -> None:
    meter = started(reading({}))
    sampled(meter, range(8), powers(2.0))
    sampled(meter, range(8, 16), powers(-1.0))
    (found,) = closed(meter, reading({}))
    # trapezoid: 7 min at +2, one minute from +2 to 0 (import) and 0 to 1 (export), 7 min at 1 out
    assert found.import_kwh == pytest.approx((7 * 2 + 1.0) / 60)
    assert found.export_kwh == pytest.approx((7 * 1 + 0.5) / 60)
    assert found.quality is Quality.ESTIMATED


@pytest.mark.parametrize(
    ("minutes", "known"),
    [
        pytest.param(range(16), True, id="every minute"),
        pytest.param(range(2, 16), True, id="most of the interval"),
        pytest.param(range(5, 16), False, id="two thirds: unknown, not scaled up"),
        pytest.param((), False, id="nothing seen"),
        pytest.param((7,), False, id="one sample spans nothing"),
    ],
)
def test_too_few_samples_leave_the_energy_unknown(minutes: Iterable[int], known: bool) -> None:
    meter = started(reading({}))
    sampled(meter, minutes, powers(2.0))
    (found,) = closed(meter, reading({}))
    if known:
        assert found.import_kwh == pytest.approx(0.5)
    else:
        assert found.import_kwh is None
        assert found.load_kwh is None


def test_an_unknown_power_in_between_is_not_bridged() -> None:
    meter = started(reading({}))
    sampled(meter, range(3), powers(2.0))
    sampled(meter, range(3, 9), powers(None, load_kw=None))
    sampled(meter, range(9, 16), powers(2.0))
    (found,) = closed(meter, reading({}))
    assert found.import_kwh is None


rises = st.floats(0.0, 1.5)


@given(
    import_kwh=rises, export_kwh=rises, pv_kwh=rises, charged_kwh=rises, discharged_kwh=rises, steps=st.integers(1, 60)
)  # fmt: skip
def test_counter_energy_is_conserved_over_missed_boundaries(steps: int, **risen: float) -> None:
    found = closed(started(), counted(**risen), steps=steps)
    assert [interval.start_at for interval in found] == [AT + index * STEP for index in range(steps)]
    for name, rise in risen.items():
        energies = [getattr(interval, name) for interval in found]
        assert sum(energies) == pytest.approx(rise, abs=1e-9)
        assert max(energies) - min(energies) < 1e-12  # spread evenly
    if steps > 1:
        assert {interval.quality for interval in found} == {Quality.ESTIMATED}
        assert [interval.stored_kwh for interval in found] == [None] * (steps - 1) + [6.0]


@given(stand=st.lists(st.floats(0, 2.0), min_size=2, max_size=8).map(sorted))
def test_what_intervals_add_up_to_is_what_the_counter_rose(stand: list[float]) -> None:
    meter = started(counted(import_kwh=stand[0]))
    total = 0.0
    for steps, rise in enumerate(stand[1:], start=1):
        (found,) = closed(meter, counted(import_kwh=rise), steps=steps)
        assert found.import_kwh is not None
        total += found.import_kwh
    assert total == pytest.approx(stand[-1] - stand[0], abs=1e-9)


@pytest.mark.parametrize(
    "rise",
    [
        pytest.param(-0.001, id="a step back"),
        pytest.param(-999.0, id="meter exchanged"),
        pytest.param(4.0, id="more than the connection carries in a quarter of an hour"),
        pytest.param(1e6, id="a wild value"),
        pytest.param(None, id="no answer"),
    ],
)
def test_a_counter_that_misbehaves_yields_no_energy(rise: float | None) -> None:
    (found,) = closed(started(), counted(import_kwh=rise, export_kwh=0.1))
    assert found.import_kwh is None
    assert found.export_kwh == pytest.approx(0.1)


def test_after_a_wild_value_the_counter_is_believed_again() -> None:
    meter = started()
    closed(meter, counted(import_kwh=-999.0))
    (found,) = closed(meter, counted(import_kwh=-998.5), steps=2)
    assert found.import_kwh == pytest.approx(0.5)


@pytest.mark.parametrize("device_quality", [Quality.BAD, Quality.STALE])
def test_a_counter_that_was_rejected_does_not_count(device_quality: Quality) -> None:
    now = reading(
        {**counted(import_kwh=0.5).samples, "meter.import_kwh": sample(1000.5, quality=device_quality)}
    )
    (found,) = closed(started(), now)
    assert found.import_kwh is None


def test_a_boundary_closed_twice_adds_nothing() -> None:
    meter = started()
    assert len(closed(meter, counted(import_kwh=0.5))) == 1
    assert closed(meter, counted(import_kwh=0.6)) == ()
    (found,) = closed(meter, counted(import_kwh=0.8), steps=2)
    assert found.import_kwh == pytest.approx(0.3)


def test_a_clock_that_went_back_adds_nothing() -> None:
    meter = started()
    closed(meter, counted(import_kwh=0.5), steps=4)
    assert closed(meter, counted(import_kwh=0.6), steps=2) == ()


def test_a_few_samples_do_not_stand_for_hours_that_were_missed() -> None:
    meter = started(reading({}))
    sampled(meter, range(600 - 15, 600), powers(2.0))
    found = closed(meter, reading({}), steps=40)
    assert len(found) == 40
    assert {interval.import_kwh for interval in found} == {None}
    assert {interval.load_kwh for interval in found} == {None}


def test_the_load_of_a_gap_comes_from_the_balance_of_counters() -> None:
    found = closed(
        started(), counted(import_kwh=2.0, export_kwh=0.4, pv_kwh=1.0, charged_kwh=0.5, discharged_kwh=0.1), steps=4
    )  # fmt: skip
    # 2.0 - 0.4 from the grid; 1.0 + 0.1 - 0.5 = 0.6 on the DC side, 0.6 * 0.97 on the AC side
    assert sum(interval.load_kwh or 0.0 for interval in found) == pytest.approx(1.6 + 0.6 * 0.97)


def test_the_load_of_a_gap_is_unknown_when_a_part_of_the_balance_is() -> None:
    found = closed(started(), counted(import_kwh=2.0, pv_kwh=None), steps=4)
    assert {interval.load_kwh for interval in found} == {None}


@pytest.mark.parametrize(
    ("dc_kwh", "ac_kwh"),
    [pytest.param(2.0, 1.94, id="given: less arrives"), pytest.param(-1.94, -2.0, id="taken: more is drawn")],
)
def test_conversion_always_loses(dc_kwh: float, ac_kwh: float) -> None:
    assert conversion(home(), dc_kwh) == pytest.approx(ac_kwh)


def test_without_a_hybrid_inverter_nothing_is_converted() -> None:
    site = home(devices={"meter": METER, "sun": device(Role.PV_INVERTER)}, assets=())
    assert conversion(site, 2.0) == 2.0


def test_solar_held_back_is_marked_once() -> None:
    meter = started()
    meter.curtailed = True
    assert closed(meter, counted())[0].curtailed
    assert not closed(meter, counted(), steps=2)[0].curtailed


class TestVehicle:
    """A charger that counts its sessions only, or for life."""

    def drawn(self, before: dict[str, float], now: dict[str, float]) -> float | None:
        meter = SiteMeter(site=home_with_car(), step_s=STEP_S)
        meter.close(reading({f"charger.{k}": v for k, v in before.items()}), at=AT, stored_kwh=None)
        (found,) = meter.close(
            reading({f"charger.{k}": v for k, v in now.items()}), at=AT + STEP, stored_kwh=None
        )
        return found.vehicle_kwh

    @pytest.mark.parametrize(
        ("before", "now", "kwh"),
        [
            pytest.param({"session_kwh": 2.0}, {"session_kwh": 3.5}, 1.5, id="session goes on"),
            pytest.param({"session_kwh": 9.0}, {"session_kwh": 0.5}, 0.5, id="a new session"),
            pytest.param({"session_kwh": 9.0}, {"session_kwh": 0.0}, 0.0, id="session ended"),
            pytest.param({"session_kwh": 2.0}, {"session_kwh": 2000.0}, None, id="a wild value"),
            pytest.param({"session_kwh": 5000.0}, {"session_kwh": 2000.0}, None, id="a wild value after another"),
            pytest.param({"session_kwh": 2.0}, {}, None, id="no answer"),
            pytest.param({"vehicle_kwh": 70.0, "session_kwh": 2.0}, {"vehicle_kwh": 71.0, "session_kwh": 3.1}, 1.0,
                         id="the lifetime counter decides"),
        ],
    )  # fmt: skip
    def test_energy(self, before: dict[str, float], now: dict[str, float], kwh: float | None) -> None:
        found = self.drawn(before, now)
        assert found is None if kwh is None else found == pytest.approx(kwh)


def test_an_interval_in_which_the_clock_was_set_keeps_its_counters_and_is_an_estimate() -> None:
    meter = started()
    sampled(meter, range(0, 5), powers(load_kw=2.0))
    meter.disturb()
    # set back by four minutes: the interval lasts 19 minutes, in which the counter rose as it did
    sampled(meter, range(1, 15), powers(load_kw=2.0))
    (interval,) = meter.close(counted(import_kwh=0.7), at=AT + STEP, stored_kwh=5.0)
    assert interval.import_kwh == pytest.approx(0.7)
    assert interval.load_kwh == pytest.approx(0.7), (
        "from the balance of counters, not from a mean over other minutes"
    )
    assert interval.quality is Quality.ESTIMATED
    (after,) = meter.close(counted(import_kwh=1.2), at=AT + 2 * STEP, stored_kwh=5.0)
    assert after.import_kwh == pytest.approx(0.5)


@given(jumps=st.lists(st.sampled_from([0, 0, 0, 20, 90, 300]), min_size=1, max_size=12))
def test_energy_is_neither_doubled_nor_lost_when_the_clock_is_set_forward(jumps: list[int]) -> None:
    """The clock jumps by so many minutes in each quarter of an hour; a kilowatt flows all the time."""
    meter, at, kwh = started(), AT, 0.0
    closed: list[MeasuredInterval] = []
    for minutes in jumps:
        kwh += 0.25
        if minutes:
            meter.disturb()
        at += STEP + minutes * MINUTE
        boundary = AT + ((at - AT) // STEP) * STEP
        closed += meter.close(counted(import_kwh=kwh), at=boundary, stored_kwh=5.0)
    starts = [interval.start_at for interval in closed]
    assert starts == [AT + n * STEP for n in range(len(starts))]
    assert sum(interval.import_kwh or 0.0 for interval in closed) == pytest.approx(kwh)
