"""Site files: every mistake of a file in one run, each with line, key, value and remedy; good files read as meant."""

import json
from datetime import time
from pathlib import Path

import pytest

from ems.codec import from_json, to_json
from ems.config import load_price_series, load_sites, site_schema
from ems.errors import ConfigError, Mistake
from ems.site import Site
from ems.tariffs import TimeOfUseRate

HOME = """\
id: home-01
name: Home
time_zone: Asia/Seoul
currency: KRW
country: KR
latitude_deg: 37.5
longitude_deg: 127.0
owner: {name: Kim}
connection: {import_limit_kw: 10, export_limit_kw: 5}
tariff:
  buy: {kind: flat, per_kwh: 200}
devices:
  meter: {endpoint: "tcp://192.0.2.1:502", driver: sunspec, role: grid_meter}
  inverter: {endpoint: "tcp://192.0.2.2:502", driver: sunspec, role: hybrid_inverter, rated_kw: 5}
assets:
  - {kind: pv, name: roof, device: inverter, rated_kw: 5}
  - {kind: battery, name: store, device: inverter, capacity_kwh: 10, charge_limit_kw: 5, discharge_limit_kw: 5}
"""
CALENDAR = """\
  buy:
    kind: time_of_use
    seasons:
      - name: all year
        months: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        periods:
          - {from_local: FROM, to_local: "21:00", per_kwh: 300}
        otherwise_per_kwh: 100
"""


def load(folder: Path, text: str, **environment: str) -> tuple[Site, ...]:
    path = folder / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return load_sites(path, known_drivers=["sunspec", "eastron-sdm630"], environment=environment)


def mistakes(folder: Path, text: str, **environment: str) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environment)
    for mistake in caught.value.mistakes:
        assert mistake.problem
        assert mistake.remedy
        assert "\n" not in str(mistake)
    return list(caught.value.mistakes)


def changed(*pairs: tuple[str, str]) -> str:
    text = HOME
    for old, new in pairs:
        assert text.count(old) >= 1, f"the example no longer holds {old!r}"
        text = text.replace(old, new, 1)
    return text


def test_a_good_file_is_read_as_it_says(tmp_path: Path) -> None:
    (site,) = load(tmp_path, HOME)
    assert (site.id, site.time_zone, site.currency, site.connection.import_limit_kw) == (
        "home-01", "Asia/Seoul", "KRW", 10.0,
    )  # fmt: skip
    assert site.grid_meter == "meter"
    assert site.batteries[0].capacity_kwh == 10.0
    assert not site.consents.control_storage  # nothing is moved without being asked for


@pytest.mark.parametrize(
    ("change", "line", "key", "value", "remedy"),
    [
        pytest.param(("name: Kim", "name: Kim, contct: x"), 8, "owner.contct", "'x'", "did you mean `contact`", id="misspelt key"),
        pytest.param(("currency: KRW", "currency: won"), 4, "currency", "'won'", "ISO 4217", id="currency"),
        pytest.param(("latitude_deg: 37.5", "latitude_deg: 375"), 6, "latitude_deg", "375", "less than", id="range"),
        pytest.param(("latitude_deg: 37.5", "latitude_deg: true"), 6, "latitude_deg", "True", "decimal number",
                     id="truth value for a number"),
        pytest.param(("per_kwh: 200", "per_kwh: 0777"), 11, "tariff.buy.per_kwh", "'0777'", "decimal number",
                     id="octal for a price"),
        pytest.param(("per_kwh: 200", "per_kwh: 1_000"), 11, "tariff.buy.per_kwh", "'1_000'", "decimal number",
                     id="digit groups"),
        pytest.param(("per_kwh: 200", "per_kwh: 1e999"), 11, "tariff.buy.per_kwh", "inf", "finite", id="overflow"),
        pytest.param(("per_kwh: 200", "per_kwh: nan"), 11, "tariff.buy.per_kwh", "'nan'", "decimal number", id="nan"),
        pytest.param(("per_kwh: 200", "per_kwh: 200 won"), 11, "tariff.buy.per_kwh", "'200 won'", "decimal number",
                     id="number with unit"),
        pytest.param(("kind: flat, ", ""), 11, "tariff.buy", "{'per_kwh': 200}", "flat`, `time_of_use`",
                     id="kind missing"),
        pytest.param(("kind: flat", "kind: spot"), 11, "tariff.buy", "{'kind': 'spot', 'per_kwh': 200}", "'flat'",
                     id="kind unknown"),
        pytest.param(("role: grid_meter", "role: meter"), 13, "devices.meter.role", "'meter'", "'grid_meter'", id="role"),
        pytest.param(("tcp://192.0.2.1:502", "192.0.2.1"), 13, "devices.meter.endpoint", "'192.0.2.1'", "tcp://host:port",
                     id="endpoint"),
        pytest.param(("driver: sunspec, role: grid", "driver: eastron-sdm63, role: grid"), 13, "devices.meter.driver",
                     "eastron-sdm63", "eastron-sdm630", id="driver"),
        pytest.param((", rated_kw: 5}\nassets", "}\nassets"), 14, "devices.inverter", "", "agree",
                     id="hybrid without rating"),
        pytest.param(("role: grid_meter", "role: pv_inverter"), 12, "devices", "", "agree", id="no grid meter"),
        pytest.param(("name: store", "name: roof"), 17, "assets[1].name", "roof", "agree", id="asset name twice"),
        pytest.param(("roof, device: inverter", "roof, device: roof"), 16, "assets[0].device", "roof", "agree",
                     id="device not listed"),
        pytest.param(("store, device: inverter", "store, device: meter"), 17, "assets[1].device", "meter", "agree",
                     id="battery behind a meter"),
        pytest.param(("Asia/Seoul", "Asia/Soul"), 3, "time_zone", "Asia/Soul", "agree", id="zone"),
        pytest.param(("owner: {name: Kim}", "owner: Kim"), 8, "owner", "'Kim'", "", id="text for a mapping"),
        pytest.param(("assets:\n", "assets: []\nassetts:\n"), 16, "assetts", None, "did you mean `assets`",
                     id="misspelt list"),
        pytest.param(("name: Kim", "name: '${OWNER}'"), 8, "owner.name", "${OWNER}", "export OWNER", id="unset variable"),
    ],
)  # fmt: skip
def test_a_mistake_names_line_key_value_and_remedy(
    tmp_path: Path, change: tuple[str, str], line: int, key: str, value: str | None, remedy: str
) -> None:
    (mistake,) = mistakes(tmp_path, changed(change))
    assert mistake.file == f"{tmp_path / 'site.yaml'}:{line}"
    assert mistake.key == key
    assert value is None or mistake.value == value
    assert remedy in mistake.remedy


def test_every_mistake_is_told_in_one_run(tmp_path: Path) -> None:
    text = changed(
        ("name: Home\n", "name: Home\nname: Haus\n"),
        ("Asia/Seoul", "Asia/Soul"),
        ("owner: {name: Kim}\n", ""),
        ("per_kwh: 200", "per_kwh: dear"),
        ("driver: sunspec, role: grid", "driver: sunspc, role: grid"),
        ("roof, device: inverter", "roof, device: roof"),
        ("capacity_kwh: 10", "capacity_kwh: -1"),
    )
    assert sorted(mistake.key for mistake in mistakes(tmp_path, text)) == [
        "assets[0].device", "assets[1].capacity_kwh", "devices.meter.driver", "name", "owner", "tariff.buy.per_kwh",
        "time_zone",
    ]  # fmt: skip


def test_a_second_roof_behind_one_inverter_is_refused(tmp_path: Path) -> None:
    """Both would read the inverter's whole solar power, and each would set its own limit there."""
    second = "  - {kind: pv, name: west, device: inverter, rated_kw: 2}\n  - {kind: battery"
    (mistake,) = mistakes(tmp_path, changed(("  - {kind: battery", second)))
    assert (mistake.key, mistake.file.rsplit(":", 1)[1]) == ("assets[1].device", "17")


@pytest.mark.parametrize("written", ["16", "960", "'16:00:30'", "'16:00Z'", "'24:00'", "4pm", "true", "1.5"])
def test_what_only_looks_like_a_local_time_is_refused(tmp_path: Path, written: str) -> None:
    text = changed(("  buy: {kind: flat, per_kwh: 200}\n", CALENDAR.replace("FROM", written)))
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.key == "tariff.buy.seasons[0].periods[0].from_local"
    assert mistake.file.endswith(":17")
    assert "16:00" in mistake.remedy


@pytest.mark.parametrize("written", ["16:00", "'16:00'"])
def test_local_times_are_read_quoted_or_not_and_survive_the_record(tmp_path: Path, written: str) -> None:
    (site,) = load(
        tmp_path, changed(("  buy: {kind: flat, per_kwh: 200}\n", CALENDAR.replace("FROM", written)))
    )
    assert isinstance(site.tariff.buy, TimeOfUseRate)
    assert site.tariff.buy.seasons[0].periods[0].from_local == time(16, 0)
    assert from_json(Site, to_json(site)) == site


@pytest.mark.parametrize(
    ("months", "told"),
    [
        pytest.param("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11", "missing [12]", id="december forgotten"),
        pytest.param("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12", "more than once [12]", id="december twice"),
    ],
)
def test_a_calendar_covers_every_month_once(tmp_path: Path, months: str, told: str) -> None:
    calendar = CALENDAR.replace("FROM", "'16:00'").replace("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12", months)
    (mistake,) = mistakes(tmp_path, changed(("  buy: {kind: flat, per_kwh: 200}\n", calendar)))
    assert told in mistake.problem


@pytest.mark.parametrize(
    ("written", "read"), [("no", False), ("yes", True), ("true", True), ("false", False)]
)
def test_yes_and_no_are_understood_where_a_truth_value_belongs(
    tmp_path: Path, written: str, read: bool
) -> None:
    (site,) = load(tmp_path, changed(("role: grid_meter", f"role: grid_meter, read_only: {written}")))
    assert site.devices["meter"].read_only is read


def test_norway_is_a_country(tmp_path: Path) -> None:
    (site,) = load(tmp_path, changed(("country: KR", "country: NO")))
    assert site.country == "NO"


def test_variables_come_from_the_environment_as_text_or_number(tmp_path: Path) -> None:
    text = changed(("name: Kim", "name: '${OWNER}'"), ("per_kwh: 200", "per_kwh: '${PRICE}'"))
    (site,) = load(tmp_path, text, OWNER="Lee", PRICE="150.5")
    assert site.owner.name == "Lee"
    assert site.tariff.buy.per_kwh == 150.5  # type: ignore[union-attr]


def test_a_secret_is_never_repeated_in_a_mistake(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, changed(("tcp://192.0.2.1:502", "${SECRET}")), SECRET="hunter2")
    assert mistake.value == "${SECRET}"
    assert "hunter2" not in str(mistake)


def shared(defaults: str, *entries: str) -> str:
    def indent(text: str, by: str) -> str:
        return "".join(f"{by}{line}\n" for line in text.splitlines())

    listed = "".join("  - " + indent(entry, "    ")[4:] for entry in entries)
    return f"defaults:\n{indent(defaults, '  ')}sites:\n{listed}"


def test_a_street_shares_defaults_that_a_home_may_override(tmp_path: Path) -> None:
    defaults = HOME.removeprefix("id: home-01\nname: Home\n")
    entries = ("id: a\nname: A", "id: b\nname: B\nconnection: {import_limit_kw: 20}")
    one, two = load(tmp_path, shared(defaults, *entries))
    assert (one.connection.import_limit_kw, two.connection.import_limit_kw) == (10.0, 20.0)
    assert two.connection.export_limit_kw == 5.0


def test_a_mistake_in_defaults_is_told_where_it_stands(tmp_path: Path) -> None:
    defaults = HOME.removeprefix("id: home-01\nname: Home\n").replace("currency: KRW", "currency: won")
    found = mistakes(tmp_path, shared(defaults, "id: a\nname: A", "id: a\nname: B"))
    assert {(m.key, m.file.rsplit(":", 1)[1]) for m in found} == {
        ("defaults.currency", "3"), ("sites[1].id", "20"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("sites: []\n", "sites", id="no site"),
        pytest.param("sites: 3\n", "sites", id="no list"),
        pytest.param("sites: [3]\n", "sites[0]", id="no mapping"),
        pytest.param("hello\n", "(file)", id="only text"),
        pytest.param("- a\n", "(file)", id="a list"),
    ],
)
def test_a_file_of_another_shape_is_told(tmp_path: Path, text: str, key: str) -> None:
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.key == key
    assert mistake.file.endswith(":1")


@pytest.mark.parametrize("kind", ["missing", "folder", "latin"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "site.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "latin":
        path.write_bytes("name: Haus M\u00fcller\n".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load_sites(path, known_drivers=[])
    assert str(path) in str(caught.value)


def test_a_price_file_is_looked_into(tmp_path: Path) -> None:
    series = ("{kind: flat, per_kwh: 200}", "{kind: series, file: prices.csv}")
    (mistake,) = mistakes(tmp_path, changed(series))
    assert (mistake.key, mistake.value, mistake.file[-3:]) == ("tariff.buy.file", "prices.csv", ":11")
    (tmp_path / "prices.csv").write_text(
        "at,per_kwh\n2026-03-01T00:00:00+09:00,100\n2026-03-01T01:00:00+09:00,120\n"
    )
    (site,) = load(tmp_path, changed(series))
    prices = load_price_series(site, tmp_path)["prices.csv"]
    assert prices.per_kwh.tolist() == [100.0, 120.0]
    assert prices.step_s == 3600


def test_the_schema_for_editors_knows_keys_and_bounds() -> None:
    schema = json.loads(json.dumps(site_schema()))
    site = schema["$defs"]["Site"]["properties"]
    assert site["latitude_deg"]["maximum"] == 90
    assert schema["$defs"]["Period"]["properties"]["from_local"]["pattern"]
    assert schema["$defs"]["DeviceRef"]["additionalProperties"] is False


CONTROLLERS = """\
controllers:
  bms: {channel: mqtt, broker: "mqtts://broker.example", username: ems, password: {env: BROKER_PASSWORD}}
  garage: {channel: http}
  solar:
    channel: bacnet
    address: 192.0.2.9
    points: {roof: {object: "analog-value,1"}}
"""
STEERED = HOME.replace("discharge_limit_kw: 5}", "discharge_limit_kw: 5, controller: bms}").replace(
    "name: roof, device: inverter, rated_kw: 5}",
    "name: roof, device: inverter, rated_kw: 5, controller: solar}",
)


def test_assets_in_the_hands_of_controllers_are_read_as_written(tmp_path: Path) -> None:
    (site,) = load(tmp_path, STEERED + CONTROLLERS)
    assert [asset.controller for asset in site.assets] == ["solar", "bms"]
    assert {name: controller.channel for name, controller in site.controllers.items()} == {
        "bms": "mqtt", "garage": "http", "solar": "bacnet",
    }  # fmt: skip
    assert from_json(Site, to_json(site)) == site
    assert load(tmp_path, HOME)[0].controllers == {}


@pytest.mark.parametrize(
    ("old", "new", "key", "problem"),
    [
        ("controller: bms}", "controller: bmz}", "assets[1].controller", "not under controllers"),
        ("controller: bms}", "controller: solar}", "assets[1].controller", "no point for asset 'store'"),
        ("points: {roof:", "points: {rooof: {object: 'analog-value,2'}, roof:", "controllers.solar.points.rooof", "for no asset"),
        ("channel: http", "channel: htpp", "controllers.garage", "unknown channel 'htpp'"),
        ("channel: http", "speaks: http", "controllers.garage", "the key `channel` is missing"),
        ("{channel: http}", "{channel: http, webhook: 'https://x/'}", "controllers.garage", "go together"),
        ("{channel: http}", "{channel: http, webhok: 'https://x/'}", "controllers.garage.webhok", "unknown key"),
        ("mqtts://broker.example", "mqtts://me:pw@broker.example", "controllers.bms.broker", "expected form"),
        ("mqtts://broker.example", "http://broker.example", "controllers.bms.broker", "expected form"),
        ("192.0.2.9", "device.example", "controllers.solar.address", "expected form"),
        ("analog-value,1", "AV1", "controllers.solar.points.roof.object", "expected form"),
        ('object: "analog-value,1"', 'object: "analog-value,1", priority: 17', "controllers.solar.points.roof.priority", "out of range"),
        ('object: "analog-value,1"', 'object: "analog-value,1", per_kw: 0', "controllers.solar.points.roof", "must not be 0"),
        ("{env: BROKER_PASSWORD}", "{env: PW, file: pw}", "controllers.bms.password", "either `env` or `file`"),
    ],
)  # fmt: skip
def test_a_mistake_about_a_controller_is_told_where_it_stands(
    tmp_path: Path, old: str, new: str, key: str, problem: str
) -> None:
    text = (STEERED + CONTROLLERS).replace(old, new, 1)
    assert text != STEERED + CONTROLLERS
    found = mistakes(tmp_path, text)
    assert [mistake.key for mistake in found] == [key]
    assert problem in found[0].problem


@pytest.mark.parametrize("written", ["hunter2hunter2", "{plain: hunter2hunter2}", "[hunter2hunter2]"])
def test_a_secret_in_a_site_file_is_refused_without_being_repeated(tmp_path: Path, written: str) -> None:
    text = (STEERED + CONTROLLERS).replace("{env: BROKER_PASSWORD}", written)
    found = mistakes(tmp_path, text)
    assert found[0].key.startswith("controllers.bms.password")
    assert "{env: NAME} or {file: PATH}" in found[0].remedy or "remove" in found[0].remedy
    assert "hunter2" not in "\n".join(map(str, found))
