"""The simulated inverter of IEEE 1547's generation: physics behind SunSpec models 1, 701-713 and 714.

Controls are those of model 704: WSet (the AC power of the whole device, giving +) and WMaxLimPct, each with its enable
and its reversion timer. Curves (705-712) and enter-service (703) can be read and are off. What happens after reversion
cannot be chosen: the function ends (`...EnaRvrt` takes 0 only).
"""

import struct

from drivers.registers import Table
from drivers.twin.faults import Faults
from drivers.twin.grid import frequency_hz, phase_volts
from drivers.twin.image import refuse_unless
from drivers.twin.physics import HomePhysics
from drivers.twin.specs import HomeSpec, InverterSpec
from drivers.twin.sunspec_image import ModelWish, SunSpecImage, model_wish

_SET = ("WSetEna", "WSetMod", "WSet", "WSetPct", "WSetEnaRvrt", "WSetRvrtTms")
_LIMIT = ("WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctEnaRvrt", "WMaxLimPctRvrtTms")
_HIGHEST = {
    "WSetEna": 1,
    "WSetMod": 1,
    "WSetEnaRvrt": 0,
    "WMaxLimPctEna": 1,
    "WMaxLimPctEnaRvrt": 0,
    "WMaxLimPct": 1000,
}
"""Largest raw value of points that take few."""
_NO_TIMER = 0xFFFFFFFF


class DerInverter:
    """Shows the inverter of a home and takes its orders."""

    def __init__(self, home: HomePhysics, faults: Faults, *, serial: str) -> None:
        self._home, self._faults = home, faults
        inverter = home.spec.inverter
        if inverter is None:
            raise ValueError(f"{home.spec.name} has no inverter")
        self._inverter = inverter
        self.sunspec = SunSpecImage(_models(home.spec, inverter, serial))
        self.image = self.sunspec.image
        self.image.check = self._check
        self.image.written = self._written
        self.sunspec.allow(704, *_SET, *_LIMIT)
        self._reset()

    def reboot(self) -> None:
        """Power lost: volatile settings are gone."""
        self._reset()
        orders = self._home.orders
        orders.ac_target_kw = orders.ac_target_until_s = None
        orders.ac_limit_kw = orders.ac_limit_until_s = None
        self._home.settle()

    def refresh(self) -> None:
        """Show the home as it is now."""
        home, show, orders = self._home, self.sunspec.show, self._home.orders
        flows, meters, t = home.flows, home.meters, home.now_s
        ac_w, phases = flows.inverter_ac_kw * 1000.0, self._inverter.phases
        show(701, "St", 1)
        show(701, "InvSt", 3 if abs(ac_w) > 1.0 else 7)
        show(701, "ConnSt", 1)
        show(701, "W", ac_w)
        show(701, "VA", abs(ac_w))
        show(701, "Hz", frequency_hz(t))
        show(701, "TotWhInj", meters.inverter_out_kwh * 1000.0)
        show(701, "TotWhAbs", meters.inverter_in_kwh * 1000.0)
        show(701, "TmpCab", 32.0 + 3.0 * abs(flows.inverter_ac_kw))
        for line, volts in enumerate(phase_volts(t)[:phases], start=1):
            show(701, f"WL{line}", ac_w / phases)
            show(701, f"VL{line}", volts)
            show(701, f"AL{line}", abs(ac_w) / phases / volts)
        show(714, "DCW", (flows.pv_dc_kw - flows.battery_kw) * 1000.0)
        show(714, "Prt[1].DCW", flows.pv_dc_kw * 1000.0)
        show(714, "Prt[1].DCWhInj", meters.pv_dc_kwh * 1000.0)
        if home.stored_frac is not None:
            show(714, "Prt[2].DCW", -flows.battery_kw * 1000.0)
            show(714, "Prt[2].DCWhInj", meters.discharged_kwh * 1000.0)
            show(714, "Prt[2].DCWhAbs", meters.charged_kwh * 1000.0)
            show(713, "SoC", home.stored_frac * 100.0)
            show(713, "WHAvail", home.stored_kwh * 1000.0)
        if orders.ac_target_kw is None and not self._faults.idle:
            show(704, "WSetEna", 0)
        if orders.ac_limit_kw is None and not self._faults.idle:
            show(704, "WMaxLimPctEna", 0)
        for point, until_s in (
            ("WSetRvrtRem", orders.ac_target_until_s),
            ("WMaxLimPctRvrtRem", orders.ac_limit_until_s),
        ):
            show(704, point, 0 if until_s is None else max(0.0, until_s - t))

    def _reset(self) -> None:
        for path in (*_SET, *_LIMIT):
            self.sunspec.show(704, path, 100.0 if path == "WMaxLimPct" else 0)

    def _check(self, _table: Table, address: int, data: bytes) -> None:
        """Values a real device would refuse."""
        for offset, word in enumerate(struct.unpack(f">{len(data) // 2}H", data)):
            for path, highest in _HIGHEST.items():
                if self.sunspec.covers(704, path, address + offset, 1):
                    refuse_unless(word <= highest)

    def _written(self, _table: Table, address: int, count: int) -> None:
        acts = not self._faults.idle
        if acts and any(self.sunspec.covers(704, path, address, count) for path in _SET):
            self._order_power()
        if acts and any(self.sunspec.covers(704, path, address, count) for path in _LIMIT):
            self._order_limit()
        self._home.totals.commands += 1
        self._home.settle()

    def _order_power(self) -> None:
        held, orders, rated_kw = self.sunspec.held, self._home.orders, self._inverter.ac_limit_kw
        if not held(704, "WSetEna"):
            orders.ac_target_kw = orders.ac_target_until_s = None
            return
        in_watts = held(704, "WSetMod") == 1.0
        wanted_kw = held(704, "WSet") / 1000.0 if in_watts else held(704, "WSetPct") / 100.0 * rated_kw
        orders.ac_target_kw = min(max(wanted_kw, -rated_kw), rated_kw)
        orders.ac_target_until_s = self._until_s("WSetRvrtTms")

    def _order_limit(self) -> None:
        held, orders = self.sunspec.held, self._home.orders
        if not held(704, "WMaxLimPctEna"):
            orders.ac_limit_kw = orders.ac_limit_until_s = None
            return
        orders.ac_limit_kw = held(704, "WMaxLimPct") / 100.0 * self._inverter.ac_limit_kw
        orders.ac_limit_until_s = self._until_s("WMaxLimPctRvrtTms")

    def _until_s(self, timer: str) -> float | None:
        seconds = self.sunspec.held(704, timer)
        if seconds in (0.0, _NO_TIMER):
            return None
        return self._home.now_s + seconds + self._faults.clock_drift_s


def _models(home: HomeSpec, inverter: InverterSpec, serial: str) -> list[ModelWish]:
    battery = home.battery
    rated_w = inverter.ac_limit_kw * 1000.0
    ratings: dict[str, float | str] = {}
    for point in ("WMaxRtg", "VAMaxRtg", "WMax", "VAMax"):
        ratings[point] = rated_w
    ports: dict[str, float | str] = {"Prt[1].PrtTyp": 0, "Prt[1].ID": 1, "Prt[1].IDStr": "PV"}
    storage: list[ModelWish] = []
    if battery is not None:
        for point in ("WChaRteMaxRtg", "WChaRteMax"):
            ratings[point] = battery.charge_limit_kw * 1000.0
        for point in ("WDisChaRteMaxRtg", "WDisChaRteMax"):
            ratings[point] = battery.discharge_limit_kw * 1000.0
        ports |= {"Prt[2].PrtTyp": 1, "Prt[2].ID": 2, "Prt[2].IDStr": "Battery"}
        storage = [
            model_wish(
                713,
                scales={"WH_SF": 1, "Pct_SF": -1},
                values={"WHRtg": battery.capacity_kwh * 1000.0, "SoH": 98.0, "Sta": 0},
            )
        ]
    off: dict[str, float | str] = {"Ena": 0}
    volts, hertz = {"V_SF": -1}, {"Hz_SF": -2}
    curves = {"NPt": 2, "NCrv": 1}
    trips = {"NPt": 2, "NCrvSet": 1}
    return [
        model_wish(
            1, 66, values={"Mn": "EMS Twin", "Md": "DER inverter", "Vr": "1.0", "SN": serial, "DA": 1}
        ),
        model_wish(
            701,
            scales={"W_SF": 0, "VA_SF": 0, "A_SF": -2, "V_SF": -1, "Hz_SF": -2, "TotWh_SF": 0, "Tmp_SF": -1},
            values={"ACType": 2 if inverter.phases == 3 else 0},
        ),
        model_wish(702, scales={"W_SF": 0, "VA_SF": 0}, values=ratings),
        model_wish(703, scales={"V_SF": -1, "Hz_SF": -2}, values={"ES": 1, "ESVHi": 105, "ESVLo": 91.7}),
        model_wish(704, scales={"WSet_SF": 0, "WSetPct_SF": -1, "WMaxLimPct_SF": -1}),
        model_wish(705, counts=curves, scales=volts | {"DeptRef_SF": -1, "RspTms_SF": 0}, values=off),
        model_wish(706, counts=curves, scales=volts | {"DeptRef_SF": -1, "RspTms_SF": 0}, values=off),
        model_wish(707, counts=trips, scales=volts | {"Tms_SF": -2}, values=off),
        model_wish(708, counts=trips, scales=volts | {"Tms_SF": -2}, values=off),
        model_wish(709, counts=trips, scales=hertz | {"Tms_SF": -2}, values=off),
        model_wish(710, counts=trips, scales=hertz | {"Tms_SF": -2}, values=off),
        model_wish(711, counts={"NCtl": 1}, scales={"Db_SF": -3, "K_SF": -2, "RspTms_SF": -1}, values=off),
        model_wish(712, counts=curves, scales={"W_SF": -1, "DeptRef_SF": -1}, values=off),
        *storage,
        model_wish(
            714,
            counts={"NPrt": 1 if battery is None else 2},
            scales={"DCW_SF": 0, "DCWH_SF": 0},
            values=ports,
        ),
    ]
