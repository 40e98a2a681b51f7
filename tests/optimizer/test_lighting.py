"""Lighting dims when power is short and never below its least level."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer import DispatchProblem, GridConnection, LightingGroup, Prices, solve


def street(limit_kw: float, **changes: object) -> DispatchProblem:
    group = LightingGroup(name="street", asked_kw=np.array([0.0, 2.0, 2.0]), least_frac=0.4, **changes)  # type: ignore[arg-type]
    return DispatchProblem(
        site_id="street",
        hours=np.ones(3),
        load_kw=np.ones(3),
        prices=Prices(import_per_kwh=np.array([0.2, 0.2, 0.5])),
        grid=GridConnection(import_limit_kw=limit_kw),
        assets=(group,),
    )


def test_full_light_where_there_is_power() -> None:
    solution = solve(street(10.0))
    assert solution.publishable
    assert solution.schedule("street").level_frac == pytest.approx([1.0, 1.0, 1.0])


def test_a_tight_connection_dims_the_street_and_says_so() -> None:
    """3 kW wanted, 2.5 carried: 0.5 kWh of light is missing in each of two hours."""
    solution = solve(street(2.5))
    assert solution.publishable
    assert solution.schedule("street").net_consumption_kw == pytest.approx([0.0, 1.5, 1.5], abs=1e-6)
    (wish,) = solution.unmet
    assert (wish.wish, wish.owner, wish.unit) == ("light", "street", "kWh")
    assert wish.amount == pytest.approx(1.0, abs=1e-6)


def test_never_darker_than_the_least_level_even_if_the_contract_breaks() -> None:
    """1 kW carried, 1 kW of load: 0.8 kW of light burns all the same, and the limit is what bends."""
    solution = solve(street(1.0))
    assert solution.publishable
    assert solution.schedule("street").level_frac[1:] == pytest.approx([0.4, 0.4], abs=1e-6)
    assert {wish.wish for wish in solution.unmet} == {"light", "import_limit"}


def test_light_that_is_worth_less_than_its_power_is_dimmed() -> None:
    solution = solve(street(10.0, wish_price_per_kwh=0.3))
    assert solution.schedule("street").level_frac == pytest.approx([1.0, 1.0, 0.4], abs=1e-6)
