"""What one model inside a composed forecaster must offer: quantile paths at GRID for a whole fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from forecasting.errors import BrokenSeries
from forecasting.quantiles import levels_of, mean_of
from forecasting.types import FloatArray, Forecast, History, Quality, SiteContext, Weather


@dataclass(frozen=True, kw_only=True, slots=True)
class GridPaths:
    """Quantile paths at `quantiles.GRID`."""

    start_at: datetime
    """Start of the first interval."""
    values: FloatArray
    """Shape (S, T, len(GRID)), unit of the series, non-decreasing along the last axis."""


class Candidate(Protocol):
    """A model that can be chosen."""

    @property
    def name(self) -> str:
        """Short stable name."""
        ...

    @property
    def min_days(self) -> float:
        """Days' worth of readings below which it is not considered for a site."""
        ...

    def fit(self, history: History, *, weather: Weather | None = None) -> Self:
        """Learn; returns self."""
        ...

    def predict_grid(
        self, issued_at: datetime, horizon: int, recent: History, weather: Weather | None
    ) -> GridPaths:
        """Quantile paths from what `recent` knew at `issued_at`."""
        ...


def contexts_of(context: SiteContext | Sequence[SiteContext], n_sites: int) -> list[SiteContext]:
    """One context per site; a single one holds for all."""
    if isinstance(context, SiteContext):
        return [context] * n_sites
    if len(context) != n_sites:
        raise BrokenSeries(f"context: {len(context)} sites described, history has {n_sites}")
    return list(context)


def to_forecast(
    paths: GridPaths,
    *,
    history: History,
    issued_at: datetime,
    levels: tuple[float, ...],
    sources: Sequence[str],
    qualities: Sequence[Quality],
) -> Forecast:
    """Shape paths into the public type, with the rank of `history`."""
    bands: FloatArray = levels_of(paths.values, levels)
    mean: FloatArray = mean_of(paths.values)
    return Forecast(
        issued_at=issued_at,
        start_at=paths.start_at,
        step=history.step,
        levels=levels,
        quantiles=bands if history.is_fleet else bands[0],
        mean=mean if history.is_fleet else mean[0],
        sources=tuple(sources),
        qualities=tuple(qualities),
        unit=history.unit,
    )
