"""Work that may hang does not hang its caller, and is not asked again before it came back."""

import threading
import time

import pytest

from ems.bounded import Bounded, apart
from ems.errors import Overdue


def test_what_comes_back_in_time_is_the_answer() -> None:
    double = Bounded(lambda batch: [2 * one for one in batch], within_s=10, what="it")
    assert double([1, 2]) == [2, 4]
    assert double.hangs_s == 0.0


def test_an_error_of_the_work_is_the_callers() -> None:
    def fails(batch: object) -> list[int]:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        Bounded(fails, within_s=10, what="it")([1])


def test_one_that_hangs_is_waited_for_once_and_never_joined_by_a_second() -> None:
    go_on, calls = threading.Event(), []

    def hangs(batch: list[int]) -> list[int]:
        calls.append(batch)
        assert go_on.wait(10)
        return batch

    bounded = Bounded(hangs, within_s=0.05, what="the optimiser")
    with pytest.raises(Overdue, match="the optimiser did not come back within 0 s"):
        bounded([1])
    assert bounded.hangs_s > 0.0
    with pytest.raises(Overdue, match="has not come back for"):
        bounded([2])
    assert calls == [[1]]
    go_on.set()
    end_s = time.monotonic() + 10
    while bounded.hangs_s and time.monotonic() < end_s:
        time.sleep(0.01)
    assert bounded([3]) == [3]


def test_work_apart_hands_over_its_answer() -> None:
    assert apart(lambda: 7).result(10) == 7
