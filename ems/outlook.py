"""Forecast: state to outlook. What each site will probably draw, produce and pay over the horizon."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from ems.codec import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """One expected course with its uncertainty."""

    mean_kw: FloatArray
    """Expected power per interval [kW], shape (T,), >= 0: the mean for load; for solar power the median, which costs
    less in closed loop (clouds pull the mean below what is usually there)."""
    low_kw: FloatArray
    """10 % quantile [kW], shape (T,)."""
    high_kw: FloatArray
    """90 % quantile [kW], shape (T,)."""
    source: str
    """The model that made it."""
    quality: str
    """`good`, `estimated`, `cold` or `fallback`."""
    median_kw: FloatArray | None = None
    """50 % quantile [kW], shape (T,); None where only the path is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VehicleOutlook:
    """What one vehicle will probably do, from its past stays. Triples are the 10, 50 and 90 % quantiles."""

    plugged_in_prob: FloatArray
    """Probability that it is at its charger, shape (T,)."""
    charging_kw: FloatArray
    """Expected power of stays that have not begun yet, if nobody steers them [kW], shape (T,)."""
    arrival_h: FloatArray
    """Hours until it comes next, shape (3,); the horizon means not within it."""
    departure_h: FloatArray
    """Hours until it leaves next, shape (3,); nan while it is away."""
    energy_kwh: FloatArray
    """Energy of the stay at hand or of the next one [kWh], shape (3,)."""
    similar_days: float
    """Past days (weighted) that stand behind it; few means that a usual week speaks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteOutlook:
    """What one site expects."""

    site_id: str
    """The site."""
    load: Band
    """Household load without storage and vehicle."""
    pv: Mapping[str, Band]
    """Solar power available, by PV asset."""
    buy_per_kwh: FloatArray
    """Price of imported energy [1/kWh], shape (T,)."""
    sell_per_kwh: FloatArray
    """Price paid for exported energy [1/kWh], shape (T,)."""
    prices_assumed: int
    """How many of the T prices are not published yet."""
    prices_source: str = "tariff"
    """`tariff`, or the model that made the prices which are not published yet."""
    vehicles: Mapping[str, VehicleOutlook] = field(default_factory=dict)
    """By vehicle asset; a vehicle with too few known stays is not in it."""
    weather_age_s: float | None = None
    """Age of the weather forecast that went in [s]; None: none did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What the batch expects over a common horizon."""

    issued_at: datetime
    """Nothing known later than this went in (aware UTC)."""
    starts_s: IntArray
    """Interval starts [epoch s], shape (T,)."""
    step_s: int
    """Interval length [s]."""
    sites: tuple[SiteOutlook, ...]
    """One per site, in the order of the batch."""


def from_interval(outlook: Outlook, expected: SiteOutlook, index: int) -> tuple[Outlook, SiteOutlook]:
    """Return the outlook and one site's part of it from a later interval on, as long as before: its last hours repeat."""

    def later(values: FloatArray) -> FloatArray:
        return np.concatenate([values[index:], values[len(values) - index :]])

    def moved(band: Band) -> Band:
        return replace(
            band,
            mean_kw=later(band.mean_kw),
            low_kw=later(band.low_kw),
            high_kw=later(band.high_kw),
            median_kw=None if band.median_kw is None else later(band.median_kw),
        )

    def stayed(vehicle: VehicleOutlook) -> VehicleOutlook:
        gone_h = index * outlook.step_s / 3600.0
        return replace(
            vehicle,
            plugged_in_prob=later(vehicle.plugged_in_prob),
            charging_kw=later(vehicle.charging_kw),
            arrival_h=np.maximum(vehicle.arrival_h - gone_h, 0.0),
            departure_h=np.maximum(vehicle.departure_h - gone_h, 0.0),
        )

    starts_s = outlook.starts_s + index * outlook.step_s
    return (
        replace(outlook, issued_at=datetime.fromtimestamp(int(starts_s[0]), UTC), starts_s=starts_s),
        replace(
            expected,
            load=moved(expected.load),
            pv={name: moved(band) for name, band in expected.pv.items()},
            vehicles={name: stayed(vehicle) for name, vehicle in expected.vehicles.items()},
            buy_per_kwh=later(expected.buy_per_kwh),
            sell_per_kwh=later(expected.sell_per_kwh),
        ),
    )
