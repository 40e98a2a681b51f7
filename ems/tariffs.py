"""What energy costs, as data, and as a curve over intervals.

Tariff definitions are what a site file says; `price_curve` turns one into prices per interval. Local time
appears here and nowhere else on the way from reading to setpoint.
"""

import re
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ems.codec import FloatArray, IntArray

STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}
"""How every type of the site file is read: unknown keys are mistakes, docstrings become schema descriptions."""


def _as_number(value: Any) -> Any:
    """Refuse what only looks like a number: `true`, 0777, 1_000. Digits that came as text (`${PRICE}`) are one."""
    if isinstance(value, bool) or (isinstance(value, str) and not _DECIMAL.fullmatch(value)):
        raise PydanticCustomError("not_a_number", "input should be a decimal number such as 5 or 0.25")
    return value


def _as_local_time(value: Any) -> Any:
    """Refuse what only looks like a local time: 960, "16:00:30", "16:00Z"."""
    if not isinstance(value, time) and not (isinstance(value, str) and _CLOCK_TIME.fullmatch(value)):
        raise PydanticCustomError("not_a_local_time", 'input should be a local time such as "16:00"')
    return value


_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_CLOCK_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::00)?")

NUMERIC = BeforeValidator(_as_number)
"""Last in the annotation of every number a site file holds, so that its bounds reach the JSON Schema."""
LocalTime = Annotated[
    time,
    BeforeValidator(_as_local_time),
    WithJsonSchema({"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$"}),
]
PricePerKwh = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False), NUMERIC]
Month = Annotated[int, Field(ge=1, le=12), NUMERIC]
DAY_S = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class FlatRate:
    """One price, always."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["flat"] = "flat"
    """Marks this form of rate."""
    per_kwh: PricePerKwh
    """Price in the site's currency [1/kWh]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """A stretch of the local day with its own price; half-open, may cross midnight."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    days: Literal["all", "weekday", "weekend"] = "all"
    """Days it applies to; the weekend is Saturday and Sunday."""
    from_local: LocalTime
    """First minute, local time, quoted in YAML: "16:00"."""
    to_local: LocalTime
    """End, exclusive, local time; "00:00" is the end of the day."""
    per_kwh: PricePerKwh
    """Price in the site's currency [1/kWh]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Season:
    """Months that share one daily calendar."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    """Name shown to people, e.g. "summer"."""
    months: tuple[Month, ...]
    """Months it covers, 1 to 12."""
    periods: tuple[Period, ...]
    """Priced stretches; the first that fits counts."""
    otherwise_per_kwh: PricePerKwh
    """Price outside every period [1/kWh]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeOfUseRate:
    """Prices by season, kind of day and time of day."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["time_of_use"]
    """Marks this form of rate."""
    seasons: tuple[Season, ...]
    """Together they name each month exactly once."""

    def __post_init__(self) -> None:
        """Refuse a month that no season, or more than one, names."""
        named = sorted(month for season in self.seasons for month in season.months)
        missing = sorted(set(range(1, 13)) - set(named))
        twice = sorted({month for month in named if named.count(month) > 1})
        if missing or twice:
            raise ValueError(f"seasons must name each month once (missing {missing}, more than once {twice})")


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesRate:
    """Prices that change from interval to interval, read from a CSV file that may grow while the service runs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["series"]
    """Marks this form of rate."""
    file: str
    """CSV with a column `at` (ISO 8601 with offset) and `column`; relative to the site file."""
    column: str = "per_kwh"
    """Column that holds the price in the site's currency [1/kWh]."""


Rate = Annotated[FlatRate | TimeOfUseRate | SeriesRate, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tariff:
    """What the site pays and is paid."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    buy: Rate
    """Price of imported energy."""
    sell: Rate = FlatRate(per_kwh=0.0)
    """Price paid for exported energy (feed-in); nothing unless said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceSeries:
    """A price series as published so far."""

    starts_s: IntArray
    """Interval starts [epoch s], rising, shape (N,)."""
    per_kwh: FloatArray
    """Price per interval [1/kWh], shape (N,)."""
    step_s: int
    """Length of the last interval [s]; the others end where the next begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceCurve:
    """Prices over consecutive intervals."""

    per_kwh: FloatArray
    """Price per interval [1/kWh], shape (T,)."""
    assumed: int
    """How many of the T prices are not published and were taken from the nearest published day."""


def price_curve(
    rate: FlatRate | TimeOfUseRate | SeriesRate,
    starts_s: IntArray,
    *,
    zone: str,
    series: PriceSeries | None = None,
) -> PriceCurve:
    """Evaluate a rate at interval starts.

    Parameters
    ----------
    rate
        The rate of the site file.
    starts_s
        Interval starts [epoch s], shape (T,).
    zone
        IANA zone in which the calendar of the rate is meant.
    series
        Published prices; needed for a `SeriesRate` only.

    Raises
    ------
    ValueError
        The rate is a series and none was given, or it begins more than a day after the first interval.
    """
    match rate:
        case FlatRate():
            return PriceCurve(per_kwh=np.full(len(starts_s), rate.per_kwh), assumed=0)
        case TimeOfUseRate():
            return PriceCurve(per_kwh=_time_of_use(rate, starts_s, zone), assumed=0)
        case SeriesRate():
            if series is None or not len(series.starts_s):
                raise ValueError(f"price series {rate.file!r} holds no price")
            return _published(series, starts_s)


def _time_of_use(rate: TimeOfUseRate, starts_s: IntArray, zone: str) -> FloatArray:
    local = pd.DatetimeIndex(pd.to_datetime(starts_s, unit="s", utc=True)).tz_convert(ZoneInfo(zone))
    minute = np.asarray(local.hour) * 60 + np.asarray(local.minute)
    weekend = np.asarray(local.day_of_week) >= 5
    month = np.asarray(local.month)
    per_kwh = np.full(len(starts_s), np.nan)
    for season in rate.seasons:
        in_season = np.isin(month, season.months)
        per_kwh[in_season] = season.otherwise_per_kwh
        for period in reversed(season.periods):
            per_kwh[in_season & _in_period(period, minute, weekend)] = period.per_kwh
    return per_kwh


def _in_period(period: Period, minute: NDArray[Any], weekend: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which local minutes lie in the period; past midnight each minute counts as its own calendar day."""
    first = period.from_local.hour * 60 + period.from_local.minute
    end = period.to_local.hour * 60 + period.to_local.minute or 24 * 60
    after_first, before_end = minute >= first, minute < end
    inside = after_first & before_end if first < end else after_first | before_end
    if period.days == "all":
        return inside
    return inside & (weekend if period.days == "weekend" else ~weekend)


def _published(series: PriceSeries, starts_s: IntArray) -> PriceCurve:
    """Look prices up; up to a day before them and past their end, the same time of the nearest published day is assumed."""
    first_s, end_s = int(series.starts_s[0]), int(series.starts_s[-1]) + series.step_s
    if (starts_s < first_s - DAY_S).any():
        raise ValueError("the price series begins more than a day after the first interval asked for")
    days_past = np.maximum(0, -(-(starts_s - end_s + 1) // DAY_S))
    early = starts_s < first_s
    published_s = np.where(early, starts_s + DAY_S, starts_s - days_past * DAY_S)
    # A series shorter than a day has no such time: index -1 takes its latest price.
    index = np.searchsorted(series.starts_s, published_s, side="right") - 1
    return PriceCurve(per_kwh=series.per_kwh[index], assumed=int(np.count_nonzero(early | (days_past > 0))))
