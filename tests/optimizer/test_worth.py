"""The worth of stored energy against a recursion written out state by state, course by course."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.worth import Band, Moves, worth_after_first

CAPACITY_KWH = 100
"""As many kWh as there are fillings at which a mean is kept, so that whole numbers are exact."""


@pytest.mark.parametrize("stay", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("courses", [1, 2, 3])
def test_the_worth_is_that_of_the_recursion_written_out(stay: float, courses: int) -> None:
    rng = np.random.default_rng(courses)
    intervals = 6
    most = rng.integers(0, 30, (intervals, courses)).astype(float)
    pieces = rng.integers(1, 20, (intervals, courses, 4)).astype(float)
    gains = -np.sort(-rng.uniform(-0.2, 0.6, (intervals, courses, 4)), axis=2)
    pieces[..., 3] += 30.0
    at_most = rng.uniform(-2.0, 2.0, (intervals, courses))
    weights = rng.dirichlet(np.ones(courses))
    band = Band(
        floor_kwh=np.full(intervals, 7.0), floor_cost=np.full(intervals, 0.5),
        ceiling_kwh=np.full(intervals, 90.0), ceiling_cost=np.full(intervals, 0.05),
    )  # fmt: skip
    found = worth_after_first(
        Moves(most, at_most, pieces, gains), weights, np.full(intervals, stay),
        capacity_kwh=float(CAPACITY_KWH), band=band, end_value_per_kwh=0.2,
    )  # fmt: skip

    fillings = np.arange(CAPACITY_KWH + 1.0)

    def outside(stored_kwh: np.ndarray) -> np.ndarray:
        return np.asarray(0.5 * np.maximum(7.0 - stored_kwh, 0) + 0.05 * np.maximum(stored_kwh - 90.0, 0))

    def gain(t: int, course: int, moved_kwh: np.ndarray) -> np.ndarray:
        down = most[t, course] - np.concatenate([[0.0], np.cumsum(pieces[t, course])])
        money = at_most[t, course] + np.concatenate([[0.0], np.cumsum(pieces[t, course] * gains[t, course])])
        told = np.interp(moved_kwh, down[::-1], money[::-1])
        return np.where((moved_kwh > down[0]) | (moved_kwh < down[-1]), -np.inf, told)

    after = [0.2 * fillings - outside(fillings)] * courses
    for t in range(intervals - 1, 0, -1):
        seen = [
            (gain(t, c, fillings[None, :] - fillings[:, None]) + after[c][None, :]).max(axis=1)
            for c in range(courses)
        ]
        turned = sum(w * one for w, one in zip(weights, seen, strict=True))
        kept = stay if t > 1 else 0.0
        after = [kept * one + (1.0 - kept) * turned - outside(fillings) for one in seen]
    assert np.interp(fillings, found.stored_kwh, found.worth) == pytest.approx(after[0], abs=1e-9)
