"""The grid operator's limit signal on a real socket: applied within one pass, fail-safe when it falls silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import drivers
from drivers import LinkPool, Pacing, open_device
from drivers.device_file import load_spec
from drivers.twin.file_image import FileImage
from drivers.twin.server import Station, serve_tcp
from ems.cycle import run_cycle
from ems.fast_loop import FastLoop, Pass
from ems.live import Live
from ems.metrics import Metrics
from ems.orders import OrderKind
from ems.setpoints import Quantity
from ems.site import DeviceRef, GridSignal, Role
from tests.ems.made import order
from tests.ems.street import NOON, Street, served_street

DEVICES = Path(drivers.__file__).parent / "devices"
EVENING = NOON + timedelta(hours=10)
"""No sun: what the battery takes comes from the grid."""
CHARGE = order(OrderKind.TARGET, 2.0, asset="battery", at=EVENING)
"""A person's wish that would draw more than any of the limits below."""

QUICK = Pacing(
    timeout_s=0.15,
    connect_timeout_s=0.5,
    first_pause_s=0.1,
    longest_pause_s=0.2,
    settle_s=0.01,
    forget_late_s=1.0,
)


@dataclass(kw_only=True)
class Box:
    """The grid operator's box at the home, and the loop of the service."""

    image: FileImage
    station: Station
    street: Street
    loop: FastLoop

    async def step(self, after_s: float) -> Pass:
        at = EVENING + timedelta(seconds=after_s)
        self.street.advance(at)
        return await self.loop.step(at=at, orders=(CHARGE,))

    async def settled_import_kw(self, after_s: float) -> float:
        """What the meter shows a second after a pass."""
        await self.step(after_s)
        seen = (await self.step(after_s + 1.0)).snapshot.sites[0].usable("meter", "net_import_kw")
        assert seen is not None
        return seen


@asynccontextmanager
async def signalled_home(folder: Path) -> AsyncIterator[Box]:
    spec = load_spec(DEVICES / "limit-registers.yaml")
    image = FileImage(spec)
    image.show("import_limit_kw", None)
    image.show("export_limit_kw", None)
    image.show("limit_active", 0.0)
    station = Station(units={1: image.image})
    server = await serve_tcp(station, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        served_street(folder, count=1, at=EVENING) as street,
        LinkPool(clock=street.clock.now, pacing=QUICK) as links,
    ):
        site = replace(
            street.sites[0],
            devices={
                **street.sites[0].devices,
                "box": DeviceRef(
                    endpoint=f"tcp://127.0.0.1:{port}", driver="limit-registers", role=Role.GRID_SIGNAL
                ),
            },
            grid_signal=GridSignal(failsafe_import_kw=1.0, heartbeat_s=60.0, device="box"),
        )
        box = open_device(
            name="home-01.box",
            endpoint=f"tcp://127.0.0.1:{port}",
            unit_id=1,
            driver="limit-registers",
            links=links,
        )
        ports = replace(street.ports, devices={**street.ports.devices, ("home-01", "box"): box})
        loop = FastLoop((site,), ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=30))
        loop.follow(await run_cycle((site,), ports, None, at=EVENING, orders=(CHARGE,)))
        yield Box(image=image, station=station, street=street, loop=loop)
    server.close()
    for client in tuple(station.clients):
        client.abort()


async def test_a_limit_in_the_register_is_kept_from_the_next_pass_and_lifted_with_it(tmp_path: Path) -> None:
    async with signalled_home(tmp_path) as box:
        free_kw = await box.settled_import_kw(5)
        box.image.show("import_limit_kw", 1.5)
        told = await box.step(10)
        limited_kw = await box.settled_import_kw(11)
        box.image.show("import_limit_kw", None)
        lifted_kw = await box.settled_import_kw(20)
    assert free_kw > 2.0, "else the case says nothing"
    assert limited_kw <= 1.5 + 0.01
    assert lifted_kw > 2.0
    (limit,) = [s for s in told.setpoints if s.asset == "site"]
    assert (limit.quantity, limit.value_kw, limit.source) == (Quantity.IMPORT_LIMIT, 1.5, "grid_operator")


async def test_a_silent_box_means_its_last_word_for_a_heartbeat_then_the_fail_safe_limit_until_it_speaks(
    tmp_path: Path,
) -> None:
    async with signalled_home(tmp_path) as box:
        await box.step(5)
        box.station.faults.silent = True
        within_kw = await box.settled_import_kw(20)
        lost = await box.step(70)
        failsafe_kw = await box.settled_import_kw(71)
        box.station.faults.silent = False
        back = None
        for second in range(80, 400, 10):
            back = await box.step(second)
            if back.edges:
                break
            await asyncio.sleep(0.05)  # the link waits a moment before it tries a silent device again
    assert within_kw > 2.0, "said 15 s ago that there is no limit"
    assert ("grid_signal", "lost") in {(edge.subject, edge.became) for edge in lost.edges}
    assert failsafe_kw <= 1.0 + 0.01
    assert back is not None
    assert ("grid_signal", "back") in {(edge.subject, edge.became) for edge in back.edges}
