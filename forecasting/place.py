"""Where a site roughly is when nobody said: the principal city of its time zone."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from forecasting.errors import BrokenSeries
from forecasting.types import SiteContext


def place_of(context: SiteContext) -> tuple[float, float]:
    """Latitude and longitude [deg]: the site's own, else its time zone's principal city.

    The guess can be several hundred kilometres off (a quarter of an hour of sunrise); good enough to
    start, not a replacement for the address.
    """
    if context.latitude is not None and context.longitude is not None:
        return context.latitude, context.longitude
    found = _cities().get(context.time_zone)
    if found is None:
        raise BrokenSeries(
            f"latitude, longitude: not given, and time zone {context.time_zone} names no place; give both"
        )
    return found


@cache
def _cities() -> dict[str, tuple[float, float]]:
    """Zone name to coordinates, from the tz database's zone1970.tab (public domain)."""
    text = resources.files("tzdata").joinpath("zoneinfo/zone1970.tab").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return {row[2]: _coordinates(row[1]) for row in rows}


def _coordinates(iso6709: str) -> tuple[float, float]:
    """Degrees from +DDMM+DDDMM or +DDMMSS+DDDMMSS."""
    latitude, longitude = re.findall(r"[+-]\d+", iso6709)
    return _degrees(latitude, 2), _degrees(longitude, 3)


def _degrees(text: str, whole: int) -> float:
    sign = -1.0 if text[0] == "-" else 1.0
    digits = text[1:]
    minutes = float(digits[whole : whole + 2])
    seconds = float(digits[whole + 2 :] or 0)
    return sign * (float(digits[:whole]) + minutes / 60.0 + seconds / 3600.0)
