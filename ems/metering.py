"""From samples and counters to energy per interval.

Counters decide where a device has them and they only rose; mean power over the samples fills in where it has not, and
the interval is then marked `estimated`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ems.readings import Quality, Sample, SiteReading
from ems.site import Role, Site
from ems.state import MeasuredInterval, SitePowers, site_powers

COVERED_SHARE = 0.8
"""Samples must span this share of an interval for their mean to stand for all of it."""
SPARSE_SHARE = 0.5
"""A gap between samples longer than this share of an interval makes their mean an estimate."""
COUNTER_SLACK = 1.5
"""A counter may not rise faster than this multiple of what the connection or rating can carry."""


@dataclass(slots=True)
class _Channel:
    """Energy of one power, by the trapezoid between samples."""

    last_kw: float | None = None
    last_at: datetime | None = None
    kwh: float = 0.0
    hours: float = 0.0
    widest_h: float = 0.0

    def note(self, at: datetime, kw: float | None, *, longest: timedelta) -> None:
        if kw is not None and self.last_kw is not None and self.last_at is not None:
            gap = at - self.last_at
            if timedelta(0) < gap <= longest:
                hours = gap.total_seconds() / 3600.0
                self.kwh += 0.5 * (kw + self.last_kw) * hours
                self.hours += hours
                self.widest_h = max(self.widest_h, hours)
        self.last_kw, self.last_at = kw, at

    def take(self, hours: float, count: int) -> tuple[float | None, bool]:
        """Return the mean energy of the `count` intervals just ended and whether samples were sparse; begin the next."""
        covered, kwh, sparse = self.hours, self.kwh, self.widest_h > SPARSE_SHARE * hours
        self.kwh = self.hours = self.widest_h = 0.0
        return (kwh * hours / covered if covered >= COVERED_SHARE * hours * count else None), sparse


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterMarks:
    """Counters as they stood at the last interval boundary."""

    at: datetime
    """The boundary."""
    kwh: Mapping[str, float]
    """By `device.quantity`, cumulative [kWh]."""


@dataclass(slots=True)
class SiteMeter:
    """Adds up one site between two interval boundaries."""

    site: Site
    step_s: int
    """Length of an interval [s]."""
    marks: CounterMarks | None = None
    """Counters at the last boundary; survives a restart through the cycle record."""
    curtailed: bool = False
    """Whether solar power was held back since the boundary."""
    disturbed: bool = False
    """Whether the clock was set since the boundary: the interval is longer or shorter than it claims."""
    _channels: dict[str, _Channel] = field(default_factory=dict)
    unsettled: tuple[MeasuredInterval, ...] = ()
    """Closed intervals that are in no record yet: kept, should a cycle fail after it closed them."""

    def note(self, at: datetime, powers: SitePowers) -> None:
        """Add one set of simultaneous powers."""
        net_kw = powers.net_import_kw
        battery_kw = powers.total_battery_kw
        parts = {
            "import": None if net_kw is None else max(0.0, net_kw),
            "export": None if net_kw is None else max(0.0, -net_kw),
            "load": powers.load_kw,
            "pv": powers.total_pv_kw,
            "charged": None if battery_kw is None else max(0.0, battery_kw),
            "discharged": None if battery_kw is None else max(0.0, -battery_kw),
            "vehicle": powers.total_vehicle_kw,
        }
        longest = timedelta(seconds=2 * self.step_s)
        for name, kw in parts.items():
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel()
            channel.note(at, kw, longest=longest)

    def close(
        self, reading: SiteReading, *, at: datetime, stored_kwh: float | None
    ) -> tuple[MeasuredInterval, ...]:
        """End the interval at boundary `at` and return what it held: several when boundaries were missed, none at first.

        Energy that counters saw over missed boundaries is spread evenly over them and marked `estimated`: nothing is
        lost, and nothing is claimed to be known to the quarter hour.
        """
        self.note(at, site_powers(self.site, reading))
        if self.marks is not None and at <= self.marks.at:
            return ()
        before, self.marks = self.marks, CounterMarks(at=at, kwh=self.counters(reading))
        hours = self.step_s / 3600.0
        spans = 1 if before is None else round((at - before.at).total_seconds() / self.step_s)
        missed = max(0, spans - 1)
        count = missed + 1
        sampled = {name: channel.take(hours, count) for name, channel in self._channels.items()}
        if before is None:
            return ()
        risen = self._risen(before, self.marks)
        energy: dict[str, float | None] = {}
        disturbed, self.disturbed = self.disturbed, False
        filled = missed > 0 or disturbed
        for name, (kwh, sparse) in sampled.items():
            counted = risen.get(name)
            energy[name] = kwh if counted is None else counted / count
            filled = filled or (counted is None and (sparse or self._is_counted(name)))
        if missed or disturbed or energy["load"] is None:
            energy["load"] = self._balance(energy)
            filled = True
        curtailed, self.curtailed = self.curtailed, False
        closed = tuple(
            MeasuredInterval(
                site_id=self.site.id,
                start_at=at - timedelta(seconds=self.step_s * (count - index)),
                hours=hours,
                import_kwh=energy["import"],
                export_kwh=energy["export"],
                load_kwh=energy["load"],
                pv_kwh=energy["pv"],
                charged_kwh=energy["charged"],
                discharged_kwh=energy["discharged"],
                vehicle_kwh=energy["vehicle"],
                stored_kwh=stored_kwh if index == count - 1 else None,
                quality=Quality.ESTIMATED if filled else Quality.GOOD,
                curtailed=curtailed,
            )
            for index in range(count)
        )
        self.unsettled += closed
        return closed

    def disturb(self) -> None:
        """The clock was set: what lies between two samples around it is no span, and this interval is an estimate."""
        self.disturbed = True
        for channel in self._channels.values():
            channel.last_at = None

    def forget(self) -> None:
        """Begin anew, as at a first start: the clock had been wrong, so nothing here can be laid to an interval."""
        self.marks = None
        self.disturbed = False
        self._channels.clear()
        self.unsettled = ()

    def settle(self) -> None:
        """Forget the unsettled intervals: they are in a record now."""
        self.unsettled = ()

    def _is_counted(self, channel: str) -> bool:
        """Tell whether the site has something whose devices should count this channel."""
        absent = {
            "pv": not self.site.pvs,
            "charged": not self.site.batteries,
            "discharged": not self.site.batteries,
            "vehicle": not self.site.vehicles,
        }
        return channel in _COUNTED and not absent.get(channel, False)

    def counters(self, reading: SiteReading) -> dict[str, float]:
        """Return the energy counters of a reading that can be used, by `device.quantity` [kWh]."""
        return {
            key: sample.value
            for key, sample in reading.samples.items()
            if key.rsplit(".", 1)[1] in _COUNTERS and sample.usable and sample.value is not None
        }

    def _risen(self, before: CounterMarks, now: CounterMarks) -> dict[str, float]:
        """Return the rise per channel, only where every device that feeds it has a counter that behaved."""
        hours = (now.at - before.at).total_seconds() / 3600.0
        risen: dict[str, float] = {}
        for name, (role_names, quantity) in _COUNTED.items():
            keys = [
                f"{device}.{quantity}" for device, ref in self.site.devices.items() if ref.role in role_names
            ]
            rises = [self._rise(before.kwh.get(key), now.kwh.get(key), hours) for key in keys]
            if name == "vehicle":
                rises = [
                    self._session_rise(before.kwh, now.kwh, key, hours) if rise is None else rise
                    for key, rise in zip(keys, rises, strict=True)
                ]
            known = [rise for rise in rises if rise is not None]
            if keys and len(known) == len(keys):
                risen[name] = sum(known)
        return risen

    def _rise(self, before: float | None, now: float | None, hours: float) -> float | None:
        if before is None or now is None or now < before:
            return None
        biggest_kw = max(
            [self.site.connection.import_limit_kw, self.site.connection.export_limit_kw]
            + [device.rated_kw or 0.0 for device in self.site.devices.values()]
            + [pv.rated_kw for pv in self.site.pvs]
        )
        rise = now - before
        return rise if rise <= COUNTER_SLACK * biggest_kw * max(hours, 1.0 / 60) else None

    def _session_rise(
        self, before: Mapping[str, float], now: Mapping[str, float], key: str, hours: float
    ) -> float | None:
        """Return what a charger without a lifetime counter gave [kWh]: its session's rise; after a fall, a new session's."""
        session = key.replace("vehicle_kwh", "session_kwh")
        was, is_now = before.get(session), now.get(session)
        if was is None or is_now is None:
            return None
        return self._rise(was if is_now >= was else 0.0, is_now, hours)

    def _balance(self, energy: Mapping[str, float | None]) -> float | None:
        """Load from what counters saw, across a gap: import - export + solar - storage - vehicle, with conversion losses."""
        parts = [energy[name] for name in ("import", "export", "pv", "charged", "discharged")]
        vehicle = energy["vehicle"] if self.site.vehicles else 0.0
        if any(part is None for part in parts) or vehicle is None:
            return None
        imported, exported, pv, charged, discharged = (part or 0.0 for part in parts)
        from_inverter = conversion(self.site, pv + discharged - charged)
        return max(0.0, imported - exported + from_inverter - vehicle)


def counted_kwh(site: Site, samples: Mapping[str, Sample]) -> dict[str, float]:
    """Return what the devices of a site have counted in all [kWh], by channel; one that is not fully counted is left out."""
    counted: dict[str, float] = {}
    for name, (roles, quantity) in _COUNTED.items():
        found = [
            samples.get(f"{device}.{quantity}") for device, ref in site.devices.items() if ref.role in roles
        ]
        known = [one.value for one in found if one is not None and one.usable and one.value is not None]
        if found and len(known) == len(found):
            counted[name] = sum(known)
    return counted


def conversion(site: Site, dc_kwh: float) -> float:
    """Return the AC energy of a DC energy, + given to the site [kWh]; sites without a hybrid inverter count AC already."""
    hybrid = [device for device in site.devices.values() if device.role is Role.HYBRID_INVERTER]
    if not hybrid:
        return dc_kwh
    eff = hybrid[0].conversion_eff_frac
    return dc_kwh * eff if dc_kwh >= 0 else dc_kwh / eff


_INVERTERS = (Role.PV_INVERTER, Role.HYBRID_INVERTER)
_STORES = (Role.BATTERY_INVERTER, Role.HYBRID_INVERTER)
_COUNTED: Mapping[str, tuple[tuple[Role, ...], str]] = {
    "import": ((Role.GRID_METER,), "import_kwh"),
    "export": ((Role.GRID_METER,), "export_kwh"),
    "pv": (_INVERTERS, "pv_kwh"),
    "charged": (_STORES, "charged_kwh"),
    "discharged": (_STORES, "discharged_kwh"),
    "vehicle": ((Role.CHARGER,), "vehicle_kwh"),
}
_COUNTERS = frozenset(quantity for _, quantity in _COUNTED.values()) | {"session_kwh"}
