"""The registers of a simulated device: what it shows, what it lets others write."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from drivers.registers import Register, Table, encode


class IllegalAddressError(Exception):
    """Modbus exception 2."""


class IllegalValueError(Exception):
    """Modbus exception 3."""


class IllegalFunctionError(Exception):
    """Modbus exception 1."""


def refuse_unless(allowed: bool) -> None:
    """Raise IllegalValueError for a value a real device would refuse."""
    if not allowed:
        raise IllegalValueError


def _nothing() -> None:
    """Default hook."""


def _accept(_: Table, __: int, ___: bytes) -> None:
    """Default check."""


@dataclass(slots=True)
class RegisterImage:
    """Registers of one unit, in runs of consecutive addresses. Bits are kept one byte each."""

    runs: dict[tuple[Table, int], bytearray] = field(default_factory=dict)
    """Table and first address -> contents."""
    writable: set[tuple[Table, int]] = field(default_factory=set)
    """Addresses that may be written."""
    refresh: Callable[[], None] = _nothing
    """Called before every request, so that values are of now."""
    check: Callable[[Table, int, bytes], None] = _accept
    """Called before a write; raises IllegalValueError to refuse it."""
    written: Callable[[Table, int, int], None] | None = None
    """Called after a write: table, address, count."""

    def define(self, table: Table, address: int, data: bytes) -> None:
        """Add a run of registers."""
        self.runs[table, address] = bytearray(data)

    def define_all(self, registers: Iterable[Register], *, max_gap: int = 0) -> None:
        """Add runs for registers, joining neighbours; gaps up to `max_gap` read as zeros."""
        registers = list(registers)
        width = {True: 1, False: 2}
        for table in Table:
            spans = sorted((r.address, r.end) for r in registers if r.table is table)
            start = end = -1
            for low, high in [*spans, (1 << 20, 1 << 20)]:
                if low > end + max_gap or start < 0:
                    if start >= 0:
                        self.define(table, start, bytes(width[table.is_bits] * (end - start)))
                    start = low
                end = max(end, high)

    def allow(self, registers: Iterable[Register]) -> None:
        """Let registers be written."""
        self.writable |= {(r.table, a) for r in registers for a in range(r.address, r.end)}

    def read(self, table: Table, address: int, count: int) -> bytes:
        """Registers as bytes (bits: one byte each); IllegalAddressError across an undefined address."""
        run, at = self._find(table, address, count)
        width = 1 if table.is_bits else 2
        return bytes(run[width * at : width * (at + count)])

    def write(self, table: Table, address: int, data: bytes) -> None:
        """Write as a client would: allow-list, check, store, tell."""
        count = len(data) if table.is_bits else len(data) // 2
        if not all((table, a) in self.writable for a in range(address, address + count)):
            raise IllegalAddressError
        self.check(table, address, data)
        self.store(table, address, data)
        if self.written is not None:
            self.written(table, address, count)

    def store(self, table: Table, address: int, data: bytes) -> None:
        """Set registers as the device itself does."""
        width = 1 if table.is_bits else 2
        run, at = self._find(table, address, len(data) // width)
        run[width * at : width * at + len(data)] = data

    def show(self, register: Register, value: float | None, power_of_ten: int = 0) -> None:
        """Show a value in one register."""
        data = encode(register, value, power_of_ten)
        if register.mask is not None:
            old = int.from_bytes(self.read(register.table, register.address, register.words), "big")
            data = (old & ~register.mask | int.from_bytes(data, "big")).to_bytes(len(data), "big")
        self.store(register.table, register.address, data)

    def held(self, register: Register) -> bytes:
        """Bytes of one register."""
        return self.read(register.table, register.address, register.words)

    def place(self, register: Register) -> tuple[bytearray, int]:
        """The run that holds a register, and where in it [bytes]."""
        run, at = self._find(register.table, register.address, register.words)
        return run, at if register.table.is_bits else 2 * at

    def copy(self) -> dict[tuple[Table, int], bytes]:
        """Everything shown now."""
        return {key: bytes(run) for key, run in self.runs.items()}

    def restore(self, contents: dict[tuple[Table, int], bytes]) -> None:
        """Show what was copied."""
        for key, data in contents.items():
            self.runs[key][:] = data

    def _find(self, table: Table, address: int, count: int) -> tuple[bytearray, int]:
        width = 1 if table.is_bits else 2
        for (kind, start), run in self.runs.items():
            if kind is table and start <= address and width * (address + count - start) <= len(run):
                return run, address - start
        raise IllegalAddressError
