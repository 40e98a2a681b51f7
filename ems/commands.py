"""What people may change, audited: who asked, when, and until when it holds.

A pause is a person's word against the plan's: it always wins, the devices go back to their own programme, and the next
solve plans around it. It is on disk before the caller hears that it was taken.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

from ems.access import Principal
from ems.channels import Ledger, Verdict
from ems.clock import Clock
from ems.errors import UnknownSite
from ems.live import Live
from ems.messages import AcknowledgementMessage
from ems.store import Override, OverrideKind, Store

_log = logging.getLogger(__name__)

LONGEST_PAUSE = timedelta(days=366)
"""Nothing is switched off for ever by one tap; after a year somebody is asked again."""


class Commands:
    """Requests of residents and operators."""

    def __init__(
        self,
        *,
        site_ids: frozenset[str],
        store: Store,
        live: Live,
        clock: Clock,
        ledger: Ledger,
        changed: Callable[[str], None] | None = None,
    ) -> None:
        """Take what commands act on.

        Parameters
        ----------
        site_ids
            Sites of the service.
        store, live, clock
            Where requests are kept, who is told of them, and the time they are made at.
        ledger
            Who keeps what building controllers say.
        changed
            Called with the site id after each request, from any thread, so that devices follow at once.
        """
        self._site_ids = site_ids
        self._store = store
        self._live = live
        self._clock = clock
        self._ledger = ledger
        self._changed = changed

    def pause(self, who: Principal, site_id: str, *, lasts: timedelta, note: str = "") -> Override:
        """Take a site out of automatic control for a while; an earlier pause is replaced.

        Parameters
        ----------
        who
            The person asking; their key id goes on record.
        site_id
            The site.
        lasts
            For how long, more than 0 and at most `LONGEST_PAUSE`.
        note
            What they say about it.
        """
        self._require(who, site_id)
        if not timedelta() < lasts <= LONGEST_PAUSE:
            raise ValueError(f"a pause lasts more than 0 and at most {LONGEST_PAUSE.days} days, not {lasts}")
        now = self._clock.now()
        for held in self._held(site_id, now):
            self._store.end_override(held.id, now, who.id)
        pause = Override(
            id=str(uuid4()),
            site_id=site_id,
            by=who.id,
            kind=OverrideKind.PAUSE,
            from_at=now,
            until_at=now + lasts,
            note=note,
        )
        self._store.save_override(pause)
        _log.info("control.paused site=%s by=%s until=%s", site_id, who.id, pause.until_at.isoformat())
        self._tell(site_id)
        return pause

    def resume(self, who: Principal, site_id: str) -> bool:
        """Hand a site back to automatic control; False when it was not paused."""
        self._require(who, site_id)
        now = self._clock.now()
        held = self._held(site_id, now)
        for pause in held:
            self._store.end_override(pause.id, now, who.id)
        if held:
            _log.info("control.resumed site=%s by=%s", site_id, who.id)
            self._tell(site_id)
        return bool(held)

    def acknowledge(self, who: Principal, site_id: str, message: AcknowledgementMessage) -> Verdict:
        """Keep what a building controller says about a setpoint; on disk when it returns."""
        self._require(who, site_id)
        return self._ledger.record(message, site_id=site_id, channel="http")

    def paused(self, at: datetime) -> frozenset[str]:
        """Return the sites whose people took control at `at`."""
        return frozenset(override.site_id for override in self._store.overrides_active(at))

    def _held(self, site_id: str, at: datetime) -> tuple[Override, ...]:
        return tuple(o for o in self._store.overrides_active(at) if o.site_id == site_id)

    def _require(self, who: Principal, site_id: str) -> None:
        if site_id not in self._site_ids or not who.sees(site_id):
            raise UnknownSite(f"no site {site_id!r} that you may see")

    def _tell(self, site_id: str) -> None:
        self._live.announce()
        if self._changed is not None:
            self._changed(site_id)
