"""The process that gets killed: keeps passes, setpoints and cycles, and acknowledges each after it returned.

Stays in the background as a nursery: for each line `URL FIRST` it forks a writer that begins with number FIRST and says
its process id; so a kill costs no new interpreter.
"""

import os
import sys
from datetime import UTC, datetime, timedelta

from ems.cycle import CycleRecord
from ems.publishing import Delivery, DeliveryOutcome
from ems.readings import Quality, Sample, SiteReading, Unit
from ems.setpoints import Setpoint, SetpointSource
from ems.store import Store
from ems.store.synthetic import Street

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOMES = [f"home{i:05d}" for i in range(5)]


def instant(n: int) -> datetime:
    """When step `n` happens."""
    return T0 + timedelta(minutes=n)


def readings(n: int) -> list[SiteReading]:
    """The pass of step `n`; its values say which."""
    return [
        SiteReading(
            site_id=home,
            samples={
                f"meter.q{i}_kw": Sample(
                    value=n + i / 100,
                    unit=Unit.KW,
                    measured_at=instant(n),
                    quality=Quality.GOOD,
                    source=f"m {i}",
                )
                for i in range(12)
            },
            troubles={},
        )
        for home in HOMES
    ]


def setpoints(n: int) -> tuple[tuple[Setpoint, ...], tuple[Delivery, ...]]:
    """The requests of step `n`."""
    asked, came = Street(n_sites=len(HOMES), seed=n).setpoints(instant(n), SetpointSource.FAST_LOOP)
    assert all(delivery.outcome is DeliveryOutcome.APPLIED for delivery in came)
    return asked, came


def cycle(n: int) -> CycleRecord:
    """The cycle of step `n`."""
    return Street(n_sites=2, seed=n).cycle(instant(n))


def write(url: str, first: int) -> None:
    """Write for ever; one line per acknowledged write."""
    store = Store.open(url)
    n = first
    while True:
        store.save_readings(readings(n), instant(n))
        say(f"r {n}")
        asked, came = setpoints(n)
        store.save_setpoints(asked, ())
        say(f"s {n}")
        store.save_setpoints((), came)
        say(f"d {n}")
        # a cycle on steps of its own, as its first pass would meet the one above
        store.save_cycle(cycle(n + 1))
        say(f"c {n + 1}")
        n += 2


def say(line: str) -> None:
    """Say it at once, whole."""
    os.write(1, f"{line}\n".encode())


def main() -> None:
    """Fork a writer per line of standard input; say when it is gone."""
    for line in sys.stdin:
        url, first = line.split()
        child = os.fork()
        if child == 0:
            write(url, int(first))
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("gone")


if __name__ == "__main__":
    main()
