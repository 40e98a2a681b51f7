"""The hub: every controller of a site is told every setpoint that counts there, and who does not answer shows."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from ems.channels.board import Board, Change, Key
from ems.channels.ledger import Ledger, Verdict
from ems.channels.protocol import Channel, Link
from ems.clock import Clock
from ems.errors import StoreError
from ems.feedback import Edge
from ems.messages import AcknowledgementMessage, carries_out
from ems.metrics import Metrics
from ems.outbox import Outbox
from ems.publishing import Delivery, DeliveryOutcome
from ems.setpoints import Setpoint
from ems.site import Site
from ems.store import DeliveredSetpoint, Store

log = logging.getLogger("ems.channels")

LOOK_EVERY_S = 1.0
"""Between two looks at what has run out or stays unanswered [s]."""
LOOK_BACK = timedelta(hours=2)
"""Setpoints of this long ago are taken up at a start: none is valid for longer."""
AWAITED = 1_000
"""Setpoints of one controller that wait for an answer; older ones are given up."""
RETRY_STORE_S = 1.0
"""Before an acknowledgement that the store refused is handed to it again [s]."""
LAST_ANSWERS_LOOKS = 40
"""How often the ledger is looked at for answers to the last setpoints when the service stops: for two seconds."""
RESTART_S = 10.0
"""Before a channel that failed by a mistake of ours begins anew [s]."""
FINISH_WITHIN_S = 5.0
"""What a channel gets to carry the last changes when the service stops [s]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Awaited:
    """A setpoint a controller should say something about."""

    setpoint: Setpoint
    due_s: float
    """By when, on the event loop's clock [s]."""


@dataclass(kw_only=True, slots=True)
class _Peer:
    """One controller and how it is doing."""

    site: Site
    controller: str
    link: Channel | None = None
    awaited: deque[_Awaited] = field(default_factory=lambda: deque(maxlen=AWAITED))
    troubles: set[str] = field(default_factory=set)
    """`unreachable`, `silent` or both."""

    @property
    def channel(self) -> str:
        return self.site.controllers[self.controller].channel

    @property
    def within_s(self) -> float:
        return self.site.controllers[self.controller].acknowledge_within_s

    def answers_for(self, setpoint: Setpoint) -> bool:
        """Tell whether it is the one that carries a setpoint out."""
        return carries_out(self.site, setpoint.asset, self.controller)


class Channels:
    """All building controllers of a service; used from its event loop only."""

    def __init__(
        self,
        sites: Sequence[Site],
        *,
        link: Link,
        ledger: Ledger,
        store: Store,
        outbox: Outbox,
        clock: Clock,
        metrics: Metrics,
        read_only: bool,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._read_only = read_only
        self._peers = {
            site.id: tuple(_Peer(site=site, controller=name) for name in site.controllers) for site in sites
        }
        self._boards = {site_id: Board() for site_id, peers in self._peers.items() if peers}
        self._tasks: list[asyncio.Task[None]] = []
        for peer in self._all():
            peer.link = link(
                peer.site, peer.controller, partial(self._heard, peer), partial(self._told, peer)
            )

    def offer(self, setpoints: Sequence[Setpoint]) -> None:
        """Tell controllers of setpoints that were journalled; never waits."""
        for setpoint in setpoints:
            board = self._boards.get(setpoint.site_id)
            if board is None:
                continue
            if self._read_only:
                self._withhold(setpoint)
                continue
            self._ledger.remember([DeliveredSetpoint(setpoint=setpoint, delivery=None)])
            self._tell(setpoint.site_id, board.post(setpoint))
            self._await(setpoint)

    async def start(self) -> None:
        """Take up what the process before told, and begin to carry."""
        await self._take_up()
        for peer in self._all():
            if peer.link is not None:
                name = f"channel-{peer.site.id}-{peer.controller}"
                self._tasks.append(asyncio.create_task(self._carry(peer, peer.link), name=name))
        if self._boards:
            self._tasks.append(asyncio.create_task(self._watch(), name="channels"))

    async def stop(self) -> None:
        """Carry what is left, above all the word that assets go back to their own mode, and leave."""
        await self._last_answers()
        finished = await asyncio.gather(
            *(
                # one that is away is not waited for, only given the chance
                peer.link.finish(FINISH_WITHIN_S if not peer.troubles else 1.0)
                for peer in self._all()
                if peer.link is not None
            ),
            return_exceptions=True,
        )
        for error in finished:
            if isinstance(error, Exception):
                log.warning("channel.not_finished cause=%s: %s", type(error).__name__, error)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _last_answers(self) -> None:
        """Give controllers that do answer a moment to say what came of the last setpoints."""
        for _ in range(LAST_ANSWERS_LOOKS):
            if all(
                self._ledger.answered(held.id, peer.controller)
                for peer in self._all()
                if peer.link is not None and not peer.troubles
                for held in self._boards[peer.site.id].standing().values()
                if peer.answers_for(held)
            ):
                return
            await asyncio.sleep(0.05)

    async def _carry(self, peer: _Peer, link: Channel) -> None:
        """Run a channel; a mistake of ours there ends neither it for good nor anybody else's."""
        while True:
            try:
                return await link.run()
            except Exception as error:
                log.exception("channel.failed site=%s controller=%s", peer.site.id, peer.controller)
                self._told(peer, f"{type(error).__name__}: {error}")
            await asyncio.sleep(RESTART_S)

    async def _take_up(self) -> None:
        now = self._clock.now()
        for site_id, board in self._boards.items():
            try:
                recent = await asyncio.to_thread(
                    self._store.setpoints, site_id, now - LOOK_BACK, now + timedelta(seconds=1), AWAITED
                )
            except StoreError as error:
                log.warning("channels.not_taken_up site=%s cause=%s", site_id, error)
                continue
            recent = tuple(one for one in recent if not withheld(one))
            self._ledger.remember(recent)
            for one in recent:
                board.post(one.setpoint)
            self._run_out(site_id, board)
            self._tell(site_id, [Change(key=key, setpoint=held) for key, held in board.standing().items()])
            for held in board.standing().values():
                self._await(held)

    async def _watch(self) -> None:
        failing = False
        while True:
            try:
                for site_id, board in self._boards.items():
                    self._run_out(site_id, board)
                for peer in self._all():
                    self._judge(peer)
                failing = False
            except Exception:
                if not failing:
                    log.exception("channels.watch_failed")
                failing = True
            await asyncio.sleep(LOOK_EVERY_S)

    def _run_out(self, site_id: str, board: Board) -> None:
        """Take down what expired: controllers that hold it for us are told, and the ledger says so."""
        for setpoint in board.run_out(self._clock.now()):
            self._tell(site_id, [Change(key=Key.of(setpoint), setpoint=None)])
            for peer in self._peers[site_id]:
                if peer.answers_for(setpoint):
                    self._outbox.post(
                        partial(
                            self._ledger.ran_out, setpoint, controller=peer.controller, channel=peer.channel
                        )
                    )

    def _tell(self, site_id: str, changes: Sequence[Change]) -> None:
        for peer in self._peers[site_id]:
            if peer.link is not None and changes:
                peer.link.offer(changes)

    def _await(self, setpoint: Setpoint) -> None:
        now_s = asyncio.get_running_loop().time()
        for peer in self._peers[setpoint.site_id]:
            if peer.answers_for(setpoint):
                peer.awaited.append(_Awaited(setpoint=setpoint, due_s=now_s + peer.within_s))

    def _judge(self, peer: _Peer) -> None:
        """Look at what should have been answered by now. One that was replaced and skipped is nobody's fault."""
        now_s = asyncio.get_running_loop().time()
        while peer.awaited and peer.awaited[0].due_s <= now_s:
            due = peer.awaited.popleft().setpoint
            later = (a.setpoint for a in peer.awaited if Key.of(a.setpoint) == Key.of(due))
            if any(self._ledger.answered(one.id, peer.controller) for one in (due, *later)):
                self._note(peer, "silent", None)
                continue
            self._metrics.unverified.labels(channel=peer.channel).inc()
            self._outbox.post(
                partial(self._ledger.unanswered, due, controller=peer.controller, within_s=peer.within_s)
            )
            self._note(peer, "silent", f"{due.id} was not acknowledged within {peer.within_s:g} s")

    async def _heard(self, peer: _Peer, message: AcknowledgementMessage | None) -> Verdict:
        """Keep an acknowledgement, however long the store refuses: what a controller said is not lost."""
        while True:
            try:
                return await asyncio.to_thread(
                    self._ledger.record,
                    message,
                    site_id=peer.site.id,
                    channel=peer.channel,
                    controller=peer.controller,
                )
            except StoreError:
                await asyncio.sleep(RETRY_STORE_S)

    def _told(self, peer: _Peer, cause: str | None) -> None:
        self._note(peer, "unreachable", cause)

    def _note(self, peer: _Peer, trouble: str, cause: str | None) -> None:
        """Log, count and keep the edge when a controller's trouble begins or ends."""
        if (cause is not None) == (trouble in peer.troubles):
            return
        if cause is None:
            peer.troubles.discard(trouble)
        else:
            peer.troubles.add(trouble)
        became = trouble if cause is not None else {"unreachable": "reachable", "silent": "answers"}[trouble]
        level = logging.WARNING if cause is not None else logging.INFO
        log.log(
            level,
            "controller.%s site=%s controller=%s cause=%s",
            became,
            peer.site.id,
            peer.controller,
            cause or "",
        )
        away = sum(1 for one in self._all() if one.channel == peer.channel and trouble in one.troubles)
        self._metrics.controllers_away.labels(channel=peer.channel, trouble=trouble).set(away)
        edge = Edge(
            at=self._clock.now(),
            site_id=peer.site.id,
            subject=f"controller.{peer.controller}",
            became=became,
            cause=cause or "",
        )
        self._outbox.post(partial(self._store.save_edges, (edge,)))

    def _withhold(self, setpoint: Setpoint) -> None:
        """Say of a setpoint that a service which may only read told nobody."""
        if not any(peer.answers_for(setpoint) for peer in self._peers[setpoint.site_id]):
            return
        refused = Delivery.of(
            setpoint,
            DeliveryOutcome.REFUSED,
            held_kw=None,
            at=setpoint.valid_from,
            written=False,
            detail="read_only: the service may not steer",
        )
        self._outbox.post(partial(self._store.save_setpoints, (), (refused,)))

    def _all(self) -> Iterable[_Peer]:
        return (peer for peers in self._peers.values() for peer in peers)


def withheld(one: DeliveredSetpoint) -> bool:
    """Tell whether a setpoint never left the service, so that no controller may be told it."""
    return (
        one.delivery is not None
        and one.delivery.outcome is DeliveryOutcome.REFUSED
        and not one.delivery.written
    )
