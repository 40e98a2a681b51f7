"""Problem in, verified dispatch out. Knows no device and no database."""

from optimizer.arrays import FloatArray, InvalidProblem, Series
from optimizer.audit import Audit, Finding
from optimizer.engine import solve, solve_many
from optimizer.explain import BindingLimit, Explanation, Reason, Why
from optimizer.fast import FirstInterval, WarmDispatch
from optimizer.formulation.appliance import (
    FlexibleLoad,
    FlexibleLoadSchedule,
    ShiftableRun,
    ShiftableRunSchedule,
)
from optimizer.formulation.battery import Battery, BatterySchedule, WearSegment
from optimizer.formulation.generator import Generator, GeneratorSchedule
from optimizer.formulation.heat import (
    Boiler,
    Building,
    BuildingSchedule,
    HeatDemand,
    HeatPump,
    HeatStore,
    HeatStoreSchedule,
    cop_of,
)
from optimizer.formulation.inverter import HybridInverter, InverterSchedule
from optimizer.formulation.lighting import LightingGroup, LightingSchedule
from optimizer.formulation.pv import Pv, PvSchedule
from optimizer.formulation.sheddable import SheddableLoad, SheddableSchedule
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
from optimizer.value import ValuedDispatch
from optimizer.worth import StoredWorth

__all__ = [
    "LADDER",
    "Asset",
    "AssetSchedule",
    "Audit",
    "Battery",
    "BatterySchedule",
    "BindingLimit",
    "Boiler",
    "Building",
    "BuildingSchedule",
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
    "FlexibleLoad",
    "FlexibleLoadSchedule",
    "FloatArray",
    "Generator",
    "GeneratorSchedule",
    "GridConnection",
    "HeatDemand",
    "HeatPump",
    "HeatStore",
    "HeatStoreSchedule",
    "HybridInverter",
    "InvalidProblem",
    "InverterSchedule",
    "Ladder",
    "LightingGroup",
    "LightingSchedule",
    "Outcome",
    "Prices",
    "ProgressiveTariff",
    "Pv",
    "PvSchedule",
    "Reason",
    "Series",
    "SheddableLoad",
    "SheddableSchedule",
    "ShiftableRun",
    "ShiftableRunSchedule",
    "SolveReport",
    "StoreSchedule",
    "StoredWorth",
    "TariffBlock",
    "UnmetWish",
    "ValuedDispatch",
    "Vehicle",
    "VehicleSchedule",
    "WarmDispatch",
    "WearSegment",
    "Why",
    "cop_of",
    "solve",
    "solve_many",
]
