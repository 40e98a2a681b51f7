"""Hand-made sites, readings and outlooks for the tests of pure modules; powers are round so that sums can be checked."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.clock import grid_epochs
from ems.orders import Order, OrderKind, SetpointSource
from ems.outlook import Band, Outlook, SiteOutlook
from ems.readings import Quality, Sample, SiteReading, Unit
from ems.site import BatteryAsset, Connection, Consents, DeviceRef, Owner, PvAsset, Role, Site, VehicleAsset
from ems.state import MeasuredInterval, SitePowers, SiteState, VehicleState
from ems.tariffs import FlatRate, Tariff

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
STEP_S = 900
STEP = timedelta(seconds=STEP_S)
ALL_ALLOWED = Consents(control_storage=True, control_vehicle=True, curtail_solar=True)


def device(role: Role, *, rated_kw: float | None = None, read_only: bool = False) -> DeviceRef:
    return DeviceRef(
        endpoint="tcp://192.0.2.1:502", driver="sunspec", role=role, rated_kw=rated_kw, read_only=read_only
    )


METER = device(Role.GRID_METER)
HYBRID = device(Role.HYBRID_INVERTER, rated_kw=5.0)
CHARGER = device(Role.CHARGER)
ROOF = PvAsset(kind="pv", name="roof", device="inverter", rated_kw=6.0)
STORE = BatteryAsset(
    kind="battery", name="store", device="inverter", capacity_kwh=10.0, charge_limit_kw=4.0,
    discharge_limit_kw=3.0, charge_eff_frac=0.9, discharge_eff_frac=0.8, reserve_frac=0.1,
)  # fmt: skip
CAR = VehicleAsset(kind="vehicle", name="car", device="charger", charge_limit_kw=7.4, wished_kwh=12.0)


def home(**changes: object) -> Site:
    """A home with roof and battery behind one hybrid inverter; keywords replace its parts."""
    site = Site(
        id="home-01",
        name="Home",
        time_zone="Asia/Seoul",
        currency="KRW",
        country="KR",
        latitude_deg=37.5,
        longitude_deg=127.0,
        owner=Owner(name="Kim"),
        connection=Connection(import_limit_kw=10.0, export_limit_kw=5.0),
        tariff=Tariff(buy=FlatRate(per_kwh=200.0), sell=FlatRate(per_kwh=50.0)),
        devices={"meter": METER, "inverter": HYBRID},
        assets=(ROOF, STORE),
        consents=ALL_ALLOWED,
    )
    return replace(site, **changes)  # type: ignore[arg-type]


def home_with_car(**changes: object) -> Site:
    return home(
        devices={"meter": METER, "inverter": HYBRID, "charger": CHARGER}, assets=(ROOF, STORE, CAR), **changes
    )


def order(
    kind: OrderKind,
    value_kw: float | None = None,
    *,
    asset: str | None = None,
    source: SetpointSource = SetpointSource.OVERRIDE,
    at: datetime = AT,
    since_h: float = -1.0,
    lasts_h: float = 3.0,
    order_id: str | None = None,
    site_id: str = "home-01",
) -> Order:
    """An order that began an hour before `at` and holds three hours, unless said otherwise."""
    return Order(
        id=order_id or f"{source}-{kind}",
        site_id=site_id,
        by="test",
        kind=kind,
        source=source,
        asset=asset,
        value_kw=value_kw,
        from_at=at + timedelta(hours=since_h),
        until_at=at + timedelta(hours=since_h + lasts_h),
    )


def sample(value: float | None, *, quality: Quality = Quality.GOOD, at: datetime = AT) -> Sample:
    return Sample(value=value, unit=Unit.NONE, measured_at=at, quality=quality, source="test")


def reading(values: Mapping[str, float | Sample | None], **troubles: str) -> SiteReading:
    """A pass over the home; None is a sample without value, a name that is not given is not there at all."""
    return SiteReading(
        site_id="home-01",
        samples={
            name: value
            if isinstance(value, Sample)
            else sample(value, quality=Quality.BAD if value is None else Quality.GOOD)
            for name, value in values.items()
        },
        troubles=troubles,
    )


def band(power_kw: object, horizon: int) -> Band:
    kw = np.broadcast_to(np.asarray(power_kw, dtype=float), horizon).copy()
    return Band(mean_kw=kw, low_kw=0.8 * kw, high_kw=1.2 * kw, source="made", quality="good")


def site_outlook(
    *,
    horizon: int = 8,
    load_kw: object = 1.0,
    pv_kw: object = 0.0,
    buy: object = 200.0,
    sell: object = 50.0,
    pv: tuple[str, ...] = ("roof",),
    site_id: str = "home-01",
) -> SiteOutlook:
    return SiteOutlook(
        site_id=site_id,
        load=band(load_kw, horizon),
        pv={name: band(pv_kw, horizon) for name in pv},
        buy_per_kwh=np.broadcast_to(np.asarray(buy, dtype=float), horizon).copy(),
        sell_per_kwh=np.broadcast_to(np.asarray(sell, dtype=float), horizon).copy(),
        prices_assumed=0,
    )


def outlook(*sites: SiteOutlook, at: datetime = AT, step_s: int = STEP_S) -> Outlook:
    horizon = len(sites[0].buy_per_kwh)
    return Outlook(issued_at=at, starts_s=grid_epochs(at, horizon, step_s), step_s=step_s, sites=sites)


def state(
    *,
    at: datetime = AT,
    site_id: str = "home-01",
    stored_kwh: Mapping[str, float] | None = None,
    load_kw: float | None = 1.0,
    pv_kw: float | None = 0.0,
    vehicles: Mapping[str, VehicleState] | None = None,
    quality: Quality = Quality.GOOD,
    missing: tuple[str, ...] = (),
) -> SiteState:
    return SiteState(
        site_id=site_id,
        at=at,
        powers=SitePowers(
            net_import_kw=0.5,
            load_kw=load_kw,
            pv_kw={"roof": pv_kw},
            battery_kw={"store": 0.0},
            vehicle_kw={},
        ),
        stored_kwh={"store": 5.0} if stored_kwh is None else stored_kwh,
        vehicles=vehicles or {},
        quality=quality,
        missing=missing,
    )


def measured(
    start_at: datetime = AT,
    *,
    site_id: str = "home-01",
    import_kwh: float | None = 0.5,
    export_kwh: float | None = 0.0,
    load_kwh: float | None = 0.5,
    pv_kwh: float | None = 0.0,
    vehicle_kwh: float | None = 0.0,
    quality: Quality = Quality.GOOD,
    curtailed: bool = False,
) -> MeasuredInterval:
    return MeasuredInterval(
        site_id=site_id,
        start_at=start_at,
        hours=0.25,
        import_kwh=import_kwh,
        export_kwh=export_kwh,
        load_kwh=load_kwh,
        pv_kwh=pv_kwh,
        charged_kwh=0.0,
        discharged_kwh=0.0,
        vehicle_kwh=vehicle_kwh,
        stored_kwh=5.0,
        quality=quality,
        curtailed=curtailed,
    )
