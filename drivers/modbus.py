"""One owner per endpoint: every request to it passes here, one after the other.

What a link promises: one request in flight; the device's minimum gap kept; after any time-out, odd answer or
cancellation the connection is closed before the next request, so a late answer is never taken for another one
(RTU has no transaction id, there a closed connection is not enough: see `_give_up` and `_resync`); reads are
repeated once when the connection was stale, writes never; an endpoint or unit that stays silent is asked ever less
often and costs nobody else anything.
"""

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Self

from drivers.endpoints import Endpoint, parse_endpoint
from drivers.errors import EndpointError
from drivers.frames import (
    READ_FUNCTIONS,
    ExceptionAnswerError,
    GarbledError,
    Request,
    check_answer,
    read_request,
    write_coil_request,
    write_register_request,
    write_registers_request,
)
from drivers.protocols import Clock, Trouble, TroubleKind
from drivers.wire import OpensWires, Wire, open_wire


class LinkError(Exception):
    """A request that did not succeed; `trouble` says why. Never leaves this package."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.detail)
        self.trouble = trouble


@dataclass(slots=True)
class LinkCounters:
    """What happened on one endpoint since start; plain numbers for metrics."""

    requests: int = 0
    """Requests sent."""
    answers: int = 0
    """Requests answered as asked."""
    timeouts: int = 0
    """Requests without an answer in time."""
    garbled: int = 0
    """Answers to another question, or none at all."""
    exceptions: int = 0
    """Modbus exception answers."""
    connects: int = 0
    """Connections made."""
    failed_connects: int = 0
    """Connections refused or timed out."""
    skipped: int = 0
    """Requests not sent because the endpoint or unit was backing off."""
    late_discarded: int = 0
    """RTU answers that came after their request was given up, recognised and thrown away."""
    writes: int = 0
    """Write requests sent."""
    refused_writes: int = 0
    """Write requests stopped because the link is read-only."""


@dataclass(slots=True)
class _BackOff:
    """Memory of failures: half-open after a pause that doubles, forgotten on success."""

    first_s: float
    longest_s: float
    spread_frac: float
    """0..1, so that many endpoints lost at once do not come back at once."""
    patience: int
    """Failures in a row before the first pause."""
    failures: int = 0
    closed_until: float = 0.0
    cause: str = ""

    def failed(self, now: float, cause: str) -> None:
        self.failures += 1
        self.cause = cause
        if self.failures >= self.patience:
            pause = min(self.longest_s, self.first_s * 2.0 ** min(self.failures - self.patience, 20))
            self.closed_until = now + pause * (1.0 + 0.25 * self.spread_frac)

    def succeeded(self) -> None:
        self.failures, self.closed_until = 0, 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pacing:
    """How patient a link is; all in wall-clock seconds."""

    timeout_s: float = 1.0
    """Longest wait for an answer."""
    connect_timeout_s: float = 3.0
    """Longest wait for a connection."""
    first_pause_s: float = 1.0
    """First pause of a silent endpoint or unit; doubles with each failed probe."""
    longest_pause_s: float = 60.0
    """Longest pause between probes."""
    settle_s: float = 0.05
    """Silence wanted on an RTU line after a lost answer."""
    forget_late_s: float = 30.0
    """After so long no RTU device still answers an old request."""
    keep_gaps: bool = True
    """Keep the pauses devices ask for; simulated devices need none."""


class Link:
    """The one owner of the connection to an endpoint."""

    def __init__(
        self, endpoint: Endpoint, *, pacing: Pacing, read_only: bool, opener: OpensWires = open_wire
    ) -> None:
        self.endpoint = endpoint
        self.counters = LinkCounters()
        self.read_only = read_only
        self._pacing = pacing
        self._opener = opener
        # 3.5 characters of silence part two frames, but no less than 1.75 ms (MODBUS over Serial Line V1.02, 2.5.1.1)
        self._min_gap_s = max(38.5 / endpoint.baud, 0.00175) if endpoint.scheme == "rtu" else 0.0
        self._s_per_byte = 11.0 / endpoint.baud if endpoint.scheme == "rtu" else 0.0
        self._timeout_s = pacing.timeout_s
        self._lock = asyncio.Lock()
        self._wire: Wire | None = None
        self._last_at = 0.0
        self._back_off = self._new_back_off(patience=1)
        self._units: dict[int, _BackOff] = {}
        self._unsettled: dict[tuple[int, int, int], float] = {}
        self._last_shape: tuple[int, int, int] | None = None
        self._given_up = 0

    @property
    def is_connected(self) -> bool:
        """Whether the connection made last still stands, as far as anybody knows."""
        return self._wire is not None and self._wire.lost is None

    def require(self, *, min_gap_s: float = 0.0, timeout_s: float = 0.0) -> None:
        """Slow down to what a device on this endpoint needs; the slowest of all wins."""
        if self._pacing.keep_gaps:
            self._min_gap_s = max(self._min_gap_s, min_gap_s)
        self._timeout_s = max(self._timeout_s, timeout_s)

    async def read(self, unit: int, function: int, address: int, count: int) -> bytes:
        """Registers as big-endian bytes, or bits as Modbus packs them.

        Raises
        ------
        LinkError
            Whatever went wrong, typed.
        """
        request = read_request(unit, function, address, count)
        try:
            return await self._ask(request)
        except LinkError as error:
            garbled = error.trouble.kind is TroubleKind.GARBLED
            if not garbled and not isinstance(error.__cause__, ConnectionError):
                raise
            try:
                return await self._ask(request)
            except LinkError as again:
                raise (error if garbled else again) from None

    async def write_registers(self, unit: int, address: int, payload: bytes) -> None:
        """Set consecutive registers in one request; never repeated by the link."""
        await self._write(write_registers_request(unit, address, payload))

    async def write_register(self, unit: int, address: int, word: bytes) -> None:
        """Set one register with function 6; never repeated by the link."""
        await self._write(write_register_request(unit, address, word))

    async def write_coil(self, unit: int, address: int, *, on: bool) -> None:
        """Set one coil; never repeated by the link."""
        await self._write(write_coil_request(unit, address, on=on))

    async def forward(self, unit: int, pdu: bytes, answer_size: int, echo: bytes | None) -> bytes:
        """Pass a request of another client through (the proxy); the answer PDU comes back."""
        request = Request(unit, pdu, answer_size, echo)
        try:
            data = await self._ask(request)
        except LinkError as error:
            if error.trouble.exception_code is not None:
                return bytes((pdu[0] | 0x80, error.trouble.exception_code))
            raise
        return echo if echo is not None else bytes((pdu[0], len(data))) + data

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            self._drop()

    async def _write(self, request: Request) -> None:
        await self._ask(request)

    async def _ask(self, request: Request) -> bytes:
        if self.read_only and request.function not in READ_FUNCTIONS:
            self.counters.refused_writes += 1
            raise self._error(TroubleKind.READ_ONLY, request, "write stopped, the link is read-only")
        async with self._lock:
            loop = asyncio.get_running_loop()
            unit = self._units.get(request.unit)
            self._stop_if_backing_off(request, unit, loop.time())
            wire = await self._connected(request, loop)
            try:
                if wire.strayed and self._last_shape is not None:
                    self._unsettled[self._last_shape] = loop.time()
                if self._unsettled and self._is_unsettled(request, loop.time()):
                    await self._settle(wire, loop)
                    await self._resync(wire, request, loop)
                data = await self._exchange(wire, request, loop)
            except ExceptionAnswerError as error:
                self._given_up = 0
                self.counters.exceptions += 1
                self._note_unit(request.unit, loop.time(), str(error) if error.code in (10, 11) else None)
                raise self._error(
                    TroubleKind.EXCEPTION, request, str(error), exception_code=error.code
                ) from error
            except TimeoutError as error:
                self._give_up(request, loop.time(), keep=True)
                self.counters.timeouts += 1
                self._note_unit(request.unit, loop.time(), "no answer")
                raise self._error(
                    TroubleKind.TIMEOUT, request, f"no answer within {self._timeout_s:g} s"
                ) from error
            except GarbledError as error:
                self._give_up(request, loop.time())
                self.counters.garbled += 1
                self._note_unit(request.unit, loop.time(), str(error))
                raise self._error(TroubleKind.GARBLED, request, str(error)) from error
            except OSError as error:
                self._give_up(request, loop.time())
                self._note_unit(request.unit, loop.time(), f"connection lost: {error}")
                raise self._error(TroubleKind.UNREACHABLE, request, f"connection lost: {error}") from error
            except BaseException:
                self._give_up(request, loop.time(), keep=True)
                raise
            self._given_up = 0
            self.counters.answers += 1
            if unit is not None:
                unit.succeeded()
            return data

    async def _exchange(self, wire: Wire, request: Request, loop: asyncio.AbstractEventLoop) -> bytes:
        if self._min_gap_s and (wait_s := self._last_at + self._min_gap_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        self.counters.requests += 1
        if request.function not in READ_FUNCTIONS:
            self.counters.writes += 1
        self._last_shape = request.shape
        future = wire.send(wire.framing.wrap(request))
        timer = loop.call_later(self._patience_s(request), _expire, future)
        try:
            unit, pdu = await future
        finally:
            timer.cancel()
            self._last_at = loop.time()
        return check_answer(request, unit, pdu)

    def _patience_s(self, request: Request) -> float:
        """Longest wait for an answer: the device's time, and on a slow line that of the bytes themselves [s]."""
        return self._timeout_s + self._s_per_byte * (len(request.pdu) + request.answer_size + 6)

    async def _resync(self, wire: Wire, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        """Make sure no answer of a given-up request is still on its way.

        An RTU device answers in order. A read whose size differs from every given-up one is asked; whatever comes
        before its answer is late and thrown away; when its answer is here, all earlier ones are.
        """
        function, address = (request.function, int.from_bytes(request.pdu[1:3], "big"))
        if function not in READ_FUNCTIONS:
            function, address = 3, int.from_bytes(request.pdu[1:3], "big")
        taken = {shape[2] for shape in self._unsettled if shape[0] == request.unit and shape[1] == function}
        wanted = max(1, (request.answer_size - 2) // 2)
        candidates = (read_request(request.unit, function, address, n) for n in _by_distance(wanted))
        probe = next(p for p in candidates if p.answer_size not in taken)
        self._unsettled[probe.shape] = loop.time()
        deadline = loop.time() + self._patience_s(probe)
        future = wire.send(wire.framing.wrap(probe))
        self.counters.requests += 1
        while True:
            timer = loop.call_at(deadline, _expire, future)
            try:
                unit, pdu = await future
                check_answer(probe, unit, pdu)
                break
            except ExceptionAnswerError:
                break
            except GarbledError:
                self.counters.late_discarded += 1
                future = wire.expect_next()
            finally:
                timer.cancel()
                self._last_at = loop.time()
        self._unsettled = {shape: at for shape, at in self._unsettled.items() if shape[0] != request.unit}

    def _is_unsettled(self, request: Request, now: float) -> bool:
        oldest = now - self._pacing.forget_late_s
        self._unsettled = {shape: at for shape, at in self._unsettled.items() if at > oldest}
        return any(shape[0] == request.unit for shape in self._unsettled)

    def _give_up(self, request: Request, now: float, *, keep: bool = False) -> None:
        """Forget the answer of a request. What may still come is known by its shape until resynchronised.

        An RTU connection is kept the first time: on one connection the order of answers is certain, on a new one a
        request still in a converter's buffer could be answered after ours.
        """
        self._given_up += 1
        in_order_only = self._wire is not None and self._wire.framing.in_order_only
        if in_order_only:
            self._unsettled[request.shape] = now
        if not (in_order_only and keep and self._given_up == 1):
            self._drop()

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _connected(self, request: Request, loop: asyncio.AbstractEventLoop) -> Wire:
        if self._wire is not None and self._wire.lost is None:
            return self._wire
        self._drop()
        try:
            async with asyncio.timeout(self._pacing.connect_timeout_s):
                wire = await self._opener(self.endpoint)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            self.counters.failed_connects += 1
            cause = str(error) or f"no connection within {self._pacing.connect_timeout_s:g} s"
            self._back_off.failed(loop.time(), cause)
            raise self._error(TroubleKind.UNREACHABLE, request, cause) from None
        self._wire = wire
        self.counters.connects += 1
        self._back_off.succeeded()
        return wire

    async def _settle(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until an RTU line is quiet; bytes nobody asked for are thrown away meanwhile."""
        wire.heard_at, deadline = loop.time(), loop.time() + self._timeout_s
        while (left_s := min(wire.heard_at + self._pacing.settle_s, deadline) - loop.time()) > 0.0:  # noqa: ASYNC110 - waits for silence, not for an event
            await asyncio.sleep(left_s)

    def _stop_if_backing_off(self, request: Request, unit: _BackOff | None, now: float) -> None:
        for memory in (self._back_off, unit):
            if memory is not None and now < memory.closed_until:
                self.counters.skipped += 1
                wait = f"{memory.cause}; {memory.failures} failures, next try in {memory.closed_until - now:.1f} s"
                raise self._error(TroubleKind.BACKING_OFF, request, wait)

    def _note_unit(self, unit: int, now: float, failure: str | None) -> None:
        if failure is None:
            if unit in self._units:
                self._units[unit].succeeded()
            return
        if unit not in self._units:
            self._units[unit] = self._new_back_off(patience=3, salt=unit)
        self._units[unit].failed(now, failure)

    def _new_back_off(self, *, patience: int, salt: int = 0) -> _BackOff:
        return _BackOff(
            first_s=self._pacing.first_pause_s,
            longest_s=self._pacing.longest_pause_s,
            spread_frac=(zlib.crc32(self.endpoint.text.encode(), salt) & 0xFFFF) / 0xFFFF,
            patience=patience,
        )

    def _error(
        self, kind: TroubleKind, request: Request, what: str, *, exception_code: int | None = None
    ) -> LinkError:
        address = int.from_bytes(request.pdu[1:3], "big")
        where = f"{self.endpoint.text} unit {request.unit} function {request.function} address {address}"
        return LinkError(Trouble(kind=kind, detail=f"{where}: {what}", exception_code=exception_code))


def _expire(future: "asyncio.Future[tuple[int, bytes]]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _by_distance(wanted: int) -> list[int]:
    """1..125 without `wanted`, nearest below first."""
    return sorted(set(range(1, 126)) - {wanted}, key=lambda n: (abs(n - wanted), n))


class LinkPool:
    """Owns one link per endpoint.

    Parameters
    ----------
    clock
        Aware UTC; stamps samples and runs validity of setpoints. Time-outs use the event loop's own time.
    read_only
        Refuse write function codes on every link, in the transport.
    timeout_s
        Longest wait for an answer [s, wall time].
    pacing
        All time-outs and pauses; replaces `timeout_s`.
    opener
        How connections are made; tests pass their own.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        read_only: bool = False,
        timeout_s: float = 1.0,
        pacing: Pacing | None = None,
        opener: OpensWires = open_wire,
    ) -> None:
        self.clock = clock
        self.read_only = read_only
        self.pacing = pacing or Pacing(timeout_s=timeout_s)
        self._opener = opener
        self._links: dict[tuple[str, str, int, str], Link] = {}

    def link(self, endpoint: str) -> Link:
        """The owner of an endpoint, made when first asked for; one for every way to write the same place.

        Raises
        ------
        EndpointError
            The string cannot be understood, or asks for other settings than another device at the same place.
        """
        parsed = parse_endpoint(endpoint)
        link = self._links.get(parsed.place)
        if link is None:
            link = self._links[parsed.place] = Link(
                parsed, pacing=self.pacing, read_only=self.read_only, opener=self._opener
            )
        if link.endpoint.settings != parsed.settings:
            raise EndpointError(
                f"endpoint {endpoint!r}: the same place has other settings in {link.endpoint.text!r}; "
                "devices on one line share its settings"
            )
        return link

    @property
    def counters(self) -> Mapping[str, LinkCounters]:
        """By endpoint string, as first written."""
        return MappingProxyType({link.endpoint.text: link.counters for link in self._links.values()})

    async def close(self) -> None:
        """Close every connection."""
        for link in self._links.values():
            await link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
