"""A house kept warm by a heat pump with a thermostat: one heat capacity, one loss, exact between switchings.

capacity * d(room)/dt = heat - loss * (room - outdoor), so room(t) approaches outdoor + heat / loss exponentially.
The coefficient of performance is a share of Carnot's between outdoor air and flow (0.4 is a usual air heat pump).
"""

import math

from drivers.twin.specs import HeatPumpSpec

_KELVIN = 273.15


class Heating:
    """Room temperature and compressor of one home."""

    def __init__(self, spec: HeatPumpSpec, now_s: float) -> None:
        self.spec = spec
        self.room_degc = spec.room_degc
        self.running = spec.room_degc < spec.wished_degc
        self.outdoor_degc = spec.weather.at_s(now_s)[0]

    @property
    def power_kw(self) -> float:
        """Electric power drawn [kW]."""
        return self.spec.heat_kw / self.performance if self.running else 0.0

    @property
    def performance(self) -> float:
        """Heat given per electricity drawn."""
        lift = max(5.0, self.spec.flow_degc - self.outdoor_degc)
        return max(1.0, self.spec.carnot_frac * (self.spec.flow_degc + _KELVIN) / lift)

    def run(self, step_s: float) -> None:
        """Let time pass with the compressor as it is."""
        end = self._end_degc
        self.room_degc = end + (self.room_degc - end) * math.exp(-step_s / self._time_constant_s)

    def settle(self, now_s: float) -> None:
        """Outdoor temperature of now, and the thermostat's decision."""
        self.outdoor_degc = self.spec.weather.at_s(now_s)[0]
        half = self.spec.band_k / 2.0
        if self.running and self.room_degc >= self.spec.wished_degc + half - 1e-7:
            self.running = False
        elif not self.running and self.room_degc <= self.spec.wished_degc - half + 1e-7:
            self.running = True

    def until_switch_s(self) -> float:
        """Seconds until the thermostat switches, if the weather stays; infinity when it never will."""
        half = self.spec.band_k / 2.0
        edge = self.spec.wished_degc + (half if self.running else -half)
        left, now = edge - self._end_degc, self.room_degc - self._end_degc
        if left == 0.0 or now / left <= 1.0:
            return math.inf
        return self._time_constant_s * math.log(now / left)

    @property
    def _end_degc(self) -> float:
        heat_kw = self.spec.heat_kw if self.running else 0.0
        return self.outdoor_degc + heat_kw / self.spec.loss_kw_per_k

    @property
    def _time_constant_s(self) -> float:
        return self.spec.capacity_kwh_per_k / self.spec.loss_kw_per_k * 3600.0
