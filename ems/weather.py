"""Weather beside the cycle: asked for once an hour per place, remembered, stamped with its age.

A forecast without weather is an ordinary state. Nothing here makes a cycle wait: the cycle takes what is remembered, and
what is too old counts as unknown.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.codec import FloatArray
from ems.history import DAYS
from ems.site import Site
from forecasting import NoWeather, Weather, WeatherProvider

log = logging.getLogger("ems.weather")

ASK_EVERY = timedelta(hours=1)
"""Weather services renew their forecasts every one to six hours."""
ASK_AGAIN = timedelta(minutes=10)
"""After a failure; doubled with each further one, up to twice `ASK_EVERY`."""
OLDEST = timedelta(hours=24)
"""A forecast issued longer ago than this is not used any more."""
FIRST_PAST_DAYS = 92
"""Days behind that are asked for while nothing is remembered: what models learn from on the first day."""
AHEAD_H = 8 * 24
"""Furthest hour ahead that is remembered."""
GRID_DEG = 0.1
"""Sites this near to each other share their weather: about 11 km, the mesh of most weather models."""
AT_ONCE = 4
HOUR_S = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class WeatherState:
    """What is known of the weather of one place."""

    issued_at: datetime | None
    """When the forecast in use was fetched (aware UTC); None: there never was one."""
    trouble: str | None
    """Why the latest attempt brought nothing; None when it brought a forecast."""
    source: str
    """Who issues it."""

    def usable(self, at: datetime) -> bool:
        """Tell whether forecasts may still rest on it."""
        return self.issued_at is not None and at - self.issued_at <= OLDEST


@dataclass(slots=True)
class _Place:
    """Hours of one place on a grid that slides forward."""

    latitude: float
    longitude: float
    first_hour: int = 0
    degc: FloatArray = field(default_factory=lambda: np.empty(0))
    ghi_w_m2: FloatArray = field(default_factory=lambda: np.empty(0))
    issued_at: datetime | None = None
    ask_at: datetime | None = None
    failures: int = 0
    trouble: str | None = None
    source: str = ""

    def keep(self, told: Weather, at: datetime) -> None:
        """Lay a forecast over what is remembered; an hour gone by keeps what had been forecast of it before."""
        now = int(at.timestamp()) // HOUR_S
        first, count = now - 24 * DAYS, 24 * DAYS + AHEAD_H
        start_at = datetime.fromtimestamp(first * HOUR_S, UTC)
        past = np.arange(count) < now - first
        fresh = (
            told.temperature_on(start_at, ASK_EVERY, count)[0],
            told.irradiance_on(start_at, ASK_EVERY, count)[0],
        )
        before = self.since(first, count)
        self.degc, self.ghi_w_m2 = (
            np.where(np.isfinite(new) & ~(past & np.isfinite(old)), new, old)
            for new, old in zip(fresh, before, strict=True)
        )
        self.first_hour, self.issued_at, self.source = first, at, told.source

    def since(self, first: int, count: int) -> tuple[FloatArray, FloatArray]:
        """Return temperature and irradiance of `count` hours; nan is not known."""
        index = np.arange(count) + first - self.first_hour
        inside = (index >= 0) & (index < len(self.degc))
        found = np.full((2, count), np.nan)
        found[0, inside], found[1, inside] = self.degc[index[inside]], self.ghi_w_m2[index[inside]]
        return found[0], found[1]


class WeatherWatch:
    """Keeps the weather of every place sites are at.

    Parameters
    ----------
    sites
        The batch; neighbours share a place.
    provider
        Who is asked.
    close
        Ends the provider's connections.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        provider: WeatherProvider,
        *,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._provider = provider
        self._close = close
        self._place_of = [(_mesh(site.latitude_deg), _mesh(site.longitude_deg)) for site in sites]
        self._places = {
            key: _Place(latitude=key[0] * GRID_DEG, longitude=key[1] * GRID_DEG)
            for key in dict.fromkeys(self._place_of)
        }

    def due(self, at: datetime) -> bool:
        """Tell whether a place should be asked for."""
        return any(place.ask_at is None or place.ask_at <= at for place in self._places.values())

    async def refresh(self, at: datetime) -> None:
        """Ask for every place that is due, few at once; what goes wrong is remembered, never raised."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def ask(place: _Place) -> None:
            async with turn:
                told = await self._provider.fetch(
                    latitude=place.latitude,
                    longitude=place.longitude,
                    issued_at=at,
                    past_days=FIRST_PAST_DAYS if place.issued_at is None else 1,
                )
            self._note(place, told, at)

        due = [place for place in self._places.values() if place.ask_at is None or place.ask_at <= at]
        await asyncio.gather(*(ask(place) for place in due))

    async def close(self) -> None:
        """End the connections."""
        if self._close is not None:
            await self._close()

    def state_of(self, row: int) -> WeatherState:
        """Return what is known of the weather at a site."""
        place = self._places[self._place_of[row]]
        return WeatherState(issued_at=place.issued_at, trouble=place.trouble, source=place.source)

    def oldest_age_s(self, at: datetime) -> float:
        """Return the age of the oldest forecast in use [s]; infinite as long as a place has none."""
        return max(
            math.inf if place.issued_at is None else (at - place.issued_at).total_seconds()
            for place in self._places.values()
        )

    def known(self, at: datetime, rows: Sequence[int]) -> Weather | None:
        """Return the weather of some sites as known at `at`, past and ahead; None where there is none at all."""
        places = [self._places[self._place_of[row]] for row in rows]
        fresh = [place.issued_at is not None and at - place.issued_at <= OLDEST for place in places]
        if not any(fresh):
            return None
        now = int(at.timestamp()) // HOUR_S
        first, count = now - 24 * DAYS, 24 * DAYS + AHEAD_H
        alone = len({self._place_of[row] for row in rows}) == 1
        taken = list(zip(places, fresh, strict=True))[: 1 if alone else None]
        columns = np.stack([place.since(first, count) for place, _ in taken])
        for index, (_, usable) in enumerate(taken):
            if not usable:
                columns[index, :, 24 * DAYS :] = np.nan
        return Weather(
            start_at=datetime.fromtimestamp(first * HOUR_S, UTC),
            step=timedelta(hours=1),
            issued_at=min(place.issued_at for place in places if place.issued_at is not None),
            outdoor_degc=columns[:, 0] if np.isfinite(columns[:, 0]).any() else None,
            ghi_w_m2=columns[:, 1] if np.isfinite(columns[:, 1]).any() else None,
            source=places[0].source,
        )

    def _note(self, place: _Place, told: Weather | NoWeather, at: datetime) -> None:
        where = f"{place.latitude:.1f},{place.longitude:.1f}"
        if isinstance(told, NoWeather):
            wait = min(ASK_AGAIN * 2 ** min(place.failures, 4), 2 * ASK_EVERY)
            place.failures += 1
            place.ask_at = at + wait
            if place.trouble is None:
                log.warning("weather.lost place=%s source=%s cause=%s", where, told.source, told.reason)
            place.trouble, place.source = told.reason, told.source
            return
        if place.trouble is not None:
            log.warning("weather.back place=%s source=%s", where, told.source)
        place.keep(told, at)
        place.ask_at, place.failures, place.trouble = at + ASK_EVERY, 0, None


def _mesh(degrees: float) -> int:
    return round(degrees / GRID_DEG)
