"""One home in this process: physics with the delays of real devices, for thousands of passes of the real loop.

What a socket adds is tested on the twin; here a meter that answers late and a battery that follows slowly can be had at
any speed, second by second, for days.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from drivers import Applied, Capability, DeviceReading, Quality, Receipt, Sample, Unit
from ems.physics import Flows, Steering, deficit_of, mean_flows
from ems.site import Role, Site

Power = Callable[[datetime], float]
"""Power at an instant [kW]."""


class RehearsedHome:
    """A home with one battery and at most one roof, moved by `advance`.

    Parameters
    ----------
    site
        The home.
    load_kw, pv_kw
        What it draws and what the sun gives.
    at
        Where it begins.
    stored_frac
        Filling then.
    lag_s
        Time in which the battery makes 63 % of a change of power [s]; 0: at once.
    deaf_s
        Time before it begins to [s].
    meter_age_s, inverter_age_s
        Age of what meter and inverter show [s].
    writes_per_day
        What the battery's register bears.
    """

    def __init__(
        self,
        site: Site,
        *,
        load_kw: Power,
        pv_kw: Power,
        at: datetime,
        stored_frac: float = 0.5,
        lag_s: float = 0.0,
        deaf_s: float = 0.0,
        meter_age_s: float = 0.0,
        inverter_age_s: float = 0.0,
        writes_per_day: int = 100_000,
    ) -> None:
        self.site, self.at = site, at
        self.battery = site.batteries[0]
        self.stored_kwh = stored_frac * self.battery.capacity_kwh
        self.battery_kw = 0.0
        self.ordered: list[tuple[datetime, float | None]] = []
        """Every change of the battery's order, with its instant; None is its own mode."""
        self.import_kwh = self.export_kwh = 0.0
        self.worst_import_kw = 0.0
        self._load_kw, self._pv_kw = load_kw, pv_kw
        self._lag_s, self._deaf = lag_s, timedelta(seconds=deaf_s)
        self._meter_age, self._inverter_age = (
            timedelta(seconds=meter_age_s),
            timedelta(seconds=inverter_age_s),
        )
        self._orders: deque[tuple[datetime, float | None]] = deque()
        self._order_kw: float | None = None
        self.pv_cap_kw: float | None = None
        self._past: deque[tuple[datetime, Flows, float, float]] = deque(maxlen=600)
        self.writes_per_day: Mapping[str, int] = {"battery_power": writes_per_day}
        self.capabilities: frozenset[Capability] = frozenset()
        self._run(0.0)

    @property
    def devices(self) -> dict[tuple[str, str], "RehearsedDevice"]:
        """Its devices, as the loop is given them."""
        return {
            (self.site.id, name): RehearsedDevice(self, ref.role) for name, ref in self.site.devices.items()
        }

    @property
    def net_import_kw(self) -> float:
        """What truly flows at the connection now."""
        flows = self._past[-1][1]
        return flows.import_kw - flows.export_kw

    def advance(self, to: datetime, *, step_s: float) -> None:
        """Move to an instant in steps."""
        while (left_s := (to - self.at).total_seconds()) > 1e-6:
            self._run(min(step_s, left_s))

    def order(self, power_kw: float | None) -> None:
        """Take an order for the battery; None is its own mode."""
        self.ordered.append((self.at, power_kw))
        self._orders.append((self.at + self._deaf, power_kw))
        if not self._lag_s and not self._deaf:
            self._run(0.0)

    def _run(self, step_s: float) -> None:
        hours = step_s / 3600.0
        self.at += timedelta(seconds=step_s)
        while self._orders and self._orders[0][0] <= self.at:
            self._order_kw = self._orders.popleft()[1]
        load_kw, pv_kw = self._load_kw(self.at), self._pv_kw(self.at)
        goal_kw = self._order_kw
        if goal_kw is None:
            goal_kw = deficit_of(self.battery, load_kw - pv_kw, self.stored_kwh, max(hours, 1.0 / 3600.0))
        near = 1.0 if not self._lag_s else 1.0 - math.exp(-step_s / self._lag_s)
        self.battery_kw += near * (goal_kw - self.battery_kw)
        flows = mean_flows(
            self.site,
            Steering(battery_kw={self.battery.name: self.battery_kw}, pv_cap_kw=self.pv_cap_kw),
            load_kw=load_kw,
            pv_kw=pv_kw,
            stored_kwh={self.battery.name: self.stored_kwh},
            hours=max(hours, 1e-9),
        )
        if step_s:
            self.stored_kwh = flows.stored_kwh[self.battery.name]
            self.import_kwh += flows.import_kw * hours
            self.export_kwh += flows.export_kw * hours
        self.worst_import_kw = max(self.worst_import_kw, flows.import_kw)
        self._past.append((self.at, flows, load_kw, self.stored_kwh))

    def shown(self, role: Role) -> dict[str, float]:
        """What a device shows now."""
        age = self._meter_age if role is Role.GRID_METER else self._inverter_age
        _, flows, load_kw, stored_kwh = next(
            (past for past in reversed(self._past) if past[0] <= self.at - age), self._past[0]
        )
        net_kw = flows.import_kw - flows.export_kw
        if role is Role.GRID_METER:
            return {"net_import_kw": net_kw}
        return {
            "net_consumption_kw": net_kw - load_kw,
            "pv_kw": flows.pv_kw,
            "battery_net_consumption_kw": flows.charged_kw - flows.discharged_kw,
            "stored_frac": stored_kwh / self.battery.capacity_kwh,
        }


class RehearsedDevice:
    """One device of a rehearsed home: the part of `drivers.Device` that cycle and loop use."""

    def __init__(self, home: RehearsedHome, role: Role) -> None:
        self._home, self._role = home, role
        self.writes_per_day = home.writes_per_day
        self.capabilities = home.capabilities

    async def read(self) -> DeviceReading:
        """Read everything."""
        at = self._home.at
        return DeviceReading(
            device=self._role,
            at=at,
            samples={
                name: Sample(
                    value=value, unit=Unit.NONE, measured_at=at, quality=Quality.GOOD, source="rehearsal"
                )
                for name, value in self._home.shown(self._role).items()
            },
        )

    async def write_battery_power(self, net_consumption_kw: float, *, valid_s: float) -> Receipt:
        """Order a battery power; an order that is held already is not written again."""
        held = self._home.ordered[-1][1] if self._home.ordered else None
        if held != net_consumption_kw:
            self._home.order(net_consumption_kw)
        return self._applied("battery_power", net_consumption_kw, written=held != net_consumption_kw)

    async def limit_generation(self, limit_kw: float | None, *, valid_s: float) -> Receipt:
        """Cap solar power."""
        changed = self._home.pv_cap_kw != limit_kw
        self._home.pv_cap_kw = limit_kw
        return self._applied("generation_limit", limit_kw, written=changed)

    async def release(self) -> Receipt:
        """Give the battery back to its own mode."""
        self._home.order(None)
        return self._applied("release", None, written=True)

    def _applied(self, control: str, value: float | None, *, written: bool) -> Applied:
        return Applied(
            control=control, asked=value, value=value, at=self._home.at, valid_until=None, written=written
        )
