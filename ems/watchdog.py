"""Tells the service manager how the service is: up, well, stopping. Silent where there is no manager."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

log = logging.getLogger("ems.watchdog")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manager:
    """systemd's notification socket, spoken to directly: a datagram of `NAME=value` lines (sd_notify(3))."""

    address: str = ""
    """Path of the socket, or `@name`; empty: nobody listens."""
    patience_s: float | None = None
    """Without a sign of life for so long the manager restarts the service [s]; None when it does not watch."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read what the manager put into the environment of this process."""
        watched = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(
            address=environment.get("NOTIFY_SOCKET", ""),
            patience_s=int(watched) / 1e6 if watched.isdigit() and meant else None,
        )

    def say(self, *lines: str) -> None:
        """Send lines such as `READY=1`; a manager that does not take them is no reason to fail."""
        if not self.address:
            return
        where = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            try:
                line.sendto("\n".join(lines).encode(), where)
            except OSError as error:
                log.warning("watchdog.unheard cause=%s", error)

    def well(self) -> None:
        """Give the sign of life."""
        if self.patience_s is not None:
            self.say("WATCHDOG=1")
