"""The demo's supervisor: field and service as child processes, a living summary, key figures at the end.

The service is started again when it dies, as an init system would; the field goes on meanwhile, as a street would.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from ems.clock import ScaledClock
from ems.demo.figures import KeyFigures, Progress, key_figures, progress
from ems.demo.street import START_AT, Home, history_csv, recording, site_file, street
from ems.errors import EmsError
from ems.processes import begin, end, is_well, last_line
from ems.store import Store

HEAD_START_S = 8.0
"""Wall time between starting the field and the replay's first instant, for imports and sockets [s]."""
START_TIMEOUT_S = 90.0
OWN_FILES = ("ems.sqlite", "endpoints.", "truth.", "street.yaml", "history.csv", "service.log", "field.log")
"""How the names of the demo's own files begin."""
Found = TypeVar("Found")


class DemoError(EmsError):
    """The demo could not be brought up."""


class Demo:
    """One run of the demo.

    Parameters
    ----------
    folder
        Where its files go; emptied first.
    homes
        Number of homes.
    speed
        Site seconds per wall second.
    port
        Of the pages.
    """

    def __init__(self, folder: Path, *, homes: int, speed: float, port: int) -> None:
        self.folder = folder
        self.port = port
        self.homes: Sequence[Home] = street(homes)
        self.clock = ScaledClock(
            site_start_at=START_AT.astimezone(UTC),
            wall_start_at=datetime.now(UTC) + timedelta(seconds=HEAD_START_S),
            speed=speed,
        )
        self.restarts = 0
        self._session_secret = secrets.token_urlsafe(48)
        self.log = folder / "service.log"
        self._field: subprocess.Popen[bytes] | None = None
        self._service: subprocess.Popen[bytes] | None = None
        self._store: Store | None = None

    @contextmanager
    def running(self, tell: Callable[[str], None]) -> Iterator["Demo"]:
        """Bring everything up, and everything down at the end."""
        _refuse_busy_port(self.port)
        self._clear_folder()
        # ended by a signal like by Ctrl-C: the processes of the demo end with it
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            tell(f"starting {len(self.homes)} homes on Modbus TCP ...")
            self._field = begin(
                [
                    sys.executable,
                    "-m",
                    "ems.demo.field",
                    str(self.folder),
                    str(len(self.homes)),
                    str(self.clock),
                ],
                log=self.folder / "field.log",
                environment=os.environ,
            )
            endpoints = self._wait_for(self._endpoints, "the field", self.folder / "field.log")
            (self.folder / "street.yaml").write_text(site_file(self.homes, endpoints), encoding="utf-8")
            history_csv(self.homes, recording(), self.folder / "history.csv")
            self._store = Store.open(self._store_url)
            tell("starting the service ...")
            self._start_service()
            self._wait_for(self._answers, "the page", self.log)
            yield self
        finally:
            self.stop()
            signal.signal(signal.SIGTERM, before)

    def _clear_folder(self) -> None:
        """Remove what an earlier demo left; refuses a folder that holds anything else."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in self.folder.iterdir()}
        foreign = sorted(name for name in found if not name.startswith(OWN_FILES))
        if foreign:
            raise DemoError(
                f"--folder {self.folder} holds {foreign[0]!r}, which is no file of the demo; choose another"
            )
        for name in found:
            (self.folder / name).unlink()

    def stop(self) -> None:
        """End the service first, so that it gives the devices back, then the field."""
        for child in (self._service, self._field):
            if child is not None:
                end(child, within_s=20.0)

    def tend(self) -> None:
        """Start the service again if it died; raises DemoError when the field did."""
        if self._field is not None and self._field.poll() is not None:
            raise DemoError(f"the field ended by itself; see {self.folder / 'field.log'}")
        if self._service is not None and self._service.poll() is not None:
            self.restarts += 1
            self._start_service()

    def progress(self) -> Progress:
        """Return what happened so far."""
        return progress(self._opened(), self.homes, self.truth(), at=self.clock.now(), restarts=self.restarts)

    def key_figures(self, end_at: datetime) -> KeyFigures:
        """Return what the span to `end_at` came to; to be asked once the service has stopped."""
        return key_figures(self._opened(), self.homes, self.truth(), end_at=end_at, restarts=self.restarts)

    def truth(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what truly flowed, as the field last wrote it."""
        try:
            told: Mapping[str, Mapping[str, Any]] = json.loads(
                (self.folder / "truth.json").read_text(encoding="utf-8")
            )
        except FileNotFoundError:
            return {}
        return told

    @property
    def service_pid(self) -> int | None:
        """Process id of the service; None before it was started."""
        return None if self._service is None else self._service.pid

    def endpoint(self, home: str, device: str) -> tuple[str, int]:
        """Return host and port of a device of the field, for clients other than the service."""
        told = self._endpoints() or {}
        host, _, port = str(told[home][device]["endpoint"]).removeprefix("tcp://").rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def _store_url(self) -> str:
        return f"sqlite:///{self.folder / 'ems.sqlite'}"

    def _opened(self) -> Store:
        if self._store is None:
            raise DemoError("the demo is not running")
        return self._store

    def _start_service(self) -> None:
        self._service = begin(
            [sys.executable, "-m", "ems", "run", "--port", str(self.port), str(self.folder / "street.yaml")],
            log=self.log,
            environment=os.environ
            | {
                "EMS_STORE": self._store_url,
                "EMS_HISTORY": str(self.folder / "history.csv"),
                "EMS_DEMO": "yes",
                "EMS_REPLAY_CLOCK": str(self.clock),
                "EMS_SESSION_SECRET": self._session_secret,
            },
        )

    def _endpoints(self) -> Mapping[str, Any] | None:
        try:
            told: Mapping[str, Any] = json.loads((self.folder / "endpoints.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return told

    def _answers(self) -> bool | None:
        return is_well(f"http://127.0.0.1:{self.port}") or None

    def _wait_for(self, ask: Callable[[], Found | None], what: str, log: Path) -> Found:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = ask()
            if found is not None:
                return found
            for child in (self._field, self._service):
                if child is not None and child.poll() is not None:
                    raise DemoError(f"{what} did not come up: {last_line(log)}; the whole log is {log}")
            time.sleep(0.1)
        raise DemoError(f"{what} did not come up within {START_TIMEOUT_S:.0f} s; see {log}")


def _refuse_busy_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(
                f"port {port} is in use ({error.strerror}); choose another with --port"
            ) from error
