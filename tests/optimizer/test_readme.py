"""The README shows every equation beside the function that writes it, in the words of the code; its example runs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import optimizer
from optimizer import formulation

README = Path(optimizer.__file__).with_name("README.md").read_text(encoding="utf-8")


def test_every_equation_stands_beside_its_function() -> None:
    seen = 0
    for module in pkgutil.iter_modules(formulation.__path__):
        loaded = importlib.import_module(f"optimizer.formulation.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            if name.startswith("add_") and function.__module__ == loaded.__name__:
                equation = " ".join((inspect.getdoc(function) or "").split("\n\n", maxsplit=1)[0].split())
                assert f"| `{name}` | {equation}" in README, (module.name, name)
                seen += 1
    assert seen > 30


def test_the_example_runs() -> None:
    example = README.split("```python\n")[1].split("```")[0]
    exec(compile(example, "README.md", "exec"), {"print": lambda *_: None})


def test_everything_public_is_there() -> None:
    for name in optimizer.__all__:
        assert hasattr(optimizer, name)
