"""What every test may use: where the repository is, which services listen, and no skipping of them in CI."""

import os
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def listens(port: int) -> bool:
    """Tell whether something accepts connections on loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """In CI a skipped service or browser test is a failure: what is not run proves nothing."""
    outcome = yield
    report = outcome.get_result()
    marked = item.get_closest_marker("service") or item.get_closest_marker("browser")
    if os.environ.get("CI") and report.skipped and marked and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped in CI: {report.longrepr}"
