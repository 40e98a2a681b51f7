"""The weather port against a real local server that behaves, times out, answers late and answers garbage."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from forecasting import FileWeather, HttpWeather, NoWeather, Weather, parse_open_meteo
from tests.forecasting.weather_server import answer, reply, serving

NOW = datetime(2025, 6, 1, 6, 10, tzinfo=UTC)


async def fetch(url: str, deadline_s: float = 5.0) -> Weather | NoWeather:
    async with httpx.AsyncClient(trust_env=False) as client:
        provider = HttpWeather(client, url=url, deadline_s=deadline_s)
        return await provider.fetch(latitude=37.5, longitude=127.0, issued_at=NOW)


async def test_a_good_answer_becomes_interval_means() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(json.dumps(answer()).encode()))
        await writer.drain()

    async with serving(handler) as url:
        got = await fetch(url)
    assert isinstance(got, Weather)
    assert got.start_at == datetime(2025, 6, 1, tzinfo=UTC)
    assert got.issued_at == NOW
    assert got.outdoor_degc is not None
    assert got.ghi_w_m2 is not None
    # temperature is instantaneous, radiation is the mean of the hour before the stamp
    assert got.outdoor_degc[0] == 11.0
    assert got.outdoor_degc[1] == 12.0
    assert got.ghi_w_m2[:3].tolist() == [100.0, 300.0, 500.0]
    assert np.isnan(got.ghi_w_m2[3])


async def test_a_silent_server_is_absent_weather_not_an_error() -> None:
    stop = asyncio.Event()

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()

    async with serving(handler) as url:
        got = await fetch(url, deadline_s=0.2)
        stop.set()
    assert isinstance(got, NoWeather)
    assert "0.2 s" in got.reason


async def test_an_answer_that_trickles_past_the_deadline_is_late() -> None:
    stop = asyncio.Event()

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = reply(json.dumps(answer()).encode())
        for index in range(len(whole) - 1):
            if stop.is_set():
                return
            writer.write(whole[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(handler) as url:
        got = await fetch(url, deadline_s=0.3)
        stop.set()
    assert isinstance(got, NoWeather)
    assert "0.3 s" in got.reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(reply(b"<html>maintenance</html>"), "not JSON", id="a page instead of JSON"),
        pytest.param(reply(b"{}", "503 Service Unavailable"), "status 503", id="server error"),
        pytest.param(b"\x00\xffnonsense\r\n\r\n", "RemoteProtocolError", id="not even HTTP"),
        pytest.param(reply(b"[" * 5000), "not JSON", id="deep nesting"),
        pytest.param(reply(b"9" * 2_100_000), "longer than", id="endless body"),
    ],
)
async def test_garbage_is_absent_weather(raw: bytes, reason: str) -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    async with serving(handler) as url:
        got = await fetch(url)
    assert isinstance(got, NoWeather)
    assert reason in got.reason


async def test_nobody_listens() -> None:
    async with serving(lambda *_: asyncio.sleep(0)) as url:
        pass
    got = await fetch(url)
    assert isinstance(got, NoWeather)
    assert "ConnectError" in got.reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"temperature_2m": [1.0, 2.0]}, "2 values for 4 hours", id="short column"),
        pytest.param({"temperature_2m": [1.0, "warm", 3.0, 4.0]}, "not a number", id="text"),
        pytest.param({"temperature_2m": [1.0, 2.0, 3.0, 290.0]}, "implausible", id="kelvin"),
        pytest.param({"shortwave_radiation": [0.0, -50.0, 0.0, 0.0]}, "implausible", id="negative sun"),
        pytest.param({"time": ["2025-06-01T00:00"] * 4}, "order", id="repeated hours"),
        pytest.param({"time": ["soon"] * 4}, "not an hourly forecast", id="no dates"),
        pytest.param({"time": None}, "not an hourly forecast", id="null"),
    ],
)
def test_a_wrong_answer_says_what_is_wrong(changed: dict[str, object], reason: str) -> None:
    got = parse_open_meteo(json.dumps(answer(**changed)).encode(), issued_at=NOW, source="test")
    assert isinstance(got, NoWeather)
    assert reason in got.reason


def test_fahrenheit_is_refused() -> None:
    told = answer()
    told["hourly_units"] = {"temperature_2m": "°F"}
    got = parse_open_meteo(json.dumps(told).encode(), issued_at=NOW, source="test")
    assert isinstance(got, NoWeather)
    assert "°F" in got.reason


def test_local_times_with_an_offset_become_utc() -> None:
    told = answer()
    told["utc_offset_seconds"] = 32_400
    got = parse_open_meteo(json.dumps(told).encode(), issued_at=NOW, source="test")
    assert isinstance(got, Weather)
    assert got.start_at == datetime(2025, 6, 1, tzinfo=UTC) - timedelta(hours=9)


async def test_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weather.json"
    path.write_text(json.dumps(answer()), encoding="utf-8")
    assert isinstance(await FileWeather(path).fetch(latitude=0, longitude=0, issued_at=NOW), Weather)
    missing = await FileWeather(tmp_path / "none.json").fetch(latitude=0, longitude=0, issued_at=NOW)
    assert isinstance(missing, NoWeather)
    assert "cannot read" in missing.reason


async def test_a_template_is_asked_as_it_is_and_its_key_is_not_told_to_anybody() -> None:
    asked: list[str] = []

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"gone", "500 Oops"))
        await writer.drain()

    async with serving(handler, asked) as url:
        template = url + "?lat={latitude}&lon={longitude}&days={past_days}&apikey=secret"
        got = await fetch(template)
        plain = await fetch(url + "?apikey=secret")
    assert asked[0].startswith("GET /v1/forecast?lat=37.5&lon=127.0&days=1&apikey=secret ")
    assert "apikey=secret" in asked[1]
    assert "latitude=37.5" in asked[1]
    for failed in (got, plain):
        assert isinstance(failed, NoWeather)
        assert "secret" not in failed.source + failed.reason
