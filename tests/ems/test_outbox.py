"""What waits for the store: in order, kept while it refuses, counted when it must be dropped."""

import asyncio
import threading

import pytest

from ems.errors import StoreError
from ems.metrics import Metrics
from ems.outbox import Outbox


class Shop:
    """A store that accepts or refuses."""

    def __init__(self) -> None:
        self.refuses: str | None = None
        self.kept: list[int] = []

    def write(self, number: int):
        def write() -> None:
            if self.refuses:
                raise StoreError(self.refuses)
            self.kept.append(number)

        return write


async def test_writes_are_accepted_in_order() -> None:
    shop, outbox = Shop(), Outbox(Metrics())
    await asyncio.gather(*(outbox.put(shop.write(number)) for number in range(50)))
    assert shop.kept == list(range(50))
    assert outbox.waiting == 0


async def test_nothing_is_lost_while_the_store_refuses(caplog: pytest.LogCaptureFixture) -> None:
    shop, outbox = Shop(), Outbox(Metrics())
    shop.refuses = "disk full"
    for number in range(3):
        await outbox.put(shop.write(number))
    assert (shop.kept, outbox.waiting, outbox.trouble) == ([], 3, "disk full")
    shop.refuses = None
    await outbox.put(shop.write(3))
    assert (shop.kept, outbox.waiting, outbox.trouble) == ([0, 1, 2, 3], 0, None)
    told = [record.message for record in caplog.records]
    assert len([m for m in told if m.startswith("store.refuses")]) == 1  # the edge, not the level
    assert len([m for m in told if m.startswith("store.accepts_again")]) == 1


async def test_a_posted_write_is_accepted_in_its_turn() -> None:
    shop, outbox = Shop(), Outbox(Metrics())
    for number in range(5):
        outbox.post(shop.write(number))
    await outbox.put(shop.write(5))
    assert shop.kept == [0, 1, 2, 3, 4, 5]


async def test_beyond_its_limit_the_oldest_is_dropped_and_counted() -> None:
    shop, outbox = Shop(), Outbox(Metrics(), limit=2)
    shop.refuses = "locked"
    for number in range(5):
        await outbox.put(shop.write(number))
    assert (outbox.waiting, outbox.dropped) == (2, 3)
    shop.refuses = None
    assert await outbox.flush()
    assert shop.kept == [3, 4]


async def test_a_full_queue_drops_the_oldest_that_waits_not_the_one_being_written() -> None:
    shop, outbox = Shop(), Outbox(Metrics(), limit=2)
    entered, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        assert go_on.wait(10)
        shop.kept.append(0)

    outbox.post(slow)
    await asyncio.to_thread(entered.wait, 10)
    for number in range(1, 8):
        outbox.post(shop.write(number))
    assert (outbox.dropped, outbox.waiting) == (5, 3)
    go_on.set()
    assert await outbox.flush()
    assert (shop.kept, outbox.dropped, outbox.waiting) == ([0, 6, 7], 5, 0)


async def test_a_write_that_can_never_succeed_holds_back_nobody() -> None:
    def impossible() -> None:
        raise ValueError("no such column")

    shop, outbox = Shop(), Outbox(Metrics())
    await outbox.put(impossible)
    await outbox.put(shop.write(1))
    assert (shop.kept, outbox.dropped, outbox.waiting) == ([1], 1, 0)


async def test_a_store_that_hangs_delays_its_caller_for_a_moment_only_and_says_for_how_long_it_lags() -> None:
    shop, outbox = Shop(), Outbox(Metrics(), patience_s=0.05)
    go_on = threading.Event()

    def hangs() -> None:
        assert go_on.wait(10)
        shop.kept.append(0)

    await outbox.put(hangs)
    await outbox.put(shop.write(1))
    assert (shop.kept, outbox.waiting) == ([], 2)
    assert outbox.behind_s > 0.0
    go_on.set()
    assert await outbox.flush()
    assert (shop.kept, outbox.behind_s) == ([0, 1], 0.0)


async def test_what_waits_is_accepted_without_anybody_writing_anew() -> None:
    shop, outbox = Shop(), Outbox(Metrics())
    shop.refuses = "locked"
    await outbox.put(shop.write(0))
    shop.refuses = None
    outbox.retry()
    assert await outbox.flush()
    assert shop.kept == [0]


async def test_a_store_that_hangs_is_waited_for_once_not_by_everybody_who_comes_after() -> None:
    outbox, let_go = Outbox(Metrics(), patience_s=0.3), threading.Event()
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(4):
        began = loop.time()
        await outbox.put(let_go.wait)
        took.append(loop.time() - began)
    let_go.set()
    assert await outbox.flush()
    assert took[0] >= 0.3
    assert sum(took[1:]) < took[0], "three more, none of them held up again"
    assert outbox.waiting == 0
