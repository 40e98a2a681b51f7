"""What the demo prints: a living summary, and the key figures at the end."""

import time
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ems.demo.figures import KeyFigures, Progress
from ems.demo.run import Demo

ZONE = ZoneInfo("America/Los_Angeles")


def living_summary(demo: Demo, end_at: datetime | None) -> None:
    """Show what happens until `end_at` (site time), or until interrupted; keeps the service alive meanwhile."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2, transient=False) as live:
            while _runs(demo, end_at):
                live.update(_table(demo, demo.progress()))
                time.sleep(1.0)
        return
    told_hour = None
    while _runs(demo, end_at):
        now = demo.progress()
        if now.at.hour != told_hour:
            told_hour = now.at.hour
            console.print(_line(now), highlight=False, soft_wrap=True)
        time.sleep(0.5)


def closing(figures: KeyFigures) -> None:
    """Print the key figures against idle storage."""
    table = Table(title=f"{figures.homes} homes, {figures.span_h:g} h", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    rows = [
        ("paid", f"{figures.cost:.2f} {figures.currency}"),
        ("with storage idle", f"{figures.cost_idle:.2f} {figures.currency}"),
        ("saved", f"{figures.saving:.2f} {figures.currency} ({_percent(figures.saving, figures.cost_idle)})"),
        ("stored energy, change", f"{figures.stored_kwh:+.1f} kWh"),
        ("imported, by the meters", f"{figures.import_kwh:.1f} kWh"),
        ("imported, as it truly flowed", f"{figures.import_truth_kwh:.1f} kWh"),
        ("exported", f"{figures.export_kwh:.1f} kWh"),
        ("cycles", f"{figures.cycles} ({figures.missed} missed)"),
        ("plans below optimal", f"{figures.fallbacks}"),
        ("setpoints written", f"{figures.setpoints} ({figures.undelivered} without known outcome)"),
        ("intervals without measured account", f"{figures.lost_intervals}"),
        ("imported energy unaccounted for", f"{figures.lost_kwh:.1f} kWh"),
        ("time above a connection limit", f"{figures.violation_s:.0f} s"),
        ("service restarts", f"{figures.restarts}"),
    ]
    for row in rows:
        table.add_row(*row)
    verdict = (
        "no limit broken, nothing lost"
        if figures.sound
        else "NOT SOUND: a limit was broken or something was lost"
    )
    Console().print(Group(table, Text(verdict, style="green" if figures.sound else "bold red")))


def _runs(demo: Demo, end_at: datetime | None) -> bool:
    demo.tend()
    return end_at is None or demo.clock.now() < end_at


def _table(demo: Demo, now: Progress) -> Table:
    table = Table(title=f"{len(demo.homes)} homes   {demo.url}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("time", now.at.astimezone(ZONE).strftime("%a %d %b %H:%M"))
    table.add_row("import", f"{now.import_kwh:.1f} kWh")
    table.add_row("export", f"{now.export_kwh:.1f} kWh")
    table.add_row("solar", f"{now.pv_kwh:.1f} kWh")
    table.add_row("storage", f"{now.stored_frac:.0%}")
    table.add_row("plan", f"{now.plan}, {now.cycles} cycles")
    table.add_row("saved so far", f"{now.saving:.2f} {now.currency}")
    if now.troubles:
        table.add_row("devices silent", f"{now.troubles}")
    if now.restarts:
        table.add_row("service restarts", f"{now.restarts}")
    return table


def _line(now: Progress) -> str:
    return (
        f"{now.at.astimezone(ZONE):%a %H:%M}  import {now.import_kwh:7.1f} kWh  solar {now.pv_kwh:7.1f} kWh  "
        f"storage {now.stored_frac:4.0%}  plan {now.plan}  cycles {now.cycles}  saved {now.saving:6.2f} {now.currency}"
    )


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole > 0 else "-"
