"""History in, quantile forecast out. Knows no clock, no device and no database.

`LoadForecaster`, `SolarForecaster`, `PriceForecaster` and the baselines are estimators
(`fit(history)`, `predict(issued_at, horizon, levels)`); `README.md` says which is used when, and why.
"""

from forecasting.backtest import BacktestReport, LeadScores, ModelReport, backtest_report
from forecasting.baseline import SlotMean
from forecasting.chart import backtest_svg, write_backtest_svg
from forecasting.drift import DriftReport, assess_drift, daily_losses
from forecasting.errors import BrokenSeries, ForecastingError, NotFitted, UnsafeModel
from forecasting.load import LoadForecaster
from forecasting.metrics import Scores, pinball_loss
from forecasting.persistence import dump_model, load_model, train
from forecasting.price import PriceForecaster
from forecasting.screening import screened
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
from forecasting.vehicle import Session, VehicleForecast, VehicleForecaster
from forecasting.weather import FileWeather, HttpWeather, NoWeather, WeatherProvider, parse_open_meteo

__all__ = [
    "DEFAULT_LEVELS",
    "BacktestReport",
    "BoolArray",
    "BrokenSeries",
    "DriftReport",
    "FileWeather",
    "FloatArray",
    "Forecast",
    "Forecaster",
    "ForecastingError",
    "History",
    "HouseholdType",
    "HttpWeather",
    "LeadScores",
    "LoadForecaster",
    "ModelReport",
    "NoWeather",
    "NotFitted",
    "PriceForecaster",
    "Quality",
    "Scores",
    "Session",
    "SiteContext",
    "SlotMean",
    "SolarForecaster",
    "Unit",
    "UnsafeModel",
    "VehicleForecast",
    "VehicleForecaster",
    "Weather",
    "WeatherProvider",
    "assess_drift",
    "backtest_report",
    "backtest_svg",
    "daily_losses",
    "dump_model",
    "load_model",
    "parse_open_meteo",
    "pinball_loss",
    "screened",
    "train",
    "write_backtest_svg",
]
