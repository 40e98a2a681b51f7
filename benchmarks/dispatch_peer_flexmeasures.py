"""The benchmark home in FlexMeasures' direct HiGHS backend; runs inside FlexMeasures' own environment.

Reads the home as JSON from standard input, prints `{"cost": .., "seconds": ..}`.
"""

import json
import sys
import time
from datetime import timedelta

import numpy as np
import pandas as pd
from flask import Flask
from flexmeasures.data.models.planning import FlowCommitment
from flexmeasures.data.models.planning.highspy_optimization import device_scheduler_highspy
from flexmeasures.data.models.planning.utils import initialize_df

COLUMNS = [
    "equals",
    "max",
    "min",
    "efficiency",
    "derivative equals",
    "derivative max",
    "derivative min",
    "derivative down efficiency",
    "derivative up efficiency",
    "stock delta",
]


def main() -> None:
    """Solve the home a few times; the fastest counts."""
    home = json.load(sys.stdin)
    hours = home["hours"]
    start = pd.Timestamp("2026-01-01T00:00:00")
    step = timedelta(hours=hours)
    end = start + step * len(home["load_kw"])

    def frame() -> pd.DataFrame:
        return initialize_df(COLUMNS, start, end, step)

    load, sun, battery, site = frame(), frame(), frame(), frame()
    index = load.index
    load["derivative equals"] = np.array(home["load_kw"])
    sun["derivative max"] = 0.0
    sun["derivative min"] = -np.array(home["pv_kw"])
    # stock counts flow per step in this interface, so energies are divided by the step
    battery["max"] = (home["capacity_kwh"] - home["stored_kwh"]) / hours
    battery["min"] = (home["floor_kwh"] - home["stored_kwh"]) / hours
    battery["derivative max"] = home["charge_kw"]
    battery["derivative min"] = -home["discharge_kw"]
    battery["derivative up efficiency"] = home["charge_efficiency"]
    battery["derivative down efficiency"] = home["discharge_efficiency"]
    site["derivative max"] = home["import_limit_kw"]
    site["derivative min"] = -home["export_limit_kw"]
    energy = FlowCommitment(
        name="energy",
        quantity=0,
        upwards_deviation_price=pd.Series(np.array(home["import_price"]) * hours, index=index),
        downwards_deviation_price=pd.Series(np.array(home["export_price"]) * hours, index=index),
        index=index,
        device=pd.Series([[0, 1, 2]] * len(index), index=index),
        device_group=pd.Series({0: "site", 1: "site", 2: "site"}),
    )
    seconds, cost = [], 0.0
    for _ in range(5):
        began = time.perf_counter()
        _, cost, _, _ = device_scheduler_highspy(
            device_constraints=[load, sun, battery],
            ems_constraints=site,
            commitments=[energy],
            initial_stock=[0, 0, 0],
        )
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"cost": float(cost), "seconds": min(seconds)}))


application = Flask("peer")
application.config |= {"FLEXMEASURES_LP_SOLVER": "highspy", "LOGGING_LEVEL": "WARNING"}
with application.app_context():
    main()
