"""The same home in this engine, in FlexMeasures and in EMHASS, each in its own environment, in one run.

    python benchmarks/dispatch_peers.py [--where DIR] [--save]

Installs the two peers beside the project (not into it), asks all three for the same optimum and prints a table. With
`--save` the result lies where `ems bench dispatch` looks for it.
"""

import argparse
import json
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np

from optimizer import Battery, DispatchProblem, Pv, bench, solve, solve_many

HERE = Path(__file__).parent
PEERS = {"flexmeasures": "flexmeasures==1.0.1", "emhass": "emhass==0.18.7"}


def benchmark_home() -> DispatchProblem:
    """One measured home, 192 steps, energy left at the end worth nothing (what all three can say)."""
    (home,) = bench.random_homes(bench.read_homes(bench.HOMES), 1, seed=11)
    battery, pv = home.assets
    assert isinstance(battery, Battery)
    assert isinstance(pv, Pv)
    plain = Battery(
        name="battery",
        capacity_kwh=battery.capacity_kwh,
        stored_kwh=battery.stored_kwh,
        charge_limit_kw=battery.charge_limit_kw,
        discharge_limit_kw=battery.discharge_limit_kw,
        charge_efficiency_frac=battery.charge_efficiency_frac,
        discharge_efficiency_frac=battery.discharge_efficiency_frac,
        band_min_kwh=battery.band_min_kwh,
        end_value_per_kwh=0.0,
    )
    return DispatchProblem(
        site_id="benchmark",
        hours=home.hours,
        load_kw=home.load_kw,
        prices=home.prices,
        grid=home.grid,
        assets=(plain, pv),
    )


def as_json(home: DispatchProblem) -> str:
    """The home as the peers' scripts read it."""
    (battery,), (pv,) = home.of(Battery), home.of(Pv)
    return json.dumps(
        {
            "hours": float(home.hours[0]),
            "load_kw": home.load_kw.tolist(),
            "pv_kw": pv.available_kw.tolist(),
            "import_price": np.asarray(home.prices.import_per_kwh).tolist(),
            "export_price": np.asarray(home.prices.export_per_kwh).tolist(),
            "capacity_kwh": battery.capacity_kwh,
            "stored_kwh": battery.stored_kwh,
            "floor_kwh": battery.band_min_kwh,
            "charge_kw": battery.charge_limit_kw,
            "discharge_kw": battery.discharge_limit_kw,
            "charge_efficiency": battery.charge_efficiency_frac,
            "discharge_efficiency": battery.discharge_efficiency_frac,
            "import_limit_kw": home.grid.import_limit_kw,
            "export_limit_kw": home.grid.export_limit_kw,
        }
    )


def python_of(peer: str, where: Path) -> Path:
    """The peer's own interpreter, installed when it is not there yet."""
    folder = where / peer
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {PEERS[peer]} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEERS[peer]], check=True)
    return python


def ask_peer(peer: str, where: Path, home: str) -> dict[str, float]:
    """Cost and seconds of a peer for the home."""
    done = subprocess.run(
        [python_of(peer, where), HERE / f"dispatch_peer_{peer}.py"],
        input=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-2_000:]}")
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def ask_us(home: DispatchProblem) -> dict[str, float]:
    """Cost and seconds of this engine: the home again and again in a batch, template known."""
    cost = solve(home).cost
    copies = [home] * 200
    began = time.perf_counter()
    solve_many(copies)
    return {"cost": cost, "seconds": (time.perf_counter() - began) / len(copies)}


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--where",
        type=Path,
        default=Path.home() / ".cache" / "ems-peers",
        help="folder of the environments of the peers",
    )
    arguments.add_argument("--save", action="store_true", help="keep the ratio for `ems bench dispatch`")
    given = arguments.parse_args()
    home = benchmark_home()
    rows = {"this engine": ask_us(home)}
    for peer in PEERS:
        rows[peer] = ask_peer(peer, given.where, as_json(home))
    ours = rows["this engine"]
    print(f"{'':14} {'cost':>12} {'ms':>10} {'ratio':>8}")
    for name, row in rows.items():
        print(
            f"{name:14} {row['cost']:12.6f} {row['seconds'] * 1e3:10.2f} {row['seconds'] / ours['seconds']:8.1f}"
        )
    ratio = min(rows[peer]["seconds"] for peer in PEERS) / ours["seconds"]
    if given.save:
        costs = ", ".join(
            f"{name} {row['cost']:.6f} in {row['seconds'] * 1e3:.1f} ms" for name, row in rows.items()
        )
        bench.PEERS.write_text(json.dumps({"ratio": ratio, "how": f"one run: {costs}"}), encoding="utf-8")


if __name__ == "__main__":
    main()
