"""Every dependency says why it is there, is pinned, and is one the code uses; what the code uses is declared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest

from tests.architecture.repository import PACKAGES, ROOT, tracked

PYPROJECT = ROOT / "pyproject.toml"
PINS = ROOT / "constraints.txt"
PROJECT = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
NOT_IMPORTED = {
    "tzdata": "read by zoneinfo",
    "uvloop": "uvicorn runs on it where it is installed",
    "pysunspec2": "only its model definitions are read, as files",
}
OPTIONAL = {"psycopg"}
"""What an extra brings."""
PART_OF = {"pydantic_core": "pydantic", "starlette": "fastapi", "paho": "aiomqtt"}
"""Packages that come with, and are versioned by, a declared one."""


def name_of(requirement: str) -> str:
    """Return the normalised name of a requirement."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported() -> Iterator[str]:
    """Return the top names of every import of our packages outside test-only code."""
    for path in tracked():
        if path.suffix != ".py" or path.relative_to(ROOT).parts[0] not in PACKAGES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


DECLARED = {name_of(text) for text in PROJECT["dependencies"]}
IMPORTED = {name for name in imported() if name not in sys.stdlib_module_names and name not in PACKAGES}


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_dependency_says_why(requirement: str) -> None:
    line = next(
        text for text in PYPROJECT.read_text(encoding="utf-8").splitlines() if f'"{requirement}"' in text
    )
    assert line.partition("#")[2].strip(), line


def test_what_the_code_imports_is_declared() -> None:
    owners = packages_distributions()
    undeclared = {
        name: owners.get(name, ["not installed"])
        for name in IMPORTED - OPTIONAL - set(PART_OF)
        if not DECLARED & {name_of(owner) for owner in owners.get(name, [])}
    }
    assert undeclared == {}


def test_what_is_declared_is_imported() -> None:
    owners = packages_distributions()
    used = {name_of(owner) for name in IMPORTED for owner in owners.get(name, [])}
    assert DECLARED - used - set(NOT_IMPORTED) == set()


def test_parts_belong_to_something_declared() -> None:
    assert set(PART_OF.values()) <= DECLARED


def test_every_dependency_is_pinned() -> None:
    pins = {
        name_of(line)
        for line in PINS.read_text(encoding="utf-8").splitlines()
        if re.match(r"[\w.-]+==", line)
    }
    assert {name for name in DECLARED if name not in pins} == set()
