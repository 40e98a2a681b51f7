"""The grid a simulated home hangs on: voltages and frequency that move a little, the same at every look."""

import math


def phase_volts(t_s: float) -> tuple[float, float, float]:
    """Phase to neutral [V] at an instant; varies over minutes and seconds as real grids do."""

    def volts(phase: float) -> float:
        return 230.0 + 2.0 * math.sin(t_s / 977.0 + phase) + 0.5 * math.sin(t_s / 13.0 + phase)

    return volts(0.0), volts(2.1), volts(4.2)


def frequency_hz(t_s: float) -> float:
    """Grid frequency [Hz] at an instant."""
    return 50.0 + 0.02 * math.sin(t_s / 61.0)
