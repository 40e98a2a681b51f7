"""What may break, what a home may be doing meanwhile, and what must hold all the same: one table.

Rows are faults, columns are what a home is doing. In every cell the fault begins, the home's load then steps so that
only a service that still works keeps the limit of its connection, the fault ends, and `test_fault_matrix.py` asks:

- `limit_within_s`: the connection's limit was broken for no longer than this, all together; an island has no connection, there
  it is the time in the dark;
- no setpoint outlived its validity, and every device had a timer of at most that length while it held one;
- nothing a device took is missing on record, and every setpoint on record has its outcome;
- `recovers_within_s`: so long after the end of the fault an optimal plan is made and acted on again, by nobody's hand.

Times are wall seconds on a machine with other work; site time runs SPEED times faster.
"""

import asyncio
import os
import resource
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from tests.scenarios.stage import (
    CHARGING,
    DISCHARGING,
    EVENT,
    ISLAND,
    SPEED,
    VALID_S,
    VEHICLE,
    Instance,
    Play,
    Stage,
)

ONE_LOOP_S = 5.0
"""A service that works: a pass, a device that takes its time, a store that is waited for."""
EXPIRY_S = VALID_S / SPEED + 4.0
"""A service that does not: what it asked for last runs out at the device, which then keeps the limit by itself."""
BACK_S = 90.0
"""To be planned for and steered again, a restart and a device's back-off included."""

Breaks = Callable[[Stage, Instance], AbstractAsyncContextManager[None]]
"""Breaks something for as long as its block lasts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One row."""

    name: str
    breaks: Breaks
    limit_within_s: float
    recovers_within_s: float = BACK_S
    lasts_s: float = EXPIRY_S + 2.0
    """Long enough to see a setpoint run out."""
    sabotaged: bool = False
    """Whether it needs the service with parts that can be made to fail."""
    with_broker: bool = False
    """Whether building controllers listen at a broker meanwhile."""
    clock_off_s: float = 0.0
    """By how much the service's clock is wrong meanwhile [site s]."""
    longer_in: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    """Columns in which the limit may be broken for longer, how long, and why."""
    not_for: Mapping[str, str] = field(default_factory=dict)
    """Columns it cannot apply to, and why."""

    def limit_in(self, column: str) -> float:
        """Return how long the connection's limit may be broken in a column [wall s]."""
        return self.longer_in[column][0] if column in self.longer_in else self.limit_within_s


@asynccontextmanager
async def killed(stage: Stage, service: Instance) -> AsyncIterator[None]:
    """`kill -9`; started again at the end, as a service manager would."""
    service.kill()
    await service.process.wait()
    yield
    await stage.start(port=service.port)


@asynccontextmanager
async def blocked(stage: Stage, service: Instance) -> AsyncIterator[None]:
    """The event loop stands still; in the end the service manager misses the sign of life and starts it anew."""
    stage.sabotage(loop="freezes")
    yield
    stage.sabotage()
    async with killed(stage, service):
        pass


@asynccontextmanager
async def frozen(stage: Stage, service: Instance) -> AsyncIterator[None]:
    """The process stands still, as on a machine that is suspended or starved."""
    os.kill(service.process.pid, signal.SIGSTOP)
    yield
    os.kill(service.process.pid, signal.SIGCONT)


@asynccontextmanager
async def database_locked(stage: Stage, service: Instance) -> AsyncIterator[None]:
    """Another process holds the database's write lock."""
    rival = sqlite3.connect(
        stage.folder / "ems.sqlite", isolation_level=None, timeout=10, check_same_thread=False
    )
    await asyncio.to_thread(rival.execute, "BEGIN IMMEDIATE")
    yield
    rival.execute("ROLLBACK")
    rival.close()


@asynccontextmanager
async def disk_full(stage: Stage, service: Instance) -> AsyncIterator[None]:
    """No file of the service may grow, nor be written beyond its first byte."""
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    yield
    resource.prlimit(
        service.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )


@asynccontextmanager
async def broker_down(stage: Stage, service: Instance) -> AsyncIterator[None]:
    """`kill -9` of Mosquitto; the channels find it again by themselves."""
    broker = stage.broker
    assert broker is not None
    connected = broker.clients()
    assert connected, "else the case says nothing"
    broker.kill()
    yield
    broker.start()
    await stage.cast.until(
        lambda: broker.clients() > connected, within_s=BACK_S, what="the channel connects again"
    )


def devices(*roles: str, **faults: object) -> Breaks:
    """Break devices of every home: those of these roles that it has."""

    @asynccontextmanager
    async def breaks(stage: Stage, service: Instance) -> AsyncIterator[None]:
        switched = []
        for home in stage.cast.homes.values():
            for role in roles:
                if role in home.stations:
                    station = home.stations[role][1]
                    for name, value in faults.items():
                        switched.append((station.faults, name, getattr(station.faults, name)))
                        setattr(station.faults, name, value)
                    if faults.get("refuse_connections"):
                        for client in tuple(station.clients):
                            client.abort()
        yield
        for where, name, value in switched:
            setattr(where, name, value)

    return breaks


def parts(**wrong: object) -> Breaks:
    """Make parts of the service fail."""

    @asynccontextmanager
    async def breaks(stage: Stage, service: Instance) -> AsyncIterator[None]:
        stage.sabotage(**wrong)
        yield
        stage.sabotage()

    return breaks


STEERED = ("inverter", "charger")
EVERYTHING = ("meter", *STEERED)
FAULTS = (
    Fault(name="service killed", breaks=killed, limit_within_s=EXPIRY_S),
    Fault(name="event loop blocked", breaks=blocked, limit_within_s=EXPIRY_S, sabotaged=True),
    Fault(name="service frozen", breaks=frozen, limit_within_s=EXPIRY_S),
    Fault(name="database locked", breaks=database_locked, limit_within_s=ONE_LOOP_S),
    Fault(name="disk full", breaks=disk_full, limit_within_s=ONE_LOOP_S),
    Fault(name="broker down", breaks=broker_down, limit_within_s=ONE_LOOP_S, with_broker=True),
    Fault(name="device silent", breaks=devices(*STEERED, silent=True), limit_within_s=EXPIRY_S),
    Fault(name="meter silent", breaks=devices("meter", silent=True), limit_within_s=EXPIRY_S),
    Fault(name="device late", breaks=devices(*EVERYTHING, delay_s=0.2), limit_within_s=EXPIRY_S),
    Fault(
        name="device lies",
        breaks=devices(*STEERED, ignore_writes=True),
        limit_within_s=EXPIRY_S,
        longer_in={
            "vehicle": (
                2 * EXPIRY_S + 2.0,
                "the only thing in the home that could give way takes no orders, and being read keeps its timer alive",
            )
        },
    ),
    Fault(name="meter lies", breaks=devices("meter", frozen=True), limit_within_s=EXPIRY_S + 5.0),
    Fault(name="solver slow", breaks=parts(solver="slow"), limit_within_s=ONE_LOOP_S, sabotaged=True),
    Fault(name="solver hangs", breaks=parts(solver="hangs"), limit_within_s=ONE_LOOP_S, sabotaged=True),
    Fault(name="solver fails", breaks=parts(solver="fails"), limit_within_s=ONE_LOOP_S, sabotaged=True),
    Fault(name="forecast missing", breaks=parts(forecast="missing"), limit_within_s=ONE_LOOP_S, sabotaged=True),
    Fault(
        name="clock forward",
        breaks=parts(clock_off_s=1500.0),
        limit_within_s=ONE_LOOP_S,
        sabotaged=True,
        clock_off_s=1500.0,
    ),
    Fault(
        name="clock back",
        breaks=parts(clock_off_s=-1500.0),
        limit_within_s=ONE_LOOP_S,
        sabotaged=True,
        clock_off_s=-1500.0,
    ),
    Fault(
        name="network cut",
        breaks=devices(*EVERYTHING, silent=True, refuse_connections=True),
        limit_within_s=EXPIRY_S,
    ),
)  # fmt: skip
COLUMNS: Mapping[str, Play] = {play.name: play for play in (CHARGING, DISCHARGING, VEHICLE, EVENT, ISLAND)}
