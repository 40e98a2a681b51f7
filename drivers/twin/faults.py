"""Faults a simulated device can be told to have. All off by default; each is switched by assigning a field."""

from dataclasses import dataclass


@dataclass(slots=True)
class Faults:
    """What is wrong with one served device."""

    silent: bool = False
    """Takes requests, answers none."""
    delay_s: float = 0.0
    """Answers so much later [s, wall time]; beyond the client's time-out this makes late answers."""
    reset: bool = False
    """Closes the connection at each request."""
    refuse_connections: bool = False
    """Closes each new connection at once."""
    garbage: bool = False
    """Answers bytes that are no frame."""
    wrong_count: bool = False
    """Answers one register fewer than asked, in a well-formed frame."""
    wrong_unit: bool = False
    """Answers in the name of another unit."""
    exception_code: int | None = None
    """Answers every request with this Modbus exception."""
    reject_writes: bool = False
    """Answers writes with exception 4."""
    ignore_writes: bool = False
    """Acknowledges writes and does nothing."""
    idle: bool = False
    """Inverter and charger: shows what was written and does not act on it."""
    frozen: bool = False
    """Shows the values of the moment this was switched on."""
    swap_sign: bool = False
    """Meter: power shows the other sign, import and export counters are exchanged."""
    clock_drift_s: float = 0.0
    """The device's own reversion timers run off so much late [s, site time]."""
