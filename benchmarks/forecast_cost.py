"""Cost of the forecasters: 10,000 sites x 192 steps x 9 quantiles, and a night's training.

    python benchmarks/forecast_cost.py [--sites 10000] [--workers 2]

Synthetic quarter-hour homes (the cost does not depend on what they draw). Training is measured on a sample
and stated per site; prediction runs over the whole fleet in blocks, one process per block of sites, as the
service does it behind its executor. A block's model is fitted once and stands for the fleet's.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np

from forecasting import History, LoadForecaster, SiteContext

SEOUL = SiteContext(time_zone="Asia/Seoul", country="KR", latitude=37.6, longitude=127.0)
STEP = timedelta(minutes=15)
BLOCK = 250


def fleet(sites: int, days: int, seed: int = 0) -> History:
    """Homes with an evening peak and log-normal noise."""
    rng = np.random.default_rng(seed)
    slot = np.arange(days * 96) % 96
    shape = 0.3 + np.exp(-0.5 * ((slot - 76) / 8.0) ** 2)
    values = shape * np.exp(0.4 * rng.standard_normal((sites, days * 96)))
    return History(start_at=datetime(2025, 1, 1, tzinfo=UTC), step=STEP, values=values)


def predict_blocks(blocks: int) -> tuple[float, float]:
    """Fit once, predict `blocks` times; seconds of the predictions and megawatts seen (so nothing is skipped)."""
    history = fleet(BLOCK, 60)
    model = LoadForecaster(SEOUL).fit(history)
    issued_at = history.end_at - timedelta(hours=5)
    began = time.perf_counter()
    seen = sum(float(model.predict(issued_at, 192, recent=history).quantiles.sum()) for _ in range(blocks))
    return time.perf_counter() - began, seen / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()

    one = LoadForecaster(SEOUL)
    year = fleet(10, 365)
    began = time.process_time()
    one.fit(year)
    with_contest = (time.process_time() - began) / 10
    began = time.process_time()
    one.fit(year)
    without = (time.process_time() - began) / 10
    print(
        f"training, a year of quarter hours: {with_contest:.3f} CPU-s per site with the weekly contest, "
        f"{without:.3f} on the other nights"
    )

    history = fleet(1, 60)
    model = LoadForecaster(SEOUL).fit(history)
    began = time.perf_counter()
    for _ in range(50):
        model.predict(history.end_at, 192, recent=history)
    print(f"one home, 192 steps x 9 levels: {(time.perf_counter() - began) / 50 * 1e3:.2f} ms")

    blocks = -(-asked.sites // (BLOCK * asked.workers))
    with ProcessPoolExecutor(asked.workers) as pool:
        spent = max(seconds for seconds, _ in pool.map(predict_blocks, [blocks] * asked.workers))
    sites = blocks * BLOCK * asked.workers
    print(
        f"{sites} sites x 192 steps x 9 levels on {asked.workers} processes: {spent:.1f} s "
        f"({spent / sites * asked.workers * 1e3:.2f} CPU-ms per site)"
    )


if __name__ == "__main__":
    main()
