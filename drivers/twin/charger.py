"""The simulated charging station: an ABB Terra AC as its device file describes it."""

from drivers.file_device import load_device_file
from drivers.registers import Table, decode
from drivers.twin.faults import Faults
from drivers.twin.file_image import FileImage
from drivers.twin.grid import phase_volts
from drivers.twin.physics import HomePhysics
from drivers.twin.specs import ChargerSpec

DRIVER = "abb-terra-ac"


class Charger:
    """Shows the charger of a home and takes its current limit. Every request counts as a sign of life."""

    def __init__(self, home: HomePhysics, spec: ChargerSpec, faults: Faults) -> None:
        self._home, self._spec, self._faults = home, spec, faults
        self._shown_limit_kw: float | None = None
        self._file = FileImage(load_device_file(DRIVER).spec)
        self.image = self._file.image
        self.image.written = self._written

    def reboot(self) -> None:
        """Power lost: back to the fallback current."""
        self._home.orders.charge_current_a = self._spec.fallback_current_a
        self._home.orders.charger_timeout_s = self._spec.timeout_s
        self._home.settle()

    def refresh(self) -> None:
        """Show the home as it is now."""
        home, show = self._home, self._show
        home.heard_charger()
        vehicle_kw = home.flows.vehicle_kw
        show("max_current_kw", self._spec.max_kw)
        show("plugged_in", 0.0 if home.session is None else 1.0)
        limit_kw = self._shown_limit_kw if self._faults.idle else None
        show(
            "vehicle_charge_limit_kw",
            self._kw(home.orders.charge_current_a) if limit_kw is None else limit_kw,
        )
        show("vehicle_current_a", vehicle_kw * 1000.0 / self._spec.phases / self._spec.voltage_v)
        for line, v in enumerate(phase_volts(home.now_s), start=1):
            show(f"voltage_l{line}_v", v)
        show("vehicle_net_consumption_kw", vehicle_kw)
        show("session_kwh", home.session_kwh if home.session is not None else 0.0)

    def _show(self, name: str, value: float) -> None:
        self._file.show(name, value)

    def _kw(self, amps: float) -> float:
        return amps * 3 * 230.0 / 1000.0

    def _written(self, _table: Table, address: int, _count: int) -> None:
        limit, timeout = self._file.registers["set_current"], self._file.registers["set_timeout"]
        orders = self._home.orders
        if address == limit.address:
            limit_kw = decode(limit, self.image.held(limit)) or 0.0
            self._shown_limit_kw = limit_kw
            if not self._faults.idle:
                orders.charge_current_a = limit_kw * 1000.0 / 3 / 230.0
        if address == timeout.address:
            orders.charger_timeout_s = decode(timeout, self.image.held(timeout)) or self._spec.timeout_s
        self._home.heard_charger()
        self._home.totals.commands += 1
        self._home.settle()
