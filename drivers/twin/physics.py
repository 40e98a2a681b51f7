"""Energy in one home: PV and battery behind a hybrid inverter, a vehicle, the rest of the house, one grid meter.

Between two events (a profile step, a command or its end, a vehicle coming or going, a battery or vehicle getting
full or empty) every power is constant, so energies are exact: power times time, no step error.

DC side: pv = battery + to_ac. AC side: ac_out = to_ac * eff when giving, to_ac / eff when taking.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from drivers.twin.heating import Heating
from drivers.twin.specs import HomeSpec, Session, Totals

_TINY_KWH = 1e-9
_TINY_KW = 1e-9
_TINY_S = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Flows:
    """Powers at one instant [kW]."""

    load_kw: float = 0.0
    """House without vehicle, storage and PV."""
    vehicle_kw: float = 0.0
    """Vehicle at the charger."""
    heat_pump_kw: float = 0.0
    """Heat pump, electric."""
    pv_available_dc_kw: float = 0.0
    """What the strings could give."""
    pv_dc_kw: float = 0.0
    """What the strings give."""
    battery_kw: float = 0.0
    """At the battery's terminals, charging +."""
    inverter_ac_kw: float = 0.0
    """At the inverter's AC side, giving +."""
    unserved_kw: float = 0.0
    """Load that is wanted and cannot be served, while the grid is lost."""
    cut_kw: float = 0.0
    """Load that is cut by its switch."""

    @property
    def net_import_kw(self) -> float:
        """At the grid connection, import +."""
        net_kw = self.load_kw + self.vehicle_kw + self.heat_pump_kw - self.inverter_ac_kw
        return net_kw if abs(net_kw) > _TINY_KW else 0.0


@dataclass(slots=True)
class Meters:
    """Lifetime counters the devices show [kWh]; they start as those of a used installation."""

    import_kwh: float = 4821.0
    export_kwh: float = 2210.0
    inverter_out_kwh: float = 9120.0
    inverter_in_kwh: float = 35.0
    pv_dc_kwh: float = 9480.0
    charged_kwh: float = 1930.0
    discharged_kwh: float = 1745.0
    vehicle_kwh: float = 655.0
    heat_pump_kwh: float = 3310.0


@dataclass(slots=True)
class Orders:
    """What the devices were told, as they understood it."""

    battery_low_kw: float | None = None
    """Battery power must not be below this [kW, charging +]; None: own mode."""
    battery_high_kw: float | None = None
    """Battery power must not be above this [kW]; None: own mode."""
    battery_until_s: float | None = None
    """Reversion instant, seconds since the epoch; None: no end."""
    grid_charging: bool = True
    """False: the battery takes PV only."""
    ac_limit_kw: float | None = None
    """Cap on AC output."""
    ac_limit_until_s: float | None = None
    """Reversion instant."""
    ac_target_kw: float | None = None
    """AC power to give, taking -; None: own mode. The battery makes up for what PV does not give."""
    ac_target_until_s: float | None = None
    """Reversion instant."""
    charge_current_a: float = 16.0
    """Charger: current limit."""
    charger_heard_s: float = 0.0
    """Charger: last word from its controller."""
    charger_timeout_s: float = 3600.0
    """Charger: falls back after so long."""
    cut: bool = False
    """The load behind the switch is cut."""


class HomePhysics:
    """State and flows of one home; `advance` moves it exactly to an instant."""

    def __init__(self, spec: HomeSpec, start_at: datetime) -> None:
        if (spec.battery is not None or spec.pv is not None) and spec.inverter is None:
            raise ValueError(f"{spec.name}: PV and battery need an inverter")
        self.spec = spec
        self.now_s = start_at.timestamp()
        self.orders = Orders(charger_heard_s=self.now_s)
        if spec.charger is not None:
            self.orders.charge_current_a = spec.charger.fallback_current_a
            self.orders.charger_timeout_s = spec.charger.timeout_s
        self.meters = Meters()
        self.totals = Totals(from_at=start_at, to_at=start_at)
        self.stored_kwh = 0.0
        if spec.battery is not None:
            self.stored_kwh = spec.battery.capacity_kwh * spec.battery.stored_frac
        self.session_kwh = 0.0
        self.grid_lost = False
        self.flows = Flows()
        self.heating = None if spec.heat_pump is None else Heating(spec.heat_pump, self.now_s)
        self._session, self._left = -1, True
        self._enter_sessions()
        self._settle()

    @property
    def stored_frac(self) -> float | None:
        """True filling of the battery."""
        return None if self.spec.battery is None else self.stored_kwh / self.spec.battery.capacity_kwh

    @property
    def session(self) -> Session | None:
        """The session under way."""
        return None if self._left else self.spec.sessions[self._session]

    def advance(self, at: datetime) -> None:
        """Move to an instant; earlier ones are ignored."""
        end_s = at.timestamp()
        while end_s - self.now_s > _TINY_S:
            step_s = min(end_s - self.now_s, self._until_next_event_s())
            self._run(max(step_s, _TINY_S))
            self._expire()
            self._enter_sessions()
            self._settle()
        self.totals.to_at = max(self.totals.to_at, at)

    def settle(self) -> None:
        """Flows again, after an order changed."""
        self._settle()

    def lose_grid(self) -> None:
        """The public grid goes dark; the inverter carries what it can."""
        self.grid_lost = True
        self._settle()

    def return_grid(self) -> None:
        """The public grid is back."""
        self.grid_lost = False
        self._settle()

    def heard_charger(self) -> None:
        """A controller talked to the charger."""
        self.orders.charger_heard_s = self.now_s

    def _run(self, step_s: float) -> None:
        hours, flows, meters, totals = step_s / 3600.0, self.flows, self.meters, self.totals
        battery, grid_kw = self.spec.battery, flows.net_import_kw
        charge_kwh, discharge_kwh = max(0.0, flows.battery_kw) * hours, max(0.0, -flows.battery_kw) * hours
        if battery is not None:
            gain = charge_kwh * battery.charge_eff_frac - discharge_kwh / battery.discharge_eff_frac
            self.stored_kwh = min(max(self.stored_kwh + gain, 0.0), battery.capacity_kwh)
        import_kwh, export_kwh = max(0.0, grid_kw) * hours, max(0.0, -grid_kw) * hours
        meters.import_kwh += import_kwh
        meters.export_kwh += export_kwh
        meters.inverter_out_kwh += max(0.0, flows.inverter_ac_kw) * hours
        meters.inverter_in_kwh += max(0.0, -flows.inverter_ac_kw) * hours
        meters.pv_dc_kwh += flows.pv_dc_kw * hours
        meters.charged_kwh += charge_kwh
        meters.discharged_kwh += discharge_kwh
        meters.vehicle_kwh += flows.vehicle_kw * hours
        meters.heat_pump_kwh += flows.heat_pump_kw * hours
        totals.heat_pump_kwh += flows.heat_pump_kw * hours
        if self.heating is not None:
            self.heating.run(step_s)
        self.session_kwh += flows.vehicle_kw * hours
        eff = self.spec.inverter.conversion_eff_frac if self.spec.inverter is not None else 1.0
        totals.import_kwh += import_kwh
        totals.export_kwh += export_kwh
        totals.load_kwh += flows.load_kw * hours
        totals.unserved_kwh += flows.unserved_kw * hours
        totals.cut_kwh += flows.cut_kw * hours
        totals.pv_kwh += flows.pv_dc_kw * eff * hours
        totals.pv_available_kwh += flows.pv_available_dc_kw * eff * hours
        totals.battery_charged_kwh += charge_kwh
        totals.battery_discharged_kwh += discharge_kwh
        totals.vehicle_kwh += flows.vehicle_kw * hours
        totals.max_import_kw = max(totals.max_import_kw, grid_kw)
        totals.max_export_kw = max(totals.max_export_kw, -grid_kw)
        if self.spec.import_limit_kw is not None and grid_kw > self.spec.import_limit_kw + 1e-6:
            totals.import_violation_s += step_s
        if self.spec.export_limit_kw is not None and -grid_kw > self.spec.export_limit_kw + 1e-6:
            totals.export_violation_s += step_s
        self.now_s += step_s

    def _until_next_event_s(self) -> float:
        orders, now = self.orders, self.now_s
        times = [self.spec.load.at_s(now)[1]]
        if self.spec.pv is not None:
            times.append(self.spec.pv.at_s(now)[1])
        for end in (orders.battery_until_s, orders.ac_limit_until_s, orders.ac_target_until_s):
            if end is not None:
                times.append(end - now)
        if self.spec.charger is not None:
            times.append(orders.charger_heard_s + orders.charger_timeout_s - now)
        for session in self.spec.sessions[max(0, self._session) : self._session + 2]:
            times += [session.plug_in_at.timestamp() - now, session.plug_out_at.timestamp() - now]
        times.append(self._until_battery_edge_s())
        if self.heating is not None:
            times += [self.heating.spec.weather.at_s(now)[1], self.heating.until_switch_s()]
        present = self.session
        if present is not None and self.flows.vehicle_kw > 0.0:
            times.append((present.wished_kwh - self.session_kwh) / self.flows.vehicle_kw * 3600.0)
        return min(t for t in times if t > _TINY_S)

    def _until_battery_edge_s(self) -> float:
        battery, power_kw = self.spec.battery, self.flows.battery_kw
        if battery is None or power_kw == 0.0:
            return float("inf")
        if power_kw > 0.0:
            room = battery.capacity_kwh * battery.max_stored_frac - self.stored_kwh
            return room / (power_kw * battery.charge_eff_frac) * 3600.0
        left = self.stored_kwh - battery.capacity_kwh * battery.min_stored_frac
        return left / (-power_kw / battery.discharge_eff_frac) * 3600.0

    def _expire(self) -> None:
        orders = self.orders
        if orders.battery_until_s is not None and self.now_s >= orders.battery_until_s - _TINY_S:
            orders.battery_low_kw = orders.battery_high_kw = orders.battery_until_s = None
            self.totals.reversions += 1
        if orders.ac_limit_until_s is not None and self.now_s >= orders.ac_limit_until_s - _TINY_S:
            orders.ac_limit_kw = orders.ac_limit_until_s = None
            self.totals.reversions += 1
        if orders.ac_target_until_s is not None and self.now_s >= orders.ac_target_until_s - _TINY_S:
            orders.ac_target_kw = orders.ac_target_until_s = None
            self.totals.reversions += 1
        charger = self.spec.charger
        if charger is not None and self.now_s >= orders.charger_heard_s + orders.charger_timeout_s - _TINY_S:
            if orders.charge_current_a != charger.fallback_current_a:
                orders.charge_current_a = charger.fallback_current_a
                self.totals.reversions += 1
            orders.charger_heard_s = self.now_s

    def _enter_sessions(self) -> None:
        sessions = self.spec.sessions
        while True:
            current = sessions[self._session] if self._session >= 0 else None
            if current is not None and not self._left:
                if self.now_s + _TINY_S < current.plug_out_at.timestamp():
                    return
                self._left = True
                self.totals.unserved_vehicle_kwh += max(0.0, current.wished_kwh - self.session_kwh)
            coming = self._session + 1
            if coming >= len(sessions) or self.now_s + _TINY_S < sessions[coming].plug_in_at.timestamp():
                return
            self._session, self._left, self.session_kwh = coming, False, 0.0

    def _settle(self) -> None:
        load_kw = self.spec.load.at_s(self.now_s)[0]
        cut_kw = min(load_kw, self.spec.switched_kw or 0.0) if self.orders.cut else 0.0
        load_kw -= cut_kw
        heat_pump_kw = 0.0
        if self.heating is not None:
            self.heating.settle(self.now_s)
            heat_pump_kw = self.heating.power_kw
        find = self._island_flows if self.grid_lost else self._inverter_flows
        flows = find(load_kw, self._vehicle_kw(), heat_pump_kw)
        self.flows = replace(flows, cut_kw=cut_kw) if cut_kw else flows

    def _vehicle_kw(self) -> float:
        charger, session = self.spec.charger, self.session
        if charger is None or session is None or session.wished_kwh - self.session_kwh <= _TINY_KWH:
            return 0.0
        limit_a = self.orders.charge_current_a
        if limit_a < charger.min_current_a - 1e-9:
            return 0.0
        return min(limit_a * charger.phases * charger.voltage_v / 1000.0, charger.max_kw, session.max_kw)

    def _island_flows(self, load_kw: float, vehicle_kw: float, heat_pump_kw: float) -> Flows:
        """The inverter forms the grid: battery and PV follow the load, whatever was ordered; what lacks stays dark."""
        inverter, wanted_kw = self.spec.inverter, load_kw + vehicle_kw + heat_pump_kw
        if inverter is None:
            return Flows(unserved_kw=wanted_kw)
        eff = inverter.conversion_eff_frac
        available_kw = self.spec.pv.at_s(self.now_s)[0] / eff if self.spec.pv is not None else 0.0
        needed_kw = min(wanted_kw, inverter.ac_limit_kw) / eff
        battery_kw = self._within_battery(available_kw - needed_kw)
        used_kw = min(available_kw, needed_kw + battery_kw)
        served_kw = max(0.0, used_kw - battery_kw) * eff
        unserved_kw = max(0.0, wanted_kw - served_kw)
        dark = 0.0 if wanted_kw <= _TINY_KW else unserved_kw / wanted_kw
        return Flows(
            load_kw=load_kw * (1.0 - dark),
            vehicle_kw=vehicle_kw * (1.0 - dark),
            heat_pump_kw=heat_pump_kw * (1.0 - dark),
            pv_available_dc_kw=available_kw,
            pv_dc_kw=used_kw,
            battery_kw=battery_kw,
            inverter_ac_kw=served_kw,
            unserved_kw=unserved_kw,
        )

    def _inverter_flows(self, load_kw: float, vehicle_kw: float, heat_pump_kw: float) -> Flows:
        inverter = self.spec.inverter
        if inverter is None:
            return Flows(load_kw=load_kw, vehicle_kw=vehicle_kw, heat_pump_kw=heat_pump_kw)
        eff = inverter.conversion_eff_frac
        out_limit_kw = inverter.ac_limit_kw
        if self.orders.ac_limit_kw is not None:
            out_limit_kw = min(out_limit_kw, self.orders.ac_limit_kw)
        target_kw = self.orders.ac_target_kw
        if target_kw is not None:
            out_limit_kw = min(out_limit_kw, max(0.0, target_kw))
        pv_kw = self.spec.pv.at_s(self.now_s)[0] / eff if self.spec.pv is not None else 0.0
        wanted_kw = pv_kw - min(load_kw + vehicle_kw + heat_pump_kw, out_limit_kw) / eff
        if target_kw is not None:
            wanted_kw = pv_kw - (min(target_kw, out_limit_kw) / eff if target_kw >= 0.0 else target_kw * eff)
        battery_kw = self._battery_kw(wanted_kw, pv_kw, inverter.ac_limit_kw * eff)
        excess_kw = pv_kw - battery_kw - out_limit_kw / eff
        used_kw = pv_kw
        if excess_kw > 0.0:
            less_discharge_kw = min(excess_kw, max(0.0, -battery_kw))
            battery_kw += less_discharge_kw
            used_kw = pv_kw - (excess_kw - less_discharge_kw)
        to_ac_kw = used_kw - battery_kw
        ac_kw = to_ac_kw * eff if to_ac_kw >= 0.0 else to_ac_kw / eff
        return Flows(
            load_kw=load_kw,
            vehicle_kw=vehicle_kw,
            heat_pump_kw=heat_pump_kw,
            pv_available_dc_kw=pv_kw,
            pv_dc_kw=used_kw,
            battery_kw=battery_kw,
            inverter_ac_kw=ac_kw,
        )

    def _battery_kw(self, wanted_kw: float, pv_kw: float, from_grid_limit_kw: float) -> float:
        """What the battery does: own wish, held inside the ordered window, then inside what it can."""
        battery, orders = self.spec.battery, self.orders
        if battery is None:
            return 0.0
        power_kw = wanted_kw
        if orders.battery_high_kw is not None:
            power_kw = min(power_kw, orders.battery_high_kw)
        if orders.battery_low_kw is not None:
            power_kw = max(power_kw, orders.battery_low_kw)
        return self._within_battery(
            min(power_kw, pv_kw + (from_grid_limit_kw if orders.grid_charging else 0.0))
        )

    def _within_battery(self, power_kw: float) -> float:
        """What of a power the battery can take or give [kW, charging +]."""
        battery = self.spec.battery
        if battery is None:
            return 0.0
        power_kw = max(-battery.discharge_limit_kw, min(power_kw, battery.charge_limit_kw))
        if self.stored_kwh >= battery.capacity_kwh * battery.max_stored_frac - _TINY_KWH:
            power_kw = min(power_kw, 0.0)
        if self.stored_kwh <= battery.capacity_kwh * battery.min_stored_frac + _TINY_KWH:
            power_kw = max(power_kw, 0.0)
        return power_kw
