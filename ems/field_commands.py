"""What can be done at an address without a site: find devices, share one. Loads nothing but the field layer."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from drivers import DriverError, LinkPool
from drivers.modbus import Link, LinkError
from drivers.protocols import Trouble
from drivers.proxy import share
from drivers.scan import parse_units, scan
from drivers.sunspec.survey import survey
from ems.clock import SystemClock
from ems.errors import EmsError

Tell = Callable[[str], None]


def scan_endpoint(
    endpoint: str,
    units: str,
    tell: Tell,
    *,
    points: bool = False,
    asked: Callable[[int], None] = lambda _: None,
) -> int:
    """Ask every unit of an endpoint who it is; returns how many answered.

    Parameters
    ----------
    points
        Also tell every point of every SunSpec model found.
    asked
        Told how many units were asked so far.
    """
    return asyncio.run(_scan(endpoint, wanted_units(units), tell, points, asked))


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


async def _scan(
    endpoint: str, units: Sequence[int], tell: Tell, points: bool, asked: Callable[[int], None]
) -> int:
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
            who = "unknown device" if answer.identity is None else answer.identity.name
            driver = answer.driver or (
                f"one of {', '.join(answer.candidates)}" if answer.candidates else "none known"
            )
            tell(f"unit {answer.unit_id}: {who}; driver: {driver}")
            if answer.quantities:
                tell(f"  gives {', '.join(answer.quantities)}")
            if answer.controls:
                tell(f"  accepts {', '.join(answer.controls)}")
            if points and answer.driver == "sunspec":
                await _tell_points(links.link(endpoint), answer.unit_id, tell)
    return found


async def _tell_points(link: Link, unit: int, tell: Tell) -> None:
    """Tell every implemented point, as the device itself names and signs it."""
    try:
        found = await survey(link, unit)
    except LinkError as error:
        tell(f"  its points could not be read: {error.trouble.detail}")
        return
    for point in found:
        if point.value is not None:
            shown = point.value if isinstance(point.value, str) else f"{point.value:.10g}"
            tell(f"  {point.model_id}.{point.path} = {shown} {point.units}".rstrip())
