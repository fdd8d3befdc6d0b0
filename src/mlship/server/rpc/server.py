"""The gRPC server: sockets, connections, and their end."""

from __future__ import annotations

import asyncio
import functools
import logging
import pathlib
import socket
from collections.abc import Mapping

from mlship import aio
from mlship.server import logs
from mlship.server.rpc import call, http2

_ABORT_SECONDS = 1.0

LOG = logging.getLogger(__name__)


class Server:
    """Answers calls by a table of methods, on sockets that are given.

    Args:
        methods: by path, ``/package.Service/Method``.
        max_bytes: the limit of one message.
    """

    def __init__(self, methods: Mapping[bytes, call.Method], *, max_bytes: int) -> None:
        self._tasks = aio.Tasks(_log_failure)
        self._table = call.Table(methods, max_bytes, self._tasks)
        self._everybody = http2.Everybody()
        self._servers: list[asyncio.AbstractServer] = []
        self._paths: list[pathlib.Path] = []

    async def listen(self, listener: socket.socket) -> None:
        """Answer on a socket that is bound and listens; it is the server's from now on, and so is its file."""
        loop = asyncio.get_running_loop()
        made = functools.partial(http2.Connection, self._table.begin, self._everybody)
        if listener.family == socket.AF_UNIX:
            self._paths.append(pathlib.Path(listener.getsockname()))
            self._servers.append(await loop.create_unix_server(made, sock=listener))
        else:
            self._servers.append(await loop.create_server(made, sock=listener))

    def cut(self, error: Exception) -> None:
        """End every call under way with ``error``, streams and those that are still being received included."""
        for connection in list(self._everybody.connections):
            connection.cut(error)

    async def stop(self, grace: float) -> None:
        """No new connections and calls; those under way have ``grace`` seconds."""
        for server in self._servers:
            server.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
        for connection in list(self._everybody.connections):
            connection.leave()
        await aio.wait_event(self._everybody.nobody, grace)
        for connection in list(self._everybody.connections):
            connection.abort()
        await self._tasks.close()
        await aio.wait_event(self._everybody.nobody, _ABORT_SECONDS)


def _log_failure(task: str, error: BaseException) -> None:
    LOG.error("task failed", exc_info=error, extra=logs.fields(task=task))
