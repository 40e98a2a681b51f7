"""Settings of the service process: environment variables, each with its default and its meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ems.clock import Clock, ScaledClock, SystemClock
from ems.errors import ConfigError, Mistake


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One environment variable."""

    name: str
    """Its name."""
    default: str
    """Taken when it is not set."""
    meaning: str
    """What it does, in one line."""


SETTINGS = (
    Setting(name="EMS_SITES", default="", meaning="Site files, separated by `:`."),
    Setting(name="EMS_STORE", default="sqlite:///var/ems.sqlite", meaning="Database: sqlite:///FILE or postgresql://..."),
    Setting(name="EMS_HISTORY", default="", meaning="CSV of recorded load and solar power to learn from at first start."),
    Setting(name="EMS_INTERVAL_MIN", default="15", meaning="Length of a planning interval [min]."),
    Setting(name="EMS_HORIZON_H", default="48", meaning="How far plans reach [h]."),
    Setting(name="EMS_FAST_LOOP_S", default="1", meaning="Wall seconds between looks of the fast loop at a site; 0: off."),
    Setting(name="EMS_READ_ONLY", default="no", meaning="`yes`: read and plan, never write to a device."),
    Setting(name="EMS_KEEP_ON_STOP", default="no", meaning="`yes`: a stop leaves setpoints in force until they expire."),
    Setting(name="EMS_RETENTION_DAYS", default="14", meaning="Days raw readings are kept; means and accounts stay years."),
    Setting(name="EMS_WEATHER", default="", meaning="Weather forecasts: URL or file of Open-Meteo JSON; none: go without."),
    Setting(name="EMS_SESSION_SECRET", default="", meaning="Signs page sessions; made anew at each start if empty."),
    Setting(name="EMS_DEMO", default="no", meaning="`yes`: loopback demo, pages open without a key."),
    Setting(name="EMS_REPLAY_CLOCK", default="", meaning="SITE_START,WALL_START,SPEED of a replay; set by the demo."),
)  # fmt: skip


FLAGS = ("EMS_READ_ONLY", "EMS_KEEP_ON_STOP", "EMS_DEMO")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of one service process."""

    site_files: tuple[Path, ...]
    """Site files."""
    store_url: str
    """Database."""
    history_file: Path | None = None
    """Recorded series to learn from at a first start."""
    interval: timedelta = timedelta(minutes=15)
    """Planning interval."""
    horizon: timedelta = timedelta(hours=48)
    """How far plans reach."""
    fast_loop_s: float = 1.0
    """Wall seconds between two looks of the fast loop at a site; 0 switches it off."""
    read_only: bool = False
    """Never write to a device."""
    keep_on_stop: bool = False
    """A stop leaves devices what they were asked, for the next process or until it expires."""
    retention_days: int = 14
    """Days raw readings are kept."""
    weather: str = ""
    """Where weather forecasts come from: a URL, a URL with `{latitude}` and `{longitude}`, or a file; empty: nowhere."""
    session_secret: str = ""
    """Signs page sessions."""
    demo: bool = False
    """Pages open without a key."""
    clock: Clock = SystemClock()  # noqa: RUF009 - frozen and without state


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings; raises ConfigError that names every variable that cannot be used."""
    values = {setting.name: environment.get(setting.name) or setting.default for setting in SETTINGS}
    mistakes: list[Mistake] = []

    def number(name: str, low: float, high: float) -> float:
        try:
            found = float(values[name])
        except ValueError:
            found = low - 1
        if not low <= found <= high:
            mistakes.append(
                _mistake(name, values[name], f"not a number from {low:g} to {high:g}", "correct it")
            )
        return found

    interval_min = number("EMS_INTERVAL_MIN", 1, 60)
    if 1 <= interval_min <= 60 and (interval_min != int(interval_min) or 60 % int(interval_min)):
        mistakes.append(
            _mistake(
                "EMS_INTERVAL_MIN",
                values["EMS_INTERVAL_MIN"],
                "does not divide an hour",
                "use 5, 15, 30 or 60",
            )
        )
    horizon_h = number("EMS_HORIZON_H", 2, 168)
    fast_loop_s = number("EMS_FAST_LOOP_S", 0, 60)
    retention_days = number("EMS_RETENTION_DAYS", 1, 3650)
    if not values["EMS_SITES"]:
        mistakes.append(
            _mistake("EMS_SITES", "", "no site file is named", "set it to the path of a site file")
        )
    secret = values["EMS_SESSION_SECRET"]
    if secret and len(secret) < 32:
        mistakes.append(
            _mistake(
                "EMS_SESSION_SECRET", "(hidden)", "shorter than 32 characters", "use a longer random text"
            )
        )
    weather = values["EMS_WEATHER"]
    if weather and not weather.startswith(("http://", "https://")) and not Path(weather).is_file():
        mistakes.append(
            _mistake(
                "EMS_WEATHER",
                weather,
                "neither http(s)://... nor a file that is there",
                "correct it, or leave it unset",
            )
        )
    clock = _clock(values["EMS_REPLAY_CLOCK"], mistakes)
    flags = {name: _flag(name, values[name], mistakes) for name in FLAGS}
    if mistakes:
        raise ConfigError(mistakes)
    return Settings(
        site_files=tuple(Path(part) for part in values["EMS_SITES"].split(":") if part),
        store_url=values["EMS_STORE"],
        history_file=Path(values["EMS_HISTORY"]) if values["EMS_HISTORY"] else None,
        interval=timedelta(minutes=interval_min),
        horizon=timedelta(hours=horizon_h),
        fast_loop_s=fast_loop_s,
        read_only=flags["EMS_READ_ONLY"],
        keep_on_stop=flags["EMS_KEEP_ON_STOP"],
        retention_days=int(retention_days),
        weather=weather,
        session_secret=secret,
        demo=flags["EMS_DEMO"],
        clock=clock,
    )


def _flag(name: str, value: str, mistakes: list[Mistake]) -> bool:
    if value not in ("yes", "no"):
        mistakes.append(_mistake(name, value, "neither `yes` nor `no`", "write one of them"))
    return value == "yes"


def _clock(text: str, mistakes: list[Mistake]) -> Clock:
    if not text:
        return SystemClock()
    try:
        return ScaledClock.parse(text)
    except ValueError:
        mistakes.append(
            _mistake("EMS_REPLAY_CLOCK", text, "not SITE_START,WALL_START,SPEED", "leave it unset")
        )
        return SystemClock()


def _mistake(name: str, value: str, problem: str, remedy: str) -> Mistake:
    return Mistake(file="environment", key=name, value=value, problem=problem, remedy=remedy)
