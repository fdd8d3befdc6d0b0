"""One HTTP connection: requests for an inference go straight to the application, everything else through ASGI.

uvicorn's httptools protocol, with a short cut. A POST to an inference route is held while it is parsed; when it is
complete, ``_Lean`` takes the place of uvicorn's request cycle: no scope, no messages, no queue of events, and one write
for the whole answer. What is not complete soon, is large, or expects ``100 Continue`` is handed to ASGI with what has
come so far, so that limits while streaming, slow bodies and back-pressure exist once, there. uvicorn's own pipeline
orders the answers of both kinds, its keep-alive and its shutdown know both.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http import httptools_impl

from mlship import errors
from mlship.protocol import json_codec
from mlship.server.rest import exchange, rest_api, routing

# A request that is larger, or not complete after this time, is ASGI's. The first is what one read gives at most.
_MAX_HELD = 256 * 1024
_HOLD_SECONDS = 0.005
# A path that uvicorn would not read otherwise than it is written: no query, no fragment, no authority.
_PLAIN = re.compile(rb"/(?!/)[!$-.0-9:;=@A-Z_a-z~%/]{1,512}")
_FAILED = exchange.Response(status=500, body=b"Internal Server Error", content_type=b"text/plain; charset=utf-8")


class _Lean:
    """A complete request on its way: in uvicorn's eyes a request cycle, of which it reads these attributes."""

    __slots__ = (
        "disconnected",
        "keep_alive",
        "message_event",
        "protocol",
        "request",
        "response_complete",
        "route",
    )

    def __init__(
        self, protocol: Protocol, route: routing.Route, request: exchange.Request, *, keep_alive: bool
    ) -> None:
        self.protocol = protocol
        self.route = route
        self.request = request
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.message_event = protocol.nobody

    async def run_asgi(self, app: Any) -> None:
        """Answer; uvicorn starts this as the request's task when the answers before it have gone out."""
        try:
            await app.infer(self.request, self.route, self.reply)
        except BaseException as error:  # As in uvicorn's cycle: a task cut off at shutdown is answered.
            self.protocol.logger.error("request failed", exc_info=error)
            self.keep_alive = False
            if self.response_complete:
                self.protocol.transport.close()
            else:
                await self.reply(_FAILED, "")

    async def reply(self, response: exchange.Response, request_id: str) -> None:
        """Write the whole answer."""
        protocol = self.protocol
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.flow.drain()
        if self.disconnected or protocol.transport.is_closing():
            return
        parts = [httptools_impl.STATUS_LINE[response.status]]
        for name, value in protocol.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in exchange.head(response, request_id):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n", response.body)
        protocol.transport.write(b"".join(parts))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


class _Nobody:
    """Stands for the event on which uvicorn's cycle waits for more of a body: here nobody does."""

    def set(self) -> None:
        pass


class Protocol(httptools_impl.HttpToolsProtocol):
    """One connection. The application may be ``rest_api.App``, whose inferences take the short cut, or any other."""

    nobody = _Nobody()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hangup: set[Any] = set()
        self._lean_app = self.config.app if isinstance(self.config.app, rest_api.App) else None
        # The request being held: its route, and the chunks of its body so far.
        self._held: rest_api.Found | None = None
        self._head: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._keep_alive = True
        self._late: asyncio.TimerHandle | None = None

    # What the parser finds

    def on_message_begin(self) -> None:
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
        if self._lean_app is None or self.expect_100_continue or self.limit_concurrency is not None:
            return None
        if self.parser.get_method() != b"POST" or self.parser.should_upgrade():
            return None
        found = self._lean_app.inference(self.url) if _PLAIN.fullmatch(self.url) else None
        if found is not None:
            self._chunks, self._size = [], 0
            self._keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        return found

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > _MAX_HELD:
            self._give_up_holding()

    def on_message_complete(self) -> None:
        if self._held is None:
            super().on_message_complete()
            return
        (route, names), self._held = self._held, None
        request = exchange.Request(
            method="POST",
            headers=dict(self._head),
            names=names,
            body=self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks),
            path=self.url.decode("ascii"),
            hangup=self._hangup,
        )
        self._start(_Lean(self, route, request, keep_alive=self._keep_alive))

    def _start(self, cycle: Any) -> None:
        """Begin with ``cycle``, or line it up behind the request before it: as uvicorn does with its own."""
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self._lean_app)  # type: ignore[arg-type]
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self._lean_app))  # type: ignore[arg-type]

    # The way to ASGI

    def _begin_asgi(self) -> None:
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
        super().data_received(data)
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self._held is not None:
            self._late = self.loop.call_later(_HOLD_SECONDS, self._give_up_holding)

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = None
        if self._late is not None:
            self._late.cancel()
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
