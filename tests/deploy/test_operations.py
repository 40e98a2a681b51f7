"""What operates the service agrees with the service: unit, container, alerts, dashboard, runbook, backup."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from configparser import ConfigParser
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from prometheus_client.samples import Sample

from ems.access import AccessRole, new_key
from ems.metrics import Metrics
from ems.settings import SETTINGS
from ems.store import Store
from tests.architecture.repository import wrong_in

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "alerts" / "ems.rules.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "dashboards" / "ems.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"\bems_[a-z_]+\b")
BACKUP = next(line.strip() for line in GUIDE.splitlines() if ".backup(b)" in line)


def exported() -> set[str]:
    """Return every sample name the service can export, labelled families included."""
    metrics = Metrics()
    for family in (
        metrics.plans,
        metrics.setpoints,
        metrics.readings,
        metrics.device_troubles,
        metrics.rungs,
    ):
        family.labels("x")
    metrics.controllers_away.labels("x", "x")
    metrics.acknowledgements.labels("x", "x")
    metrics.forecast_error_ratio.labels(series="load", model="x", lead_h="24")
    samples: list[Sample] = [sample for family in metrics.registry.collect() for sample in family.samples]
    return {sample.name for sample in samples}


def unit(text: str) -> ConfigParser:
    """Parse a unit file; keys may repeat, the last stands."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


UNIT_TEXT = (DEPLOY / "systemd" / "ems.service").read_text(encoding="utf-8")


def test_alerts_and_dashboard_ask_for_metrics_that_exist() -> None:
    asked = {name for rule in RULES for name in METRIC.findall(rule["expr"])}
    asked |= {
        name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in METRIC.findall(target["expr"])
    }
    assert len(asked) > 8
    assert asked - exported() == set()


def test_every_alert_has_its_page_in_the_runbook_and_points_there() -> None:
    pages = set(re.findall(r"^### (Ems\w+)$", GUIDE, re.MULTILINE))
    assert {rule["alert"] for rule in RULES} == pages
    for rule in RULES:
        assert f"deploy/README.md#{rule['alert'].lower()}" in rule["annotations"]["description"]
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_unit_comes_back_keeps_its_state_and_may_little() -> None:
    service = unit(UNIT_TEXT)["Service"]
    assert service["Restart"] == "always"
    assert unit(UNIT_TEXT)["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["User"] != "root"
    assert (service["ProtectSystem"], service["NoNewPrivileges"]) == ("strict", "yes")
    # the one folder it may write to is the one the store is in
    store = service["Environment"].removeprefix("EMS_STORE=")
    assert Path(urlsplit(store).path[1:]).parent == Path("/var/lib") / service["StateDirectory"]
    assert wrong_in(service["ExecStart"].split()[1:]) is None


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "ems.service"
    copy.write_text(UNIT_TEXT.replace("/opt/ems/bin/ems", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], check=False, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "ems.service" in line]
    assert (done.returncode, said) == (0, [])


def test_image_copies_what_exists_and_runs_as_nobody_special() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        name
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    seen = set((DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines())
    assert {name for name in copied if f"!{name}" not in seen} == set()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0|root)\S+", last, re.MULTILINE)
    assert "/healthz" in last
    command = json.loads(re.search(r"^CMD (\[.*\])", last, re.MULTILINE)[1])  # type: ignore[index]
    assert wrong_in(command) is None


def test_compose_starts_the_service_alone_unless_asked_for_more() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    compose = yaml.safe_load(text)
    services = compose["services"]
    assert [name for name, service in services.items() if "profiles" not in service] == ["ems"]
    ems = services["ems"]
    assert wrong_in(ems["command"]) is None
    assert set(ems["environment"]) - {setting.name for setting in SETTINGS} == {"PGPASSWORD"}
    assert all(port.startswith("127.0.0.1:") for port in ems["ports"])
    assert not ems["depends_on"]["db"]["required"]
    named = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {name for name in named if not name.startswith("$")} == set(compose["volumes"])
    # starts with nothing set: every variable has a default
    assert re.findall(r"\$\{[A-Z_]+\}", text) == []


def test_backup_of_the_guide_copies_a_store_in_use(tmp_path: Path) -> None:
    source, target = tmp_path / "ems.sqlite", tmp_path / "backup.sqlite"
    store = Store.open(f"sqlite:///{source}")
    at = datetime(2026, 6, 1, tzinfo=UTC)
    _, kept = new_key(role=AccessRole.OPERATOR, site_ids=None, label="before", at=at)
    store.add_key(kept)
    code = re.search(r'python -c "(.+)"', BACKUP)[1]  # type: ignore[index]
    subprocess.run([sys.executable, "-c", code, source, target], check=True)
    _, later = new_key(role=AccessRole.OPERATOR, site_ids=None, label="after", at=at)
    store.add_key(later)
    store.close()

    with sqlite3.connect(target) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    restored = Store.open(f"sqlite:///{target}")
    assert [key.label for key in restored.list_keys()] == ["before"]
    restored.close()
