"""The hub and the ledger behind every channel: who does not answer shows, who fails begins anew, nothing heard is lost."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ems.channels import Channels, Ledger, Verdict, hub
from ems.channels.board import Change, Key
from ems.channels.protocol import Channel, Heard, Told, Waiting
from ems.clock import ManualClock
from ems.errors import StoreError
from ems.messages import ACKNOWLEDGEMENT_SCHEMA, AcknowledgementMessage, AcknowledgementState
from ems.metrics import Metrics
from ems.outbox import Outbox
from ems.publishing import DeliveryOutcome
from ems.setpoints import Quantity, Setpoint, SetpointKind
from ems.site import HttpController, Site
from ems.store import Retention, Store
from tests.ems.channels.conftest import CLOCK, eventually, made_setpoint, rigged
from tests.ems.made import AT, ROOF, STORE, home


def answer(
    setpoint: Setpoint, state: AcknowledgementState = AcknowledgementState.APPLIED
) -> AcknowledgementMessage:
    return AcknowledgementMessage(
        schema_=ACKNOWLEDGEMENT_SCHEMA, setpoint_id=setpoint.id, state=state, at=CLOCK.now(), controller="bms"
    )


@pytest.mark.slow
async def test_who_answers_only_the_newest_is_not_silent_and_who_answers_nothing_is(tmp_path: Path) -> None:
    settings = HttpController(channel="http", acknowledge_within_s=3.0)
    async with rigged(tmp_path, {"bms": settings}) as rig:
        skipped, newest = await rig.ask(1.0), await rig.ask(2.0)
        await asyncio.to_thread(rig.ledger.record, answer(newest), site_id="home-01", channel="http")
        await asyncio.sleep(5.0)
        assert rig.delivery(skipped).outcome is DeliveryOutcome.SENT
        assert rig.edges() == []

        ignored = await rig.ask(3.0)
        await eventually(lambda: rig.delivery(ignored).outcome is DeliveryOutcome.UNVERIFIED)
        await eventually(lambda: rig.edges() == [("controller.bms", "silent")])
        assert rig.counted("ems_controllers_away", channel="http", trouble="silent") == 1

        # an answer that comes after that, but before the end, still counts
        await asyncio.to_thread(rig.ledger.record, answer(ignored), site_id="home-01", channel="http")
        assert rig.delivery(ignored).outcome is DeliveryOutcome.APPLIED
        again = await rig.ask(1.0)
        await asyncio.to_thread(rig.ledger.record, answer(again), site_id="home-01", channel="http")
        await eventually(lambda: rig.edges()[-1] == ("controller.bms", "answers"))


async def test_a_setpoint_that_still_waits_for_the_store_can_be_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rigged(tmp_path, {"bms": HttpController(channel="http")}) as rig:
        setpoint = made_setpoint(1.0)
        rig.channels.offer([setpoint])  # its row is in the outbox, as the disk is full
        with monkeypatch.context() as full:

            def refuse(*_: object) -> bool:
                raise StoreError("the disk is full")

            full.setattr(rig.store, "save_acknowledgement", refuse)
            with pytest.raises(StoreError):
                rig.ledger.record(answer(setpoint), site_id="home-01", channel="http")
        verdict = rig.ledger.record(answer(setpoint), site_id="home-01", channel="http")
        assert verdict is Verdict.RECORDED
        rig.store.save_setpoints([setpoint], [])
        assert rig.delivery(setpoint).outcome is DeliveryOutcome.APPLIED


@pytest.fixture
def site() -> Site:
    return home(
        assets=(ROOF, replace(STORE, controller="bms")), controllers={"bms": HttpController(channel="http")}
    )


class Spy:
    """A channel that keeps what it is offered; fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.offered: list[Change] = []
        self.failures = failures
        self.runs = 0

    def offer(self, changes: Sequence[Change]) -> None:
        self.offered += changes

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise RuntimeError("a mistake of ours")
        await asyncio.Event().wait()

    async def finish(self, within_s: float) -> None: ...


def channels(site: Site, store: Store, spy: Channel, clock: ManualClock) -> Channels:
    def link(site: Site, name: str, heard: Heard, told: Told) -> Channel:
        return spy

    metrics = Metrics()
    return Channels(
        [site], link=link, ledger=Ledger([site], store=store, clock=clock, metrics=metrics), store=store,
        outbox=Outbox(metrics), clock=clock, metrics=metrics, read_only=False,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    yield opened
    opened.close()


async def test_a_channel_that_fails_by_our_mistake_begins_anew(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RESTART_S", 0.01)
    spy = Spy(failures=2)
    running = channels(site, store, spy, ManualClock(at=AT))
    await running.start()
    await eventually(lambda: spy.runs == 3)
    await running.stop()
    causes = [edge.cause for edge in store.edges("home-01", AT - timedelta(hours=1))]
    assert causes == ["RuntimeError: a mistake of ours"]  # the edge, once


async def test_a_new_service_takes_up_what_the_one_before_told_and_lets_go_of_what_ran_out(
    site: Site, store: Store
) -> None:
    running_out = made_setpoint(1.0, at=AT, lasts_s=60, number=1)
    holding = made_setpoint(
        2.0,
        at=AT,
        lasts_s=900,
        number=2,
        asset="roof",
        kind=SetpointKind.LIMIT,
        quantity=Quantity.GENERATION_LIMIT,
    )
    store.save_setpoints([running_out, holding], [])
    spy, clock = Spy(), ManualClock(at=AT + timedelta(minutes=5))
    running = channels(site, store, spy, clock)
    await running.start()
    await running.stop()
    told = {(change.key.asset, change.setpoint and change.setpoint.id) for change in spy.offered}
    assert told == {("store", None), ("roof", holding.id)}
    await eventually(lambda: store.acknowledgements("home-01", AT, AT + timedelta(hours=1)))
    (expired,) = store.setpoint(running_out.id).acknowledgements  # type: ignore[union-attr]
    assert (expired.state, expired.at) == (AcknowledgementState.EXPIRED, running_out.valid_until)


async def test_what_waits_is_bounded_by_the_places_there_are() -> None:
    waiting = Waiting()
    key = Key("store", "battery_net_consumption_kw")
    setpoints = [made_setpoint(float(number), number=number) for number in range(1000)]
    for setpoint in setpoints:
        waiting.put([Change(key=key, setpoint=setpoint)])
    assert await waiting.first() == (key, setpoints[-1])
    waiting.done(key, setpoints[0])  # an older one that was just carried: the newest still waits
    assert not await waiting.emptied(0.01)
    waiting.done(key, setpoints[-1])
    assert await waiting.emptied(0.01)


def test_acknowledgements_end_with_their_setpoints(site: Site, store: Store) -> None:
    setpoint = made_setpoint(1.0, at=AT)
    store.save_setpoints([setpoint], [])
    ledger = Ledger([site], store=store, clock=ManualClock(at=AT), metrics=Metrics())
    assert ledger.record(answer(setpoint), site_id="home-01", channel="http") is Verdict.RECORDED
    pruned = store.prune(AT + timedelta(days=20), Retention())
    assert pruned.setpoints == 3  # the setpoint, its delivery and what was said
    assert store.acknowledgements("home-01", AT - timedelta(days=1), AT + timedelta(days=1)) == ()
