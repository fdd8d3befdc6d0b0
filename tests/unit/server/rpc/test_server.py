from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from mlship import errors
from mlship.server import listen
from mlship.server.rpc import call, server


async def echo(raw: bytes, context: call.Call) -> tuple[bytes, ...]:
    return (raw,)


METHODS = {b"/t.T/Echo": call.Method(unary=echo)}


async def test_a_unix_socket_and_a_port_at_once(tmp_path: pathlib.Path) -> None:
    made = server.Server(METHODS, max_bytes=1000)
    path = tmp_path / "grpc.sock"
    port = listen.tcp("127.0.0.1", 0)
    number = port.getsockname()[1]
    await made.listen(listen.unix(path))
    await made.listen(port)
    for address in (f"unix:{path}", f"127.0.0.1:{number}"):
        async with grpc.aio.insecure_channel(address) as channel:
            assert await channel.unary_unary("/t.T/Echo")(b"hello", timeout=10) == b"hello"
    await made.stop(1.0)
    assert not path.exists()


async def test_calls_that_do_not_end_in_time_are_cut_off() -> None:
    begun = asyncio.Event()

    async def wait(raw: bytes, context: call.Call) -> tuple[bytes, ...]:
        begun.set()
        await asyncio.Event().wait()
        return ()

    made = server.Server({b"/t.T/Wait": call.Method(unary=wait)}, max_bytes=1000)
    port = listen.tcp("127.0.0.1", 0)
    number = port.getsockname()[1]
    await made.listen(port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{number}") as channel:
        waiting: Any = channel.unary_unary("/t.T/Wait")(b"", timeout=30)
        async with asyncio.timeout(20):
            await begun.wait()
        await made.stop(0.05)
        assert await waiting.code() is grpc.StatusCode.UNAVAILABLE


async def test_stopping_one_that_never_listened() -> None:
    await server.Server({}, max_bytes=1).stop(1.0)


async def test_what_is_cut_lets_it_stop_at_once() -> None:
    begun = asyncio.Event()

    async def wait(messages: AsyncIterator[bytes], context: call.Call) -> AsyncIterator[tuple[bytes, ...]]:
        begun.set()
        async for message in messages:
            yield (message,)

    made = server.Server({b"/t.T/Wait": call.Method(stream=wait)}, max_bytes=1000)
    port = listen.tcp("127.0.0.1", 0)
    number = port.getsockname()[1]
    await made.listen(port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{number}") as channel:
        waiting: Any = channel.stream_stream("/t.T/Wait")()
        async with asyncio.timeout(20):
            await begun.wait()
            stopping = asyncio.create_task(made.stop(3600))
            await asyncio.sleep(0)
            made.cut(errors.NotReady("time is over"))
            assert await waiting.details() == "time is over"
            await stopping
