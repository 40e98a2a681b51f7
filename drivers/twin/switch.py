"""The simulated switch: a relay card as its device file describes it, in front of part of the home's load."""

from drivers.file_device import load_device_file
from drivers.registers import Table, decode
from drivers.twin.file_image import FileImage
from drivers.twin.physics import HomePhysics

DRIVER = "waveshare-relay"


class Switch:
    """Shows whether the load behind it is connected, and cuts it when told to."""

    def __init__(self, home: HomePhysics) -> None:
        self._home = home
        self._file = FileImage(load_device_file(DRIVER).spec)
        self._closed = self._file.registers["closed"]
        self.image = self._file.image
        self.image.written = self._written

    def reboot(self) -> None:
        """Power lost: the relay falls off, and the load over its normally closed contact runs."""
        self._home.orders.cut = False
        self._home.settle()

    def refresh(self) -> None:
        """Show the relay as it is now."""
        self._file.show("closed", 0.0 if self._home.orders.cut else 1.0)

    def _written(self, _table: Table, _address: int, _count: int) -> None:
        self._home.orders.cut = decode(self._closed, self.image.held(self._closed)) == 0.0
        self._home.totals.commands += 1
        self._home.settle()
