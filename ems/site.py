"""What a site is: identity, connection, devices, assets, tariff, owner, consents.

These types are the site file's schema as well: `config.py` reads YAML straight into them, and the published JSON Schema
comes from them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints

from ems.tariffs import NUMERIC, STRICT, Tariff

SiteId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Endpoint = Annotated[str, StringConstraints(pattern=r"^(tcp|tls|rtu\+tcp|rtu)://.+$")]
PositiveKw = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False), NUMERIC]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
BrokerUrl = Annotated[str, StringConstraints(pattern=r"^mqtts?://[^/@\s:]+(:\d{1,5})?$")]
WebhookUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^@\s]+$")]
BacnetAddress = Annotated[str, StringConstraints(pattern=r"^\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?$")]
BacnetObject = Annotated[str, StringConstraints(pattern=r"^analog-(input|output|value),\d{1,7}$")]
PointName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,63})?$")]
WaitS = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False), NUMERIC]
LimitKw = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), NUMERIC]
PositiveKwh = Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False), NUMERIC]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NUMERIC]
Efficiency = Annotated[float, Field(gt=0.3, le=1, allow_inf_nan=False), NUMERIC]


SITE = "site"
"""Stands for the grid connection where an asset is named."""


class Role(StrEnum):
    """What a device does at its site."""

    GRID_METER = "grid_meter"
    PV_INVERTER = "pv_inverter"
    HYBRID_INVERTER = "hybrid_inverter"
    BATTERY_INVERTER = "battery_inverter"
    CHARGER = "charger"
    SWITCH = "switch"
    """A relay or plug that can cut a load, and may measure it."""
    GRID_SIGNAL = "grid_signal"
    """Says what the grid operator allows: `import_limit_kw`, `export_limit_kw`, or a relay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who answers for the site; an asset nobody owns cannot be run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    """Person or body."""
    contact: str = ""
    """How to reach them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Consents:
    """What the household allows; nothing is moved without."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    control_storage: bool = False
    """The service may steer the battery."""
    control_vehicle: bool = False
    """The service may shift vehicle charging."""
    curtail_solar: bool = False
    """The service may hold back solar power."""
    shed_loads: bool = False
    """The service may cut the loads that are marked for it while the grid is lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """The grid connection."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    import_limit_kw: PositiveKw
    """Most the site may draw [kW]."""
    export_limit_kw: LimitKw
    """Most it may feed in [kW]; 0 forbids feed-in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Lets other readers use a device that accepts one connection: the service answers them from its own."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    port: Annotated[int, Field(ge=1, le=65535), NUMERIC]
    """TCP port on which others reach the device, in Modbus TCP whatever it speaks itself."""
    host: str = "127.0.0.1"
    """Address to listen on; anybody who reaches it can read the device."""
    allow_writes: bool = False
    """Pass writes of others through as well; they are refused otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridSignal:
    """The grid operator's limit signal a site lives under; without it the fail-safe limit holds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    failsafe_import_kw: LimitKw
    """Most the site may draw while the signal is missing [kW]."""
    failsafe_export_kw: LimitKw | None = None
    """Most it may feed in while the signal is missing [kW]; None: as the connection allows."""
    heartbeat_s: Annotated[float, Field(ge=5, le=86400), NUMERIC] = 60.0
    """A signal that was not heard for this long is missing [s]."""
    device: Name | None = None
    """Device of role grid_signal that is read for it; None: it comes through the API."""
    relay_import_kw: LimitKw | None = None
    """Most the site may draw while the device's `limit_active` is on [kW]; for relays, which say no number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceRef:
    """A device on the field bus."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    endpoint: Endpoint
    """`tcp://host:port`, `rtu:///dev/ttyUSB0?baud=9600`, `rtu+tcp://host:port` or `tls://host:port`."""
    unit_id: Annotated[int, Field(ge=0, le=247), NUMERIC] = 1
    """Modbus unit."""
    driver: str
    """`sunspec`, the name of a device file, or the path of one (`*.yaml`, from the site file's folder)."""
    role: Role
    """What it does here."""
    read_only: bool = False
    """Never written, whatever else says so."""
    swap_direction: bool = False
    """A meter mounted the wrong way round: exchange import and export."""
    rated_kw: PositiveKw | None = None
    """AC rating of an inverter [kW]; a hybrid inverter needs it, as solar and battery share it. Of a meter: the most
    its connection can carry; readings a fifth above it are no measurement. Four times the contracted power when left out."""
    ramp_kw_per_s: PositiveKw | None = None
    """Fastest change of its setpoints [kW/s]; at once when left out, unless its device file states one."""
    conversion_eff_frac: Efficiency = 0.97
    """AC energy per DC energy of a hybrid inverter, in either direction."""
    share: Share | None = None
    """Where other readers may reach it while the service runs; nowhere when left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PvAsset:
    """Solar modules behind one device."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["pv"]
    """Marks this form of asset."""
    name: Name
    """Unique within the site."""
    device: Name
    """Device that measures and limits it."""
    rated_kw: PositiveKw
    """Nameplate of the modules [kW]."""
    tilt_deg: Annotated[float, Field(ge=0, le=90), NUMERIC] | None = None
    """Slope of the modules [deg from horizontal]; learned when not given."""
    azimuth_deg: Annotated[float, Field(ge=0, lt=360), NUMERIC] | None = None
    """Direction of the modules [deg, north 0, east 90]; learned when not given."""
    controller: Name | None = None
    """Controller that carries its setpoints out; None: its device does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatteryAsset:
    """A battery behind one device."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["battery"]
    """Marks this form of asset."""
    name: Name
    """Unique within the site."""
    device: Name
    """Device that measures and steers it."""
    capacity_kwh: PositiveKwh
    """Usable capacity [kWh]."""
    charge_limit_kw: PositiveKw
    """Most it takes [kW]."""
    discharge_limit_kw: PositiveKw
    """Most it gives [kW]."""
    charge_eff_frac: Efficiency = 0.96
    """Stored energy per energy drawn."""
    discharge_eff_frac: Efficiency = 0.96
    """Energy given per energy taken from the store."""
    reserve_frac: Fraction = 0.05
    """Share of the capacity kept back for the household."""
    wear_per_kwh: Annotated[float, Field(ge=0, allow_inf_nan=False), NUMERIC] = 0.0
    """Cost of wear per kWh discharged, in the site's currency [1/kWh]."""
    controller: Name | None = None
    """Controller that carries its setpoints out; None: its device does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VehicleAsset:
    """A charger and the vehicle it usually serves."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["vehicle"]
    """Marks this form of asset."""
    name: Name
    """Unique within the site."""
    device: Name
    """The charger."""
    charge_limit_kw: PositiveKw
    """Most the charger gives [kW]."""
    charge_min_kw: LimitKw = 1.4
    """Least it gives when on [kW]; 6 A on one phase of 230 V is 1.38 kW."""
    charge_eff_frac: Efficiency = 0.92
    """Energy in the vehicle per energy drawn."""
    wished_kwh: PositiveKwh = 10.0
    """Energy a session should bring when the resident says nothing else [kWh]."""
    ready_by_local: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "07:00"
    """Local time by which it should be there when the resident says nothing else."""
    controller: Name | None = None
    """Controller that carries its setpoints out; None: its device does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretRef:
    """Where a secret lies: it is never in the site file itself."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    env: EnvironmentName | None = None
    """Environment variable that holds it."""
    file: FilePath | None = None
    """File that holds it; a line end after it does not count. Relative to the site file."""

    def __post_init__(self) -> None:
        """Refuse a secret that lies nowhere, or at two places."""
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret needs either `env` or `file`")


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeAssistant:
    """The home's sensors for Home Assistant, on the same broker."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")] = "homeassistant"
    """Its discovery prefix."""
    every_s: WaitS = 10.0
    """Seconds between two sets of live values [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttController:
    """A building controller behind an MQTT 5 broker."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    channel: Literal["mqtt"]
    """Marks this form of controller."""
    broker: BrokerUrl
    """`mqtts://host:8883` (TLS) or `mqtt://host:1883`."""
    username: Annotated[str, StringConstraints(max_length=200)] = ""
    """The service's own user at the broker; empty: none."""
    password: SecretRef | None = None
    """Its password."""
    ca_file: FilePath | None = None
    """Certificates to trust instead of the machine's own."""
    cert_file: FilePath | None = None
    """The service's own certificate, where the broker asks for one."""
    key_file: FilePath | None = None
    """Its private key."""
    acknowledge_within_s: WaitS = 10.0
    """A setpoint that is not acknowledged within this time is `unverified` [s]."""
    home_assistant: HomeAssistant | None = None
    """Publish the home's sensors too; None: no."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpController:
    """A building controller that asks over HTTP, or is told by a signed webhook."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    channel: Literal["http"]
    """Marks this form of controller."""
    webhook: WebhookUrl | None = None
    """Where setpoints are posted to; None: the controller asks."""
    secret: SecretRef | None = None
    """What webhooks are signed with; 24 characters or more."""
    ca_file: FilePath | None = None
    """Certificates to trust instead of the machine's own."""
    acknowledge_within_s: WaitS = 10.0
    """A setpoint that is not acknowledged within this time is `unverified` [s]."""

    def __post_init__(self) -> None:
        """Refuse a webhook that nobody could tell from a forged one."""
        if (self.webhook is None) != (self.secret is None):
            raise ValueError("`webhook` and `secret` go together")


@dataclass(frozen=True, kw_only=True, slots=True)
class BacnetPoint:
    """Where one asset is commanded on a BACnet device."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    object: BacnetObject
    """Commandable object, e.g. `analog-value,1`; given back (Null) when nothing is asked."""
    priority: Annotated[int, Field(ge=1, le=16), NUMERIC] = 10
    """Slot of its priority array to write to."""
    per_kw: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False), NUMERIC] = 1.0
    """Value of the object per kW: 1000 for W, negative where the device counts charging as negative."""
    feedback: BacnetObject | None = None
    """Object that tells what the asset really does, in the same unit; None: reading back must do."""
    validity: BacnetObject | None = None
    """Object that is written with the seconds left, so that the device can let go by itself; None: it has none."""

    def __post_init__(self) -> None:
        """Refuse a point that every power would leave at zero."""
        if self.per_kw == 0:
            raise ValueError("per_kw must not be 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class BacnetController:
    """A building controller that is commanded by BACnet/IP."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    channel: Literal["bacnet"]
    """Marks this form of controller."""
    address: BacnetAddress
    """Its IPv4 address, e.g. `192.0.2.30` or `192.0.2.30:47808`."""
    bind: Annotated[str, StringConstraints(pattern=r"^\d{1,3}(\.\d{1,3}){3}$")] = "0.0.0.0"  # noqa: S104
    """The service's own IPv4 address to send from, where there are several; the system chooses the port."""
    points: Annotated[dict[PointName, BacnetPoint], Field(min_length=1)]
    """By asset, or by `asset.quantity` where an asset has several."""
    poll_s: WaitS = 10.0
    """Seconds between two looks at what the device holds [s]."""
    acknowledge_within_s: WaitS = 10.0
    """A setpoint that is not seen to be carried out within this time is told so [s]."""


Controller = Annotated[MqttController | HttpController | BacnetController, Field(discriminator="channel")]


@dataclass(frozen=True, kw_only=True, slots=True)
class SheddableAsset:
    """A load behind a switch that can be cut when energy is short; part of the household load otherwise."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["sheddable"]
    """Marks this form of asset."""
    name: Name
    """Unique within the site."""
    device: Name
    """The switch, and the meter of this load where it has one."""
    rated_kw: PositiveKw
    """What it draws when it runs [kW]; used where the switch does not measure."""
    shed_class: Annotated[int, Field(ge=0, le=6), NUMERIC] = 1
    """0 is cut last; higher classes go first."""
    controller: Name | None = None
    """Controller that carries its setpoints out; None: its device does."""


Asset = Annotated[PvAsset | BatteryAsset | VehicleAsset | SheddableAsset, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Backup:
    """What the site is ready for when the grid is lost: its inverter can carry it as an island."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    reserve_frac: Fraction = 0.3
    """Share of every battery kept for an outage while the grid is there; raises each battery's own `reserve_frac`."""
    outage_h: Annotated[float, Field(gt=0, le=168), NUMERIC] = 12.0
    """How long an outage is taken to last when it begins [h]; energy is spread over this time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contradiction:
    """Two parts of a site that cannot both be meant."""

    path: tuple[str | int, ...]
    """Key it shows at, from the top of the site."""
    problem: str
    """What does not fit, as one sentence."""


ROLES_OF_KIND: Mapping[str, tuple[Role, ...]] = {
    "pv": (Role.PV_INVERTER, Role.HYBRID_INVERTER),
    "battery": (Role.BATTERY_INVERTER, Role.HYBRID_INVERTER),
    "vehicle": (Role.CHARGER,),
    "sheddable": (Role.SWITCH,),
}
"""Roles a device may have to measure and steer an asset of a kind."""


def contradictions(
    *,
    time_zone: str | None,
    devices: Mapping[str, DeviceRef | None],
    assets: Sequence[Asset | None],
    controllers: Mapping[str, Controller | None],
    grid_signal: GridSignal | None = None,
) -> list[Contradiction]:
    """Return every contradiction between the parts; a part that is None could not be read and is left out."""
    found: list[Contradiction] = []
    if time_zone is not None and not _is_zone(time_zone):
        problem = f"time_zone {time_zone!r} is not an IANA zone such as Asia/Seoul"
        found.append(Contradiction(path=("time_zone",), problem=problem))
    for name, device in devices.items():
        if device is not None and device.role is Role.HYBRID_INVERTER and device.rated_kw is None:
            problem = f"device {name!r} is a hybrid inverter and needs rated_kw"
            found.append(Contradiction(path=("devices", name), problem=problem))
    meters = [device for device in devices.values() if device and device.role is Role.GRID_METER]
    if len(meters) > 1 or (not meters and None not in devices.values()):
        problem = f"exactly one device needs role grid_meter, found {len(meters)}"
        found.append(Contradiction(path=("devices",), problem=problem))
    signal_problem = _signal_problem(grid_signal, devices)
    if signal_problem:
        found.append(Contradiction(path=("grid_signal", "device"), problem=signal_problem))
    names: set[str] = set()
    served: set[tuple[str, str]] = set()
    for index, asset in enumerate(assets):
        if asset is None:
            continue
        if asset.name in names:
            problem = f"asset name {asset.name!r} is used twice"
            found.append(Contradiction(path=("assets", index, "name"), problem=problem))
        if asset.name == SITE:
            problem = f"{SITE!r} stands for the grid connection; give the asset another name"
            found.append(Contradiction(path=("assets", index, "name"), problem=problem))
        problem = _device_problem(asset, devices, served) or ""
        if problem:
            found.append(Contradiction(path=("assets", index, "device"), problem=problem))
        problem = _controller_problem(asset, controllers) or ""
        if problem:
            found.append(Contradiction(path=("assets", index, "controller"), problem=problem))
        names.add(asset.name)
        served.add((asset.device, asset.kind))
    return found


def stray_points(
    assets: Sequence[Asset | None], controllers: Mapping[str, Controller | None]
) -> list[Contradiction]:
    """Return every BACnet point that commands nothing: a slip in a file, though no site is wrong by it."""
    if None in assets:
        return []
    names = {asset.name for asset in assets if asset is not None} | {SITE}
    return [
        Contradiction(
            path=("controllers", name, "points", point),
            problem=f"point {point!r} is for no asset of this site",
        )
        for name, controller in controllers.items()
        for point in (controller.points if isinstance(controller, BacnetController) else ())
        if point.partition(".")[0] not in names
    ]


def _controller_problem(asset: Asset, controllers: Mapping[str, Controller | None]) -> str | None:
    """Return why an asset's setpoints cannot be carried out by the controller it names."""
    if asset.controller is None:
        return None
    if asset.controller not in controllers:
        return f"asset {asset.name!r} names controller {asset.controller!r}, which is not under controllers"
    controller = controllers[asset.controller]
    if isinstance(controller, BacnetController) and not any(
        point.partition(".")[0] == asset.name for point in controller.points
    ):
        return f"controller {asset.controller!r} has no point for asset {asset.name!r}"
    return None


def _device_problem(
    asset: Asset, devices: Mapping[str, DeviceRef | None], served: Collection[tuple[str, str]]
) -> str | None:
    """Return why an asset cannot be behind the device it names."""
    if asset.device not in devices:
        return f"asset {asset.name!r} names device {asset.device!r}, which is not under devices"
    device, roles = devices[asset.device], ROLES_OF_KIND[asset.kind]
    if device is not None and device.role not in roles:
        return (
            f"a {asset.kind} needs a device of role {' or '.join(roles)}, {asset.device!r} is a {device.role}"
        )
    if (asset.device, asset.kind) in served:
        return f"device {asset.device!r} has a {asset.kind} already; describe both as one asset"
    return None


def _signal_problem(signal: GridSignal | None, devices: Mapping[str, DeviceRef | None]) -> str | None:
    """Return why the limit signal cannot come from the device it names."""
    if signal is None or signal.device is None:
        return None
    if signal.device not in devices:
        return f"grid_signal names device {signal.device!r}, which is not under devices"
    device = devices[signal.device]
    if device is not None and device.role is not Role.GRID_SIGNAL:
        return f"grid_signal needs a device of role {Role.GRID_SIGNAL}, {signal.device!r} is a {device.role}"
    return None


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A home or building with one grid connection."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    id: SiteId
    """Unique within the service."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    """Name people see."""
    time_zone: str
    """IANA zone, e.g. `Asia/Seoul`."""
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    """ISO 4217 code of all its prices."""
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    """ISO 3166 code; decides public holidays."""
    latitude_deg: Annotated[float, Field(ge=-90, le=90), NUMERIC]
    """Position [deg], north positive; for the height of the sun."""
    longitude_deg: Annotated[float, Field(ge=-180, le=180), NUMERIC]
    """Position [deg], east positive."""
    owner: Owner
    """Who answers for it."""
    connection: Connection
    """Its grid connection."""
    tariff: Tariff
    """What it pays and is paid."""
    devices: Annotated[dict[Name, DeviceRef], Field(min_length=1)]
    """Devices by name."""
    assets: tuple[Asset, ...] = ()
    """What there is to forecast and steer."""
    consents: Consents = field(default_factory=Consents)
    """What the household allows."""
    controllers: dict[Name, Controller] = field(default_factory=dict)
    """Building controllers that are told the site's setpoints, by name."""
    grid_signal: GridSignal | None = None
    """The grid operator's limit signal, where there is one."""
    backup: Backup | None = None
    """What it is ready for when the grid is lost; None: it goes dark."""
    co2_kg_per_kwh: Annotated[float, Field(ge=0, le=3), NUMERIC] = 0.0
    """Emission factor of imported energy [kg/kWh]; for reports."""

    def __post_init__(self) -> None:
        """Refuse what only shows when parts are held against each other."""
        found = contradictions(
            time_zone=self.time_zone,
            devices=self.devices,
            assets=self.assets,
            controllers=self.controllers,
            grid_signal=self.grid_signal,
        )
        if found:
            raise ValueError("; ".join(contradiction.problem for contradiction in found))

    @property
    def grid_meter(self) -> str:
        """Name of the device that measures the grid connection."""
        return next(name for name, device in self.devices.items() if device.role is Role.GRID_METER)

    @property
    def pvs(self) -> tuple[PvAsset, ...]:
        """Its solar assets."""
        return tuple(asset for asset in self.assets if isinstance(asset, PvAsset))

    @property
    def batteries(self) -> tuple[BatteryAsset, ...]:
        """Its batteries, each with the reserve that is kept while the grid is there."""
        kept = 0.0 if self.backup is None else self.backup.reserve_frac
        return tuple(
            asset if asset.reserve_frac >= kept else replace(asset, reserve_frac=kept)
            for asset in self.assets
            if isinstance(asset, BatteryAsset)
        )

    def own_reserve_frac(self, battery: str) -> float:
        """Return what a battery keeps back even in an outage, as a share of its capacity."""
        found = self.asset(battery)
        return found.reserve_frac if isinstance(found, BatteryAsset) else 0.0

    @property
    def vehicles(self) -> tuple[VehicleAsset, ...]:
        """Its vehicles."""
        return tuple(asset for asset in self.assets if isinstance(asset, VehicleAsset))

    @property
    def sheddables(self) -> tuple[SheddableAsset, ...]:
        """Its loads that can be cut."""
        return tuple(asset for asset in self.assets if isinstance(asset, SheddableAsset))

    @property
    def idle_devices(self) -> tuple[str, ...]:
        """Names of devices that are read for nothing: no grid meter, no asset behind them, no signal taken from them."""
        served = {asset.device for asset in self.assets}
        if self.grid_signal is not None and self.grid_signal.device is not None:
            served.add(self.grid_signal.device)
        return tuple(
            name
            for name, device in self.devices.items()
            if device.role is not Role.GRID_METER and name not in served
        )

    def asset(self, name: str) -> PvAsset | BatteryAsset | VehicleAsset | SheddableAsset | None:
        """Return the asset of that name, or None."""
        return next((asset for asset in self.assets if asset.name == name), None)
