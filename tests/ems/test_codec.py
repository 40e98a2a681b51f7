"""What is written is read back bit for bit: the record a cycle is replayed from rests on it."""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ems.codec import FloatArray, IntArray, from_json, pack, to_json, unpack
from ems.plan import Plan, PlanSource, rule_plan
from ems.site import Site
from tests.ems.made import AT, STEP, STEP_S, home_with_car, outlook, site_outlook


@dataclass(frozen=True, kw_only=True, slots=True)
class Everything:
    """One of each kind of field the domain has."""

    floats: FloatArray
    whole: IntArray
    value: float | None
    at: datetime
    names: tuple[str, ...]
    by_name: dict[str, float | None]


everything = st.builds(
    Everything,
    floats=st.lists(st.floats(allow_infinity=False), max_size=20).map(
        lambda x: np.array(x, dtype=np.float64)
    ),
    whole=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20).map(lambda x: np.array(x, dtype=np.int64)),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    at=st.datetimes(timezones=st.just(UTC)),
    names=st.lists(st.text(st.characters(codec="utf-8")), max_size=4).map(tuple),
    by_name=st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    ),
)


def bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("<d", value)


@given(value=everything)
def test_values_survive_bit_for_bit(value: Everything) -> None:
    for back in (from_json(Everything, to_json(value)), unpack(Everything, pack(value))):
        np.testing.assert_array_equal(np.isnan(back.floats), np.isnan(value.floats))
        known = ~np.isnan(value.floats)
        assert back.floats[known].tobytes() == value.floats[known].tobytes()
        assert back.whole.tobytes() == value.whole.tobytes()
        assert bits(back.value) == bits(value.value)
        assert (back.at, back.names) == (value.at, value.names)
        assert {name: bits(v) for name, v in back.by_name.items()} == {
            name: bits(v) for name, v in value.by_name.items()
        }


def test_missing_is_written_as_null_and_read_as_missing() -> None:
    value = Everything(
        floats=np.array([1.0, np.nan]), whole=np.array([1]), value=None, at=AT, names=(), by_name={}
    )
    assert b'"floats":[1.0,null]' in to_json(value).replace(b" ", b"")
    assert np.isnan(from_json(Everything, to_json(value)).floats[1])


def test_what_is_read_cannot_be_changed_by_accident() -> None:
    value = Everything(floats=np.ones(3), whole=np.ones(3, int), value=1.0, at=AT, names=(), by_name={})
    back = from_json(Everything, to_json(value))
    with pytest.raises(ValueError, match="read-only"):
        back.floats[0] = 5.0


def test_a_plan_and_a_site_come_back_as_they_were() -> None:
    site = home_with_car()
    expected = outlook(site_outlook(load_kw=[1 / 3] * 8, pv_kw=np.linspace(0, 3, 8)))
    plan = rule_plan(
        site, expected.sites[0], starts_s=expected.starts_s, step_s=STEP_S, issued_at=AT, valid_until=AT + STEP,
        stored_kwh={"store": 4.2}, cause="a test",
    )  # fmt: skip
    back = unpack(Plan, pack(plan))
    assert to_json(back) == to_json(plan)
    assert back.source is PlanSource.RULE
    assert unpack(Site, pack(site)) == site


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError):
        from_json(Everything, b'{"floats": ["x"]}')
