"""Conduct: whether devices do what they were asked, measured. Pure.

An acknowledgement says that a setpoint was taken; only the meter says that it was followed. Each asset has a score that
sinks while what is measured contradicts what is asked and rises while it agrees. An asset whose score has sunk is
derated: it runs its own mode and plans do without it, until it has behaved on trial. The same looks make the delivery
score of each single setpoint, which is known when the setpoint ends.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from ems.readings import SiteReading
from ems.setpoints import Quantity, Setpoint
from ems.site import BatteryAsset, PvAsset, Role, Site, VehicleAsset
from ems.state import SiteState

SETTLES_S = 10.0
"""A device may take this long to follow; before, nothing is held against it [s]."""
MEMORY_S = 60.0
"""Time constant of the score [s]: a minute of contradiction brings it from 1 to 0.37."""
LONGEST_STEP_S = 30.0
"""One look counts for at most this much time, however rarely one looks [s]."""
DERATED_BELOW = 0.3
"""Score at which an asset loses trust: about 70 s of doing something else."""
TRUSTED_ABOVE = 0.9
"""Score at which one on trial has it again: about two minutes of doing what it is asked."""
ON_TRIAL = 0.5
"""Score a trial begins with."""
FIRST_TRIAL_AFTER = timedelta(minutes=15)
"""How long a first derating lasts; each one that follows a failed trial lasts twice as long."""
LAST_TRIAL_AFTER = timedelta(hours=6)
"""No derating lasts longer than this before the next trial."""
LEAST_TOLERANCE_KW = 0.15
TOLERANCE_SHARE = 0.08
"""What is measured may differ by this share of the asset's rating, or by `LEAST_TOLERANCE_KW` where that is more."""


class Trust(StrEnum):
    """How far an asset is relied on."""

    TRUSTED = "trusted"
    """Plans count on it."""
    DERATED = "derated"
    """It did not do what it was asked; plans do without it."""
    TRIAL = "trial"
    """It is asked again, and watched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conduct:
    """How one asset has followed what it was asked."""

    score: float = 1.0
    """0 never, 1 always, the last minute counting most."""
    trust: Trust = Trust.TRUSTED
    """What follows from it."""
    until: datetime | None = None
    """End of a derating (aware UTC)."""
    derated_for: timedelta = timedelta()
    """How long the present or latest derating lasts; grows with every failed trial."""
    looked_at: datetime | None = None
    """When it was last judged (aware UTC)."""
    cause: str = ""
    """What was seen when trust was last lost."""


Conducts = Mapping[str, Mapping[str, Conduct]]
"""By site and asset; an asset that is not in it is trusted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What one look at an asset says."""

    followed: bool
    """Whether it does what it was asked."""
    asked_kw: float
    """What was asked [kW]."""
    measured_kw: float
    """What it does [kW]."""

    @property
    def apart_kw(self) -> float:
        """How far it is from what was asked [kW]."""
        return abs(self.measured_kw - self.asked_kw)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryScore:
    """How one setpoint was followed while it was in force, as measured."""

    setpoint_id: str
    """The setpoint."""
    watched_s: float
    """How long that could be said: its device had had time to settle, and nothing else kept it from following [s]."""
    followed_frac: float
    """Share of that time in which what was measured agreed with what was asked, 0 to 1."""
    apart_kw: float
    """How far the two were apart while they did not agree, as a mean over all that time [kW]."""


def verdict(
    site: Site,
    setpoint: Setpoint,
    reading: SiteReading,
    state: SiteState,
    *,
    held_kw: float | None,
    asked_at: datetime,
) -> Verdict | None:
    """Return whether an asset does what it was asked; None where that cannot be said.

    Parameters
    ----------
    site, setpoint
        The site and what was asked of an asset of it.
    reading, state
        What the devices say now.
    held_kw
        What the device acknowledged [kW], where it clamped; None: what was asked.
    asked_at
        When the asset was first asked for this power (aware UTC).
    """
    value_kw = setpoint.value_kw if held_kw is None else held_kw
    if value_kw is None or (state.at - asked_at).total_seconds() < SETTLES_S:
        return None
    match site.asset(setpoint.asset), setpoint.quantity:
        case BatteryAsset() as battery, Quantity.BATTERY_POWER:
            measured_kw = state.powers.battery_kw.get(battery.name)
            if measured_kw is None or not _can_follow(site, battery, value_kw, reading, state):
                return None
            apart_kw = abs(measured_kw - value_kw)
            rating_kw = max(battery.charge_limit_kw, battery.discharge_limit_kw)
        case VehicleAsset() as vehicle, Quantity.VEHICLE_LIMIT:
            measured_kw = state.powers.vehicle_kw.get(vehicle.name)
            if measured_kw is None:
                return None
            apart_kw, rating_kw = measured_kw - value_kw, vehicle.charge_limit_kw
        case PvAsset() as pv, Quantity.GENERATION_LIMIT:
            drawn_kw = reading.usable(pv.device, "net_consumption_kw")
            if drawn_kw is None:
                return None
            measured_kw, rating_kw = -drawn_kw, pv.rated_kw
            apart_kw = measured_kw - value_kw
        case _:
            return None  # own modes, limits of the connection, and switches, which show what they hold
    tolerance_kw = max(LEAST_TOLERANCE_KW, TOLERANCE_SHARE * rating_kw)
    return Verdict(followed=apart_kw <= tolerance_kw, asked_kw=value_kw, measured_kw=measured_kw)


def _can_follow(
    site: Site, battery: BatteryAsset, value_kw: float, reading: SiteReading, state: SiteState
) -> bool:
    """Tell whether nothing but the battery's will is between it and what is asked: filling and inverter leave room."""
    stored_kwh = state.stored_kwh.get(battery.name)
    if stored_kwh is None:
        return False
    frac = stored_kwh / battery.capacity_kwh
    if (value_kw > 0.0 and frac > 0.95) or (value_kw < 0.0 and frac < battery.reserve_frac + 0.05):
        return False
    device = site.devices[battery.device]
    ac_kw = reading.usable(battery.device, "net_consumption_kw")
    busy = device.rated_kw is not None and ac_kw is not None and abs(ac_kw) > 0.95 * device.rated_kw
    return not (device.role is Role.HYBRID_INVERTER and busy)


def judged(conduct: Conduct, seen: Verdict | None, *, at: datetime) -> Conduct:
    """Return the conduct after one look; a derating that is over becomes a trial."""
    if conduct.trust is Trust.DERATED:
        if conduct.until is not None and at < conduct.until:
            return conduct
        return replace(conduct, trust=Trust.TRIAL, score=ON_TRIAL, until=None, looked_at=at)
    if seen is None:
        return replace(conduct, looked_at=at)
    weight = 1.0 - math.exp(-_since_s(conduct.looked_at, at) / MEMORY_S)
    score = conduct.score + weight * (float(seen.followed) - conduct.score)
    now = replace(conduct, score=score, looked_at=at)
    if score < DERATED_BELOW:
        lasts = min(max(2 * conduct.derated_for, FIRST_TRIAL_AFTER), LAST_TRIAL_AFTER)
        cause = f"asked {seen.asked_kw:g} kW, measured {seen.measured_kw:g} kW"
        return replace(now, trust=Trust.DERATED, until=at + lasts, derated_for=lasts, cause=cause)
    if conduct.trust is Trust.TRIAL and score > TRUSTED_ABOVE:
        return replace(now, trust=Trust.TRUSTED, derated_for=timedelta())
    return now


def _since_s(looked_at: datetime | None, at: datetime) -> float:
    """Return how much time a look speaks for [s]; the first, and one after the clock was set back, for none."""
    if looked_at is None:
        return 0.0
    return min(max((at - looked_at).total_seconds(), 0.0), LONGEST_STEP_S)


def without_derated(site: Site, conducts: Conducts) -> Site:
    """Return the site as plans and the loop may steer it: derated assets are left out."""
    derated = {name for name, conduct in conducts.get(site.id, {}).items() if conduct.trust is Trust.DERATED}
    if not derated:
        return site
    return replace(site, assets=tuple(asset for asset in site.assets if asset.name not in derated))


@dataclass(kw_only=True, slots=True)
class _Watch:
    """What has been seen of the setpoint an asset has in force."""

    setpoint_id: str
    looked_at: datetime
    watched_s: float = 0.0
    followed_s: float = 0.0
    apart_kws: float = 0.0

    def add(self, seen: Verdict | None, at: datetime) -> None:
        lasted_s = _since_s(self.looked_at, at)
        self.looked_at = at
        if seen is None:
            return
        self.watched_s += lasted_s
        if seen.followed:
            self.followed_s += lasted_s
        else:
            self.apart_kws += seen.apart_kw * lasted_s

    def score(self) -> DeliveryScore | None:
        """Return the score; None where nothing could be said."""
        if self.watched_s <= 0.0:
            return None
        return DeliveryScore(
            setpoint_id=self.setpoint_id,
            watched_s=self.watched_s,
            followed_frac=self.followed_s / self.watched_s,
            apart_kw=self.apart_kws / self.watched_s,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What one look at a site says."""

    changed: tuple[tuple[str, Conduct], ...]
    """Assets whose trust changed, with their conduct now."""
    ended: tuple[DeliveryScore, ...]
    """Scores of setpoints that were in force at the look before and are no more."""


@dataclass(kw_only=True, slots=True)
class ConductBook:
    """Follows the conduct of every asset between two cycles."""

    conducts: dict[str, dict[str, Conduct]] = field(default_factory=dict)
    """By site and asset."""
    _asked_at: dict[tuple[str, str], tuple[float, datetime]] = field(default_factory=dict)
    """What each asset was last asked for, and since when: a renewal of the same power is no new request."""
    _watches: dict[tuple[str, str], _Watch] = field(default_factory=dict)

    def adopt(self, conducts: Conducts) -> None:
        """Take over what a record knows, of sites that are not followed yet."""
        for site_id, assets in conducts.items():
            self.conducts.setdefault(site_id, dict(assets))

    def look(
        self,
        site: Site,
        asked: Sequence[Setpoint],
        held_kw: Mapping[str, float | None],
        reading: SiteReading,
        state: SiteState,
    ) -> Look:
        """Judge what is in force at a site.

        Parameters
        ----------
        site
            The site as configured.
        asked
            Setpoints in force.
        held_kw
            What devices clamped them to, by setpoint id.
        reading, state
            What the devices say now.
        """
        book = self.conducts.setdefault(site.id, {})
        changed: list[tuple[str, Conduct]] = []
        ended: list[DeliveryScore] = []
        by_asset = {setpoint.asset: setpoint for setpoint in asked}
        for name in sorted({asset.name for asset in site.assets} & (by_asset.keys() | book.keys())):
            before = book.get(name, Conduct())
            setpoint = by_asset.get(name)
            watch = self._watches.get((site.id, name))
            if watch is not None and (setpoint is None or setpoint.id != watch.setpoint_id):
                score = self._watches.pop((site.id, name)).score()
                ended += [] if score is None else [score]
                watch = None
            seen = None
            if setpoint is not None and setpoint.value_kw is not None:
                key = (site.id, name)
                since = self._asked_at.get(key)
                if since is None or abs(since[0] - setpoint.value_kw) > LEAST_TOLERANCE_KW:
                    since = self._asked_at[key] = (setpoint.value_kw, setpoint.valid_from)
                seen = verdict(
                    site, setpoint, reading, state, held_kw=held_kw.get(setpoint.id), asked_at=since[1]
                )
                if watch is None:
                    watch = self._watches[site.id, name] = _Watch(setpoint_id=setpoint.id, looked_at=state.at)
                watch.add(seen, state.at)
            now = book[name] = judged(before, seen, at=state.at)
            if now.trust is not before.trust:
                changed.append((name, now))
        return Look(changed=tuple(changed), ended=tuple(ended))
