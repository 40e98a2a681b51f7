"""A building to practise on: simulated meter and inverter on Modbus, and a site file for each channel.

    python deploy/controller/practice.py var/practice

Serves until stopped; writes mqtt.yaml, http.yaml, webhook.yaml and bacnet.yaml into the folder, each with the battery in
the hands of a controller `bms` on that channel. docs/controllers.md goes through them. The battery really follows the
inverter's own programme, which serves the load as the plan does: so what is measured agrees with what is acknowledged.
"""

import argparse
import asyncio
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from drivers.twin import BatterySpec, HomeSpec, InverterSpec, Profile, serve

SITE = """\
id: practice
name: Practice building
owner: {{name: nobody}}
time_zone: Asia/Seoul
country: KR
currency: KRW
latitude_deg: 37.57
longitude_deg: 126.98
connection: {{import_limit_kw: 10, export_limit_kw: 5}}
devices:
  meter: {{endpoint: "{meter}", driver: sunspec, role: grid_meter}}
  inverter: {{endpoint: "{inverter}", driver: sunspec, role: hybrid_inverter, rated_kw: 5, read_only: true}}
assets:
  - {{kind: pv, name: roof, device: inverter, rated_kw: 4}}
  - kind: battery
    name: battery
    device: inverter
    capacity_kwh: 10
    charge_limit_kw: 3
    discharge_limit_kw: 3
    controller: bms
tariff: {{buy: {{kind: flat, per_kwh: 200}}, sell: {{kind: flat, per_kwh: 50}}}}
consents: {{control_storage: true}}
controllers:
  bms: {controller}
"""
CONTROLLERS = {
    "mqtt": '{{channel: mqtt, broker: "mqtt://127.0.0.1:{mqtt_port}", username: ems, password: {{env: BROKER_PASSWORD}}}}',
    "http": "{{channel: http, acknowledge_within_s: 30}}",
    "webhook": '{{channel: http, webhook: "http://127.0.0.1:{webhook_port}/", secret: {{env: WEBHOOK_SECRET}}}}',
    "bacnet": (
        '{{channel: bacnet, address: "127.0.0.1:{bacnet_port}", bind: 127.0.0.1, points: {{battery: '
        '{{object: "analog-value,1", priority: 10, feedback: "analog-input,1", validity: "analog-value,2"}}}}, poll_s: 2}}'
    ),
}


def building() -> HomeSpec:
    """Return a building that draws 1 kW, with a roof in the dark and a half-full battery."""
    return HomeSpec(
        name="practice",
        load=Profile(start_at=datetime(2026, 1, 1, tzinfo=UTC), step_s=3600.0, power_kw=np.array([1.0])),
        pv=Profile(start_at=datetime(2026, 1, 1, tzinfo=UTC), step_s=3600.0, power_kw=np.array([0.0])),
        battery=BatterySpec(capacity_kwh=10.0, charge_limit_kw=3.0, discharge_limit_kw=3.0),
        inverter=InverterSpec(ac_limit_kw=5.0),
    )


async def practise(folder: Path, **ports: int) -> None:
    """Serve the building and write its site files."""
    async with serve([building()], clock=lambda: datetime.now(UTC)) as (home,):
        at = {device.role: device.endpoint for device in home.devices}
        for channel, text in CONTROLLERS.items():
            site = SITE.format(meter=at["meter"], inverter=at["inverter"], controller=text.format(**ports))
            (folder / f"{channel}.yaml").write_text(site, encoding="utf-8")
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mqtt-port", type=int, default=18830)
    parser.add_argument("--webhook-port", type=int, default=9000)
    parser.add_argument("--bacnet-port", type=int, default=47809)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(
        practise(
            given.folder,
            mqtt_port=given.mqtt_port,
            webhook_port=given.webhook_port,
            bacnet_port=given.bacnet_port,
        )
    )
