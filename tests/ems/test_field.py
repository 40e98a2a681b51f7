"""What the service does with its field: consent at the device, ramps carried on, memory over a restart, figures."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from drivers import LinkPool, Refused
from ems.clock import ScaledClock
from ems.cycle import run_cycle
from ems.fast_loop import FastLoop
from ems.following import Pace
from ems.live import Live
from ems.metrics import Metrics
from ems.service import Service, make_service
from ems.setpoints import Quantity
from ems.settings import Settings
from ems.site import Connection, Consents, Site
from ems.store import Store
from ems.wiring import open_devices, permitted_controls
from tests.ems.street import NOON, Street, served_street

PEAK = NOON + timedelta(hours=4, minutes=45)


def with_device(site: Site, name: str, **changes: object) -> Site:
    """The site, one of its devices described otherwise."""
    return replace(site, devices={**site.devices, name: replace(site.devices[name], **changes)})  # type: ignore[arg-type]


async def test_a_device_itself_refuses_what_the_household_did_not_consent_to(tmp_path: Path) -> None:
    """The last line of defence: not even a mistake in plan or loop moves an appliance without consent."""
    async with served_street(tmp_path, count=1) as home, LinkPool(clock=home.clock.now) as links:
        site = replace(home.sites[0], consents=Consents(curtail_solar=True))
        devices = open_devices((site,), links)
        for name in ("inverter", "meter"):
            receipt = await devices[site.id, name].write_battery_power(1.0, valid_s=900)
            assert isinstance(receipt, Refused) and receipt.rule == "consent"
        assert home.homes[0].stations["inverter"][1].writes == 0
    assert permitted_controls(site, "inverter") == {"generation_limit"}
    assert permitted_controls(home.sites[0], "inverter") == {"battery_power", "generation_limit"}


async def test_a_meter_that_shows_ten_times_too_much_is_not_believed(tmp_path: Path) -> None:
    async with served_street(tmp_path, count=1) as home, LinkPool(clock=home.clock.now) as links:
        site = replace(
            home.sites[0], connection=Connection(import_limit_kw=3.0, export_limit_kw=3.0), assets=()
        )
        devices = open_devices((site,), links)
        physics = home.homes[0].physics
        physics.spec = replace(physics.spec, load=replace(physics.spec.load, power_kw=np.full(24, 25.0)))
        physics.settle()
        sample = (await devices[site.id, "meter"].read())["net_import_kw"]
        roomy = open_devices((with_device(site, "meter", rated_kw=60.0),), links)
        believed = (await roomy[site.id, "meter"].read())["net_import_kw"]
    assert sample.value is None and sample.cause is not None and "nameplate" in sample.cause
    assert believed.usable and believed.value is not None and believed.value > 15.0


async def test_the_fast_loop_goes_on_with_a_ramp_until_the_plan_is_reached(tmp_path: Path) -> None:
    async with served_street(tmp_path, count=1, at=PEAK) as home, LinkPool(clock=home.clock.now) as links:
        site = with_device(home.sites[0], "inverter", ramp_kw_per_s=0.02)
        ports = replace(home.ports, devices=open_devices((site,), links))
        loop = FastLoop((site,), ports, live=Live(), metrics=Metrics(), valid_for=timedelta(minutes=30))
        loop.follow(await run_cycle((site,), ports, None, at=PEAK))
        after_step = PEAK + timedelta(minutes=16)  # the recording's next hour: another load, less sun
        asked, held = [], []
        for second in range(0, 300, 5):
            home.advance(after_step + timedelta(seconds=second))
            done = await loop.step(at=after_step + timedelta(seconds=second))
            asked += [s.value_kw for s in done.setpoints if s.quantity is Quantity.BATTERY_POWER]
            held += [d.held_kw for d in done.deliveries if "battery_net" in d.setpoint_id]
    assert len(held) >= 3, "one step is not enough"
    assert max(abs(after - before) for before, after in pairwise(held)) <= 0.1 + 1e-6
    assert held[-1] == pytest.approx(asked[-1], abs=Pace().dead_band_kw)
    assert len(held) < 40, "once there it is left alone"


def service_on(home: Street, folder: Path) -> Service:
    """A whole service on the street."""
    return make_service(
        Settings(
            site_files=(folder / "street.yaml",),
            store_url=f"sqlite:///{folder / 'ems.sqlite'}",
            fast_loop_s=0.0,
            clock=ScaledClock(site_start_at=home.clock.at, wall_start_at=datetime.now(UTC), speed=1.0),
        )
    )


def metric(service: Service, name: str) -> float:
    """Value of an inverter's metric as Prometheus would scrape it."""
    scraped = generate_latest(service.metrics.registry).decode()
    found = re.search(rf'^{name}{{device="inverter",site="home-01"}} (\S+)$', scraped, re.MULTILINE)
    assert found is not None, scraped
    return float(found[1])


async def test_a_restart_forgets_neither_budgets_nor_counters(tmp_path: Path) -> None:
    async with served_street(tmp_path, count=1, taught=False) as home:
        first = service_on(home, tmp_path)
        await first.start()
        meters = home.homes[0].physics.meters
        old_kwh = meters.import_kwh
        meters.import_kwh = 3.0  # somebody exchanged the meter
        meter = first._ports.devices["home-01", "meter"]
        for _ in range(3):
            home.advance(home.clock.at + timedelta(minutes=5))
            reading = await meter.read()
        continued_kwh = reading["import_kwh"].value
        writes = metric(first, "ems_device_writes_today")
        scraped = generate_latest(first.metrics.registry).decode()
        port = home.homes[0].devices[0].endpoint.rsplit(":", 1)[1]
        answered = re.search(
            rf'ems_link_requests_total{{endpoint="tcp://127.0.0.1:{port}",outcome="answered"}} (\S+)', scraped
        )
        assert answered is not None and float(answered[1]) > 0
        await first.stop()
        second = service_on(home, tmp_path)
        again = await second._ports.devices["home-01", "meter"].read()
        assert again["import_kwh"].value == pytest.approx(continued_kwh, abs=0.01)
        assert continued_kwh is not None and continued_kwh >= old_kwh
        assert metric(second, "ems_device_writes_today") >= writes > 0
        assert metric(second, "ems_device_writes_total") == 0
        second.store.close()
        await second._links.close()


def test_a_memory_of_a_version_with_other_types_is_left_out(tmp_path: Path) -> None:
    import sqlalchemy as sa

    store = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    with store._database.writing() as conn:
        conn.execute(
            sa.text("INSERT INTO device_memories VALUES ('home-01', 'meter', 0, :body)"),
            {"body": b'{"counters": 7}'},
        )
    assert store.device_memories() == {}
    store.close()
