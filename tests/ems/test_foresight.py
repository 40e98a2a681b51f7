"""The seam to the forecasters: who is asked what, and that nothing later than now goes in."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from ems.foresight import REFIT_EVERY, Foresight, site_context
from ems.site import Role, Site
from ems.tariffs import PriceSeries, SeriesRate, Tariff
from forecasting import Forecast, History, Quality, SiteContext
from tests.ems.made import AT, METER, ROOF, STEP, STEP_S, STORE, device, home, measured

HORIZON = 4
NO_ROOF = home(id="no-roof", assets=(STORE,))


class Fake:
    """Remembers what it was shown; expects its own number for each site."""

    made: list["Fake"]

    def __init__(self, contexts: Sequence[SiteContext], value: float) -> None:
        self.contexts = list(contexts)
        self.value = value
        self.fitted: list[History] = []
        self.seen: list[History] = []

    def fit(self, history: History, **_: object) -> "Fake":
        self.fitted.append(history)
        return self

    def predict(
        self, issued_at: datetime, horizon: int, levels: Sequence[float], *, recent: History, **_: object
    ) -> Forecast:
        self.seen.append(recent)
        rows = len(self.contexts)
        mean = self.value * (1.0 + np.arange(rows))[:, None] * np.ones((rows, horizon))
        spread = np.array([level - 0.5 for level in levels])
        return Forecast(
            issued_at=issued_at,
            start_at=issued_at,
            step=recent.step,
            levels=tuple(levels),
            quantiles=mean[:, None, :] + spread[None, :, None],
            mean=mean,
            sources=("fake",) * rows,
            qualities=(Quality.GOOD,) * rows,
        )


class Bench:
    """A foresight with the fakes it made."""

    def __init__(
        self, *sites: Site, load: float = 2.0, pv: float = 1.0, series: PriceSeries | None = None
    ) -> None:
        self.loads: list[Fake] = []
        self.pvs: list[Fake] = []

        def make_load(contexts: Sequence[SiteContext]) -> Fake:
            self.loads.append(Fake(contexts, load))
            return self.loads[-1]

        def make_pv(contexts: Sequence[SiteContext]) -> Fake:
            self.pvs.append(Fake(contexts, pv))
            return self.pvs[-1]

        self.foresight = Foresight(
            sites or (home(),), step_s=STEP_S, horizon=HORIZON, make_load=make_load, make_pv=make_pv,
            price_files=lambda site: {} if series is None else {"prices.csv": series},
        )  # fmt: skip


def test_each_site_gets_its_own_expectation_in_order() -> None:
    bench = Bench(home(id="a"), replace(NO_ROOF, id="b"), home(id="c"))
    found = bench.foresight.foresee((), at=AT)
    assert [site.site_id for site in found.sites] == ["a", "b", "c"]
    assert [site.load.mean_kw[0] for site in found.sites] == [2.0, 4.0, 6.0]
    assert [sorted(site.pv) for site in found.sites] == [["roof"], [], ["roof"]]
    assert found.sites[2].pv["roof"].mean_kw.tolist() == [2.0] * HORIZON  # second of the two roofs
    assert len(bench.pvs[-1].contexts) == 2
    assert (found.issued_at, found.step_s) == (AT, STEP_S)
    assert found.starts_s.tolist() == [int(AT.timestamp()) + STEP_S * t for t in range(HORIZON)]


def test_a_forecaster_sees_what_was_just_measured_and_nothing_later() -> None:
    bench = Bench()
    bench.foresight.foresee([measured(AT - STEP, load_kwh=0.5, pv_kwh=0.25)], at=AT)
    for seen, last_kw in ((bench.loads[-1].seen[-1], 2.0), (bench.pvs[-1].seen[-1], 1.0)):
        assert seen.end_at == AT
        assert seen.values[0, -1] == last_kw
    for fitted in (bench.loads[-1].fitted[-1], bench.pvs[-1].fitted[-1]):
        assert fitted.end_at <= AT


def test_what_a_model_was_shown_does_not_change_under_it() -> None:
    bench = Bench()
    bench.foresight.foresee([measured(AT - STEP, load_kwh=0.5)], at=AT)
    shown = bench.loads[-1].seen[-1].values.copy()
    bench.foresight.foresee([measured(AT, load_kwh=9.0)], at=AT + STEP)
    np.testing.assert_array_equal(bench.loads[-1].seen[0].values, shown)


def test_solar_held_back_is_marked_for_the_solar_model_only() -> None:
    bench = Bench()
    bench.foresight.foresee([measured(AT - STEP, curtailed=True)], at=AT)
    assert bench.pvs[-1].seen[-1].curtailed is not None
    assert bench.pvs[-1].seen[-1].curtailed[0, -1]
    assert bench.loads[-1].seen[-1].curtailed is None


def test_models_are_due_once_a_day() -> None:
    bench = Bench()
    assert bench.foresight.refit_due(AT)
    bench.foresight.foresee((), at=AT)
    assert not bench.foresight.refit_due(AT + REFIT_EVERY - STEP)
    assert bench.foresight.refit_due(AT + REFIT_EVERY)
    bench.foresight.foresee((), at=AT + STEP)
    assert len(bench.loads) == 1  # in between they only see the recent past
    bench.foresight.refit(AT + REFIT_EVERY)
    assert len(bench.loads) == 2
    assert bench.loads[1].fitted[0].end_at == AT + REFIT_EVERY


def test_expected_power_is_never_negative() -> None:
    found = Bench(load=0.1, pv=0.2).foresight.foresee((), at=AT).sites[0]
    for band in (found.load, found.pv["roof"]):
        assert (band.low_kw >= 0.0).all()
        assert (band.low_kw <= band.mean_kw).all()
        assert (band.mean_kw <= band.high_kw).all()


def test_several_roofs_share_by_nameplate_and_none_beats_its_own() -> None:
    sun = device(Role.PV_INVERTER)
    site = home(
        devices={"meter": METER, "inverter": sun, "sun": sun},
        assets=(replace(ROOF, rated_kw=6.0), replace(ROOF, name="barn", device="sun", rated_kw=3.0)),
    )
    found = Bench(site, pv=4.5).foresight.foresee((), at=AT).sites[0]
    assert {name: band.mean_kw[0] for name, band in found.pv.items()} == {"roof": 3.0, "barn": 1.5}
    glare = Bench(site, pv=18.0).foresight.foresee((), at=AT).sites[0]
    assert {name: band.mean_kw[0] for name, band in glare.pv.items()} == {"roof": 6.0, "barn": 3.0}


def test_a_site_is_told_to_the_forecaster_in_its_words() -> None:
    context = site_context(home(assets=(replace(ROOF, tilt_deg=30.0, azimuth_deg=180.0), STORE)))
    assert (context.time_zone, context.country) == ("Asia/Seoul", "KR")
    assert (context.latitude, context.longitude) == (37.5, 127.0)
    assert (context.nameplate_kw, context.tilt_deg, context.azimuth_deg) == (6.0, 30.0, 180.0)
    assert site_context(NO_ROOF).nameplate_kw is None


def test_prices_that_are_not_published_are_counted() -> None:
    series = PriceSeries(
        starts_s=int(AT.timestamp()) - 86_400 + 3600 * np.arange(24), per_kwh=np.arange(24.0), step_s=3600
    )
    rate = SeriesRate(kind="series", file="prices.csv")
    site = home(tariff=Tariff(buy=rate))
    found = Bench(site, series=series).foresight.foresee((), at=AT - timedelta(minutes=30)).sites[0]
    assert found.prices_assumed == 2
    assert found.buy_per_kwh.tolist() == [23.0, 23.0, 0.0, 0.0]
    assert found.sell_per_kwh.tolist() == [0.0] * HORIZON


def test_a_site_whose_prices_are_missing_has_unknown_prices_and_costs_nobody_else_anything() -> None:
    bench = Bench(home(tariff=Tariff(buy=SeriesRate(kind="series", file="prices.csv"))))
    (expected,) = bench.foresight.foresee((), at=AT).sites
    assert np.isnan(expected.buy_per_kwh).all()
    assert expected.prices_assumed == len(expected.buy_per_kwh)
    assert np.isfinite(expected.load.mean_kw).all()
