"""The ladder of control: each step told once and counted; what is unknown never leads to full power."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ems.cycle import run_cycle
from ems.fast_loop import FastLoop
from ems.ladder import Ladder, Rung
from ems.live import Live
from ems.metrics import Metrics
from ems.orders import OrderKind
from ems.setpoints import Quantity, SetpointSource, derive_setpoints
from tests.ems.made import AT, home_with_car, order
from tests.ems.street import NOON, served_street


def on(metrics: Metrics, rung: Rung) -> float | None:
    return metrics.registry.get_sample_value("ems_sites", {"rung": rung})


def test_a_step_to_own_mode_and_back_is_told_once_and_levels_are_counted() -> None:
    metrics = Metrics()
    ladder = Ladder(metrics)
    told = []
    for second, rung in enumerate(
        [Rung.OPTIMAL, Rung.OPTIMAL, Rung.OWN_MODE, Rung.OWN_MODE, Rung.OWN_MODE, Rung.PREVIOUS, Rung.OPTIMAL]
    ):
        ladder.note("other", Rung.RULE, "unknown: meter", at=AT)
        told += ladder.note("home-01", rung, "unknown: meter", at=AT + timedelta(seconds=second))
        assert on(metrics, rung) == 1.0
        assert sum(on(metrics, one) or 0.0 for one in Rung) == 2.0
    assert [(edge.at - AT, edge.became) for edge in told] == [
        (timedelta(seconds=2), "own_mode"),
        (timedelta(seconds=5), "previous again"),
    ]
    ladder.forget()
    assert sum(on(metrics, one) or 0.0 for one in Rung) == 0.0


@pytest.mark.parametrize(
    ("device", "unknown"),
    [
        pytest.param("meter", "meter.net_import_kw", id="the meter is silent"),
        pytest.param("inverter", "inverter.stored_frac", id="the state of charge is too old"),
    ],
)
async def test_a_site_that_cannot_be_seen_falls_to_its_devices_and_comes_back(
    tmp_path: Path, device: str, unknown: str
) -> None:
    async with served_street(tmp_path, count=1) as street:
        metrics = Metrics()
        loop = FastLoop(
            street.sites, street.ports, live=Live(), metrics=metrics, valid_for=timedelta(minutes=2)
        )
        record = await run_cycle(street.sites, street.ports, None, at=NOON)
        # a plan that holds on, so that only what is seen decides
        lasting = tuple(replace(plan, valid_until=NOON + timedelta(hours=4)) for plan in record.plans)
        loop.follow(replace(record, plans=lasting))
        at, edges, asked = NOON, [], []

        async def passes(count: int, step_s: float) -> None:
            nonlocal at
            for _ in range(count):
                at += timedelta(seconds=step_s)
                street.advance(at)
                done = await loop.step(at=at)
                edges.extend(edges_of(done))
                asked.extend(one for one in done.setpoints if one.asset == "battery")

        await passes(2, 10)
        assert (edges, on(metrics, Rung.OPTIMAL)) == ([], 1.0)
        street.homes[0].faults(device).exception_code = 4  # type: ignore[arg-type]
        asked.clear()
        await passes(40, 60)
        assert on(metrics, Rung.OWN_MODE) == 1.0
        assert [(became, unknown in cause) for became, cause in edges] == [("own_mode", True)]
        assert {one.quantity for one in asked if one.source is SetpointSource.FAST_LOOP} <= {
            Quantity.OWN_MODE,
            Quantity.BATTERY_POWER,
        }
        street.homes[0].faults(device).exception_code = None  # type: ignore[arg-type]
        await passes(3, 60)
    assert [became for became, _ in edges] == ["own_mode", "optimal again"]
    assert on(metrics, Rung.OPTIMAL) == 1.0


def edges_of(done) -> list[tuple[str, str]]:
    return [(edge.became, edge.cause) for edge in done.edges if edge.subject == "steering"]


async def test_a_plan_that_has_run_out_is_told(tmp_path: Path) -> None:
    async with served_street(tmp_path, count=1) as street:
        loop = FastLoop(
            street.sites, street.ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=2)
        )
        loop.follow(await run_cycle(street.sites, street.ports, None, at=NOON))
        at = NOON + street.ports.valid_for + timedelta(seconds=1)
        street.advance(at)
        done = await loop.step(at=at)
    assert edges_of(done) == [("own_mode", "the plan has run out")]


@pytest.mark.parametrize("source", [SetpointSource.PLAN, SetpointSource.FAST_LOOP])
def test_what_is_unknown_never_leads_to_full_power(source: SetpointSource) -> None:
    site = home_with_car()
    asked = derive_setpoints(
        site, None, plan=None, at=AT, valid_until=AT + timedelta(minutes=1), source=source
    )
    by_asset = {setpoint.asset: setpoint for setpoint in asked}
    assert by_asset["store"].quantity is Quantity.OWN_MODE
    (car,) = site.vehicles
    assert by_asset["car"].value_kw == car.charge_min_kw < car.charge_limit_kw


async def test_a_pause_is_no_fault(tmp_path: Path) -> None:
    async with served_street(tmp_path, count=1) as street:
        metrics = Metrics()
        loop = FastLoop(
            street.sites, street.ports, live=Live(), metrics=metrics, valid_for=timedelta(minutes=2)
        )
        loop.follow(await run_cycle(street.sites, street.ports, None, at=NOON))
        done = await loop.step(at=NOON + timedelta(seconds=1), orders=(order(OrderKind.PAUSE, at=NOON),))
    assert edges_of(done) == []
    assert on(metrics, Rung.PAUSED) == 1.0
