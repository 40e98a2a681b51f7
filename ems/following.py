"""Following: when the fast loop acts on what it sees, and how far. Pure functions of frozen values.

A household's load is never measured: it is what the meter shows less what the devices draw, each read at its own instant.
While a battery is on its way to a new power the two do not fit together, and a loop that believed the difference would
answer its own echo. So a change of power opens a *swing*: until meter and devices agree again, load is only known to lie
between two bounds, what was decided is kept, and only a limit that is broken for certain is answered at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How quickly setpoints follow the meter."""

    dead_band_kw: float = 0.05
    """A setpoint that moved less than this is not written again [kW]."""
    dwell: timedelta = timedelta(seconds=3)
    """Least time a setpoint is kept; also the time a meter needs to show what a device has done."""
    longest_dwell: timedelta = timedelta(seconds=12)
    """Longest time to wait for a device that does not arrive; what it draws then is taken as it is."""
    arrived_kw: float = 0.1
    """A device this near to its setpoint has arrived [kW]."""
    arrived_frac: float = 0.05
    """The same as a share of the setpoint; the larger counts."""
    vehicle_pause: timedelta = timedelta(minutes=2)
    """A vehicle that was paused stays paused at least this long."""
    spare_frac: float = 0.15
    """Share of a write budget that is kept for limits and renewals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swing:
    """A change of power under way."""

    began_at: datetime
    """When it was written."""
    low_kw: float
    """Least the devices may draw together until it is over [kW]."""
    high_kw: float
    """Most the devices may draw together until it is over [kW]."""
    meter_kw: float
    """What the meter showed when it was decided [kW]; the same number again is an old answer."""
    arrived_at: datetime | None = None
    """Since when the devices show what they were asked for; None while they do not."""


def swing_after(
    before: Swing | None, *, at: datetime, drawn_kw: float, change_kw: float, meter_kw: float
) -> Swing:
    """Return the swing a written change opens, or adds to.

    Parameters
    ----------
    before
        The swing under way, if any.
    at
        When the change was written.
    drawn_kw
        What all devices drew together then [kW].
    change_kw
        How much more they are to draw [kW].
    meter_kw
        What the meter showed [kW].
    """
    low_kw, high_kw = min(drawn_kw, drawn_kw + change_kw), max(drawn_kw, drawn_kw + change_kw)
    if before is not None:
        low_kw, high_kw = min(low_kw, before.low_kw), max(high_kw, before.high_kw)
    return Swing(began_at=at, low_kw=low_kw, high_kw=high_kw, meter_kw=meter_kw)


def seen_again(swing: Swing, *, at: datetime, apart_kw: float) -> Swing:
    """Return the swing after another look at the devices, which are `apart_kw` from what counts as arrived [kW]."""
    return replace(swing, arrived_at=(swing.arrived_at or at) if apart_kw <= 0.0 else None)


def is_over(swing: Swing, *, at: datetime, meter_kw: float, pace: Pace) -> bool:
    """Tell whether meter and devices may be believed again: they have arrived, and the meter had time to see it."""
    since = at - swing.began_at
    if since >= pace.longest_dwell or since < timedelta(0):
        return True
    arrived = swing.arrived_at is not None and at - swing.arrived_at >= pace.dwell
    return arrived and meter_kw != swing.meter_kw


def certain_load_kw(swing: Swing, *, believed_kw: float, meter_kw: float, drawn_kw: float) -> float:
    """Return the load that is nearest to the one believed so far and possible with what is seen now [kW]."""
    low_kw = meter_kw - max(swing.high_kw, drawn_kw)
    high_kw = meter_kw - min(swing.low_kw, drawn_kw)
    return min(max(believed_kw, low_kw), high_kw)


def beyond_arrival_kw(asked_kw: float, shown_kw: float, pace: Pace) -> float:
    """Return how far a device is from its setpoint beyond what counts as arrived [kW]; 0 when it is there."""
    return max(0.0, abs(asked_kw - shown_kw) - max(pace.arrived_kw, pace.arrived_frac * abs(asked_kw)))


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteBudget:
    """Writes a register still bears: a quarter of a day's at once, the rest spread over the day."""

    per_day: int
    """Writes per register and day."""
    at: datetime
    """When `left` was true."""
    left: float
    """Writes left then."""

    @classmethod
    def full(cls, per_day: int, at: datetime) -> "WriteBudget":
        """Return an unspent budget."""
        return cls(per_day=per_day, at=at, left=max(1.0, per_day / 4.0))

    @property
    def at_once(self) -> float:
        """Most writes that can be left."""
        return max(1.0, self.per_day / 4.0)

    def now(self, at: datetime) -> "WriteBudget":
        """Return what is left at a later instant."""
        gained = max(0.0, (at - self.at).total_seconds()) * (self.per_day - self.at_once) / DAY_S
        return replace(self, at=at, left=min(self.at_once, self.left + gained))

    def spent(self) -> "WriteBudget":
        """Return what is left after one write."""
        return replace(self, left=self.left - 1.0)

    @property
    def left_frac(self) -> float:
        """Share of the most that can be left."""
        return max(0.0, self.left / self.at_once)


def band_kw(budget: WriteBudget, pace: Pace) -> float | None:
    """Return how far a setpoint must have moved to be worth a write now [kW]; None when no write is left for that.

    The scarcer writes are, the wider the band: a home whose load jumps all day is followed roughly all day instead of
    exactly until noon. It settles where as many writes are spent as come back.
    """
    left_frac = budget.left_frac - pace.spare_frac
    if left_frac <= 0.0:
        return None
    return pace.dead_band_kw * (1.0 - pace.spare_frac) / left_frac


def longest_validity(per_day: Mapping[str, int], *, usual: timedelta) -> timedelta:
    """Return how long setpoints hold so that renewing them takes at most a quarter of the scarcest write budget.

    A setpoint is renewed when half of its validity is over.
    """
    scarcest = min(per_day.values(), default=None)
    if scarcest is None:
        return usual
    return max(usual, timedelta(seconds=2.0 * DAY_S / (0.25 * scarcest)))
