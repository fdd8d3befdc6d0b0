"""uvicorn in process: one listening socket, signals left alone, errors of its own in the wire's form.

uvicorn is told nothing that it could decide otherwise: no signal handlers, no lifespan, no websockets, no access log.
A connection is ``http_protocol.Protocol``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from mlship.server.rest import http_protocol, rest_api

_KEEP_ALIVE_SECONDS = 75


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
            http=http_protocol.Protocol,
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
