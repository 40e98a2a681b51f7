"""Forecasts held against what came: sums computed by hand, days of 23 and 25 hours, drift that comes and goes."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ems.clock import day_edges, grid_epochs
from ems.outlook import Band, Outlook, SiteOutlook
from ems.readings import Quality
from ems.scoring import DAY_AHEAD_H, LEADS_H, Scorer, drift_of
from ems.site import Site
from ems.store import DayLoss, ForecastScore, Store, StoredForecast
from tests.ems.made import home
from tests.ems.store.conftest import account

HOUR = timedelta(hours=1)
HOUR_S = 3600
ROOFLESS = home(id="a", time_zone="UTC", assets=(), devices={"meter": home().devices["meter"]})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")


def issue(
    store: Store, at: datetime, *, site: Site = ROOFLESS, horizon: int = 48, load_kw: float = 2.0, pv_kw: float = 0.0,
    source: str = "model",
) -> None:  # fmt: skip
    """Keep an outlook of flat powers; the band reaches 1 kW up and down."""

    def band(kw: float) -> Band:
        path = np.full(horizon, kw)
        return Band(
            mean_kw=path + 0.1,
            low_kw=path - 1.0,
            high_kw=path + 1.0,
            median_kw=path,
            source=source,
            quality="good",
        )

    outlook = Outlook(
        issued_at=at,
        starts_s=grid_epochs(at, horizon, HOUR_S),
        step_s=HOUR_S,
        sites=(
            SiteOutlook(
                site_id=site.id,
                load=band(load_kw),
                pv={pv.name: band(pv_kw / len(site.pvs)) for pv in site.pvs},
                buy_per_kwh=np.ones(horizon),
                sell_per_kwh=np.ones(horizon),
                prices_assumed=0,
            ),
        ),
    )
    from ems.store import forecasts  # the part of `save_cycle` that matters here

    with store._database.writing() as conn:
        forecasts.insert(conn, store._database, outlook)


def measure(
    store: Store, start: datetime, hours: int, load_kw: float, *, site_id: str = "a", pv_kw: float | None = None,
    quality: Quality = Quality.GOOD, curtailed: bool = False,
) -> None:  # fmt: skip
    from ems.store import accounts

    found = [
        account(
            start + hour * HOUR, site_id=site_id, load_kwh=load_kw, pv_kwh=pv_kw, hours=1.0, quality=quality,
            curtailed=curtailed,
        )
        for hour in range(hours)
    ]  # fmt: skip
    with store._database.writing() as conn:
        accounts.insert(conn, store._database, found)


def scores(
    store: Store, since: datetime = datetime(2000, 1, 1, tzinfo=UTC)
) -> dict[tuple[str, int], ForecastScore]:
    found = store.forecast_scores(["a"], since).get("a", ())
    return {(score.series, score.lead_h): score for score in found}


def test_sums_are_those_of_a_pencil_and_paper(store: Store) -> None:
    day = datetime(2026, 3, 10, tzinfo=UTC)
    measure(store, day - timedelta(days=9), 9 * 24, 3.0)  # the 7-day mean says 3 kW
    measure(store, day, 12, 2.5)
    measure(store, day + 12 * HOUR, 12, 4.0)
    issue(store, day, load_kw=2.0)
    assert Scorer([ROOFLESS], store, step_s=HOUR_S).score_ended(day + 26 * HOUR) == 1
    found = scores(store)
    assert set(found) == {("load", lead) for lead in (1, 2, 4, 8, 24)}
    assert [found["load", lead].scored for lead in (1, 2, 4, 8, 24)] == [1, 1, 2, 4, 16]
    score = found["load", DAY_AHEAD_H]  # the hours from 8 to 24: four of 2.5 kW and twelve of 4 kW
    assert score.truth_kw == pytest.approx(4 * 2.5 + 12 * 4.0)
    assert score.abs_error_kw == pytest.approx(4 * 0.5 + 12 * 2.0)  # of the median
    assert score.error_kw == pytest.approx(
        4 * -0.4 + 12 * -1.9, rel=1e-5
    )  # of the expected path, 0.1 above it
    assert score.naive_abs_error_kw == pytest.approx(4 * 0.5 + 12 * 1.0)
    assert score.error_ratio == pytest.approx(26 / 14)
    assert (score.banded, score.inside) == (16, 4)  # 4 kW lie above the band of 1 to 3 kW
    # levels 0.1, 0.5, 0.9 at 1, 2 and 3 kW: for 2.5 kW 0.15, 0.25 and 0.05; for 4 kW 0.3, 1.0 and 0.9
    assert score.pinball_kw == pytest.approx((4 * 0.45 + 12 * 2.2) / 3)
    assert score.naive_pinball_kw == pytest.approx((4 * (0.05 + 0.25 + 0.45) + 12 * (0.1 + 0.5 + 0.9)) / 3)


def test_every_forecast_of_two_days_counts_once_for_each_interval(store: Store) -> None:
    day = datetime(2026, 3, 10, tzinfo=UTC)
    measure(store, day - timedelta(days=9), 10 * 24, 2.0)
    for hour in range(-60, 24):
        issue(store, day + hour * HOUR)
    Scorer([ROOFLESS], store, step_s=HOUR_S).score_ended(day + 26 * HOUR)
    found = scores(store, since=day)
    # each of the 24 intervals was forecast by each of the 48 cycles before it: one per hour of lead
    assert [found["load", lead].scored for lead in LEADS_H] == [24 * hours for hours in (1, 1, 2, 4, 16, 24)]
    assert all(score.abs_error_kw == 0.0 for score in found.values())


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)], ids=["spring", "autumn"]
)
def test_a_day_of_a_clock_change_is_scored_whole(store: Store, day: date, hours: int) -> None:
    site = home(id="a", time_zone="Europe/Berlin", assets=(), devices=ROOFLESS.devices)
    start, end = day_edges(day, "Europe/Berlin")
    measure(store, start - timedelta(days=10), 12 * 24, 2.0)
    issue(store, start, site=site)
    Scorer([site], store, step_s=HOUR_S).score_ended(end + 2 * HOUR)
    (day_at,) = {scored.day_at for scored in store.scored_days("a", start - HOUR)}
    assert day_at == start
    assert sum(score.scored for score in scores(store).values()) == hours


def test_what_was_not_measured_well_or_held_back_judges_nothing(store: Store) -> None:
    site = home(id="a", time_zone="UTC")
    day = datetime(2026, 3, 10, tzinfo=UTC)
    measure(store, day, 8, 2.0, pv_kw=1.0, quality=Quality.ESTIMATED)
    measure(store, day + 8 * HOUR, 8, 2.0, pv_kw=1.0, curtailed=True)
    measure(store, day + 16 * HOUR, 8, 2.0, pv_kw=1.0)
    issue(store, day, site=site, pv_kw=1.0)
    Scorer([site], store, step_s=HOUR_S).score_ended(day + 26 * HOUR)
    found = scores(store)
    assert sum(score.scored for (series, _), score in found.items() if series == "load") == 16
    assert sum(score.scored for (series, _), score in found.items() if series == "pv") == 8
    assert found["pv", 24].compared == 0  # nothing is known of the week before
    assert found["pv", 24].error_ratio is None


def test_a_day_is_scored_once_it_is_over_once_only_and_after_a_restart(store: Store) -> None:
    day = datetime(2026, 3, 10, tzinfo=UTC)
    measure(store, day - timedelta(days=2), 96, 2.0)
    for back in range(3):
        issue(store, day - timedelta(days=back))
    scorer = Scorer([ROOFLESS], store, step_s=HOUR_S)
    assert scorer.score_ended(day + 24 * HOUR) == 2  # the day may still get its last interval
    assert scorer.score_ended(day + 25 * HOUR) == 1
    assert scorer.score_ended(day + 26 * HOUR) == 0
    assert Scorer([ROOFLESS], store, step_s=HOUR_S).score_ended(day + 26 * HOUR) == 0


def test_a_forecast_kept_before_medians_were_is_judged_by_its_path(store: Store) -> None:
    day = datetime(2026, 3, 10, tzinfo=UTC)
    measure(store, day, 24, 2.0)
    issue(store, day)
    with store._database.writing() as conn:
        from ems.store.packing import pack_rows
        from ems.store.tables import forecasts

        body = pack_rows([np.full(48, kw) for kw in (2.5, 1.0, 3.0)])
        conn.execute(forecasts.update().where(forecasts.c.series == "load").values(body=body, paths=3))
        conn.execute(forecasts.update().where(forecasts.c.series == "buy").values(paths=3))
    found = store.forecast("a", "load")
    assert isinstance(found, StoredForecast)
    assert found.median is None
    price = store.forecast("a", "buy")
    assert price is not None
    assert price.mean.tolist() == [1.0] * 48
    Scorer([ROOFLESS], store, step_s=HOUR_S).score_ended(day + 26 * HOUR)
    assert scores(store)["load", 24].abs_error_kw == pytest.approx(16 * 0.5)


def losses(values: list[float], *, skip: tuple[int, ...] = ()) -> list[DayLoss]:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        DayLoss(site_id="a", series="load", day_at=first + timedelta(days=index), loss=loss)
        for index, loss in enumerate(values)
        if index not in skip
    ]


def test_drift_is_told_once_when_it_comes_and_once_when_it_goes() -> None:
    course = [0.1] * 40 + [0.2] * 12 + [0.1] * 12
    told = []
    for count in range(1, len(course) + 1):
        drift = drift_of(losses(course[:count]))
        told += [(count - 1, edge.became) for edge in drift.edges]
    raised, lowered = told
    assert raised[1] == "drifting"
    assert 40 < raised[0] < 47
    assert lowered[1] == "usual"
    assert 52 + 9 <= lowered[0] <= 52 + 10  # ten good days


def test_new_ways_become_usual_in_time() -> None:
    drift = drift_of(losses([0.1] * 40 + [0.2] * 60))
    assert drift.standing == frozenset()


def test_days_without_truth_do_not_matter_and_a_young_site_never_drifts() -> None:
    course = [0.1] * 44 + [0.2] * 12
    assert drift_of(losses(course, skip=tuple(range(10, 14)))).standing == {("a", "load")}
    assert drift_of(losses([0.1] * 10 + [0.3] * 20)).standing == frozenset()
