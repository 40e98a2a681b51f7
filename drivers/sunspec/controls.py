"""Controls of SunSpec devices: models 123 and 124, or 704, with their enable bits and reversion timers.

Model 124 sets a window for battery power p (discharging positive): -InWRte <= p <= OutWRte, each in percent of
WChaMax, where a negative rate forces the opposite direction (Fronius GEN24 Modbus manual 42,0410,2649, chapter
Basic Storage Control: "negative values ... force"; the evcc template fronius-gen24 forces charging so).
Window and timer stand side by side and are written in one request; then the mode bits are made sure of.

A point that shows its "not implemented" value when the device is identified is never written: a device without a
reversion timer is steered without one, and then does not count as one that reverts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from drivers.device_map import Control, Expression, Step
from drivers.registers import Register
from drivers.sunspec.mapping import first
from drivers.sunspec.models import PlacedModel

_BOTH = 3.0
"""StorCtl_Mod: charge limit and discharge limit in force."""


def build_controls(models: Sequence[PlacedModel], static: Mapping[str, float]) -> dict[str, Control]:
    """Controls the device offers.

    Parameters
    ----------
    static
        Values read at identification: scale factors and ratings by `model.point`.
    """
    controls: dict[str, Control] = {}
    storage = first(models, 124)
    if storage is not None and (control := _storage_window(storage, static)) is not None:
        controls[control.name] = control
    immediate, der = first(models, 123), first(models, 704)
    if immediate is not None and (control := _immediate_limit(immediate, static)) is not None:
        controls[control.name] = control
    if der is not None:
        if "battery_power" not in controls and "storage" in static:
            controls["battery_power"] = _der_setpoint(der, static)
        if "generation_limit" not in controls and (control := _der_limit(der, static)) is not None:
            controls[control.name] = control
    return controls


def static_points(models: Sequence[PlacedModel]) -> list[tuple[str, Register]]:
    """What `build_controls` wants read at identification."""
    wanted = (
        (
            124,
            ("WChaMax", "WChaMax_SF", "InOutWRte_SF", "InOutWRte_WinTms", "InOutWRte_RvrtTms", "ChaGriSet"),
        ),
        (123, ("WMaxLimPct_SF", "WMaxLimPct_WinTms", "WMaxLimPct_RvrtTms")),
        (120, ("WRtg", "WRtg_SF")),
        (121, ("WMax", "WMax_SF")),
        (
            704,
            (
                *("WSet_SF", "WSetMod", "WSetEnaRvrt", "WSetRvrtTms"),
                *("WMaxLimPct_SF", "WMaxLimPctEnaRvrt", "WMaxLimPctRvrtTms"),
            ),
        ),
        (702, ("WMax", "WMaxRtg", "W_SF", "WChaRteMaxRtg")),
        (713, ("WHRtg",)),
    )
    out: list[tuple[str, Register]] = []
    for model_id, paths in wanted:
        model = first(models, model_id)
        for path in paths if model is not None else ():
            point = model.points.get(path) if model is not None else None
            if point is not None:
                out.append((f"{model_id}.{path}", point.register(f"{model_id}.{path}")))
    return out


def _kw(static: Mapping[str, float], value: str, scale: str) -> float | None:
    """Rating [kW]; None unless both the value and its scale factor are there."""
    if value not in static or scale not in static:
        return None
    return float(static[value] * 10.0 ** static[scale] / 1000.0)


def _register(model: PlacedModel, path: str, factor: float = 1.0) -> Register:
    """A point as a register whose scale factor is already inside `factor`."""
    return replace(
        model.points[path].register(f"{model.model_id}.{path}", factor=factor), scale_from=None, absent=()
    )


def _timer(model: PlacedModel, point: str, static: Mapping[str, float]) -> tuple[Step, ...]:
    """The reversion timer, where the device has it."""
    if f"{model.model_id}.{point}" not in static:
        return ()
    return (Step(values=((_register(model, point), Expression.VALID_S),)),)


def _timed(
    model: PlacedModel, values: Step, window: str, timer: str, static: Mapping[str, float]
) -> tuple[Step, ...]:
    """Values with the timers the device has: in one request where they stand side by side, the timer first otherwise."""
    has_window, has_timer = (f"{model.model_id}.{point}" in static for point in (window, timer))
    if has_window and has_timer:
        timers = ((_register(model, window), 0.0), (_register(model, timer), Expression.VALID_S))
        return (Step(values=values.values + timers),)
    return (*_timer(model, timer, static), values)


def _ensured(model: PlacedModel, point: str, value: float, static: Mapping[str, float]) -> tuple[Step, ...]:
    """A mode or enable bit, where the device has it."""
    if f"{model.model_id}.{point}" not in static:
        return ()
    return (Step(values=((_register(model, point), value),), ensure=True),)


def _storage_window(model: PlacedModel, static: Mapping[str, float]) -> Control | None:
    reference_kw = _kw(static, "124.WChaMax", "124.WChaMax_SF")
    needed = ("OutWRte", "InWRte", "InOutWRte_WinTms", "InOutWRte_RvrtTms", "StorCtl_Mod")
    if not reference_kw or "124.InOutWRte_SF" not in static or any(p not in model.points for p in needed):
        return None
    unit_kw = reference_kw / 100.0 * 10.0 ** static["124.InOutWRte_SF"]
    window = Step(
        values=(
            (_register(model, "OutWRte", unit_kw), Expression.MINUS_TARGET),
            (_register(model, "InWRte", unit_kw), Expression.TARGET),
        )
    )
    mode = Step(values=((_register(model, "StorCtl_Mod"), _BOTH),), ensure=True)
    steps = (
        *_ensured(model, "ChaGriSet", 1.0, static),
        *_timed(model, window, "InOutWRte_WinTms", "InOutWRte_RvrtTms", static),
        mode,
    )
    open_window = Step(
        values=(
            (_register(model, "OutWRte", unit_kw), reference_kw),
            (_register(model, "InWRte", unit_kw), reference_kw),
        )
    )
    return Control(
        name="battery_power",
        steps=steps,
        release=(Step(values=((_register(model, "StorCtl_Mod"), 0.0),)), open_window),
        step_kw=unit_kw,
        min_kw=-reference_kw,
        max_kw=reference_kw,
        min_from="discharge_limit_kw",
        max_from="charge_limit_kw",
        reverts="124.InOutWRte_RvrtTms" in static,
        longest_valid_s=65_534.0,
    )


def _immediate_limit(model: PlacedModel, static: Mapping[str, float]) -> Control | None:
    rating_kw = _kw(static, "121.WMax", "121.WMax_SF") or _kw(static, "120.WRtg", "120.WRtg_SF")
    needed = ("WMaxLimPct", "WMaxLimPct_WinTms", "WMaxLimPct_RvrtTms", "WMaxLim_Ena")
    if not rating_kw or "123.WMaxLimPct_SF" not in static or any(p not in model.points for p in needed):
        return None
    unit_kw = rating_kw / 100.0 * 10.0 ** static["123.WMaxLimPct_SF"]
    return Control(
        name="generation_limit",
        steps=(
            *_timed(
                model,
                Step(values=((_register(model, "WMaxLimPct", unit_kw), Expression.TARGET),)),
                "WMaxLimPct_WinTms",
                "WMaxLimPct_RvrtTms",
                static,
            ),
            Step(values=((_register(model, "WMaxLim_Ena"), 1.0),), ensure=True),
        ),
        release=(Step(values=((_register(model, "WMaxLim_Ena"), 0.0),)),),
        step_kw=unit_kw,
        min_kw=0.0,
        max_kw=rating_kw,
        reverts="123.WMaxLimPct_RvrtTms" in static,
        longest_valid_s=65_534.0,
    )


def _der_setpoint(model: PlacedModel, static: Mapping[str, float]) -> Control:
    """704 WSet is the AC power of the whole device, generation positive."""
    unit_kw = 10.0 ** static.get("704.WSet_SF", 0.0) / 1000.0
    rating_kw = _kw(static, "702.WChaRteMaxRtg", "702.W_SF")
    return Control(
        name="battery_power",
        steps=(
            *_timer(model, "WSetRvrtTms", static),
            *_ensured(model, "WSetEnaRvrt", 0.0, static),
            *_ensured(model, "WSetMod", 1.0, static),
            Step(values=((_register(model, "WSet", unit_kw), Expression.AC_GENERATION),)),
            Step(values=((_register(model, "WSetEna"), 1.0),), ensure=True),
        ),
        release=(Step(values=((_register(model, "WSetEna"), 0.0),)),),
        step_kw=unit_kw,
        min_kw=None if rating_kw is None else -rating_kw,
        max_kw=rating_kw,
        min_from="discharge_limit_kw",
        max_from="charge_limit_kw",
        reverts="704.WSetRvrtTms" in static,
        longest_valid_s=4e9,
    )


def _der_limit(model: PlacedModel, static: Mapping[str, float]) -> Control | None:
    rating_kw = _kw(static, "702.WMax", "702.W_SF") or _kw(static, "702.WMaxRtg", "702.W_SF")
    if not rating_kw or "704.WMaxLimPct_SF" not in static:
        return None
    unit_kw = rating_kw / 100.0 * 10.0 ** static["704.WMaxLimPct_SF"]
    return Control(
        name="generation_limit",
        steps=(
            *_timer(model, "WMaxLimPctRvrtTms", static),
            *_ensured(model, "WMaxLimPctEnaRvrt", 0.0, static),
            Step(values=((_register(model, "WMaxLimPct", unit_kw), Expression.TARGET),)),
            Step(values=((_register(model, "WMaxLimPctEna"), 1.0),), ensure=True),
        ),
        release=(Step(values=((_register(model, "WMaxLimPctEna"), 0.0),)),),
        step_kw=unit_kw,
        min_kw=0.0,
        max_kw=rating_kw,
        reverts="704.WMaxLimPctRvrtTms" in static,
        longest_valid_s=4e9,
    )
