"""The planning schedule: APScheduler on the grid of site time, whatever speed that runs at."""

from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

from ems.clock import Clock, interval_start, next_interval_start


class GridTrigger(BaseTrigger):  # type: ignore[misc]
    """Fires at every boundary of the planning grid (UTC), aligned to the epoch, not to the start of the process."""

    def __init__(self, clock: Clock, step_s: int) -> None:
        self._clock = clock
        self._step_s = step_s

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the wall instant at which site time reaches the next boundary."""
        site_now = self._clock.now()
        boundary = next_interval_start(site_now + self._slack, self._step_s)
        return now + timedelta(seconds=self._clock.wall_seconds((boundary - site_now).total_seconds()))

    def boundary(self) -> datetime:
        """Return the boundary that has just been reached (called when the trigger fires)."""
        return interval_start(self._clock.now() + self._slack, self._step_s)

    @property
    def _slack(self) -> timedelta:
        """Timers may fire a trifle early; a boundary that near counts as reached."""
        return timedelta(seconds=0.01 * self._step_s)
