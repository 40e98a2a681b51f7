"""What the fast loop decides on measured homes: the same by worth and by solve, and with an eye on what else may come."""

from dataclasses import replace
from datetime import UTC, timedelta

import numpy as np
import pytest

from ems.clock import grid_epochs
from ems.config import load_sites
from ems.demo.street import START_AT, recording, site_file, street
from ems.hedging import OUTER_WEIGHT, besides, hedged_dispatch
from ems.outlook import Band, Outlook, SiteOutlook
from ems.planning import to_problem
from ems.site import Site
from ems.tariffs import price_curve
from optimizer import ValuedDispatch, WarmDispatch
from tests.ems.made import outlook, site_outlook, state

HORIZON = 48
DRIVERS = ("sunspec", "eastron-sdm630", "abb-terra-ac")
DEVICES = {
    "meter": {"endpoint": "tcp://127.0.0.1:1502", "unit_id": 1, "driver": "sunspec"},
    "inverter": {"endpoint": "tcp://127.0.0.1:1503", "unit_id": 1, "driver": "sunspec"},
}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, ...]:
    """Four measured homes of the demo, without vehicles."""
    path = tmp_path_factory.mktemp("street") / "street.yaml"
    few = [replace(home, vehicle=False) for home in street(4)]
    path.write_text(site_file(few, {home.id: DEVICES for home in few}), encoding="utf-8")
    return load_sites(path, known_drivers=DRIVERS)


@pytest.mark.parametrize("hour", [7, 12, 16, 19], ids=lambda hour: f"{hour}:00")
def test_worth_and_solve_decide_alike_on_measured_homes(homes: tuple[Site, ...], hour: int) -> None:
    """A measured day as outlook, and then a load and a sun that nobody expected."""
    recorded = recording()
    at = START_AT.astimezone(UTC) + timedelta(hours=hour)
    first = int((at - recorded.start_at) / recorded.step)
    starts_s = grid_epochs(at, HORIZON, 3600)
    rng = np.random.default_rng(hour)
    for site in homes:
        load_kw, pv_kw = (
            np.nan_to_num(recorded.columns[f"{site.id}.{q}"][first : first + HORIZON])
            for q in ("load_kw", "pv_kw")
        )
        expected = SiteOutlook(
            site_id=site.id, load=sure(load_kw), pv={"roof": sure(pv_kw)}, prices_assumed=0,
            buy_per_kwh=price_curve(site.tariff.buy, starts_s, zone=site.time_zone).per_kwh,
            sell_per_kwh=price_curve(site.tariff.sell, starts_s, zone=site.time_zone).per_kwh,
        )  # fmt: skip
        all_of_it = Outlook(issued_at=at, starts_s=starts_s, step_s=3600, sites=(expected,))
        now = state(at=at, site_id=site.id, stored_kwh={"battery": 3.0}, load_kw=1.0, pv_kw=1.0)
        problem = to_problem(site, now, expected, all_of_it)
        valued, warm = ValuedDispatch(problem), WarmDispatch(problem)
        assert valued.worth is not None
        for _ in range(3):
            seen = {
                "load_kw": float(rng.uniform(0.0, 5.0)),
                "pv_available_kw": {"roof": float(rng.uniform(0.0, 4.0))},
            }
            by_worth, by_solve = valued.resolve_first(**seen), warm.resolve_first(**seen)  # type: ignore[arg-type]
            assert by_worth.net_consumption_kw == pytest.approx(dict(by_solve.net_consumption_kw), abs=1e-4)
            assert by_worth.import_kw == pytest.approx(by_solve.import_kw, abs=1e-4)


def sure(power_kw: np.ndarray) -> Band:
    return Band(mean_kw=power_kw, low_kw=power_kw, high_kw=power_kw, source="recorded", quality="good")


def test_a_sure_outlook_has_nothing_besides() -> None:
    expected = site_outlook(pv=())
    assert besides(replace(expected, load=sure(np.ones(8)))) == ()


def test_what_may_come_is_more_or_less_load_and_more_or_less_sun() -> None:
    cases = besides(site_outlook(load_kw=1.0, pv_kw=2.0))
    assert [weight for weight, _ in cases] == [OUTER_WEIGHT] * 4
    drawn = [(case.load.mean_kw[0], case.pv["roof"].mean_kw[0]) for _, case in cases]
    # bands of the made outlook reach from 0.8 to 1.2 of the mean; 1.2 times as far
    assert drawn == [
        (pytest.approx(0.76), 2.0), (pytest.approx(1.24), 2.0), (1.0, pytest.approx(1.52)), (1.0, pytest.approx(2.48)),
    ]  # fmt: skip


def test_energy_is_kept_for_an_evening_that_may_need_more_than_expected(homes: tuple[Site, ...]) -> None:
    """2 kWh in store, 1.2 kWh expected to be needed at the dear hour. Sure of it, the rest serves the cheap hour now;
    if it may be twice as much with a chance of one in five, the rest is kept: the dear kWh is six times as dear."""
    site = homes[0]
    horizon = 6
    load_kw = np.array([1.0, 0.0, 0.0, 1.2, 0.0, 0.0])
    wide = Band(
        mean_kw=load_kw, low_kw=np.where(load_kw == 1.2, 0.4, load_kw), high_kw=np.where(load_kw == 1.2, 2.4, load_kw),
        source="made", quality="good",
    )  # fmt: skip
    expected = site_outlook(
        horizon=horizon, site_id=site.id, buy=np.array([0.1, 0.5, 0.5, 0.6, 0.05, 0.05]), sell=0.0, pv_kw=0.0
    )
    now = state(site_id=site.id, stored_kwh={"battery": 2.0}, load_kw=1.0, pv_kw=0.0)
    given_kw = {}
    for name, band in {"sure": sure(load_kw), "wide": wide}.items():
        case = replace(expected, load=band, pv={"roof": sure(np.zeros(horizon))})
        first = hedged_dispatch(site, now, case, outlook(case, step_s=3600)).resolve_first()
        given_kw[name] = -first.net_consumption_kw["battery"]
    assert given_kw["sure"] > 0.2
    assert given_kw["wide"] <= 1e-3, "kept, or even topped up while it is cheap"
