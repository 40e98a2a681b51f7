"""Broken promises of the service, one tree.

EmsError
├── ConfigError         a site file or setting cannot be used; carries every mistake found
├── DataError           recorded data cannot be used: file, line, value and remedy are named
├── UnknownSite         no such site, or none the caller may see
├── UnknownAsset        the site has no such asset
├── UnknownSetpoint     the site has no such setpoint (any more)
├── NoPlan              the site has no plan yet
├── StoreError          the store refused: disk full, locked, newer schema
├── MayNotAct           devices must not be written now: another instance leads, or nothing can be put on record
└── Overdue             work that may hang did not come back in time

Outcomes that are expected (a device that does not answer, a write that was refused) are values, not exceptions.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class EmsError(Exception):
    """Root of the service's own exceptions; the message is one line a person can act on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One mistake in a file, named so that it can be mended without reading code."""

    file: str
    """File the mistake is in."""
    key: str
    """Dotted path of the key, e.g. `sites[3].assets.battery.capacity_kwh`."""
    value: str
    """The offending value as written, shortened; empty when the key is missing."""
    problem: str
    """What is wrong with it."""
    remedy: str
    """What to write instead."""

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.file}: {self.key}{shown}: {self.problem}; {self.remedy}"


class ConfigError(EmsError):
    """A file cannot be used. `mistakes` holds all that could be found in one run."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in mistakes))


class DataError(EmsError):
    """Recorded data cannot be used; the message names file, line, value and remedy."""


class UnknownSite(EmsError):
    """No such site, or none the caller may see (the two are not told apart on purpose)."""


class UnknownAsset(EmsError):
    """The site has no asset of that name."""


class UnknownSetpoint(EmsError):
    """The site has no setpoint of that id, or none any more."""


class NotPossible(EmsError):
    """What is asked of an asset or a site cannot be: not allowed by the household, or beyond its ratings."""


class NoPlan(EmsError):
    """The site has no plan yet."""


class StoreError(EmsError):
    """The store refused to read or write."""


class MayNotAct(EmsError):
    """Devices must not be written now; the message says why."""


class Overdue(EmsError):
    """Work did not come back in time; the message says which and how long it was waited for."""
