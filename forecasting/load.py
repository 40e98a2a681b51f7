"""Load: what a site will draw, without what the service itself controls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.bestof import Choice, choose, predict_chosen
from forecasting.candidates import Candidate, contexts_of, to_forecast
from forecasting.dayahead import MEMORY, Calendar
from forecasting.drift import lately
from forecasting.errors import NotFitted
from forecasting.recentdays import RecentDays
from forecasting.ridgeseries import RidgeSeries, lowest_of
from forecasting.screening import screened
from forecasting.types import (
    DEFAULT_LEVELS,
    BoolArray,
    FloatArray,
    Forecast,
    History,
    SiteContext,
    Weather,
    as_utc,
    checked_levels,
)


class LoadForecaster:
    """Load of a fleet from the first minute: profile, recent days, ridge; the best per site by measured skill.

    Parameters
    ----------
    context : the site, or one per site of a fleet; the time zone and country of the first hold for all
    """

    name = "load"
    memory: timedelta = MEMORY

    def __init__(self, context: SiteContext | Sequence[SiteContext]) -> None:
        self.context = context
        self.candidates_: list[Candidate] = []
        self.choice_: Choice | None = None
        self.floor_kw_: FloatArray = np.zeros(0)
        self.history_: History | None = None

    def fit(
        self, history: History, *, weather: Weather | None = None, drifting: BoolArray | None = None
    ) -> Self:
        """Learn from history; an empty one gives the first-day profile.

        Sites marked in `drifting`, shape (S,), have changed their ways (`assess_drift`): the days before the last
        fortnight count little, and the simplest model serves them, flagged, until they are not marked any more.
        """
        contexts = contexts_of(self.context, history.n_sites)
        history = lately(screened(history), drifting)
        calendar = self.calendar_of(contexts)
        self.candidates_ = [RecentDays(contexts), RidgeSeries("load-ridge", calendar)]
        self.choice_ = choose(
            self.candidates_, history, zone=contexts[0].time_zone, incumbent=self.choice_, weather=weather,
            drifting=drifting,
        )  # fmt: skip
        self.floor_kw_ = lowest_of(history)
        self.history_ = history.until(history.end_at, last=MEMORY)
        return self

    @property
    def knows_weather(self) -> bool:
        """Whether it has learned what the weather does to this fleet."""
        return any(isinstance(candidate, RidgeSeries) and candidate.warm_ for candidate in self.candidates_)

    def predict(
        self,
        issued_at: datetime,
        horizon: int,
        levels: Sequence[float] = DEFAULT_LEVELS,
        *,
        recent: History | None = None,
        weather: Weather | None = None,
    ) -> Forecast:
        """Quantiles of the load [kW]; see `Forecaster`."""
        history = recent if recent is not None else self.history_
        if history is None or self.choice_ is None:
            raise NotFitted(f"{self.name}: call fit first")
        issued_at = as_utc(issued_at, field="issued_at")
        seen = screened(history.until(issued_at, last=MEMORY), for_spikes=False)
        paths, names, qualities = predict_chosen(
            self.candidates_, self.choice_,
            issued_at=issued_at, horizon=horizon, recent=seen, weather=weather,
            bounds=(self.floor_kw_, np.full(history.n_sites, np.inf)),
        )  # fmt: skip
        return to_forecast(
            paths, history=history, issued_at=issued_at, levels=checked_levels(levels),
            sources=names, qualities=qualities,
        )  # fmt: skip

    @staticmethod
    def calendar_of(contexts: Sequence[SiteContext]) -> Calendar:
        """The calendar a fleet shares: that of its first site."""
        return Calendar(zone=contexts[0].time_zone, country=contexts[0].country)
