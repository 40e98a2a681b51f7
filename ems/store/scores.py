"""Scores of forecasts, and versions of the models that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ems.store.database import Database
from ems.store.packing import from_ms, text, to_ms
from ems.store.tables import forecast_scores, models
from ems.store.types import DayLoss, ForecastScore, ScoredDay, StoredModel

KEY = ("site_id", "day_ms", "series", "lead_h", "source")
GROUP = ("series", "lead_h", "source")
SUMS = tuple(field.name for field in fields(ForecastScore) if field.name not in GROUP)


def insert(conn: sa.Connection, database: Database, found: Sequence[ScoredDay]) -> None:
    """Keep scores. The same day and model again: the later stays, more truth may have come in."""
    if not found:
        return
    statement = database.insert(forecast_scores)
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=KEY, set_={name: statement.excluded[name] for name in SUMS}
        ),
        [_row(day) for day in found],
    )


def _row(day: ScoredDay) -> dict[str, Any]:
    return {
        "site_id": day.site_id,
        "day_ms": to_ms(day.day_at),
        "series": day.score.series,
        "lead_h": day.score.lead_h,
        "source": text(day.score.source),
        **{name: getattr(day.score, name) for name in SUMS},
    }


def last_days(conn: sa.Connection, site_ids: Sequence[str]) -> dict[str, datetime]:
    """Return the first instant of the latest scored day by site; a site never scored is left out."""
    row = forecast_scores.c
    found = conn.execute(
        sa.select(row.site_id, sa.func.max(row.day_ms)).where(row.site_id.in_(site_ids)).group_by(row.site_id)
    )
    return {site_id: from_ms(day_ms) for site_id, day_ms in found.all()}


def total(
    conn: sa.Connection, site_ids: Sequence[str] | None, since: datetime
) -> dict[str, tuple[ForecastScore, ...]]:
    """Return what the scores of the days from `since` come to by site, each by series, lead and model."""
    row = forecast_scores.c
    wanted = sa.select(row.site_id, *_summed()).where(row.day_ms >= to_ms(since))
    if site_ids is not None:
        wanted = wanted.where(row.site_id.in_(site_ids))
    found: dict[str, list[ForecastScore]] = {}
    for sums in conn.execute(_ordered(wanted.group_by(row.site_id, *_group()))).mappings():
        found.setdefault(sums["site_id"], []).append(_score(sums))
    return {site_id: tuple(scores) for site_id, scores in found.items()}


def total_of_all(conn: sa.Connection, since: datetime) -> tuple[ForecastScore, ...]:
    """Return the same over all sites together."""
    wanted = sa.select(*_summed()).where(forecast_scores.c.day_ms >= to_ms(since)).group_by(*_group())
    return tuple(_score(sums) for sums in conn.execute(_ordered(wanted)).mappings())


def by_day(conn: sa.Connection, site_id: str, since: datetime) -> tuple[ScoredDay, ...]:
    """Return the scores of one site day by day, oldest first."""
    row = forecast_scores.c
    found = conn.execute(
        sa.select(forecast_scores)
        .where(row.site_id == site_id, row.day_ms >= to_ms(since))
        .order_by(row.day_ms, row.series, row.lead_h, row.source)
    )
    return tuple(
        ScoredDay(site_id=site_id, day_at=from_ms(sums["day_ms"]), score=_score(sums))
        for sums in found.mappings()
    )


def losses(conn: sa.Connection, since: datetime, lead_h: int) -> tuple[DayLoss, ...]:
    """Return the loss of every site and series day by day at one lead, oldest first."""
    row = forecast_scores.c
    size_kw = sa.func.sum(row.size_kw)
    found = conn.execute(
        sa.select(row.site_id, row.series, row.day_ms, sa.func.sum(row.pinball_kw) / size_kw)
        .where(row.day_ms >= to_ms(since), row.lead_h == lead_h)
        .group_by(row.site_id, row.series, row.day_ms)
        .having(size_kw > 0)
        .order_by(row.day_ms)
    )
    return tuple(
        DayLoss(site_id=site_id, series=series, day_at=from_ms(day_ms), loss=loss)
        for site_id, series, day_ms, loss in found.all()
    )


def insert_model(conn: sa.Connection, database: Database, fleet: str, model: StoredModel, keep: int) -> None:
    """Keep a version, and of its kind and fleet only the `keep` newest; other fleets' versions of the kind go."""
    row = models.c
    statement = database.insert(models)
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=("kind", "fleet", "fitted_at_ms"), set_={"body": statement.excluded.body}
        ),
        {"kind": model.kind, "fleet": fleet, "fitted_at_ms": to_ms(model.fitted_at), "body": model.body},
    )
    kept = (
        conn.execute(
            sa.select(row.fitted_at_ms)
            .where(row.kind == model.kind, row.fleet == fleet)
            .order_by(row.fitted_at_ms.desc())
            .limit(keep)
        )
        .scalars()
        .all()
    )
    conn.execute(
        sa.delete(models).where(row.kind == model.kind, (row.fleet != fleet) | (row.fitted_at_ms < min(kept)))
    )


def newest_models(conn: sa.Connection, fleet: str, until: datetime) -> tuple[StoredModel, ...]:
    """Return the versions of a fleet fitted up to `until`, newest first."""
    row = models.c
    found = conn.execute(
        sa.select(models)
        .where(row.fleet == fleet, row.fitted_at_ms <= to_ms(until))
        .order_by(row.fitted_at_ms.desc())
    )
    return tuple(
        StoredModel(kind=version["kind"], fitted_at=from_ms(version["fitted_at_ms"]), body=version["body"])
        for version in found.mappings()
    )


def _group() -> list[Any]:
    return [forecast_scores.c[name] for name in GROUP]


def _summed() -> list[Any]:
    return [*_group(), *(sa.func.sum(forecast_scores.c[name]).label(name) for name in SUMS)]


def _ordered(wanted: sa.Select[Any]) -> sa.Select[Any]:
    return wanted.order_by(*_group())


def _score(sums: Mapping[Any, Any]) -> ForecastScore:
    values = {field.name: sums[field.name] for field in fields(ForecastScore)}
    for name in ("scored", "banded", "inside", "compared"):
        values[name] = int(values[name])
    return ForecastScore(**values)
