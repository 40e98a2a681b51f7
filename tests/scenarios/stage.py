"""A stage for scenarios: simulated homes on real sockets here, the service in processes of its own that may be killed.

The homes note every order their devices took, and are looked at all the time: what was in force, for how long, and
whether the record knows of it.
"""

import asyncio
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np

from drivers.twin import (
    BatterySpec,
    ChargerSpec,
    HomeSpec,
    InverterSpec,
    Profile,
    ServedHome,
    Session,
    serve,
)
from ems.clock import ScaledClock
from ems.orders import Order, OrderKind, SetpointSource
from ems.store import DeliveredSetpoint, Store

SITE_START = datetime(2026, 3, 2, 0, 5, tzinfo=UTC)
SPEED = 30.0
"""Site seconds per wall second."""
INTERVAL_MIN = 5
VALID_S = 60.0 * INTERVAL_MIN + 60.0 + 5 * SPEED
"""Longest validity of a setpoint under these settings [site s]: interval, grace, five passes of the fast loop."""
LAG_S = 1.5 * SPEED
"""What a write takes to reach its device; its timer ends so much later [site s]."""
CHEAP, DEAR = 0.05, 0.60
TARIFF = """
  tariff:
    buy:
      kind: time_of_use
      seasons:
        - name: all
          months: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
          periods: [{{from_local: "00:00", to_local: "04:00", per_kwh: {first}}}]
          otherwise_per_kwh: {then}
    sell: {{kind: flat, per_kwh: 0.01}}"""


class Knob:
    """A load that is set by hand; it answers as a profile does."""

    def __init__(self, power_kw: float) -> None:
        self.power_kw = power_kw

    def at_s(self, t_s: float) -> tuple[float, float]:
        """Present power [kW] and seconds until it is worth a look again."""
        return self.power_kw, 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Play:
    """One home and what it is meant to be doing when something breaks."""

    name: str
    """Site id."""
    load_kw: float
    """Before the step."""
    step_kw: float
    """Load after the step; only a service that still works keeps the connection's limit then."""
    import_limit_kw: float
    export_limit_kw: float = 10.0
    battery: BatterySpec | None = None
    vehicle: bool = False
    island: bool = False
    """Whether the grid is lost before the fault and back after it."""
    event_kw: float | None = None
    """A demand-response event that limits what the home draws, all the time; tighter than the connection."""
    first_per_kwh: float = CHEAP
    then_per_kwh: float = DEAR

    def spec(self, knob: Knob) -> HomeSpec:
        """Describe it to the simulated field."""
        return HomeSpec(
            name=self.name,
            load=knob,  # type: ignore[arg-type]
            battery=self.battery,
            inverter=None if self.battery is None else InverterSpec(ac_limit_kw=6.0),
            pv=None
            if self.battery is None
            else Profile(start_at=SITE_START, step_s=3600, power_kw=np.zeros(1)),
            charger=ChargerSpec(fallback_current_a=6.0, timeout_s=600.0) if self.vehicle else None,
            sessions=(
                Session(
                    plug_in_at=SITE_START,
                    plug_out_at=SITE_START + timedelta(hours=12),
                    wished_kwh=60.0,
                    max_kw=7.4,
                ),
            )
            if self.vehicle
            else (),
            import_limit_kw=self.most_import_kw,
            export_limit_kw=self.export_limit_kw,
        )

    @property
    def most_import_kw(self) -> float:
        """What the home may draw [kW]."""
        return self.import_limit_kw if self.event_kw is None else min(self.import_limit_kw, self.event_kw)

    def site(self, home: ServedHome, broker_port: int | None) -> str:
        """Describe it to the service; with a broker, a building controller listens there."""
        roles = {
            "meter": "grid_meter",
            "inverter": "hybrid_inverter, rated_kw: 6.0, conversion_eff_frac: 0.97",
            "charger": "charger",
        }
        devices = "\n".join(
            f"      {device.role}: {{endpoint: '{device.endpoint}', unit_id: 1, driver: {device.driver}, "
            f"role: {roles[device.role]}}}"
            for device in home.devices
        )
        assets = ""
        if self.battery is not None:
            assets += (
                "\n      - {kind: battery, name: battery, device: inverter, "
                f"capacity_kwh: {self.battery.capacity_kwh}, charge_limit_kw: {self.battery.charge_limit_kw}, "
                f"discharge_limit_kw: {self.battery.discharge_limit_kw}}}"
            )
        if self.vehicle:
            assets += (
                "\n      - {kind: vehicle, name: car, device: charger, charge_limit_kw: 7.4, charge_min_kw: 4.14, "
                'wished_kwh: 60, ready_by_local: "08:00"}'
            )
        hub = (
            ""
            if broker_port is None
            else f"\n    controllers: {{hub: {{channel: mqtt, broker: 'mqtt://127.0.0.1:{broker_port}'}}}}"
        )
        backup = "\n    backup: {reserve_frac: 0.1, outage_h: 2}" if self.island else ""
        tariff = TARIFF.format(first=self.first_per_kwh, then=self.then_per_kwh).replace("\n", "\n  ")
        return (
            f"  - id: {self.name}\n    name: {self.name}\n"
            f"    connection: {{import_limit_kw: {self.import_limit_kw}, export_limit_kw: {self.export_limit_kw}}}"
            f"{hub}{backup}{tariff}\n    devices:\n{devices}\n    assets:{assets}\n"
        )


DEFAULTS = """\
defaults:
  time_zone: Etc/UTC
  currency: EUR
  country: PT
  latitude_deg: 38.7
  longitude_deg: -9.1
  owner: {name: Scenario}
  consents: {control_storage: true, control_vehicle: true, curtail_solar: true}
sites:
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Something a device was seen to hold."""

    at: datetime
    """Site time."""
    site_id: str
    asset: str
    value_kw: float | None
    """None: its own mode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look(Held):
    """A moment at which a device holds something."""

    left_s: float | None
    """What its own timer has left before it reverts [site s]; None: no timer runs."""


@dataclass(kw_only=True)
class Cast:
    """The homes of a stage, and what was seen of them."""

    clock: ScaledClock
    plays: Mapping[str, Play]
    homes: Mapping[str, ServedHome]
    knobs: Mapping[str, Knob]
    orders: list[Held] = field(default_factory=list)
    """Every change of what a device holds, in order."""
    looks: list[Look] = field(default_factory=list)
    """What was held at every look."""

    def set_load(self, name: str, power_kw: float) -> None:
        """Change a home's load at this instant."""
        home = self.homes[name]
        home.advance()
        self.knobs[name].power_kw = power_kw
        home.physics.settle()

    def held(self, name: str) -> dict[str, float | None]:
        """Return what the devices of a home hold now, by asset [kW]; None is the device's own mode."""
        home = self.homes[name]
        home.advance()
        orders, play = home.physics.orders, self.plays[name]
        found: dict[str, float | None] = {}
        if play.battery is not None:
            # a window of no width is a setpoint
            found["battery"] = orders.battery_high_kw
        if play.vehicle and home.spec.charger is not None:
            own = orders.charge_current_a == home.spec.charger.fallback_current_a
            found["car"] = None if own else orders.charge_current_a * 3 * 230.0 / 1000.0
        return found

    def set_grid(self, name: str, *, lost: bool) -> None:
        """Take the public grid away, or give it back."""
        physics = self.homes[name].physics
        self.homes[name].advance()
        if lost:
            physics.lose_grid()
        else:
            physics.return_grid()

    def over_limit_s(self, name: str) -> float:
        """Return how long the home has been above a limit of its connection, or as an island in the dark [site s]."""
        home = self.homes[name]
        home.advance()
        if self.plays[name].island:
            return home.totals.unserved_kwh / self.plays[name].load_kw * 3600.0
        return home.totals.import_violation_s + home.totals.export_violation_s

    async def keep_looking(self) -> None:
        """Note every change of what devices hold, until cancelled."""
        last: dict[tuple[str, str], float | None] = {}
        while True:
            at = self.clock.now()
            for name in self.homes:
                for asset, value in self.held(name).items():
                    if (name, asset) not in last or last[name, asset] != value:
                        last[name, asset] = value
                        self.orders.append(Held(at=at, site_id=name, asset=asset, value_kw=value))
                    if value is not None:
                        left_s = self._left_s(name, asset)
                        self.looks.append(
                            Look(at=at, site_id=name, asset=asset, value_kw=value, left_s=left_s)
                        )
            await asyncio.sleep(0.05)

    def _left_s(self, name: str, asset: str) -> float | None:
        physics = self.homes[name].physics
        orders = physics.orders
        if asset == "car":
            return orders.charger_heard_s + orders.charger_timeout_s - physics.now_s
        return None if orders.battery_until_s is None else orders.battery_until_s - physics.now_s

    async def seconds(self, wall_s: float) -> None:
        """Let time pass."""
        await asyncio.sleep(wall_s)

    async def until(self, ready: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Wait for something; fails when it does not come about in time."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + within_s
        while not ready():
            assert loop.time() < end_s, f"not within {within_s:.0f} s: {what}"
            await asyncio.sleep(0.1)


class Broker:
    """A Mosquitto of the stage's own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"user {getpass.getuser()}\nlistener {self.port} 127.0.0.1\nallow_anonymous true\n",
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns before it listens, as everybody must bear."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert program is not None, "mosquitto is not installed"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program, "-c", self._config], stdout=log, stderr=log)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def clients(self) -> int:
        """Return how often somebody connected so far."""
        return self._log.read_text(encoding="utf-8").count("New client connected")


@dataclass(kw_only=True)
class Instance:
    """One process of the service."""

    port: int
    process: asyncio.subprocess.Process
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def health(self) -> dict[str, object] | None:
        """Return what it says of itself; None while it does not answer."""
        async with httpx.AsyncClient(timeout=2.0) as client:
            with suppress(httpx.HTTPError):
                return dict((await client.get(f"{self.url}/healthz")).json())
        return None

    async def metric(self, name: str) -> float | None:
        """Return a value it counts."""
        async with httpx.AsyncClient(timeout=5.0) as client:
            for line in (await client.get(f"{self.url}/metrics")).text.splitlines():
                if line.startswith(f"{name} ") or line.startswith(f"{name}{{"):
                    return float(line.rsplit(" ", 1)[1])
        return None

    async def says(self, status: str, *, leader: int | None = None, within_s: float = 60.0) -> None:
        """Wait until it calls itself that, and names a process as the leader."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + within_s
        health = None
        while loop.time() < end_s:
            assert self.process.returncode is None, f"it ended by itself: {self.tail()}"
            health = await self.health()
            named = leader is None or (health is not None and f"process {leader}" in str(health["leader"]))
            if health is not None and health["status"] == status and named:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"not {status} within {within_s:.0f} s but {health}; {self.tail()}")

    def kill(self) -> None:
        """`kill -9`."""
        os.kill(self.process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End it as a service manager does."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), timeout=30)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()

    def tail(self, lines: int = 12) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@dataclass(kw_only=True)
class Stage:
    """A cast, a store, and the instances of the service that play on it."""

    folder: Path
    cast: Cast
    store_url: str
    site_file: Path
    broker: "Broker | None"
    stack: AsyncExitStack
    instances: list[Instance] = field(default_factory=list)
    _store: Store | None = None

    @property
    def store(self) -> Store:
        """The record, opened when first asked for."""
        if self._store is None:
            self._store = Store.open(self.store_url)
            self.stack.callback(self._store.close)
        return self._store

    def announce_events(self) -> None:
        """Put on record what the plays' events ask, from the beginning to the end."""
        for name, one in self.cast.plays.items():
            if one.event_kw is not None:
                self.store.save_order(
                    Order(
                        id=f"event-{name}",
                        site_id=name,
                        by="scenario",
                        kind=OrderKind.IMPORT_LIMIT,
                        from_at=SITE_START - timedelta(days=1),
                        until_at=SITE_START + timedelta(days=1),
                        source=SetpointSource.EVENT,
                        value_kw=one.event_kw,
                    )
                )

    @property
    def sabotage_file(self) -> Path:
        return self.folder / "sabotage.json"

    def sabotage(self, **wrong: object) -> None:
        """Make parts of the service fail; none given: mend everything."""
        partial = self.sabotage_file.with_suffix(".partial")
        partial.write_text(json.dumps(wrong), encoding="utf-8")
        partial.replace(self.sabotage_file)

    async def start(
        self, *, sabotaged: bool = False, port: int | None = None, **environment: str
    ) -> Instance:
        """Start an instance of the service."""
        port = free_port() if port is None else port
        log = self.folder / f"service-{len(self.instances)}.log"
        command = ["-m", "ems", "run", "--port", str(port), str(self.site_file)]
        if sabotaged:
            command = [
                "-m",
                "tests.scenarios.sabotaged",
                str(port),
                str(self.sabotage_file),
                str(self.site_file),
            ]
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                stdout=out,
                stderr=out,
                stdin=asyncio.subprocess.DEVNULL,
                env={
                    **os.environ,
                    "EMS_STORE": self.store_url,
                    "EMS_INTERVAL_MIN": str(INTERVAL_MIN),
                    "EMS_HORIZON_H": "24",
                    "EMS_FAST_LOOP_S": "0.5",
                    "EMS_REPLAY_CLOCK": str(self.cast.clock),
                    "EMS_DEMO": "yes",
                    "OMP_NUM_THREADS": "1",
                    **environment,
                },
            )
        instance = Instance(port=port, process=process, log=log)
        self.instances.append(instance)
        self.stack.push_async_callback(instance.stop)
        return instance

    def setpoints(self, name: str) -> Sequence[DeliveredSetpoint]:
        """Return every setpoint on record for a home."""
        return self.store.setpoints(
            name, SITE_START - timedelta(days=1), SITE_START + timedelta(days=9), 100_000
        )


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def staged(
    folder: Path,
    plays: Sequence[Play],
    *,
    store_url: str | None = None,
    speed: float = SPEED,
    with_broker: bool = False,
) -> AsyncIterator[Stage]:
    """Serve the homes of some plays; the service is started by whoever stages them."""
    clock = ScaledClock(site_start_at=SITE_START, wall_start_at=datetime.now(UTC), speed=speed)
    knobs = {play.name: Knob(play.load_kw) for play in plays}
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            serve([play.spec(knobs[play.name]) for play in plays], clock=clock.now)
        )
        cast = Cast(
            clock=clock,
            plays={play.name: play for play in plays},
            homes={home.spec.name: home for home in served},
            knobs=knobs,
        )
        broker = Broker(folder) if with_broker else None
        if broker is not None:
            broker.start()
            stack.callback(broker.kill)
        site_file = folder / "sites.yaml"
        site_file.write_text(
            DEFAULTS
            + "".join(
                play.site(cast.homes[play.name], None if broker is None else broker.port) for play in plays
            ),
            encoding="utf-8",
        )
        looking = asyncio.create_task(cast.keep_looking())
        stack.callback(looking.cancel)
        stage = Stage(
            folder=folder,
            cast=cast,
            store_url=store_url or f"sqlite:///{folder / 'ems.sqlite'}",
            site_file=site_file,
            broker=broker,
            stack=stack,
        )
        yield stage


BIG_BATTERY = BatterySpec(capacity_kwh=24.0, charge_limit_kw=4.0, discharge_limit_kw=4.0, stored_frac=0.25)
"""Takes longer to fill than the cheap hours last."""
CHARGING = Play(
    name="charging",
    load_kw=1.0,
    step_kw=3.5,
    import_limit_kw=6.0,
    battery=BIG_BATTERY,
)
DISCHARGING = Play(
    name="discharging",
    load_kw=3.0,
    step_kw=0.4,
    import_limit_kw=10.0,
    export_limit_kw=1.0,
    battery=replace(BIG_BATTERY, stored_frac=0.9),
    first_per_kwh=DEAR,
    then_per_kwh=CHEAP,
)
EVENT = Play(
    name="event",
    load_kw=0.5,
    step_kw=2.5,
    import_limit_kw=10.0,
    event_kw=3.5,
    battery=BIG_BATTERY,
)
ISLAND = Play(
    name="island",
    load_kw=1.0,
    step_kw=2.0,
    import_limit_kw=6.0,
    island=True,
    battery=BIG_BATTERY,
)
VEHICLE = Play(name="vehicle", load_kw=1.0, step_kw=4.0, import_limit_kw=9.0, vehicle=True)
