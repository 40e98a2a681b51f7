"""The service as it lives: who may write when, what it does when its store, its loop or its clock fails it."""

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ems import service as module
from ems.clock import Clock, ScaledClock
from ems.errors import StoreError
from ems.service import Service, make_service
from ems.settings import Settings
from ems.store import Store
from ems.watchdog import Manager
from tests.scenarios.stage import CHARGING, SITE_START, Stage, staged


@dataclass(kw_only=True)
class SetClock:
    """A clock the test may set."""

    inner: ScaledClock
    off: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return self.inner.now() + self.off

    def wall_seconds(self, site_seconds: float) -> float:
        return self.inner.wall_seconds(site_seconds)


@dataclass(kw_only=True)
class Running:
    """A service in this process, and the home it steers."""

    service: Service
    stage: Stage
    clock: SetClock

    @property
    def battery_kw(self) -> float | None:
        return self.stage.cast.held("charging")["battery"]

    async def until(self, ready: Callable[[], bool], what: str) -> None:
        await self.stage.cast.until(ready, within_s=20, what=what)

    def cycles(self) -> list[datetime]:
        first, last = SITE_START - timedelta(days=1), SITE_START + timedelta(days=1)
        return [cycle.at for cycle in self.stage.store.cycles(first, last)]


@asynccontextmanager
async def running(
    folder: Path, *, manager: Manager | None = None, leads: bool = True
) -> AsyncIterator[Running]:
    async with staged(folder, [CHARGING]) as stage:
        clock = SetClock(inner=stage.cast.clock)
        typed: Clock = clock
        settings = Settings(
            site_files=(stage.site_file,),
            store_url=stage.store_url,
            interval=timedelta(minutes=5),
            horizon=timedelta(hours=12),
            fast_loop_s=0.2,
            clock=typed,
        )
        service = await asyncio.to_thread(make_service, settings, manager=manager or Manager())
        await service.start()
        one = Running(service=service, stage=stage, clock=clock)
        try:
            if leads:
                await one.until(lambda: one.battery_kw is not None, "the battery is steered")
            yield one
        finally:
            await service.stop()


async def test_a_store_that_accepts_nothing_lets_devices_go_and_takes_them_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "JOURNAL_BEHIND_S", 1.0)
    async with running(tmp_path) as one:
        rival = sqlite3.connect(tmp_path / "ems.sqlite", isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        one.stage.cast.set_load("charging", 3.5)
        await one.until(lambda: one.battery_kw is None, "the battery is given back")
        assert any("devices are not written" in problem for problem in one.service.problems())
        rival.execute("ROLLBACK")
        rival.close()
        await one.until(lambda: one.battery_kw is not None, "the battery is steered again")
        await one.until(lambda: not one.service.problems(), "all is well again")
    told = [record.message.split()[0] for record in caplog.records]
    assert (told.count("devices.held_back"), told.count("devices.written_again")) == (1, 1)
    assert all(found.delivery is not None for found in one.stage.setpoints("charging"))


async def test_a_standby_steers_nothing_and_a_take_over_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "WATCH_EVERY_S", 0.1)
    url = f"sqlite:///{tmp_path / 'ems.sqlite'}"
    first = Store.open(url)
    rival = first.lease()
    assert rival.take()
    async with running(tmp_path, leads=False) as one:
        assert one.service.standing_by is not None
        await asyncio.sleep(1.0)
        assert one.battery_kw is None
        assert one.stage.cast.homes["charging"].stations["inverter"][1].requests == 0, "it touches no device"
        latest_record, refusals = (
            one.service.store.latest_record,
            [StoreError("locked"), StoreError("locked")],
        )

        def refuses_twice():
            if refusals:
                raise refusals.pop()
            return latest_record()

        monkeypatch.setattr(one.service.store, "latest_record", refuses_twice)
        rival.release()
        await one.until(lambda: one.battery_kw is not None, "the battery is steered")
        assert one.service.standing_by is None
    assert [record.message for record in caplog.records].count("service.watch_failed") == 1
    first.close()


@pytest.mark.slow
async def test_the_sign_of_life_ends_when_the_fast_loop_hangs_and_with_it_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STUCK_S", 1.0)
    monkeypatch.setattr(module, "WATCH_EVERY_S", 0.1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        manager = Manager.of({"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "2000000"})

        def signs() -> int:
            count = 0
            while True:
                try:
                    count += heard.recv(500).startswith(b"WATCHDOG=1")
                except BlockingIOError:
                    return count

        async with running(tmp_path, manager=manager) as one:
            signs()
            await asyncio.sleep(0.5)
            assert signs() > 0
            async with one.service._ports.acting:  # as a device does that never answers
                await one.until(lambda: bool(one.service.stuck()), "it notices")
                signs()
                await asyncio.sleep(0.5)
                assert signs() == 0
                await one.until(lambda: one.battery_kw is None, "the device let go by its own timer")
            await one.until(lambda: one.battery_kw is not None, "it goes on")
            await one.until(lambda: signs() > 0, "it is well")


@pytest.mark.parametrize("by_s", [pytest.param(-5400.0, id="back"), pytest.param(5400.0, id="forward")])
async def test_a_clock_that_is_set_is_planned_for_at_once_and_no_interval_twice(
    tmp_path: Path, by_s: float
) -> None:
    async with running(tmp_path) as one:
        await one.until(lambda: bool(one.cycles()), "a cycle is on record")
        before = one.cycles()
        one.clock.off = timedelta(seconds=by_s)

        def plans_for_now() -> bool:
            nearest = min(abs(cycle - one.clock.now()) for cycle in one.cycles())
            return nearest < timedelta(minutes=10)

        await one.until(plans_for_now, "it plans for the new time")
        held_at = one.clock.now()
        await one.until(lambda: one.battery_kw is not None, "the battery is steered")
        assert one.service.latest is not None
        assert one.service.latest.at <= held_at + timedelta(minutes=10)
        assert one.service.metrics.registry.get_sample_value("ems_clock_jumps_total") == 1.0
        cycles = one.cycles()
        assert set(before) <= set(cycles)
        assert len(cycles) == len(set(cycles))
        steps = {(cycle - SITE_START).total_seconds() % 300 for cycle in cycles}
        assert steps == {0.0}
    accounts = one.stage.store.accounts(
        "charging", SITE_START - timedelta(days=1), SITE_START + timedelta(days=1)
    )
    starts = [account.start_at for account in accounts]
    assert starts == sorted(set(starts)), "no interval twice"
