"""One HTTP connection: requests for an inference go straight to the application, everything else through ASGI.

uvicorn's httptools protocol, with a short cut. A POST to an inference route is held while it is parsed; when it is
complete, ``_Lean`` takes the place of uvicorn's request cycle: no scope, no messages, no queue of events, and one write
for the whole answer. What is not complete soon, is very large, or expects ``100 Continue`` is handed to ASGI with what
has come so far, so that limits while streaming, slow bodies and back-pressure exist once, there. uvicorn's own pipeline
orders the answers of both kinds, its keep-alive and its shutdown know both.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

from uvicorn.protocols.http import httptools_impl

from mlship import errors
from mlship.protocol import json_codec
from mlship.server.rest import exchange, rest_api, routing

# A request that is larger, or of which nothing more comes for this time, is ASGI's.
_MAX_HELD = 4 * 1024 * 1024
_HOLD_SECONDS = 0.005
# A path that uvicorn would not read otherwise than it is written: no query, no fragment, no authority.
_END_OF_HEAD = b"\r\n\r\n"
_PLAIN = re.compile(rb"/(?!/)[!$-.0-9:;=@A-Z_a-z~%/]{1,512}")


class _Lean(rest_api.Flight):
    """A complete request on its way: in uvicorn's eyes a request cycle, of which it reads the public attributes."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(
        self,
        protocol: Protocol,
        app: rest_api.App,
        request: exchange.Request,
        route: routing.Route,
        *,
        keep_alive: bool,
    ) -> None:
        super().__init__(app, request, route)
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY

    def tell(self, response: exchange.Response, request_id: str) -> None:
        """Write the whole answer, as soon as the transport takes it."""
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        if protocol.flow.write_paused:
            protocol.later(self._tell_drained(response, request_id))
        else:
            self._write(response, request_id)

    async def _tell_drained(self, response: exchange.Response, request_id: str) -> None:
        await self._protocol.flow.drain()
        if not self.disconnected and not self._protocol.transport.is_closing():
            self._write(response, request_id)

    def _write(self, response: exchange.Response, request_id: str) -> None:
        protocol = self._protocol
        head = protocol.head(response.status, response.content_type)
        more = exchange.more_headers(response, request_id) if response.headers or request_id else b""
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        protocol.transport.write(b"%b%d\r\n%b%b%b" % (head, len(response.body), more, end, response.body))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


class _Heads:
    """The beginnings of answers by status and type, up to their length, made from one list of headers."""

    def __init__(self) -> None:
        self.of: object = None
        self.made: dict[tuple[int, bytes], bytes] = {}


_HEADS = _Heads()


class _Nobody:
    """Stands for the event on which uvicorn's cycle waits for more of a body: here nobody does."""

    def set(self) -> None:
        pass


_NOBODY = _Nobody()


class _Same(NamedTuple):
    """A request that came in one piece, but for its body: a client that stays sends the same again and again.

    What comes next and begins with the same ``head``, and has the ``size`` that this one says, is not parsed anew.
    """

    head: bytes
    size: int
    route: routing.Route
    names: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    path: str


class Protocol(httptools_impl.HttpToolsProtocol):
    """One connection. The application may be ``rest_api.App``, whose inferences take the short cut, or any other."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hangup: set[Any] = set()
        self.lean_app = self.config.app if isinstance(self.config.app, rest_api.App) else None
        # The request being held: its route, and the chunks of its body so far.
        self._held: rest_api.Found | None = None
        self._head: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._keep_alive = True
        self._idle_since: float | None = None
        self._late: asyncio.TimerHandle | None = None
        # Whether the parser is between two messages; what is being fed to it, if that began so; how the last one went.
        self._between = True
        self._piece = b""
        self._same: _Same | None = None

    # What the parser finds

    def on_message_begin(self) -> None:
        self._between = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        # Fields behind a chunked body are read like headers; they are none.
        self._head, self.headers = self.headers, []
        self._held = self._short_cut()
        if self._held is None:
            self._begin_asgi()

    def _short_cut(self) -> rest_api.Found | None:
        app, parser = self.lean_app, self.parser
        if app is None or self.expect_100_continue or self.limit_concurrency is not None:
            return None
        if parser.get_method() != b"POST" or parser.should_upgrade():
            return None
        found = app.known.get(self.url)
        if found is None:
            found = app.inference(self.url) if _PLAIN.fullmatch(self.url) else None
            if found is None:
                return None
        if self._is_large() and app.crowded(found):
            return None  # It is refused while it comes; what still comes of it is passed over.
        self._chunks, self._size = [], 0
        self._keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        return found

    def _is_large(self) -> bool:
        return any(len(value) > 5 and name == b"content-length" for name, value in self._head)

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > _MAX_HELD:
            self._give_up_holding()

    def on_message_complete(self) -> None:
        self._between = True
        if self._held is None:
            super().on_message_complete()
            return
        headers = dict(self._head)
        if b"content-encoding" in headers:
            self._give_up_holding()
            super().on_message_complete()
            return
        (route, names), self._held = self._held, None
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        path = self.url.decode("ascii")
        self._same = self._remembered(body, _Same(b"", 0, route, names, headers, path)) if self._keep_alive else None
        request = exchange.Request("POST", headers, names, None, body, path, self._hangup)
        self._start(_Lean(self, self.lean_app, request, route, keep_alive=self._keep_alive))  # type: ignore[arg-type]

    def _remembered(self, body: bytes, same: _Same) -> _Same | None:
        """``same`` with its head, if the request and nothing else was the piece that is being fed."""
        size, piece = len(body), self._piece
        if not size or not piece.endswith(body) or b"x-request-id" in same.headers:
            return None
        head = piece[:-size]
        if head.find(_END_OF_HEAD) != len(head) - len(_END_OF_HEAD) or b"transfer-encoding" in same.headers:
            return None
        return same._replace(head=head, size=len(piece))

    def _start(self, cycle: _Lean) -> None:
        """Begin with ``cycle``, or line it up behind the request before it: as uvicorn does with its own."""
        before, self.cycle = self.cycle, cycle  # type: ignore[assignment]
        if before is None or before.response_complete:
            cycle.start()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.lean_app))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, _Lean):
            # From the end of the answer before it: of a thousand in one piece, each would be inside the other's.
            self.loop.call_soon(cycle.start)
        else:
            super()._start_asgi_task(cycle, app)

    # What an answer needs

    def head(self, status: int, content_type: bytes) -> bytes:
        """An answer up to its length: what all of one kind have in common changes once a second, with the date."""
        headers = self.server_state.default_headers
        if _HEADS.of is not headers:
            _HEADS.of, _HEADS.made = headers, {}
        found = _HEADS.made.get((status, content_type))
        if found is None:
            lines = [name + b": " + value for name, value in [*headers, (b"content-type", content_type)]]
            found = httptools_impl.STATUS_LINE[status] + b"\r\n".join([*lines, b"content-length: "])
            _HEADS.made[status, content_type] = found
        return found

    # Keep-alive: one timer for a connection that looks when the last answer went out, not one for every answer

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def on_response_complete(self) -> None:
        """An answer has gone out: the next request that has come already begins, or the connection is idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idle(self.timeout_keep_alive)

    def _watch_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """The time of the idle may be over: then the connection is closed."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._watch_idle(left)
        else:
            super().timeout_keep_alive_handler()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` as a task that uvicorn knows of, as it does with its own requests."""
        task = self.loop.create_task(work)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    # The way to ASGI

    def _begin_asgi(self) -> None:
        self._same = None
        url, expect = self.url, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.scope["headers"] = self._head
        self.scope["extensions"] = {rest_api.HANGUP: self._hangup}  # type: ignore[dict-item]
        super().on_headers_complete()

    def _give_up_holding(self) -> None:
        """Hand the request being held to ASGI, with what has come of its body."""
        if self._held is None or self.transport.is_closing():
            return
        self._held = None
        self._begin_asgi()
        for chunk in self._chunks:
            super().on_body(chunk)
        self._chunks = []

    # What the transport and the server say

    def data_received(self, data: bytes) -> None:
        same = self._same
        if same is not None and len(data) == same.size and self._between and data.startswith(same.head):
            self._idle_since = None
            body = data[len(same.head) :]
            request = exchange.Request("POST", same.headers, same.names, None, body, same.path, self._hangup)
            self._start(_Lean(self, self.lean_app, request, same.route, keep_alive=True))  # type: ignore[arg-type]
            return
        self._piece = data if self._between else b""
        super().data_received(data)
        self._piece = b""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self._held is not None:
            self._late = self.loop.call_later(_HOLD_SECONDS, self._give_up_holding)

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = None
        for timer in (self._late, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        for told in list(self._hangup):
            told()

    def shutdown(self) -> None:
        """A request of which a part has come is under way: it is answered before the connection ends."""
        self._give_up_holding()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP request is answered in the error form of all others."""
        body = json_codec.encode_error(msg, code=errors.Reason.INVALID.value)
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()
