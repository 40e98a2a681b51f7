"""The example sites are what a newcomer copies: they load as they stand, and say what they claim to show."""

import re
from pathlib import Path

import pytest

import drivers
from drivers import known_drivers
from drivers.device_file import load_spec
from ems.config import load_price_series, load_sites
from ems.site import BacnetController, BacnetPoint, HomeAssistant, HttpController, MqttController, Role, Site
from ems.tariffs import SeriesRate, TimeOfUseRate

FOLDER = Path(__file__).parents[2] / "deploy" / "sites"
FILES = sorted(FOLDER.glob("*.yaml"))


def sites_of(name: str) -> tuple[Site, ...]:
    """Return the sites of an example, with an empty environment."""
    return load_sites(FOLDER / name, known_drivers=known_drivers(), environment={})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_example_loads_with_nothing_set(path: Path) -> None:
    for site in sites_of(path.name):
        assert site.assets
        assert {device.endpoint for device in site.devices.values()}
        load_price_series(site, FOLDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_example_points_at_nobody(path: Path) -> None:
    # RFC 5737: addresses for documentation, at which nothing can be hit by accident
    hosts = {
        device.endpoint.split("//")[1] for site in sites_of(path.name) for device in site.devices.values()
    }
    assert {host for host in hosts if not host.startswith(("192.0.2.", "198.51.100."))} == set()


def test_one_home_with_sunspec_alone() -> None:
    (site,) = sites_of("home-sunspec.yaml")
    assert {device.driver for device in site.devices.values()} == {"sunspec"}
    assert (site.time_zone, site.currency) == ("Asia/Seoul", "KRW")
    assert len(site.pvs) == len(site.batteries) == 1
    assert isinstance(site.tariff.buy, TimeOfUseRate)
    assert len(site.tariff.buy.seasons) == 3


def test_one_home_by_device_file() -> None:
    (site,) = sites_of("home-device-file.yaml")
    assert site.devices[site.grid_meter].driver == "eastron-sdm630"
    assert [device.driver for device in site.devices.values() if device.role is Role.CHARGER] == [
        "abb-terra-ac"
    ]
    assert len(site.vehicles) == 1


def test_one_building_whose_controllers_carry_its_setpoints_out() -> None:
    (site,) = sites_of("building-controllers.yaml")
    assert {asset.name: asset.controller for asset in site.assets} == {
        "roof": "roof_bms", "battery": "plant", "cars": "garage",
    }  # fmt: skip
    assert [controller.channel for controller in site.controllers.values()] == ["mqtt", "http", "bacnet"]
    # every key there is has its comment
    text = (FOLDER / "building-controllers.yaml").read_text(encoding="utf-8")
    for kind in (MqttController, HttpController, BacnetController, BacnetPoint, HomeAssistant):
        assert [name for name in kind.__annotations__ if f"{name}:" not in text and name[:2] != "__"] == []


def test_one_home_is_ready_for_an_outage_and_a_limit_signal() -> None:
    (site,) = sites_of("home-backup.yaml")
    assert site.batteries[0].reserve_frac == 0.3, "the backup raises it"
    assert [load.name for load in site.sheddables] == ["boiler"]
    assert site.grid_signal is not None
    assert site.devices[site.grid_signal.device or ""].role is Role.GRID_SIGNAL
    assert site.idle_devices == ()


def test_the_registers_of_a_limit_signal_are_those_of_the_page() -> None:
    page = (FOLDER.parents[1] / "docs" / "grid-operator.md").read_text(encoding="utf-8")
    rows = {
        (int(address), kind) for address, kind in re.findall(r"^\| (\d+) \| (uint\d+) \|", page, re.MULTILINE)
    }
    spec = load_spec(Path(drivers.__file__).parent / "devices" / "limit-registers.yaml")
    places = [*spec.registers.values(), *spec.identity]
    assert rows == {(place.address, str(place.type)) for place in places}


def test_hourly_prices_cover_two_days_and_go_below_zero() -> None:
    (site,) = sites_of("home-dynamic-price.yaml")
    assert isinstance(site.tariff.sell, SeriesRate)
    (series,) = load_price_series(site, FOLDER).values()
    assert (len(series.starts_s), series.step_s) == (48, 3600)
    assert series.per_kwh.min() < 0 < series.per_kwh.max()


def test_street_has_70_homes_each_with_its_own_address() -> None:
    sites = sites_of("street-70.yaml")
    assert len({site.id for site in sites}) == 70
    assert len({site.devices[site.grid_meter].endpoint for site in sites}) == 70
    # what one line overrides, and what it leaves to the defaults
    by_id = {site.id: site for site in sites}
    assert by_id["street-07"].devices["meter"].driver == "eastron-sdm630"
    assert by_id["street-07"].devices["meter"].unit_id == 1
    assert [site.id for site in sites if not site.consents.control_storage] == ["street-12"]
    assert [site.id for site in sites if not site.batteries] == ["street-33"]
