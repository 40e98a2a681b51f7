"""Forecast: the seam to the forecasters. Recent past and state to an outlook for the batch."""

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import numpy as np

from ems.clock import grid_epochs
from ems.codec import FloatArray, IntArray
from ems.errors import DataError
from ems.history import RecentPast
from ems.outlook import Band, Outlook, SiteOutlook, VehicleOutlook
from ems.prices_ahead import PricesAhead
from ems.site import Site
from ems.state import MeasuredInterval, SiteState, VehicleState
from ems.tariffs import PriceSeries, Rate, SeriesRate, price_curve
from ems.vehicles_ahead import VehiclesAhead
from ems.weather import WeatherWatch
from forecasting import (
    Forecast,
    Forecaster,
    ForecastingError,
    History,
    LoadForecaster,
    Quality,
    SiteContext,
    SlotMean,
    SolarForecaster,
    Weather,
    dump_model,
    load_model,
    train,
)

log = logging.getLogger("ems.foresight")

PriceFiles = Callable[[Site], Mapping[str, PriceSeries]]
"""Reads the published prices of a site whose tariff names a file; by file name."""
MakeForecaster = Callable[[Sequence[SiteContext]], Forecaster]
"""Makes an unfitted forecaster for a fleet."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
REFIT_EVERY = timedelta(days=1)
WITHIN_S = 30.0
"""A model that takes longer is not waited for; 10,000 sites take 2 s [s]."""
LOAD, SOLAR = "load", "solar"


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
    """Forecasters of a batch with the past they learned from.

    Parameters
    ----------
    sites
        The batch.
    step_s, horizon
        Planning interval [s], and how many of them an outlook reaches.
    make_load, make_pv
        Make unfitted forecasters.
    price_files
        Reads published prices.
    weather
        What is known of the weather; None goes without.
    within_s
        A model that takes longer to predict is stood in for [s].
    """

    def __init__(
        self,
        sites: Sequence[Site],
        *,
        step_s: int,
        horizon: int,
        make_load: MakeForecaster,
        make_pv: MakeForecaster,
        price_files: PriceFiles,
        weather: WeatherWatch | None = None,
        within_s: float = WITHIN_S,
    ) -> None:
        self.sites = tuple(sites)
        self.step_s = step_s
        self.horizon = horizon
        self.past = RecentPast(sites, step_s=step_s)
        self.price_files = price_files
        self.weather = weather
        self.vehicles = VehiclesAhead(sites, step_s=step_s, horizon=horizon)
        self.drifting: frozenset[tuple[str, str]] = frozenset()
        """(Site id, `load` or `pv`) whose ways have changed; the next fit takes note of it."""
        self.fitted_at: datetime | None = None
        """When the models in use were fitted."""
        self._make = {LOAD: make_load, SOLAR: make_pv}
        self._with_pv = tuple(row for row, site in enumerate(sites) if site.pvs)
        self._fitted_for: frozenset[tuple[str, str]] = frozenset()
        self._knew_weather = False
        self._turn = threading.Lock()
        contexts = [site_context(site) for site in sites]
        self._rows = {LOAD: tuple(range(len(self.sites))), SOLAR: self._with_pv}
        self._contexts = {
            LOAD: [replace(context, nameplate_kw=None) for context in contexts],
            SOLAR: [contexts[row] for row in self._with_pv],
        }
        self._models: dict[str, Forecaster] = {}
        self._prices_ahead = PricesAhead()
        self._guard = Guard(within_s)

    def foresee(
        self, measured: Sequence[MeasuredInterval], *, at: datetime, states: Sequence[SiteState] = ()
    ) -> Outlook:
        """Return what the batch expects from `at`, having learned what was just measured."""
        starts_s = grid_epochs(at, self.horizon, self.step_s)
        here = {state.site_id: state.vehicles for state in states}
        expected = []
        for row, (site, (load, pv)) in enumerate(zip(self.sites, self.expect(measured, at=at), strict=True)):
            try:
                buy_per_kwh, sell_per_kwh, assumed, source = self._prices_of(site, starts_s)
            except (ValueError, DataError) as error:
                # unknown prices cost this site its plan, by name, and no other site anything
                log.warning("prices.unknown site=%s cause=%s", site.id, error)
                buy_per_kwh = sell_per_kwh = np.full(self.horizon, np.nan)
                assumed, source = self.horizon, "tariff"
            expected.append(
                SiteOutlook(
                    site_id=site.id,
                    load=load,
                    pv=pv,
                    buy_per_kwh=buy_per_kwh,
                    sell_per_kwh=sell_per_kwh,
                    prices_assumed=assumed,
                    prices_source=source,
                    vehicles=self._vehicles_of(site, here.get(site.id, {}), at),
                    weather_age_s=self._weather_age_s(row, at),
                )
            )
        return Outlook(issued_at=at, starts_s=starts_s, step_s=self.step_s, sites=tuple(expected))

    def refit_due(self, at: datetime) -> bool:
        """Tell whether the models are older than a day, or do not know yet of changed ways or of the weather."""
        return (
            self.fitted_at is None
            or at - self.fitted_at >= REFIT_EVERY
            or self.drifting != self._fitted_for
            or (not self._knew_weather and self._weather(LOAD, at) is not None)
        )

    def refit(self, at: datetime, *, executor: Executor | None = None) -> None:
        """Fit new models to the past and put them in the place of the old; may run beside `expect` in another thread.

        Parameters
        ----------
        at
            Nothing later is learned (aware UTC).
        executor
            Where models are fitted; None fits them in this thread.
        """
        past = self._learn((), at=at)
        drifting = self.drifting
        made: dict[str, Forecaster] = {}
        for kind, rows in self._rows.items():
            if rows:
                made[kind] = self._fitted(kind, past[kind], at, drifting, executor)
        self.refit_prices()
        self._models, self.fitted_at, self._fitted_for = made, at, drifting
        self._knew_weather = self._weather(LOAD, at) is not None

    def refit_prices(self) -> None:
        """Learn anew from the prices markets have published; these models are small and are not kept."""
        self._prices_ahead.refit(self._markets())

    def _fitted(
        self,
        kind: str,
        past: History,
        at: datetime,
        drifting: frozenset[tuple[str, str]],
        executor: Executor | None,
    ) -> Forecaster:
        """Fit a model; one like that of the days before keeps what its contest of models found.

        Models that are kept come as they will come back from the store, so that a restart changes no forecast.
        """
        model, before = self._make[kind](self._contexts[kind]), self._models.get(kind)
        weather = self._weather(kind, at)
        if not isinstance(model, LoadForecaster | SolarForecaster):
            return model.fit(past, weather=weather)
        previous = None
        if isinstance(before, LoadForecaster | SolarForecaster) and type(before) is type(model):
            previous = dump_model(before)
        series = "load" if kind == LOAD else "pv"
        marked = np.array([(self.sites[row].id, series) in drifting for row in self._rows[kind]])
        fit = partial(
            train,
            kind,
            self._contexts[kind],
            past,
            weather,
            previous,
            drifting=marked if marked.any() else None,
        )
        return load_model(fit() if executor is None else executor.submit(fit).result(), self._contexts[kind])

    @property
    def fleet(self) -> str:
        """A name for the sites and the grid the models are of: models of another fleet do not fit."""
        told = [f"{self.step_s}", *(f"{site.id} {site_context(site)}" for site in self.sites)]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]

    def dump(self) -> Mapping[str, bytes]:
        """Return the models in use by kind, as plain arrays; those that cannot be kept are left out."""
        return {
            kind: dump_model(model)
            for kind, model in self._models.items()
            if isinstance(model, LoadForecaster | SolarForecaster)
        }

    def restore(self, bodies: Mapping[str, bytes], *, fitted_at: datetime) -> bool:
        """Put models back that were fitted earlier; False, and nothing changes, when they do not fit."""
        models: dict[str, LoadForecaster | SolarForecaster] = {}
        known = False
        for kind, rows in self._rows.items():
            if not rows:
                continue
            if kind not in bodies:
                return False
            try:
                model = load_model(bodies[kind], self._contexts[kind])
            except ForecastingError as error:
                log.warning("foresight.not_restored kind=%s cause=%s", kind, error)
                return False
            if not isinstance(model, LoadForecaster | SolarForecaster) or model.name != kind:
                return False
            models[kind] = model
            known = known or model.knows_weather
        self._models.update(models)
        self.fitted_at, self._knew_weather = fitted_at, known
        return True

    def expect(
        self, measured: Sequence[MeasuredInterval], *, at: datetime
    ) -> tuple[tuple[Band, Mapping[str, Band]], ...]:
        """Return expected load and solar power (by PV asset) of each site from `at`.

        Models are as `refit` left them; here they only see the recent past.
        """
        past = self._learn(measured, at=at)
        if not self._models:
            self.refit(at)
        expected = {kind: self._expected(kind, past[kind], at) for kind in self._models}
        solar = expected.get(SOLAR)
        pv_rows = {row: index for index, row in enumerate(self._with_pv)}
        return tuple(
            (
                _band(expected[LOAD], row, path=lambda one: one.mean_kw),
                {}
                if solar is None or row not in pv_rows
                else _roofs(site, _band(solar, pv_rows[row], path=lambda one: one.median_kw)),
            )
            for row, site in enumerate(self.sites)
        )

    def _expected(self, kind: str, past: History, at: datetime) -> Forecast:
        """Ask a model; where it fails, is slow or has nothing to say, simpler ones speak, flagged."""
        model, contexts = self._models[kind], self._contexts[kind]
        weather = self._weather(kind, at)
        told = self._guard.ask(
            kind, lambda: model.predict(at, self.horizon, LEVELS, recent=past, weather=weather)
        )
        if told is None:
            told = SlotMean(contexts).predict(at, self.horizon, LEVELS, recent=past)
            told = replace(told, qualities=(Quality.FALLBACK,) * len(contexts))
        first_day = LoadForecaster if kind == LOAD else SolarForecaster
        return _whole(told, lambda: first_day(contexts), past)

    def _weather(self, kind: str, at: datetime) -> Weather | None:
        return None if self.weather is None else self.weather.known(at, self._rows[kind])

    def _weather_age_s(self, row: int, at: datetime) -> float | None:
        if self.weather is None:
            return None
        state = self.weather.state_of(row)
        if state.issued_at is None or not state.usable(at):
            return None
        return (at - state.issued_at).total_seconds()

    def _vehicles_of(
        self, site: Site, here: Mapping[str, VehicleState], at: datetime
    ) -> Mapping[str, VehicleOutlook]:
        return self.vehicles.expect(site, here, at) if site.vehicles else {}

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

    def _prices_of(self, site: Site, starts_s: IntArray) -> tuple[FloatArray, FloatArray, int, str]:
        """Return the same with a forecast for what is not published yet, and who made the prices."""
        buy_per_kwh, sell_per_kwh, assumed = self.prices(site, starts_s)
        if not assumed:
            return buy_per_kwh, sell_per_kwh, 0, "tariff"
        source = "tariff"
        files, curves = self.price_files(site), []
        for rate, per_kwh in ((site.tariff.buy, buy_per_kwh), (site.tariff.sell, sell_per_kwh)):
            series = files.get(rate.file) if isinstance(rate, SeriesRate) else None
            if series is not None:
                told = self._prices_ahead.beyond(series, site.time_zone, starts_s)
                if told is not None:
                    per_kwh, source = np.where(np.isfinite(told.per_kwh), told.per_kwh, per_kwh), told.source
            curves.append(per_kwh)
        return curves[0], curves[1], assumed, source

    def _markets(self) -> list[tuple[Site, PriceSeries]]:
        """Return the published series of sites whose price is not a fixed tariff; a file that is away is left out."""
        found = []
        for site in self.sites:
            named = [
                rate.file for rate in (site.tariff.buy, site.tariff.sell) if isinstance(rate, SeriesRate)
            ]
            if not named:
                continue
            try:
                files = self.price_files(site)
            except DataError:
                continue
            found += [(site, files[name]) for name in named if name in files]
        return found

    def _learn(self, measured: Sequence[MeasuredInterval], *, at: datetime) -> Mapping[str, History]:
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
        return {LOAD: load, SOLAR: pv}


class Guard:
    """Asks models one at a time and does not wait for ever; tells of edges, not of every interval."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="forecast")
        self._running: dict[str, Future[Forecast]] = {}
        self._trouble: dict[str, str] = {}

    def ask(self, kind: str, predict: Callable[[], Forecast]) -> Forecast | None:
        """Return what a model says; None when it fails, is too slow, or is still at the question before."""
        still = self._running.get(kind)
        try:
            if still is not None and not still.done():
                raise TimeoutError
            self._running[kind] = self._pool.submit(predict)
            told = self._running[kind].result(timeout=self._within_s)
        except TimeoutError:
            self._note(kind, f"no forecast within {self._within_s:g} s")
        except Exception as error:  # noqa: BLE001 - whatever a model raises, the cycle goes on
            self._note(kind, f"{type(error).__name__}: {error}")
        else:
            self._note(kind, None)
            return told
        return None

    def _note(self, kind: str, trouble: str | None) -> None:
        before = self._trouble.get(kind)
        if trouble is not None and before is None:
            log.warning("forecast.stood_in model=%s cause=%s", kind, trouble)
        if trouble is None and before is not None:
            log.warning("forecast.recovered model=%s", kind)
        if trouble is None:
            self._trouble.pop(kind, None)
        else:
            self._trouble[kind] = trouble


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
        median_kw=np.maximum(one.median_kw, 0.0),
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
            median_kw=None if together.median_kw is None else share(together.median_kw, asset.rated_kw),
        )
        for asset in site.pvs
    }
