"""Plays the fault matrix: every fault against every thing a home may be doing. See fault_matrix.py for what must hold."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ems.plan import PlanSource
from ems.publishing import DeliveryOutcome
from tests.scenarios.fault_matrix import COLUMNS, FAULTS, Fault
from tests.scenarios.stage import LAG_S, SPEED, VALID_S, Held, Play, Stage, staged

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.timeout(1800)]
AT_ONCE = 3
"""Faults played at the same time."""
SAME_KW = 0.05
"""Registers round."""
LAG, EARLY = timedelta(seconds=LAG_S), timedelta(seconds=5)
CELLS = [
    pytest.param(fault, column, id=f"{fault.name}-{column}".replace(" ", "_"))
    for fault in FAULTS
    for column in COLUMNS
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What came of one cell."""

    over_limit_s: float
    """How long the connection's limit was broken [wall s]."""
    over_limit_after: bool
    """Whether it still is in the end."""
    outlived: Sequence[str]
    """Orders devices held although no setpoint on record was valid, or without an end."""
    unrecorded: Sequence[str]
    """Orders devices took that no setpoint on record asked for."""
    unanswered: Sequence[str]
    """Setpoints on record whose outcome is not."""
    recovered_s: float | None
    """When an optimal plan was acted on again [wall s after the end of the fault]; None when it was not."""
    log: str
    """The end of the service's log."""


@pytest.fixture(scope="module")
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[tuple[str, str], Seen | str]:
    """Play every fault that was asked for, several at once."""
    wanted = {
        item.callspec.params["fault"].name
        for item in request.session.items
        if item.module is request.module and "fault" in getattr(item, "callspec").params  # noqa: B009
    }
    return asyncio.run(
        play_all([fault for fault in FAULTS if fault.name in wanted], tmp_path_factory.mktemp("matrix"))
    )


async def play_all(faults: Sequence[Fault], folder: Path) -> dict[tuple[str, str], Seen | str]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def in_turn(fault: Fault) -> Mapping[str, Seen | str]:
        async with turn:
            own = folder / fault.name.replace(" ", "-")
            own.mkdir()
            plays = [one for name, one in COLUMNS.items() if name not in fault.not_for]
            try:
                return await play(fault, plays, own)
            except AssertionError as error:
                return {one.name: str(error) for one in plays}

    rows = await asyncio.gather(*(in_turn(fault) for fault in faults))
    return {
        (f.name, column): cell for f, row in zip(faults, rows, strict=True) for column, cell in row.items()
    }


async def play(fault: Fault, plays: Sequence[Play], folder: Path) -> dict[str, Seen]:
    """Play one row."""
    async with staged(folder, plays, with_broker=fault.with_broker) as stage:
        cast = stage.cast
        stage.announce_events()
        service = await stage.start(sabotaged=fault.sabotaged)
        await service.says("ready", within_s=300)
        for one in plays:
            await cast.until(
                lambda n=one.name: steered(stage, n), within_s=180, what=f"{one.name} is steered"
            )
        await cast.seconds(3)
        islands = [one.name for one in plays if one.island]
        for name in islands:
            cast.set_grid(name, lost=True)
        for name in islands:
            await cast.until(
                lambda n=name: not any(cast.held(n).values()), within_s=30, what=f"{name} carries itself"
            )
        before_s = {one.name: cast.over_limit_s(one.name) for one in plays}
        async with fault.breaks(stage, service):
            await cast.seconds(2)
            for one in plays:
                cast.set_load(one.name, one.step_kw)
            await cast.seconds(fault.lasts_s)
        for name in islands:
            cast.set_grid(name, lost=False)
        ended_at, began_s = cast.clock.now(), asyncio.get_running_loop().time()
        recovered: dict[str, float] = {}
        while len(recovered) < len(plays):
            past_s = asyncio.get_running_loop().time() - began_s
            if past_s > fault.recovers_within_s:
                break
            for one in plays:
                if one.name not in recovered and acted_again(stage, one, ended_at):
                    recovered[one.name] = past_s
            await cast.seconds(0.5)
        await cast.seconds(3)
        in_the_end = {one.name: over_limit(stage, one) for one in plays}
        for instance in stage.instances:
            await instance.stop()
        return {
            one.name: Seen(
                over_limit_s=(cast.over_limit_s(one.name) - before_s[one.name]) / SPEED,
                over_limit_after=in_the_end[one.name],
                outlived=outlived(stage, one.name, fault.clock_off_s),
                unrecorded=unrecorded(stage, one.name, fault.clock_off_s),
                unanswered=[s.setpoint.id for s in stage.setpoints(one.name) if s.delivery is None],
                recovered_s=recovered.get(one.name),
                log=stage.instances[-1].tail(15),
            )
            for one in plays
        }


def steered(stage: Stage, name: str) -> bool:
    """Tell whether every asset of a home holds what it was asked, and that is something."""
    held = stage.cast.held(name)
    return bool(held) and all(kw is not None and abs(kw) > 1.0 for kw in held.values())


def over_limit(stage: Stage, one: Play) -> bool:
    net_kw = stage.cast.homes[one.name].physics.flows.net_import_kw
    return net_kw > one.most_import_kw + SAME_KW or -net_kw > one.export_limit_kw + SAME_KW


def acted_again(stage: Stage, one: Play, since: datetime) -> bool:
    """Tell whether an optimal plan was made after an instant and a device took what it asks."""
    plan = stage.store.plan_in_force(one.name, stage.cast.clock.now())
    if plan is None or plan.issued_at < since or plan.source is not PlanSource.OPTIMAL:
        return False
    taken = {
        s.setpoint.asset
        for s in stage.store.setpoints(one.name, since, since + timedelta(days=1))
        if s.delivery is not None
        and s.delivery.outcome in (DeliveryOutcome.APPLIED, DeliveryOutcome.CLAMPED)
        and s.setpoint.value_kw is not None
    }
    return set(stage.cast.held(one.name)) <= taken


def orders_of(stage: Stage, name: str) -> list[Held]:
    return [order for order in stage.cast.orders if order.site_id == name]


def unrecorded(stage: Stage, name: str, clock_off_s: float) -> list[str]:
    """Every value a device took was asked for on record."""
    asked = [s.setpoint for s in stage.setpoints(name) if s.setpoint.value_kw is not None]
    return [
        f"{order.asset} took {order.value_kw:.2f} kW at {order.at:%H:%M:%S}"
        for order in orders_of(stage, name)
        if order.value_kw is not None
        and not any(
            s.asset == order.asset
            and abs((s.value_kw or 0.0) - order.value_kw) <= SAME_KW
            and s.valid_from <= at + EARLY
            for s in asked
            for at in frames(order.at, clock_off_s)
        )
    ]


def outlived(stage: Stage, name: str, clock_off_s: float) -> list[str]:
    """Nothing is held without a setpoint on record that is still valid, nor longer than any setpoint may be.

    The charger's timer is a watchdog on its controller's words, and a reading is one (ABB Terra AC, registers 4020h and
    4106h): it holds a limit for one validity from the last word, not from the limit.
    """
    asked = [s.setpoint for s in stage.setpoints(name) if s.setpoint.value_kw is not None]
    lag = LAG + timedelta(seconds=VALID_S if stage.cast.plays[name].vehicle else 0.0)
    found = [
        f"{look.asset} held {look.value_kw:.2f} kW at {look.at:%H:%M:%S}"
        for look in stage.cast.looks
        if look.site_id == name
        and look.value_kw is not None
        and not any(
            s.asset == look.asset
            and abs((s.value_kw or 0.0) - look.value_kw) <= SAME_KW
            and s.valid_from - EARLY <= at <= s.valid_until + lag
            for s in asked
            for at in frames(look.at, clock_off_s)
        )
    ]
    found += [
        f"{look.asset} has a timer of {look.left_s} s at {look.at:%H:%M:%S}"
        for look in stage.cast.looks
        if look.site_id == name
        and look.value_kw is not None
        and (look.left_s is None or look.left_s > VALID_S + 1.0)
    ]
    return found


def frames(at: datetime, clock_off_s: float) -> tuple[datetime, ...]:
    """Return an instant as the service's clock may have shown it."""
    return (at, at + timedelta(seconds=clock_off_s)) if clock_off_s else (at,)


@pytest.mark.parametrize(("fault", "column"), CELLS)
def test_cell(fault: Fault, column: str, seen: Mapping[tuple[str, str], Seen | str]) -> None:
    if column in fault.not_for:
        pytest.skip(f"{fault.name} cannot meet {column}: {fault.not_for[column]}")
    cell = seen[fault.name, column]
    assert isinstance(cell, Seen), f"it did not come to the fault: {cell}"
    broken = [
        *(f"outlived its validity: {what}" for what in cell.outlived[:3]),
        *(f"not on record: {what}" for what in cell.unrecorded[:3]),
        *(f"no outcome on record: {what}" for what in cell.unanswered[:3]),
    ]
    most_s = fault.limit_in(column)
    if cell.over_limit_s > most_s:
        broken.append(f"limit broken for {cell.over_limit_s:.1f} s instead of {most_s:.1f} s")
    if cell.over_limit_after:
        broken.append("limit still broken in the end")
    if cell.recovered_s is None:
        broken.append(f"not back within {fault.recovers_within_s:.0f} s")
    assert not broken, "\n".join([*broken, "", cell.log])
