"""Problem in, verified dispatch out. Knows no device and no database."""

from optimizer.arrays import FloatArray, InvalidProblem, Series
from optimizer.audit import Audit, Finding
from optimizer.engine import solve, solve_many
from optimizer.explain import BindingLimit, Explanation, Reason, Why
from optimizer.fast import FirstInterval, WarmDispatch
from optimizer.formulation.battery import Battery, BatterySchedule, WearSegment
from optimizer.formulation.inverter import HybridInverter, InverterSchedule
from optimizer.formulation.pv import Pv, PvSchedule
from optimizer.formulation.vehicle import Vehicle, VehicleSchedule
from optimizer.ladder import LADDER, Ladder
from optimizer.problem import (
    Asset,
    CapacityLimit,
    ChangeCost,
    DemandCharge,
    DemandResponse,
    DispatchProblem,
    GridConnection,
    Prices,
    ProgressiveTariff,
    TariffBlock,
)
from optimizer.solution import (
    AssetSchedule,
    CostLine,
    DispatchSolution,
    Outcome,
    SolveReport,
    StoreSchedule,
    UnmetWish,
)

__all__ = [
    "LADDER",
    "Asset",
    "AssetSchedule",
    "Audit",
    "Battery",
    "BatterySchedule",
    "BindingLimit",
    "CapacityLimit",
    "ChangeCost",
    "CostLine",
    "DemandCharge",
    "DemandResponse",
    "DispatchProblem",
    "DispatchSolution",
    "Explanation",
    "Finding",
    "FirstInterval",
    "FloatArray",
    "GridConnection",
    "HybridInverter",
    "InvalidProblem",
    "InverterSchedule",
    "Ladder",
    "Outcome",
    "Prices",
    "ProgressiveTariff",
    "Pv",
    "PvSchedule",
    "Reason",
    "Series",
    "SolveReport",
    "StoreSchedule",
    "TariffBlock",
    "UnmetWish",
    "Vehicle",
    "VehicleSchedule",
    "WarmDispatch",
    "WearSegment",
    "Why",
    "solve",
    "solve_many",
]
