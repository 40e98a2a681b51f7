"""The composition root: sites and settings to a running service's parts."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import numpy as np

from drivers import Device, DeviceMemory, DriverError, LinkPool, known_drivers, open_device
from drivers.proxy import share
from ems.clock import interval_start
from ems.codec import FloatArray
from ems.config import load_price_series, load_sites
from ems.errors import ConfigError, DataError, EmsError, Mistake, StoreError
from ems.foresight import Foresight, MakeForecaster
from ems.history import DAYS
from ems.metering import CounterMarks, SiteMeter
from ems.metrics import DeviceFigures, LinkFigures
from ems.readings import SiteReading
from ems.recorded import Recording, read_recording
from ems.settings import Settings
from ems.site import Role, Site
from ems.store import Store, StoredModel
from ems.tariffs import PriceSeries
from ems.weather import WeatherWatch
from forecasting import FileWeather, HttpWeather, LoadForecaster, SolarForecaster

log = logging.getLogger("ems.wiring")

WEATHER_WITHIN_S = 10.0
"""Longest wait for a weather service [s]."""
LARGEST_MODEL_BYTES = 256_000_000
"""A fitted fleet larger than this is not kept [byte]."""
VEHICLE_DAYS = 180
"""How far back stays of vehicles are looked for [days]."""
BEYOND_CONNECTION = 4.0
"""A contracted power may be exceeded, but not by this factor: such a reading is off by ten, or of something else."""


def driver_names() -> Sequence[str]:
    """Return every value `devices.*.driver` may take; raises EmsError when a device file is broken."""
    try:
        return known_drivers()
    except DriverError as error:
        raise EmsError(f"device files: {error}") from error


def read_sites(settings: Settings) -> tuple[tuple[Site, ...], Mapping[str, Path]]:
    """Read every site file; returns the sites and the folder each one's relative paths start from.

    Raises
    ------
    ConfigError
        With every mistake of every file.
    """
    sites: list[Site] = []
    folders: dict[str, Path] = {}
    mistakes: list[Mistake] = []
    for path in settings.site_files:
        try:
            found = load_sites(path, known_drivers=driver_names())
        except ConfigError as error:
            mistakes.extend(error.mistakes)
            continue
        for site in found:
            if site.id in folders:
                mistakes.append(
                    Mistake(
                        file=str(path),
                        key="id",
                        value=site.id,
                        problem="another file has this id",
                        remedy="rename it",
                    )
                )
            folders[site.id] = path.parent
            sites.append(site)
            for name in site.idle_devices:
                log.warning("site.device_idle site=%s device=%s it serves no asset", site.id, name)
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(sites), folders


def open_devices(sites: Sequence[Site], links: LinkPool) -> dict[tuple[str, str], Device]:
    """Make every device of every site; nothing is sent yet. Raises EmsError where one cannot be addressed."""
    try:
        return _opened(sites, links)
    except DriverError as error:
        raise EmsError(str(error)) from error


def _opened(sites: Sequence[Site], links: LinkPool) -> dict[tuple[str, str], Device]:
    return {
        (site.id, name): open_device(
            name=f"{site.id}.{name}",
            endpoint=device.endpoint,
            unit_id=device.unit_id,
            driver=device.driver,
            links=links,
            read_only=device.read_only,
            swap_direction=device.swap_direction,
            max_kw=_nameplate_kw(site, name),
            ramp_kw_per_s=device.ramp_kw_per_s,
            permitted=permitted_controls(site, name),
        )
        for site in sites
        for name, device in site.devices.items()
    }


async def share_devices(sites: Sequence[Site], links: LinkPool) -> tuple[AsyncExitStack, list[str]]:
    """Let other readers at the devices whose site file says so; returns what to close, and what could not be opened."""
    opened, troubles = AsyncExitStack(), []
    for site in sites:
        for name, device in site.devices.items():
            if device.share is None:
                continue
            wanted = device.share
            try:
                shared = await opened.enter_async_context(
                    share(
                        device.endpoint,
                        links=links,
                        host=wanted.host,
                        port=wanted.port,
                        allow_writes=wanted.allow_writes,
                    )
                )
            except OSError as error:
                troubles.append(
                    f"{site.id}.{name} is not shared on {wanted.host}:{wanted.port}: {error.strerror}"
                )
                log.error("device.not_shared %s", troubles[-1])
            else:
                log.info("device.shared site=%s device=%s at=%s", site.id, name, shared)
    return opened, troubles


def permitted_controls(site: Site, device: str) -> frozenset[str]:
    """Return the controls a device may be given: those of the assets it serves, with the household's consent."""
    consents = site.consents
    consented = {
        "battery": ("battery_power", consents.control_storage),
        "pv": ("generation_limit", consents.curtail_solar),
        "vehicle": ("charge_limit", consents.control_vehicle),
        "sheddable": ("consumption_limit", consents.shed_loads),
    }
    served = [consented[asset.kind] for asset in site.assets if asset.device == device]
    return frozenset(control for control, consent in served if consent)


def restore_memories(
    devices: Mapping[tuple[str, str], Device], kept: Mapping[tuple[str, str], DeviceMemory]
) -> None:
    """Let devices go on from what an earlier process kept of them."""
    for key, memory in kept.items():
        if key in devices:
            devices[key].restore(memory)


def device_figures(devices: Mapping[tuple[str, str], Device]) -> Iterator[DeviceFigures]:
    """Yield what every device counted, for metrics."""
    for (site_id, name), device in devices.items():
        counted = device.counters
        yield DeviceFigures(
            site=site_id,
            device=name,
            failed_reads=counted.failed_reads,
            writes=counted.writes,
            writes_saved=counted.writes_saved,
            refusals=counted.refusals,
            unverified=counted.unverified,
            writes_today=sum(counted.writes_today.values()),
            budget_left=counted.budget_left,
            flags=dict(counted.flags_by_rule),
        )


def link_figures(links: LinkPool) -> Iterator[LinkFigures]:
    """Yield what happened on every endpoint, for metrics."""
    for endpoint, counted in links.counters.items():
        yield LinkFigures(
            endpoint=endpoint.partition("?")[0],
            outcomes={
                "answered": counted.answers,
                "timeout": counted.timeouts,
                "garbled": counted.garbled,
                "exception": counted.exceptions,
                "not_sent": counted.skipped,
                "late": counted.late_discarded,
            },
            connects=counted.connects,
            failed_connects=counted.failed_connects,
        )


def make_foresight(
    sites: Sequence[Site],
    folders: Mapping[str, Path],
    *,
    step_s: int,
    horizon: int,
    make_load: MakeForecaster = LoadForecaster,
    make_pv: MakeForecaster = SolarForecaster,
    weather: WeatherWatch | None = None,
) -> Foresight:
    """Make the forecasters of a batch."""
    files = PriceFileCache(folders)
    return Foresight(
        sites,
        step_s=step_s,
        horizon=horizon,
        make_load=make_load,
        make_pv=make_pv,
        price_files=files.of,
        weather=weather,
    )


def make_weather(sites: Sequence[Site], source: str) -> WeatherWatch | None:
    """Make what watches the weather: over HTTP, from a file, or not at all. Nothing is asked yet."""
    if not source:
        return None
    if source.startswith(("http://", "https://")):
        client = httpx.AsyncClient(timeout=WEATHER_WITHIN_S)
        provider = HttpWeather(client, url=source, deadline_s=WEATHER_WITHIN_S)
        return WeatherWatch(sites, provider, close=client.aclose)
    return WeatherWatch(sites, FileWeather(Path(source)))


class PriceFileCache:
    """Price files, read again when they change; a file that cannot be read keeps its last prices."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._read: dict[str, tuple[tuple[float, ...], Mapping[str, PriceSeries]]] = {}

    def of(self, site: Site) -> Mapping[str, PriceSeries]:
        """Return the published prices of a site by file name; empty where its tariff names no file."""
        names = [
            name for rate in (site.tariff.buy, site.tariff.sell) if (name := getattr(rate, "file", None))
        ]
        if not names:
            return {}
        folder = self._folders[site.id]
        stamps = tuple((folder / name).stat().st_mtime if (folder / name).exists() else 0.0 for name in names)
        known = self._read.get(site.id)
        if known is None or known[0] != stamps:
            try:
                known = (stamps, load_price_series(site, folder))
            except DataError as error:
                if known is None:
                    raise
                log.warning("prices.unreadable site=%s cause=%s", site.id, error)
                known = (stamps, known[1])
            self._read[site.id] = known
        return known[1]


def learn_from_store(foresight: Foresight, store: Store, *, now: datetime) -> None:
    """Give the forecasters what the store remembers of the last weeks."""
    step_s = foresight.step_s
    end_at = interval_start(now, step_s)
    start_at = end_at - timedelta(days=DAYS)
    history = store.load_pv_history([site.id for site in foresight.sites], start_at, end_at, step_s)
    if np.isfinite(history.load_kw).any():
        foresight.past.overlay(
            history.start_at,
            history.load_kw,
            history.pv_kw,
            trust=np.select([history.quality >= 3, history.quality == 2], [1.0, 0.5], 0.0),
            curtailed=history.curtailed > 0,
        )


def restore_models(foresight: Foresight, store: Store, *, now: datetime) -> bool:
    """Put back the models fitted last, if they are of these sites; False when they must be fitted anew."""
    versions: dict[datetime, dict[str, bytes]] = {}
    for model in store.models(foresight.fleet, now):
        versions.setdefault(model.fitted_at, {})[model.kind] = model.body
    return any(foresight.restore(bodies, fitted_at=fitted_at) for fitted_at, bodies in versions.items())


def keep_models(foresight: Foresight, store: Store) -> None:
    """Keep the models in use as a version of their own; what is too large for the store is fitted anew at a start."""
    if foresight.fitted_at is None:
        return
    for kind, body in foresight.dump().items():
        if len(body) > LARGEST_MODEL_BYTES:
            log.warning("models.not_kept kind=%s bytes=%d limit=%d", kind, len(body), LARGEST_MODEL_BYTES)
            continue
        try:
            store.save_model(
                foresight.fleet, StoredModel(kind=kind, fitted_at=foresight.fitted_at, body=body)
            )
        except StoreError as error:
            log.warning("models.not_kept kind=%s cause=%s", kind, error)


def learn_vehicles(
    foresight: Foresight, store: Store, *, now: datetime, stop: Callable[[], bool] = lambda: False
) -> None:
    """Give the vehicle forecasters what chargers said since they were asked last; half a year the first time.

    Takes a second or two for a charger never asked; `stop` ends it between two.
    """
    for site, vehicle in foresight.vehicles.wanted:
        if stop():
            return
        known_until = foresight.vehicles.known_until(site.id, vehicle.name)
        since = max(now - timedelta(days=VEHICLE_DAYS), known_until or now - timedelta(days=VEHICLE_DAYS))
        at_s, plugged_in = _samples(store, site.id, f"{vehicle.device}.plugged_in", since, now)
        if not len(at_s):
            continue
        power_s, power_kw = _samples(
            store, site.id, f"{vehicle.device}.vehicle_net_consumption_kw", since, now
        )
        at_instant = dict(zip(power_s.tolist(), power_kw.tolist(), strict=True))
        drawn_kw = np.array([at_instant.get(instant, np.nan) for instant in at_s.tolist()])
        foresight.vehicles.hear(site.id, vehicle.name, at_s, plugged_in, drawn_kw)


def _samples(
    store: Store, site_id: str, key: str, since: datetime, until: datetime
) -> tuple[FloatArray, FloatArray]:
    """Return instants [epoch s] and values of one quantity, however many there are; nan is not known."""
    at_s: list[float] = []
    values: list[float] = []
    while True:
        found = store.samples(site_id, key, since, until)
        at_s += [sample.at.timestamp() for sample in found.samples]
        values += [np.nan if sample.value is None else sample.value for sample in found.samples]
        if found.complete or not found.samples:
            return np.array(at_s), np.array(values)
        since = found.samples[-1].at + timedelta(milliseconds=1)


def learn_from_recording(foresight: Foresight, path: Path, *, now: datetime) -> None:
    """Give the forecasters a CSV of recorded load and solar power, as known at `now`.

    Columns are `<site>.load_kw` and `<site>.pv_kw`, or plain `load_kw` and `pv_kw` for a single site.
    """
    recording = read_recording(path)
    step_s = foresight.step_s
    rows = [_series(recording, site, len(foresight.sites) == 1) for site in foresight.sites]
    if all(load is None for load, _ in rows):
        raise DataError(
            f"{path}: no column <site>.load_kw for any of the sites; name the columns after their ids"
        )
    count = max(0, int((now - recording.start_at) / recording.step))
    factor = int(recording.step.total_seconds()) // step_s
    if factor < 1:
        raise DataError(f"{path}: step of {recording.step}; it must be a multiple of the planning interval")
    empty = np.full(recording.count, np.nan)

    def on_grid(series: Sequence[FloatArray | None]) -> FloatArray:
        known = np.stack([empty if one is None else one for one in series])[:, :count]
        return np.repeat(known, factor, axis=1)

    loads = on_grid([load for load, _ in rows])
    if loads.shape[1]:
        foresight.past.overlay(recording.start_at, loads, on_grid([pv for _, pv in rows]))


def make_meters(
    sites: Sequence[Site], *, step_s: int, readings: Mapping[str, SiteReading], at: datetime | None
) -> dict[str, SiteMeter]:
    """Make the meters that add up energy; with the readings of the last cycle they go on from its counters."""
    meters = {site.id: SiteMeter(site=site, step_s=step_s) for site in sites}
    if at is not None:
        for site_id, reading in readings.items():
            if site_id in meters:
                meter = meters[site_id]
                meter.marks = CounterMarks(at=at, kwh=meter.counters(reading))
    return meters


def _series(recording: Recording, site: Site, alone: bool) -> tuple[FloatArray | None, FloatArray | None]:
    def column(quantity: str) -> FloatArray | None:
        named = recording.column(f"{site.id}.{quantity}")
        return recording.column(quantity) if named is None and alone else named

    return column("load_kw"), column("pv_kw")


def _nameplate_kw(site: Site, device: str) -> float | None:
    """Return the power above which a reading of this device cannot be true [kW]; None where nothing is known."""
    ref = site.devices[device]
    if ref.role is Role.GRID_METER:
        return ref.rated_kw or BEYOND_CONNECTION * max(
            site.connection.import_limit_kw,
            site.connection.export_limit_kw,
            sum(pv.rated_kw for pv in site.pvs),
            sum(vehicle.charge_limit_kw for vehicle in site.vehicles),
        )
    rated = [ref.rated_kw or 0.0]
    for asset in site.assets:
        if asset.device == device:
            rated += [
                getattr(asset, name, 0.0) for name in ("rated_kw", "charge_limit_kw", "discharge_limit_kw")
            ]
    return max(rated) or None
