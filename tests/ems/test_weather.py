"""Weather beside the cycle, against a real local server: shared by neighbours, remembered, aged, never waited for."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest

from ems.weather import ASK_AGAIN, ASK_EVERY, FIRST_PAST_DAYS, OLDEST, WeatherWatch
from forecasting import HttpWeather
from tests.ems.made import home
from tests.forecasting.weather_server import reply, serving

NOW = datetime(2026, 6, 1, 6, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def told(first: datetime, hours: int, degc: float, sun: float = 100.0) -> bytes:
    """What a weather service answers: a flat forecast."""
    times = [(first + hour * HOUR).strftime("%Y-%m-%dT%H:%M") for hour in range(hours)]
    hourly = {"time": times, "temperature_2m": [degc] * hours, "shortwave_radiation": [sun] * hours}
    return json.dumps({"utc_offset_seconds": 0, "hourly": hourly}).encode()


class Service:
    """A weather service whose next answers are set by the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.body = b""
        self.status = "200 OK"
        self.wait = asyncio.Event()
        self.wait.set()

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.wait.wait()
        writer.write(reply(self.body, self.status))
        await writer.drain()


def watch_of(client: httpx.AsyncClient, url: str, *, deadline_s: float = 5.0) -> WeatherWatch:
    far = home(id="far", latitude_deg=35.1, longitude_deg=129.0)
    provider = HttpWeather(client, url=url, deadline_s=deadline_s)
    return WeatherWatch([home(id="a"), home(id="b", latitude_deg=37.51), far], provider)


async def test_neighbours_share_one_question_and_the_first_asks_for_the_past_too() -> None:
    service = Service()
    service.body = told(NOW - 48 * HOUR, 96, 20.0)
    async with serving(service, service.asked) as url, httpx.AsyncClient(trust_env=False) as client:
        watch = watch_of(client, url)
        assert watch.due(NOW)
        assert watch.known(NOW, [0, 1, 2]) is None
        await watch.refresh(NOW)
        assert len(service.asked) == 2  # two places for three sites
        assert all(f"past_days={FIRST_PAST_DAYS}" in line for line in service.asked)
        assert not watch.due(NOW + ASK_EVERY / 2)
        await watch.refresh(NOW + ASK_EVERY)
        assert len(service.asked) == 4
        assert "past_days=1&" in service.asked[-1]
    known = watch.known(NOW, [0, 2])
    assert known is not None
    degc = known.temperature_on(NOW - 24 * HOUR, HOUR, 48)
    assert degc.shape == (2, 48)
    np.testing.assert_array_equal(degc, 20.0)
    assert np.isnan(known.temperature_on(NOW - 60 * HOUR, HOUR, 2)).all()  # before what it told


async def test_an_hour_gone_by_keeps_what_had_been_forecast_of_it() -> None:
    service = Service()
    async with serving(service) as url, httpx.AsyncClient(trust_env=False) as client:
        watch = watch_of(client, url)
        service.body = told(NOW - 24 * HOUR, 72, 20.0)
        await watch.refresh(NOW)
        service.body = told(NOW - 24 * HOUR, 96, 25.0)
        await watch.refresh(NOW + 2 * HOUR)
        known = watch.known(NOW + 2 * HOUR, [0])
    assert known is not None
    degc = known.temperature_on(NOW, HOUR, 4)[0]
    assert degc.tolist() == [20.0, 20.0, 25.0, 25.0]


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        pytest.param("200 OK", b"<html>sorry</html>", "not JSON", id="garbage"),
        pytest.param("200 OK", b"{}", "not an hourly forecast", id="something else"),
        pytest.param("503 Busy", b"", "HTTP status 503", id="an error"),
        pytest.param("200 OK", told(NOW, 4, 400.0), "implausible", id="nonsense"),
    ],
)
async def test_a_bad_answer_changes_nothing_is_told_once_and_asked_for_again(
    status: str, body: bytes, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    async with serving(service) as url, httpx.AsyncClient(trust_env=False) as client:
        watch = watch_of(client, url)
        service.body = told(NOW - 24 * HOUR, 96, 20.0)
        await watch.refresh(NOW)
        service.status, service.body = status, body
        with caplog.at_level(logging.WARNING):
            for at in (NOW + ASK_EVERY, NOW + ASK_EVERY + ASK_AGAIN):
                assert watch.due(at)
                await watch.refresh(at)
                assert not watch.due(at + ASK_AGAIN / 2)
        known = watch.known(NOW + 2 * HOUR, [0])
        state = watch.state_of(0)
        assert known is not None
        assert known.issued_at == NOW
        assert cause in (state.trouble or "")
        assert sum("weather.lost" in record.message for record in caplog.records) == 2  # one a place
        service.status, service.body = "200 OK", told(NOW - 24 * HOUR, 96, 21.0)
        await watch.refresh(NOW + 4 * HOUR)
        assert watch.state_of(0).trouble is None


async def test_a_service_that_answers_late_or_never_costs_its_deadline_and_nothing_else() -> None:
    service = Service()
    service.wait.clear()
    async with serving(service) as url, httpx.AsyncClient(trust_env=False) as client:
        watch = watch_of(client, url, deadline_s=0.2)
        await watch.refresh(NOW)
        assert watch.known(NOW, [0, 1, 2]) is None
        assert "0.2 s" in (watch.state_of(0).trouble or "")
        assert watch.oldest_age_s(NOW) == float("inf")
        service.wait.set()


async def test_a_forecast_grows_old_and_then_is_not_used() -> None:
    service = Service()
    service.body = told(NOW - 24 * HOUR, 24 * 6, 20.0)
    async with serving(service) as url, httpx.AsyncClient(trust_env=False) as client:
        watch = watch_of(client, url)
        await watch.refresh(NOW)
    assert watch.oldest_age_s(NOW + 3 * HOUR) == 3 * 3600
    assert watch.known(NOW + OLDEST, [0]) is not None
    assert watch.known(NOW + OLDEST + HOUR, [0]) is None
    assert not watch.state_of(0).usable(NOW + OLDEST + HOUR)
