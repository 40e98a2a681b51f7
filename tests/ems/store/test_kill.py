"""`kill -9` at any moment: every acknowledged row is there, and nothing is half there."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ems.codec import to_json
from ems.store import Store
from tests.ems.store.writer import HOMES, cycle, instant, readings, setpoints

WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture
def nursery() -> Iterator[subprocess.Popen[str]]:
    """A process that forks writers."""
    with subprocess.Popen(
        [sys.executable, "-u", str(WRITER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


def killed_writer(
    nursery: subprocess.Popen[str], url: str, first: int, acks: int, wait_s: float
) -> list[str]:
    """Let a writer begin at `first`, kill it -9 some time after its `acks`-th acknowledgement, return them all."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{url} {first}\n")
    nursery.stdin.flush()
    said: list[str] = []
    pid = None
    while pid is None or len(said) < acks:
        line = nursery.stdout.readline().strip()
        assert line not in ("", "gone"), "the writer died by itself"
        if line.startswith("pid"):
            pid = int(line.split()[1])
        else:
            said.append(line)
    time.sleep(wait_s)
    os.kill(pid, signal.SIGKILL)
    while (line := nursery.stdout.readline().strip()) != "gone":
        said.append(line)
    return said


def kept_whole(store: Store, kind: str, n: int) -> bool:
    """Tell whether a write is there as it was; fail when only a part of it is."""
    at, end = instant(n), instant(n + 1)
    if kind == "c":
        record = cycle(n)
        found = store.record(at)
        if found is None:
            assert store.cycles(at, end) == ()
            in_force = [store.plan_in_force(plan.site_id, at) for plan in record.plans]
            assert all(plan is None or plan.issued_at < at for plan in in_force)
            return False
        assert to_json(found) == to_json(record)
        assert {len(store.setpoints(site.id, at, end)) for site in record.sites} == {1}
        return True
    if kind == "r":
        counts = set()
        for reading in readings(n):
            for key, sample in reading.samples.items():
                found_samples = store.samples(reading.site_id, key, at, end).samples
                counts.add(len(found_samples))
                assert [s.value for s in found_samples] in ([], [sample.value])
    else:
        asked, came = setpoints(n)
        counts = set()
        for home in HOMES:
            found_setpoints = store.setpoints(home, at, end)
            if kind == "s":
                assert [f.setpoint for f in found_setpoints] in ([], [s for s in asked if s.site_id == home])
                counts.add(len(found_setpoints))
            else:
                outcomes = [f.delivery for f in found_setpoints if f.delivery is not None]
                assert outcomes in ([], [d for d in came if d.site_id == home])
                counts.add(len(outcomes))
    assert len(counts) == 1, f"{kind} {n} is torn: {counts}"
    return counts == {1}


def rounds(nursery: subprocess.Popen[str], url: str, count: int, seed: int) -> int:
    """Kill `count` writers on one database; return how many writes were acknowledged and found."""
    rng = random.Random(seed)
    first = acknowledged = 0
    for _ in range(count):
        said = killed_writer(nursery, url, first, rng.randrange(0, 12), rng.uniform(0, 0.03))
        store = Store.open(url)
        for line in said:
            kind, n = line.split()
            assert kept_whole(store, kind, int(n)), f"{line} was acknowledged and is gone"
        last = int(said[-1].split()[1]) if said else first
        for n in range(last, last + 4):
            for kind in "c" if n % 2 else "rsd":
                kept_whole(store, kind, n)
        store.close()
        acknowledged += len(said)
        first = last // 2 * 2 + 4
    return acknowledged


def test_no_acknowledged_write_is_lost_when_the_writer_is_killed(
    url: str, nursery: subprocess.Popen[str]
) -> None:
    assert rounds(nursery, url, 15, seed=1) > 30


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_acknowledged_write_is_lost_in_hundreds_of_kills(
    tmp_path: Path, nursery: subprocess.Popen[str]
) -> None:
    path = tmp_path / "ems.sqlite"
    assert rounds(nursery, f"sqlite:///{path}", 200, seed=2) > 400
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
