"""The fast loop on simulated devices: follows the meter, settles, writes little, lets go when it cannot see."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ems import fast_loop
from ems.cycle import CycleRecord, run_cycle
from ems.fast_loop import FastLoop, merged
from ems.following import Pace
from ems.live import Live
from ems.metrics import Metrics
from ems.orders import OrderKind, SetpointSource
from ems.plan import PlanSource
from ems.publishing import DeliveryOutcome
from ems.setpoints import Quantity, course_of_plan
from ems.site import HttpController
from optimizer import FirstInterval, Outcome
from tests.ems.made import order
from tests.ems.street import NOON, Street, served_street

EVENING = NOON + timedelta(hours=10)
"""No sun."""
PEAK = NOON + timedelta(hours=4, minutes=45)
"""16:45 local: the dear hours have begun, the sun is going."""


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
        answered = await loop.step(at=at)
        later = []
        for second in range(1, 6):
            street.advance(at + timedelta(seconds=second))
            later.append(await loop.step(at=at + timedelta(seconds=second)))

    asked = [s for s in answered.setpoints if s.quantity is Quantity.BATTERY_POWER]
    assert len(asked) == 1
    assert abs((asked[0].value_kw or 0.0) - float(record.plans[0].battery_kw[0])) > Pace().dead_band_kw
    assert [s for step in later for s in step.setpoints] == []
    meter = later[-1].snapshot.sites[0].usable("meter", "net_import_kw")
    assert meter == pytest.approx(0.0, abs=2 * Pace().dead_band_kw), (
        "at the dear hour the battery carries the home"
    )


async def test_a_load_step_is_answered_in_an_interval_that_nothing_was_made_for_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many homes get ready one after the other: what stored energy is worth was found an interval before, and stands in."""
    async with following(tmp_path) as (street, loop, record):
        await loop.step(at=PEAK)
        monkeypatch.setattr(fast_loop, "MAKE_WITHIN_S", 0.0)

        async def meter_kw(at: datetime) -> float | None:
            """What the meter settles at."""
            for second in range(6):
                street.advance(at + timedelta(seconds=second))
                done = await loop.step(at=at + timedelta(seconds=second))
            return done.snapshot.sites[0].usable("meter", "net_import_kw")

        next_hour = PEAK + timedelta(minutes=16)  # another load, less sun
        street.advance(next_hour)
        by_plan = course_of_plan(street.sites[0], record.plans[0], next_hour)
        assert by_plan is not None
        between = await meter_kw(next_hour)
        asked = [s for s in street.journalled if s.quantity is Quantity.BATTERY_POWER][-1]
        assert abs((asked.value_kw or 0.0) - by_plan.battery_kw["battery"]) > Pace().dead_band_kw
        again = await run_cycle(street.sites, street.ports, record, at=PEAK + timedelta(minutes=15))
        loop.follow(again)
        after_a_cycle = await meter_kw(PEAK + timedelta(minutes=17))
        assert not loop.ready, "nothing was made"

    for meter in (between, after_a_cycle):
        assert meter == pytest.approx(0.0, abs=2 * Pace().dead_band_kw), (
            "at the dear hour the battery carries the home"
        )


async def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    async with following(tmp_path) as (street, loop, _):
        first = await loop.step(at=PEAK)
        writes = dict(street.ports.devices["home-01", "inverter"].counters.writes_by_register)
        for second in range(1, 5):
            done = await loop.step(at=PEAK + timedelta(seconds=second))
            assert done.setpoints == ()
        assert street.ports.devices["home-01", "inverter"].counters.writes_by_register == writes
    assert len(first.setpoints) <= 1


async def test_a_setpoint_is_refreshed_before_it_expires(tmp_path: Path) -> None:
    async with following(tmp_path) as (street, loop, record):
        at = PEAK + timedelta(minutes=14)
        await loop.step(at=PEAK)
        street.advance(at)
        done = await loop.step(at=at + timedelta(minutes=2))
    battery = [s for s in done.setpoints if s.asset == "battery"]
    assert battery and battery[0].valid_until > record.setpoints[0].valid_until


async def test_a_silent_meter_gives_the_battery_back_to_its_own_mode_until_it_speaks_again(
    tmp_path: Path,
) -> None:
    async with following(tmp_path) as (street, loop, _):
        street.homes[0].faults("meter").silent = True
        blind = await loop.step(at=PEAK + timedelta(seconds=1))
        street.homes[0].faults("meter").silent = False
        seeing = None
        for second in range(2, 40):
            street.advance(PEAK + timedelta(seconds=10 * second))
            done = await loop.step(at=PEAK + timedelta(seconds=10 * second))
            if done.snapshot.sites[0].usable("meter", "net_import_kw") is not None:
                seeing = done
                break

    assert [s.quantity for s in blind.setpoints if s.asset == "battery"] == [Quantity.OWN_MODE]
    assert seeing is not None
    assert [s.quantity for s in seeing.setpoints if s.asset == "battery"] == [Quantity.BATTERY_POWER]


async def test_a_pause_lets_go_at_once(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, loop, _record):
        done = await loop.step(at=PEAK + timedelta(seconds=1), orders=(order(OrderKind.PAUSE, at=PEAK),))
    assert [s.quantity for s in done.setpoints if s.asset == "battery"] == [Quantity.OWN_MODE]


async def test_what_a_controller_answers_counts_as_what_a_device_does(tmp_path: Path) -> None:
    async with served_street(tmp_path, count=1, at=PEAK) as made:
        (site,) = made.sites
        assets = tuple(replace(a, controller="bms") if a.name == "battery" else a for a in site.assets)
        site = replace(site, assets=assets, controllers={"bms": HttpController(channel="http")})
        street = replace(made, sites=(site,))
        loop = FastLoop((site,), street.ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=1))
        record = await run_cycle((site,), street.ports, None, at=PEAK)
        loop.follow(record)
        (sent,) = [s for s in record.setpoints if s.asset == "battery"]
        (delivery,) = [d for d in record.deliveries if d.asset == "battery"]
        assert (delivery.outcome, delivery.detail) == (DeliveryOutcome.SENT, "by controller bms")
        assert made.ports.devices[site.id, "inverter"].counters.writes_by_register == {}

        async def asked_after(seconds: float) -> list[str]:
            at = PEAK + timedelta(seconds=seconds)
            street.advance(at)
            return [s.id for s in (await loop.step(at=at)).setpoints if s.asset == "battery"]

        assert await asked_after(1) == []  # what was sent is in force until somebody says otherwise
        await loop.hear(replace(sent, id="an older one"), replace(delivery, outcome=DeliveryOutcome.REFUSED))
        assert await asked_after(2) == []
        await loop.hear(sent, replace(delivery, outcome=DeliveryOutcome.REFUSED, held_kw=None))
        again = await asked_after(20)
        assert len(again) == 1
        assert again[0] != sent.id


async def test_a_pass_older_than_the_plan_in_force_writes_nothing(tmp_path: Path) -> None:
    async with following(tmp_path) as (street, loop, _record):
        done = await loop.step(at=PEAK - timedelta(seconds=1))
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


async def test_a_grid_operators_limit_holds_from_the_next_pass_although_the_plan_knew_nothing_of_it(
    tmp_path: Path,
) -> None:
    """A home that was told to charge its battery from the grid at night is cut to 0.5 kW between two cycles."""
    async with following(tmp_path, at=EVENING) as (street, loop, _record):
        at = EVENING + timedelta(seconds=30)
        charge = order(OrderKind.TARGET, 2.5, asset="battery", at=at)
        street.advance(at)
        before = await loop.step(at=at, orders=(charge,))
        street.advance(at + timedelta(seconds=2))
        imported = await loop.step(at=at + timedelta(seconds=2), orders=(charge,))
        limit = order(OrderKind.IMPORT_LIMIT, 0.5, source=SetpointSource.GRID_OPERATOR, at=at)
        street.advance(at + timedelta(seconds=3))
        limited = await loop.step(at=at + timedelta(seconds=3), orders=(charge, limit))
        street.advance(at + timedelta(seconds=5))
        after = await loop.step(at=at + timedelta(seconds=5), orders=(charge, limit))

    (asked,) = [s for s in before.setpoints if s.asset == "battery"]
    assert (asked.value_kw, asked.source, asked.priority) == (2.5, SetpointSource.OVERRIDE, 30)
    drawn = imported.snapshot.sites[0].usable("meter", "net_import_kw")
    assert drawn is not None
    assert drawn > 0.6, "else the case says nothing"
    (told,) = [s for s in limited.setpoints if s.asset == "site"]
    assert (told.quantity, told.value_kw, told.priority) == (Quantity.IMPORT_LIMIT, 0.5, 40)
    kept = after.snapshot.sites[0].usable("meter", "net_import_kw")
    assert kept is not None
    assert kept <= 0.5 + 0.01
    assert [(e.subject, e.became) for e in limited.edges] == [("limit.import", "0.5 kW")]
    assert after.edges == ()


async def test_what_a_person_asks_between_two_cycles_is_followed_and_given_back(tmp_path: Path) -> None:
    async with following(tmp_path, at=NOON) as (street, loop, _record):
        target = order(OrderKind.TARGET, -1.0, asset="battery", at=NOON, since_h=0.0, lasts_h=0.1)
        taken = await loop.step(at=NOON + timedelta(seconds=10), orders=(target,))
        street.advance(NOON + timedelta(minutes=7))
        given_back = await loop.step(at=NOON + timedelta(minutes=7), orders=(target,))
    (asked,) = [s for s in taken.setpoints if s.asset == "battery"]
    assert (asked.value_kw, asked.source) == (-1.0, SetpointSource.OVERRIDE)
    (after,) = [s for s in given_back.setpoints if s.asset == "battery"]
    assert after.source is SetpointSource.FAST_LOOP
    assert [(e.subject, e.became) for e in given_back.edges] == [("target.battery", "as planned")]


async def test_an_inverter_that_acknowledges_without_acting_is_derated_told_and_tried_again(
    tmp_path: Path,
) -> None:
    """Its registers show the setpoint; only the power at the battery says that nothing happens."""
    async with following(tmp_path, at=NOON) as (street, loop, record):
        charge = order(OrderKind.TARGET, 2.0, asset="battery", at=NOON, lasts_h=12.0)
        street.homes[0].faults("inverter").idle = True
        told, asked, receipts, scores = [], [], [], []
        for second in range(5, 180, 5):
            at = NOON + timedelta(seconds=second)
            street.advance(at)
            done = await loop.step(at=at, orders=(charge,))
            told += [(edge.subject, edge.became) for edge in done.edges]
            scores += done.scores
            assert loop.trouble is None
            asked += [(s.quantity, s.value_kw) for s in done.setpoints if s.asset == "battery"]
            receipts += [d.outcome for d in done.deliveries if d.asset == "battery"]
        without = await run_cycle(
            street.sites, street.ports, record, at=NOON + timedelta(minutes=15), conducts=loop.book.conducts
        )
        street.homes[0].faults("inverter").idle = False
        loop.follow(without)
        for second in range(1200, 1500, 5):
            at = NOON + timedelta(seconds=second)
            street.advance(at)
            done = await loop.step(at=at, orders=(charge,))
            told += [(edge.subject, edge.became) for edge in done.edges]

    assert receipts[0] is DeliveryOutcome.APPLIED, "it says that it does"
    assert asked == [(Quantity.BATTERY_POWER, 2.0), (Quantity.OWN_MODE, None)], (
        "let go as soon as it is derated"
    )
    assert [score.followed_frac for score in scores] == [0.0], "the meter scores what the device said it did"
    assert without.plans[0].batteries == {}, "the plan does without it"
    assert without.plans[0].source is PlanSource.OPTIMAL
    assert [became for subject, became in told if subject == "conduct.battery"] == [
        "derated",
        "trial",
        "trusted",
    ]
