"""What can be done at an address without a site: find devices, share one. Loads nothing but the field layer."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from drivers import DriverError, LinkPool
from drivers.protocols import Trouble
from drivers.proxy import share
from drivers.scan import parse_units, scan
from ems.clock import SystemClock
from ems.errors import EmsError

Tell = Callable[[str], None]


def scan_endpoint(endpoint: str, units: str, tell: Tell, asked: Callable[[int], None] | None = None) -> int:
    """Ask every unit of an endpoint who it is; returns how many answered.

    Parameters
    ----------
    asked
        Told how many units were asked so far.
    """
    return asyncio.run(_scan(endpoint, wanted_units(units), tell, asked or (lambda _: None)))


def wanted_units(text: str) -> Sequence[int]:
    """Read `1`, `1-10` or `1,100,126`; raises EmsError."""
    try:
        return parse_units(text)
    except ValueError as error:
        raise EmsError(f"--units: {error}") from error


def share_endpoint(endpoint: str, tell: Tell, *, host: str, port: int, allow_writes: bool) -> None:
    """Let others use a device that accepts one connection, until interrupted."""
    asyncio.run(_share(endpoint, tell, host, port, allow_writes))


async def _share(endpoint: str, tell: Tell, host: str, port: int, allow_writes: bool) -> None:
    async with LinkPool(clock=SystemClock().now, read_only=not allow_writes) as links:
        try:
            async with share(
                endpoint, links=links, host=host, port=port, allow_writes=allow_writes
            ) as shared:
                tell(
                    f"{endpoint} is shared at {shared}, {'writes pass' if allow_writes else 'read only'}; end with Ctrl-C"
                )
                await asyncio.Event().wait()
        except DriverError as error:
            raise EmsError(str(error)) from error
        except OSError as error:
            raise EmsError(
                f"--port {port}: cannot listen on {host}: {error.strerror}; choose another"
            ) from error


async def _scan(endpoint: str, units: Sequence[int], tell: Tell, asked: Callable[[int], None]) -> int:
    def counted() -> Iterator[int]:
        for number, unit in enumerate(units):
            asked(number)
            yield unit

    found = 0
    async with LinkPool(clock=SystemClock().now, read_only=True, timeout_s=0.5) as links:
        try:
            links.link(endpoint)
        except DriverError as error:
            raise EmsError(str(error)) from error
        async for answer in scan(endpoint, links=links, units=counted()):
            if isinstance(answer, Trouble):
                raise EmsError(f"{endpoint}: {answer.detail}; check address, cable and power")
            found += 1
            who = (
                "unknown device"
                if answer.identity is None
                else f"{answer.identity.maker} {answer.identity.model}"
            )
            driver = answer.driver or (
                f"one of {', '.join(answer.candidates)}" if answer.candidates else "none known"
            )
            tell(f"unit {answer.unit_id}: {who}; driver: {driver}")
            if answer.quantities:
                tell(f"  gives {', '.join(answer.quantities)}")
            if answer.controls:
                tell(f"  accepts {', '.join(answer.controls)}")
    return found
