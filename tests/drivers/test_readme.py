"""The steps of "Add a device in 15 minutes" work as written; the tables name what exists."""

import re
import textwrap
from pathlib import Path

import pytest

import drivers
from drivers import open_device
from drivers.device_file import load_spec
from drivers.quantities import CANONICAL
from drivers.twin.file_image import FileImage

README = (Path(drivers.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def copied(tmp_path):
    """Step 2: the file as it stands in the README."""
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    path = tmp_path / "acme-m3.yaml"
    path.write_text(textwrap.dedent(block.group(1)), encoding="utf-8")
    return path


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
