"""Signed webhooks: each setpoint is posted to the controller, again and again until it takes it or it has run out.

Headers and signature are those of Standard Webhooks (version 1 of its specification), for which there are libraries in
most languages: `webhook-id` is the setpoint's id and stays the same when it is sent again, `webhook-timestamp` is the
second it was sent, `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime

import httpx

from ems.channels.board import Change
from ems.channels.ledger import read
from ems.channels.protocol import Backoff, Heard, Told, Waiting
from ems.messages import (
    ACKNOWLEDGEMENT_SCHEMA,
    AcknowledgementMessage,
    AcknowledgementState,
    setpoint_message,
)
from ems.setpoints import Setpoint

log = logging.getLogger("ems.channels.webhook")

TIMEOUT_S = 5.0
"""A receiver that takes longer is asked again [s]."""
TRY_AGAIN = frozenset({408, 425, 429})
"""Refusals that may pass; any other 4xx is the receiver's last word."""


def signature(secret: str, *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `webhook-signature`."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    mac = hmac.digest(key_of(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(mac).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes a secret stands for: base64 after `whsec_`, else the text itself."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


class WebhookChannel:
    """The way to one controller that is told by webhook."""

    def __init__(
        self,
        url: str,
        *,
        controller_name: str,
        secret: str,
        tls: ssl.SSLContext | None,
        now: Callable[[], datetime],
        wall_s: Callable[[], float],
        heard: Heard,
        told: Told,
    ) -> None:
        """Take what it needs; nothing is sent yet.

        Parameters
        ----------
        url
            Where to post.
        controller_name
            Who answers there.
        secret
            What it is signed with.
        tls
            Certificates to trust; None: the machine's.
        now, wall_s
            Site time, for what has run out; epoch seconds, for the signature.
        heard, told
            Who keeps acknowledgements; who is told whether the receiver can be reached.
        """
        self._url = url
        self._controller = controller_name
        self._secret = secret
        self._tls = tls
        self._now = now
        self._wall_s = wall_s
        self._heard = heard
        self._told = told
        self._waiting = Waiting()
        self._backoff = Backoff()

    def offer(self, changes: Sequence[Change]) -> None:
        """Take changes; never waits, never fails."""
        self._waiting.put(changes)

    async def run(self) -> None:
        """Post what changes until cancelled; one at a time, so that a receiver sees them in order."""
        verify: ssl.SSLContext | bool = True if self._tls is None else self._tls
        async with httpx.AsyncClient(timeout=TIMEOUT_S, verify=verify, follow_redirects=False) as client:
            while True:
                key, setpoint = await self._waiting.first()
                # what was taken down is in the past for the receiver too: it knows `valid_until`
                if (
                    setpoint is None
                    or setpoint.valid_until <= self._now()
                    or await self._posted(client, setpoint)
                ):
                    self._waiting.done(key, setpoint)
                else:
                    self._waiting.last(key)
                    await self._backoff.pause()

    async def finish(self, within_s: float) -> None:
        """Carry what is left, as far as that works in time."""
        await self._waiting.emptied(within_s)

    async def _posted(self, client: httpx.AsyncClient, setpoint: Setpoint) -> bool:
        """Post once; False when it should be tried again."""
        body = setpoint_message(setpoint).to_json()
        timestamp_s = int(self._wall_s())
        headers = {
            "content-type": "application/json",
            "webhook-id": setpoint.id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signature(
                self._secret, message_id=setpoint.id, timestamp_s=timestamp_s, body=body
            ),
        }
        try:
            answer = await client.post(self._url, content=body, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            self._told(f"webhook: {type(error).__name__}: {error}")
            return False
        if answer.status_code in TRY_AGAIN or answer.status_code >= 500 or answer.is_redirect:
            self._told(f"webhook: HTTP {answer.status_code}")
            return False
        self._told(None)
        self._backoff.worked()
        await self._heard(self._said(setpoint, answer))
        return True

    def _said(self, setpoint: Setpoint, answer: httpx.Response) -> AcknowledgementMessage:
        """Return the acknowledgement in the answer, or the one its status stands for."""
        said = read(answer.content) if answer.is_success and answer.content else None
        if said is not None and said.setpoint_id == setpoint.id:
            return said
        return AcknowledgementMessage(
            schema_=ACKNOWLEDGEMENT_SCHEMA,
            setpoint_id=setpoint.id,
            state=AcknowledgementState.RECEIVED if answer.is_success else AcknowledgementState.REFUSED,
            at=self._now(),
            detail="" if answer.is_success else f"HTTP {answer.status_code}",
            controller=self._controller,
        )
