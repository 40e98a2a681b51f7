"""Server-sent events: one rendering per topic, the same bytes to every listener, bounded queues.

A topic is what several browsers look at alike, e.g. one home's page in Korean. It is rendered at most once a second
however many listen, and not at all while nobody does. A listener that does not keep up loses the oldest
event, never the newest; each event carries the whole part of the page it replaces, so losing one loses nothing.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api.problems import Crowded
from ems.live import Changes, Live

_log = logging.getLogger(__name__)
PACE_S = 1.0
KEEP_ALIVE_S = 15.0
LONGEST_S = 3600.0
"""A stream ends after this and is asked for anew, so that a key or session that ended does not go on listening [s]."""
QUEUE = 2
MOST_LISTENERS = 5_000

Render = Callable[[Changes], Mapping[str, object]]
"""What changed, to the parts of the page that follow from it; empty when none does."""


@dataclass(slots=True, eq=False)
class _Topic:
    """One rendering and those who listen to it."""

    listeners: set["asyncio.Queue[bytes | None]"] = field(default_factory=set)
    task: "asyncio.Task[None] | None" = None


class Streams:
    """Every running topic."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._topics: dict[Hashable, _Topic] = {}
        self._listening = 0
        self.longest_s = LONGEST_S
        """How long one answer lasts [s]."""

    def respond(
        self,
        topic: Hashable,
        render: Render,
        *,
        first: Mapping[str, object] | None = None,
        pace_s: float = PACE_S,
    ) -> StreamingResponse:
        """Return an answer that follows a topic for up to `longest_s`, beginning with `first`.

        Parameters
        ----------
        topic
            What listeners have in common; one rendering serves them all.
        render
            Makes an event of what changed; runs in a thread.
        first
            An event for this listener alone, sent at once.
        pace_s
            Least time between two renderings [s].
        """
        if self._listening >= MOST_LISTENERS:
            raise Crowded("too many pages are open; this one can be reloaded by hand")
        return StreamingResponse(
            self._follow(topic, render, first, pace_s),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def close(self) -> None:
        """End every stream."""
        for topic in list(self._topics.values()):
            for queue in topic.listeners:
                _offer(queue, None)
            if topic.task is not None:
                topic.task.cancel()
        tasks = [topic.task for topic in self._topics.values() if topic.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._topics.clear()

    async def _follow(
        self, key: Hashable, render: Render, first: Mapping[str, object] | None, pace_s: float
    ) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE)
        topic = self._topics.setdefault(key, _Topic())
        topic.listeners.add(queue)
        self._listening += 1
        if topic.task is None:
            topic.task = asyncio.create_task(self._run(topic, render, pace_s))
        try:
            yield b"retry: 5000\n\n"
            if first is not None:
                yield _event(first)
            ends_at = asyncio.get_running_loop().time() + self.longest_s
            while asyncio.get_running_loop().time() < ends_at:
                try:
                    event = await asyncio.wait_for(queue.get(), KEEP_ALIVE_S)
                except TimeoutError:
                    event = b": still here\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._listening -= 1
            topic.listeners.discard(queue)
            if not topic.listeners:
                if topic.task is not None:
                    topic.task.cancel()
                if self._topics.get(key) is topic:
                    del self._topics[key]

    async def _run(self, topic: _Topic, render: Render, pace_s: float) -> None:
        with self._live.subscribe() as subscription:
            while True:
                changes = await subscription.changes()
                try:
                    parts = await run_in_threadpool(render, changes)
                except Exception:  # noqa: BLE001 - one broken rendering must not end the stream; it is logged
                    _log.exception("stream.render_failed")
                    parts = {}
                if parts:
                    event = _event(parts)
                    for queue in topic.listeners:
                        _offer(queue, event)
                await asyncio.sleep(pace_s)


def _event(content: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def _offer(queue: "asyncio.Queue[bytes | None]", event: bytes | None) -> None:
    """Put an event in a full queue's place of the oldest."""
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(event)
