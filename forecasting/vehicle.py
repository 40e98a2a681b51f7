"""Vehicle: when it will be there, when it leaves and what it needs, from past sessions, with probability.

For each instant ahead the question is answered by the past days: of the days on which the vehicle was as it
is now (plugged in, or away) at this time of day, how many had it plugged in that much later? Recent days and
days of the same kind count more; a usual week stands behind them while they are few.

The usual week is the mean over 56 private chargers of a housing co-operative in Trondheim (Sorensen et al.,
Data in Brief 36 (2021) 107105, CC BY 4.0), scaled so that the vehicle is at home on most nights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from forecasting.calendars import is_rest_day, local_grid
from forecasting.errors import BrokenSeries, NotFitted
from forecasting.quantiles import GRID, at_levels, weighted_quantiles
from forecasting.types import DEFAULT_LEVELS, BoolArray, FloatArray, SiteContext, as_utc, checked_levels

_TAU_DAYS = 45.0
_OTHER_KIND_WEIGHT = 0.25
_PRIOR_DAYS = 2.0
_MAX_DAYS = 180
_ENERGY_PRIOR_KWH = (0.6, 2.6, 4.7, 8.2, 14.3, 22.0, 44.2)
_ENERGY_PRIOR_LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
_USUAL_WORKDAY = (0.49, 0.49, 0.49, 0.49, 0.49, 0.49, 0.49, 0.43, 0.25, 0.20, 0.18, 0.16,
                  0.14, 0.14, 0.14, 0.15, 0.21, 0.30, 0.30, 0.31, 0.35, 0.40, 0.43, 0.46)  # fmt: skip
_USUAL_REST = (0.42, 0.43, 0.43, 0.43, 0.43, 0.43, 0.43, 0.43, 0.43, 0.42, 0.38, 0.33,
               0.28, 0.26, 0.27, 0.28, 0.31, 0.32, 0.34, 0.37, 0.40, 0.42, 0.43, 0.44)  # fmt: skip
_USUAL_SCALE = 1.6
_ARRIVAL_REACH_H = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One stay at the charger."""

    plug_in_at: datetime
    """Arrival, aware."""
    plug_out_at: datetime | None
    """Departure, aware; None while it lasts or when it was not recorded."""
    energy_kwh: float
    """Energy taken; what had been asked for if the session was cut short is not known."""

    def __post_init__(self) -> None:
        for name in ("plug_in_at", "plug_out_at"):
            at = getattr(self, name)
            if at is not None and at.tzinfo is None:
                raise BrokenSeries(f"{name}: {at.isoformat()} has no offset; give an aware instant")
        if self.plug_out_at is not None and self.plug_out_at < self.plug_in_at:
            raise BrokenSeries(
                f"plug_out_at: {self.plug_out_at.isoformat()} lies before plug_in_at "
                f"{self.plug_in_at.isoformat()}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class VehicleForecast:
    """What one vehicle will probably do."""

    issued_at: datetime
    """Nothing known later went in; aware UTC."""
    start_at: datetime
    """Start of the first interval."""
    step: timedelta
    """Interval length."""
    plugged_in_prob: FloatArray
    """Probability that it is plugged in, per interval, shape (T,)."""
    levels: tuple[float, ...]
    """Quantile levels of the three below."""
    departure_h: FloatArray
    """Hours from `start_at` to the next plug-out, shape (Q,); nan if it is away now. Capped at the horizon."""
    arrival_h: FloatArray
    """Hours from `start_at` to the next plug-in, shape (Q,); capped at the horizon, which means not within it."""
    energy_kwh: FloatArray
    """Energy of the session at hand, or of the next one, shape (Q,)."""
    charging_kw: FloatArray
    """Expected power of sessions that have not begun yet if they charge at will [kW], shape (T,); 0 without
    `charge_kw`."""
    similar_days: float
    """How many past days (weighted) stand behind it; little means the usual week speaks."""


class VehicleForecaster:
    """Analogue forecast of a vehicle's stays.

    Parameters
    ----------
    context : time zone and country of the charger
    step : interval of the forecast
    charge_kw : power at which a session begins and goes on until its energy is there, if nobody steers it
    """

    def __init__(
        self, context: SiteContext, *, step: timedelta = timedelta(minutes=15), charge_kw: float | None = None
    ) -> None:
        self.context = context
        self.step = step
        self.charge_kw = charge_kw
        self.sessions_: tuple[Session, ...] | None = None
        self.known_from_: datetime | None = None

    def fit(self, sessions: Sequence[Session], *, known_from: datetime | None = None) -> Self:
        """Remember the sessions; `known_from` is when recording began (default: the first plug-in)."""
        self.sessions_ = tuple(sorted(sessions, key=lambda session: session.plug_in_at))
        first = self.sessions_[0].plug_in_at if self.sessions_ else None
        self.known_from_ = known_from if known_from is not None else first
        return self

    def predict(
        self, issued_at: datetime, horizon: int, levels: Sequence[float] = DEFAULT_LEVELS
    ) -> VehicleForecast:
        """Forecast `horizon` intervals from the first boundary of the UTC grid at or after `issued_at`.

        Whether it is plugged in now follows from the sessions known at `issued_at`: the last one has begun
        and has not ended by then.
        """
        if self.sessions_ is None:
            raise NotFitted("vehicle: call fit first")
        issued_at = as_utc(issued_at, field="issued_at")
        wanted = checked_levels(levels)
        step_s = self.step.total_seconds()
        start_at = issued_at + timedelta(seconds=-issued_at.timestamp() % step_s)
        known = [session for session in self.sessions_ if session.plug_in_at <= issued_at]
        here = bool(known) and (known[-1].plug_out_at is None or known[-1].plug_out_at > issued_at)
        if here and known[-1].plug_out_at is None and issued_at - known[-1].plug_in_at > timedelta(days=7):
            here = False  # a plug-out that was never recorded, not a week-long stay
        past, weight = self._analogues(known, start_at, horizon, here)
        usual = self._usual(start_at, horizon)
        mass = float(weight.sum())
        share = mass / (mass + _PRIOR_DAYS)
        seen = weight @ past / mass if mass > 0 else np.zeros(horizon)
        fade = np.exp(-np.arange(horizon) * step_s / (4 * 3600.0))
        prior = usual + ((1.0 if here else 0.0) - usual) * fade
        change = _first(past != past[:, :1]) if len(past) else np.zeros(0)
        leaves, comes = self._times(past, weight, change, prior, here, horizon)
        return VehicleForecast(
            issued_at=issued_at,
            start_at=start_at,
            step=self.step,
            plugged_in_prob=np.clip(share * seen + (1.0 - share) * prior, 0.0, 1.0),
            levels=wanted,
            departure_h=at_levels(leaves, GRID, wanted) * step_s / 3600.0,
            arrival_h=at_levels(comes, GRID, wanted) * step_s / 3600.0,
            energy_kwh=at_levels(self._energy(known, start_at, here), GRID, wanted),
            charging_kw=self._charging(known, start_at, past, weight),
            similar_days=mass,
        )

    def _charging(
        self, known: Sequence[Session], start_at: datetime, past: FloatArray, weight: FloatArray
    ) -> FloatArray:
        """Mean power over the analogues of sessions that began after their start, shape (T,)."""
        horizon = past.shape[1]
        if self.charge_kw is None or not len(past):
            return np.zeros(horizon)
        step_s = self.step.total_seconds()
        per_day = round(86_400 / step_s)
        ages = self._ages(start_at, horizon)
        first_s = start_at.timestamp() - ages[-1] * 86_400
        drawn_kw = np.zeros(ages[-1] * per_day + horizon)
        for session in known:
            if session.plug_out_at is None or not np.isfinite(session.energy_kwh):
                continue
            begin = (session.plug_in_at.timestamp() - first_s) / step_s
            full = session.energy_kwh / self.charge_kw * 3600.0 / step_s
            end = min(begin + full, (session.plug_out_at.timestamp() - first_s) / step_s)
            slots = np.arange(max(int(begin), 0), min(int(np.ceil(end)), len(drawn_kw)))
            overlap = np.minimum(slots + 1, end) - np.maximum(slots, begin)
            drawn_kw[slots] += self.charge_kw * np.maximum(overlap, 0.0)
        offsets = (ages[-1] - np.array(ages)) * per_day
        draws = drawn_kw[offsets[:, None] + np.arange(horizon)]
        # what was there when an analogue began is the session at hand, which is not asked for
        to_come = np.cumsum(past < 0.5, axis=1) > 0
        draws = np.where(to_come, draws, 0.0)
        # while few days were like this one, all days speak too
        weight = weight + _PRIOR_DAYS * _shares(np.exp(-np.array(ages) / _TAU_DAYS))
        return np.asarray(_shares(weight) @ draws)

    def _ages(self, start_at: datetime, horizon: int) -> list[int]:
        """Days back at which a whole horizon is known."""
        day, reach = timedelta(days=1), horizon * self.step
        if self.known_from_ is None:
            return []
        return [
            age
            for age in range(1, _MAX_DAYS + 1)
            if start_at - age * day >= self.known_from_ and start_at - age * day + reach <= start_at
        ]

    def _analogues(
        self, known: Sequence[Session], start_at: datetime, horizon: int, here: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Plugged in or not over the horizon from the same time on past days (D, T), and each day's weight."""
        ages = self._ages(start_at, horizon)
        if not known or not ages:
            return np.zeros((0, horizon)), np.zeros(0)
        day = timedelta(days=1)
        edges = np.array(
            [
                (s.plug_in_at.timestamp(), (s.plug_out_at or s.plug_in_at).timestamp())
                for s in known
                if s.plug_out_at is not None and s.plug_out_at <= start_at
            ]
        ).reshape(-1, 2)
        offsets = (np.arange(horizon) + 0.5) * self.step.total_seconds()
        starts = np.array([(start_at - age * day).timestamp() for age in ages])
        instants = starts[:, None] + offsets[None, :]
        before = np.searchsorted(edges[:, 0], instants, side="right") - 1
        ends = np.where(before >= 0, edges[np.maximum(before, 0), 1] if len(edges) else 0.0, -np.inf)
        plugged = (instants < ends).astype(np.float64)
        grid = local_grid(start_at, self.step, 1, self.context.time_zone)
        ordinals = int(grid.day[0]) - np.array([0, *ages], dtype=np.int64)
        weight = np.exp(-np.array(ages) / _TAU_DAYS)
        for ahead in (0, 1):  # a Friday evening is like a Friday evening: today's kind and tomorrow's
            rest = is_rest_day(ordinals + ahead, self.context.country)
            weight = weight * np.where(rest[1:] == rest[0], 1.0, _OTHER_KIND_WEIGHT)
        same: BoolArray = plugged[:, 0] == (1.0 if here else 0.0)
        return plugged, weight * same

    def _usual(self, start_at: datetime, horizon: int) -> FloatArray:
        """Probability of the usual week, shape (T,)."""
        grid = local_grid(start_at, self.step, horizon, self.context.time_zone)
        hours = (grid.slot + 0.5) * 24.0 / grid.steps_per_day
        rest = is_rest_day(grid.day, self.context.country)
        centres = np.arange(24) + 0.5
        work, free = (
            np.interp(hours, centres, shape, period=24.0) for shape in (_USUAL_WORKDAY, _USUAL_REST)
        )
        return np.minimum(_USUAL_SCALE * np.where(rest, free, work), 1.0)

    def _times(
        self,
        past: FloatArray,
        weight: FloatArray,
        change: FloatArray,
        prior: FloatArray,
        here: bool,
        horizon: int,
    ) -> tuple[FloatArray, FloatArray]:
        """Intervals until the next plug-out and the next plug-in, quantiles at GRID."""
        usual_change = np.atleast_1d(_first((prior < 0.5) if here else (prior >= 0.5)))
        first = _with_prior(change, weight, usual_change, horizon)
        if not here:
            return np.full(len(GRID), np.nan), first
        away = np.arange(past.shape[1])[None, :] >= change[:, None] if len(past) else np.zeros((0, horizon))
        back = _first(np.asarray(away, dtype=np.bool_) & (past > 0.5)) if len(past) else np.zeros(0)
        return first, _with_prior(back, weight, np.array([float(horizon)]), horizon)

    def _energy(self, known: Sequence[Session], start_at: datetime, here: bool) -> FloatArray:
        """Energy quantiles at GRID of sessions that began at about the same time of day, or of all."""
        prior = np.interp(GRID, _ENERGY_PRIOR_LEVELS, _ENERGY_PRIOR_KWH)
        done = [s for s in known if s.plug_out_at is not None and np.isfinite(s.energy_kwh)]
        if not done:
            return np.asarray(prior)
        age_days = np.array([(start_at - s.plug_in_at) / timedelta(days=1) for s in done])
        weight = np.exp(-np.maximum(age_days, 0.0) / _TAU_DAYS)
        if here:
            zone = self.context.zone
            clock = np.array([_hour(s.plug_in_at.astimezone(zone)) for s in done])
            gap = np.abs((clock - _hour(known[-1].plug_in_at.astimezone(zone)) + 12.0) % 24.0 - 12.0)
            weight = weight * np.where(gap <= _ARRIVAL_REACH_H, 1.0, 0.1)
        energy = np.concatenate([[s.energy_kwh for s in done], prior])
        mass = np.concatenate([weight, np.full(len(prior), _PRIOR_DAYS / len(prior))])
        order = np.argsort(energy)
        return weighted_quantiles(energy[order], mass[order])


def _shares(weight: FloatArray) -> FloatArray:
    return np.asarray(weight / weight.sum())


def _first(marked: BoolArray) -> FloatArray:
    """Index of the first mark along the last axis; the length where there is none."""
    found = np.argmax(marked, axis=-1)
    return np.asarray(np.where(marked.any(axis=-1), found, marked.shape[-1]), dtype=np.float64)


def _with_prior(seen: FloatArray, weight: FloatArray, usual: FloatArray, horizon: int) -> FloatArray:
    """Quantiles at GRID of what was seen and of the usual, spread by its own ignorance."""
    spread = np.interp(GRID, (0.0, 0.5, 1.0), (0.3, 1.0, 1.7))
    values = np.concatenate([seen, np.minimum(usual[0] * spread, horizon)])
    mass = np.concatenate([weight, np.full(len(GRID), _PRIOR_DAYS / len(GRID))])
    keep = mass > 0
    order = np.argsort(values[keep])
    return weighted_quantiles(values[keep][order], mass[keep][order])


def _hour(at: datetime) -> float:
    return at.hour + at.minute / 60.0
