"""Forecast: the seam to the forecasters. Recent past and state to an outlook for the batch."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from ems.clock import grid_epochs
from ems.codec import FloatArray, IntArray
from ems.history import RecentPast
from ems.outlook import Band, Outlook, SiteOutlook
from ems.site import Site
from ems.state import MeasuredInterval
from ems.tariffs import PriceSeries, Rate, price_curve
from forecasting import Forecast, Forecaster, History, SiteContext

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
        contexts = [site_context(site) for site in sites]
        self._load = make_load(contexts)
        self._pv = make_pv([contexts[row] for row in self._with_pv]) if self._with_pv else None

    def foresee(self, measured: Sequence[MeasuredInterval], *, at: datetime) -> Outlook:
        """Return what the batch expects from `at`, having learned what was just measured.

        Models are fitted anew once a day; in between they see the recent past only.
        """
        self.past.add(measured)
        self.past.slide_to(at)
        load = self._history(self.past.load_kw, tuple(range(len(self.sites))))
        pv = self._history(self.past.pv_kw, self._with_pv)
        if self._fitted_at is None or at - self._fitted_at >= REFIT_EVERY:
            self._load = self._load.fit(load)
            self._pv = None if self._pv is None else self._pv.fit(pv)
            self._fitted_at = at
        expected_load = self._load.predict(at, self.horizon, LEVELS, recent=load)
        expected_pv = None if self._pv is None else self._pv.predict(at, self.horizon, LEVELS, recent=pv)
        starts_s = grid_epochs(at, self.horizon, self.step_s)
        pv_rows = {row: index for index, row in enumerate(self._with_pv)}
        return Outlook(
            issued_at=at,
            starts_s=starts_s,
            step_s=self.step_s,
            sites=tuple(
                self._site(
                    site,
                    starts_s,
                    _band(expected_load, row, upper_kw=None),
                    None
                    if expected_pv is None or row not in pv_rows
                    else _band(expected_pv, pv_rows[row], upper_kw=sum(pv.rated_kw for pv in site.pvs)),
                )
                for row, site in enumerate(self.sites)
            ),
        )

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

    def _site(self, site: Site, starts_s: IntArray, load: Band, pv: Band | None) -> SiteOutlook:
        buy_per_kwh, sell_per_kwh, assumed = self.prices(site, starts_s)
        rated_kw = sum(asset.rated_kw for asset in site.pvs)
        return SiteOutlook(
            site_id=site.id,
            load=load,
            pv={}
            if pv is None
            else {asset.name: _share(pv, asset.rated_kw / rated_kw) for asset in site.pvs},
            buy_per_kwh=buy_per_kwh,
            sell_per_kwh=sell_per_kwh,
            prices_assumed=assumed,
        )

    def _history(self, values: FloatArray, rows: tuple[int, ...]) -> History:
        chosen = list(rows)
        is_pv = values is self.past.pv_kw
        return History(
            start_at=self.past.start_at,
            step=timedelta(seconds=self.step_s),
            values=values[chosen].copy(),
            reliability=self.past.trust[chosen].copy(),
            curtailed=self.past.curtailed[chosen].copy() if is_pv else None,
        )


def _band(forecast: Forecast, row: int, *, upper_kw: float | None) -> Band:
    one = forecast.site(row)
    cap_kw = np.inf if upper_kw is None else upper_kw
    return Band(
        mean_kw=np.clip(one.mean_kw, 0.0, cap_kw),
        low_kw=np.clip(one.quantile(LEVELS[0]), 0.0, cap_kw),
        high_kw=np.clip(one.quantile(LEVELS[-1]), 0.0, cap_kw),
        source=one.source,
        quality=str(one.quality),
    )


def _share(band: Band, share: float) -> Band:
    if share == 1.0:
        return band
    return Band(
        mean_kw=band.mean_kw * share,
        low_kw=band.low_kw * share,
        high_kw=band.high_kw * share,
        source=band.source,
        quality=band.quality,
    )
