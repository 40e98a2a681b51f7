"""What is installed is whole: device files, migrations, pages, words and demo data travel in the wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.repository import PACKAGES, ROOT, tracked

NEEDLESS = {".cfg", ".po", ".pot"}
"""Sources of translations and their settings: useful in a checkout only, unless read at run time."""


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """Return the names in a wheel built from a copy of what git tracks."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in tracked():
        name = path.relative_to(ROOT)
        if name.parts[0] in PACKAGES or len(name.parts) == 1:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    # isolated, with the builder that pyproject.toml asks for
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(built),
        str(source),
    ]
    done = subprocess.run(pip, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return frozenset(archive.namelist())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_holds_everything_the_packages_track(wheel_names: frozenset[str]) -> None:
    wanted = {
        name.as_posix()
        for path in tracked()
        if (name := path.relative_to(ROOT)).parts[0] in PACKAGES and name.suffix not in NEEDLESS
    }
    assert wanted - wheel_names == set()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("folder", "suffix", "least"),
    [
        pytest.param("drivers/devices/", ".yaml", 20, id="device files"),
        pytest.param("ems/store/migrations/", ".py", 2, id="migrations"),
        pytest.param("api/dashboard/templates/", ".html", 3, id="page templates"),
        pytest.param("api/dashboard/translations/", "", 1, id="translations"),
        pytest.param("api/dashboard/static/", ".css", 1, id="styles"),
        pytest.param("api/dashboard/static/", ".js", 1, id="scripts"),
        pytest.param("ems/demo/data/", ".csv.gz", 1, id="demo data"),
    ],
)
def test_wheel_holds_the_data(wheel_names: frozenset[str], folder: str, suffix: str, least: int) -> None:
    assert len([name for name in wheel_names if name.startswith(folder) and name.endswith(suffix)]) >= least


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_holds_no_tests_and_nothing_else(wheel_names: frozenset[str]) -> None:
    tops = {Path(name).parts[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
