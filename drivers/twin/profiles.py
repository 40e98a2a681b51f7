"""Powers over time: what a home is subjected to."""

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
        since = (t_s - self.start_at.timestamp()) / self.step_s
        index = int(since // 1.0)
        left_s = (index + 1 - since) * self.step_s
        return float(self.power_kw[index % self.power_kw.size]), left_s if left_s > 1e-6 else self.step_s
