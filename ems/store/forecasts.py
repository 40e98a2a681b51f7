"""Forecasts: one packed row per site, series and instant of issue."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from ems.outlook import Band, Outlook
from ems.store.database import Database
from ems.store.packing import from_ms, pack_rows, text, to_ms, unpack_rows
from ems.store.tables import forecasts
from ems.store.types import StoredForecast

PRICES = ("buy", "sell")
"""Series that are prices [1/kWh] and carry no quantiles."""


def insert(conn: sa.Connection, database: Database, outlook: Outlook) -> None:
    """Keep an outlook. The same series and issue again changes nothing: what was known then cannot change."""
    rows = list(_rows(outlook))
    if rows:
        conn.execute(database.insert(forecasts).on_conflict_do_nothing(), rows)


def _rows(outlook: Outlook) -> Iterator[dict[str, Any]]:
    common = {
        "issued_at_ms": to_ms(outlook.issued_at),
        "start_ms": 1000 * int(outlook.starts_s[0]),
        "step_s": outlook.step_s,
    }
    for site in outlook.sites:
        bands = {"load": site.load, **{f"pv.{name}": band for name, band in site.pv.items()}}
        for series, band in bands.items():
            yield {
                **common,
                "site_id": site.site_id,
                "series": series,
                "source": text(band.source),
                "quality": band.quality,
                **_packed(band),
            }
        for series, values in zip(PRICES, (site.buy_per_kwh, site.sell_per_kwh), strict=True):
            yield {
                **common,
                "site_id": site.site_id,
                "series": series,
                "source": text(site.prices_source),
                "quality": "estimated" if site.prices_assumed else "good",
                "body": pack_rows((values,)),
                "paths": 1,
            }


def _packed(band: Band) -> dict[str, Any]:
    paths = [band.mean_kw, band.low_kw, band.high_kw]
    if band.median_kw is not None:
        paths.append(band.median_kw)
    return {"body": pack_rows(paths), "paths": len(paths)}


def one(conn: sa.Connection, site_id: str, series: str, issued_at: datetime | None) -> StoredForecast | None:
    """Return a forecast by its issue, or the latest."""
    wanted = sa.select(forecasts).where(forecasts.c.site_id == site_id, forecasts.c.series == series)
    if issued_at is not None:
        wanted = wanted.where(forecasts.c.issued_at_ms == to_ms(issued_at))
    row = conn.execute(wanted.order_by(forecasts.c.issued_at_ms.desc()).limit(1)).mappings().first()
    return None if row is None else _forecast(row)


def issued(
    conn: sa.Connection, site_id: str, series: Sequence[str], since: datetime, until: datetime
) -> tuple[StoredForecast, ...]:
    """Return every forecast of some series issued in [since, until)."""
    found = conn.execute(
        sa.select(forecasts).where(
            forecasts.c.site_id == site_id,
            forecasts.c.series.in_(series),
            forecasts.c.issued_at_ms >= to_ms(since),
            forecasts.c.issued_at_ms < to_ms(until),
        )
    )
    return tuple(_forecast(row) for row in found.mappings())


def _forecast(row: Mapping[Any, Any]) -> StoredForecast:
    is_price = row["series"] in PRICES
    # prices kept before `paths` was recorded say three, and are one
    paths = 1 if is_price else row["paths"]
    values = unpack_rows(row["body"], paths)
    return StoredForecast(
        site_id=row["site_id"],
        series=row["series"],
        unit="1/kWh" if is_price else "kW",
        issued_at=from_ms(row["issued_at_ms"]),
        starts_s=row["start_ms"] // 1000 + row["step_s"] * np.arange(values.shape[1], dtype=np.int64),
        step_s=row["step_s"],
        mean=values[0],
        low=None if is_price else values[1],
        high=None if is_price else values[2],
        median=values[3] if paths > 3 else None,
        source=row["source"],
        quality=row["quality"],
    )
