"""What a wish costs when it cannot be kept: one ladder of prices for every soft limit of the formulation.

A rung is a multiple of the problem's price scale (the largest absolute price per kWh the site can see), so the
order of the rungs is the same in won and in euro. A higher rung is kept before a lower one. Where a resident or an
operator has an own price for a wish (money per kWh), it replaces the rung.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Ladder:
    """Prices of broken wishes, as multiples of the price scale."""

    unserved_load: float = 10_000.0
    """per kWh of critical load the site cannot serve (islanded and empty, or the fuse is too small)."""
    surplus: float = 5_000.0
    """per kWh of uncurtailable generation that has nowhere to go."""
    grid_limit: float = 1_000.0
    """per kWh above the contracted import or export limit."""
    event_limit: float = 500.0
    """per kWh above a capacity-limit event's limit."""
    override: float = 300.0
    """per kWh a battery departs from the power people asked it for; twice that at once, falling over the horizon."""
    shed_load: float = 200.0
    """per kWh of sheddable load not served, class 0; each further class costs half of the one before."""
    unserved_heat: float = 150.0
    """per kWh of heat demand (district heat, hot water) not met."""
    reserve: float = 100.0
    """per kWh and hour below a store's lower band (reserve); above the upper band, a tenth of it."""
    departure: float = 50.0
    """per kWh missing when a vehicle leaves."""
    unfinished_run: float = 50.0
    """per kWh of an appliance's run that does not happen inside its window."""
    comfort: float = 20.0
    """per degC and hour outside the comfort band."""
    light: float = 20.0
    """per kWh of light below the level asked for."""


LADDER = Ladder()

TIE_BREAK = 1e-5
"""Share of the price scale that may be given away to make equal plans comparable: see `formulation/site.py`."""
