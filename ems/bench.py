"""The figures this project publishes, by area. Each package measures itself; the whole loop is measured here."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ems.errors import EmsError

AREAS = {
    "dispatch": "optimizer.bench:dispatch_figures",
    "modbus": "drivers.bench:modbus_figures",
    "store": "ems.store.bench:store_figures",
    "control": "ems.control_bench:control_figures",
}
"""What `ems bench AREA` calls; loaded only when asked for, as each brings its own test field along."""


COLUMNS = ("figure", "value", "unit", "target", "holds", "how")


WITH_DATA = ("control",)
"""Areas that can measure on a folder of data instead of what the repository brings."""


def figures_of(
    area: str, *, data: Path | None = None, progress: Callable[[int], None] = lambda percent: None
) -> list[dict[str, Any]]:
    """Measure one area; each row has `COLUMNS`, a value of None was not measured and does not hold.

    Parameters
    ----------
    area
        One of `AREAS`.
    data
        Folder of data to measure on; only for areas in `WITH_DATA`.
    progress
        Told percent of what takes long; only areas in `WITH_DATA` do.
    """
    if data is not None and area not in WITH_DATA:
        raise EmsError(f"bench {area}: --data is for {', '.join(WITH_DATA)}; leave it out")
    module, _, function = AREAS[area].partition(":")
    try:
        measure = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise EmsError(f"bench {area}: {error.name} is not there; this build does not measure it") from error
    measured = measure(data=data, progress=progress) if area in WITH_DATA else measure()
    return [{name: getattr(figure, name) for name in COLUMNS} for figure in measured]
