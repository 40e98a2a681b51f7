"""The repository works on any machine: nothing in it points at one; and its rooms are described as they are."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.architecture.repository import PACKAGES, ROOT, prose, texts

MACHINE_PATH = re.compile(r"(?<![\w.{}/:-])/(?:work|home|Users|root)/(?!\.cache/pip)[\w.]")
REGISTRY = re.compile(
    "|".join(
        [
            r"pypi\.org/simple", r"pythonhosted\.org", r"registry\.npmjs\.org", r"\bghcr\.io", r"\bquay\.io",
            r"\bdocker\.io/", r"--(?:extra-)?index-url", r"--trusted-host", r"--find-links",
        ]
    )
)  # fmt: skip
THIS = "tests/architecture/test_tracked_files.py"


@pytest.mark.parametrize(
    "wanted", [pytest.param(MACHINE_PATH, id="machine path"), pytest.param(REGISTRY, id="registry host")]
)
def test_no_tracked_file_points_at_one_machine(wanted: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        if (name := path.relative_to(ROOT).as_posix()) != THIS and "vendor" not in path.parts
        for number, line in enumerate(text.splitlines(), start=1)
        if wanted.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("line", ["cd /home/kim", '"/Users/kim/ems"', "open('/root/notes')"])
def test_the_search_sees_machine_paths(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("package", [*PACKAGES, "deploy", "ems/store"])
def test_package_explains_itself(package: str) -> None:
    readme = ROOT / package / "README.md"
    assert readme.is_file()
    assert len(readme.read_text(encoding="utf-8").split()) > 50


def test_readme_of_ems_names_every_module() -> None:
    text = (ROOT / "ems" / "README.md").read_text(encoding="utf-8")
    modules = {path.name for path in (ROOT / "ems").glob("*.py")} - {"__init__.py"}
    assert {name for name in modules if f"`{name}`" not in text} == set()


def test_readme_of_ems_tells_the_rooms_in_the_order_of_their_imports() -> None:
    text = (ROOT / "ems" / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Rooms")[2].partition("\n## ")[0]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(
        one["layers"] for one in contracts if one["type"] == "layers" and "ems.cycle" in one["layers"]
    )
    rank = {
        module.removeprefix("ems."): height
        for height, layer in enumerate(reversed(layers))
        for module in re.split(r" [|:] ", layer)
    }
    told = [name for name in re.findall(r"`(\w+)(?:\.py|/)`", table) if name in rank]
    assert set(told) == set(rank)
    assert [rank[name] for name in told] == sorted(rank[name] for name in told)


@pytest.mark.parametrize("path", prose(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_document_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (path.parent / link).exists()] == []
