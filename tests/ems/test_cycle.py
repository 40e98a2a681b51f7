"""The cycle on simulated devices over real sockets: forward, recorded, replayable, honest about trouble."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ems.codec import from_json, to_json
from ems.cycle import CycleRecord, plans_by_site, replay, run_cycle
from ems.orders import OrderKind, standing
from ems.plan import PlanSource
from ems.planning import plans_differ, solve_in_process
from ems.publishing import DeliveryOutcome
from ems.readings import Quality
from ems.setpoints import Quantity, SetpointSource
from ems.state import GridState
from tests.ems.made import order
from tests.ems.street import NOON, STEP_S, served_street

STEP = timedelta(seconds=STEP_S)


async def test_a_cycle_reads_plans_writes_and_the_field_obeys(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        record = await run_cycle(street.sites, street.ports, None, at=NOON)
        street.advance(NOON + STEP)
        after = await run_cycle(street.sites, street.ports, record, at=NOON + STEP)

    assert [plan.source for plan in record.plans] == [PlanSource.OPTIMAL] * 2
    assert {delivery.outcome for delivery in record.deliveries} == {DeliveryOutcome.APPLIED}
    for site, plan, state in zip(street.sites, record.plans, after.states, strict=True):
        asked_kw = float(plan.battery_kw[0])
        held = next(d for d in record.deliveries if d.site_id == site.id and d.asset == "battery")
        assert held.held_kw == pytest.approx(asked_kw, abs=0.01)
        assert state.powers.battery_kw["battery"] == pytest.approx(asked_kw, abs=0.05)


async def test_energy_of_the_interval_is_what_truly_flowed(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        record = await run_cycle(street.sites, street.ports, None, at=NOON)
        assert record.accounts == ()
        before = [home.totals for home in street.homes]
        start = [(t.import_kwh, t.export_kwh, t.load_kwh) for t in before]
        street.advance(NOON + STEP / 2)
        street.advance(NOON + STEP)
        record = await run_cycle(street.sites, street.ports, record, at=NOON + STEP)
        truth = [home.totals for home in street.homes]

    for account, told, (import_kwh, export_kwh, load_kwh) in zip(record.accounts, truth, start, strict=True):
        assert account.start_at == NOON
        assert account.measured.import_kwh == pytest.approx(told.import_kwh - import_kwh, abs=0.002)
        assert account.measured.export_kwh == pytest.approx(told.export_kwh - export_kwh, abs=0.002)
        assert account.measured.load_kwh == pytest.approx(told.load_kwh - load_kwh, abs=0.06)


async def test_a_recorded_cycle_makes_the_same_plans_again_after_a_trip_through_json(tmp_path: Path) -> None:
    async with served_street(tmp_path, count=3) as street:
        first = await run_cycle(street.sites, street.ports, None, at=NOON)
        street.advance(NOON + STEP)
        record = await run_cycle(street.sites, street.ports, first, at=NOON + STEP)

    kept = from_json(CycleRecord, to_json(record))

    again = replay(kept, solve=solve_in_process)
    assert [plans_differ(plan, other) for plan, other in zip(record.plans, again, strict=True)] == [None] * 3
    assert [plan.reasons for plan in again] == [plan.reasons for plan in record.plans]


async def test_a_home_whose_inverter_is_silent_is_left_to_its_devices_and_costs_the_others_nothing(
    tmp_path: Path,
) -> None:
    async with served_street(tmp_path) as street:
        street.homes[0].faults("inverter").silent = True
        record = await run_cycle(street.sites, street.ports, None, at=NOON)

    silent, other = record.plans
    assert silent.source is PlanSource.RULE
    assert "inverter.stored_frac" in (silent.cause or "")
    assert other.source is PlanSource.OPTIMAL
    assert record.states[0].quality is Quality.BAD
    assert record.states[0].powers.load_kw is None
    asked = {(s.site_id, s.asset): s.quantity for s in record.setpoints}
    assert asked["home-01", "battery"] is Quantity.OWN_MODE
    assert any(edge.site_id == "home-01" and edge.subject == "device.inverter" for edge in record.edges)
    assert not any(edge.site_id == "home-02" for edge in record.edges)


async def test_a_paused_home_runs_its_own_mode_and_is_still_planned_for(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        record = await run_cycle(
            street.sites,
            street.ports,
            None,
            at=NOON,
            orders=(order(OrderKind.PAUSE, site_id="home-02", at=NOON),),
        )

    paused = [s for s in record.setpoints if s.site_id == "home-02"]
    assert {s.source for s in paused} == {SetpointSource.OVERRIDE}
    assert next(s for s in paused if s.asset == "battery").quantity is Quantity.OWN_MODE
    assert record.plans[1].source is PlanSource.OPTIMAL


async def test_missed_intervals_are_counted_and_no_energy_is_lost(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        first = await run_cycle(street.sites, street.ports, None, at=NOON)
        start_kwh = [home.totals.import_kwh + home.totals.export_kwh for home in street.homes]
        street.advance(NOON + 4 * STEP)
        record = await run_cycle(street.sites, street.ports, first, at=NOON + 4 * STEP, missed=3)
        flowed = [
            home.totals.import_kwh + home.totals.export_kwh - before
            for home, before in zip(street.homes, start_kwh, strict=True)
        ]

    for site, moved_kwh in zip(street.sites, flowed, strict=True):
        mine = [account.measured for account in record.accounts if account.site_id == site.id]
        assert [one.start_at for one in mine] == [NOON + index * STEP for index in range(4)]
        assert {one.quality for one in mine} == {Quality.ESTIMATED}
        seen_kwh = sum((one.import_kwh or 0.0) + (one.export_kwh or 0.0) for one in mine)
        assert seen_kwh == pytest.approx(moved_kwh, abs=0.005)


async def test_setpoints_are_journalled_before_a_device_sees_them(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        record = await run_cycle(street.sites, street.ports, None, at=NOON)

    assert [s.id for s in street.journalled] == [s.id for s in record.setpoints]
    assert all(s.valid_until > s.valid_from for s in record.setpoints)


async def test_without_any_history_a_first_plan_still_comes(tmp_path: Path) -> None:
    async with served_street(tmp_path, taught=False) as street:
        record = await run_cycle(street.sites, street.ports, None, at=NOON)

    for expected in record.outlook.sites:
        assert np.isfinite(expected.load.mean_kw).all()
        assert np.isfinite(expected.pv["roof"].mean_kw).all()
        assert expected.load.quality == "cold"
    assert [plan.source for plan in record.plans] == [PlanSource.OPTIMAL] * 2


async def test_a_cycle_that_fails_loses_no_interval(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        first = await run_cycle(street.sites, street.ports, None, at=NOON)
        street.advance(NOON + STEP)

        async def full(setpoints: object) -> None:
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space"):
            await run_cycle(street.sites, replace(street.ports, journal=full), first, at=NOON + STEP)
        street.advance(NOON + 2 * STEP)
        record = await run_cycle(street.sites, street.ports, first, at=NOON + 2 * STEP)

    for site in street.sites:
        mine = [account.start_at for account in record.accounts if account.site_id == site.id]
        assert mine == [NOON, NOON + STEP]


async def test_a_solver_that_fails_takes_the_next_rung(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        first = await run_cycle(street.sites, street.ports, None, at=NOON)
        street.advance(NOON + STEP)

        def broken(problems: object) -> object:
            raise MemoryError("out of memory")

        record = await run_cycle(street.sites, replace(street.ports, solve=broken), first, at=NOON + STEP)

    assert [plan.source for plan in record.plans] == [PlanSource.PREVIOUS] * 2
    assert all("out of memory" in (plan.cause or "") for plan in record.plans)


async def test_a_site_configured_anew_does_not_inherit_a_plan_for_what_it_was(tmp_path: Path) -> None:
    async with served_street(tmp_path) as street:
        record = await run_cycle(street.sites, street.ports, None, at=NOON)
    renamed = replace(
        street.sites[0], assets=tuple(replace(a, name=f"{a.name}2") for a in street.sites[0].assets)
    )
    assert plans_by_site(record, (renamed, street.sites[1])) == (None, record.plans[1])


async def test_a_change_the_fast_loop_has_told_is_not_told_again(tmp_path: Path) -> None:
    limit = order(OrderKind.IMPORT_LIMIT, 2.0, source=SetpointSource.GRID_OPERATOR, at=NOON)
    async with served_street(tmp_path) as street:
        first = await run_cycle(street.sites, street.ports, None, at=NOON)
        told = {"home-01": (standing(street.sites[0], (limit,), at=NOON), GridState.PRESENT)}
        second = await run_cycle(
            street.sites, street.ports, first, at=NOON + STEP, orders=(limit, replace(limit, site_id="home-02")),
            told=told,
        )  # fmt: skip
    assert [edge.site_id for edge in second.edges if edge.subject == "limit.import"] == ["home-02"]
