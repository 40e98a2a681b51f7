"""What counts: never two setpoints that contradict each other, whatever order they come in."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ems.channels import in_force
from ems.channels.board import Board, Key
from ems.setpoints import Quantity, Setpoint, SetpointKind
from tests.ems.channels.conftest import made_setpoint
from tests.ems.made import AT

TARGET = Key("store", "battery_net_consumption_kw")
MODE = Key("store", "own_mode")


def target(kw: float, minute: float = 0.0, **changes: object) -> Setpoint:
    return made_setpoint(kw, at=AT + timedelta(minutes=minute), lasts_s=600, number=int(minute), **changes)


def mode(minute: float) -> Setpoint:
    return target(0.0, minute, kind=SetpointKind.MODE, quantity=Quantity.OWN_MODE, value_kw=None)


def test_a_mode_takes_the_target_down_and_a_target_the_mode() -> None:
    board = Board()
    first, second, third = target(1.0), mode(1), target(2.0, 2)
    assert [(c.key, c.setpoint) for c in board.post(first)] == [(TARGET, first)]
    assert [(c.key, c.setpoint) for c in board.post(second)] == [(MODE, second), (TARGET, None)]
    assert [(c.key, c.setpoint) for c in board.post(third)] == [(TARGET, third), (MODE, None)]
    assert board.standing() == {TARGET: third}


def test_the_same_again_and_an_older_one_change_nothing() -> None:
    board = Board()
    newer = target(1.0, 5)
    board.post(newer)
    assert board.post(newer) == board.post(target(2.0, 1)) == []
    assert board.standing() == {TARGET: newer}


def test_limits_of_the_whole_site_stand_beside_each_other() -> None:
    limits = [
        target(5.0, 1, asset="site", kind=SetpointKind.LIMIT, quantity=quantity)
        for quantity in ("import_limit_kw", "export_limit_kw")
    ]
    assert list(in_force(limits, AT + timedelta(minutes=2))) == [
        Key("site", "export_limit_kw"),
        Key("site", "import_limit_kw"),
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 60), st.integers(1, 60)), max_size=12
    ),
    st.integers(0, 90),
)
def test_whatever_was_told_what_counts_is_in_force_and_free_of_contradiction(
    told: list[tuple[str, bool, int, int]], minute: int
) -> None:
    at = AT + timedelta(minutes=minute)
    setpoints = [
        made_setpoint(
            None if own else 1.0, asset=asset, number=number, at=AT + timedelta(minutes=begin), lasts_s=60 * lasts,
            kind=SetpointKind.MODE if own else SetpointKind.TARGET,
            quantity=Quantity.OWN_MODE if own else Quantity.BATTERY_POWER,
        )
        for number, (asset, own, begin, lasts) in enumerate(sorted(told, key=lambda one: one[2]))
    ]  # fmt: skip
    counting = in_force(setpoints, at)
    assert len({key.asset for key in counting}) == len(counting)
    for setpoint in counting.values():
        assert setpoint.valid_from <= at < setpoint.valid_until
