"""The same device over a serial line, RTU inside TCP, TLS, and through the proxy."""

import asyncio
import ssl
import struct
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from drivers import Applied, LinkPool, TroubleKind, open_device
from drivers.file_device import load_device_file
from drivers.modbus import LinkError
from drivers.proxy import share
from drivers.registers import Table
from drivers.twin.file_image import FileImage
from drivers.twin.image import RegisterImage
from drivers.twin.server import SerialLine, Station, serve_tcp

DATA = Path(__file__).parent / "data"


def numbered(count=200):
    image = RegisterImage()
    image.define(Table.HOLDING, 0, struct.pack(f">{count}H", *range(count)))
    image.writable = {(Table.HOLDING, address) for address in range(count)}
    return image


@pytest.fixture
async def line():
    """A serial line with an Eastron meter as unit 3 and an ABB wallbox as unit 4."""
    station = Station(
        units={
            3: FileImage(load_device_file("eastron-sdm630").spec).image,
            4: FileImage(load_device_file("abb-terra-ac").spec).image,
        }
    )
    serial = SerialLine(station)
    yield f"rtu://{serial.path}?baud=115200", station
    serial.close()


async def test_two_devices_share_a_serial_line(line, links):
    endpoint, _ = line
    meter = open_device(name="m", endpoint=endpoint, unit_id=3, driver="eastron-sdm630", links=links)
    wallbox = open_device(name="w", endpoint=endpoint, unit_id=4, driver="abb-terra-ac", links=links)
    readings = await asyncio.gather(meter.read(), wallbox.read(), meter.read(), wallbox.read())
    assert [r.trouble for r in readings] == [None] * 4
    assert readings[0]["net_import_kw"].value == pytest.approx(0.75)
    assert readings[1]["vehicle_net_consumption_kw"].value == pytest.approx(6.9)
    receipt = await wallbox.limit_charge(6.9, valid_s=60)
    assert isinstance(receipt, Applied)


async def test_a_silent_unit_on_a_line_costs_its_neighbour_no_value(line, links):
    endpoint, _ = line
    meter = open_device(name="m", endpoint=endpoint, unit_id=3, driver="eastron-sdm630", links=links)
    ghost = open_device(name="g", endpoint=endpoint, unit_id=9, driver="eastron-sdm630", links=links)
    for _ in range(3):
        lost, found = await asyncio.gather(ghost.read(), meter.read())
        assert lost.trouble is not None and found.trouble is None
        assert found["net_import_kw"].value == pytest.approx(0.75)


async def test_a_missing_serial_device_is_trouble_not_a_traceback(links):
    device = open_device(
        name="m", endpoint="rtu:///dev/no-such-line", unit_id=1, driver="eastron-sdm630", links=links
    )
    reading = await device.read()
    assert reading.trouble is not None and reading.trouble.kind is TroubleKind.UNREACHABLE
    assert "no-such-line" in reading.trouble.detail


@asynccontextmanager
async def tls_device(*, asks_for_certificate=False):
    """A device on TLS; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "device.pem", DATA / "device.key")
    if asks_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(DATA / "device.pem")
    station = Station(units={1: numbered()})
    server = await serve_tcp(station, "127.0.0.1", 0, tls=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for client in tuple(station.clients):
            client.abort()


async def read_over_tls(clock, port, options):
    async with LinkPool(clock=clock, timeout_s=2.0) as links:
        link = links.link(f"tls://localhost:{port}?{options}")
        first = struct.unpack(">2H", await link.read(1, 3, 40, 2))
        await link.write_register(1, 40, b"\0\7")
        return first, struct.unpack(">H", await link.read(1, 3, 40, 1))


async def test_a_device_over_tls_is_read_and_written(clock):
    async with tls_device() as port:
        assert await read_over_tls(clock, port, f"ca={DATA / 'device.pem'}") == ((40, 41), (7,))


async def test_a_device_signed_by_nobody_we_know_is_not_talked_to(clock):
    async with tls_device() as port:
        with pytest.raises(LinkError, match="certificate verify failed") as caught:
            await read_over_tls(clock, port, "")
        assert caught.value.trouble.kind is TroubleKind.UNREACHABLE


async def test_modbus_security_asks_us_for_a_certificate_too(clock):
    ours = f"ca={DATA / 'device.pem'}&cert={DATA / 'device.pem'}&key={DATA / 'device.key'}"
    async with tls_device(asks_for_certificate=True) as port:
        assert await read_over_tls(clock, port, ours) == ((40, 41), (7,))
        with pytest.raises(LinkError) as caught:
            await read_over_tls(clock, port, f"ca={DATA / 'device.pem'}")
        assert caught.value.trouble.kind is TroubleKind.UNREACHABLE


@pytest.mark.parametrize("option", ["ca", "cert"])
async def test_a_certificate_file_that_is_missing_is_named(clock, option):
    with pytest.raises(LinkError, match=r"no-such\.pem"):
        await read_over_tls(clock, 1, f"{option}=no-such.pem")


async def test_a_second_reader_shares_a_one_client_device(links, on_air):
    async with on_air(numbered()) as (endpoint, station), share(endpoint, links=links) as shared:
        port = int(shared.rsplit(":", 1)[1])
        guest = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
        assert await guest.connect()
        ours = [links.link(endpoint).read(1, 3, address, 2) for address in range(30)]
        mine = asyncio.gather(*ours)
        for address in range(0, 30, 3):
            answer = await guest.read_holding_registers(address, count=2, device_id=1)
            assert answer.registers == [address, address + 1]
        assert [struct.unpack(">H", data[:2])[0] for data in await mine] == list(range(30))
        assert len(station.clients) == 1

        refused = await guest.write_register(5, 99, device_id=1)
        assert refused.isError() and refused.exception_code == 1 and station.writes == 0
        for forbidden in (
            guest.write_registers(5, [1, 2], device_id=1),
            guest.write_coil(5, True, device_id=1),
            guest.write_coils(5, [True], device_id=1),
            guest.mask_write_register(address=5, device_id=1),
            guest.readwrite_registers(read_address=0, read_count=1, write_address=5, values=[9], device_id=1),
        ):
            assert (await forbidden).exception_code == 1
        assert station.writes == 0
        beyond = await guest.read_holding_registers(500, count=1, device_id=1)
        assert beyond.exception_code == 2, "the device's own refusal passes through"
        station.faults.silent = True
        silent = await guest.read_holding_registers(5, count=1, device_id=1)
        assert silent.exception_code == 11
        guest.close()


async def test_a_guest_may_write_when_allowed(links, on_air):
    async with on_air(numbered()) as (endpoint, _), share(endpoint, links=links, allow_writes=True) as shared:
        guest = AsyncModbusTcpClient("127.0.0.1", port=int(shared.rsplit(":", 1)[1]), retries=0)
        assert await guest.connect()
        assert not (await guest.write_registers(7, [700, 800], device_id=1)).isError()
        assert struct.unpack(">2H", await links.link(endpoint).read(1, 3, 7, 2)) == (700, 800)
        guest.close()


async def test_a_read_only_service_lets_no_guest_write_either(clock, on_air):
    async with (
        on_air(numbered()) as (endpoint, station),
        LinkPool(clock=clock, read_only=True) as links,
        share(endpoint, links=links, allow_writes=True) as shared,
    ):
        guest = AsyncModbusTcpClient("127.0.0.1", port=int(shared.rsplit(":", 1)[1]), retries=0)
        assert await guest.connect()
        assert (await guest.write_register(5, 99, device_id=1)).exception_code == 1
        assert station.writes == 0
        guest.close()


async def test_a_device_that_accepts_one_client_says_why_it_may_not_answer(links, on_air):
    image = FileImage(load_device_file("huawei-sun2000").spec).image
    async with on_air(image) as (endpoint, station):
        station.faults.refuse_connections = True
        device = open_device(name="i", endpoint=endpoint, unit_id=1, driver="huawei-sun2000", links=links)
        reading = await device.read()
    assert device.one_client
    assert reading.trouble is not None and "another reader may have it" in reading.trouble.detail
