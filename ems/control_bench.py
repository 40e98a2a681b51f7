"""Figures of control: what the fast loop is worth on measured homes, how fast it answers, and how little it writes."""

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from drivers import Device, known_drivers
from ems.clock import grid_epochs
from ems.codec import FloatArray
from ems.config import load_sites
from ems.cycle import Ports, run_cycle
from ems.demo.street import START_AT, recording, site_file, street
from ems.errors import DataError
from ems.fast_loop import FastLoop
from ems.history import DAYS
from ems.live import Live
from ems.metrics import Metrics
from ems.planning import hindsight_cost, solve_in_process
from ems.recorded import Recording
from ems.rehearsal import Power, RehearsedHome
from ems.simulate_command import simulate_sites
from ems.simulation import Progress, end_value_per_kwh
from ems.site import Site
from ems.step_bench import LOOP_S, STEP_S, answers
from ems.step_field import HIGH_KW, LIMIT_KW, LOW_KW
from ems.tariffs import price_curve
from ems.wiring import make_foresight, make_meters

FLASH_PER_DAY = 500
"""Writes a register in flash bears per day, where its maker names no number."""
CITYLEARN = "citylearn2022_homes01-10_60min.csv.gz"
DAYAHEAD = "nl_dayahead_price_60min_2015-2022.csv.gz"
PRICES_LATER = timedelta(weeks=208) - timedelta(hours=9)
"""How much later than the homes the day-ahead prices were paid: weekdays and local hours fit."""
FEE_PER_KWH, TAX = 0.10, 1.1
"""What a household pays per kWh beside the day-ahead price, and on it; feed-in earns the day-ahead price."""
SPANS = 8
"""Weeks of the year that are run with `data`."""
RUNS = (
    ("plan and fast loop", "plan", True),
    ("plan followed blindly", "plan", False),
    ("rules", "rules", True),
)
"""What is compared: name, controller, whether the fast loop runs."""
TARIFFS = ("time of use", "dynamic")


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlFigure:
    """One line of `ems bench control`."""

    figure: str
    """What was measured."""
    value: float
    """The measurement."""
    unit: str
    """Its unit."""
    target: str
    """What was to be reached."""
    holds: bool
    """Whether it was."""
    how: str
    """How it was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Homes:
    """Measured homes with what they pay."""

    name: str
    """Which, for the table."""
    sites: tuple[Site, ...]
    """The homes."""
    recordings: Mapping[str, Recording]
    """Load, solar power and prices, by tariff."""
    starts_at: tuple[datetime, ...]
    """Starts of the spans (aware UTC)."""


def control_figures(
    *,
    data: Path | None = None,
    days: int = 7,
    homes: int = 200,
    seconds: int = 60,
    progress: Progress = lambda percent: None,
) -> list[ControlFigure]:
    """Measure control.

    Parameters
    ----------
    data
        Folder with the ten homes and the day-ahead prices of a whole year; None: the excerpt of the demo. Of a year,
        `SPANS` evenly spaced weeks are run, the first after as much history as forecasters learn from.
    days
        Length of each closed-loop run.
    homes, seconds
        Size of the street the loop is timed on, and for how long.
    progress
        Told percent of the closed-loop runs.
    """
    measured = _homes(data, days)
    found: list[ControlFigure] = []
    for index, tariff in enumerate(TARIFFS):
        told = _share_of(progress, index, len(TARIFFS))
        found += _captured(measured, tariff, days, told)
    with tempfile.TemporaryDirectory() as folder:
        found += _answered(Path(folder), homes, seconds)
    return [*found, *asyncio.run(_volatile(_homes(None)))]


def _share_of(progress: Progress, index: int, parts: int) -> Progress:
    """Return what is told the percent of one of several equal parts."""
    return lambda percent: progress((100 * index + percent) // parts)


def _homes(data: Path | None, days: int = 7) -> Homes:
    if data is None:
        with as_file(files("ems.demo") / "data" / "dayahead.csv") as path:
            spot = _prices(pd.read_csv(path, index_col="at").dayahead_per_kwh)
        recorded = recording()
        return Homes(
            name="demo, from its first day",
            sites=_street_sites(10),
            recordings={"time of use": recorded, "dynamic": _priced(recorded, spot)},
            starts_at=(START_AT.astimezone(UTC),),
        )
    for name in (CITYLEARN, DAYAHEAD):
        if not (data / name).is_file():
            raise DataError(f"{data}: no file {name}; give the folder that holds it")
    spot = _prices(pd.read_csv(data / DAYAHEAD, index_col="time_utc").price_eur_per_mwh / 1e3)
    year = _whole_year(data / CITYLEARN)
    return Homes(
        name=f"{SPANS} weeks from end of November to July",
        sites=_street_sites(10),
        recordings={"time of use": year, "dynamic": _priced(year, spot)},
        starts_at=_evenly_spaced(year, days, zone="America/Los_Angeles"),
    )


def _evenly_spaced(recorded: Recording, days: int, *, zone: str) -> tuple[datetime, ...]:
    """Return starts of spans: local midnights of Mondays, full history before the first, all of the last recorded."""
    end_at = recorded.start_at + recorded.count * recorded.step
    first, last = (
        at.astimezone(ZoneInfo(zone))
        for at in (recorded.start_at + timedelta(days=DAYS), end_at - timedelta(days=days))
    )
    monday = first.replace(hour=0, minute=0) + timedelta(days=7 - first.weekday())
    weeks = (last - monday) // timedelta(weeks=1)
    # local arithmetic: midnight stays midnight where the clocks are changed
    return tuple(
        (monday + timedelta(weeks=int(week))).astimezone(UTC) for week in np.linspace(0, weeks, SPANS).round()
    )


def _street_sites(count: int) -> tuple[Site, ...]:
    """Return homes of the demo's street; nothing answers at their addresses."""
    placeholder = {
        role: {"endpoint": f"tcp://127.0.0.1:{port}", "unit_id": 1, "driver": driver}
        for role, port, driver in (
            ("meter", 1502, "sunspec"),
            ("inverter", 1503, "sunspec"),
            ("charger", 1504, "abb-terra-ac"),
        )
    }
    homes = street(count)
    endpoints = {h.id: {r: p for r, p in placeholder.items() if h.vehicle or r != "charger"} for h in homes}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street.yaml"
        path.write_text(site_file(homes, endpoints), encoding="utf-8")
        return load_sites(path, known_drivers=known_drivers())


def _prices(per_kwh: pd.Series) -> pd.Series:
    """Return day-ahead prices at the instants the homes pay them."""
    return pd.Series(per_kwh.to_numpy(), index=pd.to_datetime(per_kwh.index, utc=True) - PRICES_LATER)


def _priced(recorded: Recording, spot: pd.Series) -> Recording:
    at = pd.date_range(recorded.start_at, periods=recorded.count, freq=recorded.step)
    per_kwh = spot.reindex(at).ffill().bfill().to_numpy(dtype=np.float64)
    columns = recorded.columns | {"buy_per_kwh": TAX * per_kwh + FEE_PER_KWH, "sell_per_kwh": per_kwh}
    return replace(recorded, columns=columns)


def _whole_year(path: Path) -> Recording:
    """Read the ten homes; the file's clock is Californian civil time with 24 rows every day."""
    table = pd.read_csv(path)
    local = pd.to_datetime(table.time_local).dt.tz_localize(
        "America/Los_Angeles", ambiguous=True, nonexistent="NaT"
    )
    table = table[local.notna()].set_index(local[local.notna()].dt.tz_convert("UTC"))
    table = table[~table.index.duplicated()].asfreq("h")
    columns = {
        f"home-{number:02d}.{quantity}": table[f"home{number:02d}_{quantity}"].to_numpy(dtype=np.float64)
        for number in range(1, 11)
        for quantity in ("load_kw", "pv_kw")
    }
    columns["buy_per_kwh"] = table.price_usd_per_kwh.ffill().to_numpy(dtype=np.float64)
    columns["sell_per_kwh"] = np.full(len(table), 0.05)
    return Recording(
        start_at=table.index[0].to_pydatetime(), step=timedelta(hours=1), columns=columns, filled_gaps=0
    )


def _captured(homes: Homes, tariff: str, days: int, progress: Progress) -> Iterator[ControlFigure]:
    runs = {
        name: _run(
            homes,
            tariff,
            days,
            controller=controller,
            fast_loop=fast_loop,
            progress=_share_of(progress, index, len(RUNS)),
        )
        for index, (name, controller, fast_loop) in enumerate(RUNS)
    }
    spans = len(homes.starts_at)
    how = (
        f"ten measured homes ({homes.name}), {spans} x {days} days, hourly, {tariff} prices, model forecast; "
        "savings of a home over savings possible"
    )
    best = runs["plan and fast loop"]
    for name, captured in runs.items():
        is_best = captured is best
        yield ControlFigure(
            figure=f"mean captured, {tariff}, {name}",
            value=float(captured.mean()),
            unit="frac",
            target=">= 0.90" if is_best else "for comparison",
            holds=not is_best or float(captured.mean()) >= 0.90,
            how=f"{how}; worst to best home {captured.min():.3f} to {captured.max():.3f}",
        )
    lead = best - runs["rules"]
    ahead = int(np.count_nonzero(lead > 0.0))
    yield ControlFigure(
        figure=f"homes on which the plan captures more than rules, {tariff}",
        value=ahead,
        unit="of 10",
        target="10",
        holds=ahead == 10,
        how=f"{how}; lead of homes 1 to 10: {' '.join(f'{home:+.3f}' for home in lead)}",
    )


def _run(
    homes: Homes, tariff: str, days: int, *, controller: str, fast_loop: bool, progress: Progress
) -> FloatArray:
    """Return what each home captured over all spans."""
    saved, possible = np.zeros(len(homes.sites)), np.zeros(len(homes.sites))
    count = 24 * days
    for index, start_at in enumerate(homes.starts_at):
        of_all = _share_of(progress, index, len(homes.starts_at))
        reports = simulate_sites(
            homes.sites,
            Path(),
            homes.recordings[tariff],
            start_at=start_at,
            count=count,
            controller=controller,
            forecast="model",
            horizon=timedelta(hours=48),
            fast_loop=fast_loop,
            progress=lambda done, of_all=of_all: of_all(100 * done // count),  # type: ignore[misc]
            # rules are done before another process has started
            jobs=min(4, os.cpu_count() or 1) if controller == "plan" else 1,
        )
        saved += [report.cost_idle - report.cost for report in reports]
        possible += [report.cost_idle - report.cost_hindsight for report in reports]
    return saved / possible


def _answered(folder: Path, count: int, seconds: int) -> Iterator[ControlFigure]:
    """Yield what `step_bench` measures as lines of the table."""
    between, through = answers(folder, count, seconds)
    for found, when in ((between, ""), (through, ", a cycle beginning meanwhile")):
        how = (
            f"{count} homes, {len(found.answered_s)} jumps of load from {LOW_KW:g} to {HIGH_KW:g} kW in {seconds} s{when}; "
            f"every home looked at each {LOOP_S:g} s; the whole service with its store on one core, "
            f"{100 * found.busy_frac:.0f} % busy, the homes on another"
        )
        p99_ms, p99_s = (
            float(np.percentile(taken_s, 99)) for taken_s in (1e3 * found.answered_s, found.within_s)
        )
        yield ControlFigure(
            figure=f"load step to changed battery power, p99{when}",
            value=p99_ms,
            unit="ms",
            target="for comparison" if when else "<= 300",
            holds=bool(when) or p99_ms <= 300.0,
            how=f"{how}; p50 {1e3 * np.median(found.answered_s):.0f} ms",
        )
        yield ControlFigure(
            figure=f"time above a connection limit after a step, p99{when}",
            value=p99_s,
            unit="s",
            target="<= 2",
            holds=p99_s <= 2.0,
            how=f"{how}; limit {LIMIT_KW:g} kW",
        )
    yield ControlFigure(
        figure="one look of the fast loop at a home, mean",
        value=1e3 * between.look_s,
        unit="ms",
        target="for comparison",
        holds=True,
        how=f"{count} homes, between two cycles",
    )


async def _volatile(homes: Homes, *, days: int = 2, pass_s: int = 10) -> list[ControlFigure]:
    """Count writes on a home whose load jumps from minute to minute, and what sparing them costs."""
    recorded, site = homes.recordings["time of use"], homes.sites[0]
    site = replace(site, consents=replace(site.consents, curtail_solar=False))
    start_at = homes.starts_at[0]
    load_kw, pv_kw = (_minutes(recorded, f"{site.id}.{q}", start_at, days) for q in ("load_kw", "pv_kw"))
    load_kw = _jumping(load_kw, np.random.default_rng(1))
    spared = await _rehearse(site, recorded, load_kw, pv_kw, start_at, pass_s, FLASH_PER_DAY)
    free = await _rehearse(site, recorded, load_kw, pv_kw, start_at, pass_s, 1_000_000)
    buy, sell = (_tariff(site, start_at, len(load_kw), name) for name in ("buy", "sell"))
    value = end_value_per_kwh(site, buy)
    start_kwh = 0.5 * site.batteries[0].capacity_kwh

    def cost(net_kw: FloatArray, stored_kwh: float) -> float:
        paid = np.where(net_kw > 0.0, net_kw * buy, net_kw * sell).sum() / 60.0
        return float(paid) - value * (stored_kwh - start_kwh)

    idle = cost(load_kw - pv_kw * site.devices["inverter"].conversion_eff_frac, start_kwh)
    best = hindsight_cost(
        site,
        load_kw=load_kw,
        pv_kw=pv_kw,
        buy_per_kwh=buy,
        sell_per_kwh=sell,
        hours=1.0 / 60.0,
        start_frac=0.5,
        end_kwh={site.batteries[0].name: free.stored_kwh},
        end_value_per_kwh=value,
    )
    captured_free = (idle - cost(free.net_kw, free.stored_kwh)) / (idle - best)
    captured = (idle - cost(spared.net_kw, spared.stored_kwh)) / (idle - best)
    how = (
        f"home 1 of the demo, {days} days: its hourly load, put into jumps from minute to minute with the same hourly "
        f"means (seed 1); the real cycle every 15 min and the real loop every {pass_s} s on devices in this process; "
        f"{free.writes_per_day:.0f} writes a day without a budget, captured {captured_free:.3f}"
    )
    return [
        ControlFigure(
            figure="writes per register and day on a volatile home, most of any 24 h",
            value=spared.writes_per_day,
            unit="1/d",
            target=f"<= {FLASH_PER_DAY}",
            holds=spared.writes_per_day <= FLASH_PER_DAY,
            how=how,
        ),
        ControlFigure(
            figure="captured share lost to the write budget",
            value=captured_free - captured,
            unit="frac",
            target="<= 0.01",
            holds=captured_free - captured <= 0.01,
            how=how,
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """What came of a volatile home."""

    net_kw: FloatArray
    """Net import, minute by minute."""
    stored_kwh: float
    """Left in the battery."""
    writes_per_day: float
    """Most orders in any 24 h."""


async def _nowhere(setpoints: object) -> None:
    """Keep no journal."""


async def _rehearse(
    site: Site,
    recorded: Recording,
    load_kw: FloatArray,
    pv_kw: FloatArray,
    start_at: datetime,
    pass_s: int,
    per_day: int,
) -> Rehearsal:
    """Run cycle and loop on one home in this process."""

    def of(series: FloatArray) -> Power:
        return lambda at: float(series[min(int((at - start_at).total_seconds() // 60), len(series) - 1)])

    home = RehearsedHome(
        site, load_kw=of(load_kw), pv_kw=of(pv_kw), at=start_at, lag_s=1.0, writes_per_day=per_day
    )
    foresight = make_foresight([site], {site.id: Path()}, step_s=STEP_S, horizon=192)
    known = int((start_at - recorded.start_at) / recorded.step)
    past = [
        np.repeat(recorded.columns[f"{site.id}.{q}"][None, :known], 3600 // STEP_S, axis=1)
        for q in ("load_kw", "pv_kw")
    ]
    foresight.past.overlay(recorded.start_at, *past)
    ports = Ports(
        devices=cast(Mapping[tuple[str, str], Device], home.devices),
        meters=make_meters([site], step_s=STEP_S, readings={}, at=None),
        foresight=foresight,
        solve=solve_in_process,
        valid_for=timedelta(minutes=30),
        journal=_nowhere,
    )
    loop = FastLoop([site], ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=5))
    record, net_kw = None, []
    for minute in range(len(load_kw)):
        at = start_at + timedelta(minutes=minute)
        if minute % 15 == 0:
            record = await run_cycle((site,), ports, record, at=at)
            loop.follow(record)
        before = home.import_kwh - home.export_kwh
        for _ in range(60 // pass_s):
            await loop.step(at=home.at)
            home.advance(home.at + timedelta(seconds=pass_s), step_s=float(pass_s))
        net_kw.append((home.import_kwh - home.export_kwh - before) * 60.0)
    written_s = np.array([at.timestamp() for at, _ in home.ordered])
    in_a_day = np.searchsorted(written_s, written_s + 86_400.0) - np.arange(len(written_s))
    return Rehearsal(
        net_kw=np.array(net_kw), stored_kwh=home.stored_kwh, writes_per_day=float(in_a_day.max(initial=0))
    )


def _minutes(recorded: Recording, name: str, start_at: datetime, days: int) -> FloatArray:
    """Return hourly means minute by minute; a blank hour repeats the one before."""
    first = int((start_at - recorded.start_at) / recorded.step)
    hourly = pd.Series(recorded.columns[name][first : first + 24 * days]).ffill().bfill()
    return np.repeat(hourly.to_numpy(dtype=np.float64), 60)


def _jumping(power_kw: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Put power into jumps: every few minutes another level, most low, some five times the mean; hourly means stay."""
    level = np.zeros(len(power_kw))
    minute = 0
    while minute < len(level):
        lasts = int(rng.integers(1, 5))
        level[minute : minute + lasts] = rng.gamma(0.6)
        minute += lasts
    hourly = level.reshape(-1, 60)
    return np.asarray(power_kw * (hourly / hourly.mean(axis=1, keepdims=True)).reshape(-1))


def _tariff(site: Site, start_at: datetime, minutes: int, side: str) -> FloatArray:
    starts_s = grid_epochs(start_at, minutes, 60)
    return price_curve(getattr(site.tariff, side), starts_s, zone=site.time_zone).per_kwh
