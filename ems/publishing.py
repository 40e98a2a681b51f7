"""Setpoint: write, read back, record what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from drivers import Applied, Clamped, Device, Receipt, Refused, Unverified
from ems.errors import UnknownAsset
from ems.setpoints import Quantity, Setpoint
from ems.site import SITE, Site


class DeliveryOutcome(StrEnum):
    """What became of a setpoint at its device."""

    APPLIED = "applied"
    """The device holds it, seen by reading back."""
    CLAMPED = "clamped"
    """The device holds something nearer to its limits."""
    REFUSED = "refused"
    """Nothing was changed."""
    UNVERIFIED = "unverified"
    """Sent, but the device could not be seen to hold it."""
    SENT = "sent"
    """Handed to the controller that carries it out; its acknowledgement replaces this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What came of one setpoint."""

    setpoint_id: str
    """The setpoint."""
    site_id: str
    """The site."""
    asset: str
    """The asset."""
    outcome: DeliveryOutcome
    """What became of it."""
    held_kw: float | None
    """What the device holds now [kW]; None when it is in its own mode or unknown."""
    at: datetime
    """When that was known (aware UTC)."""
    written: bool
    """False when the device held it already and nothing was sent."""
    detail: str
    """Why it was clamped, refused or left unverified; empty when applied."""
    underway: bool = False
    """Whether a ramp cut it: asked again, the device goes on towards it."""

    @classmethod
    def of(
        cls,
        setpoint: Setpoint,
        outcome: DeliveryOutcome,
        *,
        held_kw: float | None,
        at: datetime,
        written: bool,
        detail: str,
        underway: bool = False,
    ) -> Self:
        """Return what came of a setpoint."""
        return cls(
            setpoint_id=setpoint.id,
            site_id=setpoint.site_id,
            asset=setpoint.asset,
            outcome=outcome,
            held_kw=held_kw,
            at=at,
            written=written,
            detail=detail,
            underway=underway,
        )


Journal = Callable[[Sequence[Setpoint]], Awaitable[None]]
"""Keeps setpoints durably; returns once they are."""


async def publish(
    devices: Mapping[tuple[str, str], Device],
    sites: Mapping[str, Site],
    setpoints: Sequence[Setpoint],
    *,
    journal: Journal,
    now: Callable[[], datetime] | None = None,
) -> tuple[Delivery, ...]:
    """Write setpoints to their devices, all at once, one after the other within a device.

    Parameters
    ----------
    devices
        By (site id, device name).
    sites
        By id.
    setpoints
        What to write.
    journal
        Called first: a setpoint that reached a device is on record even if the service dies on the way. It also hands
        setpoints to building controllers, which carry out those of the assets that name one.
    now
        Site time. A device is given what is left of a setpoint's validity when it is written, however long it took to
        get there; without a clock, all of it.
    """
    if setpoints:
        await journal(setpoints)
    by_device: dict[tuple[str, str], list[Setpoint]] = {}
    kept: list[Delivery] = []
    sent: list[Delivery] = []
    for setpoint in setpoints:
        if setpoint.asset == SITE:
            kept.append(_kept_here(setpoint))
            continue
        asset = sites[setpoint.site_id].asset(setpoint.asset)
        if asset is None:
            raise UnknownAsset(f"{setpoint.site_id} has no asset {setpoint.asset!r}")
        if asset.controller is not None:
            sent.append(_sent(setpoint, asset.controller))
            continue
        by_device.setdefault((setpoint.site_id, asset.device), []).append(setpoint)
    written = await asyncio.gather(
        *(_write_all(devices[key], group, now) for key, group in by_device.items())
    )
    return (*kept, *(delivery for group in written for delivery in group), *sent)


def _sent(setpoint: Setpoint, controller: str) -> Delivery:
    """Return what is known of a setpoint that whoever journals it has handed to a controller."""
    return Delivery.of(
        setpoint,
        DeliveryOutcome.SENT,
        held_kw=None,
        at=setpoint.valid_from,
        written=True,
        detail=f"by controller {controller}",
    )


async def _write_all(
    device: Device, setpoints: Sequence[Setpoint], now: Callable[[], datetime] | None
) -> list[Delivery]:
    return [_delivery(setpoint, await _write(device, setpoint, now)) for setpoint in setpoints]


async def _write(device: Device, setpoint: Setpoint, now: Callable[[], datetime] | None) -> Receipt:
    at = setpoint.valid_from if now is None else max(setpoint.valid_from, now())
    valid_s = (setpoint.valid_until - at).total_seconds()
    if valid_s <= 0.0 and setpoint.value_kw is not None:
        return Refused(
            control=setpoint.quantity,
            asked=setpoint.value_kw,
            at=at,
            rule="expired",
            reason=f"valid until {setpoint.valid_until.isoformat()}, its turn came at {at.isoformat()}",
        )
    match setpoint.quantity:
        case Quantity.BATTERY_POWER:
            return await device.write_battery_power(setpoint.value_kw or 0.0, valid_s=valid_s)
        case Quantity.GENERATION_LIMIT:
            return await device.limit_generation(setpoint.value_kw, valid_s=valid_s)
        case Quantity.VEHICLE_LIMIT:
            return await device.limit_charge(setpoint.value_kw or 0.0, valid_s=valid_s)
        case Quantity.OWN_MODE:
            return await device.release()
        case Quantity.CONSUMPTION_LIMIT:
            return await device.limit_consumption(setpoint.value_kw, valid_s=valid_s)
        case Quantity.IMPORT_LIMIT | Quantity.EXPORT_LIMIT:
            raise ValueError(f"{setpoint.id}: a limit of the connection is not written to a device")


def _kept_here(setpoint: Setpoint) -> Delivery:
    """Return what comes of a limit of the connection: no single device holds it, the loop keeps it."""
    return Delivery.of(
        setpoint,
        DeliveryOutcome.APPLIED,
        held_kw=setpoint.value_kw,
        at=setpoint.valid_from,
        written=False,
        detail="",
    )


def _delivery(setpoint: Setpoint, receipt: Receipt) -> Delivery:
    outcome, held_kw, written, detail = _told(receipt)
    return Delivery.of(
        setpoint,
        outcome,
        held_kw=held_kw,
        at=receipt.at,
        written=written,
        detail=detail,
        underway=isinstance(receipt, Clamped) and receipt.underway,
    )


def _told(receipt: Receipt) -> tuple[DeliveryOutcome, float | None, bool, str]:
    match receipt:
        case Applied():
            return DeliveryOutcome.APPLIED, receipt.value, receipt.written, ""
        case Clamped():
            return DeliveryOutcome.CLAMPED, receipt.value, receipt.written, receipt.limit
        case Refused():
            return DeliveryOutcome.REFUSED, None, False, f"{receipt.rule}: {receipt.reason}"
        case Unverified():
            return DeliveryOutcome.UNVERIFIED, None, True, receipt.reason
