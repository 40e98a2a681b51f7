"""What the service manager hears."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ems.watchdog import Manager


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(5)
        yield heard


def test_words_and_signs_of_life_arrive_as_systemd_reads_them(ear: socket.socket) -> None:
    manager = Manager.of({"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "120000000"})
    assert manager.patience_s == 120.0
    manager.say("READY=1", "STATUS=leads")
    assert ear.recv(100) == b"READY=1\nSTATUS=leads"
    manager.well()
    assert ear.recv(100) == b"WATCHDOG=1"


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0ems-test-{os.getpid()}")
        heard.settimeout(5)
        Manager.of({"NOTIFY_SOCKET": f"@ems-test-{os.getpid()}"}).say("READY=1")
        assert heard.recv(100) == b"READY=1"


def test_a_watchdog_meant_for_another_process_is_not_fed(ear: socket.socket) -> None:
    manager = Manager.of(
        {"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    )
    manager.well()
    manager.say("STATUS=x")
    assert ear.recv(100) == b"STATUS=x"


def test_without_a_manager_nothing_is_said_and_a_deaf_one_is_no_reason_to_fail(tmp_path: Path) -> None:
    Manager.of({}).say("READY=1")
    Manager.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).say("READY=1")
