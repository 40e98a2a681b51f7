"""Reading: devices to one frozen snapshot.

All devices of all sites are read at once; a device that does not answer costs the others nothing and appears in the
snapshot with its cause.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from drivers import Capability, Device, DeviceMemory, DeviceReading, Quality, Sample, Unit

__all__ = [
    "Capability",
    "Device",
    "DeviceMemory",
    "Quality",
    "Sample",
    "SiteReading",
    "Snapshot",
    "Unit",
    "take_snapshot",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteReading:
    """Everything the devices of one site said at one instant."""

    site_id: str
    """The site."""
    samples: Mapping[str, Sample]
    """By `device.quantity`, e.g. `meter.net_import_kw`."""
    troubles: Mapping[str, str]
    """Devices that could not be read, with the cause in one line."""

    def usable(self, device: str, quantity: str) -> float | None:
        """Return the value when there is one and no rule rejected it, else None."""
        found = self.samples.get(f"{device}.{quantity}")
        return found.value if found is not None and found.usable else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The frozen input of a cycle."""

    at: datetime
    """Instant the reading was asked for: the start of the interval to plan (aware UTC)."""
    sites: tuple[SiteReading, ...]
    """One per site, in the order of the batch."""


async def take_snapshot(
    devices: Mapping[tuple[str, str], Device], site_ids: tuple[str, ...], *, at: datetime
) -> Snapshot:
    """Read every device of every site, all at once.

    Parameters
    ----------
    devices
        By (site id, device name).
    site_ids
        The batch, in order.
    at
        The instant the snapshot stands for.
    """
    keys = sorted(devices)
    readings = await asyncio.gather(*(devices[key].read() for key in keys))
    by_site = {
        site_id: tuple(group)
        for site_id, group in groupby(zip(keys, readings, strict=True), key=lambda pair: pair[0][0])
    }
    return Snapshot(at=at, sites=tuple(_of_site(site_id, by_site.get(site_id, ())) for site_id in site_ids))


def _of_site(site_id: str, readings: tuple[tuple[tuple[str, str], DeviceReading], ...]) -> SiteReading:
    return SiteReading(
        site_id=site_id,
        samples={
            f"{name}.{quantity}": sample
            for (_, name), reading in readings
            for quantity, sample in reading.samples.items()
        },
        troubles={
            name: reading.trouble.detail for (_, name), reading in readings if reading.trouble is not None
        },
    )
