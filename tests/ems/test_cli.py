"""The command line as a user meets it: one clear line for what can be mended, never a traceback."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ems.cli import app, duration
from ems.demo.street import site_file, street
from ems.errors import EmsError

DEVICES = {
    "meter": {"endpoint": "tcp://127.0.0.1:1502", "unit_id": 1, "driver": "sunspec"},
    "inverter": {"endpoint": "tcp://127.0.0.1:1503", "unit_id": 1, "driver": "sunspec"},
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home.yaml"
    path.write_text(site_file(street(1), {"home-01": DEVICES}), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    start = datetime(2025, 6, 1, tzinfo=UTC)
    rows = [
        f"{(start + timedelta(hours=h)).isoformat()},{1 + h % 3 / 10},{max(0, 12 - abs(12 - h % 24)) / 6}"
        for h in range(240)
    ]
    path.write_text("at,load_kw,pv_kw\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def call(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_check_says_what_it_found(home: Path) -> None:
    code, out, _ = call("check", home)
    assert code == 0
    assert "no mistake found" in out


def test_check_names_every_mistake_in_one_run(home: Path) -> None:
    text = home.read_text(encoding="utf-8")
    text = text.replace("capacity_kwh: 6.4", "capacity_kw: 6.4").replace(
        "driver: sunspec", "driver: sunspecs", 1
    )
    home.write_text(text.replace("rated_kw: 5.0}", "rated_kw: -5}", 1), encoding="utf-8")
    code, _, err = call("check", home)
    assert code == 2
    assert "capacity_kw" in err and "did you mean `capacity_kwh`" in err
    assert "rated_kw" in err
    assert "Traceback" not in err


def test_the_schema_is_json(home: Path) -> None:
    code, out, _ = call("check", "--schema")
    assert code == 0
    assert json.loads(out)["$defs"]["BatteryAsset"]["properties"]["capacity_kwh"]["description"].startswith(
        "Usable"
    )


def test_the_schemas_of_building_controllers_are_json() -> None:
    for name in ("setpoint", "acknowledgement"):
        status, out, _ = call("schema", name)
        assert status == 0
        assert json.loads(out)["properties"]["schema"]["const"] == f"ems.{name}/1"
    status, _, err = call("schema", "plan")
    assert status == 2
    assert "there are setpoint and acknowledgement" in err


def test_simulate_prints_the_contract(home: Path, data: Path) -> None:
    code, out, err = call("simulate", home, "--data", data, "--days", 4, "--forecast", "naive", "--json")
    assert code == 0, err
    report = json.loads(out)
    promised = {
        "cost", "cost_idle", "cost_hindsight", "captured", "import_kwh", "export_kwh", "peak_import_kw",
        "self_sufficiency_frac", "self_consumption_frac", "co2_kg", "full_cycles", "unserved_kwh", "violations",
        "intervals", "fallback_intervals", "solve_ms_p50", "solve_ms_p99",
    }  # fmt: skip
    assert promised <= set(report)
    assert report["intervals"] == 96
    assert report["cost_hindsight"] <= report["cost"] <= report["cost_idle"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["simulate", "{home}", "--data", "nowhere.csv"], "no such file", id="no data"),
        pytest.param(
            ["simulate", "{home}", "--data", "{data}", "--from", "2025-06-01"], "no offset", id="no offset"
        ),
        pytest.param(
            ["simulate", "{home}", "--data", "{data}", "--horizon", "full"], "perfect", id="full horizon"
        ),
        pytest.param(
            ["simulate", "{home}", "--data", "{data}", "--site", "home-9"], "no such site", id="no such site"
        ),
        pytest.param(["simulate", "nowhere.yaml", "--data", "{data}"], "cannot be read", id="no site file"),
        pytest.param(["check"], "no site file", id="check what"),
        pytest.param(["run", "nowhere.yaml"], "cannot be read", id="run what"),
        pytest.param(["demo", "--for", "soon"], "not a span of time", id="bad span"),
        pytest.param(["replay", "latest", "--store", "sqlite:///{tmp}/none/x.sqlite"], "", id="no store"),
        pytest.param(["forecast", "{home}", "--data", "{home}"], "not readable as CSV", id="not a recording"),
        pytest.param(["scan", "127.0.0.1:1"], "127.0.0.1:1", id="nobody there"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], told: str, home: Path, data: Path, tmp_path: Path
) -> None:
    code, _, err = call(*(word.format(home=home, data=data, tmp=tmp_path) for word in words))
    assert code == 2, err
    assert told in err
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_keys_are_shown_once_and_revoked(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'ems.sqlite'}"
    code, key, err = call("key", "add", "--role", "resident", "--site", "home-01", "--store", store)
    assert code == 0, err
    key_id = key.strip().split("_")[1]
    listed = call("key", "list", "--store", store)[1]
    assert key_id in listed and "home-01" in listed
    assert key.strip().split("_", 2)[2] not in listed
    assert call("key", "revoke", key_id, "--store", store)[0] == 0
    assert "revoked" in call("key", "list", "--store", store)[1]
    assert call("key", "revoke", "nobody00", "--store", store)[0] == 2
    assert call("key", "add", "--role", "resident", "--store", store)[0] == 2


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90m", timedelta(minutes=90)),
        ("2h", timedelta(hours=2)),
        ("1.5d", timedelta(hours=36)),
        ("30s", timedelta(seconds=30)),
    ],
)
def test_spans_of_time(text: str, span: timedelta) -> None:
    assert duration(text) == span


@pytest.mark.parametrize("text", ["", "h", "-2h", "2", "2 weeks"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(EmsError):
        duration(text)
