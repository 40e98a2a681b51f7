"""The simulated hybrid inverter: physics behind SunSpec models 1, 120, 121, 122, 123, 124 and 160, and one of 101, 103
(integers with scale factors), 111, 113 (floats), as its specification says; on wish the battery as model 802 too.

The PV strings and the battery's two directions are modules of model 160, as several makers do (Fronius GEN24:
"MPPT 1", "MPPT 2", "StCha 3", "StDisCha 4").
"""

import struct

from drivers.registers import Table
from drivers.twin.faults import Faults
from drivers.twin.grid import frequency_hz, phase_volts
from drivers.twin.image import refuse_unless
from drivers.twin.physics import HomePhysics
from drivers.twin.specs import BatterySpec, HomeSpec, InverterSpec
from drivers.twin.sunspec_image import ModelWish, SunSpecImage, model_wish

_CONTROL_PATHS = (
    "StorCtl_Mod",
    "MinRsvPct",
    "OutWRte",
    "InWRte",
    "InOutWRte_WinTms",
    "InOutWRte_RvrtTms",
    "InOutWRte_RmpTms",
    "ChaGriSet",
)
_LIMIT_PATHS = (
    "WMaxLimPct",
    "WMaxLimPct_WinTms",
    "WMaxLimPct_RvrtTms",
    "WMaxLimPct_RmpTms",
    "WMaxLim_Ena",
)
_NO_VALUE = 0xFFFF
_AC_MODELS = {("100", 1): 101, ("100", 3): 103, ("110", 1): 111, ("110", 3): 113}
"""Model of the AC side by generation and phases."""
_AC_SCALES = {
    "A_SF": -2,
    "V_SF": -1,
    "W_SF": 0,
    "Hz_SF": -3,
    "VA_SF": 0,
    "WH_SF": 0,
    "DCW_SF": 0,
    "Tmp_SF": -1,
}
_BANK_VOLTS = 400.0


class HybridInverter:
    """Shows the inverter of a home and takes its orders."""

    def __init__(self, home: HomePhysics, faults: Faults, *, serial: str) -> None:
        self._home, self._faults = home, faults
        inverter = home.spec.inverter
        if inverter is None:
            raise ValueError(f"{home.spec.name} has no inverter")
        self._phases = inverter.phases
        self._ac_model = _AC_MODELS[inverter.models, inverter.phases]
        self.sunspec = SunSpecImage(_models(home.spec, inverter, serial))
        self.image = self.sunspec.image
        self.image.check = self._check
        self.image.written = self._written
        self.sunspec.allow(123, *_LIMIT_PATHS)
        if home.spec.battery is not None:
            self.sunspec.allow(124, *_CONTROL_PATHS)
        self._reset()

    def reboot(self) -> None:
        """Power lost: volatile settings are gone."""
        self._reset()
        orders = self._home.orders
        orders.battery_low_kw = orders.battery_high_kw = orders.battery_until_s = None
        orders.ac_limit_kw = orders.ac_limit_until_s = None
        self._home.settle()

    def refresh(self) -> None:
        """Show the home as it is now."""
        home, show = self._home, self.sunspec.show
        flows, meters, t = home.flows, home.meters, home.now_s
        ac, ac_w = self._ac_model, flows.inverter_ac_kw * 1000.0
        volts = phase_volts(t)[: self._phases]
        amps = [abs(ac_w) / self._phases / v for v in volts]
        show(ac, "W", ac_w)
        show(ac, "VA", abs(ac_w))
        show(ac, "Hz", frequency_hz(t))
        show(ac, "WH", meters.inverter_out_kwh * 1000.0)
        show(ac, "DCW", (flows.pv_dc_kw - flows.battery_kw) * 1000.0)
        show(ac, "TmpCab", 32.0 + 3.0 * abs(flows.inverter_ac_kw))
        show(ac, "A", sum(amps))
        for letter, v, a in zip("ABC", volts, amps, strict=False):
            show(ac, f"PhVph{letter}", v)
            show(ac, f"Aph{letter}", a)
        show(ac, "St", 4 if abs(ac_w) > 1.0 else 8)
        show(122, "ActWh", meters.inverter_out_kwh * 1000.0)
        if 802 in self.sunspec.models:
            show(802, "SoC", (home.stored_frac or 0.0) * 100.0)
            show(802, "ChaSt", charge_state(home))
            show(802, "V", _BANK_VOLTS)
            show(802, "A", flows.battery_kw * 1000.0 / _BANK_VOLTS)
            show(802, "W", flows.battery_kw * 1000.0)
        half_w = flows.pv_dc_kw * 500.0
        for module, watts, kwh in (
            (1, half_w, meters.pv_dc_kwh / 2.0),
            (2, half_w, meters.pv_dc_kwh / 2.0),
            (3, max(0.0, flows.battery_kw) * 1000.0, meters.charged_kwh),
            (4, max(0.0, -flows.battery_kw) * 1000.0, meters.discharged_kwh),
        ):
            if f"module[{module}].DCW" in self.sunspec.models[160].points:
                show(160, f"module[{module}].DCW", watts)
                show(160, f"module[{module}].DCWH", kwh * 1000.0)
        if home.stored_frac is not None:
            show(124, "ChaState", home.stored_frac * 100.0)
            show(124, "ChaSt", charge_state(home))
            free = home.orders.battery_low_kw is None and home.orders.battery_high_kw is None
            if free and not self._faults.idle:
                show(124, "StorCtl_Mod", 0)
        if home.orders.ac_limit_kw is None and not self._faults.idle:
            show(123, "WMaxLim_Ena", 0)

    def _reset(self) -> None:
        show = self.sunspec.show
        show(123, "WMaxLimPct", 100.0)
        for path in ("WMaxLimPct_WinTms", "WMaxLimPct_RvrtTms", "WMaxLimPct_RmpTms", "WMaxLim_Ena"):
            show(123, path, 0)
        if self._home.spec.battery is None:
            return
        show(124, "OutWRte", 100.0)
        show(124, "InWRte", 100.0)
        for path in ("StorCtl_Mod", "InOutWRte_WinTms", "InOutWRte_RvrtTms", "InOutWRte_RmpTms", "ChaGriSet"):
            show(124, path, 0)
        show(124, "MinRsvPct", (self._home.spec.battery.min_stored_frac) * 100.0)

    def _check(self, _table: Table, address: int, data: bytes) -> None:
        """Values a real device would refuse."""
        words = struct.unpack(f">{len(data) // 2}H", data)
        for offset, word in enumerate(words):
            at = address + offset
            signed = word - 0x10000 if word & 0x8000 else word
            for path in ("OutWRte", "InWRte"):
                if self._home.spec.battery is not None and self.sunspec.covers(124, path, at, 1):
                    refuse_unless(-10000 <= signed <= 10000)
            if self._home.spec.battery is not None and self.sunspec.covers(124, "StorCtl_Mod", at, 1):
                refuse_unless(word <= 3)
            if self._home.spec.battery is not None and self.sunspec.covers(124, "ChaGriSet", at, 1):
                refuse_unless(word <= 1)
            if self.sunspec.covers(123, "WMaxLimPct", at, 1):
                refuse_unless(word <= 10000)
            if self.sunspec.covers(123, "WMaxLim_Ena", at, 1):
                refuse_unless(word <= 1)

    def _written(self, _table: Table, address: int, count: int) -> None:
        touched_storage = self._home.spec.battery is not None and any(
            self.sunspec.covers(124, path, address, count) for path in _CONTROL_PATHS
        )
        if touched_storage and not self._faults.idle:
            self._order_battery()
        if not self._faults.idle and any(
            self.sunspec.covers(123, path, address, count) for path in _LIMIT_PATHS
        ):
            self._order_limit()
        self._home.totals.commands += 1
        self._home.settle()

    def _order_battery(self) -> None:
        held, orders, battery = self.sunspec.held, self._home.orders, self._home.spec.battery
        assert battery is not None  # noqa: S101 - only called for homes with a battery
        mode = int(held(124, "StorCtl_Mod"))
        rated_kw = held(124, "WChaMax") / 1000.0
        orders.grid_charging = held(124, "ChaGriSet") == 1.0
        orders.battery_high_kw = held(124, "InWRte") / 100.0 * rated_kw if mode & 1 else None
        orders.battery_low_kw = -held(124, "OutWRte") / 100.0 * rated_kw if mode & 2 else None
        seconds = held(124, "InOutWRte_RvrtTms")
        timed = mode and seconds not in (0.0, _NO_VALUE)
        end_s = self._home.now_s + seconds + self._faults.clock_drift_s
        orders.battery_until_s = end_s if timed else None

    def _order_limit(self) -> None:
        held, orders, inverter = self.sunspec.held, self._home.orders, self._home.spec.inverter
        assert inverter is not None  # noqa: S101 - this device is one
        if not held(123, "WMaxLim_Ena"):
            orders.ac_limit_kw = orders.ac_limit_until_s = None
            return
        orders.ac_limit_kw = held(123, "WMaxLimPct") / 100.0 * inverter.ac_limit_kw
        seconds = held(123, "WMaxLimPct_RvrtTms")
        timed = seconds not in (0.0, _NO_VALUE)
        end_s = self._home.now_s + seconds + self._faults.clock_drift_s
        orders.ac_limit_until_s = end_s if timed else None


def charge_state(home: HomePhysics) -> int:
    """ChaSt as models 124 and 802 number it."""
    battery, frac = home.spec.battery, home.stored_frac
    if battery is None or frac is None:
        return 1
    if home.flows.battery_kw > 0.0:
        return 4
    if home.flows.battery_kw < 0.0:
        return 3
    if frac >= battery.max_stored_frac - 1e-6:
        return 5
    return 2 if frac <= battery.min_stored_frac + 1e-6 else 6


def _models(home: HomeSpec, inverter: InverterSpec, serial: str) -> list[ModelWish]:
    battery = home.battery
    rated_w = inverter.ac_limit_kw * 1000.0
    modules = 2 if battery is None else 4
    module_names: dict[str, float | str] = {}
    for number, label in enumerate(("MPPT 1", "MPPT 2", "StCha 3", "StDisCha 4")[:modules], start=1):
        module_names |= {f"module[{number}].ID": float(number), f"module[{number}].IDStr": label}
    nameplate: dict[str, float | str] = {
        "DERTyp": 4 if battery is None else 82,
        "WRtg": rated_w,
        "VARtg": rated_w,
    }
    if battery is not None:
        nameplate |= {
            "WHRtg": battery.capacity_kwh * 1000.0,
            "MaxChaRte": battery.charge_limit_kw * 1000.0,
            "MaxDisChaRte": battery.discharge_limit_kw * 1000.0,
        }
    storage: list[ModelWish] = []
    if battery is not None:
        rated_charge_w = max(battery.charge_limit_kw, battery.discharge_limit_kw) * 1000.0
        storage = [
            model_wish(
                124,
                24,
                scales={
                    "WChaMax_SF": 0,
                    "WChaDisChaGra_SF": 0,
                    "InOutWRte_SF": -2,
                    "ChaState_SF": -2,
                    "MinRsvPct_SF": -2,
                },
                values={"WChaMax": rated_charge_w, "WChaGra": 100, "WDisChaGra": 100},
            )
        ]
    return [
        model_wish(
            1,
            66,
            values={"Mn": "EMS Twin", "Md": "Hybrid inverter", "Vr": "1.0", "SN": serial, "DA": 1},
        ),
        model_wish(
            _AC_MODELS[inverter.models, inverter.phases],
            scales=_AC_SCALES if inverter.models == "100" else {},
        ),
        model_wish(
            120,
            26,
            scales={"WRtg_SF": 0, "VARtg_SF": 0, "WHRtg_SF": 0, "MaxChaRte_SF": 0, "MaxDisChaRte_SF": 0},
            values=nameplate,
        ),
        model_wish(121, 30, scales={"WMax_SF": 0}, values={"WMax": rated_w}),
        model_wish(122, 44),
        model_wish(123, 24, scales={"WMaxLimPct_SF": -2}),
        *storage,
        model_wish(
            160,
            8 + 20 * modules,
            counts={"N": modules},
            scales={"DCW_SF": 0, "DCWH_SF": 0},
            values=module_names,
        ),
        *([_bank(battery)] if battery is not None and inverter.battery_bank else []),
    ]


def _bank(battery: BatterySpec) -> ModelWish:
    return model_wish(
        802,
        scales={
            "WHRtg_SF": 1,
            "WChaDisChaMax_SF": 0,
            "SoC_SF": -1,
            "SoH_SF": -1,
            "V_SF": -1,
            "A_SF": -2,
            "W_SF": 0,
        },
        values={
            "WHRtg": battery.capacity_kwh * 1000.0,
            "WChaRteMax": battery.charge_limit_kw * 1000.0,
            "WDisChaRteMax": battery.discharge_limit_kw * 1000.0,
            "SoCMax": battery.max_stored_frac * 100.0,
            "SoCMin": battery.min_stored_frac * 100.0,
            "SoH": 97.5,
            "Typ": 4,
            "State": 3,
        },
    )
