from __future__ import annotations

import asyncio
import json
import pathlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio

from mlship.server import listen
from mlship.server.rest import exchange, http_server, rest_api

App = Callable[[Any, Any, Any], Awaitable[None]]


class Running:
    """A server around an application of the test's own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "s"
        self.app: App = self._answer
        self.server = http_server.HttpServer(self._call, listen.unix(self.path), drain_seconds=0.2)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.server.run())

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await exchange.respond(send, exchange.json({"path": scope["path"]}))

    def client(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.path))
        return httpx.AsyncClient(transport=transport, base_url="http://server", timeout=30)


@pytest_asyncio.fixture
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    made = Running(tmp_path_factory.mktemp("h"))
    async with asyncio.timeout(30):
        await made.server.up.wait()
        yield made
        made.server.stop()
        await made.task


async def test_it_serves_and_leaves_signals_alone(running: Running) -> None:
    async with running.client() as client:
        assert (await client.get("/a")).json() == {"path": "/a"}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_a_hang_up_is_told_to_who_listens(running: Running) -> None:
    told, started = asyncio.Event(), asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][rest_api.HANGUP].add(told.set)
        started.set()
        await told.wait()

    running.app = wait
    _, writer = await asyncio.open_unix_connection(str(running.path))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await started.wait()
    writer.close()
    await writer.wait_closed()
    await told.wait()


async def test_what_is_no_http_gets_the_error_form(running: Running) -> None:
    reader, writer = await asyncio.open_unix_connection(str(running.path))
    writer.write(b"hello there\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["code"] == "Invalid"


async def test_stop_lets_those_inside_finish(running: Running) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await release.wait()
        await exchange.respond(send, exchange.json({}))

    running.app = wait
    async with running.client() as client:
        asked = asyncio.create_task(client.get("/"))
        await started.wait()
        running.server.stop()
        release.set()
        assert (await asked).status_code == 200
    await running.task
