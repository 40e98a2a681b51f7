"""Synthetic sites with known behaviour, seeded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from forecasting import FloatArray, History, SiteContext
from forecasting.calendars import is_rest_day, local_grid
from forecasting.clearsky import clear_sky, default_mix

SEOUL = SiteContext(time_zone="Asia/Seoul", country="KR", latitude=37.55, longitude=126.99, nameplate_kw=5.0)
PARIS = SiteContext(time_zone="Europe/Paris", country="FR", latitude=48.86, longitude=2.35, nameplate_kw=5.0)


def midnight(context: SiteContext, year: int, month: int, day: int) -> datetime:
    """Local midnight as UTC."""
    return datetime(year, month, day, tzinfo=ZoneInfo(context.time_zone)).astimezone(UTC)


def home_load(
    context: SiteContext = SEOUL,
    *,
    days: int = 60,
    sites: int | None = None,
    step_min: int = 60,
    start: tuple[int, int, int] = (2025, 1, 6),
    at_home_from_day: int | None = None,
    seed: int = 1,
) -> History:
    """Evening peak, midday bump on rest days, a mood that lasts days, noise; optionally home office later."""
    rng = np.random.default_rng(seed)
    start_at = midnight(context, *start)
    step = timedelta(minutes=step_min)
    count = days * 1440 // step_min
    grid = local_grid(start_at, step, count, context.time_zone)
    hour = grid.slot * 24.0 / grid.steps_per_day
    rest = is_rest_day(grid.day, context.country)
    level = 0.3 + 1.5 * np.exp(-0.5 * ((hour - 19.5) / 2.0) ** 2)
    at_home = rest.copy()
    if at_home_from_day is not None:
        at_home |= np.arange(count) >= at_home_from_day * 1440 // step_min
    level = level + 1.2 * at_home * np.exp(-0.5 * ((hour - 12.5) / 3.0) ** 2)
    n = grid.steps_per_day
    rows = []
    for _ in range(sites or 1):
        mood = np.zeros(days)
        for day in range(1, days):
            mood[day] = 0.8 * mood[day - 1] + 0.12 * rng.standard_normal()
        rows.append(level * np.exp(np.repeat(mood, n) + 0.25 * rng.standard_normal(count)))
    return History(start_at=start_at, step=step, values=np.stack(rows) if sites else rows[0])


def plant_power(
    context: SiteContext = SEOUL,
    *,
    days: int = 60,
    step_min: int = 60,
    start: tuple[int, int, int] = (2025, 3, 3),
    cloudy: bool = True,
    seed: int = 2,
) -> tuple[History, FloatArray]:
    """A plant under a sky whose index changes from day to day and a little from hour to hour; and the index."""
    rng = np.random.default_rng(seed)
    start_at = midnight(context, *start)
    step = timedelta(minutes=step_min)
    count = days * 1440 // step_min
    sky = clear_sky(context, start_at=start_at, step=step, count=count)
    daily = np.repeat(rng.choice([1.0, 0.8, 0.35], size=days, p=[0.5, 0.3, 0.2]), 1440 // step_min)
    index = np.clip(daily + 0.08 * rng.standard_normal(count), 0.02, 1.05) if cloudy else np.ones(count)
    power_kw = index * (sky.planes_kw_m2 @ default_mix(context))
    return History(start_at=start_at, step=step, values=np.minimum(power_kw, 5.0)), index
