"""The public types: history in, quantile forecast out.

One series is `(T,)`; a fleet of S series on one grid is `(S, T)`. Every model works on `(S, T)` inside
and gives back the rank it was given: one home is a fleet of one.

Time is aware UTC. A value at index i is the mean over `[start_at + i * step, start_at + (i + 1) * step)`;
it is known at the END of that interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol, Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from forecasting.errors import BrokenSeries

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

DEFAULT_LEVELS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The nine levels every forecast carries unless told otherwise."""


class Unit(StrEnum):
    """Unit of a series."""

    KW = "kw"
    PER_KWH = "per_kwh"


class Quality(StrEnum):
    """How far a forecast can be trusted, best first."""

    GOOD = "good"
    """A fitted model on enough recent, valid history."""
    ESTIMATED = "estimated"
    """Little or patchy history; the simpler model that such data carry."""
    COLD = "cold"
    """No usable history: a profile scaled to nameplate and household type."""
    FALLBACK = "fallback"
    """The chosen model failed or drifted; a simpler one stands in."""


class HouseholdType(StrEnum):
    """What a site is, as far as a first-day profile needs to know."""

    HOME = "home"
    """A household that is mostly out on weekdays."""
    HOME_OFFICE = "home_office"
    """A household with somebody at home on weekdays."""
    OFFICE = "office"
    """Offices, schools, shops: weekdays by day."""
    CONSTANT = "constant"
    """Flat consumption: pumps, data rooms, base load."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteContext:
    """What is known about a site before its first reading."""

    time_zone: str = "UTC"
    """IANA name; calendar features are made in this zone."""
    latitude: float | None = None
    """Degrees north; None switches clear-sky geometry off."""
    longitude: float | None = None
    """Degrees east."""
    country: str | None = None
    """ISO 3166 alpha-2 code for public holidays, e.g. "KR"; None means no holidays."""
    household: HouseholdType = HouseholdType.HOME
    """Shape of the first-day profile."""
    nameplate_kw: float | None = None
    """Solar: inverter AC rating [kW], an upper bound. Load: contracted or fuse power [kW]."""
    daily_load_kwh: float | None = None
    """Expected consumption per day [kWh] if the household knows it (last year's bill)."""
    tilt_deg: float | None = None
    """Module tilt from horizontal [deg]; None is learned from history."""
    azimuth_deg: float | None = None
    """Module azimuth, clockwise from north [deg]; None is learned from history."""

    @property
    def zone(self) -> ZoneInfo:
        """The time zone as an object."""
        return ZoneInfo(self.time_zone)


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """One or many series on one regular grid, as known up to `end_at`."""

    start_at: datetime
    """Start of the first interval, aware UTC."""
    step: timedelta
    """Length of an interval; whole minutes, divides a day."""
    values: FloatArray
    """Interval means, shape (T,) or (S, T); nan is missing. kW (load drawn +, solar produced +) or price
    per kWh, see `unit`."""
    reliability: FloatArray | None = None
    """Weight of each reading in [0, 1], shape of `values`: good 1, estimated 0.5, bad 0; None is all 1."""
    curtailed: BoolArray | None = None
    """Where delivered solar power was held below what was available, shape of `values`. None is nowhere."""
    unit: Unit = Unit.KW
    """Unit of `values`."""

    def __post_init__(self) -> None:
        if self.start_at.tzinfo is None:
            raise BrokenSeries(f"start_at: {self.start_at.isoformat()} has no offset; give an aware instant")
        if self.start_at.utcoffset() != timedelta(0):
            object.__setattr__(self, "start_at", self.start_at.astimezone(UTC))
        seconds = self.step.total_seconds()
        if seconds < 60 or seconds % 60 or 86_400 % seconds:
            raise BrokenSeries(f"step: {self.step} must be whole minutes that divide a day")
        values = np.asarray(self.values, dtype=np.float64)
        if values.ndim not in (1, 2):
            raise BrokenSeries(f"values: shape {values.shape}, expected (T,) or (S, T)")
        object.__setattr__(self, "values", values)
        for name in ("reliability", "curtailed"):
            extra = getattr(self, name)
            if extra is not None and np.shape(extra) != values.shape:
                raise BrokenSeries(f"{name}: shape {np.shape(extra)} differs from values {values.shape}")

    def __len__(self) -> int:
        return int(self.values.shape[-1])

    @property
    def is_fleet(self) -> bool:
        """Whether there is a site axis."""
        return self.values.ndim == 2

    @property
    def n_sites(self) -> int:
        """Number of series S; 1 without a site axis."""
        return int(self.values.shape[0]) if self.is_fleet else 1

    @property
    def end_at(self) -> datetime:
        """End of the last interval: the instant up to which everything here is known."""
        return self.start_at + len(self) * self.step

    @property
    def steps_per_day(self) -> int:
        """Intervals in 24 hours."""
        return int(86_400 // self.step.total_seconds())

    @property
    def step_h(self) -> float:
        """Length of an interval [h]."""
        return self.step.total_seconds() / 3600.0

    @property
    def columns(self) -> FloatArray:
        """The values as (S, T), a view."""
        return self.values if self.is_fleet else self.values[None, :]

    @property
    def usable(self) -> FloatArray:
        """The values as (S, T) with everything nan that a model must not learn from (bad, curtailed)."""
        values = self.columns
        masked = ~np.isfinite(values)
        if self.reliability is not None:
            masked |= np.reshape(self.reliability, values.shape) <= 0.0
        if self.curtailed is not None:
            masked |= np.reshape(self.curtailed, values.shape)
        return np.where(masked, np.nan, values) if masked.any() else values

    def index_of(self, at: datetime) -> int:
        """Number of intervals that have ended at `at` (may lie outside 0..len)."""
        return int((at - self.start_at) // self.step)

    def until(self, at: datetime, *, last: timedelta | None = None) -> Self:
        """What was known at `at`: the intervals ended by then, at most the `last` stretch of them."""
        stop = min(max(self.index_of(at), 0), len(self))
        first = 0 if last is None else max(stop - int(last // self.step), 0)
        return self._cut(first, stop)

    def since(self, at: datetime) -> Self:
        """The intervals that start at or after `at`. No copy."""
        first = -int((self.start_at - at) // self.step) if at > self.start_at else 0
        return self._cut(min(first, len(self)), len(self))

    def site(self, index: int) -> Self:
        """One series of the fleet, as (T,). No copy."""
        cut = slice(index, index + 1)
        return replace(
            self,
            values=self.columns[cut][0],
            reliability=None if self.reliability is None else np.atleast_2d(self.reliability)[cut][0],
            curtailed=None if self.curtailed is None else np.atleast_2d(self.curtailed)[cut][0],
        )

    def _cut(self, first: int, stop: int) -> Self:
        span = (..., slice(first, stop))
        return replace(
            self,
            start_at=self.start_at + first * self.step,
            values=self.values[span],
            reliability=None if self.reliability is None else self.reliability[span],
            curtailed=None if self.curtailed is None else self.curtailed[span],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weather:
    """Weather on a regular grid, observed or forecast. What is not known is None or nan."""

    start_at: datetime
    """Start of the first interval, aware UTC."""
    step: timedelta
    """Length of an interval."""
    issued_at: datetime | None = None
    """When it was issued (forecast) or None (observed, or an archive of forecasts)."""
    outdoor_degc: FloatArray | None = None
    """Mean outdoor temperature, shape (T,) or (S, T)."""
    ghi_w_m2: FloatArray | None = None
    """Mean global horizontal irradiance, shape (T,) or (S, T), >= 0."""
    pv_guide_kw: FloatArray | None = None
    """Another service's power forecast for this plant as known at the time, shape (T,) or (S, T)."""
    source: str = "unknown"
    """Who issued it."""

    def __post_init__(self) -> None:
        if self.start_at.tzinfo is None:
            raise BrokenSeries("start_at: weather needs an aware instant")

    def temperature_on(self, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        """Mean outdoor temperature [degC] of `count` intervals, shape (S or 1, count); nan outside."""
        return self._on(self.outdoor_degc, start_at, step, count)

    def irradiance_on(self, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        """Mean global horizontal irradiance [W/m2] of `count` intervals, shape (S or 1, count); nan outside."""
        return self._on(self.ghi_w_m2, start_at, step, count)

    def guide_on(self, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        """The other service's power forecast [kW], shape (S or 1, count); nan outside."""
        return self._on(self.pv_guide_kw, start_at, step, count)

    def _on(self, series: FloatArray | None, start_at: datetime, step: timedelta, count: int) -> FloatArray:
        """Values on another grid: means where it is coarser, held where it is finer."""
        if series is None:
            return np.full((1, count), np.nan)
        rows = np.atleast_2d(series)
        own_s, step_s = self.step.total_seconds(), step.total_seconds()
        pieces = max(round(step_s / own_s), 1)
        offset_s = (start_at - self.start_at).total_seconds()
        middles_s = offset_s + (np.arange(count * pieces) + 0.5) * (step_s / pieces)
        index = np.floor(middles_s / own_s).astype(np.int64)
        inside = (index >= 0) & (index < rows.shape[1])
        picked = np.where(inside, rows[:, np.clip(index, 0, max(rows.shape[1] - 1, 0))], np.nan)
        return np.asarray(picked.reshape(rows.shape[0], count, pieces).mean(axis=2))


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Quantiles of the interval means over a horizon, and when they were issued."""

    issued_at: datetime
    """Nothing known later than this went in; aware UTC."""
    start_at: datetime
    """Start of the first forecast interval, >= issued_at, aware UTC."""
    step: timedelta
    """Length of an interval."""
    levels: tuple[float, ...]
    """Quantile levels in (0, 1), increasing, Q of them."""
    quantiles: FloatArray
    """Shape (Q, T) for one series, (S, Q, T) for a fleet; non-decreasing along Q. Unit as `unit`."""
    mean: FloatArray
    """Expected value, shape (T,) or (S, T). The right single path where costs are linear in power."""
    sources: tuple[str, ...]
    """Which model made it, per site (one entry for one series)."""
    qualities: tuple[Quality, ...]
    """How far to trust it, per site."""
    unit: Unit = Unit.KW
    """Unit of `quantiles` and `mean`."""

    @property
    def horizon(self) -> int:
        """Number of intervals T."""
        return int(self.quantiles.shape[-1])

    @property
    def is_fleet(self) -> bool:
        """Whether there is a site axis."""
        return self.quantiles.ndim == 3

    @property
    def end_at(self) -> datetime:
        """End of the last interval."""
        return self.start_at + self.horizon * self.step

    @property
    def source(self) -> str:
        """The model's name; distinct names joined by a comma for a fleet."""
        return ",".join(dict.fromkeys(self.sources))

    @property
    def quality(self) -> Quality:
        """The least trustworthy quality among the sites."""
        order = list(Quality)
        return max(self.qualities, key=order.index)

    def quantile(self, level: float) -> FloatArray:
        """The path at `level`, linear between the levels held, shape (T,) or (S, T)."""
        held = np.asarray(self.levels)
        if not held[0] - 1e-9 <= level <= held[-1] + 1e-9:
            raise BrokenSeries(f"level: {level} lies outside the held {held[0]}..{held[-1]}")
        upper = int(np.clip(np.searchsorted(held, level - 1e-12), 0, len(held) - 1))
        lower = upper if held[upper] - level < 1e-9 else upper - 1
        if lower == upper:
            return np.asarray(self.quantiles[..., upper, :])
        share = (level - held[lower]) / (held[upper] - held[lower])
        return np.asarray((1 - share) * self.quantiles[..., lower, :] + share * self.quantiles[..., upper, :])

    @property
    def median(self) -> FloatArray:
        """The path that is as often too high as too low (least absolute error)."""
        return self.quantile(0.5)

    @property
    def median_kw(self) -> FloatArray:
        """The median path [kW], shape (T,) or (S, T)."""
        return self._in_kw(self.median)

    @property
    def mean_kw(self) -> FloatArray:
        """The expected path [kW], shape (T,) or (S, T)."""
        return self._in_kw(self.mean)

    @property
    def quantiles_kw(self) -> FloatArray:
        """The quantile paths [kW], shape (Q, T) or (S, Q, T)."""
        return self._in_kw(self.quantiles)

    def site(self, index: int) -> Forecast:
        """One site of a fleet forecast, as (Q, T)."""
        if not self.is_fleet:
            return self
        return replace(
            self,
            quantiles=self.quantiles[index],
            mean=self.mean[index],
            sources=(self.sources[index],),
            qualities=(self.qualities[index],),
        )

    def _in_kw(self, values: FloatArray) -> FloatArray:
        if self.unit is not Unit.KW:
            raise BrokenSeries(f"unit: this forecast is in {self.unit}, not kw")
        return values


class Forecaster(Protocol):
    """An estimator: what it is told in `fit` is all it knows, `predict` changes nothing.

    `predict` starts at the first grid boundary at or after `issued_at`. With `recent` the fitted model sees
    newer observations than it was fitted on (same sites, same step) without learning its parameters anew:
    that is the cheap path for every interval. `recent` replaces the remembered tail, so pass enough of it
    (`memory`); whatever in it ends after `issued_at` is ignored.
    """

    @property
    def name(self) -> str:
        """Short stable name, used as `Forecast.source`."""
        ...

    @property
    def memory(self) -> timedelta:
        """How much recent history `predict` wants to see."""
        ...

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn from history (and the weather that went with it); returns self."""
        ...

    def predict(
        self,
        issued_at: datetime,
        horizon: int,
        levels: Sequence[float] = DEFAULT_LEVELS,
        *,
        recent: History | None = None,
        weather: Weather | None = None,
    ) -> Forecast:
        """Quantiles for `horizon` intervals from the first grid boundary at or after `issued_at`."""
        ...


def as_utc(at: datetime, *, field: str) -> datetime:
    """Return `at` in UTC, or refuse a naive one by its field name."""
    if at.tzinfo is None:
        raise BrokenSeries(f"{field}: {at.isoformat()} has no offset; give an aware instant")
    return at.astimezone(UTC)


def checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Return the levels as an increasing tuple in (0, 1), or refuse them."""
    found = tuple(float(level) for level in levels)
    if not found or any(not 0.0 < level < 1.0 for level in found) or list(found) != sorted(set(found)):
        raise BrokenSeries(f"levels: {found} must increase strictly inside (0, 1)")
    return found


def first_start(history: History, issued_at: datetime) -> datetime:
    """First boundary of the history's grid at or after `issued_at`."""
    whole, rest = divmod(issued_at - history.start_at, history.step)
    return history.start_at + (whole + (1 if rest else 0)) * history.step
