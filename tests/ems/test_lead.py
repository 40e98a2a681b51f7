"""Leading and standing by, as the service asks for it: what is slow or silent counts as lost."""

import asyncio
import threading

import pytest

from ems import lead as module
from ems.errors import StoreError
from ems.lead import Lead
from ems.metrics import Metrics


class MadeLease:
    """A lease whose answers are set by the test."""

    def __init__(self) -> None:
        self.free = True
        self.held = False
        self.hangs: threading.Event | None = None
        self.refuses = False

    def take(self) -> bool:
        self._wait()
        if self.refuses:
            raise StoreError("x.lead cannot be opened")
        self.held = self.held or self.free
        return self.held

    def holds(self) -> bool:
        self._wait()
        return self.held

    def awaited(self) -> bool:
        return False

    def holder(self) -> str:
        return "attic, process 7"

    def release(self) -> None:
        self.held = False

    def _wait(self) -> None:
        if self.hangs is not None:
            assert self.hangs.wait(10)


async def test_who_leads_is_counted_and_each_change_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    lease, metrics = MadeLease(), Metrics()
    lead = Lead(lease, metrics)
    lease.free = False
    for _ in range(3):
        assert not await lead.take()
    assert lead.holder == "attic, process 7"
    lease.free = True
    assert await lead.take()
    assert metrics.registry.get_sample_value("ems_leader") == 1.0
    assert await lead.still()
    lease.held = lease.free = False
    for _ in range(3):
        assert not await lead.still()
    assert metrics.registry.get_sample_value("ems_leader") == 0.0
    told = [record.message.split()[0] for record in caplog.records]
    assert told == ["lead.stands_by", "lead.taken", "lead.lost"]


async def test_many_may_ask_at_once(caplog: pytest.LogCaptureFixture) -> None:
    lead = Lead(MadeLease(), Metrics())
    assert await lead.take()
    assert all(await asyncio.gather(*(lead.still() for _ in range(20))))


async def test_a_lease_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    lease = MadeLease()
    lead = Lead(lease, Metrics())
    assert await lead.take()
    lease.hangs = threading.Event()
    assert not await lead.still()
    assert not await lead.take(), "nobody asks a second time while the first question is open"
    lease.hangs.set()
    await asyncio.sleep(0.2)
    assert await lead.take()


async def test_a_store_that_takes_no_lock_is_named_as_the_reason() -> None:
    lease = MadeLease()
    lease.refuses = True
    lead = Lead(lease, Metrics())
    assert not await lead.take()
    assert lead.holder == "x.lead cannot be opened"
