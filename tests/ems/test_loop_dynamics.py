"""The real loop on a home whose meter answers late and whose battery follows slowly: it settles, once, and keeps limits."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from drivers import Applied, DeviceReading, Quality, Receipt, Sample, Unit
from ems.clock import grid_epochs
from ems.cycle import CycleRecord, Ports
from ems.fast_loop import FastLoop
from ems.following import Pace
from ems.live import Live
from ems.metrics import Metrics
from ems.orders import standing
from ems.outlook import Outlook
from ems.planning import make_plans, solve_in_process
from ems.readings import take_snapshot
from ems.rehearsal import RehearsedHome
from ems.site import Connection, Role, Site
from ems.state import estimate_states
from ems.wiring import make_foresight, make_meters
from tests.ems.made import AT, CAR, CHARGER, METER, STEP_S, band, device, home, home_with_car, site_outlook

HORIZON = 96
DEAR = np.where(np.arange(HORIZON) < 16, 400.0, 100.0)
"""Four dear hours from now: the battery carries the home."""
BATTERY = replace(
    home().batteries[0], charge_limit_kw=5.0, discharge_limit_kw=5.0, charge_eff_frac=0.95, discharge_eff_frac=0.95
)  # fmt: skip
PLAIN = home(
    devices={"meter": METER, "inverter": device(Role.BATTERY_INVERTER)}, assets=(BATTERY,),
)  # fmt: skip
SLOW = {"deaf_s": 0.6, "lag_s": 1.0, "meter_age_s": 1.5, "inverter_age_s": 0.3}


@dataclass
class Run:
    """A loop on a home, second by second."""

    home: RehearsedHome
    loop: FastLoop
    net_kw: list[float]

    async def seconds(self, count: int) -> None:
        for _ in range(count):
            await self.loop.step(at=self.home.at, orders=())
            self.home.advance(self.home.at + timedelta(seconds=1), step_s=0.1)
            self.net_kw.append(self.home.net_import_kw)

    @property
    def orders_kw(self) -> list[float | None]:
        return [kw for _, kw in self.home.ordered]


@asynccontextmanager
async def rehearsal(
    load_kw: Callable[[datetime], float],
    *,
    site: Site = PLAIN,
    pace: Pace | None = None,
    others: Mapping[str, object] | None = None,
    buy: object = DEAR,
    **how: float,
) -> AsyncIterator[Run]:
    """Plan once with 1 kW of load expected, then run the loop on what there is."""
    rehearsed = RehearsedHome(
        site,
        load_kw=load_kw,
        pv_kw=lambda at: 0.0,
        at=AT,
        **({"stored_frac": 0.8} | how),  # type: ignore[arg-type]
    )
    devices = rehearsed.devices | {(site.id, name): other for name, other in (others or {}).items()}

    async def journal(_: object) -> None:
        return None

    ports = Ports(
        devices=devices,  # type: ignore[arg-type]
        meters=make_meters([site], step_s=STEP_S, readings={}, at=None),
        foresight=make_foresight([site], {}, step_s=STEP_S, horizon=HORIZON),
        solve=solve_in_process,
        valid_for=timedelta(minutes=30),
        journal=journal,
    )
    snapshot = await take_snapshot(ports.devices, (site.id,), at=AT)
    states = estimate_states((site,), snapshot, {})
    expected = replace(site_outlook(horizon=HORIZON, buy=buy, pv=()), load=band(1.0, HORIZON))
    outlook = Outlook(
        issued_at=AT, starts_s=grid_epochs(AT, HORIZON, STEP_S), step_s=STEP_S, sites=(expected,)
    )
    plans = make_plans(
        (site,), states, outlook, (None,), solve=solve_in_process, valid_for=timedelta(hours=8)
    )
    record = CycleRecord(
        at=AT, sites=(site,), snapshot=snapshot, states=states, outlook=outlook, previous=(None,), plans=plans,
        setpoints=(), deliveries=(), accounts=(), edges=(), valid_for=ports.valid_for, missed=0, overlapped=0,
        took_ms=0.0, standings=(standing(site, (), at=AT),),
    )  # fmt: skip
    loop = FastLoop([site], ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=30), pace=pace)
    loop.follow(record)
    yield Run(home=rehearsed, loop=loop, net_kw=[])


def step_to(high_kw: float, *, after_s: float = 20.0, low_kw: float = 1.0) -> Callable[[datetime], float]:
    return lambda at: high_kw if (at - AT).total_seconds() >= after_s else low_kw


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="ideal devices"),
        pytest.param({"lag_s": 1.0}, id="slow battery"),
        pytest.param({"meter_age_s": 2.0}, id="old meter values"),
        pytest.param({"inverter_age_s": 2.0}, id="old inverter values"),
        pytest.param(SLOW, id="slow battery behind an old meter"),
        pytest.param({"deaf_s": 2.0, "lag_s": 1.5, "meter_age_s": 1.0}, id="deaf battery"),
    ],
)
async def test_a_step_in_load_leads_to_one_settled_answer(how: dict[str, float]) -> None:
    async with rehearsal(step_to(3.0), **how) as run:
        await run.seconds(20)
        assert run.orders_kw == [pytest.approx(-1.0, abs=0.01)]
        await run.seconds(60)
    assert len(run.orders_kw) == 2, run.orders_kw
    assert run.orders_kw[-1] == pytest.approx(-3.0, abs=0.01)
    assert run.net_kw[-1] == pytest.approx(0.0, abs=0.05)
    assert max(abs(kw) for kw in run.net_kw[40:]) < 0.2, "settled within 20 s of the step"


async def test_a_loop_that_believes_every_reading_chases_its_own_echo() -> None:
    """The same home without waiting: what the swing is for."""
    hasty = Pace(dwell=timedelta(0), longest_dwell=timedelta(0))
    async with rehearsal(step_to(3.0), pace=hasty, **SLOW) as run:
        await run.seconds(80)
    assert len(run.orders_kw) > 10


async def test_noise_of_the_load_is_not_amplified() -> None:
    """Load wavers by 0.2 kW: the answers stay within what there is to answer."""
    rng = np.random.default_rng(4)
    waver = rng.uniform(-0.2, 0.2, 200)
    async with rehearsal(lambda at: 2.0 + waver[int((at - AT).total_seconds())], **SLOW) as run:
        await run.seconds(120)
    asked = [kw for kw in run.orders_kw if kw is not None]
    assert all(-2.45 <= kw <= -1.55 for kw in asked), asked
    assert len(asked) <= 120 / 3 + 1, "at most one order per dwell"


async def test_an_import_limit_is_kept_within_one_pass_although_nobody_expected_the_load() -> None:
    """9 kW of load behind a 6 kW connection at a cheap hour, when the plan keeps the battery: it gives 3 kW at once."""
    site = replace(PLAIN, connection=Connection(import_limit_kw=6.0, export_limit_kw=5.0))
    cheap = np.where(np.arange(HORIZON) < 16, 100.0, 400.0)
    async with rehearsal(step_to(9.0), site=site, buy=cheap, stored_frac=1.0) as run:
        await run.seconds(20)
        kept = list(run.orders_kw)
        await run.seconds(1)
        answered = run.orders_kw[len(kept) :]
        await run.seconds(20)
    assert kept and kept[-1] == pytest.approx(0.0, abs=0.01), "until then it was kept full"
    assert answered == [pytest.approx(-3.0, abs=0.01)]
    assert run.orders_kw == kept + answered, "and that was the whole answer"
    assert run.net_kw[21:] == pytest.approx([6.0] * len(run.net_kw[21:]), abs=0.05)


async def test_a_second_step_during_the_answer_is_met_as_far_as_it_is_certain() -> None:
    """The limit is at stake while the battery is still on its way: no waiting for the dwell."""
    site = replace(PLAIN, connection=Connection(import_limit_kw=6.0, export_limit_kw=5.0))

    def load_kw(at: datetime) -> float:
        second = (at - AT).total_seconds()
        return 1.0 if second < 20 else 7.0 if second < 21 else 10.0

    cheap = np.where(np.arange(HORIZON) < 16, 100.0, 400.0)
    async with rehearsal(load_kw, site=site, buy=cheap, stored_frac=1.0) as run:
        await run.seconds(22)
        assert run.orders_kw[-1] == pytest.approx(-3.0, abs=0.01), (
            "7 kW less 6, and 2 of the 3 kW more for certain"
        )
        await run.seconds(20)
    assert run.orders_kw[-1] == pytest.approx(-4.0, abs=0.01)
    assert run.net_kw[-1] == pytest.approx(6.0, abs=0.05)


async def test_a_register_in_flash_is_spared_and_the_large_changes_are_still_followed() -> None:
    """Load that is another one every 20 s for six hours: 96 writes a day bear 24 at once and 18 more by then."""
    rng = np.random.default_rng(7)
    loads = rng.uniform(0.5, 2.5, 2000)
    async with rehearsal(lambda at: loads[int((at - AT).total_seconds() // 20)], writes_per_day=96) as run:
        for _ in range(6 * 180):
            await run.loop.step(at=run.home.at, orders=())
            run.home.advance(run.home.at + timedelta(seconds=20), step_s=20.0)
    assert len(run.orders_kw) <= 24 + 18
    spread = [at for at, _ in run.home.ordered]
    assert spread[-1] - spread[0] > timedelta(hours=3), "writes are left for the evening"


class Car:
    """A charger with a vehicle that takes what it may."""

    writes_per_day: Mapping[str, int] = {}
    capabilities: frozenset[object] = frozenset()

    def __init__(self) -> None:
        self.limit_kw = self.drawn_kw = CAR.charge_limit_kw

    async def read(self) -> DeviceReading:
        values = {"vehicle_net_consumption_kw": self.drawn_kw, "plugged_in": 1.0, "session_kwh": 2.0}
        return DeviceReading(
            device="charger", at=AT,
            samples={
                name: Sample(value=v, unit=Unit.NONE, measured_at=AT, quality=Quality.GOOD, source="test")
                for name, v in values.items()
            },
        )  # fmt: skip

    async def limit_charge(self, limit_kw: float, *, valid_s: float) -> Receipt:
        self.limit_kw = self.drawn_kw = limit_kw
        return Applied(control="charge_limit", asked=limit_kw, value=limit_kw, at=AT, valid_until=None)


async def test_a_vehicle_yields_to_the_connection_and_comes_back_later_not_at_once() -> None:
    """Plugged in, in a hurry, at 7.4 kW behind 9 kW; then 8 kW of other load for ten seconds, and an empty battery."""
    site = replace(
        home_with_car(connection=Connection(import_limit_kw=9.0, export_limit_kw=5.0)),
        assets=(BATTERY, replace(CAR, charge_min_kw=4.1, wished_kwh=60.0, ready_by_local="22:30")),
        devices={"meter": METER, "inverter": device(Role.BATTERY_INVERTER), "charger": CHARGER},
    )
    car = Car()

    def load_kw(at: datetime) -> float:
        other = 8.0 if 20 <= (at - AT).total_seconds() < 30 else 1.0
        return other + car.drawn_kw

    async with rehearsal(load_kw, site=site, others={"charger": car}, stored_frac=0.1) as run:
        await run.seconds(20)
        assert car.drawn_kw > 4.0
        await run.seconds(2)
        assert car.drawn_kw == 0.0
        assert run.net_kw[-1] <= 9.0
        await run.seconds(30)
        assert car.drawn_kw == 0.0, "a charger is not switched every few seconds"
        await run.seconds(120)
        assert car.drawn_kw > 4.0
    above = [kw for kw in run.net_kw if kw > 9.0 + 0.05]
    assert len(above) <= 1, above
