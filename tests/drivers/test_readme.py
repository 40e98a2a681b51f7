"""The steps of "Add a device in 15 minutes" work as written; the tables name what exists."""

import asyncio
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

import drivers
from drivers import open_device
from drivers.device_file import load_spec
from drivers.quantities import CANONICAL
from drivers.twin.file_image import FileImage
from ems.cli import app

SITE = """
id: home
name: Home
owner: {name: Somebody}
time_zone: Asia/Seoul
country: KR
currency: KRW
latitude_deg: 37.6
longitude_deg: 127.0
connection: {import_limit_kw: 5, export_limit_kw: 3}
devices:
  meter: {endpoint: 'ENDPOINT', driver: acme-m3.yaml, role: grid_meter}
tariff:
  buy: {kind: flat, per_kwh: 150}
  sell: {kind: flat, per_kwh: 80}
"""
README = (Path(drivers.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def copied(tmp_path):
    """Step 2: the file as it stands in the README."""
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    path = tmp_path / "acme-m3.yaml"
    path.write_text(textwrap.dedent(block.group(1)), encoding="utf-8")
    return path


async def test_step_3_a_site_file_names_it_and_a_probe_reads_every_point(copied, on_air, tmp_path):
    """Out of the box: `driver: acme-m3.yaml` beside the site file, then `ems check SITE.yaml --probe`."""
    async with on_air(FileImage(load_spec(copied)).image) as (endpoint, station):
        site = tmp_path / "SITE.yaml"
        site.write_text(SITE.replace("ENDPOINT", endpoint), encoding="utf-8")
        done = await asyncio.to_thread(
            CliRunner().invoke, app, ["check", str(site), "--probe", "--probe-s", "0"]
        )
        assert done.exit_code == 0, done.output
        assert "home.meter: Acme M3 meter" in done.output
        for name, shown in (
            ("net_import_kw", "1.234 kW"),
            ("import_kwh", "4821.500 kWh"),
            ("frequency_hz", "50.000 Hz"),
        ):
            assert re.search(rf"{name} +{re.escape(shown)} +good", done.output), done.output
        assert station.writes == 0


@pytest.mark.slow
def test_step_4_given_to_everybody_the_generic_tests_find_it_by_themselves(copied, tmp_path):
    """The folder is copied with the new file in it; the same test module runs on it, nothing else is written."""
    drivers_copy = tmp_path / "drivers"
    shutil.copytree(Path(drivers.__file__).parent, drivers_copy)
    for other in (drivers_copy / "devices").glob("*.yaml"):
        if other.stem != "abb-terra-ac":  # what the tests need is one that can be written
            other.unlink()
    shutil.copy(copied, drivers_copy / "devices" / copied.name)
    tests = tmp_path / "tests" / "drivers"
    tests.mkdir(parents=True)
    here = Path(__file__).parent
    for name in ("conftest.py", "test_device_files.py"):
        shutil.copy(here / name, tests / name)
    options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-k", copied.stem]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tests)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed[1]) >= 6, run.stdout


async def test_the_device_of_the_readme_is_read_by_its_path(copied, links, on_air):
    async with on_air(FileImage(load_spec(copied)).image) as (endpoint, _):
        meter = open_device(name="new", endpoint=endpoint, unit_id=1, driver=str(copied), links=links)
        reading = await meter.read()
    assert meter.identity is not None and meter.identity.maker == "Acme"
    assert reading["net_import_kw"].value == pytest.approx(1.234)
    assert reading["import_kwh"].value == pytest.approx(4821.5, abs=0.01)
    assert reading["frequency_hz"].value == pytest.approx(50.0)


def test_every_canonical_quantity_is_explained():
    expanded = README.replace("_l1_v` .. `_l3_v", "").replace("`", " ")
    lines = {name for name in CANONICAL if re.search(r"_l[123]_", name)}
    missing = sorted(name for name in CANONICAL - lines if name not in expanded)
    assert not missing
    for family in ("net_import_l1_kw", "voltage_l1_v", "current_l1_a"):
        assert family in README


def test_every_public_name_exists():
    assert all(hasattr(drivers, name) for name in drivers.__all__)
    assert sorted(drivers.__all__) == list(drivers.__all__)
