"""What better forecasts earn: the share of the possible saving that plans capture with the model and with the 7-day mean.

    python benchmarks/forecast_money.py DATA_FOLDER [--days 120] [--history 120] [--jobs 2] [--homes 10]

Each of the ten CityLearn homes has the battery of that data set (6.4 kWh, 5 kW, 0.9 there and back) and its own measured
load, roof and time-of-use price; feeding in pays 0.04 per kWh. `captured` is that of `ems simulate`: hourly plans over
48 h, the first interval of each solved with what the meter shows. Both runs see the same intervals.
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
from forecast_accuracy import CALIFORNIA, columns_of, on_local_clock, read

from ems.recorded import Recording
from ems.simulate_command import simulate_sites
from ems.site import BatteryAsset, Connection, DeviceRef, Owner, PvAsset, Role, Site
from ems.tariffs import FlatRate, Tariff

ONE_WAY_EFF = 0.9**0.5
FEED_IN = 0.04
TARGET = 0.02


def home(name: str, rated_kw: float) -> Site:
    """One home of the data set."""

    def device(role: Role) -> DeviceRef:
        return DeviceRef(endpoint="tcp://192.0.2.1:502", driver="sunspec", role=role)

    return Site(
        id=name,
        name=name,
        time_zone=CALIFORNIA.time_zone,
        currency="USD",
        country="US",
        latitude_deg=CALIFORNIA.latitude or 0.0,
        longitude_deg=CALIFORNIA.longitude or 0.0,
        owner=Owner(name="benchmark"),
        connection=Connection(import_limit_kw=20.0, export_limit_kw=20.0),
        tariff=Tariff(buy=FlatRate(per_kwh=0.3), sell=FlatRate(per_kwh=FEED_IN)),
        devices={
            "meter": device(Role.GRID_METER),
            "sun": device(Role.PV_INVERTER),
            "store": device(Role.BATTERY_INVERTER),
        },
        assets=(
            PvAsset(kind="pv", name="roof", device="sun", rated_kw=rated_kw),
            BatteryAsset(
                kind="battery", name="battery", device="store", capacity_kwh=6.4, charge_limit_kw=5.0,
                discharge_limit_kw=5.0, charge_eff_frac=ONE_WAY_EFF, discharge_eff_frac=ONE_WAY_EFF, reserve_frac=0.0,
            ),
        ),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=120, help="simulated days")
    parser.add_argument("--history", type=int, default=120, help="days of the recording before them")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--homes", type=int, default=10)
    asked = parser.parse_args()

    frame = on_local_clock(read(asked.folder, "citylearn2022_homes01-10_60min.csv.gz"), CALIFORNIA.time_zone)
    names = [column.removesuffix("_load_kw") for column in columns_of(frame, "_load_kw")][: asked.homes]
    columns = {
        f"{name}.{quantity}": frame[f"{name}_{quantity}"].to_numpy(dtype=np.float64)
        for name in names
        for quantity in ("load_kw", "pv_kw")
    }
    columns["buy_per_kwh"] = frame["price_usd_per_kwh"].ffill().to_numpy(dtype=np.float64)
    step = timedelta(hours=1)
    recording = Recording(start_at=frame.index[0].to_pydatetime(), step=step, columns=columns, filled_gaps=0)
    sites = [home(name, 5.0 if name in ("home04", "home10") else 4.0) for name in names]
    count = min(asked.days * 24, recording.count - asked.history * 24)
    captured: dict[str, list[float]] = {}
    for forecast in ("naive", "model"):
        reports = simulate_sites(
            sites, asked.folder, recording,
            start_at=recording.start_at + asked.history * 24 * step, count=count, controller="plan",
            forecast=forecast, horizon=timedelta(hours=48), fast_loop=True, progress=lambda _: None,
            jobs=asked.jobs,
        )  # fmt: skip
        captured[forecast] = [report.captured or float("nan") for report in reports]
    print(
        f"{count // 24} days after {asked.history} days of history\n{'home':10}{'naive':>8}{'model':>8}{'gain':>8}"
    )
    for name, naive, model in zip(names, captured["naive"], captured["model"], strict=True):
        print(f"{name:10}{naive:8.3f}{model:8.3f}{model - naive:+8.3f}")
    naive, model = (float(np.mean(captured[forecast])) for forecast in ("naive", "model"))
    gain = model - naive
    print(f"{'mean':10}{naive:8.3f}{model:8.3f}{gain:+8.3f}   to reach: +{TARGET}")
    sys.exit(0 if gain >= TARGET else 1)


if __name__ == "__main__":
    main()
