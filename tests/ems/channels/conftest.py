"""A broker of the test's own, a rig around the channels, and the reference controller of deploy/ to speak to."""

import asyncio
import getpass
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from ems.channels import Channels, Ledger, opener
from ems.clock import SystemClock
from ems.live import Live
from ems.messages import Acknowledgement
from ems.metrics import Metrics
from ems.outbox import Outbox
from ems.publishing import Delivery, publish
from ems.setpoints import Quantity, Setpoint, SetpointKind, SetpointSource
from ems.site import Controller, Site
from ems.store import Store
from tests.ems.made import ROOF, STORE, home

ROOT = Path(__file__).parents[3]
CLOCK = SystemClock()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(holds: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Wait until something is so; the wait is a limit for hanging tests, not a claim about speed."""
    ends = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > ends:
            raise AssertionError("it did not come to pass")
        await asyncio.sleep(0.05)


@pytest.fixture(scope="session")
def controller() -> ModuleType:
    """The reference building controller."""
    path = ROOT / "deploy" / "controller" / "controller.py"
    spec = importlib.util.spec_from_file_location("reference_controller", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_controller"] = module
    spec.loader.exec_module(module)
    return module


class Broker:
    """A mosquitto process that can be killed and started again on the same port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            "\n".join([f"user {getpass.getuser()}", *(line.format(port=self.port) for line in lines), ""]),
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [mosquitto(), "-c", self.config], stdout=log, stderr=subprocess.STDOUT
            )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def mosquitto() -> str:
    """Return the broker's program; Debian puts it where ordinary users do not look."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed")
    return found


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    made: list[Broker] = []

    def make(*lines: str) -> Broker:
        folder = tmp_path / f"broker{len(made)}"
        folder.mkdir()
        broker = Broker(folder, *(lines or ("listener {port} 127.0.0.1", "allow_anonymous true")))
        made.append(broker)
        broker.start()
        return broker

    yield make
    for broker in made:
        broker.kill()


def made_setpoint(
    kw: float | None,
    *,
    asset: str = "store",
    site_id: str = "home-01",
    number: int = 1,
    lasts_s: float = 60.0,
    at: datetime | None = None,
    **changes: object,
) -> Setpoint:
    at = at or CLOCK.now()
    setpoint = Setpoint(
        id=f"{site_id}.{asset}.{number}.{int(at.timestamp() * 1000)}",
        site_id=site_id,
        asset=asset,
        kind=SetpointKind.TARGET,
        quantity=Quantity.BATTERY_POWER,
        value_kw=kw,
        valid_from=at,
        valid_until=at + timedelta(seconds=lasts_s),
        priority=10,
        source=SetpointSource.PLAN,
        reason=None,
        reverts_to="own_mode",
    )
    return replace(setpoint, **changes)  # type: ignore[arg-type]


@dataclass(kw_only=True)
class Rig:
    """The channels of one site on a real store, as the service runs them."""

    site: Site
    store: Store
    live: Live
    metrics: Metrics
    outbox: Outbox
    ledger: Ledger
    channels: Channels
    said: int = 0

    async def ask(
        self, kw: float | None = 1.0, *, asset: str = "store", lasts_s: float = 60.0, **changes: object
    ) -> Setpoint:
        """Journal a setpoint, publish and offer it, as the cycle and the fast loop do."""
        self.said += 1
        setpoint = made_setpoint(
            kw, asset=asset, site_id=self.site.id, number=self.said, lasts_s=lasts_s, **changes
        )

        async def journal(setpoints: object) -> None:
            await asyncio.to_thread(self.store.save_setpoints, (setpoint,), ())
            self.channels.offer((setpoint,))

        deliveries = await publish({}, {self.site.id: self.site}, [setpoint], journal=journal)
        await asyncio.to_thread(self.store.save_setpoints, (setpoint,), deliveries)
        return setpoint

    def delivery(self, setpoint: Setpoint) -> Delivery:
        found = self.store.setpoint(setpoint.id)
        assert found is not None and found.delivery is not None
        return found.delivery

    def answers(self, setpoint: Setpoint) -> list[Acknowledgement]:
        found = self.store.setpoint(setpoint.id)
        assert found is not None
        return list(found.acknowledgements)

    def states(self, setpoint: Setpoint) -> list[str]:
        return [str(said.state) for said in self.answers(setpoint)]

    def edges(self) -> list[tuple[str, str]]:
        found = self.store.edges(self.site.id, CLOCK.now() - timedelta(hours=1))
        return [(edge.subject, edge.became) for edge in reversed(found)]

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def rigged(
    folder: Path,
    controllers: Mapping[str, Controller],
    *,
    carries: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    read_only: bool = False,
    gently: bool = True,
) -> AsyncIterator[Rig]:
    """Run the channels of a home; `carries` says which controller carries out which asset."""
    carries = {"store": next(iter(controllers))} if carries is None else carries
    site = home(
        assets=(
            replace(ROOF, controller=carries.get("roof")),
            replace(STORE, controller=carries.get("store")),
        ),
        controllers=dict(controllers),
    )
    store, live, metrics = Store.open(f"sqlite:///{folder / 'ems.sqlite'}"), Live(), Metrics()
    outbox = Outbox(metrics)
    ledger = Ledger([site], store=store, clock=CLOCK, metrics=metrics)
    link = opener(
        folders={site.id: folder}, environment=environment or {}, clock=CLOCK, live=live, store=store
    )
    channels = Channels(
        [site], link=link, ledger=ledger, store=store, outbox=outbox, clock=CLOCK, metrics=metrics,
        read_only=read_only,
    )  # fmt: skip
    await channels.start()
    try:
        yield Rig(
            site=site,
            store=store,
            live=live,
            metrics=metrics,
            outbox=outbox,
            ledger=ledger,
            channels=channels,
        )
    finally:
        if gently:
            await channels.stop()
        else:
            await die(channels)
        await outbox.flush()
        store.close()


async def die(channels: Channels) -> None:
    """End the channels as a kill would: nothing is said to anybody."""
    for task in channels._tasks:
        task.cancel()
    await asyncio.gather(*channels._tasks, return_exceptions=True)


@asynccontextmanager
async def running(speaking: object) -> AsyncIterator[None]:
    """Let a controller speak while the block lasts."""
    task = asyncio.create_task(speaking)  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
