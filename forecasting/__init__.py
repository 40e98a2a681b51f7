"""History in, quantile forecast out. Knows no clock, no device and no database.

`LoadForecaster`, `SolarForecaster`, `PriceForecaster` and the baselines are estimators
(`fit(history)`, `predict(issued_at, horizon, levels)`); `README.md` says which is used when, and why.
"""

from forecasting.backtest import BacktestReport, LeadScores, ModelReport, backtest_report
from forecasting.baseline import SlotMean
from forecasting.chart import backtest_svg, write_backtest_svg
from forecasting.errors import BrokenSeries, ForecastingError, NotFitted, UnsafeModel, WeatherUnavailable
from forecasting.load import LoadForecaster
from forecasting.metrics import Scores
from forecasting.price import PriceForecaster
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
    "BacktestReport",
    "BoolArray",
    "BrokenSeries",
    "FloatArray",
    "Forecast",
    "Forecaster",
    "ForecastingError",
    "History",
    "HouseholdType",
    "LeadScores",
    "LoadForecaster",
    "ModelReport",
    "NotFitted",
    "PriceForecaster",
    "Quality",
    "Scores",
    "SiteContext",
    "SlotMean",
    "SolarForecaster",
    "Unit",
    "UnsafeModel",
    "Weather",
    "WeatherUnavailable",
    "backtest_report",
    "backtest_svg",
    "write_backtest_svg",
]
