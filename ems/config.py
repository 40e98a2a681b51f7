"""Files and environment to values. The only reader of either: site files, price series, settings.

A site file holds one site, or `defaults` and a list of `sites` whose entries override them key by key. `${NAME}` in any
text is replaced from the environment, so that secrets stay out of files.
"""

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ems.errors import ConfigError, DataError, Mistake
from ems.recorded import read_price_series
from ems.site import (
    Asset,
    BatteryAsset,
    Controller,
    DeviceRef,
    GridSignal,
    PvAsset,
    Share,
    SheddableAsset,
    Site,
    VehicleAsset,
    contradictions,
    stray_points,
)
from ems.tariffs import PriceSeries, SeriesRate
from ems.yaml_reader import Document, dotted, read_yaml
from ems.yaml_reader import Path as KeyPath

_SITE: TypeAdapter[Site] = TypeAdapter(Site)
_DEVICE: TypeAdapter[DeviceRef] = TypeAdapter(DeviceRef)
_ASSET: TypeAdapter[Asset] = TypeAdapter(Asset)
_CONTROLLER: TypeAdapter[Controller] = TypeAdapter(Controller)
_SIGNAL: TypeAdapter[GridSignal] = TypeAdapter(GridSignal)
_SERIES: TypeAdapter[SeriesRate] = TypeAdapter(SeriesRate)
Value = TypeVar("Value")
_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")
_REMEDIES: Mapping[str, str] = {
    "endpoint": "write tcp://host:port, tls://host:port, rtu+tcp://host:port or rtu:///dev/ttyUSB0?baud=9600",
    "id": "use small letters, digits and hyphens, e.g. home-01",
    "currency": "use the ISO 4217 code, e.g. KRW",
    "country": "use the ISO 3166 code, e.g. KR",
    "from_local": 'quote the local time, e.g. "16:00"',
    "to_local": 'quote the local time, e.g. "21:00"; "00:00" is the end of the day',
    "ready_by_local": 'quote the local time, e.g. "07:00"',
    "broker": "write mqtts://host:8883 or mqtt://host:1883; user and password have keys of their own",
    "webhook": "write https://host/path, without user and password",
    "address": "write an IPv4 address, e.g. 192.0.2.30 or 192.0.2.30:47808",
    "bind": "write an IPv4 address of this machine, e.g. 192.0.2.5",
    "object": "write analog-value or analog-output and the instance, e.g. analog-value,1",
    "feedback": "write the BACnet object as type,instance, e.g. analog-input,1",
    "validity": "write the BACnet object as type,instance, e.g. analog-value,9",
    **dict.fromkeys(
        ("password", "secret"), "write {env: NAME} or {file: PATH}: secrets stay out of site files"
    ),
}
_SECRETS = frozenset({"password", "secret"})
"""Keys below which no value is ever shown."""
_KINDS: Mapping[str, str] = {
    "assets": "pv`, `battery`, `vehicle` or `sheddable",
    "buy": "flat`, `time_of_use` or `series",
    "sell": "flat`, `time_of_use` or `series",
}


def load_sites(
    path: Path, *, known_drivers: Collection[str], environment: Mapping[str, str] | None = None
) -> tuple[Site, ...]:
    """Read a site file.

    Parameters
    ----------
    path
        The YAML file.
    known_drivers
        Every value `devices.*.driver` may take.
    environment
        Where `${NAME}` is looked up; the process environment unless given.

    Raises
    ------
    ConfigError
        With every mistake found, not only the first.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            [
                Mistake(
                    file=str(path),
                    key="(file)",
                    value="",
                    problem=f"cannot be read: {reason}",
                    remedy="give the path of a readable site file",
                )
            ]
        ) from error
    document = read_yaml(text, file=str(path))
    mistakes = list(document.mistakes)
    expanded = _expanded(
        document.data, os.environ if environment is None else environment, (), path, document, mistakes
    )
    entries = [
        (_drivers_found(entry, path.parent), at) for entry, at in _entries(expanded, path, document, mistakes)
    ]
    sites = [
        site for entry, at in entries if (site := _site(entry, at, path, document, mistakes)) is not None
    ]
    for entry, at in entries:
        mistakes += _across(entry, at, path, document, known_drivers)
    mistakes += _ids_twice(entries, path, document)
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(sites)


def load_price_series(site: Site, base: Path) -> dict[str, PriceSeries]:
    """Read the price files a site's tariff names, by file name as written; raises DataError."""
    rates = (site.tariff.buy, site.tariff.sell)
    return {
        rate.file: read_price_series(base / rate.file, rate.column)
        for rate in rates
        if isinstance(rate, SeriesRate)
    }


def site_schema() -> dict[str, Any]:
    """Return the JSON Schema of a site file, for editors."""
    schema = _SITE.json_schema()
    definitions = schema.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Site file",
        "oneOf": [
            {"$ref": "#/$defs/Site"},
            {
                "type": "object",
                "required": ["sites"],
                "additionalProperties": False,
                "properties": {
                    "defaults": {
                        "type": "object",
                        "description": "Keys every site shares unless it says otherwise.",
                    },
                    "sites": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                },
            },
        ],
        "$defs": {**definitions, "Site": schema},
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """Where a site stands in its file."""

    prefix: KeyPath
    """Path of the entry; empty when the file is the site."""

    def path(self, loc: KeyPath, document: Document) -> KeyPath:
        """Return the path a person finds the key at: in the entry, or in the defaults it came from."""
        own = (*self.prefix, *loc)
        if not self.prefix or own in document.lines:
            return own
        shared = ("defaults", *loc)
        return shared if shared in document.lines else own


def _entries(
    data: Any, path: Path, document: Document, mistakes: list[Mistake]
) -> Iterator[tuple[dict[str, Any], _Entry]]:
    if not isinstance(data, dict):
        mistakes.append(
            _named(
                path, document, (), "", "the file is not a mapping of keys", "see deploy/sites for examples"
            )
        )
        return
    if "sites" not in data:
        yield data, _Entry(prefix=())
        return
    for key in sorted(set(data) - {"sites", "defaults"}):
        mistakes.append(
            _named(
                path, document, (key,), data[key], "unknown key beside `sites`", "move it under `defaults`"
            )
        )
    defaults = data.get("defaults", {})
    if not isinstance(defaults, dict):
        mistakes.append(
            _named(path, document, ("defaults",), defaults, "not a mapping", "write keys below it")
        )
        defaults = {}
    sites = data["sites"]
    if not isinstance(sites, list) or not sites:
        mistakes.append(
            _named(path, document, ("sites",), sites, "not a list of sites", "write `- id: ...` entries")
        )
        return
    for index, entry in enumerate(sites):
        if isinstance(entry, dict):
            yield _merged(defaults, entry), _Entry(prefix=("sites", index))
        else:
            mistakes.append(
                _named(path, document, ("sites", index), entry, "not a mapping", "write `id: ...`")
            )


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`, key by key; lists are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _drivers_found(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the site with paths of device files of its own taken from the site file's folder."""
    devices = entry.get("devices")
    if not isinstance(devices, dict):
        return entry
    found = {
        name: {**ref, "driver": str(folder / ref["driver"])}
        if isinstance(ref, dict) and is_device_file(ref.get("driver"))
        else ref
        for name, ref in devices.items()
    }
    return {**entry, "devices": found}


def is_device_file(driver: object) -> bool:
    """Tell whether a driver is a device file of one's own, named by its path."""
    return isinstance(driver, str) and driver.endswith(".yaml")


def _expanded(
    value: Any,
    environment: Mapping[str, str],
    at: KeyPath,
    path: Path,
    document: Document,
    mistakes: list[Mistake],
) -> Any:
    if isinstance(value, dict):
        return {
            key: _expanded(item, environment, (*at, key), path, document, mistakes)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _expanded(item, environment, (*at, i), path, document, mistakes) for i, item in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    for name in sorted(set(_VARIABLE.findall(value)) - set(environment)):
        mistakes.append(
            _named(path, document, at, value, f"environment variable {name} is not set", f"export {name}=...")
        )
    return _VARIABLE.sub(lambda found: environment.get(found[1], found[0]), value)


def _site(
    entry: dict[str, Any], at: _Entry, path: Path, document: Document, mistakes: list[Mistake]
) -> Site | None:
    try:
        return _SITE.validate_python(entry)
    except ValidationError as error:
        mistakes.extend(
            _mistake(found, entry, at, path, document)
            for found in error.errors(include_url=False)
            if found["loc"]  # what concerns the site as a whole, `_across` tells part by part
        )
        return None


def _mistake(
    error: ErrorDetails, entry: dict[str, Any], at: _Entry, path: Path, document: Document
) -> Mistake:
    loc = _written_path(error["loc"], entry)
    key = str(loc[-1]) if loc else ""
    secret = not _SECRETS.isdisjoint(loc)
    where = at.path(loc, document)
    problem = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    value = "" if error["type"] == "missing" else "(hidden)" if secret else _shown(error["input"])
    remedy = "correct it"
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            problem, remedy = "the key is missing", f"add `{key}`"
        case "extra_forbidden" | "unexpected_keyword_argument":
            close = difflib.get_close_matches(key, _known_keys(), n=1)
            problem = "unknown key"
            remedy = f"did you mean `{close[0]}`? otherwise remove it" if close else "remove it"
        case "union_tag_not_found":
            problem, remedy = (
                f"the key `{_tag(context)}` is missing",
                f"add `{_tag(context)}: {_KINDS.get(_parent(loc), '...')}`",
            )
        case "union_tag_invalid":
            problem, remedy = (
                f"unknown {_tag(context)} {context.get('tag')!r}",
                f"use one of {context.get('expected_tags')}",
            )
        case "literal_error" | "enum":
            problem, remedy = "not an allowed value", f"use one of {context.get('expected')}"
        case "string_pattern_mismatch":
            problem, remedy = "not in the expected form", f"it must match {context.get('pattern')}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            problem, remedy = "out of range", problem[0].lower() + problem[1:]
        case "value_error":
            remedy = "make the parts agree"
        case _:
            remedy = problem[0].lower() + problem[1:]
            problem = "wrong kind of value"
    return _named(path, document, where, value, problem, _REMEDIES.get(key, remedy) if loc else remedy)


def _tag(context: Mapping[str, Any]) -> str:
    """Return the key that tells the forms of a union apart."""
    return str(context.get("discriminator", "'kind'")).strip("'")


def _parent(loc: KeyPath) -> str:
    """Return the last key of a path that is a name: `assets` for `assets[0]`."""
    return next((part for part in reversed(loc) if isinstance(part, str)), "")


def _written_path(loc: tuple[int | str, ...], entry: Any) -> KeyPath:
    """Drop the parts of pydantic's path that name a form of a union, not a key of the file."""
    written: list[str | int] = []
    here: Any = entry
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        form = isinstance(here, dict) and part in (here.get("kind"), here.get("channel"))
        if isinstance(here, dict) and part not in here and (form or not last):
            continue
        written.append(part)
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = None
    return tuple(written)


def _known_keys() -> list[str]:
    types = (Site, DeviceRef, Share, PvAsset, BatteryAsset, VehicleAsset, SheddableAsset)
    nested = _SITE.json_schema()["$defs"].values()
    return sorted(
        {key for schema in nested for key in schema.get("properties", {})} | set().union(*map(_fields, types))
    )


def _fields(kind: type) -> set[str]:
    return {name for name in kind.__annotations__ if not name.startswith("_")}


def _across(
    entry: dict[str, Any], at: _Entry, path: Path, document: Document, known_drivers: Collection[str]
) -> Iterator[Mistake]:
    """Hold the parts of a site against each other and against what lies outside, as far as they can be read."""
    refs, listed = entry.get("devices"), entry.get("assets")
    devices = {
        str(name): _read(_DEVICE, ref) for name, ref in (refs.items() if isinstance(refs, dict) else ())
    }
    told = entry.get("controllers")
    controllers = {
        str(name): _read(_CONTROLLER, one) for name, one in (told.items() if isinstance(told, dict) else ())
    }
    assets = [_read(_ASSET, asset) for asset in listed] if isinstance(listed, list) else []
    for found in (
        *contradictions(
            time_zone=zone if isinstance(zone := entry.get("time_zone"), str) else None,
            devices=devices or {"": None},
            assets=assets if devices else (),
            controllers=controllers,
            grid_signal=_read(_SIGNAL, entry.get("grid_signal")),
        ),
        *stray_points(assets, controllers),
    ):
        where = at.path(found.path, document)
        value = _at(entry, found.path)
        shown = value if isinstance(value, str) else ""
        yield _named(path, document, where, shown, found.problem, "make the parts agree")
    for name in devices:
        driver = _at(entry, ("devices", name, "driver"))
        if is_device_file(driver):
            if not Path(driver).is_file():
                where = at.path(("devices", name, "driver"), document)
                yield _named(
                    path,
                    document,
                    where,
                    driver,
                    "no such device file",
                    "give its path from the site file's folder",
                )
        elif isinstance(driver, str) and driver not in known_drivers:
            close = difflib.get_close_matches(driver, list(known_drivers), n=3) or sorted(known_drivers)[:6]
            where = at.path(("devices", name, "driver"), document)
            yield _named(
                path, document, where, driver, "no such driver", f"use one of {', '.join(close)} ..."
            )
    for side in ("buy", "sell"):
        rate = _read(_SERIES, _at(entry, ("tariff", side)))
        if rate is not None:
            try:
                read_price_series(path.parent / rate.file, rate.column)
            except DataError as error:
                where = at.path(("tariff", side, "file"), document)
                yield _named(path, document, where, rate.file, str(error), "mend the price file")


def _ids_twice(
    entries: Sequence[tuple[dict[str, Any], _Entry]], path: Path, document: Document
) -> Iterator[Mistake]:
    known: set[str] = set()
    for entry, at in entries:
        site_id = entry.get("id")
        if isinstance(site_id, str):
            if site_id in known:
                where = at.path(("id",), document)
                yield _named(path, document, where, site_id, "two sites have this id", "give each its own")
            known.add(site_id)


def _read(kind: TypeAdapter[Value], value: Any) -> Value | None:
    """Read one part of a site; None when it has mistakes, which are told elsewhere."""
    try:
        return kind.validate_python(value)
    except ValidationError:
        return None


def _at(data: Any, where: KeyPath) -> Any:
    """Return what stands at a path; None where nothing does."""
    for part in where:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _named(path: Path, document: Document, where: KeyPath, value: Any, problem: str, remedy: str) -> Mistake:
    written = _at(document.data, where)
    if isinstance(written, str) and _VARIABLE.search(written):
        value = written  # what the environment put there may be a secret
    return Mistake(
        file=f"{path}:{document.line(where)}",
        key=dotted(where) or "(file)",
        value=value if isinstance(value, str) else _shown(value),
        problem=problem,
        remedy=remedy,
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
