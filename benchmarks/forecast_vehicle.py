"""What past stays say of the next ones: the Trondheim chargers, and what that earns where nobody may steer the car.

    python benchmarks/forecast_vehicle.py DATA_FOLDER [--money] [--days 45]

Every user with 120 sessions or more is forecast 24 h ahead from 07:00 and 17:00 of every second day after the first 60.
Charging is at will: 3.6 kW (private) from plug-in until the energy of the session is there. Sessions are no metered power,
so that course is an assumption, and the same for every row.

With --money five CityLearn homes get such a car and a plan for their battery that may not steer it (see
`forecast_money.py`): the car is not expected at all, or as its past stays say. `captured` as `ems simulate` has it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from forecast_accuracy import CALIFORNIA, on_local_clock, read
from forecast_money import home

from ems.foresight import Foresight
from ems.outlook import Band
from ems.recorded import Recording
from ems.simulation import Run, simulate, with_control
from ems.state import MeasuredInterval
from forecasting import LoadForecaster, Session, SiteContext, SolarForecaster, VehicleForecaster

TRONDHEIM = SiteContext(time_zone="Europe/Oslo", country="NO")
STEP = timedelta(hours=1)
CHARGE_KW = 3.6
MANY = 120
DAY = timedelta(days=1)


def stays(folder: Path, zone: str = TRONDHEIM.time_zone) -> dict[str, list[Session]]:
    """Sessions by user, of those with many; the clock of the file is local and naive."""
    frame = pd.read_csv(folder / "ev_sessions_trondheim_2018-12_2020-01.csv.gz")
    found: dict[str, list[Session]] = {}
    for column in ("plug_in", "plug_out"):
        name = next(c for c in frame.columns if c.startswith(column))
        local = pd.to_datetime(frame[name]).dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        frame[column] = local.dt.tz_convert("UTC")
    energy = next(c for c in frame.columns if "kwh" in c.lower())
    user = next(c for c in frame.columns if "user" in c.lower())
    for row in frame.dropna(subset=["plug_in"]).sort_values("plug_in").itertuples():
        out = row.plug_out
        ends = None if pd.isna(out) or out < row.plug_in else out.to_pydatetime()
        found.setdefault(str(getattr(row, user)), []).append(
            Session(
                plug_in_at=row.plug_in.to_pydatetime(),
                plug_out_at=ends,
                energy_kwh=float(getattr(row, energy)),
            )
        )
    return {name: own for name, own in found.items() if len(own) >= MANY}


def courses(own: Sequence[Session], start_at: datetime, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each hour plugged in, and power drawn at will [kW], shape (count,) each."""
    there, drawn = np.zeros(count), np.zeros(count)
    for session in own:
        if session.plug_out_at is None:
            continue
        begin, end = ((at - start_at) / STEP for at in (session.plug_in_at, session.plug_out_at))
        full = min(end, begin + session.energy_kwh / CHARGE_KW)
        for course, upto, size in ((there, end, 1.0), (drawn, full, CHARGE_KW)):
            slots = np.arange(max(int(begin), 0), min(int(np.ceil(upto)), count))
            course[slots] += size * np.clip(np.minimum(slots + 1, upto) - np.maximum(slots, begin), 0.0, 1.0)
    return np.minimum(there, 1.0), drawn


def as_known(own: Sequence[Session], at: datetime) -> list[Session]:
    """The sessions begun by then; of the one at hand neither end nor energy is known."""
    open_ended = {"plug_out_at": None, "energy_kwh": float("nan")}
    return [
        session
        if session.plug_out_at is None or session.plug_out_at <= at
        else replace(session, **open_ended)  # type: ignore[arg-type]
        for session in own
        if session.plug_in_at < at
    ]


def accuracy(users: dict[str, list[Session]]) -> None:
    brier: dict[str, list[float]] = {"forecast": [], "same hour, 28 days": [], "stays as it is": []}
    error: dict[str, list[float]] = {"forecast": [], "same hour, 28 days": [], "none expected": []}
    drawn_kwh = 0.0
    for own in users.values():
        first = own[0].plug_in_at.replace(hour=0, minute=0, second=0, microsecond=0)
        count = int((own[-1].plug_in_at - first) / STEP)
        there, drawn = courses(own, first, count)
        model = VehicleForecaster(TRONDHEIM, step=STEP, charge_kw=CHARGE_KW)
        for day in range(60, count // 24 - 2, 2):
            for hour in (6, 16):
                index = 24 * day + hour
                at = first + index * STEP
                known = [s for s in own if s.plug_in_at < at]
                told = model.fit(as_known(own, at), known_from=first).predict(at, 24)
                truth, flow = there[index : index + 24], drawn[index : index + 24].copy()
                if known and known[-1].plug_out_at is not None and known[-1].plug_out_at > at:
                    # the stay at hand is not asked for
                    flow[: int(np.ceil((known[-1].plug_out_at - at) / STEP))] = 0.0
                past = slice(index - 28 * 24, index)
                usual = there[past].reshape(28, 24).mean(axis=0)
                now = float(bool(known) and known[-1].plug_out_at is not None and known[-1].plug_out_at > at)
                brier["forecast"].append(float(np.square(told.plugged_in_prob - truth).mean()))
                brier["same hour, 28 days"].append(float(np.square(usual - truth).mean()))
                brier["stays as it is"].append(float(np.square(now - truth).mean()))
                error["forecast"].append(float(np.square(told.charging_kw - flow).mean()))
                error["same hour, 28 days"].append(
                    float(np.square(drawn[past].reshape(28, 24).mean(axis=0) - flow).mean())
                )
                error["none expected"].append(float(np.square(flow).mean()))
                drawn_kwh += float(flow.sum())
    print(f"{len(users)} users, {len(brier['forecast'])} forecasts of 24 h")
    for name, values in brier.items():
        print(f"  Brier score of `plugged in`       {name:20}{np.mean(values):.3f}")
    for name, values in error.items():
        print(f"  RMSE of charging still to come    {name:20}{np.sqrt(np.mean(values)):.3f} kW")


class WithCar(Foresight):
    """Forecasters of homes whose cars are known from their stays and not steered."""

    cars: Sequence[Sequence[Session]] = ()
    drawn: Sequence[np.ndarray] = ()
    alone_kw: np.ndarray
    first_at: datetime
    expects_cars = False
    taught = False

    def expect(self, measured: Sequence[MeasuredInterval], *, at: datetime):  # type: ignore[no-untyped-def]
        """The home alone is learned; the car is added as far as it is expected."""
        index = int((at - self.first_at) / STEP) - 1
        if not self.taught:
            before = self.alone_kw[:, : index + 1]
            self.past.overlay(self.first_at, before, np.full(before.shape, np.nan))
            self.taught = True
        alone = [
            replace(m, load_kwh=None if m.load_kwh is None else m.load_kwh - float(self.drawn[row][index]))
            for row, m in enumerate(measured)
        ]
        told = super().expect(alone, at=at)
        return [
            (_more(load, self._car_kw(row, at)), pv) if self.expects_cars else (load, pv)
            for row, (load, pv) in enumerate(told)
        ]

    def _car_kw(self, row: int, at: datetime) -> np.ndarray:
        model = VehicleForecaster(CALIFORNIA, step=STEP, charge_kw=CHARGE_KW)
        known = as_known(self.cars[row], at)
        return model.fit(known, known_from=known[0].plug_in_at).predict(at, self.horizon).charging_kw


def _more(band: Band, kw: np.ndarray) -> Band:
    return replace(band, mean_kw=band.mean_kw + kw)


def money(folder: Path, users: dict[str, list[Session]], days: int) -> None:
    frame = on_local_clock(read(folder, "citylearn2022_homes01-10_60min.csv.gz"), CALIFORNIA.time_zone)
    names = [f"home{number:02d}" for number in range(1, 6)]
    first_at = frame.index[0].to_pydatetime()
    chosen = sorted(users.values(), key=len, reverse=True)[: len(names)]
    # 102 weeks earlier they lived beside these homes, with their habits on the local clock
    shifted = [[replace(s, plug_in_at=s.plug_in_at - 714 * DAY, plug_out_at=None if s.plug_out_at is None
                        else s.plug_out_at - 714 * DAY) for s in own] for own in chosen]  # fmt: skip
    drawn = [courses(own, first_at, len(frame))[1] for own in shifted]
    sites = [with_control(home(name, 4.0)) for name in names]
    columns = {"buy_per_kwh": frame["price_usd_per_kwh"].ffill().to_numpy()}
    alone = []
    for name, kw in zip(names, drawn, strict=True):
        alone.append(frame[f"{name}_load_kw"].to_numpy())
        columns[f"{name}.load_kw"] = alone[-1] + kw
        columns[f"{name}.pv_kw"] = frame[f"{name}_pv_kw"].to_numpy()
    recording = Recording(start_at=first_at, step=STEP, columns=columns, filled_gaps=0)
    start = 24 * 250
    captured = {}
    for expects in (False, True):
        foresight = WithCar(
            sites,
            step_s=3600,
            horizon=48,
            make_load=LoadForecaster,
            make_pv=SolarForecaster,
            price_files=lambda _: {},
        )
        foresight.cars, foresight.drawn, foresight.first_at = shifted, drawn, first_at
        foresight.expects_cars, foresight.alone_kw = expects, np.stack(alone)
        reports = simulate(
            sites, recording, foresight, start_at=first_at + start * STEP, count=24 * days, run=Run()
        )
        captured[expects] = np.array([report.captured or np.nan for report in reports])
    print(f"captured, {days} days: car not expected {captured[False].mean():.3f}, as past stays say "
          f"{captured[True].mean():.3f}; by home {np.round(captured[True] - captured[False], 3).tolist()}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--money", action="store_true")
    parser.add_argument("--days", type=int, default=45)
    asked = parser.parse_args()
    users = stays(asked.folder, CALIFORNIA.time_zone if asked.money else TRONDHEIM.time_zone)
    if asked.money:
        money(asked.folder, users, asked.days)
    else:
        accuracy(users)


if __name__ == "__main__":
    main()
