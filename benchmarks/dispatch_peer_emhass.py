"""The benchmark home in EMHASS, its re-solve; runs inside EMHASS' own environment.

Reads the home as JSON from standard input, prints `{"cost": .., "seconds": ..}`. EMHASS counts in watts.
"""

import json
import logging
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from emhass.optimization import Optimization


def main() -> None:
    """Build the problem once, then solve it a few times with its parameters set anew; the fastest counts."""
    home = json.load(sys.stdin)
    steps, hours = len(home["load_kw"]), home["hours"]
    conf = json.loads(files("emhass").joinpath("data/config_defaults.json").read_text())
    conf |= {
        "optimization_time_step": pd.Timedelta(hours=hours),
        "time_zone": "UTC",
        "sensor_power_photovoltaics": "pv",
        "sensor_power_load_no_var_loads": "load",
        "delta_forecast_daily": pd.Timedelta(hours=hours * steps),
        "number_of_deferrable_loads": 0,
        "set_use_pv": True,
        "set_use_battery": True,
        "set_nodischarge_to_grid": False,
        "compute_curtailment": False,
        "lp_solver_mip_rel_gap": 1e-6,
        "num_threads": 1,
        "maximum_power_from_grid": home["import_limit_kw"] * 1e3,
        "maximum_power_to_grid": home["export_limit_kw"] * 1e3,
        "battery_nominal_energy_capacity": home["capacity_kwh"] * 1e3,
        "battery_charge_power_max": home["charge_kw"] * 1e3,
        "battery_discharge_power_max": home["discharge_kw"] * 1e3,
        "battery_charge_efficiency": home["charge_efficiency"],
        "battery_discharge_efficiency": home["discharge_efficiency"],
        "battery_minimum_state_of_charge": home["floor_kwh"] / home["capacity_kwh"],
        "battery_maximum_state_of_charge": 1.0,
        "battery_target_state_of_charge": home["floor_kwh"] / home["capacity_kwh"],
        "inverter_ac_output_max": 1e6,
        "inverter_ac_input_max": 1e6,
    }
    index = pd.date_range("2026-01-01", periods=steps, freq=pd.Timedelta(hours=hours), tz="UTC")
    load, sun = np.array(home["load_kw"]) * 1e3, np.array(home["pv_kw"]) * 1e3
    buy, sell = np.array(home["import_price"]), np.array(home["export_price"])
    data = pd.DataFrame({"pv": sun, "load": load, "buy": buy, "sell": sell}, index=index)
    logger = logging.getLogger("emhass")
    logger.setLevel(logging.ERROR)
    paths = {"root_path": Path(), "data_path": Path()}
    problem = Optimization(
        dict(conf), dict(conf), dict(conf), "buy", "sell", "profit", paths, logger, num_timesteps=steps
    )
    start, end = home["stored_kwh"] / home["capacity_kwh"], home["floor_kwh"] / home["capacity_kwh"]
    seconds, cost = [], 0.0
    for _ in range(4):
        began = time.perf_counter()
        answer = problem.perform_optimization(data, sun, load, buy, sell, soc_init=start, soc_final=end)
        seconds.append(time.perf_counter() - began)
        grid = answer["P_grid"].to_numpy() / 1e3 * hours
        cost = float(np.maximum(grid, 0) @ buy + np.minimum(grid, 0) @ sell)
    print(json.dumps({"cost": cost, "seconds": min(seconds[1:])}))


main()
