"""Put homes on real Modbus TCP sockets."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from drivers.protocols import Clock
from drivers.twin.home import HomeSpec, Totals


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedDevice:
    """Where one device of a home answers."""

    name: str
    """`<home>.<role>`."""
    role: Literal["meter", "inverter", "charger"]
    """What it is."""
    driver: str
    """Value for `open_device(driver=...)`."""
    endpoint: str
    """Value for `open_device(endpoint=...)`."""
    unit_id: int
    """Value for `open_device(unit_id=...)`."""


class ServedHome:
    """A home on the air, with its ground truth."""

    spec: HomeSpec
    devices: tuple[ServedDevice, ...]

    def advance(self) -> None:
        """Bring the home up to the clock."""
        raise NotImplementedError

    @property
    def totals(self) -> Totals:
        """Ground truth up to the last `advance` or request."""
        raise NotImplementedError

    @property
    def stored_frac(self) -> float | None:
        """True filling of the battery."""
        raise NotImplementedError


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
        Aware UTC; may run faster than the wall clock. It starts at the first instant simulated.
    host
        Address to listen on.
    first_port
        Ports count up from here, device by device; 0 lets the system choose.
    """
    yield ()
