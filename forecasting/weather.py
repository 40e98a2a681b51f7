"""Weather as a port: a JSON forecast over HTTP or from a file, in the format of Open-Meteo.

What can go wrong (no answer, a late one, garbage, the wrong unit) comes back as `NoWeather` with a reason:
a forecast without weather is an ordinary state. Nothing here raises for what a server does.

Format: https://open-meteo.com/en/docs, hourly variables `temperature_2m` (instantaneous, degC) and
`shortwave_radiation` (mean of the PRECEDING hour, W/m2).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np

from forecasting.types import FloatArray, Weather

_HOUR = timedelta(hours=1)
_MAX_BYTES = 2_000_000
_PLAUSIBLE = {"temperature_2m": (-90.0, 60.0), "shortwave_radiation": (0.0, 1500.0)}
_UNITS = {"temperature_2m": "°C", "shortwave_radiation": "W/m²"}


@dataclass(frozen=True, kw_only=True, slots=True)
class NoWeather:
    """There is no usable weather forecast, and why."""

    reason: str
    """One line for operators."""
    source: str
    """Which provider."""


class WeatherProvider(Protocol):
    """Where weather forecasts come from."""

    async def fetch(
        self, *, latitude: float, longitude: float, issued_at: datetime, past_days: int = 1
    ) -> Weather | NoWeather:
        """The forecast for a place as known at `issued_at`; never raises for what the provider does.

        `past_days` asks for as many days before today too, where the provider remembers them.
        """
        ...


class HttpWeather:
    """An Open-Meteo compatible HTTP service.

    Parameters
    ----------
    client : owned by the caller (proxy, TLS, tests)
    url : the forecast endpoint, e.g. https://api.open-meteo.com/v1/forecast, to which the query is added; or a
        template with `{latitude}` and `{longitude}` (and `{past_days}`), which is asked as it is
    deadline_s : the whole answer must be here by then
    days : forecast days asked for
    """

    def __init__(
        self, client: httpx.AsyncClient, *, url: str, deadline_s: float = 10.0, days: int = 4
    ) -> None:
        self._client = client
        self._url = url
        self._deadline_s = deadline_s
        self._days = days
        # a key in the query stays out of everything that is logged or shown
        self._source = url.partition("?")[0]

    async def fetch(
        self, *, latitude: float, longitude: float, issued_at: datetime, past_days: int = 1
    ) -> Weather | NoWeather:
        """One request, one deadline; see `WeatherProvider`."""
        try:
            url = self._asked(round(latitude, 4), round(longitude, 4), past_days)
            async with asyncio.timeout(self._deadline_s):
                return await self._ask(url, issued_at)
        except TimeoutError:
            return NoWeather(reason=f"no complete answer within {self._deadline_s:g} s", source=self._source)
        except httpx.TimeoutException:
            return NoWeather(reason="connection timed out", source=self._source)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return NoWeather(reason=f"{type(error).__name__}: {error}", source=self._source)

    def _asked(self, latitude: float, longitude: float, past_days: int) -> httpx.URL:
        if "{latitude}" in self._url:
            filled = self._url.replace("{latitude}", str(latitude)).replace("{longitude}", str(longitude))
            return httpx.URL(filled.replace("{past_days}", str(past_days)))
        query: dict[str, str | int | float] = {
            "latitude": latitude,
            "longitude": longitude,
            "hourly": "temperature_2m,shortwave_radiation",
            "timezone": "UTC",
            "past_days": past_days,
            "forecast_days": self._days,
        }
        return httpx.URL(self._url).copy_merge_params(query)

    async def _ask(self, url: httpx.URL, issued_at: datetime) -> Weather | NoWeather:
        async with self._client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                return NoWeather(reason=f"HTTP status {answer.status_code}", source=self._source)
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    return NoWeather(reason=f"answer longer than {_MAX_BYTES} bytes", source=self._source)
        return parse_open_meteo(bytes(body), issued_at=issued_at, source=self._source)


class FileWeather:
    """The same JSON from a file, for sites without internet access and for tests."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def fetch(
        self, *, latitude: float, longitude: float, issued_at: datetime, past_days: int = 1
    ) -> Weather | NoWeather:
        """Read the file; the place and the days it holds are the file's business."""
        try:
            body = await asyncio.to_thread(self._path.read_bytes)
        except OSError as error:
            return NoWeather(reason=f"cannot read: {error.strerror}", source=str(self._path))
        return parse_open_meteo(body, issued_at=issued_at, source=str(self._path))


def parse_open_meteo(body: bytes, *, issued_at: datetime, source: str) -> Weather | NoWeather:
    """Read an answer; anything that is not a plausible hourly forecast is `NoWeather`."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return NoWeather(reason=f"not JSON ({len(body)} bytes)", source=source)
    try:
        hourly = answer["hourly"]
        offset = timedelta(seconds=int(answer.get("utc_offset_seconds", 0)))
        times = [datetime.fromisoformat(text) for text in hourly["time"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return NoWeather(reason=f"not an hourly forecast: {type(error).__name__} {error}", source=source)
    if len(times) < 2:
        return NoWeather(reason=f"{len(times)} hours", source=source)
    starts = [(at.replace(tzinfo=UTC) - offset) if at.tzinfo is None else at.astimezone(UTC) for at in times]
    if any(later - earlier != _HOUR for earlier, later in itertools.pairwise(starts)):
        return NoWeather(reason="hours are not in order without gaps", source=source)
    found: dict[str, FloatArray | None] = {}
    for name, unit in _UNITS.items():
        column = _column(hourly, answer.get("hourly_units"), name, unit, len(starts))
        if isinstance(column, str):
            return NoWeather(reason=column, source=source)
        found[name] = column
    if all(column is None for column in found.values()):
        return NoWeather(reason=f"neither {' nor '.join(_UNITS)} in the answer", source=source)
    at_hour, before_hour = found["temperature_2m"], found["shortwave_radiation"]
    return Weather(
        start_at=starts[0],
        step=_HOUR,
        issued_at=issued_at,
        # instantaneous at the full hour -> mean over the hour that starts there
        outdoor_degc=None if at_hour is None else _mean_with_next(at_hour),
        # mean of the preceding hour -> mean over the hour that starts here
        ghi_w_m2=None if before_hour is None else np.append(before_hour[1:], np.nan),
        source=source,
    )


def _column(hourly: Any, units: Any, name: str, unit: str, count: int) -> FloatArray | str | None:
    """One variable, None if the answer does not have it, or what is wrong with it."""
    if name not in hourly:
        return None
    told = units.get(name) if isinstance(units, dict) else None
    if told is not None and told != unit:
        return f"{name} in {told}, expected {unit}"
    try:
        values = np.array([np.nan if v is None else float(v) for v in hourly[name]], dtype=np.float64)
    except (TypeError, ValueError):
        return f"{name} holds something that is not a number"
    if len(values) != count:
        return f"{name} has {len(values)} values for {count} hours"
    low, high = _PLAUSIBLE[name]
    known = values[np.isfinite(values)]
    if len(known) and (known.min() < low or known.max() > high):
        return f"{name} from {known.min():g} to {known.max():g} is implausible"
    return np.where(np.isfinite(values), values, np.nan)


def _mean_with_next(values: FloatArray) -> FloatArray:
    following = np.append(values[1:], values[-1:])
    return np.asarray(np.where(np.isfinite(following), 0.5 * (values + following), values))
