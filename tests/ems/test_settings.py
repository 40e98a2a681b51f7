"""Settings: defaults, and every variable that cannot be used named in one run."""

from datetime import timedelta
from pathlib import Path

import pytest

from ems.clock import ScaledClock, SystemClock
from ems.errors import ConfigError
from ems.settings import SETTINGS, read_settings

SITES = {"EMS_SITES": "a.yaml"}


def test_one_site_file_is_enough() -> None:
    found = read_settings(SITES)
    assert found.site_files == (Path("a.yaml"),)
    assert found.interval == timedelta(minutes=15)
    assert not found.read_only
    assert isinstance(found.clock, SystemClock)


def test_what_is_set_is_taken() -> None:
    clock = "2016-10-03T00:00:00+00:00,2026-01-01T00:00:00+00:00,600.0"
    found = read_settings({"EMS_SITES": "a.yaml:b.yaml", "EMS_INTERVAL_MIN": "5", "EMS_READ_ONLY": "yes",
                           "EMS_REPLAY_CLOCK": clock})  # fmt: skip
    assert len(found.site_files) == 2
    assert found.interval == timedelta(minutes=5)
    assert found.read_only
    assert isinstance(found.clock, ScaledClock)
    assert str(found.clock) == clock


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMS_SITES", ""), ("EMS_INTERVAL_MIN", "7"), ("EMS_INTERVAL_MIN", "2.5"), ("EMS_INTERVAL_MIN", "0"),
        ("EMS_INTERVAL_MIN", "quarter"), ("EMS_INTERVAL_MIN", "nan"), ("EMS_HORIZON_H", "1"),
        ("EMS_HORIZON_H", "inf"), ("EMS_FAST_LOOP_S", "-1"), ("EMS_RETENTION_DAYS", "0"), ("EMS_READ_ONLY", "true"),
        ("EMS_DEMO", "1"), ("EMS_SESSION_SECRET", "short"), ("EMS_REPLAY_CLOCK", "now"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({**SITES, name: value})
    (mistake,) = caught.value.mistakes
    assert mistake.key == name
    assert mistake.remedy


def test_all_are_named_in_one_run_and_a_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({"EMS_HORIZON_H": "x", "EMS_DEMO": "x", "EMS_SESSION_SECRET": "hunter2"})
    assert {m.key for m in caught.value.mistakes} == {
        "EMS_SITES", "EMS_HORIZON_H", "EMS_DEMO", "EMS_SESSION_SECRET",
    }  # fmt: skip
    assert "hunter2" not in str(caught.value)


def test_every_setting_says_what_it_does() -> None:
    assert all(setting.meaning.endswith(".") for setting in SETTINGS)
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
