"""Every test of the store runs on SQLite; with `-m service` the same tests run on PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ems.feedback import IntervalAccount
from ems.readings import Quality, Sample, SiteReading, Unit
from ems.state import MeasuredInterval
from ems.store import Store
from tests.databases import empty_postgres

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of this test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ems.sqlite'}"
        return
    with empty_postgres() as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store on it."""
    opened = Store.open(url)
    yield opened
    opened.close()


def sample(
    value: float | None, *, unit: Unit = Unit.KW, quality: Quality = Quality.GOOD, at: datetime = AT
) -> Sample:
    """One sample; a bad one says why."""
    cause = None if quality is Quality.GOOD else "out of range"
    return Sample(value=value, unit=unit, measured_at=at, quality=quality, source="m 1", cause=cause)


def reading(site_id: str = "a", troubles: dict[str, str] | None = None, **samples: Sample) -> SiteReading:
    """One pass over one site; `meter__x=` is `meter.x`."""
    return SiteReading(
        site_id=site_id,
        samples={name.replace("__", "."): value for name, value in samples.items()},
        troubles=troubles or {},
    )


def account(
    start_at: datetime = AT,
    *,
    site_id: str = "a",
    load_kwh: float | None = 0.5,
    pv_kwh: float | None = 0.25,
    cost: float | None = 3.0,
    cost_idle: float | None = 5.0,
    quality: Quality = Quality.GOOD,
    hours: float = 0.25,
    curtailed: bool = False,
) -> IntervalAccount:
    """One account; energies that do not matter to the tests are fixed."""
    return IntervalAccount(
        measured=MeasuredInterval(
            site_id=site_id,
            start_at=start_at,
            hours=hours,
            import_kwh=0.25,
            export_kwh=0.0,
            load_kwh=load_kwh,
            pv_kwh=pv_kwh,
            charged_kwh=0.0,
            discharged_kwh=0.0,
            vehicle_kwh=0.0,
            stored_kwh=3.0,
            quality=quality,
            curtailed=curtailed,
        ),
        buy_per_kwh=12.0,
        sell_per_kwh=4.0,
        cost=cost,
        cost_idle=cost_idle,
        planned_import_kw=1.5,
    )
