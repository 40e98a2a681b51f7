"""Accuracy of the forecasters on the recorded data sets: rolling origin, day-ahead, weekly refit.

    python benchmarks/forecast_accuracy.py DATA_FOLDER [--only homes,feeder,...] [--days 100] [--charts FOLDER]

DATA_FOLDER holds the gzipped CSV files named below. Every row is made by `forecasting.backtest_report`; what
a set is and how its clock is read stands in its function.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from forecasting import (
    DEFAULT_LEVELS,
    BacktestReport,
    FloatArray,
    Forecaster,
    History,
    LoadForecaster,
    ModelReport,
    PriceForecaster,
    SiteContext,
    SolarForecaster,
    Unit,
    Weather,
    backtest_report,
    write_backtest_svg,
)

CALIFORNIA = SiteContext(
    time_zone="America/Los_Angeles", country="US", latitude=34.1, longitude=-117.4, nameplate_kw=None
)
AUSTRALIA = SiteContext(time_zone="Australia/Sydney", country="AU", latitude=-33.0, longitude=151.5)
MELBOURNE = SiteContext(time_zone="Australia/Melbourne", country="AU", latitude=-37.9, longitude=145.1)
DEVON = SiteContext(time_zone="Europe/London", country="GB", latitude=50.4, longitude=-4.1)
FRANCE = SiteContext(time_zone="Europe/Paris", country="FR", latitude=45.8, longitude=4.8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    history: History
    context: SiteContext
    model: Forecaster
    weather: Weather | None = None
    lead_hours: tuple[float, ...] = (1.0, 2.0, 4.0)


def read(folder: Path, name: str) -> pd.DataFrame:
    """One file, its first column parsed as the index."""
    frame = pd.read_csv(folder / name, index_col=0)
    frame.index = pd.to_datetime(frame.index, format="ISO8601")
    return frame


def on_local_clock(frame: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Civil times to UTC on a full grid; hours the clock change made up are dropped, missing ones are gaps."""
    frame = frame.copy()
    frame.index = frame.index.tz_localize(zone, ambiguous=True, nonexistent="NaT")
    frame = frame[frame.index.notna()].tz_convert("UTC")
    return on_full_grid(frame)


def on_full_grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Every interval from first to last, gaps as nan."""
    frame = frame[~frame.index.duplicated()].sort_index()
    step = pd.Series(frame.index).diff().median()
    return frame.reindex(pd.date_range(frame.index[0], frame.index[-1], freq=step))


def history_of(frame: pd.DataFrame, columns: list[str], scale: float = 1.0, **more: object) -> History:
    """Columns of a frame as a fleet."""
    step = (frame.index[1] - frame.index[0]).to_pytimedelta()
    values = np.ascontiguousarray(frame[columns].to_numpy(dtype=np.float64).T) * scale
    return History(start_at=frame.index[0].to_pydatetime(), step=step, values=values, **more)  # type: ignore[arg-type]


def columns_of(frame: pd.DataFrame, ending: str) -> list[str]:
    return [str(column) for column in frame.columns if str(column).endswith(ending)]


def homes(folder: Path) -> list[Case]:
    """Ten CityLearn homes, their sum, and their roofs. The published weather is not of those days; not used."""
    frame = on_local_clock(read(folder, "citylearn2022_homes01-10_60min.csv.gz"), CALIFORNIA.time_zone)
    load = history_of(frame, columns_of(frame, "_load_kw"))
    roofs = history_of(frame, columns_of(frame, "_pv_kw"))
    total = np.nanmean(load.values, axis=0, keepdims=True) * load.n_sites
    feeder = History(start_at=load.start_at, step=load.step, values=total)
    return [
        Case(name="CityLearn homes", history=load, context=CALIFORNIA, model=LoadForecaster(CALIFORNIA)),
        Case(name="CityLearn feeder", history=feeder, context=CALIFORNIA, model=LoadForecaster(CALIFORNIA)),
        Case(name="CityLearn PV", history=roofs, context=CALIFORNIA, model=SolarForecaster(CALIFORNIA)),
    ]


def sgsc(folder: Path) -> list[Case]:
    """Five homes of Smart-Grid Smart-City, each on its own span, so each is its own case."""
    frame = read(folder, "sgsc_homes5_30min.csv.gz")
    cases = []
    for column in columns_of(frame, "_load_kw"):
        own = frame[[column]].dropna()
        own = on_local_clock(own, AUSTRALIA.time_zone)
        cases.append(
            Case(
                name=f"SGSC {column.removesuffix('_load_kw')}",
                history=history_of(own, [column]),
                context=AUSTRALIA,
                model=LoadForecaster(AUSTRALIA),
            )
        )
    return cases


def emhass(folder: Path) -> list[Case]:
    """One French home; blank PV at night means 0; the PV forecast recorded at the time is a guide."""
    frame = on_full_grid(read(folder, "emhass_home_fr_30min.csv.gz"))
    load = history_of(frame, ["load_w"], 1e-3)
    power = history_of(frame, ["pv_w"], 1e-3)
    sky = SolarForecaster(FRANCE).fit(history_of(frame.fillna(0.0), ["pv_w"], 1e-3))
    dark = sky.clear_kw(power.start_at, power.step, len(power)) == 0.0
    values = np.where(~np.isfinite(power.values) & dark, 0.0, power.values)
    roof = History(start_at=power.start_at, step=power.step, values=values)
    guide = Weather(
        start_at=power.start_at,
        step=power.step,
        pv_guide_kw=np.maximum(frame["pv_forecast_w"].to_numpy(dtype=np.float64) * 1e-3, 0.0),
        source="recorded forecast",
    )
    return [
        Case(name="EMHASS load", history=load, context=FRANCE, model=LoadForecaster(FRANCE)),
        Case(name="EMHASS PV alone", history=roof, context=FRANCE, model=SolarForecaster(FRANCE)),
        Case(
            name="EMHASS PV guided",
            history=roof,
            context=FRANCE,
            model=SolarForecaster(FRANCE),
            weather=guide,
        ),
    ]


def pod(folder: Path) -> list[Case]:
    """Substation demand and a solar farm, without and with the reanalysis of its day as a perfect forecast."""
    frame = on_full_grid(read(folder, "pod_site_30min_to_2019-03-16.csv.gz"))
    sky = on_full_grid(read(folder, "pod_weather_merra2_60min_to_2019-03-16.csv.gz"))
    weather = Weather(
        start_at=sky.index[0].to_pydatetime(),
        step=timedelta(hours=1),
        outdoor_degc=sky[[c for c in sky if c.startswith("temp_c")]].mean(axis=1).to_numpy(),
        ghi_w_m2=sky[[c for c in sky if c.startswith("solar")]].mean(axis=1).to_numpy(),
        source="MERRA-2",
    )
    demand = history_of(frame, ["demand_mw"], 1e3)
    farm = history_of(frame, ["pv_mw"], 1e3)
    return [
        Case(name="POD demand", history=demand, context=DEVON, model=LoadForecaster(DEVON)),
        Case(
            name="POD demand + temp",
            history=demand,
            context=DEVON,
            model=LoadForecaster(DEVON),
            weather=weather,
        ),
        Case(name="POD PV", history=farm, context=DEVON, model=SolarForecaster(DEVON)),
        Case(
            name="POD PV + weather",
            history=farm,
            context=DEVON,
            model=SolarForecaster(DEVON),
            weather=weather,
        ),
    ]


def monash(folder: Path) -> list[Case]:
    """Campus buildings and roofs, dirty on purpose; each from its first reading.

    Days on which a roof's meter shows power at night are no truth about the sun (in 2019 and 2020 four of them stood
    still for weeks and told one value day and night); they are gaps, for the 7-day mean as for the model.
    """
    frame = on_full_grid(read(folder, "monash_campus_15min.csv.gz"))
    cases = []
    for column in frame.columns:
        own = frame[[column]].loc[frame[column].first_valid_index() :]
        history = history_of(own, [column])
        roof = column.startswith("solar")
        if roof:
            history = replace(history, values=without_moonshine(history))
        model: Forecaster = SolarForecaster(MELBOURNE) if roof else LoadForecaster(MELBOURNE)
        cases.append(
            Case(
                name=f"Monash {column.removesuffix('_kw')}",
                history=history,
                context=MELBOURNE,
                model=model,
                lead_hours=(),
            )
        )
    return cases


def without_moonshine(history: History) -> FloatArray:
    """The values, nan on local days with more than 5 % of the usual top two hours and more before or after the sun."""
    sky = SolarForecaster(replace(MELBOURNE, nameplate_kw=1.0, tilt_deg=0.0, azimuth_deg=0.0))
    empty = History(start_at=history.start_at, step=history.step, values=np.zeros(0))
    lit = sky.fit(empty).clear_kw(history.start_at, history.step, len(history))[0] > 0.0
    reach = round(2.0 / history.step_h)
    night = ~(np.convolve(lit, np.ones(2 * reach + 1), "same") > 0)
    values = history.values[0]
    local = pd.date_range(history.start_at, periods=len(values), freq=history.step)
    day = pd.factorize(local.tz_convert(MELBOURNE.time_zone).date)[0]
    moonshine = night & (values > 0.05 * np.nanquantile(values[values > 0], 0.98))
    return np.where((np.bincount(day, moonshine) > 0)[day], np.nan, values)[None]


def heat(folder: Path) -> list[Case]:
    """Heat load of one house and the mean of 16 with dated weather-service forecasts (24 h ahead used)."""
    frame = on_full_grid(read(folder, "dk_heatload_with_nwp_60min.csv.gz"))
    context = SiteContext(time_zone="Europe/Copenhagen", country="DK", latitude=56.0, longitude=10.0)
    # stamps are interval ends; the forecast for t + 24 h made at t is the one that holds at t + 24 h
    start_at = frame.index[0].to_pydatetime() - timedelta(hours=1)
    step = timedelta(hours=1)
    told = frame["temp_fc_c_k24"].shift(24).to_numpy()
    weather = Weather(start_at=start_at, step=step, outdoor_degc=told, source="NWP 24 h ahead")
    cases = []
    for column in ("heatload_w", "heatload16_mean_w"):
        values = frame[column].to_numpy(dtype=np.float64)
        history = History(start_at=start_at, step=step, values=values)
        cases.append(
            Case(name=f"DK {column}", history=history, context=context, model=LoadForecaster(context))
        )
        cases.append(
            Case(
                name=f"DK {column} + NWP",
                history=history,
                context=context,
                model=LoadForecaster(context),
                weather=weather,
            )
        )
    return cases


def price(folder: Path) -> list[Case]:
    """Dutch day-ahead prices of 2021 (before the crisis of 2022) in EUR/kWh."""
    frame = on_full_grid(read(folder, "nl_dayahead_price_60min_2015-2022.csv.gz"))
    context = SiteContext(time_zone="Europe/Amsterdam", country="NL")
    frame = frame.loc["2020-07-01":"2021-06-30"]  # type: ignore[misc]
    history = history_of(frame, ["price_eur_per_mwh"], 1e-3, unit=Unit.PER_KWH)
    return [
        Case(name="NL price", history=history, context=context, model=PriceForecaster(context), lead_hours=())
    ]


SETS: dict[str, Callable[[Path], list[Case]]] = {
    "homes": homes,
    "sgsc": sgsc,
    "emhass": emhass,
    "pod": pod,
    "monash": monash,
    "heat": heat,
    "price": price,
}

HEAD = (
    f"{'data set':22}{'days':>5}{'nMAE':>8}{'/7-day':>8}{'pinball':>9}{'cover':>7}{'sites':>12}"
    f"{'bias':>7}{'/yest.':>8}{'1 h':>7}{'2 h':>7}{'4 h':>7}{'s':>6}"
)


def row_of(case: Case, report: BacktestReport, seconds: float) -> str:
    """One line of the table."""
    own: ModelReport = report.models[-1]
    covers = [site.coverage_frac for site in own.per_site if np.isfinite(site.coverage_frac)]
    leads = [lead.scores.nmae_frac / own.overall.nmae_frac for lead in own.per_lead]
    span = f"{min(covers):.2f}-{max(covers):.2f}" if covers else "-"
    yesterday = report.model("yesterday")
    cells = [f"{lead:7.2f}" for lead in leads] + ["      -"] * (3 - len(leads))
    return (
        f"{case.name:22}{report.test_days:5d}{own.overall.nmae_frac:8.3f}{own.mae_ratio:8.3f}"
        f"{own.pinball_ratio:9.3f}{own.overall.coverage_frac:7.3f}{span:>12}"
        f"{own.overall.bias / own.overall.mean_level:7.3f}{own.mae_ratio / yesterday.mae_ratio:8.3f}"
        f"{''.join(cells)}{seconds:6.1f}"
    )


def daylight_mae_w(case: Case, report: BacktestReport) -> str:
    """MAE in W, all hours and (PV) by day: the intervals with sun are the scored ones with a band."""
    own = report.models[-1].overall
    yesterday = report.model("yesterday").overall
    return f"{'':22} MAE {own.mae * 1e3:.0f} W, yesterday {yesterday.mae * 1e3:.0f} W"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(SETS), help="comma-separated: " + ", ".join(SETS))
    parser.add_argument(
        "--days", type=int, default=None, help="last so many test days; default: all after 90"
    )
    parser.add_argument("--charts", type=Path, default=None)
    asked = parser.parse_args()
    print(HEAD)
    for name in asked.only.split(","):
        for case in SETS[name](asked.folder):
            run(case, asked.days, asked.charts)


def backtest(
    case: Case,
    models: Mapping[str, Forecaster] | None = None,
    *,
    days: int | None = None,
    lead_hours: Sequence[float] | None = None,
    levels: Sequence[float] = DEFAULT_LEVELS,
) -> BacktestReport:
    """The protocol of the table, for the case's own model or for `models` in its place."""
    long_enough = len(case.history) / case.history.steps_per_day > 180
    return backtest_report(
        case.history,
        models or {case.model.name: case.model},
        context=case.context,
        test_days=days,
        warm_up_days=90 if long_enough else 28,
        levels=levels,
        lead_hours=case.lead_hours if lead_hours is None else lead_hours,
        weather=case.weather,
    )


def run(case: Case, days: int | None, charts: Path | None) -> None:
    began = time.process_time()
    report = backtest(case, days=days)
    print(row_of(case, report, time.process_time() - began), flush=True)
    if case.name.startswith("EMHASS"):
        print(daylight_mae_w(case, report))
    if charts is not None:
        charts.mkdir(parents=True, exist_ok=True)
        path = charts / (case.name.lower().replace(" ", "_").replace("+", "and") + ".svg")
        write_backtest_svg(report, path, title=case.name)


if __name__ == "__main__":
    main()
