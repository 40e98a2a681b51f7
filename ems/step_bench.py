"""How fast the whole service answers when load jumps: homes on real sockets in one process, the service on one core."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from ems.clock import next_interval_start
from ems.codec import FloatArray
from ems.demo.street import site_file
from ems.errors import DataError
from ems.processes import begin, end, is_well, last_line
from ems.step_field import LIMIT_KW, PERIOD_S, homes_without_vehicle

STEP_S = 900
"""Interval of planning [s]."""
LOOP_S = 0.23
"""Period of the loop [s], `EMS_FAST_LOOP_S`; no part of the time between jumps, which so meet any moment."""
READY_S = 150.0
"""Time from the start of field and service to the first jump [s]: 200 homes are learned, planned and valued in it."""
BEFORE_CYCLE_S = 5.0
"""Jumps through a cycle are counted from so long before it [s]."""
END_WITHIN_S = 60.0
"""Longest wait for a process that is told to end [s]."""
LOST_S = PERIOD_S / 2
"""What a jump counts that is not answered while the load is high [s]."""
COUNTED = ("ems_fast_loop_seconds_sum", "ems_fast_loop_seconds_count", "process_cpu_seconds_total")
"""Counters of the service."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """How the service answered jumps of load."""

    answered_s: FloatArray
    """Time from each jump to a changed power of the battery [s]."""
    within_s: FloatArray
    """Time from each jump until the connection was within its limit again [s]."""
    look_s: float
    """What a look of the fast loop at a home took on average [s]."""
    busy_frac: float
    """Share of its core the service used; NaN where the system does not tell."""


def answers(
    folder: Path, count: int, seconds: int, *, ready_s: float = READY_S, through_cycle: bool = True
) -> list[Answers]:
    """Measure between two cycles, and through the next one; the store is where the service keeps it by default: a file.

    Parameters
    ----------
    folder
        Where field and service may write.
    count
        Homes; each jumps every `PERIOD_S`, one after the other.
    seconds
        How long jumps are counted each time.
    ready_s
        Time for field and service to get ready.
    through_cycle
        Whether to wait for the next cycle.

    Raises
    ------
    DataError
        The field or the service did not get ready in time.
    """
    left_s = _until_cycle_s()
    if left_s < (needs_s := ready_s + seconds):
        time.sleep(left_s)
    start_at = datetime.now(UTC) + timedelta(seconds=ready_s)
    span_s = int(needs_s + STEP_S + seconds + PERIOD_S)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with (
        _field(folder, count, start_at, span_s, cores[1:]),
        _service(folder, count, start_at, cores[:1]) as url,
    ):
        time.sleep(max(0.0, (start_at - datetime.now(UTC)).total_seconds()))
        spans = [_watched(url, seconds)]
        if through_cycle:
            time.sleep(max(0.0, _until_cycle_s() - BEFORE_CYCLE_S))
            spans.append(_watched(url, seconds))
        # jumps at the very end are answered too
        time.sleep(LOST_S)
    told = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return [_answers_in(told, began_s, seconds, counted) for began_s, counted in spans]


def _until_cycle_s() -> float:
    now = datetime.now(UTC)
    return (next_interval_start(now, STEP_S) - now).total_seconds()


def _watched(url: str, seconds: int) -> tuple[float, dict[str, float]]:
    """Let time pass; returns when it began [epoch s] and what the service counted meanwhile."""
    began_s, before = time.time(), _counted(url)
    time.sleep(seconds)
    return began_s, {name: value - before.get(name, np.nan) for name, value in _counted(url).items()}


def _answers_in(
    told: Sequence[Mapping[str, float | None]], began_s: float, seconds: int, counted: Mapping[str, float]
) -> Answers:
    jumps = [jump for jump in told if began_s <= (jump["at_s"] or 0.0) < began_s + seconds]
    look_s, looks, busy_s = (counted.get(name, np.nan) for name in COUNTED)
    return Answers(
        answered_s=_or_lost(jump["answered_s"] for jump in jumps),
        within_s=_or_lost(jump["within_s"] for jump in jumps),
        look_s=look_s / looks,
        busy_frac=busy_s / seconds,
    )


def _or_lost(taken_s: Iterable[float | None]) -> FloatArray:
    return np.array([LOST_S if one is None else one for one in taken_s])


@contextmanager
def _field(folder: Path, count: int, start_at: datetime, span_s: int, cores: Sequence[int]) -> Iterator[None]:
    """Run the homes, from when all their devices answer; what they saw is told at the end."""
    arguments = ["-m", "ems.step_field", str(folder), str(count), start_at.isoformat(), str(span_s)]
    with _running(arguments, cores, folder / "field.log") as field:
        _wait_for((folder / "endpoints.json").exists, field, start_at, folder / "field.log")
        yield


@contextmanager
def _service(folder: Path, count: int, start_at: datetime, cores: Sequence[int]) -> Iterator[str]:
    """Run the service on the homes; its address is yielded when it is well."""
    endpoints = json.loads((folder / "endpoints.json").read_text(encoding="utf-8"))
    sites = folder / "street.yaml"
    sites.write_text(
        site_file(homes_without_vehicle(count), endpoints, import_limit_kw=LIMIT_KW), encoding="utf-8"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = {
        "EMS_STORE": f"sqlite:///{folder / 'ems.sqlite'}",
        "EMS_FAST_LOOP_S": str(LOOP_S),
        "EMS_DEMO": "yes",
    }
    arguments = ["-m", "ems", "run", str(sites), "--port", str(port)]
    with _running(arguments, cores, folder / "service.log", settings) as service:
        _wait_for(lambda: is_well(url), service, start_at, folder / "service.log")
        yield url


@contextmanager
def _running(
    arguments: Sequence[str], cores: Sequence[int], log: Path, settings: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run Python on some cores, where the system lets choose; it is ended at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EMS_")}
    own = os.sched_getaffinity(0) if cores else set()
    if cores:
        os.sched_setaffinity(0, cores)  # a process begins where the one is that begins it
    try:
        process = begin([sys.executable, *arguments], log=log, environment=environment | dict(settings or {}))
    finally:
        if cores:
            os.sched_setaffinity(0, own)
    try:
        yield process
    finally:
        end(process, within_s=END_WITHIN_S)


def _wait_for(
    ready: Callable[[], bool], process: "subprocess.Popen[bytes]", until: datetime, log: Path
) -> None:
    while not ready():
        if process.poll() is not None or datetime.now(UTC) > until:
            raise DataError(f"{log.stem}: not ready in time: {last_line(log)}")
        time.sleep(0.2)


def _counted(url: str) -> dict[str, float]:
    text = httpx.get(f"{url}/metrics", timeout=5.0).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.name: sample.value for sample in samples if sample.name in COUNTED}
