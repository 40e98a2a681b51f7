"""A street of three homes on a real SQLite store, filled with one hand-made cycle; nothing is read or solved."""

import asyncio
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from ems.access import AccessRole, new_key
from ems.channels import Ledger
from ems.clock import ManualClock, grid_epochs
from ems.codec import FloatArray
from ems.cycle import CycleRecord
from ems.feedback import Edge, IntervalAccount
from ems.live import Live, LiveState
from ems.metrics import Metrics
from ems.outlook import Band, Outlook, SiteOutlook
from ems.plan import Action, BatteryPlan, Plan, PlanSource, Reason
from ems.publishing import Delivery, DeliveryOutcome
from ems.readings import Quality, Sample, SiteReading, Snapshot, Unit
from ems.setpoints import Quantity, Setpoint, SetpointKind, SetpointSource
from ems.site import (
    BatteryAsset,
    Connection,
    Consents,
    DeviceRef,
    HttpController,
    Owner,
    PvAsset,
    Role,
    Site,
    VehicleAsset,
)
from ems.state import MeasuredInterval, SitePowers, SiteState
from ems.store import Store
from ems.tariffs import FlatRate, Tariff

NOW = datetime(2026, 6, 3, 4, 20, tzinfo=UTC)
"""13:20 on a sunny Wednesday in Seoul."""
AT = datetime(2026, 6, 3, 4, 15, tzinfo=UTC)
STEP = timedelta(minutes=15)
HORIZON = 192
CAPACITY_KWH = 6.4
UNMEASURED = (AT - timedelta(hours=5), AT - timedelta(hours=3))
"""Home 1's meter was silent in this stretch."""


def local_h(at: datetime) -> float:
    return (at.hour + 9 + at.minute / 60) % 24


def sun_kw(at: datetime) -> float:
    return max(0.0, 3.4 * math.sin(math.pi * (local_h(at) - 5.5) / 14.0)) if 5.5 < local_h(at) < 19.5 else 0.0


def load_kw(at: datetime) -> float:
    h = local_h(at)
    return 0.35 + 0.5 * math.exp(-((h - 7.5) ** 2) / 2) + 1.3 * math.exp(-((h - 19.5) ** 2) / 5)


def price_won(at: datetime) -> float:
    h = local_h(at)
    return 218.0 if 17 <= h < 22 else 96.0 if h < 8 else 154.0


def battery_kw(at: datetime) -> float:
    h = local_h(at)
    return 1.1 if 9 <= h < 15 else -1.0 if 17 <= h < 22.5 else 0.0


def stored_frac(at: datetime) -> float:
    h = local_h(at)
    return (
        min(0.95, max(0.1, 0.1 + 0.145 * (h - 9)))
        if 9 <= h < 17
        else max(0.1, 0.95 - 0.16 * (h - 17))
        if h >= 17
        else 0.1
    )


def make_site(number: int, *, vehicle: bool = False) -> Site:
    assets: list[PvAsset | BatteryAsset | VehicleAsset] = [
        PvAsset(kind="pv", name="roof", device="inverter", rated_kw=4.0),
        BatteryAsset(
            kind="battery", name="battery", device="inverter", capacity_kwh=CAPACITY_KWH, charge_limit_kw=3.0,
            discharge_limit_kw=3.0, controller="bms" if number == 1 else None,
        ),
    ]  # fmt: skip
    devices = {
        "meter": DeviceRef(endpoint="tcp://192.0.2.1:502", driver="sunspec", role=Role.GRID_METER),
        "inverter": DeviceRef(
            endpoint="tcp://192.0.2.2:502", driver="sunspec", role=Role.HYBRID_INVERTER, rated_kw=5.0
        ),
    }
    if vehicle:
        devices["charger"] = DeviceRef(endpoint="tcp://192.0.2.3:502", driver="sunspec", role=Role.CHARGER)
        assets.append(VehicleAsset(kind="vehicle", name="car", device="charger", charge_limit_kw=7.4))
    return Site(
        id=f"home-{number:02d}",
        name=f"Home {number}",
        time_zone="Asia/Seoul",
        currency="KRW",
        country="KR",
        latitude_deg=37.3,
        longitude_deg=127.0,
        owner=Owner(name="Residents' association", contact="02-120"),
        connection=Connection(import_limit_kw=10.0, export_limit_kw=5.0),
        tariff=Tariff(buy=FlatRate(per_kwh=150.0)),
        devices=devices,
        assets=tuple(assets),
        consents=Consents(control_storage=True, control_vehicle=True),
        controllers={"bms": HttpController(channel="http")} if number == 1 else {},
        co2_kg_per_kwh=0.42,
    )


def make_reasons(site: Site) -> tuple[Reason, ...]:
    def at(hours: float) -> datetime:
        return AT + timedelta(hours=hours)

    reasons = [
        Reason(
            asset="battery",
            start_at=AT,
            action=Action.CHARGE,
            code="store_surplus",
            later_at=at(5),
            saving=58.2,
        ),
        Reason(
            asset="battery", start_at=at(1.75), action=Action.HOLD, code="keep_for_later", later_at=at(3.75)
        ),
        Reason(asset="battery", start_at=at(3.75), action=Action.DISCHARGE, code="serve_load", saving=54.0),
        Reason(asset="battery", start_at=at(9), action=Action.HOLD, code="empty"),
    ]
    if site.vehicles:
        reasons.append(
            Reason(asset="car", start_at=at(10), action=Action.CHARGE, code="ready_by", later_at=at(17.75))
        )
    return tuple(sorted(reasons, key=lambda reason: (reason.start_at, reason.asset)))


def make_plan(site: Site, source: PlanSource = PlanSource.OPTIMAL, cause: str | None = None) -> Plan:
    starts = [AT + index * STEP for index in range(HORIZON)]
    load = np.array([load_kw(at) for at in starts])
    sun = np.array([sun_kw(at) for at in starts])
    battery = np.array([battery_kw(at) for at in starts])
    net = load - sun + battery
    return Plan(
        site_id=site.id,
        issued_at=AT,
        valid_until=AT + timedelta(minutes=30),
        source=source,
        cause=cause,
        starts_s=grid_epochs(AT, HORIZON, 900),
        step_s=900,
        import_kw=np.maximum(net, 0.0),
        export_kw=np.maximum(-net, 0.0),
        load_kw=load,
        pv_kw={"roof": sun},
        inverter_kw={"inverter": sun},
        batteries={
            "battery": BatteryPlan(
                charge_kw=np.maximum(battery, 0.0),
                discharge_kw=np.maximum(-battery, 0.0),
                stored_kwh=np.array([CAPACITY_KWH * stored_frac(AT + i * STEP) for i in range(HORIZON + 1)]),
                value_per_kwh=np.full(HORIZON, 180.0),
            )
        },
        vehicle_kw={"car": np.zeros(HORIZON)} if site.vehicles else {},
        cost={"import": 2100.0, "export": -120.0},
        marginal_per_kwh=np.array([price_won(at) for at in starts]),
        reasons=make_reasons(site)
        if source is PlanSource.OPTIMAL
        else (Reason(asset="battery", start_at=AT, action=Action.HOLD, code="rule"),),
        unmet=(),
        solve_ms=1.6,
    )


def make_account(site: Site, at: datetime, *, quality: Quality = Quality.GOOD) -> IntervalAccount:
    hours = 0.25
    load, sun, battery = load_kw(at) * hours, 0.96 * sun_kw(at) * hours, battery_kw(at) * hours
    net, idle = load - sun + battery, load - sun
    price = price_won(at)

    def cost(kwh: float) -> float:
        return max(0.0, kwh) * price - max(0.0, -kwh) * 60.0

    return IntervalAccount(
        measured=MeasuredInterval(
            site_id=site.id, start_at=at, hours=hours, import_kwh=max(0.0, net), export_kwh=max(0.0, -net),
            load_kwh=load, pv_kwh=sun, charged_kwh=max(0.0, battery), discharged_kwh=max(0.0, -battery),
            vehicle_kwh=0.0 if site.vehicles else None, stored_kwh=CAPACITY_KWH * stored_frac(at + STEP), quality=quality,
        ),
        buy_per_kwh=price,
        sell_per_kwh=60.0,
        cost=cost(net),
        cost_idle=cost(idle),
        planned_import_kw=1.06 * net / hours - 0.05,
    )  # fmt: skip


def make_setpoint(site: Site, at: datetime = AT, value_kw: float = 1.1) -> tuple[Setpoint, Delivery]:
    setpoint = Setpoint(
        id=f"{site.id}.battery.{int(at.timestamp())}",
        site_id=site.id,
        asset="battery",
        kind=SetpointKind.TARGET,
        quantity=Quantity.BATTERY_POWER,
        value_kw=value_kw,
        valid_from=at,
        valid_until=at + timedelta(minutes=16),
        priority=10,
        source=SetpointSource.PLAN,
        reason=make_reasons(site)[0],
        reverts_to="own_mode",
    )
    delivery = Delivery(
        setpoint_id=setpoint.id, site_id=site.id, asset="battery", outcome=DeliveryOutcome.APPLIED,
        held_kw=value_kw, at=at + timedelta(seconds=1), written=True, detail="",
    )  # fmt: skip
    return setpoint, delivery


def make_reading(site: Site, at: datetime = AT) -> SiteReading:
    def sample(value: float, unit: Unit, point: str) -> Sample:
        return Sample(
            value=value, unit=unit, measured_at=at, quality=Quality.GOOD, source=f"{site.id} {point}"
        )

    net = load_kw(at) - sun_kw(at) + battery_kw(at)
    return SiteReading(
        site_id=site.id,
        samples={
            "meter.net_import_kw": sample(net, Unit.KW, "203.W"),
            "inverter.net_consumption_kw": sample(battery_kw(at) - sun_kw(at), Unit.KW, "103.W"),
            "inverter.pv_kw": sample(sun_kw(at), Unit.KW, "160.DCW"),
            "inverter.battery_net_consumption_kw": sample(battery_kw(at), Unit.KW, "124.W"),
            "inverter.stored_frac": sample(stored_frac(at), Unit.FRAC, "124.SoC"),
        },
        troubles={},
    )


def make_powers(site: Site, at: datetime = NOW) -> SitePowers:
    return SitePowers(
        net_import_kw=load_kw(at) - sun_kw(at) + battery_kw(at),
        load_kw=load_kw(at),
        pv_kw={"roof": sun_kw(at)},
        battery_kw={"battery": battery_kw(at)},
        vehicle_kw={"car": 0.0} if site.vehicles else {},
    )


def make_live(site: Site, at: datetime = NOW) -> LiveState:
    return LiveState(
        at=at, powers=make_powers(site, at), stored_kwh={"battery": CAPACITY_KWH * stored_frac(at)}, setpoints={},
        troubles={}, signal=(), quality=Quality.GOOD,
    )  # fmt: skip


def make_band(mean_kw: FloatArray, source: str) -> Band:
    return Band(mean_kw=mean_kw, low_kw=0.8 * mean_kw, high_kw=1.2 * mean_kw, source=source, quality="good")


def make_record(sites: Sequence[Site], at: datetime = AT) -> CycleRecord:
    """One cycle that accounts for the last two days at once."""
    starts = [at - index * STEP for index in range(192, 0, -1)]
    setpoints, deliveries = zip(*(make_setpoint(site) for site in sites), strict=True)
    accounts = [
        make_account(site, start, quality=Quality.ESTIMATED if 40 <= index < 44 else Quality.GOOD)
        for site in sites
        for index, start in enumerate(reversed(starts))
        if not (site.id == "home-01" and UNMEASURED[0] <= start < UNMEASURED[1])
    ]
    plans = [make_plan(site) for site in sites]
    plans[-1] = make_plan(sites[-1], PlanSource.RULE, "battery state unknown for 45 min")
    outlooks = tuple(
        SiteOutlook(
            site_id=site.id,
            load=make_band(plan.load_kw, "ridge"),
            pv={"roof": make_band(plan.pv_kw["roof"], "clear-sky")},
            buy_per_kwh=plan.marginal_per_kwh,
            sell_per_kwh=np.full(HORIZON, 60.0),
            prices_assumed=0,
        )
        for site, plan in zip(sites, plans, strict=True)
    )
    return CycleRecord(
        at=at,
        sites=tuple(sites),
        snapshot=Snapshot(at=at, sites=tuple(make_reading(site, at) for site in sites)),
        states=tuple(
            SiteState(
                site_id=site.id, at=at, powers=make_powers(site, at), stored_kwh={"battery": 3.0}, vehicles={},
                quality=Quality.GOOD,
            )
            for site in sites
        ),
        outlook=Outlook(issued_at=at, starts_s=grid_epochs(at, HORIZON, 900), step_s=900, sites=outlooks),
        previous=(None,) * len(sites),
        plans=tuple(plans),
        setpoints=setpoints,
        deliveries=deliveries,
        accounts=tuple(accounts),
        edges=(
            Edge(at=at, site_id=sites[-1].id, subject="plan", became="rule", cause="battery state unknown for 45 min"),
            Edge(at=at, site_id=sites[-1].id, subject="device.inverter", became="lost", cause="no answer within 1 s"),
        ),
        valid_for=timedelta(minutes=30),
        missed=1,
        overlapped=0,
        took_ms=412.0,
    )  # fmt: skip


@dataclass(kw_only=True, slots=True)
class FakeService:
    """What the API needs of the service, without devices."""

    sites: tuple[Site, ...]
    store: Store
    clock: ManualClock
    live: Live = field(default_factory=Live)
    metrics: Metrics = field(default_factory=Metrics)
    ledger: Ledger = field(init=False)
    troubles: tuple[str, ...] = ()
    standing_by: str | None = None
    running: bool = False
    loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.sites, store=self.store, clock=self.clock, metrics=self.metrics)

    def problems(self) -> tuple[str, ...]:
        return self.troubles

    async def start(self) -> None:
        self.running = True
        self.loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        self.running = False


@dataclass(kw_only=True, slots=True)
class Street:
    """The service, its app, and a key for everybody."""

    service: FakeService
    app: FastAPI
    keys: dict[str, str]

    def headers(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}"}


def make_sites() -> tuple[Site, ...]:
    return make_site(1), make_site(2, vehicle=True), make_site(3)


def make_service(folder: Path, template: Path | None = None) -> FakeService:
    """Open a store that holds one cycle, copied from `template` where there is one."""
    sites, file = make_sites(), folder / "ems.sqlite"
    if template is not None:
        shutil.copy(template, file)
    store = Store.open(f"sqlite:///{file}")
    if template is None:
        store.save_cycle(make_record(sites))
    service = FakeService(sites=sites, store=store, clock=ManualClock(at=NOW))
    for site in sites[:2]:
        service.live.publish(site.id, make_live(site))
    unseen = SitePowers(
        net_import_kw=None, load_kw=None, pv_kw={"roof": None}, battery_kw={"battery": None}, vehicle_kw={}
    )
    service.live.publish(
        sites[2].id,
        replace(
            make_live(sites[2]), powers=unseen, stored_kwh={}, troubles={"inverter": "no answer within 1 s"},
            quality=Quality.BAD,
        ),
    )  # fmt: skip
    return service


def make_street(folder: Path, settings: Settings | None = None, template: Path | None = None) -> Street:
    service = make_service(folder, template)
    keys = {}
    for who, role, site_ids in (
        ("operator", AccessRole.OPERATOR, None),
        ("controller", AccessRole.CONTROLLER, ("home-01",)),
        ("resident", AccessRole.RESIDENT, ("home-01",)),
        ("grid_operator", AccessRole.GRID_OPERATOR, ("home-01",)),
        ("neighbour", AccessRole.RESIDENT, ("home-02",)),
        ("third", AccessRole.RESIDENT, ("home-03",)),
    ):
        keys[who], record = new_key(role=role, site_ids=site_ids, label=who, at=NOW)
        service.store.add_key(record)
    return Street(service=service, app=create_app(service, settings), keys=keys)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one cycle in it, made once."""
    folder = tmp_path_factory.mktemp("template")
    make_service(folder).store.close()
    return folder / "ems.sqlite"


@pytest.fixture
def street(tmp_path: Path, template: Path) -> Iterator[Street]:
    made = make_street(tmp_path, template=template)
    yield made
    made.service.store.close()


@pytest.fixture
def street_with(
    tmp_path_factory: pytest.TempPathFactory, template: Path
) -> Iterator[Callable[[Settings], Street]]:
    made: list[Street] = []

    def make(settings: Settings) -> Street:
        made.append(make_street(tmp_path_factory.mktemp("street"), settings, template))
        return made[-1]

    yield make
    for one in made:
        one.service.store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[tuple[TestClient, Street]]:
    """A street for tests that leave it as they found it."""
    made = make_street(tmp_path_factory.mktemp("shared"), template=template)
    with TestClient(made.app, follow_redirects=False) as running:
        yield running, made
    made.service.store.close()


@pytest.fixture
def client(street: Street) -> Iterator[TestClient]:
    with TestClient(street.app, follow_redirects=False) as running:
        yield running


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """What this module makes, for tests that make their own."""
    return sys.modules[__name__]
