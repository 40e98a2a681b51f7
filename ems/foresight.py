"""Forecast: the seam to the forecasters. Recent past and state to an outlook for the batch."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from ems.clock import grid_epochs
from ems.codec import FloatArray, IntArray
from ems.errors import DataError
from ems.history import RecentPast
from ems.outlook import Band, Outlook, SiteOutlook
from ems.site import Site
from ems.state import MeasuredInterval
from ems.tariffs import PriceSeries, Rate, price_curve
from forecasting import Forecast, Forecaster, History, LoadForecaster, SiteContext, SolarForecaster

log = logging.getLogger("ems.foresight")

PriceFiles = Callable[[Site], Mapping[str, PriceSeries]]
"""Reads the published prices of a site whose tariff names a file; by file name."""
MakeForecaster = Callable[[Sequence[SiteContext]], Forecaster]
"""Makes an unfitted forecaster for a fleet."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
REFIT_EVERY = timedelta(days=1)


def site_context(site: Site) -> SiteContext:
    """Translate a site to the forecaster's words."""
    roof = site.pvs[0] if site.pvs else None
    return SiteContext(
        time_zone=site.time_zone,
        latitude=site.latitude_deg,
        longitude=site.longitude_deg,
        country=site.country,
        nameplate_kw=sum(pv.rated_kw for pv in site.pvs) or None,
        tilt_deg=None if roof is None else roof.tilt_deg,
        azimuth_deg=None if roof is None else roof.azimuth_deg,
    )


class Foresight:
    """Forecasters of a batch with the past they learned from."""

    def __init__(
        self,
        sites: Sequence[Site],
        *,
        step_s: int,
        horizon: int,
        make_load: MakeForecaster,
        make_pv: MakeForecaster,
        price_files: PriceFiles,
    ) -> None:
        self.sites = tuple(sites)
        self.step_s = step_s
        self.horizon = horizon
        self.past = RecentPast(sites, step_s=step_s)
        self.price_files = price_files
        self._make_load = make_load
        self._make_pv = make_pv
        self._with_pv = tuple(row for row, site in enumerate(sites) if site.pvs)
        self._fitted_at: datetime | None = None
        self._turn = threading.Lock()
        self._contexts = [site_context(site) for site in sites]
        self._load_contexts = [replace(context, nameplate_kw=None) for context in self._contexts]
        self._load: Forecaster | None = None
        self._pv: Forecaster | None = None

    def foresee(self, measured: Sequence[MeasuredInterval], *, at: datetime) -> Outlook:
        """Return what the batch expects from `at`, having learned what was just measured."""
        starts_s = grid_epochs(at, self.horizon, self.step_s)
        expected = []
        for site, (load, pv) in zip(self.sites, self.expect(measured, at=at), strict=True):
            try:
                buy_per_kwh, sell_per_kwh, assumed = self.prices(site, starts_s)
            except (ValueError, DataError) as error:
                # unknown prices cost this site its plan, by name, and no other site anything
                log.warning("prices.unknown site=%s cause=%s", site.id, error)
                buy_per_kwh = sell_per_kwh = np.full(self.horizon, np.nan)
                assumed = self.horizon
            expected.append(
                SiteOutlook(
                    site_id=site.id,
                    load=load,
                    pv=pv,
                    buy_per_kwh=buy_per_kwh,
                    sell_per_kwh=sell_per_kwh,
                    prices_assumed=assumed,
                )
            )
        return Outlook(issued_at=at, starts_s=starts_s, step_s=self.step_s, sites=tuple(expected))

    def refit_due(self, at: datetime) -> bool:
        """Tell whether the models are older than a day."""
        return self._fitted_at is None or at - self._fitted_at >= REFIT_EVERY

    def refit(self, at: datetime) -> None:
        """Fit new models to the past and put them in the place of the old; may run beside `expect` in another thread."""
        past_load, past_pv = self._learn((), at=at)
        load = self._make_load(self._load_contexts).fit(past_load)
        pv = None
        if self._with_pv:
            pv = self._make_pv([self._contexts[row] for row in self._with_pv]).fit(past_pv)
        self._load, self._pv, self._fitted_at = load, pv, at

    def expect(
        self, measured: Sequence[MeasuredInterval], *, at: datetime
    ) -> tuple[tuple[Band, Mapping[str, Band]], ...]:
        """Return expected load and solar power (by PV asset) of each site from `at`.

        Models are as `refit` left them; here they only see the recent past.
        """
        load, pv = self._learn(measured, at=at)
        if self._load is None:
            self.refit(at)
        if self._load is None:
            raise RuntimeError("the load model is fitted before it is asked")
        expected_load = _whole(
            self._load.predict(at, self.horizon, LEVELS, recent=load), self._cold_load, load
        )
        expected_pv = None
        if self._pv is not None:
            expected_pv = _whole(self._pv.predict(at, self.horizon, LEVELS, recent=pv), self._cold_pv, pv)
        pv_rows = {row: index for index, row in enumerate(self._with_pv)}
        return tuple(
            (
                _band(expected_load, row, path=lambda one: one.mean_kw),
                {}
                if expected_pv is None or row not in pv_rows
                else _roofs(site, _band(expected_pv, pv_rows[row], path=lambda one: one.median_kw)),
            )
            for row, site in enumerate(self.sites)
        )

    def _cold_load(self) -> Forecaster:
        return LoadForecaster(self._load_contexts)

    def _cold_pv(self) -> Forecaster:
        return SolarForecaster([self._contexts[row] for row in self._with_pv])

    def prices(self, site: Site, starts_s: IntArray) -> tuple[FloatArray, FloatArray, int]:
        """Return what a site pays and is paid per interval [1/kWh], and how many of the prices are assumed."""
        files = self.price_files(site)

        def curve(rate: Rate) -> tuple[FloatArray, int]:
            found = price_curve(
                rate, starts_s, zone=site.time_zone, series=files.get(getattr(rate, "file", ""))
            )
            return found.per_kwh, found.assumed

        buy_per_kwh, buy_assumed = curve(site.tariff.buy)
        sell_per_kwh, sell_assumed = curve(site.tariff.sell)
        return buy_per_kwh, sell_per_kwh, max(buy_assumed, sell_assumed)

    def _learn(self, measured: Sequence[MeasuredInterval], *, at: datetime) -> tuple[History, History]:
        """Add what was measured and return copies of the past of load and of solar power, as known at `at`."""
        with self._turn:
            self.past.add(measured)
            self.past.slide_to(at)
            past, step = self.past, timedelta(seconds=self.step_s)
            rows = list(self._with_pv)
            load = History(
                start_at=past.start_at, step=step, values=past.load_kw.copy(), reliability=past.trust.copy()
            )
            pv = History(
                start_at=past.start_at,
                step=step,
                values=past.pv_kw[rows],
                reliability=past.trust[rows],
                curtailed=past.curtailed[rows],
            )
        return load, pv


def _whole(forecast: Forecast, first_day: Callable[[], Forecaster], past: History) -> Forecast:
    """Return the forecast, with what a household starts with where a simpler model has nothing to say yet."""
    unknown = np.isnan(forecast.mean)
    if not unknown.any():
        return forecast
    cold = first_day().fit(past).predict(forecast.issued_at, forecast.horizon, LEVELS, recent=past)
    return replace(
        forecast,
        mean=np.where(unknown, cold.mean, forecast.mean),
        quantiles=np.where(unknown[:, None, :], cold.quantiles, forecast.quantiles),
        qualities=tuple(
            other if missing.any() else own
            for own, other, missing in zip(forecast.qualities, cold.qualities, unknown, strict=True)
        ),
    )


def _band(forecast: Forecast, row: int, *, path: Callable[[Forecast], FloatArray]) -> Band:
    one = forecast.site(row)
    return Band(
        mean_kw=np.maximum(path(one), 0.0),
        low_kw=np.maximum(one.quantile(LEVELS[0]), 0.0),
        high_kw=np.maximum(one.quantile(LEVELS[-1]), 0.0),
        source=one.source,
        quality=str(one.quality),
    )


def _roofs(site: Site, together: Band) -> dict[str, Band]:
    """Split what all roofs of a site are expected to give by their nameplates, each below its own."""
    rated_kw = sum(asset.rated_kw for asset in site.pvs)

    def share(power_kw: FloatArray, asset_kw: float) -> FloatArray:
        return np.minimum(power_kw * (asset_kw / rated_kw), asset_kw)

    return {
        asset.name: replace(
            together,
            mean_kw=share(together.mean_kw, asset.rated_kw),
            low_kw=share(together.low_kw, asset.rated_kw),
            high_kw=share(together.high_kw, asset.rated_kw),
        )
        for asset in site.pvs
    }
