"""The fast loop on simulated devices: follows the meter, settles, writes little, lets go when it cannot see."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ems.cycle import CycleRecord, run_cycle
from ems.fast_loop import FastLoop, merged
from ems.following import Pace
from ems.live import Live
from ems.metrics import Metrics
from ems.setpoints import Quantity, course_of_plan
from optimizer import FirstInterval, Outcome
from tests.ems.street import NOON, Street, served_street

PEAK = NOON + timedelta(hours=4, minutes=45)
"""16:45 local: the dear hours have begun, the sun is going."""
NOBODY: frozenset[str] = frozenset()


@asynccontextmanager
async def following(
    folder: Path, *, at=PEAK, count: int = 1
) -> AsyncIterator[tuple[Street, FastLoop, CycleRecord]]:
    async with served_street(folder, count=count, at=at) as street:
        loop = FastLoop(
            street.sites, street.ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=30)
        )
        record = await run_cycle(street.sites, street.ports, None, at=at)
        loop.follow(record)
        yield street, loop, record


async def test_a_load_step_is_answered_and_then_left_alone(tmp_path: Path) -> None:
    async with following(tmp_path) as (street, loop, record):
        at = PEAK + timedelta(minutes=16)  # the recording's next hour: another load, less sun
        street.advance(at)
        answered = await loop.step(at=at, paused=NOBODY)
        later = []
        for second in range(1, 6):
            street.advance(at + timedelta(seconds=second))
            later.append(await loop.step(at=at + timedelta(seconds=second), paused=NOBODY))

    asked = [s for s in answered.setpoints if s.quantity is Quantity.BATTERY_POWER]
    assert len(asked) == 1
    assert abs((asked[0].value_kw or 0.0) - float(record.plans[0].battery_kw[0])) > Pace().dead_band_kw
    assert [s for step in later for s in step.setpoints] == []
    meter = later[-1].snapshot.sites[0].usable("meter", "net_import_kw")
    assert meter == pytest.approx(0.0, abs=2 * Pace().dead_band_kw), "at the dear hour the battery carries the home"


async def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    async with following(tmp_path) as (street, loop, _):
        first = await loop.step(at=PEAK, paused=NOBODY)
        writes = dict(street.ports.devices["home-01", "inverter"].counters.writes_by_register)
        for second in range(1, 5):
            done = await loop.step(at=PEAK + timedelta(seconds=second), paused=NOBODY)
            assert done.setpoints == ()
        assert street.ports.devices["home-01", "inverter"].counters.writes_by_register == writes
    assert len(first.setpoints) <= 1


async def test_a_setpoint_is_refreshed_before_it_expires(tmp_path: Path) -> None:
    async with following(tmp_path) as (street, loop, record):
        at = PEAK + timedelta(minutes=14)
        await loop.step(at=PEAK, paused=NOBODY)
        street.advance(at)
        done = await loop.step(at=at + timedelta(minutes=2), paused=NOBODY)
    battery = [s for s in done.setpoints if s.asset == "battery"]
    assert battery and battery[0].valid_until > record.setpoints[0].valid_until


async def test_a_silent_meter_gives_the_battery_back_to_its_own_mode_until_it_speaks_again(
    tmp_path: Path,
) -> None:
    async with following(tmp_path) as (street, loop, _):
        street.homes[0].faults("meter").silent = True
        blind = await loop.step(at=PEAK + timedelta(seconds=1), paused=NOBODY)
        street.homes[0].faults("meter").silent = False
        seeing = None
        for second in range(2, 40):
            street.advance(PEAK + timedelta(seconds=10 * second))
            done = await loop.step(at=PEAK + timedelta(seconds=10 * second), paused=NOBODY)
            if done.snapshot.sites[0].usable("meter", "net_import_kw") is not None:
                seeing = done
                break

    assert [s.quantity for s in blind.setpoints if s.asset == "battery"] == [Quantity.OWN_MODE]
    assert seeing is not None
    assert [s.quantity for s in seeing.setpoints if s.asset == "battery"] == [Quantity.BATTERY_POWER]


async def test_a_pause_lets_go_at_once(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, loop, _record):
        done = await loop.step(at=PEAK + timedelta(seconds=1), paused=frozenset({"home-01"}))
    assert [s.quantity for s in done.setpoints if s.asset == "battery"] == [Quantity.OWN_MODE]


async def test_a_pass_older_than_the_plan_in_force_writes_nothing(tmp_path: Path) -> None:
    async with following(tmp_path) as (street, loop, _record):
        done = await loop.step(at=PEAK - timedelta(seconds=1), paused=NOBODY)
        battery = street.ports.devices["home-01", "inverter"]
        assert done.setpoints == ()
        assert battery.counters.writes > 0, "the cycle's own setpoint stands"


async def test_an_export_limit_is_kept_between_cycles_when_load_falls_and_the_battery_is_full(
    tmp_path: Path,
) -> None:
    """The re-solve curtails; the cap must reach the inverter although the plan had none."""
    async with following(tmp_path) as (street, _loop, record):
        site = street.sites[0]
        planned = course_of_plan(site, record.plans[0], PEAK)
        assert planned is not None
        assert planned.generation_limit_kw == {"roof": None}
        first = FirstInterval(
            outcome=Outcome.OPTIMAL, import_kw=0.0, export_kw=0.0,
            net_consumption_kw={"inverter": -0.3, "battery": 0.0, "roof": 0.0}, curtailed_kw={"roof": 3.69},
            unserved_kw=0.0, surplus_kw=0.0, bus_price_per_kwh=0.0, stored_value_per_kwh={}, solver_seconds=0.0,
        )  # fmt: skip
        assert merged(site, planned, first).generation_limit_kw == {"roof": pytest.approx(0.3)}
