"""One owner per endpoint: order, patience, memory."""

import asyncio
import struct

import pytest

from drivers import EndpointError, LinkPool
from drivers.endpoints import parse_endpoint
from drivers.frames import read_request
from drivers.modbus import LinkError
from drivers.protocols import TroubleKind
from drivers.registers import Table
from drivers.twin.image import RegisterImage


def numbered(count=200):
    """Registers that show their own address."""
    image = RegisterImage()
    image.define(Table.HOLDING, 0, struct.pack(f">{count}H", *range(count)))
    image.writable = {(Table.HOLDING, address) for address in range(count)}
    return image


def words(data):
    return list(struct.unpack(f">{len(data) // 2}H", data))


async def trouble_of(awaitable):
    with pytest.raises(LinkError) as caught:
        await awaitable
    return caught.value.trouble


async def test_many_callers_share_one_connection_and_each_gets_its_own_answer(links, on_air):
    async with on_air(numbered()) as (endpoint, station):
        link = links.link(endpoint)
        answers = await asyncio.gather(*(link.read(1, 3, a, 2) for a in range(50)))
        assert len(station.clients) == 1
    assert [words(a) for a in answers] == [[a, a + 1] for a in range(50)]


async def test_a_read_only_link_sends_no_write(clock, on_air):
    async with on_air(numbered()) as (endpoint, station), LinkPool(clock=clock, read_only=True) as links:
        link = links.link(endpoint)
        for write in (
            link.write_registers(1, 5, b"\0\1"),
            link.write_register(1, 5, b"\0\1"),
            link.write_coil(1, 5, on=True),
            link.forward(1, struct.pack(">BHHHHBH", 23, 0, 1, 5, 1, 2, 9), 4, None),
        ):
            assert (await trouble_of(write)).kind is TroubleKind.READ_ONLY
        assert station.requests == 0
        assert link.counters.refused_writes == 4


async def test_an_unknown_unit_is_an_exception_answer_and_others_go_on(links, on_air):
    async with on_air(numbered()) as (endpoint, _):
        link = links.link(endpoint)
        trouble = await trouble_of(link.read(9, 3, 0, 1))
        assert (trouble.kind, trouble.exception_code) == (TroubleKind.EXCEPTION, 11)
        assert words(await link.read(1, 3, 7, 1)) == [7]


async def test_a_write_without_answer_is_sent_once(links, on_air):
    async with on_air(numbered()) as (endpoint, station):
        station.faults.silent = True
        trouble = await trouble_of(links.link(endpoint).write_registers(1, 5, b"\0\1"))
        assert trouble.kind is TroubleKind.TIMEOUT
        assert station.requests == 1


async def test_a_read_on_a_connection_the_device_has_dropped_is_repeated_once(links, on_air):
    async with on_air(numbered()) as (endpoint, station):
        link = links.link(endpoint)
        await link.read(1, 3, 0, 1)
        for client in tuple(station.clients):
            client.abort()
        assert words(await link.read(1, 3, 3, 1)) == [3]


async def test_a_dead_endpoint_is_left_alone_and_found_again(links, on_air):
    async with on_air(numbered()) as (endpoint, _):
        pass
    link = links.link(endpoint)
    assert (await trouble_of(link.read(1, 3, 0, 1))).kind is TroubleKind.UNREACHABLE
    assert (await trouble_of(link.read(1, 3, 0, 1))).kind is TroubleKind.BACKING_OFF
    assert link.counters.failed_connects == 1 and link.counters.skipped == 1
    port = parse_endpoint(endpoint).port
    from drivers.twin.server import Station, serve_tcp

    server = await serve_tcp(Station(units={1: numbered()}), "127.0.0.1", port)
    await asyncio.sleep(0.2)
    assert words(await link.read(1, 3, 4, 1)) == [4]
    assert words(await link.read(1, 3, 5, 1)) == [5]
    server.close()


async def test_a_silent_unit_is_asked_ever_less_while_its_neighbour_is_read(links, on_air):
    async with on_air(numbered(), rtu=True) as (endpoint, _):
        link = links.link(endpoint)
        kinds = [(await trouble_of(link.read(9, 3, 0, 1))).kind for _ in range(5)]
        assert kinds == [TroubleKind.TIMEOUT] * 3 + [TroubleKind.BACKING_OFF] * 2
        assert words(await link.read(1, 3, 7, 1)) == [7]


async def test_a_cancelled_request_leaves_no_answer_behind(links, on_air):
    async with on_air(numbered(), rtu=True, transparent=True) as (endpoint, station):
        link = links.link(endpoint)
        assert words(await link.read(1, 3, 100, 2)) == [100, 101]
        station.faults.delay_s = 0.05
        task = asyncio.create_task(link.read(1, 3, 10, 2))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for address in (50, 60, 70):
            assert words(await link.read(1, 3, address, 2)) == [address, address + 1]


@pytest.mark.parametrize("lateness_s", [0.16, 0.19, 0.25, 0.31])
async def test_a_late_rtu_answer_is_never_taken_for_the_next_one(links, on_air, lateness_s):
    """Through a converter that hands late answers to whoever is connected; the bug pymodbus 3.16.1 has."""
    async with on_air(numbered(), rtu=True, transparent=True) as (endpoint, station):
        link = links.link(endpoint)
        station.faults.delay_s = lateness_s
        assert (await trouble_of(link.read(1, 3, 100, 2))).kind is TroubleKind.TIMEOUT
        station.faults.delay_s = 0.0
        answered = 0
        while answered < 3:
            address = 20 + 10 * answered
            try:
                assert words(await link.read(1, 3, address, 2)) == [address, address + 1]
            except LinkError:
                continue  # the device is still busy with what we gave up; no value is no wrong value
            answered += 1


async def test_requests_keep_the_gap_a_device_needs(links, on_air):
    async with on_air(numbered()) as (endpoint, _):
        link = links.link(endpoint)
        link.require(min_gap_s=0.03)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(4):
            await link.read(1, 3, 0, 1)
        assert loop.time() - start >= 0.09


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://x", "unknown scheme"),
        ("tcp://", "host missing"),
        ("tcp://h:99999", "Port out of range"),
        ("tcp://h/path", "path"),
        ("tcp://[fe80::1", "Invalid IPv6"),
        ("rtu://?baud=9600", "serial device path missing"),
        ("rtu:///dev/x?baud=fast", "whole numbers"),
        ("rtu:///dev/x?parity=Z", "not N, E or O"),
        ("tcp://h?speed=1", "unknown option"),
    ],
)
def test_a_wrong_endpoint_is_refused_with_its_reason(text, says):
    with pytest.raises(EndpointError, match=says):
        parse_endpoint(text)


def test_endpoints_are_understood():
    assert parse_endpoint("tcp://meter.local").port == 502
    assert parse_endpoint("tls://inverter").port == 802
    serial = parse_endpoint("rtu:///dev/ttyUSB0?baud=19200&parity=E&stopbits=2")
    assert (serial.path, serial.baud, serial.parity, serial.stopbits) == ("/dev/ttyUSB0", 19200, "E", 2)


async def test_one_place_written_in_two_ways_has_one_owner(links, on_air):
    """A one-client inverter must not see two connections because one file says `:502` and the other does not."""
    async with on_air(numbered()) as (endpoint, station):
        port = parse_endpoint(endpoint).port
        one, other = links.link(f"tcp://127.0.0.1:{port}/"), links.link(f"tcp://127.0.0.1:{port}")
        assert one is other
        await asyncio.gather(one.read(1, 3, 0, 1), other.read(1, 3, 5, 1))
        assert len(station.clients) == 1
    assert links.link("tcp://METER") is links.link("tcp://meter")
    assert links.link("tcp://meter") is links.link("tcp://meter:502")
    assert links.link("rtu:///dev/ttyUSB0") is links.link("rtu:///dev/ttyUSB0?baud=9600")
    with pytest.raises(EndpointError, match="share its settings"):
        links.link("rtu:///dev/ttyUSB0?baud=19200")


def test_a_slow_line_is_given_the_time_its_bytes_take():
    """125 registers at 1200 baud take 2.4 s on the wire; a second of patience would never see them."""
    link = LinkPool(clock=lambda: None).link("rtu:///dev/ttyUSB0?baud=1200")
    whole = link._patience_s(read_request(1, 3, 0, 125))
    assert whole == pytest.approx(1.0 + 263 * 11 / 1200, abs=0.05)
    assert LinkPool(clock=lambda: None).link("tcp://h")._patience_s(read_request(1, 3, 0, 125)) == 1.0
