"""Find devices: which units answer at an endpoint, and what they are. Reads only."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from drivers.device_file import IdentitySpec, device_file_names
from drivers.file_device import FileDevice, load_device_file, passes, place_register
from drivers.frames import READ_HOLDING
from drivers.identity import Identity
from drivers.modbus import Link, LinkError, LinkPool
from drivers.protocols import Trouble, TroubleKind
from drivers.reading import quantities_of
from drivers.registers import raw_value
from drivers.sunspec.learning import learn as learn_sunspec

_GATEWAY_SILENCE = (10, 11)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A unit that answered."""

    endpoint: str
    """Where it answers."""
    unit_id: int
    """Modbus unit."""
    driver: str | None
    """Driver to use; None when nothing known matches, or several match equally well."""
    identity: Identity | None
    """Who it says it is."""
    quantities: tuple[str, ...] = ()
    """What it would give."""
    controls: tuple[str, ...] = ()
    """What it would accept."""
    candidates: tuple[str, ...] = ()
    """Every device file whose tests pass, most specific first."""


async def scan(
    endpoint: str, *, links: LinkPool, units: Iterable[int] = range(1, 248)
) -> AsyncIterator[Found | Trouble]:
    """Ask every unit of an endpoint who it is.

    Yields a `Found` per unit that answers, as soon as it is known; a single `Trouble` when the endpoint itself cannot
    be reached. Give the pool a short time-out: each silent unit costs one.
    """
    link = links.link(endpoint)
    for unit in units:
        trouble = await _alive(link, unit)
        if trouble is None:
            yield await _recognise(link, unit)
        elif trouble.kind in (TroubleKind.UNREACHABLE, TroubleKind.BACKING_OFF):
            yield trouble
            return


async def _alive(link: Link, unit: int) -> Trouble | None:
    """None when a unit answers anything, even a refusal of its own."""
    try:
        await link.read(unit, READ_HOLDING, 40000, 2)
    except LinkError as error:
        code = error.trouble.exception_code
        answered = error.trouble.kind is TroubleKind.EXCEPTION and code not in _GATEWAY_SILENCE
        return None if answered else error.trouble
    return None


async def _recognise(link: Link, unit: int) -> Found:
    endpoint = link.endpoint.text
    try:
        identity, found = await learn_sunspec(link, unit)
    except LinkError:
        return await _recognise_by_files(link, unit)
    return Found(
        endpoint=endpoint,
        unit_id=unit,
        driver="sunspec",
        identity=identity,
        quantities=tuple(sorted(quantities_of(found))),
        controls=tuple(found.controls),
        candidates=("sunspec",),
    )


async def _recognise_by_files(link: Link, unit: int) -> Found:
    shown: dict[tuple[str, int, int], bytes | None] = {}
    matches: list[tuple[int, str]] = []
    for name in sorted(device_file_names()):
        weight = await _match(link, unit, load_device_file(name), shown)
        if weight:
            matches.append((weight, name))
    matches.sort(key=lambda match: (-match[0], match[1]))
    candidates = tuple(name for _, name in matches)
    clear = len(matches) == 1 or (len(matches) > 1 and matches[0][0] > matches[1][0])
    found = Found(
        endpoint=link.endpoint.text, unit_id=unit, driver=None, identity=None, candidates=candidates
    )
    if not clear:
        return found
    device = load_device_file(candidates[0])
    try:
        identity, device_map = await device.learn(link, unit)
    except LinkError:
        return found
    return Found(
        endpoint=link.endpoint.text,
        unit_id=unit,
        driver=candidates[0],
        identity=identity,
        quantities=tuple(sorted(quantities_of(device_map))),
        controls=tuple(device_map.controls),
        candidates=candidates,
    )


async def _match(
    link: Link, unit: int, device: FileDevice, shown: dict[tuple[str, int, int], bytes | None]
) -> int:
    """How telling the passed tests of a file are; 0 when a required one fails."""
    weight = 0
    for test in device.spec.identity:
        if not await _test_passes(link, unit, test, shown):
            return 0
        weight += 1 if test.between is not None else 3
    for hint in device.spec.hints:
        weight += await _test_passes(link, unit, hint, shown)
    return weight


async def _test_passes(
    link: Link, unit: int, test: IdentitySpec, shown: dict[tuple[str, int, int], bytes | None]
) -> bool:
    """Whether one test passes; answers are kept for the next files."""
    key = (test.table.value, test.address, test.size)
    if key not in shown:
        try:
            shown[key] = await link.read(unit, test.table.read_function, test.address, test.size)
        except LinkError:
            shown[key] = None
    data = shown[key]
    return data is not None and passes(test, raw_value(place_register("identity", test), data))


def parse_units(text: str) -> Sequence[int]:
    """`1`, `1-5,240` -> units; ValueError names what is wrong."""
    units: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        try:
            first, last = int(low), int(high or low)
        except ValueError:
            raise ValueError(f"units {text!r}: {part!r} is not a number or a range such as 1-247") from None
        if not 0 <= first <= last <= 255:
            raise ValueError(f"units {text!r}: {part!r} is not within 0..255")
        units += range(first, last + 1)
    return list(dict.fromkeys(units))
