"""Rounds: every site in its turn, none waiting for another; and what goes with them: turns, and commits together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from ems.rounds import Rounds
from ems.together import Together
from ems.turns import Turns


class Looks:
    """Counts the looks at each site; some of them hang until they are let go."""

    def __init__(self, *hanging: str) -> None:
        self.seen: list[str] = []
        self.hanging = set(hanging)
        self.let_go = asyncio.Event()
        self.rounds = 0
        self._news = asyncio.Condition()

    async def follow(self, site_id: str) -> None:
        async with self._news:
            self.seen.append(site_id)
            self._news.notify_all()
        if site_id in self.hanging:
            await self.let_go.wait()

    async def beside(self) -> None:
        self.rounds += 1

    async def until(self, site_id: str, count: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: self.seen.count(site_id) >= count)

    @asynccontextmanager
    async def going(self, sites: Sequence[str], *, period_s: float = 0.02) -> AsyncIterator[Rounds]:
        rounds = Rounds(
            sites, period_s=period_s, beside=self.beside, part=lambda span_s: None, follow=self.follow
        )
        task = asyncio.create_task(rounds.run())
        try:
            yield rounds
        finally:
            self.let_go.set()
            rounds.stop()
            await task


async def test_every_site_has_its_turn_in_order_and_one_that_hangs_is_late_alone() -> None:
    looks = Looks("b")
    async with looks.going(["a", "b", "c"]) as rounds:
        await looks.until("c", 5)
        assert looks.seen[:4] == ["a", "b", "c", "a"]
        assert looks.seen.count("b") == 1, "it is left to end, not begun again"
        assert rounds.longest_s > 0.0
        looks.let_go.set()
        await looks.until("b", 3)
    assert looks.rounds >= 4
    assert rounds.longest_s == 0.0


async def test_a_site_that_is_looked_at_when_something_new_is_asked_is_looked_at_once_more() -> None:
    looks = Looks("a")
    async with looks.going(["a", "b"], period_s=3600.0) as rounds:
        await looks.until("a", 1)
        rounds.at_once(["a", "b"])
        await looks.until("b", 1)
        assert looks.seen.count("a") == 1
        looks.let_go.set()
        await looks.until("a", 2)


async def test_nothing_begins_after_the_end() -> None:
    looks = Looks()
    async with looks.going(["a"]) as rounds:
        await looks.until("a", 1)
    seen = len(looks.seen)
    rounds.at_once(["a"])
    await asyncio.sleep(0)
    assert len(looks.seen) == seen


async def test_a_site_waits_for_nobody_elses_turn_and_whoever_acts_on_all_for_everybody() -> None:
    turns, told, leave = Turns(), list[str](), asyncio.Event()

    async def slow() -> None:
        async with turns.of("slow"):
            told.append("slow begins")
            await leave.wait()
            told.append("slow ends")

    async def everywhere() -> None:
        async with turns:
            told.append("all")

    async def site(site_id: str) -> None:
        async with turns.of(site_id):
            told.append(site_id)

    first = asyncio.create_task(slow())
    await asyncio.sleep(0)
    await site("quick")
    second = asyncio.create_task(everywhere())
    await asyncio.sleep(0)
    third = asyncio.create_task(site("late"))
    await asyncio.sleep(0)
    assert told == ["slow begins", "quick"], "whoever acts on all waits, and nobody begins meanwhile"
    leave.set()
    await asyncio.gather(first, second, third)
    assert told == ["slow begins", "quick", "slow ends", "all", "late"]


async def test_who_gives_up_waiting_for_all_turns_holds_up_nobody() -> None:
    turns = Turns()
    async with turns.of("a"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), turns:
                pass
    async with turns.of("a"), turns.of("b"):
        pass
    async with turns:
        pass


async def test_what_comes_during_a_commit_goes_together_in_the_next_and_each_hears_of_its_own() -> None:
    commits: list[list[int]] = []
    leave = asyncio.Event()

    async def commit(items: Sequence[int]) -> None:
        commits.append(list(items))
        await leave.wait()
        if 3 in items:
            raise ValueError("not 3")

    together = Together(commit)
    first = asyncio.create_task(together([1]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(together([number])) for number in (2, 3)]
    await asyncio.sleep(0)
    leave.set()
    await first
    heard = await asyncio.gather(*others, return_exceptions=True)
    assert commits == [[1], [2, 3]]
    assert all(isinstance(one, ValueError) for one in heard)
    await together([4])
