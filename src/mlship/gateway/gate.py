"""Envoy asks here, over a Unix socket, whether a request to a gated service may go on.

Envoy's external-authorization filter sends a question, an HTTP/1.1 request without a body, and holds the request itself
until the answer comes; a caller that leaves is a connection that closes. What is answered is decided in ``waiting``;
this is the socket, the clock and the answers' bytes. A question costs no task: it is a connection and an entry.

200 lets the request go on. Another status refuses it: Envoy answers the caller with 503, the Retry-After and, in the
protocol's form, the sentence.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Protocol, cast

import httptools

from mlship.gateway import render, waiting
from mlship.plan import observed, routes

_Answered = waiting.Answered
_YES = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_NO = b"HTTP/1.1 %d Refused\r\ncontent-type: text/plain\r\nretry-after: %d\r\ncontent-length: %d\r\n\r\n"
_NAME = render.GATE_HEADER.encode()
_TRACE = render.TRACE_HEADER.encode()
# Envoy refuses larger local replies than its buffers; a sentence is shorter.
_LONGEST_REASON = 3500


class Observer(Protocol):
    """Who wants to know when callers begin to wait and when they go on: the record of cold starts."""

    def wished(self, key: observed.ServiceKey, *, at: float, traceparent: str = "") -> None:
        """A first caller waits since ``at`` (Unix seconds); ``traceparent`` is its request's, empty without one."""
        ...

    def answered(self, key: observed.ServiceKey, *, at: float) -> None:
        """Callers who waited were let go on at ``at``."""
        ...


class Gate:
    """The questions and their answers. ``start`` begins to listen, ``close`` answers everybody.

    Args:
        clock: Unix seconds, for the observer.
    """

    def __init__(self, observer: Observer | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._observer = observer
        self._clock = clock
        self._waiting = waiting.Waiting()
        self._askers: dict[int, _Asker] = {}
        self._numbers = itertools.count()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._news: dict[observed.ServiceKey, None] = {}
        self._more = asyncio.Event()

    async def start(self, listener: socket.socket) -> None:
        """Listen on a bound Unix socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Asker(self), sock=listener, backlog=4096)

    async def close(self) -> None:
        """Take no more questions and answer those that are held: whoever comes next starts the service."""
        if self._server is not None:
            self._server.close()
        self._tell(self._waiting.close("The control plane is ending, and with it the wait for a replica; try again."))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def open(self) -> bool:
        """Whether Envoy can ask."""
        return self._server is not None and self._server.is_serving()

    def waiting(self, service: observed.ServiceKey) -> int:
        """How many callers are held."""
        return self._waiting.waiting(service)

    async def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """The services that callers wait for: when the first begins to, each second while one does, and at the end."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._news:
                service = next(iter(self._news))
                del self._news[service]
                yield service

    # The publisher's side.

    def tell(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None:
        """What the plan wants of a service: the terms of waiting for it; None: it is gone."""
        self._tell(self._waiting.forget(service) if route is None else self._waiting.tell(route))

    def serve(self, service: observed.ServiceKey, revisions: frozenset[str]) -> None:
        """The revisions Envoy has endpoints of, by its own word, and keeps for now."""
        answered = self._waiting.serve(service, revisions, now=_now())
        if answered and self._observer is not None:
            self._observer.answered(service, at=self._clock())
        self._tell(answered)

    def needed(self, service: observed.ServiceKey, *, seconds: float) -> Mapping[str, float | None]:
        """The revisions that callers wait for (None) or were let in to within ``seconds`` (until when: loop time)."""
        return self._waiting.needed(service, now=_now(), seconds=seconds)

    # The socket's side.

    def ask(self, asker: _Asker, name: str, traceparent: str = "") -> None:
        """A question. ``name`` is ``NAMESPACE/NAME REVISION...``, from the route that Envoy took."""
        full, _, revisions = name.partition(" ")
        key = observed.ServiceKey(*full.partition("/")[::2])
        number = next(self._numbers)
        alone = not self._waiting.waiting(key)
        answer = self._waiting.ask(number, key, revisions=frozenset(revisions.split()), now=_now())
        if answer is None:
            if alone and self._observer is not None:
                self._observer.wished(key, at=self._clock(), traceparent=traceparent)
            asker.number = number
            self._askers[number] = asker
            self._turn()
        else:
            asker.answer(answer)

    def left(self, number: int) -> None:
        """Who asked has closed the connection."""
        if self._askers.pop(number, None) is not None:
            self._waiting.cancel(number)

    def _tell(self, answered: Iterable[_Answered]) -> None:
        for number, answer in answered:
            self._askers.pop(number).answer(answer)

    def _turn(self) -> None:
        """Say what is due, and set the clock for what will be."""
        now = _now()
        self._tell(self._waiting.expire(now))
        for service in self._waiting.news(now):
            self._news[service] = None
            self._more.set()
        at = self._waiting.wake_at()
        if self._timer is not None:
            if at is not None and self._timer.when() <= at and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = None if at is None else asyncio.get_running_loop().call_at(at, self._rang)

    def _rang(self) -> None:
        self._timer = None
        self._turn()


class _Asker(asyncio.Protocol):
    """One connection of Envoy's: one question at a time."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._parser = httptools.HttpRequestParser(self)
        self._name = self._trace = ""
        self.number: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._name = self._trace = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == _NAME:
            self._name = value.decode("latin-1")
        elif lowered == _TRACE:
            self._trace = value.decode("latin-1")

    def on_message_complete(self) -> None:
        self._gate.ask(self, self._name, self._trace)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.number is not None:
            self._gate.left(self.number)

    def answer(self, said: waiting.Answer) -> None:
        """Answer the question that was asked on this connection."""
        self.number = None
        if said.yes:
            self._transport.write(_YES)
            return
        reason = said.reason[:_LONGEST_REASON].encode()
        # The question has its request's method, and the answer to a HEAD has no body.
        body = b"" if self._parser.get_method() == b"HEAD" else reason
        self._transport.write(_NO % (render.REFUSED, said.retry_after, len(body)) + body)


def _now() -> float:
    return asyncio.get_running_loop().time()
