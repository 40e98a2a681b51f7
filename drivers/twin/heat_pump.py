"""The simulated heat pump: a house's heating behind the registers of any heat pump that has a device file."""

from drivers.file_device import load_device_file
from drivers.twin.file_image import FileImage
from drivers.twin.physics import HomePhysics


class HeatPump:
    """Shows the heating of a home."""

    def __init__(self, home: HomePhysics, *, driver: str) -> None:
        self._home = home
        self._file = FileImage(load_device_file(driver).spec)
        self.image = self._file.image

    def refresh(self) -> None:
        """Show the home as it is now."""
        heating = self._home.heating
        if heating is None:
            return
        flow = heating.spec.flow_degc if heating.running else heating.room_degc + 2.0
        values = {
            "heat_pump_net_consumption_kw": heating.power_kw,
            "heat_pump_kwh": self._home.meters.heat_pump_kwh,
            "flow_degc": flow,
            "return_degc": flow - (5.0 if heating.running else 0.5),
            "outdoor_degc": heating.outdoor_degc,
            "room_degc": heating.room_degc,
        }
        for name, value in values.items():
            if name in self._file.registers:
                self._file.show(name, value)
