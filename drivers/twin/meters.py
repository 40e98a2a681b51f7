"""Simulated grid meters: SunSpec model 203, or any meter that has a device file."""

import math
from collections.abc import Mapping
from typing import Protocol

from drivers.file_device import load_device_file
from drivers.twin.faults import Faults
from drivers.twin.file_image import FileImage
from drivers.twin.grid import frequency_hz, phase_volts
from drivers.twin.image import RegisterImage
from drivers.twin.physics import HomePhysics
from drivers.twin.sunspec_image import ModelWish, SunSpecImage


class ShowsHome(Protocol):
    """A device front that can be refreshed."""

    image: RegisterImage

    def refresh(self) -> None:
        """Show the home as it is now."""
        ...


def measured(home: HomePhysics, faults: Faults) -> Mapping[str, float]:
    """What a three-phase meter at the grid connection shows, by canonical quantity."""
    t, meters = home.now_s, home.meters
    sign = -1.0 if faults.swap_sign else 1.0
    total_kw = sign * home.flows.net_import_kw
    vehicle_kw = sign * home.flows.vehicle_kw
    rest_kw = total_kw - vehicle_kw
    counters = (meters.import_kwh, meters.export_kwh)
    import_kwh, export_kwh = counters if sign > 0.0 else counters[::-1]
    values = {
        "net_import_kw": total_kw,
        "import_kwh": import_kwh,
        "export_kwh": export_kwh,
        "frequency_hz": 0.0 if home.grid_lost else frequency_hz(t),
        "apparent_kva": abs(total_kw) + 0.02,
        "reactive_kvar": 0.02 + 0.01 * math.sin(t / 211.0),
    }
    for line, share, volts in zip((1, 2, 3), (0.5, 0.3, 0.2), phase_volts(t), strict=True):
        power_kw = rest_kw * share + vehicle_kw / 3.0
        values |= {
            f"net_import_l{line}_kw": 0.0 if home.grid_lost else power_kw,
            f"voltage_l{line}_v": 0.0 if home.grid_lost else volts,
            f"current_l{line}_a": abs(power_kw) * 1000.0 / volts,
        }
    return values


class SunSpecMeter:
    """Models 1 and 203."""

    def __init__(self, home: HomePhysics, faults: Faults, *, serial: str) -> None:
        self._home, self._faults = home, faults
        common: dict[str, float | str] = {
            "Mn": "EMS Twin",
            "Md": "Grid meter",
            "Vr": "1.0",
            "SN": serial,
            "DA": 1,
        }
        watts_scale = 0 if (home.spec.import_limit_kw or 0.0) <= 30.0 else 1
        self.sunspec = SunSpecImage(
            [
                ModelWish(model_id=1, length=66, counts={}, scales={}, values=common),
                ModelWish(
                    model_id=203,
                    length=105,
                    counts={},
                    scales={
                        "A_SF": -2,
                        "V_SF": -1,
                        "Hz_SF": -2,
                        "W_SF": watts_scale,
                        "VA_SF": watts_scale,
                        "VAR_SF": 0,
                        "TotWh_SF": 0,
                    },
                    values={},
                ),
            ]
        )
        self.image = self.sunspec.image

    def refresh(self) -> None:
        """Show the home as it is now."""
        show, values = self.sunspec.show, measured(self._home, self._faults)
        show(203, "W", values["net_import_kw"] * 1000.0)
        show(203, "VA", values["apparent_kva"] * 1000.0)
        show(203, "VAR", values["reactive_kvar"] * 1000.0)
        show(203, "Hz", values["frequency_hz"])
        show(203, "TotWhImp", values["import_kwh"] * 1000.0)
        show(203, "TotWhExp", values["export_kwh"] * 1000.0)
        for letter, line in (("A", 1), ("B", 2), ("C", 3)):
            show(203, f"Wph{letter}", values[f"net_import_l{line}_kw"] * 1000.0)
            show(203, f"PhVph{letter}", values[f"voltage_l{line}_v"])
            show(203, f"Aph{letter}", values[f"current_l{line}_a"])


class FileMeter:
    """A meter as its device file describes it."""

    def __init__(self, home: HomePhysics, faults: Faults, *, driver: str) -> None:
        self._home, self._faults = home, faults
        self._file = FileImage(load_device_file(driver).spec)
        self.image = self._file.image

    def refresh(self) -> None:
        """Show the home as it is now."""
        values = measured(self._home, self._faults)
        for name in self._file.registers:
            if name in values:
                self._file.show(name, values[name])
