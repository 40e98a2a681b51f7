"""The fast loop's call: the same compiled dispatch, re-solved warm with what the meter shows now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optimizer.problem import DispatchProblem
from optimizer.solution import DispatchSolution, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstInterval:
    """What to do now."""

    outcome: Outcome
    """`optimal` or `feasible` may be used, anything else not."""
    import_kw: float
    """Import that results [kW]."""
    export_kw: float
    """Export that results [kW]."""
    net_consumption_kw: Mapping[str, float]
    """Per asset: power at the site bus, + drawn [kW]; assets behind a hybrid inverter: on its DC side."""
    unserved_kw: float
    """Critical load that cannot be served [kW]."""
    surplus_kw: float
    """Generation nobody can take [kW]."""
    bus_price_per_kwh: float
    """Marginal price at the bus now [currency/kWh]."""
    stored_value_per_kwh: Mapping[str, float]
    """Per store: what one more kWh is worth after this interval [currency/kWh]."""
    solver_seconds: float
    """Time inside the solver [s]."""


class WarmDispatch:
    """One site's compiled dispatch, kept warm between two plans. Not safe for two threads at once."""

    def __init__(self, start: DispatchProblem | DispatchSolution) -> None:
        raise NotImplementedError

    def resolve_first(
        self,
        *,
        load_kw: float | None = None,
        pv_available_kw: Mapping[str, float] | None = None,
        stored_kwh: Mapping[str, float] | None = None,
        import_limit_kw: float | None = None,
        export_limit_kw: float | None = None,
        remaining_h: float | None = None,
    ) -> FirstInterval:
        """Solve again with what is there now in the first interval; the rest of the horizon stays as planned.

        Parameters
        ----------
        load_kw
            Uncontrolled load now [kW].
        pv_available_kw
            Available generation now, per array [kW].
        stored_kwh
            Energy now, per battery or vehicle [kWh].
        import_limit_kw, export_limit_kw
            Limit that holds now [kW], e.g. a grid operator's signal.
        remaining_h
            What is left of the first interval [h].
        """
        raise NotImplementedError
