"""How long a forecast's error lasts: correlation of the errors of hours of one forecast, by how far they are apart.

    python benchmarks/forecast_memory.py DATA_FOLDER [--days 84] [--history 120]

Forecasts of the homes' loads and roofs as the service makes them, issued at every local midnight for 24 hours, fitted anew
every week. An error is taken from the path the plan uses (mean of load, median of the sun) and as a share of the band
between the 10 and 90 % quantiles; hours without a band (night) are left out. `ems/hedging.py` rests on the first column.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

import numpy as np
from forecast_accuracy import Case, emhass, homes, sgsc

from forecasting import FloatArray, SolarForecaster

APART_H = (1, 2, 3, 6, 12)
LEAST_BAND = 0.02
"""Bands narrower than this share of the widest are night."""
LEAST_PAIRS = 50
"""A correlation of fewer pairs says nothing."""


def errors_of(case: Case, *, days: int, history: int) -> FloatArray:
    """Errors of every midnight's forecast, as shares of its band, shape (days, sites, 24 h of steps); nan is unknown."""
    past, step = case.history, case.history.step
    per_day = int(timedelta(days=1) / step)
    local = past.start_at.astimezone(case.context.zone)
    to_midnight = (
        timedelta(hours=24 - local.hour, minutes=-local.minute)
        if local.hour or local.minute
        else timedelta(0)
    )
    first = int(to_midnight / step) + history * per_day
    truth, found = np.atleast_2d(past.values), []
    model = case.model
    for day in range(min(days, (truth.shape[1] - first) // per_day)):
        begin = first + day * per_day
        at = past.start_at + begin * step
        known = past.until(at, last=timedelta(days=history))
        if day % 7 == 0:
            model = model.fit(known)
        told = model.predict(at, per_day, (0.1, 0.5, 0.9), recent=known)
        low, middle, high = np.moveaxis(told.quantiles.reshape(-1, 3, per_day), 1, 0)
        path = middle if isinstance(model, SolarForecaster) else told.mean.reshape(-1, per_day)
        band = np.where(high - low > LEAST_BAND * np.nanmax(high), high - low, np.nan)
        found.append((truth[:, begin : begin + per_day] - path) / band)
    return np.array(found)


def correlations(errors: FloatArray, per_hour: int) -> list[float | None]:
    """Mean over sites of the correlation of errors some hours apart."""
    told: list[float | None] = []
    for hours in APART_H:
        apart = hours * per_hour
        by_site = []
        for site in range(errors.shape[1]):
            one, other = errors[:, site, :-apart].ravel(), errors[:, site, apart:].ravel()
            both = np.isfinite(one) & np.isfinite(other)
            if np.count_nonzero(both) > LEAST_PAIRS:
                by_site.append(float(np.corrcoef(one[both], other[both])[0, 1]))
        told.append(float(np.mean(by_site)) if by_site else None)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=84)
    parser.add_argument("--history", type=int, default=120)
    asked = parser.parse_args()
    print(f"{'':24}" + "".join(f"{hours:>6} h" for hours in APART_H))
    load, _, roofs = homes(asked.folder)
    for case in (load, roofs, *sgsc(asked.folder), *emhass(asked.folder)):
        errors = errors_of(case, days=asked.days, history=asked.history)
        told = correlations(errors, int(timedelta(hours=1) / case.history.step))
        print(
            f"{case.name:24}"
            + "".join(f"{'-' if value is None else format(value, '.2f'):>8}" for value in told),
            flush=True,
        )


if __name__ == "__main__":
    main()
