"""What a leaf offers is there, and is offered once."""

from importlib import import_module

import pytest


@pytest.mark.parametrize("package", ["drivers", "forecasting", "optimizer", "ems.store"])
def test_public_names_can_be_imported(package: str) -> None:
    module = import_module(package)
    names = module.__all__
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("_")] == []
