"""What the data hold: beside each target that is missed, what a strong peer or an oracle reaches on the same days.

    python benchmarks/forecast_ceiling.py DATA_FOLDER [--only pinball,hour,pv,coverage] [--days 100] [--where DIR]

The protocol and the data sets are those of `forecast_accuracy.py`. LightGBM is installed beside the project (not into it);
its trees are grown anew every fourth week, as they are the long part. On one core coverage and pv take some minutes each,
hour and pinball longer; `--days` shortens all.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from forecast_accuracy import Case, backtest, emhass, homes, monash, pod, sgsc
from forecast_peers import Averaged, BoostedNextHour, BoostedQuantiles, Remembered, SurroundingDays

from forecasting import BoolArray, FloatArray
from forecasting.backtest import yardsticks
from forecasting.quantiles import GRID

LIGHTGBM = "lightgbm==4.6.0"
TRAIN_EVERY = 4
PINBALL_TARGET, HOUR_TARGET, PV_TARGET = 0.88, 0.75, 0.96
LEVELS = tuple(np.round(GRID, 3).tolist())
LOW, HIGH = LEVELS.index(0.1), LEVELS.index(0.9)
RIM_FRAC = 0.01
"""Of the band's width: a truth this close to an edge lies on it."""
REDRAWN = 2000
FEW_VALUES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the command line says."""

    folder: Path
    days: int | None
    where: Path


def lightgbm_beside(where: Path) -> ModuleType:
    """LightGBM, installed into a folder of its own when it is not there yet; it runs on the project's numpy and scipy."""
    folder = where / LIGHTGBM.replace("==", "-")
    if not folder.exists():
        print(f"installing {LIGHTGBM} into {folder}", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, LIGHTGBM]
        subprocess.run(pip, check=True)
    sys.path.append(str(folder))
    return importlib.import_module("lightgbm")


def row(figure: str, case: Case, target: float, told: dict[str, float]) -> str:
    """One line: ours first."""
    cells = "   ".join(f"{name} {value:.3f}" for name, value in told.items())
    return f"{figure:22}{case.name:22}{target:6.2f}   {cells}"


def pinball(asked: Asked) -> Iterator[str]:
    """Single homes: LightGBM quantile models on all homes of a set together, alone and averaged with ours."""
    lightgbm = lightgbm_beside(asked.where)
    for case in [homes(asked.folder)[0], emhass(asked.folder)[0], *sgsc(asked.folder)]:
        trees = BoostedQuantiles(lightgbm, case.context, train_every=TRAIN_EVERY)
        models = {"ours": case.model, "LightGBM": trees, "averaged": Averaged([case.model, trees])}
        report = backtest(case, models, days=asked.days, lead_hours=())
        told = {name: report.model(name).pinball_ratio for name in models}
        yield row("pinball / 7-day mean", case, PINBALL_TARGET, told)


def hour(asked: Asked) -> Iterator[str]:
    """One hour ahead over day-ahead: LightGBM for this one lead, from the last six errors and those of yesterday."""
    lightgbm = lightgbm_beside(asked.where)
    for case in homes(asked.folder)[:2]:
        next_hour = BoostedNextHour(lightgbm, case.context, case.model, train_every=TRAIN_EVERY)
        models = {"ours": case.model, "LightGBM": next_hour}
        report = backtest(case, models, days=asked.days, lead_hours=(1.0,))
        day_ahead = report.model("ours").overall.nmae_frac
        told = {name: report.model(name).per_lead[0].scores.nmae_frac / day_ahead for name in models}
        yield row("1 h / day-ahead nMAE", case, HOUR_TARGET, told)


def pv(asked: Asked) -> Iterator[str]:
    """Solar without weather: LightGBM on the same index, and an oracle that knows the week after."""
    lightgbm = lightgbm_beside(asked.where)
    for case in (emhass(asked.folder)[1], pod(asked.folder)[2]):
        models = {
            "ours": case.model,
            "LightGBM": BoostedQuantiles(lightgbm, case.context, solar=True, train_every=TRAIN_EVERY),
            "told 7 days before and after": SurroundingDays(case.history, case.context, days=7),
            "3 days": SurroundingDays(case.history, case.context, days=3),
        }
        report = backtest(case, models, days=asked.days, lead_hours=())
        told = {name: report.model(name).mae_ratio for name in models}
        yield row("PV nMAE / 7-day mean", case, PV_TARGET, told)


def coverage(asked: Asked) -> Iterator[str]:
    """Bands outside 77 to 83 %: truths on the very edge, few values, and months that differ."""
    wanted = ("SGSC home10006704", "Monash building4", "Monash building5")
    cases = [case for case in [*sgsc(asked.folder), *monash(asked.folder)] if case.name in wanted]
    for case in cases:
        yield from coverage_of(case, asked.days)


def coverage_of(case: Case, days: int | None) -> Iterator[str]:
    """The lines of one meter."""
    band = band_of(case, days)
    truth = band.truth
    if not len(truth):
        yield f"{'80 % band':22}{case.name:22}no interval counts"
        return
    values, counts = np.unique(truth, return_counts=True)
    low, high = band.right_band()
    yield (
        f"{'80 % band':22}{case.name:22}as counted {band.closed.mean():.3f}   between the edges "
        f"{band.between.mean():.3f}, on an edge {band.on_edge.mean():.3f}   by rank {band.by_rank().mean():.3f}"
    )
    yield (
        f"{'':44}{len(values)} values, the commonest {counts.max() / len(truth):.2f} of the time; "
        f"{band.days:.0f} days; a right band measures {low:.2f} to {high:.2f}"
    )
    if len(values) <= FEW_VALUES:
        yield f"{'':44}a fixed band from one of the values to another covers {nearest_to(values, counts, 0.8)}"
    yield f"{'':44}by month {band.by_month()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """The 80 % band and the truth, over the K intervals that `forecast_accuracy.py` counts."""

    truth: FloatArray
    """Shape (K,)."""
    quantiles: FloatArray
    """At LEVELS, shape (K, len(LEVELS))."""
    at: np.typing.NDArray[np.datetime64]
    """When, shape (K,)."""

    step_h: float
    """Length of an interval [h]."""

    @property
    def days(self) -> float:
        """Days' worth of intervals."""
        return len(self.truth) * self.step_h / 24.0

    @property
    def closed(self) -> BoolArray:
        """What the table counts: between the edges, or on one."""
        return (self.truth >= self.quantiles[:, LOW]) & (self.truth <= self.quantiles[:, HIGH])

    @property
    def on_edge(self) -> BoolArray:
        """Within a hundredth of the width of an edge."""
        gaps = np.abs(self.truth[:, None] - self.quantiles[:, [LOW, HIGH]])
        return (gaps <= self._rim[:, None]).any(axis=1)

    @property
    def between(self) -> BoolArray:
        """Inside, and on neither edge."""
        return self.closed & ~self.on_edge

    @property
    def _rim(self) -> FloatArray:
        return RIM_FRAC * (self.quantiles[:, HIGH] - self.quantiles[:, LOW])

    def by_rank(self) -> FloatArray:
        """Probability that the randomised rank of each truth lies between 0.1 and 0.9.

        A truth that equals several quantiles has every rank among them alike; a calibrated forecast gives 0.8 here
        however few values the meter knows (randomised probability integral transform: Brockwell 2007).
        """
        edges = np.concatenate([[0.0], 0.5 * (GRID[1:] + GRID[:-1]), [1.0]])
        truth, rim = self.truth[:, None], self._rim[:, None]
        first = edges[(self.quantiles < truth - rim).sum(axis=1)]
        last = edges[(self.quantiles <= truth + rim).sum(axis=1)]
        overlap = np.minimum(last, 0.9) - np.maximum(first, 0.1)
        alone = (first > 0.1) & (first < 0.9)
        return np.where(last > first, np.maximum(overlap, 0.0) / np.maximum(last - first, 1e-12), alone)

    def right_band(self) -> tuple[float, float]:
        """Between which coverages 95 of 100 such samples lie for a band that is right on average: whole weeks redrawn.

        Errors of one week are alike, so that a year is worth few independent ones.
        """
        _, week = np.unique(self.at.astype("datetime64[W]"), return_inverse=True)
        hits, count = np.bincount(week, self.closed), np.bincount(week)
        drawn = np.random.default_rng(0).integers(0, len(count), (REDRAWN, len(count)))
        found = hits[drawn].sum(axis=1) / count[drawn].sum(axis=1)
        low, high = np.quantile(found - self.closed.mean() + 0.8, (0.025, 0.975))
        return float(low), min(float(high), 1.0)

    def by_month(self) -> str:
        """Coverage of each calendar month with three days' worth of intervals or more."""
        month = self.at.astype("datetime64[M]")
        told = [self.closed[month == each] for each in np.unique(month)]
        return " ".join(f"{one.mean():.2f}" for one in told if len(one) * self.step_h >= 72.0)


def band_of(case: Case, days: int | None) -> Band:
    """Backtest the case and keep the quantiles of the intervals that count: all forecasts known, and a band."""
    history = case.history
    kept = {
        name: Remembered(model, history, LEVELS)
        for name, model in {**yardsticks(case.context), case.model.name: case.model}.items()
    }
    backtest(case, kept, days=days, lead_hours=(), levels=LEVELS)
    shared = np.isfinite(history.usable[0])
    for one in kept.values():
        shared &= np.isfinite(one.quantiles[0]).all(axis=0)
    own = kept[case.model.name].quantiles[0]
    shared &= own[HIGH] > own[LOW]
    start = np.datetime64(history.start_at.replace(tzinfo=None))
    at = start + np.arange(len(history)) * np.timedelta64(history.step)
    return Band(
        truth=history.usable[0, shared], quantiles=own[:, shared].T, at=at[shared], step_h=history.step_h
    )


def nearest_to(values: FloatArray, counts: FloatArray, share: float) -> str:
    """The coverages next below and above `share` that closed bands between two of the values have."""
    total = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    reached = np.unique([total[b + 1] - total[a] for a in range(len(values)) for b in range(a, len(values))])
    below, above = reached[reached < share], reached[reached >= share]
    return f"{below.max(initial=0.0):.2f} or {above.min(initial=1.0):.2f}"


SECTIONS: dict[str, Callable[[Asked], Iterator[str]]] = {
    "pinball": pinball,
    "hour": hour,
    "pv": pv,
    "coverage": coverage,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(SECTIONS), help="comma-separated: " + ", ".join(SECTIONS))
    parser.add_argument("--days", type=int, help="last so many test days; default: all after 90")
    parser.add_argument("--where", type=Path, default=Path.home() / ".cache" / "ems-peers")
    given = parser.parse_args()
    asked = Asked(folder=given.folder, days=given.days, where=given.where)
    for name in given.only.split(","):
        for line in SECTIONS[name](asked):
            print(line, flush=True)


if __name__ == "__main__":
    main()
