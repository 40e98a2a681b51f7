"""History in, quantile forecast out. Knows no clock, no device and no database.

`LoadForecaster`, `SolarForecaster`, `PriceForecaster` and the baselines are estimators
(`fit(history)`, `predict(issued_at, horizon, levels)`); `README.md` says which is used when, and why.
"""

from forecasting.baseline import SlotMean
from forecasting.errors import BrokenSeries, ForecastingError, NotFitted, UnsafeModel, WeatherUnavailable
from forecasting.load import LoadForecaster
from forecasting.solar import SolarForecaster
from forecasting.types import (
    DEFAULT_LEVELS,
    BoolArray,
    FloatArray,
    Forecast,
    Forecaster,
    History,
    HouseholdType,
    Quality,
    SiteContext,
    Unit,
    Weather,
)

__all__ = [
    "DEFAULT_LEVELS",
    "BoolArray",
    "BrokenSeries",
    "FloatArray",
    "Forecast",
    "Forecaster",
    "ForecastingError",
    "History",
    "HouseholdType",
    "LoadForecaster",
    "NotFitted",
    "Quality",
    "SiteContext",
    "SlotMean",
    "SolarForecaster",
    "Unit",
    "UnsafeModel",
    "Weather",
    "WeatherUnavailable",
]
