"""What goes over the wire: versioned, strict, the same for every channel."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import ValidationError

from ems.errors import DataError
from ems.messages import (
    Acknowledgement,
    AcknowledgementMessage,
    AcknowledgementState,
    SetpointMessage,
    carries_out,
    delivery_of,
    message_schema,
    setpoint_message,
)
from ems.plan import Action, Reason
from ems.publishing import DeliveryOutcome
from ems.setpoints import Course, SetpointSource, derive_setpoints
from ems.site import HttpController
from tests.ems.made import AT, ROOF, STEP, STORE, home

SITE = home(controllers={"bms": HttpController(channel="http")})
COURSE = Course(battery_kw={"store": -1.5}, generation_limit_kw={"roof": None}, vehicle_kw={})
ROOF_LIMIT, TARGET = sorted(
    derive_setpoints(SITE, COURSE, plan=None, at=AT, valid_until=AT + STEP, source=SetpointSource.PLAN),
    key=lambda setpoint: setpoint.asset,
)


def test_a_setpoint_survives_the_wire() -> None:
    reason = Reason(
        asset="store", start_at=AT, action=Action.DISCHARGE, code="serve_load", later_at=AT + STEP, saving=3.0
    )
    told = json.loads(setpoint_message(replace(TARGET, reason=reason)).to_json())
    assert told == {
        "schema": "ems.setpoint/1", "id": TARGET.id, "site_id": "home-01", "asset": "store", "kind": "target",
        "quantity": "battery_net_consumption_kw", "value_kw": -1.5, "issued_at": "2026-03-02T12:00:00Z",
        "valid_from": "2026-03-02T12:00:00Z", "valid_until": "2026-03-02T12:15:00Z", "priority": 10, "source": "plan",
        "reason": {"action": "discharge", "code": "serve_load", "later_at": "2026-03-02T12:15:00Z"},
        "reverts_to": "own_mode",
    }  # fmt: skip
    assert SetpointMessage.model_validate(told).valid_until == TARGET.valid_until
    assert json.loads(setpoint_message(ROOF_LIMIT).to_json())["value_kw"] is None


def test_a_quantity_of_a_later_version_needs_no_other_schema() -> None:
    told = json.loads(setpoint_message(TARGET).to_json()) | {
        "quantity": "import_limit_kw",
        "source": "grid_operator",
    }
    assert SetpointMessage.model_validate(told).quantity == "import_limit_kw"


SAID = {"schema": "ems.acknowledgement/1", "setpoint_id": TARGET.id, "state": "applied", "at": "2026-03-02T21:00:01+09:00",
        "controller": "bms"}  # fmt: skip


def test_an_answer_may_leave_out_what_it_does_not_know() -> None:
    read = AcknowledgementMessage.model_validate_json(json.dumps(SAID))
    assert (read.value_kw, read.detail, read.at) == (None, "", AT + timedelta(seconds=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "ems.acknowledgement/2"}, {"schema": None}, {"state": "done"}, {"value_kw": "1.0"}, {"value_kw": True},
        {"value_kw": float("inf")}, {"at": 1780000000}, {"at": "2026-03-02"}, {"at": "2026-03-02T12:00:00"},
        {"controller": "Not A Name"}, {"setpoint_id": ""}, {"setpoint_id": 7}, {"detail": "x" * 501}, {"extra": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_answer_is_not_read(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AcknowledgementMessage.model_validate_json(json.dumps(SAID | changes))


def said(
    state: AcknowledgementState, value_kw: float | None = None, *, late: bool = False
) -> Acknowledgement:
    return Acknowledgement(
        setpoint_id=TARGET.id, site_id="home-01", controller="bms", channel="mqtt", state=state, value_kw=value_kw,
        at=AT, arrived_at=AT + timedelta(seconds=2), late=late, detail="breaker",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "outcome", "held_kw"),
    [
        pytest.param(
            said(AcknowledgementState.APPLIED), DeliveryOutcome.APPLIED, -1.5, id="applied as asked"
        ),
        pytest.param(
            said(AcknowledgementState.APPLIED, -1.45), DeliveryOutcome.APPLIED, -1.45, id="applied, measured"
        ),
        pytest.param(said(AcknowledgementState.CLAMPED, -1.0), DeliveryOutcome.CLAMPED, -1.0, id="clamped"),
        pytest.param(
            said(AcknowledgementState.CLAMPED),
            DeliveryOutcome.CLAMPED,
            None,
            id="clamped, to what is unknown",
        ),
        pytest.param(said(AcknowledgementState.REFUSED, -1.5), DeliveryOutcome.REFUSED, None, id="refused"),
    ],
)
def test_an_answer_in_the_words_of_a_write_with_read_back(
    answer: Acknowledgement, outcome: DeliveryOutcome, held_kw: float | None
) -> None:
    delivery = delivery_of(answer, TARGET)
    assert delivery is not None
    assert (delivery.outcome, delivery.held_kw, delivery.at) == (outcome, held_kw, answer.arrived_at)
    assert delivery.outcome.value == answer.state.value


@pytest.mark.parametrize(
    "answer",
    [
        said(AcknowledgementState.RECEIVED),
        said(AcknowledgementState.EXPIRED),
        said(AcknowledgementState.APPLIED, late=True),
    ],
    ids=["received", "expired", "late"],
)
def test_what_decides_nothing_is_no_delivery(answer: Acknowledgement) -> None:
    assert delivery_of(answer, TARGET) is None


def test_who_answers_for_what() -> None:
    site = home(
        assets=(ROOF, replace(STORE, controller="bms")),
        controllers={"bms": HttpController(channel="http"), "other": HttpController(channel="http")},
    )
    assert carries_out(site, "store", "bms")
    assert not carries_out(site, "store", "other")
    assert not carries_out(site, "roof", "bms")  # Modbus does
    assert not carries_out(site, "site", "bms")  # the service keeps a limit of the connection itself


def test_there_are_two_schemas() -> None:
    for name in ("setpoint", "acknowledgement"):
        schema = message_schema(name)
        assert schema["properties"]["schema"]["const"] == f"ems.{name}/1"
        assert "schema" in schema["required"]
        assert schema["additionalProperties"] is False
    with pytest.raises(DataError, match="there are setpoint and acknowledgement"):
        message_schema("plan")
