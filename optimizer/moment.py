"""What every interval of a site costs for each power of its one battery. Arrays: a row per interval, a column per power.

The arithmetic of the compiled model for a whole horizon at once; `value.py` has it for one moment in plain numbers, which
answers six times as fast there. Both are tested against new solves of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from optimizer.arrays import FloatArray

_TINY_KW = 1e-9
"""This much beyond a rating is within it [kW]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Intervals of one site; every array has shape (N, 1). Costs are those of the compiled model, over the interval."""

    load_kw: FloatArray
    """What the site draws beside battery and sun [kW]."""
    sun_kw: FloatArray
    """Solar power there is [kW]."""
    import_cost: FloatArray
    """Per kW imported [currency/kW]."""
    export_gain: FloatArray
    """Per kW exported [currency/kW]."""
    excess_cost: FloatArray
    """Per kW above a limit of the connection [currency/kW]."""
    import_limit_kw: FloatArray
    export_limit_kw: FloatArray
    charge_cost: FloatArray
    """Per kW charged [currency/kW]."""
    discharge_cost: FloatArray
    """Per kW discharged [currency/kW]."""
    used_cost: FloatArray
    """Per kW of solar power used; below 0, as use is preferred [currency/kW]."""
    to_ac_cost: FloatArray
    to_dc_cost: FloatArray
    charge_limit_kw: FloatArray
    discharge_limit_kw: FloatArray
    rating_kw: FloatArray
    """Of the hybrid inverter [kW]; endless without one."""
    to_ac_eff: float
    to_dc_eff: float
    draws_from_bus: bool
    """Whether the hybrid inverter can charge the battery from the AC side."""
    curtailable: bool
    """Whether solar power can be held back."""
    sun_on_dc: bool
    battery_on_dc: bool

    @property
    def least_sun_kw(self) -> FloatArray:
        """Solar power that must be used [kW]."""
        return np.zeros_like(self.sun_kw) if self.curtailable else self.sun_kw

    def reach_kw(self) -> tuple[FloatArray, FloatArray]:
        """Least and highest battery power its limits and the hybrid inverter allow, whatever is done with the sun [kW]."""
        low_kw, high_kw = -self.discharge_limit_kw, self.charge_limit_kw
        if self.battery_on_dc:
            taken_kw = self.rating_kw if self.draws_from_bus else np.zeros_like(self.rating_kw)
            sun_kw = self.sun_kw if self.sun_on_dc else 0.0
            low_kw = np.maximum(low_kw, -self._dc_of(self.rating_kw))
            high_kw = np.minimum(high_kw, sun_kw - self._dc_of(-taken_kw))
        return low_kw, high_kw

    def bends_kw(self) -> FloatArray:
        """Battery powers at which something changes, with all the sun or the least of it used [kW], in no order."""
        return np.concatenate(list(self._bends_kw()), axis=1)

    def cost(self, battery_kw: FloatArray) -> FloatArray:
        """Cost of each battery power with the cheapest use of the sun, over the interval [currency], shape (N, K)."""
        shape = np.broadcast_shapes(battery_kw.shape, self.load_kw.shape)
        used_kw = np.array([np.broadcast_to(kw, shape) for kw in self._uses_kw(battery_kw)])
        used_kw = np.clip(used_kw, self.least_sun_kw, self.sun_kw)
        cost: FloatArray = self._cost_of(battery_kw, used_kw).min(axis=0)
        return cost

    def _cost_of(self, battery_kw: FloatArray, used_kw: FloatArray) -> FloatArray:
        """What it costs to use so much of the sun with a battery power; endless beyond the inverter's rating."""
        ac_kw = self._inverter_ac_kw(battery_kw, used_kw)
        net_kw = self.load_kw - ac_kw
        if not self.battery_on_dc:
            net_kw = net_kw + battery_kw
        if not self.sun_on_dc:
            net_kw = net_kw - used_kw
        over_kw = np.maximum(np.maximum(net_kw - self.import_limit_kw, -net_kw - self.export_limit_kw), 0.0)
        cost = np.where(net_kw > 0.0, self.import_cost, self.export_gain) * net_kw
        cost += self.excess_cost * over_kw + self.used_cost * used_kw
        cost += np.where(ac_kw > 0.0, self.to_ac_cost, -self.to_dc_cost) * ac_kw
        cost += np.where(battery_kw > 0.0, self.charge_cost, -self.discharge_cost) * battery_kw
        most_drawn_kw = self.rating_kw if self.draws_from_bus else 0.0
        beyond = (ac_kw > self.rating_kw + _TINY_KW) | (-ac_kw > most_drawn_kw + _TINY_KW)
        return np.where(beyond, np.inf, cost)

    def _inverter_ac_kw(self, battery_kw: FloatArray, used_kw: FloatArray) -> FloatArray:
        """AC power the hybrid inverter gives [kW]."""
        dc_kw = used_kw if self.sun_on_dc else np.zeros_like(used_kw)
        if self.battery_on_dc:
            dc_kw = dc_kw - battery_kw
        return np.asarray(dc_kw * np.where(dc_kw >= 0.0, self.to_ac_eff, 1.0 / self.to_dc_eff))

    def _dc_of(self, ac_kw: FloatArray) -> FloatArray:
        """DC power that gives this AC power [kW]."""
        return np.asarray(ac_kw * np.where(ac_kw >= 0.0, 1.0 / self.to_ac_eff, self.to_dc_eff))

    def _levels_kw(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Net imports at which the price of power changes [kW]."""
        return np.zeros_like(self.load_kw), self.import_limit_kw, -self.export_limit_kw

    def _bends_kw(self) -> Iterator[FloatArray]:
        for used_kw in (self.sun_kw, self.least_sun_kw):
            bus_kw = self.load_kw if self.sun_on_dc else self.load_kw - used_kw
            if not self.battery_on_dc:
                given_kw = self._inverter_ac_kw(np.zeros_like(used_kw), used_kw)
                for level_kw in self._levels_kw():
                    yield level_kw - bus_kw + given_kw
                continue
            dc_kw = used_kw if self.sun_on_dc else np.zeros_like(used_kw)
            yield dc_kw
            for ac_kw in (
                *(bus_kw - level_kw for level_kw in self._levels_kw()),
                self.rating_kw,
                -self.rating_kw,
            ):
                yield dc_kw - self._dc_of(ac_kw)

    def _uses_kw(self, battery_kw: FloatArray) -> Iterator[FloatArray]:
        """Solar powers worth a look with each battery power, before they are held to what there is [kW]."""
        yield self.sun_kw
        if not self.curtailable:
            return
        yield self.least_sun_kw
        bus_kw = self.load_kw if self.battery_on_dc else self.load_kw + battery_kw
        if not self.sun_on_dc:
            given_kw = self._inverter_ac_kw(battery_kw, np.zeros_like(battery_kw))
            for level_kw in self._levels_kw():
                yield bus_kw - given_kw - level_kw
            return
        dc_kw = battery_kw if self.battery_on_dc else np.zeros_like(battery_kw)
        yield dc_kw
        for ac_kw in (*(bus_kw - level_kw for level_kw in self._levels_kw()), self.rating_kw):
            yield dc_kw + self._dc_of(ac_kw)
