"""The command line. Imports inside commands on purpose: `--help` answers at once, and each command loads what it needs."""

import contextlib
import importlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from ems.errors import ConfigError, EmsError

if TYPE_CHECKING:
    from ems.cycle import CycleRecord
    from ems.simulation import SimulationReport
    from ems.site import Site

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Energy management service. Begin with `ems demo`.",
)
keys = typer.Typer(
    no_args_is_help=True, help="Make, list and revoke API keys. Example: `ems key add --role operator`"
)
app.add_typer(keys, name="key")

Params = ParamSpec("Params")
Result = TypeVar("Result")


class ControllerChoice(StrEnum):
    """Who steers in a simulation."""

    PLAN = "plan"
    RULES = "rules"
    IDLE = "idle"


class ForecastChoice(StrEnum):
    """What a simulated plan knows."""

    MODEL = "model"
    NAIVE = "naive"
    PERFECT = "perfect"


class BenchChoice(StrEnum):
    """What to measure."""

    DISPATCH = "dispatch"
    CONTROL = "control"
    MODBUS = "modbus"
    STORE = "store"


def clear_errors(command: Callable[Params, Result]) -> Callable[Params, Result]:
    """Turn what a user can mend into one line and exit status 2."""

    @wraps(command)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for mistake in error.mistakes:
                typer.echo(f"error: {mistake}", err=True)
        except EmsError as error:
            typer.echo(f"error: {error}", err=True)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None
        raise typer.Exit(2)

    return guarded


@app.command(epilog="Example: `ems demo --homes 10 --speed 144`  then open the address it prints")
@clear_errors
def demo(
    homes: Annotated[int, typer.Option(min=1, max=200, help="Number of homes.")] = 10,
    speed: Annotated[
        float, typer.Option(min=1, max=2000, help="Site seconds per second; 144: a day in 10 minutes.")
    ] = 144,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages.")] = 8080,
    span: Annotated[
        str | None,
        typer.Option("--for", help="Stop after this simulated span, e.g. 2h, and print key figures."),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where its files go; emptied first.")] = Path("var/demo"),
) -> None:
    """Measured households on simulated devices, the whole service on real sockets, a page to look at."""
    from ems.demo.run import Demo
    from ems.demo.show import closing, living_summary

    limit = None if span is None else duration(span)
    if limit is not None and limit < timedelta(minutes=30):
        raise usage("--for", span, "shorter than two intervals", "give at least 30m")
    running = Demo(folder, homes=homes, speed=speed, port=port)
    with running.running(tell=lambda text: typer.echo(text, err=True)):
        typer.echo(f"open {running.url}", err=True)
        end_at = None if limit is None else running.clock.site_start_at + limit
        living_summary(running, end_at)
        running.stop()
        if end_at is None:
            return
        figures = running.key_figures(end_at)
    closing(figures)
    raise typer.Exit(0 if figures.sound else 1)


@app.command(epilog="Example: `ems run deploy/sites/home-sunspec.yaml --port 8080`")
@clear_errors
def run(
    site_files: Annotated[list[Path], typer.Argument(help="Site files.", metavar="SITE.yaml ...")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of API and pages.")] = 8080,
) -> None:
    """Run the service on the devices of the site files. Settings come from the environment, see deploy/README.md."""
    import socket

    import uvicorn

    from ems.settings import read_settings
    from ems.wiring import read_sites

    os.environ["EMS_SITES"] = ":".join(str(path) for path in site_files)
    if "EMS_STORE" not in os.environ:
        Path("var").mkdir(exist_ok=True)
    settings = read_settings(os.environ)
    read_sites(settings)
    if settings.demo and host not in ("127.0.0.1", "::1", "localhost"):
        raise usage(
            "EMS_DEMO", "yes", f"the demo's open pages must not be served on {host}", "use --host 127.0.0.1"
        )
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise usage(
                "--port", str(port), f"cannot listen on {host}: {error.strerror}", "choose another"
            ) from error
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    # named by a string so that ems imports nothing of api
    server = uvicorn.Config(
        importlib.import_module("api.app").from_environment(),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(server).run()


@app.command(epilog="Example: `ems check deploy/sites/home-sunspec.yaml --probe`")
@clear_errors
def check(
    site_file: Annotated[Path | None, typer.Argument(help="Site file.", metavar="SITE.yaml")] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask every device, prove its data; writes nothing.")
    ] = False,
    probe_s: Annotated[
        float, typer.Option(min=0, max=3600, help="Time between the two readings compared [s].")
    ] = 30.0,
    load_step_kw: Annotated[
        float | None, typer.Option(min=0.1, help="Power of a load you will switch on [kW].")
    ] = None,
    speed: Annotated[
        float,
        typer.Option(min=1, max=2000, help="Site seconds per second, if the devices are those of a demo."),
    ] = 1.0,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of site files and end.")
    ] = False,
) -> None:
    """Check a site file: names every mistake with line, key, value and remedy."""
    from ems.commissioning import LoadStep, check_devices, probe_sites
    from ems.config import load_sites, site_schema
    from ems.wiring import driver_names

    if schema:
        typer.echo(json.dumps(site_schema(), indent=2, ensure_ascii=False))
        return
    if site_file is None:
        raise usage("SITE.yaml", "", "no site file is named", "give its path, or --schema")
    sites = load_sites(site_file, known_drivers=driver_names())
    check_devices(sites)
    for site in sites:
        for name in site.idle_devices:
            typer.echo(
                f"warning: {site_file}: {site.id}.devices.{name}: it is no grid meter and no asset is behind it, so "
                f"it would be read and never used; add an asset with `device: {name}`, or remove it",
                err=True,
            )
        typer.echo(
            f"{site.id}: {len(site.devices)} devices, "
            f"{len(site.pvs)} solar, {len(site.batteries)} batteries, {len(site.vehicles)} vehicles, {site.currency}"
        )
    typer.echo(f"{site_file}: {len(sites)} site{'s' if len(sites) > 1 else ''}, no mistake found")
    if probe:
        step = None if load_step_kw is None else LoadStep(power_kw=load_step_kw, ask=input)
        if not probe_sites(sites, typer.echo, seconds=probe_s, speed=speed, step=step):
            raise typer.Exit(1)


@app.command(epilog="Example: `ems schema setpoint`")
@clear_errors
def schema(
    name: Annotated[str, typer.Argument(help="`setpoint` or `acknowledgement`.", metavar="NAME")],
) -> None:
    """Print the JSON Schema of what building controllers are told, or of what they answer."""
    from ems.messages import message_schema

    typer.echo(json.dumps(message_schema(name), indent=2, ensure_ascii=False))


@app.command(epilog="Example: `ems scan 192.168.1.20 --units 1-10`")
@clear_errors
def scan(
    address: Annotated[
        str, typer.Argument(help="HOST, HOST:PORT or an endpoint such as rtu:///dev/ttyUSB0?baud=9600.")
    ],
    units: Annotated[str, typer.Option(help="Modbus units to ask, e.g. 1, 1-10 or 1,100,126.")] = "1-247",
    points: Annotated[
        bool,
        typer.Option("--points", help="Also show every point of every SunSpec model, as the device has it."),
    ] = False,
) -> None:
    """Find SunSpec and known devices at an address. Reads only."""
    from ems.field_commands import scan_endpoint, wanted_units

    endpoint = address if "://" in address else f"tcp://{address}"
    with progress_bar("scanning", len(wanted_units(units))) as asked:
        found = scan_endpoint(endpoint, units, typer.echo, points=points, asked=asked)
    typer.echo(f"{endpoint}: {found} unit{'' if found == 1 else 's'} answered")
    raise typer.Exit(0 if found else 1)


@app.command(epilog="Example: `ems share tcp://192.168.1.20 --port 5020`")
@clear_errors
def share(
    address: Annotated[
        str, typer.Argument(help="HOST, HOST:PORT or an endpoint such as rtu:///dev/ttyUSB0?baud=9600.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port others connect to.")] = 5020,
    host: Annotated[
        str, typer.Option(help="Address to listen on; whoever reaches it can read the device.")
    ] = "127.0.0.1",
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Pass writes of others through; refused otherwise.")
    ] = False,
) -> None:
    """Let several readers use a device that accepts one connection. While the service runs: `share:` in its site file."""
    from ems.field_commands import share_endpoint

    endpoint = address if "://" in address else f"tcp://{address}"
    share_endpoint(endpoint, typer.echo, host=host, port=port, allow_writes=allow_writes)


@app.command(epilog="Example: `ems forecast deploy/sites/home-sunspec.yaml --data mine.csv --backtest`")
@clear_errors
def forecast(
    site_file: Annotated[Path, typer.Argument(help="Site file.", metavar="SITE.yaml")],
    data: Annotated[Path, typer.Option(help="CSV of recorded series; first column `at`.")],
    at: Annotated[
        str | None, typer.Option("--at", help="Issue it then; at the end of the recording if not given.")
    ] = None,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Rolling-origin skill instead of one forecast.")
    ] = False,
    test_days: Annotated[
        int | None, typer.Option(min=1, help="Only the last so many days of a backtest.")
    ] = None,
    hours: Annotated[float, typer.Option(min=1, max=168, help="How far one forecast reaches [h].")] = 24,
    chart: Annotated[Path | None, typer.Option(help="Write the backtest's chart to this SVG file.")] = None,
    site_id: Annotated[str | None, typer.Option("--site", help="Only this site of the file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """One forecast of load and solar power, or how good such forecasts would have been."""
    from ems.config import load_sites
    from ems.forecast_command import (
        backtest_sites,
        backtest_table,
        forecast_sites,
        forecast_table,
        horizon_table,
    )
    from ems.recorded import read_recording
    from ems.wiring import driver_names

    sites = chosen(load_sites(site_file, known_drivers=driver_names()), site_id, site_file)
    recording = read_recording(data)
    if backtest:
        with progress_bar("backtest", 100) as tell:
            reports = backtest_sites(sites, recording, test_days=test_days, chart=chart, progress=tell)
        told = json_ready([asdict(report) for report in reports])
        tables = [backtest_table(reports), horizon_table(reports)]
    else:
        issued_at = None if at is None else instant("--at", at)
        made = forecast_sites(sites, recording, at=issued_at, hours=hours)
        told, tables = json_ready([asdict(one) for one in made]), [forecast_table(made)]
    if as_json:
        typer.echo(json.dumps(told[0] if len(told) == 1 else told, indent=2))
        return
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)


@app.command(
    epilog="Example: `ems simulate deploy/sites/home-sunspec.yaml --data mine.csv --controller rules --json`"
)
@clear_errors
def simulate(
    site_file: Annotated[Path, typer.Argument(help="Site file.", metavar="SITE.yaml")],
    data: Annotated[Path, typer.Option(help="CSV of recorded series; first column `at`.")],
    begin: Annotated[
        str | None,
        typer.Option("--from", help="First instant, ISO 8601 with offset; the recording's own if not given."),
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.05, help="Length; to the end of the recording if not given.")
    ] = None,
    controller: Annotated[ControllerChoice, typer.Option(help="Who steers.")] = ControllerChoice.PLAN,
    forecast: Annotated[ForecastChoice, typer.Option(help="What the plan knows.")] = ForecastChoice.MODEL,
    horizon: Annotated[
        str, typer.Option(help="How far plans reach [h], or `full` with --forecast perfect.")
    ] = "48",
    fast_loop: Annotated[
        bool, typer.Option("--fast-loop/--no-fast-loop", help="Re-solve each interval with measured values.")
    ] = True,
    site_id: Annotated[str | None, typer.Option("--site", help="Only this site of the file.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes to share the sites; 0: one per core.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: one object, or a list for several sites.")
    ] = False,
) -> None:
    """Closed loop on recorded data: what this controller would have cost, against idle storage and perfect foresight."""
    from ems.config import load_sites
    from ems.recorded import read_recording
    from ems.simulate_command import simulate_sites
    from ems.wiring import driver_names

    sites = chosen(load_sites(site_file, known_drivers=driver_names()), site_id, site_file)
    recording = read_recording(data)
    start_at = recording.start_at if begin is None else instant("--from", begin)
    left = recording.count - int((start_at - recording.start_at) / recording.step)
    count = left if days is None else min(left, round(timedelta(days=days) / recording.step))
    if horizon == "full":
        if forecast is not ForecastChoice.PERFECT:
            raise usage(
                "--horizon", horizon, "only perfect foresight sees the whole span", "add --forecast perfect"
            )
        reach = None
    else:
        reach = duration(horizon if horizon[-1:].isalpha() else f"{horizon}h")
    with progress_bar("simulating", count) as tell:
        reports = simulate_sites(
            sites,
            site_file.parent,
            recording,
            start_at=start_at,
            count=count,
            controller=controller.value,
            forecast=forecast.value,
            horizon=reach,
            fast_loop=fast_loop,
            progress=tell,
            jobs=jobs or os.cpu_count() or 1,
        )
    if as_json:
        told = [json_ready(asdict(report)) for report in reports]
        typer.echo(json.dumps(told[0] if len(told) == 1 else told, indent=2))
    else:
        show_reports(reports)


@app.command(epilog="Example: `ems replay latest --store sqlite:///var/demo/ems.sqlite`")
@clear_errors
def replay(
    record: Annotated[
        str, typer.Argument(help="A record file, an instant of the store, or `latest`.", metavar="RECORD")
    ],
    store: Annotated[
        str, typer.Option(envvar="EMS_STORE", help="Database the record is in, when it is no file.")
    ] = "sqlite:///var/ems.sqlite",
    save: Annotated[Path | None, typer.Option(help="Also write the record to this file.")] = None,
) -> None:
    """Make the plans of a recorded cycle again from what it saw, and compare."""
    from ems.codec import to_json
    from ems.cycle import replay as replay_cycle
    from ems.planning import plans_differ, solve_in_process

    found = read_record(record, store)
    if save is not None:
        save.write_bytes(to_json(found))
    again = replay_cycle(found, solve=solve_in_process)
    differing = [
        f"{plan.site_id}: {difference}"
        for plan, other in zip(found.plans, again, strict=True)
        if (difference := plans_differ(plan, other)) is not None
    ]
    for line in differing:
        typer.echo(line)
    typer.echo(f"{found.at.isoformat()}: {len(again)} plans made again, {len(differing)} differ")
    raise typer.Exit(1 if differing else 0)


@app.command(epilog="Example: `ems bench dispatch --json`")
@clear_errors
def bench(
    what: Annotated[BenchChoice, typer.Argument(help="What to measure.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="control: a folder with a year of the ten homes and of prices, of which eight weeks replace the demo's."
        ),
    ] = None,
) -> None:
    """Measure the figures this project publishes, as ratios taken in one run."""
    from ems.bench import figures_of

    with progress_bar("measuring", 100) as tell:
        figures = figures_of(what.value, data=data, progress=tell)
    if as_json:
        typer.echo(json.dumps(json_ready(figures), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"bench {what.value}")
    for column in ("figure", "value", "unit", "target", "holds", "how"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        value = figure["value"]
        table.add_row(
            str(figure["figure"]),
            "-" if value is None else f"{value:.4g}",
            str(figure["unit"]),
            str(figure["target"]),
            "yes" if figure["holds"] else "no",
            str(figure["how"]),
        )
    Console().print(table)


@keys.command("add", epilog="Example: `ems key add --role resident --site home-01 --label 'kitchen tablet'`")
@clear_errors
def key_add(
    role: Annotated[str, typer.Option(help="operator, controller, resident or grid_operator.")],
    site: Annotated[
        list[str] | None, typer.Option(help="Sites it may see; every site for an operator if none.")
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    store: Annotated[str, typer.Option(envvar="EMS_STORE", help="Database.")] = "sqlite:///var/ems.sqlite",
) -> None:
    """Make a key and print it once; only its hash is kept."""
    from ems.access import AccessRole, new_key
    from ems.clock import SystemClock
    from ems.store import Store

    if role not in list(AccessRole):
        raise usage("--role", role, "no such role", f"use one of {', '.join(AccessRole)}")
    if not site and role != AccessRole.OPERATOR:
        raise usage("--site", "", f"a {role} key must name its sites", "add --site ID")
    opened = Store.open(store)
    text, key = new_key(
        role=AccessRole(role), site_ids=tuple(site) if site else None, label=label, at=SystemClock().now()
    )
    opened.add_key(key)
    opened.close()
    typer.echo(text)


@keys.command("list", epilog="Example: `ems key list`")
@clear_errors
def key_list(
    store: Annotated[str, typer.Option(envvar="EMS_STORE", help="Database.")] = "sqlite:///var/ems.sqlite",
) -> None:
    """List keys; never their secrets."""
    from ems.store import Store

    opened = Store.open(store)
    for key in opened.list_keys():
        sites = "all sites" if key.site_ids is None else ", ".join(key.site_ids)
        state = "" if key.revoked_at is None else f"  revoked {key.revoked_at.isoformat()}"
        typer.echo(f"{key.id}  {key.role}  {sites}  {key.label}{state}")
    opened.close()


@keys.command("revoke", epilog="Example: `ems key revoke 1a2b3c4d`")
@clear_errors
def key_revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as listed.")],
    store: Annotated[str, typer.Option(envvar="EMS_STORE", help="Database.")] = "sqlite:///var/ems.sqlite",
) -> None:
    """Revoke a key; its next call fails."""
    from ems.clock import SystemClock
    from ems.store import Store

    opened = Store.open(store)
    found = opened.revoke_key(key_id, SystemClock().now())
    opened.close()
    if not found:
        raise usage("KEY_ID", key_id, "no such key", "see `ems key list`")


def usage(option: str, value: str | None, problem: str, remedy: str) -> EmsError:
    """Return the error for an argument that cannot be used."""
    return EmsError(
        f"{option} = {value!r}: {problem}; {remedy}" if value else f"{option}: {problem}; {remedy}"
    )


def duration(text: str) -> timedelta:
    """Read a span such as `90m`, `2h`, `24h`, `3d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)", text)
    if found is None:
        raise usage("duration", text, "not a span of time", "write e.g. 90m, 2h or 3d")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: float(found[1])})


def instant(option: str, text: str) -> datetime:
    """Read an aware instant."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise usage(option, text, "not ISO 8601", "write e.g. 2025-01-31T00:00:00+09:00") from None
    if at.tzinfo is None:
        raise usage(option, text, "no offset", f"write e.g. {text}+09:00")
    return at.astimezone(UTC)


def chosen(sites: "tuple[Site, ...]", site_id: str | None, path: Path) -> "tuple[Site, ...]":
    """Return the site asked for, or all."""
    if site_id is None:
        return sites
    found = tuple(site for site in sites if site.id == site_id)
    if not found:
        known = ", ".join(site.id for site in sites[:8])
        raise usage("--site", site_id, f"{path} has no such site", f"use one of {known} ...")
    return found


def read_record(record: str, store: str) -> "CycleRecord":
    """Read a record from a file, or from the store by its instant."""
    from pydantic import ValidationError

    from ems.codec import from_json
    from ems.cycle import CycleRecord
    from ems.store import Store

    path = Path(record)
    if path.is_file():
        try:
            return from_json(CycleRecord, path.read_bytes())
        except ValidationError as error:
            raise usage(
                "RECORD",
                record,
                f"no cycle record ({error.error_count()} fields do not fit)",
                "export it again",
            ) from error
    opened = Store.open(store)
    found = opened.latest_record() if record == "latest" else opened.record(instant("RECORD", record))
    opened.close()
    if found is None:
        raise usage("RECORD", record, f"no such file, and {store} has no such cycle", "try `latest`")
    return found


@contextlib.contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress when a terminal is there; say nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def json_ready(value: Any) -> Any:
    """Return the value with instants and enumerations as text."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, StrEnum) else value


def show_reports(reports: "tuple[SimulationReport, ...]") -> None:
    """Print reports as a table, one column per site."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="simulation", show_lines=False)
    table.add_column("")
    for report in reports:
        table.add_column(report.site, justify="right")
    for name in asdict(reports[0]):
        if name != "site":
            table.add_row(name, *(readable(getattr(report, name)) for report in reports))
    Console().print(table)


def readable(value: object) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    return str(value)
