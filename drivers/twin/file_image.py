"""A register image from a device file: every register the file names, showing its example, identity tests passing."""

import re
from collections.abc import Mapping
from typing import Final

from drivers.device_file import DeviceSpec, IdentitySpec, PlaceSpec
from drivers.file_device import passes, place_register, register_of
from drivers.protocols import Unit
from drivers.quantities import unit_of
from drivers.registers import Register, RegisterType, encode, encode_raw, encode_text, raw_value
from drivers.twin.image import RegisterImage

_TYPICAL: Final[Mapping[Unit, float]] = {
    Unit.KW: 1.0,
    Unit.KWH: 1234.0,
    Unit.KVAR: 0.1,
    Unit.KVA: 1.0,
    Unit.V: 230.0,
    Unit.A: 5.0,
    Unit.HZ: 50.0,
    Unit.DEGC: 25.0,
    Unit.FRAC: 0.5,
    Unit.S: 60.0,
    Unit.NONE: 0.0,
}
_SAMPLE_TEXTS: Final = ("A", "1", "Twin", "0001")


class FileImage:
    """The image of one device file and its registers by name."""

    def __init__(self, spec: DeviceSpec) -> None:
        self.spec = spec
        self.registers = {name: register_of(name, r) for name, r in spec.registers.items()}
        self.image = RegisterImage()
        places = [place_register("identity", test) for test in (*spec.identity, *spec.hints)]
        nameplate = [
            p for p in (spec.nameplate.model, spec.nameplate.serial, spec.nameplate.version) if p is not None
        ]
        places += [place_register("nameplate", place) for place in nameplate]
        # undefined registers that the file lets one read bridge exist in the device and read as zeros
        self.image.define_all([*self.registers.values(), *places], max_gap=spec.link.max_gap)
        self.image.allow(
            self.registers[name]
            for control in spec.controls.values()
            for step in (*control.write, *control.release)
            for name in step.set
        )
        for place in nameplate:
            self._fill(place)
        for name in self.registers:
            self.show(name, self.example(name))
        for test in spec.identity:
            self._satisfy(test)

    def example(self, name: str) -> float | None:
        """A value the device could show, in our unit and sign."""
        given = self.spec.registers[name].example
        if isinstance(given, str):
            return None
        register = self.registers[name]
        if given is not None:
            return given
        if register.meaning is not None:
            return next(iter(register.meaning.values()))
        if any(r.scale_from == name for r in self.registers.values()):
            return 0.0
        unit = unit_of(name) if unit_of(name) is not Unit.NONE else self.spec.registers[name].our_unit
        return _TYPICAL[unit]

    def show(self, name: str, value: float | None) -> None:
        """Show a value in one register; text registers show their example."""
        register = self.registers[name]
        if register.type is RegisterType.STRING:
            self.image.store(register.table, register.address, encode_text(register, "TWIN"))
        else:
            self.image.show(register, value, self._power_of(register))

    def _power_of(self, register: Register) -> int:
        if register.scale_from is None:
            return 0
        return int(self.example(register.scale_from) or 0.0)

    def _fill(self, place: PlaceSpec) -> None:
        register = place_register("nameplate", place)
        data = (
            encode_text(register, "TWIN-0001")
            if register.type is RegisterType.STRING
            else encode(register, 1.0)
        )
        self.image.store(register.table, register.address, data)

    def _satisfy(self, test: IdentitySpec) -> None:
        """Make an identity test pass, unless what is shown there passes already."""
        register = place_register("identity", test)
        if passes(test, raw_value(register, self.image.held(register))):
            return
        if test.between is not None:
            middle = (test.between[0] + test.between[1]) / 2.0 / test.scale
            data = encode(register, middle)
        else:
            wanted = text_matching(test.matches) if test.matches is not None else test.one_of[0]
            data = encode_text(register, wanted) if isinstance(wanted, str) else encode_raw(register, wanted)
        self.image.store(register.table, register.address, data)


def text_matching(pattern: str) -> str:
    """A text that a simple pattern (words, alternatives, anchors) matches.

    Raises
    ------
    ValueError
        The pattern is not simple enough; give the file `one_of` instead.
    """
    plain = pattern.replace("(?i)", "")
    for alternative in re.split(r"\|", re.sub(r"[()^$]", "", plain)):
        text = (
            re.sub(r"\\d\+?|\[0-9\]\+?", "1", alternative)
            .replace("\\", "")
            .replace(".*", "")
            .replace(".", "x")
        )
        for candidate in (text, *(text + more for more in _SAMPLE_TEXTS)):
            if re.search(pattern, candidate):
                return candidate
    raise ValueError(f"no text found that matches {pattern!r}")
