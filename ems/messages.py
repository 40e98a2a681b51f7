"""What building controllers are told and what they answer: one schema for every channel, versioned. Pure.

The version in `schema` counts changes that break a reader. Within a version new values of `quantity`, `source` and
`reason.code` may appear; a controller that does not know one refuses that setpoint and goes on.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from ems.errors import DataError
from ems.publishing import Delivery, DeliveryOutcome
from ems.setpoints import Setpoint, SetpointKind
from ems.site import Site

SETPOINT_SCHEMA: Literal["ems.setpoint/1"] = "ems.setpoint/1"
ACKNOWLEDGEMENT_SCHEMA: Literal["ems.acknowledgement/1"] = "ems.acknowledgement/1"
LONGEST_BYTES = 16_384
"""No acknowledgement needs more."""

_INSTANT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$")


def _instant(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _INSTANT.match(value)):
        return value
    raise ValueError("write an instant such as 2026-06-03T09:15:00Z, with seconds and offset")


Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
"""ISO 8601 with offset and nothing else: a bare number is not a time."""
Kw = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e7, le=1e7)]
Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]


class _Message(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    def to_json(self) -> bytes:
        """Return the message as it goes over the wire."""
        return self.model_dump_json(by_alias=True).encode()


class ReasonMessage(_Message):
    """Why a setpoint was made."""

    action: str
    """`charge`, `discharge`, `hold` or `curtail`."""
    code: str
    """Kind of reason, e.g. `store_for_later`."""
    later_at: Instant | None
    """The later instant it is done for, e.g. the evening peak."""


class SetpointMessage(_Message):
    """One request to one asset. It never outlives `valid_until`."""

    schema_: Literal["ems.setpoint/1"] = Field(alias="schema")
    """Name and version of this form."""
    id: Text
    """Unique; the same request told twice has the same id."""
    site_id: Text
    """The site."""
    asset: Text
    """The asset; `site` for the whole site at its grid connection."""
    kind: SetpointKind
    """`target` (go there), `limit` (stay below) or `mode` (run your own programme)."""
    quantity: Text
    """What it sets: `battery_net_consumption_kw` (charging +), `generation_limit_kw`, `vehicle_charge_limit_kw`,
    `import_limit_kw`, `export_limit_kw`, `own_mode`; more may follow."""
    value_kw: Kw | None
    """The value [kW]; null lifts a limit or returns the asset to its own mode."""
    issued_at: Instant
    """When it was decided."""
    valid_from: Instant
    """First instant it holds."""
    valid_until: Instant
    """From here on it counts for nothing: do what `reverts_to` says."""
    priority: Annotated[int, Field(strict=True)]
    """Higher was stronger when the service decided; what is told has won already."""
    source: Text
    """Who asked: `plan`, `fast_loop`, `override`, `safety`; more may follow."""
    reason: ReasonMessage | None
    """Why; null when there is nothing to say."""
    reverts_to: Text
    """What the asset does afterwards: `own_mode`."""


class AcknowledgementState(StrEnum):
    """How far a setpoint came at a controller."""

    RECEIVED = "received"
    """It arrived and is understood."""
    APPLIED = "applied"
    """The asset follows it."""
    CLAMPED = "clamped"
    """The asset follows the nearest value it can: `value_kw`."""
    REFUSED = "refused"
    """The asset does not follow it; `detail` says why."""
    EXPIRED = "expired"
    """It ran out without a successor, and the asset went back to its own mode."""


class AcknowledgementMessage(_Message):
    """What a controller says about one setpoint. Saying the same again changes nothing."""

    schema_: Literal["ems.acknowledgement/1"] = Field(alias="schema")
    """Name and version of this form."""
    setpoint_id: Text
    """`id` of the setpoint."""
    state: AcknowledgementState
    """How far it came."""
    value_kw: Kw | None = None
    """What the asset follows [kW]; null when it follows nothing, or it is not known."""
    at: Instant
    """When that was so, by the controller's clock."""
    detail: Annotated[str, StringConstraints(strict=True, max_length=500)] = ""
    """Why it was clamped or refused, for people."""
    controller: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    """Name of the controller in the site file."""


SCHEMAS: dict[str, type[_Message]] = {"setpoint": SetpointMessage, "acknowledgement": AcknowledgementMessage}
"""What is published, by the name it is asked for with."""


def message_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a message: `setpoint` or `acknowledgement`."""
    kind = SCHEMAS.get(name)
    if kind is None:
        raise DataError(f"no schema {name!r}; there are {' and '.join(SCHEMAS)}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | kind.model_json_schema()


def setpoint_message(setpoint: Setpoint) -> SetpointMessage:
    """Return what controllers are told of a setpoint; it holds from the instant it was decided."""
    reason = setpoint.reason
    return SetpointMessage(
        schema_=SETPOINT_SCHEMA,
        id=setpoint.id,
        site_id=setpoint.site_id,
        asset=setpoint.asset,
        kind=setpoint.kind,
        quantity=str(setpoint.quantity),
        value_kw=setpoint.value_kw,
        issued_at=setpoint.valid_from,
        valid_from=setpoint.valid_from,
        valid_until=setpoint.valid_until,
        priority=setpoint.priority,
        source=str(setpoint.source),
        reason=None
        if reason is None
        else ReasonMessage(action=str(reason.action), code=reason.code, later_at=reason.later_at),
        reverts_to=setpoint.reverts_to,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledgement:
    """An acknowledgement on record."""

    setpoint_id: str
    """The setpoint."""
    site_id: str
    """The site."""
    controller: str
    """Who said it."""
    channel: str
    """`mqtt`, `http` or `bacnet`."""
    state: AcknowledgementState
    """How far the setpoint came."""
    value_kw: float | None
    """What the asset follows [kW]."""
    at: datetime
    """When that was so, by the controller's clock (aware UTC)."""
    arrived_at: datetime
    """When the service heard of it first (aware UTC)."""
    late: bool
    """It came after the setpoint's end: kept, but it changes nothing."""
    detail: str
    """Why, for people."""


_OUTCOMES = {
    AcknowledgementState.APPLIED: DeliveryOutcome.APPLIED,
    AcknowledgementState.CLAMPED: DeliveryOutcome.CLAMPED,
    AcknowledgementState.REFUSED: DeliveryOutcome.REFUSED,
}
"""An acknowledgement in the words of a Modbus write with read-back: the three that decide something are the same."""


def delivery_of(said: Acknowledgement, setpoint: Setpoint) -> Delivery | None:
    """Return the delivery that an acknowledgement stands for; None where it decides nothing."""
    outcome = _OUTCOMES.get(said.state)
    if outcome is None or said.late:
        return None
    followed = outcome is not DeliveryOutcome.REFUSED
    asked_kw = setpoint.value_kw if outcome is DeliveryOutcome.APPLIED else None
    return Delivery.of(
        setpoint,
        outcome,
        held_kw=(asked_kw if said.value_kw is None else said.value_kw) if followed else None,
        at=said.arrived_at,
        written=True,
        detail=said.detail,
    )


def carries_out(site: Site, asset: str, controller: str) -> bool:
    """Tell whether a controller answers for an asset; a limit of the whole site is kept by the service itself."""
    found = site.asset(asset)
    return found is not None and found.controller == controller
