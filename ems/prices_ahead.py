"""Prices that are not published yet: forecast from those that are.

A market publishes tomorrow's prices at noon, and a plan reaches further. Sites that follow the same market share a model.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.codec import FloatArray, IntArray
from ems.site import Site
from ems.tariffs import PriceSeries
from forecasting import ForecastingError, History, PriceForecaster, SiteContext, Unit

log = logging.getLogger("ems.prices_ahead")

LEAST_DAYS = 7
"""With fewer published days the same time of the latest day is as good a guess."""
LEARN_DAYS = 120
FINEST_S, COARSEST_S = 300, 3600
"""Steps of published prices that are forecast on their own grid [s]."""
FINGERPRINT = 24
"""First prices that make a market known by: a file grows at its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PricesBeyond:
    """What comes after the last published price."""

    per_kwh: FloatArray
    """Expected price [1/kWh], shape (T,); nan where one is published."""
    source: str
    """The model."""


class PricesAhead:
    """One model per market."""

    def __init__(self) -> None:
        self._models: dict[str, PriceForecaster] = {}
        self._told: dict[tuple[str, int, int], PricesBeyond | None] = {}

    def refit(self, markets: Sequence[tuple[Site, PriceSeries]]) -> None:
        """Learn from all that every market has published; sites of one market are one."""
        models: dict[str, PriceForecaster] = {}
        for site, series in markets:
            key = _market(series, site.time_zone)
            history = _history(series)
            if key in models or history is None:
                continue
            context = SiteContext(time_zone=site.time_zone, country=site.country)
            try:
                models[key] = PriceForecaster(context).fit(history)
            except (ForecastingError, ValueError) as error:
                log.warning("prices.no_model site=%s cause=%s", site.id, error)
        self._models, self._told = models, {}

    def beyond(self, series: PriceSeries, zone: str, starts_s: IntArray) -> PricesBeyond | None:
        """Return expected prices of the intervals that begin after the last published one; None without a model."""
        market = _market(series, zone)
        asked = (market, int(series.starts_s[-1]), int(starts_s[0]))
        if asked not in self._told:
            # what was told for earlier intervals or of fewer prices is not asked for again
            self._told = {key: told for key, told in self._told.items() if key[2] == asked[2]}
            self._told[asked] = self._beyond(market, series, starts_s)
        return self._told[asked]

    def _beyond(self, market: str, series: PriceSeries, starts_s: IntArray) -> PricesBeyond | None:
        model, history = self._models.get(market), _history(series)
        if model is None or history is None:
            return None
        ahead_s = starts_s - int(history.end_at.timestamp())
        if ahead_s[-1] < 0:
            return None
        index = ahead_s // series.step_s
        try:
            told = model.predict(history.end_at, int(index[-1]) + 1, recent=history)
        except (ForecastingError, ValueError) as error:
            log.warning("prices.no_forecast cause=%s", error)
            return None
        expected = told.mean
        return PricesBeyond(
            per_kwh=np.where(index >= 0, expected[np.maximum(index, 0)], np.nan), source=told.source
        )


def _history(series: PriceSeries) -> History | None:
    """Return the last published weeks on a regular grid; None where there are too few, or no such grid."""
    step_s = series.step_s
    if not FINEST_S <= step_s <= COARSEST_S or 86_400 % step_s or step_s % 60:
        return None
    end_s = int(series.starts_s[-1]) + step_s
    count = min(LEARN_DAYS * 86_400, end_s - int(series.starts_s[0])) // step_s
    if count < LEAST_DAYS * 86_400 // step_s:
        return None
    starts_s = end_s - step_s * np.arange(count, 0, -1, dtype=np.int64)
    index = np.searchsorted(series.starts_s, starts_s, side="right") - 1
    return History(
        start_at=datetime.fromtimestamp(int(starts_s[0]), UTC),
        step=timedelta(seconds=step_s),
        values=series.per_kwh[index],
        unit=Unit.PER_KWH,
    )


def _market(series: PriceSeries, zone: str) -> str:
    told = series.starts_s[:FINGERPRINT].tobytes() + series.per_kwh[:FINGERPRINT].tobytes()
    return hashlib.sha256(zone.encode() + told).hexdigest()
