"""uvicorn in process: one listening socket, signals left alone, errors of its own in the wire's form.

uvicorn is told nothing that it could decide otherwise: no signal handlers, no lifespan, no websockets, no access log.
The protocol class adds what ASGI cannot say cheaply: a listener for the client's hanging up (``rest_api.HANGUP``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http import httptools_impl

from mlship import errors
from mlship.protocol import json_codec
from mlship.server.rest import rest_api

_KEEP_ALIVE_SECONDS = 75


class Protocol(httptools_impl.HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hangup: set[Callable[[], None]] = set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {rest_api.HANGUP: self._hangup}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for told in list(self._hangup):
            told()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP request is answered in the error form of all others."""
        body = json_codec.encode_error(msg, code=errors.Reason.INVALID.value)
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server without its signal handlers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class HttpServer:
    """Serves ``app`` on a listening socket: ``run`` as a task, ``up`` when it accepts, ``stop`` to drain.

    Args:
        drain_seconds: how long requests under way may take after ``stop``; then they are cancelled.
    """

    def __init__(self, app: rest_api.App, listener: socket.socket, *, drain_seconds: float) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=Protocol,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            backlog=2048,
        )
        # The parameter's type says int, its use is asyncio.wait_for.
        config.timeout_graceful_shutdown = drain_seconds  # type: ignore[assignment]
        self._server = _Uvicorn(config)
        self._listener = listener

    @property
    def up(self) -> asyncio.Event:
        """Set when connections are accepted."""
        return self._server.up

    async def run(self) -> None:
        """Serve until ``stop``; returns when the requests under way are answered or cut off."""
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Accept nobody any more, let those inside finish."""
        self._server.should_exit = True
