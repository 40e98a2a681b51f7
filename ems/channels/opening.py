"""Site files to channels: the one place that knows which form of controller takes which channel.

Channels are imported where a site names one: a service without BACnet devices does not carry the protocol's stack.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ems.channels.protocol import Channel, Heard, Link, Told
from ems.channels.secrets import SHORTEST_SECRET, read_secret, tls_context
from ems.clock import Clock
from ems.errors import ConfigError, Mistake
from ems.live import Live
from ems.site import BacnetController, HttpController, MqttController, Site
from ems.store import Store

log = logging.getLogger("ems.channels")


def opener(
    *,
    folders: Mapping[str, Path],
    environment: Mapping[str, str],
    clock: Clock,
    live: Live,
    store: Store,
    wall_s: Callable[[], float] = time.time,
) -> Link:
    """Return what makes channels; it raises ConfigError where a secret or certificate cannot be read.

    Parameters
    ----------
    folders
        Folder relative paths start from, by site id.
    environment
        Where secrets may lie.
    clock, live, store
        Site time; what Home Assistant is told.
    wall_s
        Epoch seconds, for signatures.
    """

    def link(site: Site, name: str, heard: Heard, told: Told) -> Channel | None:
        folder, key = folders.get(site.id, Path()), f"{site.id}.controllers.{name}"
        match site.controllers[name]:
            case MqttController() as mqtt:
                from ems.channels.homeassistant import HomeSensors
                from ems.channels.mqtt import MqttChannel, base_topic

                password = None
                if mqtt.password is not None:
                    password = read_secret(
                        mqtt.password, key=f"{key}.password", folder=folder, environment=environment
                    )
                tls = None
                if mqtt.broker.startswith("mqtts"):
                    tls = tls_context(
                        ca_file=mqtt.ca_file,
                        cert_file=mqtt.cert_file,
                        key_file=mqtt.key_file,
                        key=key,
                        folder=folder,
                    )
                elif password is not None and not mqtt.broker.startswith(("mqtt://127.", "mqtt://localhost")):
                    log.warning(
                        "mqtt.plain site=%s controller=%s the password travels in clear", site.id, name
                    )
                base = base_topic(site.id, name)
                return MqttChannel(
                    mqtt,
                    site_id=site.id,
                    controller_name=name,
                    password=password,
                    tls=tls,
                    clock=clock,
                    heard=heard,
                    told=told,
                    aside=None
                    if mqtt.home_assistant is None
                    else HomeSensors(
                        site, mqtt.home_assistant, base=base, live=live, store=store, now=clock.now
                    ),
                )
            case HttpController(webhook=str(url), secret=ref) as http if ref is not None:
                from ems.channels.webhook import WebhookChannel

                secret = read_secret(ref, key=f"{key}.secret", folder=folder, environment=environment)
                if len(secret) < SHORTEST_SECRET:
                    raise ConfigError(
                        [
                            Mistake(
                                file="controllers",
                                key=f"{key}.secret",
                                value="(hidden)",
                                problem=f"shorter than {SHORTEST_SECRET} characters",
                                remedy="use a longer random text",
                            )
                        ]
                    )
                return WebhookChannel(
                    url,
                    controller_name=name,
                    secret=secret,
                    tls=None
                    if http.ca_file is None
                    else tls_context(ca_file=http.ca_file, key=key, folder=folder),
                    now=clock.now,
                    wall_s=wall_s,
                    heard=heard,
                    told=told,
                )
            case HttpController():
                return None
            case BacnetController() as bacnet:
                from ems.channels.bacnet import BacnetChannel

                return BacnetChannel(bacnet, controller_name=name, clock=clock, heard=heard, told=told)

    return link
