"""Processes of our own beside this one, for demo and bench: begun with a log, asked whether they are well, ended."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx


def begin(command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Begin a process; what it says is added to its log."""
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603 - our own modules, our own arguments
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=dict(environment)
        )


def end(process: "subprocess.Popen[bytes]", *, within_s: float) -> None:
    """End a process as a service manager does: told first, killed when it does not go; nothing where it has ended."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log: Path) -> str:
    """Return the last a process said, for whoever asks why it did not come up."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"


def is_well(url: str) -> bool:
    """Tell whether a service answers at an address and calls itself well."""
    try:
        return httpx.get(f"{url}/healthz", timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
