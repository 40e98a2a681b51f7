"""Two homes with measured load and sun on real sockets: what tests of the whole run on."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from drivers import LinkPool, known_drivers
from drivers.twin import HomeSpec, ServedHome, serve
from ems.clock import ManualClock
from ems.config import load_sites
from ems.cycle import Ports
from ems.demo.field import endpoints
from ems.demo.street import START_AT, home_spec, recording, site_file, street, vehicle_sessions
from ems.foresight import Foresight
from ems.planning import solve_in_process
from ems.setpoints import Setpoint
from ems.site import Site
from ems.wiring import make_foresight, make_meters, open_devices

STEP_S = 900
NOON = START_AT.astimezone(UTC) + timedelta(hours=12)


@dataclass(frozen=True, kw_only=True, slots=True)
class Street:
    """A served street and the parts of a service on it."""

    homes: tuple[ServedHome, ...]
    sites: tuple[Site, ...]
    ports: Ports
    clock: ManualClock
    journalled: list[Setpoint]

    def advance(self, to: datetime) -> None:
        """Move site time; the homes follow."""
        self.clock.at = to
        for home in self.homes:
            home.advance()


@asynccontextmanager
async def served_street(
    folder: Path,
    *,
    count: int = 2,
    at: datetime = NOON,
    horizon: int = 96,
    taught: bool = True,
    respec: Callable[[HomeSpec], HomeSpec] = lambda spec: spec,
    rebuild: Callable[[Site, ServedHome], Site] = lambda site, home: site,
) -> AsyncIterator[Street]:
    """Serve `count` homes of the demo and wire a service to them; nothing runs by itself.

    `respec` changes what is installed in each, `rebuild` what its site file says of it.
    """
    clock = ManualClock(at=at)
    homes = street(count)
    recorded = recording()
    sessions = vehicle_sessions()
    specs = [respec(home_spec(home, recorded, sessions)) for home in homes]
    async with serve(specs, clock=clock.now) as served:
        path = folder / "street.yaml"
        named = {
            home: {name: at for name, at in devices.items() if name != "switch"}
            for home, devices in endpoints(served).items()
        }
        path.write_text(site_file(homes, named), encoding="utf-8")
        loaded = load_sites(path, known_drivers=known_drivers())
        sites = tuple(rebuild(site, home) for site, home in zip(loaded, served, strict=True))
        foresight = make_foresight(sites, {site.id: folder for site in sites}, step_s=STEP_S, horizon=horizon)
        if taught:
            teach(foresight, sites, at)
        journalled: list[Setpoint] = []

        async def journal(setpoints: Sequence[Setpoint]) -> None:
            journalled.extend(setpoints)

        async with LinkPool(clock=clock.now, timeout_s=2.0) as links:
            yield Street(
                homes=served,
                sites=sites,
                ports=Ports(
                    devices=open_devices(sites, links),
                    meters=make_meters(sites, step_s=STEP_S, readings={}, at=None),
                    foresight=foresight,
                    solve=solve_in_process,
                    valid_for=timedelta(minutes=30),
                    journal=journal,
                ),
                clock=clock,
                journalled=journalled,
            )


def teach(foresight: Foresight, sites: Sequence[Site], at: datetime) -> None:
    """Show the forecasters the recording up to `at`."""
    recorded = recording()
    known = int((at - recorded.start_at) / recorded.step)

    def columns(quantity: str) -> np.ndarray:
        series = [recorded.columns[f"{site.id}.{quantity}"][:known] for site in sites]
        return np.repeat(np.stack(series), 3600 // STEP_S, axis=1)

    foresight.past.overlay(recorded.start_at, columns("load_kw"), columns("pv_kw"))
