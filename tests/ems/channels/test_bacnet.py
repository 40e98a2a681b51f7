"""BACnet/IP on real sockets: commands in the priority array, given back in time, and devices that do not behave."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from bacpypes3.primitivedata import Real

from ems.channels.bacnet import follows
from ems.publishing import DeliveryOutcome
from ems.setpoints import Quantity, SetpointKind
from ems.site import BacnetController, BacnetPoint
from tests.ems.channels.conftest import die, eventually, free_port, made_setpoint, rigged, running

POINT = BacnetPoint(
    object="analog-value,1", priority=10, feedback="analog-input,1", validity="analog-value,2"
)


class Device:
    """The reference controller's BACnet side, on a port of its own."""

    def __init__(self, controller: ModuleType, port: int, low_kw: float = -3.0, high_kw: float = 3.0) -> None:
        self.port = port
        plant = controller.Plant(name="bms", ratings_kw={"store": (low_kw, high_kw)})
        self.device = controller.BacnetDevice(plant, listen=f"127.0.0.1:{port}")

    def slot(self, priority: int = 10) -> float | None:
        found = self.device.command.priorityArray[priority - 1]
        return None if found._choice in (None, "null") else float(found.real)

    @property
    def power_kw(self) -> float:
        return float(self.device.power.presentValue)


@asynccontextmanager
async def device(controller: ModuleType, port: int | None = None, **ratings: float) -> AsyncIterator[Device]:
    made = Device(controller, port or free_port(socket.SOCK_DGRAM), **ratings)
    async with running(made.device.run()):
        yield made


def settings(port: int, point: BacnetPoint = POINT, **changes: object) -> dict[str, BacnetController]:
    made = BacnetController(
        channel="bacnet", address=f"127.0.0.1:{port}", bind="127.0.0.1", points={"store": point}, poll_s=0.5
    )
    return {"bms": replace(made, **changes)}  # type: ignore[arg-type]


@pytest.mark.slow
async def test_a_setpoint_is_commanded_followed_and_given_back_at_its_end(
    tmp_path: Path, controller: ModuleType
) -> None:
    async with device(controller) as there, rigged(tmp_path, settings(there.port)) as rig:
        asked = await rig.ask(1.5, lasts_s=4.0)
        await eventually(lambda: "applied" in rig.states(asked))
        assert there.slot() == there.power_kw == 1.5
        assert 0 < float(there.device.seconds_left.presentValue) <= 4.0
        applied = rig.answers(asked)[-1]
        assert (applied.controller, applied.channel, applied.value_kw) == ("bms", "bacnet", 1.5)
        await eventually(lambda: there.slot() is None and there.power_kw == 0.0)
        await eventually(lambda: "expired" in rig.states(asked))


async def test_own_mode_and_a_stop_give_the_point_back(tmp_path: Path, controller: ModuleType) -> None:
    async with device(controller) as there:
        async with rigged(tmp_path, settings(there.port)) as rig:
            await rig.ask(1.5)
            await eventually(lambda: there.slot() == 1.5)
            mode = await rig.ask(None, kind=SetpointKind.MODE, quantity=Quantity.OWN_MODE)
            await eventually(lambda: rig.states(mode) == ["applied"])
            assert there.slot() is None
            await rig.ask(2.0)
            await eventually(lambda: there.slot() == 2.0)
        assert there.slot() is None


@pytest.mark.slow
async def test_a_service_that_is_killed_leaves_a_device_that_lets_go_and_the_next_one_gives_the_point_back(
    tmp_path: Path, controller: ModuleType
) -> None:
    async with device(controller) as there:
        async with rigged(tmp_path, settings(there.port), gently=False) as rig:
            await rig.ask(1.5, lasts_s=3.0)
            await eventually(lambda: there.slot() == 1.5)
            await die(rig.channels)
        await eventually(lambda: there.power_kw == 0.0)  # by the seconds left that came with the command
        # a device without such an object would hold the command still: the next service takes it back
        there.device.command.priorityArray[9] = type(there.device.command.priorityArray[9])(real=Real(1.5))
        async with rigged(tmp_path, settings(there.port)):
            await eventually(lambda: there.slot() is None)


async def test_a_device_that_does_less_says_so_by_its_feedback(
    tmp_path: Path, controller: ModuleType
) -> None:
    async with (
        device(controller, high_kw=0.8) as there,
        rigged(tmp_path, settings(there.port, acknowledge_within_s=1.0)) as rig,
    ):
        asked = await rig.ask(2.0)
        await eventually(lambda: rig.states(asked) == ["received", "clamped"])
        assert rig.delivery(asked).outcome is DeliveryOutcome.CLAMPED
        assert rig.delivery(asked).held_kw == pytest.approx(0.8)
        assert "analog-input,1 shows 0.80 kW" in rig.delivery(asked).detail


async def test_a_change_of_what_the_device_does_is_heard_without_asking(
    tmp_path: Path, controller: ModuleType
) -> None:
    seldom = {"poll_s": 600.0, "acknowledge_within_s": 1.0}  # only a notification (COV) can tell in time
    async with device(controller) as there, rigged(tmp_path, settings(there.port, **seldom)) as rig:
        asked = await rig.ask(1.5)
        await eventually(lambda: "applied" in rig.states(asked))
        await asyncio.sleep(1.2)
        there.device.high_kw = 0.5
        await eventually(lambda: "clamped" in rig.states(asked))
        assert rig.delivery(asked).held_kw == pytest.approx(0.5)


async def test_another_hand_with_a_higher_priority_is_told(tmp_path: Path, controller: ModuleType) -> None:
    async with device(controller) as there:
        by_hand = there.device.command.priorityArray[7]
        there.device.command.priorityArray[7] = type(by_hand)(real=Real(-1.0))
        there.device.command.presentValue = Real(-1.0)
        async with rigged(tmp_path, settings(there.port)) as rig:
            asked = await rig.ask(2.0)
            await eventually(lambda: rig.states(asked))
            assert rig.delivery(asked).outcome is DeliveryOutcome.CLAMPED
            assert rig.delivery(asked).held_kw == pytest.approx(-1.0)
            assert there.slot(8) == -1.0


async def test_an_object_that_takes_a_command_without_keeping_whose_it_is_is_refused(
    tmp_path: Path, controller: ModuleType
) -> None:
    plain = replace(POINT, object="analog-value,2", validity=None)
    async with device(controller) as there, rigged(tmp_path, settings(there.port, plain)) as rig:
        asked = await rig.ask(2.0)
        await eventually(lambda: rig.states(asked) == ["refused"])
        assert "unknown-property" in rig.delivery(asked).detail


@pytest.mark.slow
async def test_a_device_that_restarts_is_commanded_again(tmp_path: Path, controller: ModuleType) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with rigged(tmp_path, settings(port)) as rig:
        # nobody is there yet: the setpoint waits
        await rig.ask(1.0)
        await eventually(lambda: ("controller.bms", "unreachable") in rig.edges())
        async with device(controller, port) as there:
            await eventually(lambda: there.slot() == 1.0)
            await eventually(lambda: ("controller.bms", "reachable") in rig.edges())
        await asyncio.sleep(0.1)
        async with device(controller, port) as again:
            await eventually(lambda: again.slot() == 1.0)


async def test_a_point_in_watts_that_counts_the_other_way_round(
    tmp_path: Path, controller: ModuleType
) -> None:
    turned = replace(POINT, per_kw=-1000.0)
    async with (
        device(controller, low_kw=-3000.0, high_kw=3000.0) as there,
        rigged(tmp_path, settings(there.port, turned)) as rig,
    ):
        asked = await rig.ask(1.25)
        await eventually(lambda: "applied" in rig.states(asked))
        assert there.slot() == -1250.0
        assert rig.delivery(asked).held_kw == 1.25


@pytest.mark.slow
async def test_a_dead_device_holds_up_neither_another_one_nor_the_service(
    tmp_path: Path, controller: ModuleType
) -> None:
    async with device(controller) as there:
        both = {
            **{"dead": replace(settings(free_port(socket.SOCK_DGRAM))["bms"], points={"roof": POINT})},
            **settings(there.port),
        }
        async with rigged(tmp_path, both, carries={"store": "bms", "roof": "dead"}) as rig:
            lost = await rig.ask(
                2.0, asset="roof", kind=SetpointKind.LIMIT, quantity=Quantity.GENERATION_LIMIT
            )
            asked = await rig.ask(1.0)
            await eventually(lambda: "applied" in rig.states(asked))
            await eventually(lambda: ("controller.dead", "unreachable") in rig.edges())
            assert rig.states(lost) == []


@pytest.mark.parametrize(
    ("kind", "asked_kw", "does_kw", "right"),
    [
        pytest.param(SetpointKind.TARGET, 2.0, 2.09, True, id="near a target"),
        pytest.param(SetpointKind.TARGET, 2.0, 2.2, False, id="beyond a target"),
        pytest.param(SetpointKind.TARGET, 0.0, 0.09, True, id="near standstill"),
        pytest.param(SetpointKind.TARGET, -2.0, 2.0, False, id="the wrong direction"),
        pytest.param(SetpointKind.LIMIT, 2.0, 0.0, True, id="below a limit"),
        pytest.param(SetpointKind.LIMIT, 2.0, 2.5, False, id="above a limit"),
    ],
)
def test_what_follows(kind: SetpointKind, asked_kw: float, does_kw: float, right: bool) -> None:
    assert follows(made_setpoint(asked_kw, kind=kind), does_kw) is right
