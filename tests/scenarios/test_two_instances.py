"""Two instances on one store: one acts, the other stands by and takes over; devices never hear both."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import empty_postgres
from tests.scenarios.stage import CHARGING, SITE_START, Stage, staged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TAKEN_OVER_WITHIN_S = 20.0
"""From the leader's death to a ready successor, on a busy machine [wall s]."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of this test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ems.sqlite'}"
        return
    with empty_postgres() as made:
        yield made


async def steered(stage: Stage) -> None:
    await stage.cast.until(
        lambda: stage.cast.held("charging")["battery"] is not None, within_s=30, what="the battery is steered"
    )


async def one_talks(stage: Stage, most: list[int]) -> None:
    """Watch how many clients the inverter has."""
    station = stage.cast.homes["charging"].stations["inverter"][1]
    while True:
        most[0] = max(most[0], len(station.clients))
        await asyncio.sleep(0.02)


def given_back(stage: Stage, since: int) -> bool:
    """Tell whether the battery was in its own mode at any time since the n-th order."""
    return any(order.value_kw is None for order in stage.cast.orders[since:])


async def test_the_standby_takes_over_from_a_killed_leader_and_from_one_that_is_stopped(
    tmp_path: Path, url: str
) -> None:
    async with staged(tmp_path, [CHARGING], store_url=url, speed=5.0) as stage:
        first = await stage.start()
        await first.says("ready")
        await steered(stage)
        most = [0]
        watch = asyncio.create_task(one_talks(stage, most))
        seen = len(stage.cast.orders)

        second = await stage.start()
        await second.says("standby", leader=first.process.pid)
        assert (await first.metric("ems_leader"), await second.metric("ems_leader")) == (1.0, 0.0)

        first.kill()
        await second.says("ready", within_s=TAKEN_OVER_WITHIN_S)
        assert await second.metric("ems_leader") == 1.0
        cycles = len(stage.store.cycles(SITE_START, stage.cast.clock.now()))
        await stage.cast.until(
            lambda: len(stage.store.cycles(SITE_START, stage.cast.clock.now())) > cycles,
            within_s=90,
            what="the successor plans",
        )
        assert not given_back(stage, seen), "the setpoint in force was followed, not dropped"

        third = await stage.start()
        await third.says("standby")
        await second.stop()
        await third.says("ready", within_s=TAKEN_OVER_WITHIN_S)
        await stage.cast.seconds(3)
        assert not given_back(stage, seen), "a leader that is waited for hands over what is in force"

        await third.stop()
        assert stage.cast.held("charging")["battery"] is None, "nobody waits: the device is given back"
        watch.cancel()
        assert most == [1], "never do two instances talk to a device"
        assert_nothing_twice(stage)


def assert_nothing_twice(stage: Stage) -> None:
    """Every interval was planned once, and every setpoint got its outcome."""
    cycles = [cycle.at for cycle in stage.store.cycles(SITE_START, stage.cast.clock.now())]
    assert len(cycles) == len(set(cycles))
    assert all(one.delivery is not None for one in stage.setpoints("charging"))


async def test_a_leader_that_lost_its_lead_writes_no_more_and_what_it_wrote_expires(tmp_path: Path) -> None:
    """The lock file is taken away under it, and this process takes the lead instead of it."""
    async with staged(tmp_path, [CHARGING]) as stage:
        one = await stage.start()
        await one.says("ready")
        await steered(stage)
        (tmp_path / "ems.sqlite.lead").unlink()
        rival = stage.store.lease()
        assert rival.take()
        await one.says("standby", leader=os.getpid(), within_s=10)
        asked = len(stage.setpoints("charging"))
        await stage.cast.until(
            lambda: stage.cast.held("charging")["battery"] is None, within_s=40, what="the setpoint expires"
        )
        assert len(stage.setpoints("charging")) == asked
        rival.release()
        await one.says("ready", within_s=TAKEN_OVER_WITHIN_S)
        await steered(stage)


async def test_a_restart_that_keeps_what_is_in_force_leaves_no_gap(tmp_path: Path) -> None:
    async with staged(tmp_path, [CHARGING], speed=1.0) as stage:
        one = await stage.start(EMS_KEEP_ON_STOP="yes")
        await one.says("ready")
        await steered(stage)
        seen = len(stage.cast.orders)
        await one.stop()
        assert stage.cast.held("charging")["battery"] is not None
        two = await stage.start(EMS_KEEP_ON_STOP="yes")
        await two.says("ready")
        await stage.cast.seconds(3)
        assert not given_back(stage, seen)
