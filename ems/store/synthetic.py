"""Made-up cycles of realistic size, for measuring and testing the store. Seeded; nothing here is a measurement."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from ems.clock import grid_epochs
from ems.codec import FloatArray
from ems.cycle import CycleRecord
from ems.feedback import Edge, IntervalAccount
from ems.outlook import Band, Outlook, SiteOutlook
from ems.plan import Action, BatteryPlan, Plan, PlanSource, Reason
from ems.publishing import Delivery, DeliveryOutcome
from ems.readings import Quality, Sample, SiteReading, Snapshot, Unit
from ems.setpoints import Quantity, Setpoint, SetpointKind, SetpointSource
from ems.site import BatteryAsset, Connection, DeviceRef, Owner, PvAsset, Role, Site
from ems.state import MeasuredInterval, SitePowers, SiteState
from ems.tariffs import FlatRate, Tariff

STEP_S = 900
HORIZON = 192
QUANTITIES = (
    *((f"meter.{name}", unit) for name, unit in (
        ("net_import_kw", Unit.KW), ("import_kwh", Unit.KWH), ("export_kwh", Unit.KWH),
        ("voltage_l1_v", Unit.V), ("voltage_l2_v", Unit.V), ("voltage_l3_v", Unit.V),
        ("current_l1_a", Unit.A), ("current_l2_a", Unit.A), ("current_l3_a", Unit.A),
        ("frequency_hz", Unit.HZ), ("reactive_kvar", Unit.KVAR), ("apparent_kva", Unit.KVA),
    )),
    *((f"inverter.{name}", unit) for name, unit in (
        ("net_consumption_kw", Unit.KW), ("generated_kwh", Unit.KWH), ("consumed_kwh", Unit.KWH),
        ("pv_kw", Unit.KW), ("pv_kwh", Unit.KWH), ("ac_limit_kw", Unit.KW), ("generation_limit_kw", Unit.KW),
        ("battery_net_consumption_kw", Unit.KW), ("stored_frac", Unit.FRAC), ("capacity_kwh", Unit.KWH),
        ("charged_kwh", Unit.KWH), ("discharged_kwh", Unit.KWH), ("charge_limit_kw", Unit.KW),
        ("discharge_limit_kw", Unit.KW), ("health_frac", Unit.FRAC), ("temperature_degc", Unit.DEGC),
    )),
)  # fmt: skip
"""What a SunSpec meter and a hybrid inverter say: 28 samples a pass."""


@dataclass(kw_only=True, slots=True)
class Street:
    """A number of homes that have cycles without anything being read or solved."""

    n_sites: int
    """Homes."""
    seed: int = 0
    """Of everything random."""
    sites: tuple[Site, ...] = field(init=False)
    """The homes."""
    plans: tuple[Plan | None, ...] = field(init=False)
    """Plans of the latest cycle."""
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self.sites = tuple(_site(f"home{i:05d}") for i in range(self.n_sites))
        self.plans = (None,) * self.n_sites

    def readings(self, at: datetime) -> tuple[SiteReading, ...]:
        """Return one pass over all homes."""
        values = self._rng.normal(1.0, 0.5, (self.n_sites, len(QUANTITIES)))
        return tuple(
            SiteReading(
                site_id=site.id,
                samples={
                    key: Sample(
                        value=round(float(value), 3),
                        unit=unit,
                        measured_at=at + timedelta(milliseconds=40),
                        quality=Quality.GOOD,
                        source=f"{site.id}.{key.split('.')[0]} {key}",
                    )
                    for (key, unit), value in zip(QUANTITIES, row, strict=True)
                },
                troubles={},
            )
            for site, row in zip(self.sites, values, strict=True)
        )

    def setpoints(
        self, at: datetime, source: SetpointSource
    ) -> tuple[tuple[Setpoint, ...], tuple[Delivery, ...]]:
        """Return one setpoint per home, and what came of it."""
        asked = tuple(
            Setpoint(
                id=f"{site.id}.battery.{Quantity.BATTERY_POWER}.{int(at.timestamp() * 1000)}",
                site_id=site.id,
                asset="battery",
                kind=SetpointKind.TARGET,
                quantity=Quantity.BATTERY_POWER,
                value_kw=round(float(value), 3),
                valid_from=at,
                valid_until=at + timedelta(minutes=30),
                priority=10,
                source=source,
                reason=Reason(
                    asset="battery", start_at=at, action=Action.CHARGE, code="store_surplus", saving=0.1
                ),
                reverts_to="own_mode",
            )
            for site, value in zip(self.sites, self._rng.normal(0, 1, self.n_sites), strict=True)
        )
        came = tuple(
            Delivery.of(
                setpoint,
                DeliveryOutcome.APPLIED,
                held_kw=setpoint.value_kw,
                at=at + timedelta(milliseconds=120),
                written=True,
                detail="",
            )
            for setpoint in asked
        )
        return asked, came

    def accounts(self, start_at: datetime) -> tuple[IntervalAccount, ...]:
        """Return the account of one interval per home."""
        return tuple(self._account(site, start_at) for site in self.sites)

    def cycle(self, at: datetime) -> CycleRecord:
        """Return the record of one cycle; the plans of the one before are its previous plans."""
        plans = tuple(self._plan(site, at) for site in self.sites)
        setpoints, deliveries = self.setpoints(at, SetpointSource.PLAN)
        readings = self.readings(at)
        record = CycleRecord(
            at=at,
            sites=self.sites,
            snapshot=Snapshot(at=at, sites=readings),
            states=tuple(_state(reading, at) for reading in readings),
            outlook=self._outlook(at),
            previous=self.plans,
            plans=plans,
            setpoints=setpoints,
            deliveries=deliveries,
            accounts=self.accounts(at - timedelta(seconds=STEP_S)),
            edges=(Edge(at=at, site_id=self.sites[0].id, subject="plan", became="optimal", cause="solved"),),
            valid_for=timedelta(minutes=30),
            missed=0,
            overlapped=0,
            took_ms=120.0,
        )
        self.plans = plans
        return record

    def _course(self) -> FloatArray:
        return np.abs(self._rng.normal(0.5, 0.4, HORIZON))

    def _sparse(self) -> FloatArray:
        # what a solved dispatch looks like: most intervals at a bound
        return np.round(self._course(), 6) * self._rng.integers(0, 2, HORIZON)

    def _plan(self, site: Site, at: datetime) -> Plan:
        steps = np.repeat(self._rng.normal(0.2, 0.05, HORIZON // 16), 16)
        return Plan(
            site_id=site.id,
            issued_at=at,
            valid_until=at + timedelta(minutes=30),
            source=PlanSource.OPTIMAL,
            cause=None,
            starts_s=grid_epochs(at, HORIZON, STEP_S),
            step_s=STEP_S,
            import_kw=self._course(),
            export_kw=self._sparse(),
            load_kw=self._course(),
            pv_kw={"roof": self._sparse()},
            inverter_kw={"inverter": self._course()},
            batteries={
                "battery": BatteryPlan(
                    charge_kw=self._sparse(),
                    discharge_kw=self._sparse(),
                    stored_kwh=np.abs(self._rng.normal(3, 1, HORIZON + 1)),
                    value_per_kwh=steps,
                )
            },
            vehicle_kw={},
            cost={"energy": float(self._rng.normal(3, 1)), "wear": 0.2},
            marginal_per_kwh=steps,
            reasons=tuple(
                Reason(
                    asset="battery",
                    start_at=at + timedelta(hours=4 * i),
                    action=Action.CHARGE if i % 2 else Action.DISCHARGE,
                    code="store_for_later",
                    later_at=at + timedelta(hours=4 * i + 6),
                    saving=round(float(self._rng.normal(0.2, 0.05)), 4),
                )
                for i in range(12)
            ),
            unmet=(),
            solve_ms=1.6,
        )

    def _outlook(self, at: datetime) -> Outlook:
        return Outlook(
            issued_at=at,
            starts_s=grid_epochs(at, HORIZON, STEP_S),
            step_s=STEP_S,
            sites=tuple(
                SiteOutlook(
                    site_id=site.id,
                    load=self._band("seasonal", night=0),
                    pv={"roof": self._band("clear-sky", night=HORIZON // 2)},
                    buy_per_kwh=np.repeat(self._rng.choice([0.1, 0.2, 0.4], HORIZON // 16), 16),
                    sell_per_kwh=np.full(HORIZON, 0.08),
                    prices_assumed=0,
                )
                for site in self.sites
            ),
        )

    def _band(self, source: str, *, night: int) -> Band:
        mean_kw = self._course()
        mean_kw[:night] = 0.0
        return Band(
            mean_kw=mean_kw, low_kw=0.6 * mean_kw, high_kw=1.5 * mean_kw, source=source, quality="good"
        )

    def _account(self, site: Site, start_at: datetime) -> IntervalAccount:
        load_kwh, pv_kwh, charged_kwh = np.abs(self._rng.normal(0.2, 0.1, 3)).tolist()
        net_kwh = load_kwh + charged_kwh - pv_kwh
        return IntervalAccount(
            measured=MeasuredInterval(
                site_id=site.id,
                start_at=start_at,
                hours=STEP_S / 3600,
                import_kwh=max(net_kwh, 0.0),
                export_kwh=max(-net_kwh, 0.0),
                load_kwh=load_kwh,
                pv_kwh=pv_kwh,
                charged_kwh=charged_kwh,
                discharged_kwh=0.0,
                vehicle_kwh=0.0,
                stored_kwh=3.0,
                quality=Quality.GOOD,
            ),
            buy_per_kwh=0.3,
            sell_per_kwh=0.08,
            cost=0.3 * max(net_kwh, 0.0) - 0.08 * max(-net_kwh, 0.0),
            cost_idle=0.3 * max(load_kwh - pv_kwh, 0.0) - 0.08 * max(pv_kwh - load_kwh, 0.0),
            planned_import_kw=4 * net_kwh,
        )


def _site(site_id: str) -> Site:
    return Site(
        id=site_id,
        name=site_id.capitalize(),
        time_zone="Asia/Seoul",
        currency="KRW",
        country="KR",
        latitude_deg=37.3,
        longitude_deg=127.0,
        owner=Owner(name="Residents' association"),
        connection=Connection(import_limit_kw=10.0, export_limit_kw=5.0),
        tariff=Tariff(buy=FlatRate(per_kwh=150.0)),
        devices={
            "meter": DeviceRef(endpoint="tcp://192.0.2.1:502", driver="sunspec", role=Role.GRID_METER),
            "inverter": DeviceRef(
                endpoint="tcp://192.0.2.2:502", driver="sunspec", role=Role.HYBRID_INVERTER, rated_kw=5.0
            ),
        },
        assets=(
            PvAsset(kind="pv", name="roof", device="inverter", rated_kw=4.0),
            BatteryAsset(
                kind="battery",
                name="battery",
                device="inverter",
                capacity_kwh=6.4,
                charge_limit_kw=5.0,
                discharge_limit_kw=5.0,
            ),
        ),
    )


def _state(reading: SiteReading, at: datetime) -> SiteState:
    return SiteState(
        site_id=reading.site_id,
        at=at,
        powers=SitePowers(
            net_import_kw=reading.usable("meter", "net_import_kw"),
            load_kw=0.4,
            pv_kw={"roof": reading.usable("inverter", "pv_kw")},
            battery_kw={"battery": reading.usable("inverter", "battery_net_consumption_kw")},
            vehicle_kw={},
        ),
        stored_kwh={"battery": 3.2},
        vehicles={},
        quality=Quality.GOOD,
    )
