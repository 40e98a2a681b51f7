"""Put homes on real Modbus TCP sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from drivers.protocols import Clock
from drivers.twin.charger import DRIVER as CHARGER_DRIVER
from drivers.twin.charger import Charger
from drivers.twin.der import DerInverter
from drivers.twin.faults import Faults
from drivers.twin.heat_pump import HeatPump
from drivers.twin.hybrid import HybridInverter
from drivers.twin.meters import FileMeter, ShowsHome, SunSpecMeter
from drivers.twin.physics import HomePhysics
from drivers.twin.server import Station, serve_tcp
from drivers.twin.specs import HomeSpec, Totals
from drivers.twin.switch import DRIVER as SWITCH_DRIVER
from drivers.twin.switch import Switch

Role = Literal["meter", "inverter", "charger", "heat_pump", "switch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedDevice:
    """Where one device of a home answers."""

    name: str
    """`<home>.<role>`."""
    role: Role
    """What it is."""
    driver: str
    """Value for `open_device(driver=...)`."""
    endpoint: str
    """Value for `open_device(endpoint=...)`."""
    unit_id: int
    """Value for `open_device(unit_id=...)`."""


class ServedHome:
    """A home with its devices, its ground truth and the faults its devices can be given."""

    def __init__(self, spec: HomeSpec, clock: Clock) -> None:
        self.spec = spec
        self.devices: tuple[ServedDevice, ...] = ()
        self._clock = clock
        self._physics = HomePhysics(spec, clock())
        self._stations: dict[Role, tuple[str, Station]] = {}
        self._reboots: dict[Role, Callable[[], None]] = {}
        self._build()

    def advance(self) -> None:
        """Bring the home up to the clock."""
        self._physics.advance(self._clock())

    def faults(self, role: Role) -> Faults:
        """Switches of one device."""
        return self._stations[role][1].faults

    def reboot(self, role: Role) -> None:
        """Cut a device's power for a moment: settings kept in RAM are lost."""
        self.advance()
        self._reboots[role]()

    @property
    def stations(self) -> dict[Role, tuple[str, Station]]:
        """Driver name and register station per device, to serve them elsewhere (serial line, TLS)."""
        return dict(self._stations)

    @property
    def physics(self) -> HomePhysics:
        """State and flows up to the last `advance` or request."""
        return self._physics

    @property
    def totals(self) -> Totals:
        """Ground truth up to the last `advance` or request."""
        return self._physics.totals

    @property
    def stored_frac(self) -> float | None:
        """True filling of the battery."""
        return self._physics.stored_frac

    def _build(self) -> None:
        spec, physics = self.spec, self._physics
        faults = Faults()
        meter: ShowsHome
        if spec.meter == "sunspec":
            meter = SunSpecMeter(physics, faults, serial=f"{spec.name}-M")
        else:
            meter = FileMeter(physics, faults, driver=spec.meter)
        self._add("meter", spec.meter, meter, faults)
        if spec.inverter is not None:
            faults = Faults()
            front = DerInverter if spec.inverter.models == "700" else HybridInverter
            inverter = front(physics, faults, serial=f"{spec.name}-I")
            self._reboots["inverter"] = inverter.reboot
            self._add("inverter", "sunspec", inverter, faults)
        if spec.charger is not None:
            faults = Faults()
            charger = Charger(physics, spec.charger, faults)
            self._reboots["charger"] = charger.reboot
            self._add("charger", CHARGER_DRIVER, charger, faults)
        if spec.heat_pump is not None:
            heat_pump = HeatPump(physics, driver=spec.heat_pump.driver)
            self._add("heat_pump", spec.heat_pump.driver, heat_pump, Faults())
        if spec.switched_kw is not None:
            switch = Switch(physics)
            self._reboots["switch"] = switch.reboot
            self._add("switch", SWITCH_DRIVER, switch, Faults())

    def _add(self, role: Role, driver: str, front: ShowsHome, faults: Faults) -> None:
        def refresh() -> None:
            self.advance()
            front.refresh()

        front.image.refresh = refresh
        self._reboots.setdefault(role, _nothing_to_lose)
        self._stations[role] = (driver, Station(units={1: front.image}, faults=faults))


def _hang_up(server: asyncio.Server, station: Station) -> None:
    server.close()
    for client in tuple(station.clients):
        client.abort()


def _nothing_to_lose() -> None:
    """A meter keeps nothing in RAM that a reboot could change."""


@asynccontextmanager
async def serve(
    homes: Sequence[HomeSpec], *, clock: Clock, host: str = "127.0.0.1", first_port: int = 0
) -> AsyncIterator[tuple[ServedHome, ...]]:
    """Serve every device of every home on its own port until the context ends.

    Parameters
    ----------
    homes
        What to simulate.
    clock
        Aware UTC; may run faster than the wall clock. What it says now is the first instant simulated.
    host
        Address to listen on.
    first_port
        Ports count up from here, device by device; 0 lets the system choose.
    """
    served = tuple(ServedHome(spec, clock) for spec in homes)
    port = first_port
    async with AsyncExitStack() as stack:
        for home in served:
            devices = []
            for role, (driver, station) in home.stations.items():
                server = await serve_tcp(station, host, port)
                stack.callback(_hang_up, server, station)
                taken = server.sockets[0].getsockname()[1]
                devices.append(
                    ServedDevice(
                        name=f"{home.spec.name}.{role}",
                        role=role,
                        driver=driver,
                        endpoint=f"tcp://{host}:{taken}",
                        unit_id=1,
                    )
                )
                port += 1 if first_port else 0
            home.devices = tuple(devices)
        yield served
