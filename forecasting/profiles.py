"""The first day of a site: a shape by household type, a level from what is known, and honest width.

Shapes and spreads of `HOME` are means over 15 measured homes (ten of the CityLearn 2022 data set, California,
MIT; five of the Smart-Grid Smart-City trial, Australia, CC BY 3.0 AU), of `OFFICE` over two Monash University
buildings of 2019 (IEEE-CIS Predict+Optimize, CC BY 4.0). Levels without a bill are assumptions, and the band
is widened for them.
"""

from __future__ import annotations

import numpy as np

from forecasting.calendars import IntArray
from forecasting.quantiles import GRID
from forecasting.types import BoolArray, FloatArray, HouseholdType, SiteContext

_HOME_WORKDAY = (0.75, 0.68, 0.65, 0.63, 0.64, 0.81, 1.06, 1.04, 1.06, 1.13, 1.04, 1.01,
                 0.93, 0.90, 0.92, 1.03, 1.14, 1.18, 1.30, 1.26, 1.22, 1.17, 1.05, 0.91)  # fmt: skip
_HOME_REST = (0.82, 0.70, 0.64, 0.63, 0.61, 0.67, 0.84, 1.09, 1.33, 1.41, 1.26, 1.22,
              1.14, 1.13, 1.14, 1.18, 1.19, 1.21, 1.28, 1.25, 1.21, 1.16, 1.03, 0.93)  # fmt: skip
_OFFICE_WORKDAY = (0.65, 0.65, 0.64, 0.64, 0.70, 0.77, 0.85, 1.02, 1.28, 1.46, 1.58, 1.65,
                   1.69, 1.73, 1.75, 1.73, 1.65, 1.54, 1.33, 1.05, 0.89, 0.83, 0.75, 0.68)  # fmt: skip
_OFFICE_REST = (0.63, 0.60, 0.59, 0.58, 0.58, 0.58, 0.59, 0.62, 0.65, 0.67, 0.69, 0.69,
                0.69, 0.69, 0.69, 0.70, 0.69, 0.67, 0.67, 0.65, 0.65, 0.64, 0.62, 0.60)  # fmt: skip
_FLAT = (1.0,) * 24

_SHAPES: dict[HouseholdType, tuple[tuple[float, ...], tuple[float, ...]]] = {
    HouseholdType.HOME: (_HOME_WORKDAY, _HOME_REST),
    HouseholdType.HOME_OFFICE: (_HOME_REST, _HOME_REST),
    HouseholdType.OFFICE: (_OFFICE_WORKDAY, _OFFICE_REST),
    HouseholdType.CONSTANT: (_FLAT, _FLAT),
}
_SPREAD_LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
_SPREADS: dict[HouseholdType, tuple[float, ...]] = {
    HouseholdType.HOME: (0.20, 0.27, 0.41, 0.69, 1.28, 2.17, 3.43),
    HouseholdType.HOME_OFFICE: (0.20, 0.27, 0.41, 0.69, 1.28, 2.17, 3.43),
    HouseholdType.OFFICE: (0.60, 0.75, 0.88, 1.00, 1.12, 1.25, 1.40),
    HouseholdType.CONSTANT: (0.60, 0.80, 0.92, 1.00, 1.08, 1.20, 1.40),
}
_LOAD_FACTOR: dict[HouseholdType, float] = {
    HouseholdType.HOME: 0.12,
    HouseholdType.HOME_OFFICE: 0.14,
    HouseholdType.OFFICE: 0.35,
    HouseholdType.CONSTANT: 0.6,
}
_DEFAULT_MEAN_KW = 0.5
_UNKNOWN_LEVEL_WIDENING = 1.5


def expected_level_kw(context: SiteContext) -> float:
    """Expected mean load [kW] before any reading: the bill, else nameplate times a load factor, else 0.5 kW."""
    if context.daily_load_kwh is not None:
        return context.daily_load_kwh / 24.0
    if context.nameplate_kw is not None:
        return context.nameplate_kw * _LOAD_FACTOR[context.household]
    return _DEFAULT_MEAN_KW


def profile_quantiles(context: SiteContext, slots: IntArray, rest: BoolArray, per_day: int) -> FloatArray:
    """Relative load at GRID levels for slots of working and rest days, mean about 1.

    Parameters
    ----------
    slots, rest : shape (T,)
    per_day : slots of a day

    Returns
    -------
    (T, len(GRID)); multiply by the level [kW].
    """
    hours = (slots + 0.5) * 24.0 / per_day
    centres = np.arange(24) + 0.5
    work_shape, rest_shape = (np.asarray(shape) for shape in _SHAPES[context.household])
    shape = np.where(
        rest,
        np.interp(hours, centres, rest_shape, period=24.0),
        np.interp(hours, centres, work_shape, period=24.0),
    )
    spread = np.interp(GRID, _SPREAD_LEVELS, _SPREADS[context.household])
    if context.daily_load_kwh is None:
        centre = np.interp(0.5, _SPREAD_LEVELS, _SPREADS[context.household])
        spread = centre * (spread / centre) ** _UNKNOWN_LEVEL_WIDENING
    return np.asarray(shape[:, None] * spread)
