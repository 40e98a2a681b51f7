"""Forecast: state to outlook. What each site will probably draw, produce and pay over the horizon."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
            band, mean_kw=later(band.mean_kw), low_kw=later(band.low_kw), high_kw=later(band.high_kw)
        )

    starts_s = outlook.starts_s + index * outlook.step_s
    return (
        replace(outlook, issued_at=datetime.fromtimestamp(int(starts_s[0]), UTC), starts_s=starts_s),
        replace(
            expected,
            load=moved(expected.load),
            pv={name: moved(band) for name, band in expected.pv.items()},
            buy_per_kwh=later(expected.buy_per_kwh),
            sell_per_kwh=later(expected.sell_per_kwh),
        ),
    )
