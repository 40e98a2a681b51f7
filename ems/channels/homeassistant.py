"""The home's sensors for Home Assistant: announced by MQTT discovery, fed at a modest rate.

Power comes from the fast loop, energy from the counters of the devices themselves, so that it only ever rises; a home
whose devices do not count has no energy sensor rather than one that is made up.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import aiomqtt

from ems.errors import StoreError
from ems.live import Live, LiveState
from ems.metering import counted_kwh
from ems.plan import Plan
from ems.readings import Sample
from ems.site import HomeAssistant, Site
from ems.store import Store

ENERGY = {"import": "grid_import", "export": "grid_export", "pv": "solar", "charged": "battery_charged",
          "discharged": "battery_discharged", "vehicle": "vehicle"}  # fmt: skip
"""Names of energy sensors by what is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sensor:
    """One sensor as Home Assistant knows it."""

    name: str
    unit: str | None = None
    device_class: str | None = None
    state_class: str | None = None


def sensors(site: Site, counted: Mapping[str, float]) -> dict[str, _Sensor]:
    """Return the sensors a site has, by the key of their value."""

    def power(name: str) -> _Sensor:
        return _Sensor(name=name, unit="kW", device_class="power", state_class="measurement")

    def energy(name: str) -> _Sensor:
        return _Sensor(name=name, unit="kWh", device_class="energy", state_class="total_increasing")

    found = {"grid_kw": power("Grid power"), "load_kw": power("Home power")}
    if site.pvs:
        found["solar_kw"] = power("Solar power")
    if site.batteries:
        found["battery_kw"] = power("Battery power")
        found["battery_pct"] = _Sensor(
            name="Battery", unit="%", device_class="battery", state_class="measurement"
        )
    if site.vehicles:
        found["vehicle_kw"] = power("Vehicle power")
    for channel, name in ENERGY.items():
        if channel in counted:
            found[f"{name}_kwh"] = energy(name.replace("_", " ").capitalize() + " energy")
    found["next_action"] = _Sensor(name="Next action")
    found["next_action_at"] = _Sensor(name="Next action at", device_class="timestamp")
    return found


def announcement(
    site: Site, counted: Mapping[str, float], *, values_topic: str, status_topic: str
) -> dict[str, object]:
    """Return the discovery message of a site's device."""
    device_id = f"ems_{site.id}"
    components = {}
    for key, sensor in sensors(site, counted).items():
        described = {
            "platform": "sensor",
            "name": sensor.name,
            "unique_id": f"{device_id}_{key}",
            "value_template": "{{ value_json." + key + " }}",
            "unit_of_measurement": sensor.unit,
            "device_class": sensor.device_class,
            "state_class": sensor.state_class,
        }
        components[key] = {name: value for name, value in described.items() if value is not None}
    return {
        "device": {"identifiers": [device_id], "name": site.name, "manufacturer": "ems", "model": "Energy management"},
        "origin": {"name": "ems"},
        "state_topic": values_topic,
        "availability_topic": status_topic,
        "components": components,
    }  # fmt: skip


def values(
    site: Site, now: LiveState | None, counted: Mapping[str, float], plan: Plan | None, at: datetime
) -> dict[str, object]:
    """Return the values of all sensors; null is unknown."""
    powers = None if now is None else now.powers
    stored_kwh = None if now is None else now.stored_kwh
    capacity_kwh = sum(battery.capacity_kwh for battery in site.batteries)
    known = stored_kwh is not None and len(stored_kwh) == len(site.batteries) and capacity_kwh > 0
    told: dict[str, object] = {
        "grid_kw": None if powers is None else powers.net_import_kw,
        "load_kw": None if powers is None else powers.load_kw,
        "solar_kw": None if powers is None else powers.total_pv_kw,
        "battery_kw": None if powers is None else powers.total_battery_kw,
        "vehicle_kw": None if powers is None else powers.total_vehicle_kw,
        "battery_pct": 100.0 * sum(stored_kwh.values()) / capacity_kwh if known and stored_kwh else None,
    }
    told |= {f"{name}_kwh": counted.get(channel) for channel, name in ENERGY.items()}
    coming = () if plan is None else (reason for reason in plan.reasons if reason.start_at > at)
    upcoming = min(coming, key=lambda reason: reason.start_at, default=None)
    told["next_action"] = (
        None if upcoming is None else f"{upcoming.asset}: {upcoming.action} ({upcoming.code})"
    )
    told["next_action_at"] = None if upcoming is None else upcoming.start_at.isoformat()
    wanted = sensors(site, counted)
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in told.items()
        if key in wanted
    }


class HomeSensors:
    """Announces a home and feeds its sensors on the connection of an MQTT controller."""

    def __init__(
        self,
        site: Site,
        settings: HomeAssistant,
        *,
        base: str,
        live: Live,
        store: Store,
        now: Callable[[], datetime],
    ) -> None:
        self._site = site
        self._settings = settings
        self._values_topic, self._status_topic = f"{base}/values", f"{base}/status"
        self._live = live
        self._store = store
        self._now = now
        self._birth_topic = f"{settings.prefix}/status"
        self._config_topic = f"{settings.prefix}/device/ems_{site.id}/config"

    def wants(self, topic: str) -> bool:
        """Tell whether a message is Home Assistant's word that it has started."""
        return topic == self._birth_topic

    async def run(self, client: aiomqtt.Client, heard: "asyncio.Queue[aiomqtt.Message]") -> None:
        """Announce, feed, and announce again whenever Home Assistant has started anew."""
        await client.subscribe(self._birth_topic, qos=1)
        announced: dict[str, object] = {}
        counted: Mapping[str, float] = {}
        plan: Plan | None = None
        while True:
            with contextlib.suppress(
                StoreError
            ):  # what was read last stands in while the store cannot be read
                counted, plan = await asyncio.to_thread(self._recorded)
            wanted = announcement(
                self._site, counted, values_topic=self._values_topic, status_topic=self._status_topic
            )
            if wanted != announced:
                await client.publish(self._config_topic, json.dumps(wanted).encode(), qos=1, retain=True)
                announced = wanted
            told = values(self._site, self._live.latest(self._site.id), counted, plan, self._now())
            await client.publish(self._values_topic, json.dumps(told).encode(), qos=0)
            with contextlib.suppress(TimeoutError):
                message = await asyncio.wait_for(heard.get(), self._settings.every_s)
                if message.payload == b"online":
                    announced = {}

    def _recorded(self) -> tuple[Mapping[str, float], Plan | None]:
        """Return the counters read last and the plan decided last."""
        samples: Mapping[str, Sample] = self._store.latest_samples([self._site.id]).get(self._site.id, {})
        return counted_kwh(self._site, samples), self._store.latest_plan(self._site.id)
