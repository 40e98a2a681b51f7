"""What a home is subjected to: powers and temperatures over time."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A power over time, constant in each step; repeats from its start when it ends."""

    start_at: datetime
    """Start of the first step, aware UTC."""
    step_s: float
    """Length of a step [s]."""
    power_kw: FloatArray
    """Mean power per step [kW], shape (T,), >= 0."""

    def __post_init__(self) -> None:
        if self.power_kw.ndim != 1 or not self.power_kw.size or not np.isfinite(self.power_kw).all():
            raise ValueError("power_kw must be a filled row of finite numbers")
        if (self.power_kw < 0.0).any() or self.step_s <= 0.0:
            raise ValueError("power_kw and step_s must not be negative")

    def at_s(self, t_s: float) -> tuple[float, float]:
        """Power [kW] and seconds until it changes, at `t_s` seconds since the epoch."""
        return _step_at(self.power_kw, t_s - self.start_at.timestamp(), self.step_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weather:
    """Outdoor temperature over time, constant in each step; repeats from its start when it ends."""

    start_at: datetime
    """Start of the first step, aware UTC."""
    step_s: float
    """Length of a step [s]."""
    outdoor_degc: FloatArray
    """Mean temperature per step [degC], shape (T,)."""

    def __post_init__(self) -> None:
        if (
            self.outdoor_degc.ndim != 1
            or not self.outdoor_degc.size
            or not np.isfinite(self.outdoor_degc).all()
        ):
            raise ValueError("outdoor_degc must be a filled row of finite numbers")
        if self.step_s <= 0.0:
            raise ValueError("step_s must be positive")

    def at_s(self, t_s: float) -> tuple[float, float]:
        """Temperature [degC] and seconds until it changes, at `t_s` seconds since the epoch."""
        return _step_at(self.outdoor_degc, t_s - self.start_at.timestamp(), self.step_s)


def _step_at(values: FloatArray, since_s: float, step_s: float) -> tuple[float, float]:
    steps = since_s / step_s
    index = int(steps // 1.0)
    left_s = (index + 1 - steps) * step_s
    return float(values[index % values.size]), left_s if left_s > 1e-6 else step_s
