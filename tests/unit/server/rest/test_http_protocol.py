"""The short cut against the long way: the same bytes to both, and what comes back must be the same."""

from __future__ import annotations

import asyncio
import gzip
import pathlib
import random
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import uvicorn
import uvicorn.server as uvicorn_server

from mlship.protocol import messages
from mlship.server import infer, listen, loading, machinery, metrics, repository
from mlship.server.rest import http_protocol, http_server, rest_api

LIMIT = 300_000
SECONDS = 30
ROW = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP64","data":[1,2]}]}'
INFER = b"/v2/models/m/infer"
COUNTED = re.compile(
    r"^(mlship_(?:requests_total|request_bytes_sum|response_bytes_sum|requests_in_flight)\S*) (\S+)$", re.MULTILINE
)


class Model:
    """Doubles; a negative first number waits until the test lets it go, 500 fails."""

    platform = "test"
    signature = messages.Signature(
        inputs=(messages.TensorSpec("x", "FP64", (-1,)),), outputs=(messages.TensorSpec("y", "FP64", (-1,)),)
    )

    def __init__(self) -> None:
        self.release = threading.Event()
        self.entered = threading.Event()

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        data = inputs["x"]
        if data[0] < 0:
            self.entered.set()
            assert self.release.wait(SECONDS)
        if data[0] == 500:
            raise ValueError("as asked")
        return {"y": data * 2}

    def close(self) -> None:
        self.release.set()


class Side:
    """A server with a model of its own."""

    def __init__(self, folder: pathlib.Path, *, lean: bool) -> None:
        folder.mkdir()
        self.path = folder / "s"
        self.model = Model()
        self.engine = machinery.Machinery.start(1)
        self.models = repository.Repository(
            self.engine, queue_size=50, drain_seconds=5.0, open_model=lambda source: self.model
        )
        self.models.register(loading.Source(name="m", version="1", path=folder))
        self.metrics = metrics.Metrics()
        inference = infer.Inference(self.models, request_timeout=20.0, counters=self.metrics)
        self.app = rest_api.App(inference, max_body_bytes=LIMIT)
        self.server = http_server.HttpServer(
            self.app if lean else self._long_way,  # type: ignore[arg-type]
            listen.unix(self.path),
            drain_seconds=5.0,
        )
        self.task = asyncio.create_task(self.server.run())

    async def _long_way(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def ready(self) -> None:
        await self.server.up.wait()
        assert not await self.models.load_all()

    async def close(self) -> None:
        self.model.release.set()
        self.server.stop()
        await self.task
        await self.models.close()
        assert self.engine.close(10)

    def counted(self) -> dict[str, float]:
        """The counters of requests, without their durations."""
        return {name: float(value) for name, value in COUNTED.findall(self.metrics.render("")[0].decode())}

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                await asyncio.sleep(0.001)

    async def says(self, *parts: bytes, end: bool = False) -> bytes:
        """All that comes back until the server closes; ``parts`` are sent one by one; ``end``: then the client ends."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
                reading = group.create_task(_all(reader))
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0.001)
                if end and not writer.is_closing():
                    writer.write_eof()
            return reading.result()
        finally:
            writer.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Up to the end; a reset ends it too: a server that refuses does not read what it refused."""
    received = b""
    try:
        while chunk := await reader.read(65536):
            received += chunk
    except ConnectionError:
        pass
    return received


@pytest_asyncio.fixture
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("p")
    made = (Side(folder / "lean", lean=True), Side(folder / "asgi", lean=False))
    for side in made:
        await side.ready()
    yield made
    await asyncio.gather(*(side.close() for side in made))


def post(
    body: bytes = ROW, *, path: bytes = INFER, headers: bytes = b"", close: bool = True, length: bool = True
) -> bytes:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers
    if length:
        head += b"Content-Length: %d\r\n" % len(body)
    return head + (b"Connection: close\r\n\r\n" if close else b"\r\n") + body


def chunked(*pieces: bytes, trailer: bytes = b"", headers: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
    return post(body, headers=b"Transfer-Encoding: chunked\r\n" + headers, length=False)


def row(first: float) -> bytes:
    return ROW.replace(b"[1,", b"[%g," % first)


def plain(answer: bytes) -> bytes:
    return re.sub(rb"\r\ndate: [^\r]*", b"", answer)


CASES = {
    "v2": [post()],
    "v1": [post(b'{"instances":[1,2]}', path=b"/v1/models/m:predict")],
    "a version": [post(path=b"/v2/models/m/versions/1/infer")],
    "mlflow": [post(b'{"inputs":{"x":[1,2]}}', path=b"/invocations", headers=b"Content-Type: application/json\r\n")],
    "an escaped name": [post(path=b"/v2/models/%6d/infer")],
    "a query": [post(path=INFER + b"?a=1")],
    "an absolute path": [post(path=b"http://x" + INFER)],
    "two slashes": [post(path=b"/" + INFER)],
    "no model": [post(path=b"/v2/models/none/infer")],
    "no version": [post(path=b"/v2/models/m/versions/7/infer")],
    "not JSON": [post(b"{")],
    "nothing": [post(b"")],
    "a wrong input": [post(ROW.replace(b'"x"', b'"z"'))],
    "a failing model": [post(row(500))],
    "binary": [
        post(
            b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","parameters":{"binary_data_size":8}}],'
            b'"parameters":{"binary_data_output":true}}' + np.array([3.0]).tobytes(),
            headers=b"Inference-Header-Content-Length: 133\r\n",
        )
    ],
    "ids": [
        post(headers=b"X-Request-ID: a-1\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n")
    ],
    "an id that is none": [post(headers=b"X-Request-ID: " + b"x" * 300 + b"\r\n")],
    "a foreign id": [post(headers=b"X-Request-ID: \xe4\xff\r\n")],
    "a timeout": [post(headers=b"X-Request-Timeout: 5\r\n")],
    "a wrong timeout": [post(headers=b"X-Request-Timeout: soon\r\n")],
    "gzip": [post(gzip.compress(ROW, mtime=0), headers=b"Content-Encoding: gzip\r\n")],
    "not gzip": [post(headers=b"Content-Encoding: gzip\r\n")],
    "an unknown encoding": [post(headers=b"Content-Encoding: br\r\n")],
    "a header twice": [post(headers=b"X-Request-ID: a\r\nX-Request-ID: b\r\n")],
    "HTTP/1.0": [post().replace(b"HTTP/1.1", b"HTTP/1.0")],
    "HTTP/1.0 that would stay": [post(close=False).replace(b"HTTP/1.1", b"HTTP/1.0\r\nConnection: keep-alive")],
    "chunked": [chunked(ROW[:10], ROW[10:])],
    "chunked with a trailer": [chunked(ROW, trailer=b"X-Request-ID: late\r\n")],
    "chunked, in parts": [chunked(ROW)[:90], chunked(ROW)[90:]],
    "a broken chunk": [chunked(ROW)[:150] + b"zz\r\n"],
    "head, then body": [post()[:-40], post()[-40:]],
    "byte by byte": [post()[index : index + 1] for index in range(len(post()))],
    "100-continue": [post(headers=b"Expect: 100-continue\r\n")[: -len(ROW)], ROW],
    "100-continue, body at once": [post(headers=b"Expect: 100-continue\r\n")],
    "large": [post(ROW + b" " * (LIMIT - len(ROW)))],
    "too large": [post(ROW + b" " * LIMIT)],
    "too large, said before": [post(headers=b"Content-Length: 9999999\r\n", length=False)],
    "too large, chunked": [chunked(ROW, b" " * LIMIT)],
    "HEAD": [b"HEAD" + post(b"", length=False)[4:]],
    "GET": [b"GET" + post(b"", length=False)[4:]],
    "PUT": [b"PUT" + post()[4:]],
    "an unknown method": [b"BREW" + post()[4:]],
    "an upgrade": [
        post(headers=b"Upgrade: h2c\r\n", close=False).replace(b"Host", b"Connection: upgrade, close\r\nHost")
    ],
    "no HTTP": [b"\x16\x03\x01 hello\r\n\r\n"],
    "no length": [post(b"", length=False)],
    "a wrong length": [post(length=False, headers=b"Content-Length: x\r\n")],
    "length and chunks": [post(headers=b"Transfer-Encoding: chunked\r\n")],
    "kept alive": [post(close=False), post(row(3), close=False), post(row(4))],
    "the same again": [post(close=False), post(close=False), post(row(3), close=False), post(b"{" * len(ROW))],
    "the same, then shorter, longer, others": [
        post(close=False),
        post(ROW[:-1], close=False),
        post(ROW + b" ", close=False),
        post(close=False),
        b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n",
        post(close=False),
        post(path=b"/v2/models/none/infer"),
    ],
    "the same in two parts": [post(close=False), post(close=False)[:30], post(close=False)[30:], post()],
    "the same, one and a half": [post(close=False), post(close=False) + post()[:50], post()[50:]],
    "the same, cut before its last byte": [post(close=False), post(close=False)[:-1], post(close=False)[-1:], post()],
    "the same, chunked": [
        chunked(ROW).replace(b"Connection: close\r\n", b""),
        chunked(ROW).replace(b"Connection: close\r\n", b""),
        post(),
    ],
    "pipelined": [post(close=False) + post(row(3), close=False) + post(row(4))],
    "pipelined, mixed": [
        post(close=False)
        + b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
        + post(row(3), close=False)
        + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
        + post(headers=b"Expect: 100-continue\r\n", close=False)
        + post(row(4))
    ],
    "pipelined, the last in parts": [post(close=False) + post(row(3))[:-20], post(row(3))[-20:]],
    "pipelined behind a close": [post() + post(row(3))],
    "pipelined, then no HTTP": [post(close=False) + b"\x00\x00\r\n\r\n"],
}


@pytest.mark.parametrize("case", CASES)
async def test_both_ways_say_the_same(sides: tuple[Side, Side], case: str) -> None:
    lean, asgi = [await side.says(*CASES[case]) for side in sides]
    assert lean.startswith(b"HTTP/1.1 ")
    assert plain(lean) == plain(asgi)
    assert [name.lower() for name in re.findall(rb"\r\n(date|x-request-id): ", lean)] == [
        name.lower() for name in re.findall(rb"\r\n(date|x-request-id): ", asgi)
    ]
    for side in sides:
        await side.until(lambda side=side: not any(v for k, v in side.counted().items() if "in_flight" in k))  # type: ignore[misc]
    assert sides[0].counted() == sides[1].counted()


async def test_a_complete_request_takes_the_short_cut(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Any, scope: Any, receive: Any, send: Any) -> None:
        pytest.fail("went through ASGI")

    monkeypatch.setattr(rest_api.App, "__call__", never)
    for case in ("v2", "v1", "a version", "mlflow", "ids", "chunked", "pipelined", "head, then body", "failing"):
        parts = CASES.get(case, [post(row(500))])
        assert (await sides[0].says(*parts)).startswith(b"HTTP/1.1 ")


async def test_a_client_that_goes_is_counted_and_frees_the_queue(sides: tuple[Side, Side]) -> None:
    for side in sides:
        reader, writer = await asyncio.open_unix_connection(str(side.path))
        writer.write(post(row(-1), close=False))
        await side.until(side.model.entered.is_set)
        writer.close()
        await side.until(lambda side=side: 'code="499"' in str(side.counted()))  # type: ignore[misc]
        side.model.release.set()
        assert b'"data":[6.0,4.0]' in await side.says(post(row(3)))
        assert await reader.read() == b""
    assert sides[0].counted() == sides[1].counted()


async def test_a_body_that_never_comes_is_408(sides: tuple[Side, Side]) -> None:
    for side in sides:
        answer = await side.says(post(headers=b"X-Request-Timeout: 0.05\r\n")[:-1])
        assert answer.startswith(b"HTTP/1.1 408"), answer


async def test_a_part_of_a_request_does_not_stay_held(sides: tuple[Side, Side]) -> None:
    """An unknown model is said though the body has not come."""
    for side in sides:
        answer = await side.says(post(path=b"/v2/models/none/infer")[:-1])
        assert answer.startswith(b"HTTP/1.1 404"), answer


async def test_stop_lets_requests_finish_and_ends_connections(sides: tuple[Side, Side]) -> None:
    for side in sides:
        idle = await asyncio.open_unix_connection(str(side.path))
        busy = await asyncio.open_unix_connection(str(side.path))
        begun = await asyncio.open_unix_connection(str(side.path))
        busy[1].write(post(row(-1), close=False))
        await side.until(side.model.entered.is_set)
        begun[1].write(post(row(3), close=False)[:-1])
        idle[1].write(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle[0].readuntil(b"}")
        side.server.stop()
        assert await idle[0].read() == b""
        begun[1].write(post(row(3))[-1:])
        side.model.release.set()
        for (reader, writer), value in ((busy, b"-2.0"), (begun, b"6.0")):
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert b"\r\nconnection: close\r\n" in answer
            assert value in answer
            writer.close()
        idle[1].close()
        await side.task


async def test_answers_that_nobody_took_yet_come_whole_and_in_order(sides: tuple[Side, Side]) -> None:
    """Sixty large pipelined answers, read when all were asked for; that the server pauses reading is not shown."""
    side = sides[0]
    values = b",".join(b"%d" % number for number in range(5000))
    body = b'{"id":"%d","inputs":[{"name":"x","shape":[5000],"datatype":"FP64","data":[' + values + b"]}]}"
    reader, writer = await asyncio.open_unix_connection(str(side.path), limit=2**26)
    count = 60
    for number in range(count):
        writer.write(post(body.replace(b"%d", b"%d" % number, 1), close=number == count - 1))
    received = await asyncio.wait_for(reader.read(), SECONDS)
    assert re.findall(rb'"id":"(\d+)"', received) == [b"%d" % number for number in range(count)]
    writer.close()


@pytest.mark.parametrize("seed", range(4))
async def test_any_bytes_split_anywhere(sides: tuple[Side, Side], seed: int) -> None:
    """Requests with bytes changed, cut or doubled, in pieces of any size: never silence, never a fault, both alive."""
    rng = random.Random(seed)
    cases = [b"".join(parts) for name, parts in CASES.items() if name != "100-continue"]
    for _ in range(25):
        data = bytearray(b"".join(rng.choices(cases, k=rng.randint(1, 3)))[:20_000])
        for _ in range(rng.choice((0, 1, 1, 4))):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.choice(
                (b"", b"\r\n", b"\x00", b"\xff", bytes([rng.randrange(256)]))
            )
        cuts = sorted(rng.sample(range(len(data)), min(rng.randint(0, 6), len(data))))
        pieces = [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        # What is incomplete waits for more, as long as a request may: the client ends it.
        received = await sides[0].says(*pieces, end=True)
        assert not received or received.startswith(b"HTTP/1.1 "), received
    assert (await sides[0].says(post())).startswith(b"HTTP/1.1 200")
    await sides[0].until(lambda: not any(v for k, v in sides[0].counted().items() if "in_flight" in k))


async def test_a_large_request_for_a_full_queue_is_answered_before_its_body_has_come(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    inside = [await asyncio.open_unix_connection(str(side.path)) for _ in range(51)]
    for _, writer in inside:
        writer.write(post(row(-1)))
    ((_, queue),) = side.models.queues()
    await side.until(lambda: queue.full)
    reader, writer = await asyncio.open_unix_connection(str(side.path))
    writer.write(post(b"", length=False, headers=b"Content-Length: 290000\r\n", close=False))
    async with asyncio.timeout(SECONDS):
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
    side.model.release.set()
    await side.until(lambda: not queue.full)
    writer.write(b" " * 290000 + post())
    async with asyncio.timeout(SECONDS):
        rest = await reader.read()
    assert rest.count(b"HTTP/1.1 200 ") == 1, "what came of the refused body was passed over"
    for _, each in [*inside, (reader, writer)]:
        each.close()


class Transport(asyncio.Transport):
    """Keeps what is written, and whether the protocol wants to read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None: ...


async def test_from_a_client_that_takes_no_answers_nothing_more_is_read(sides: tuple[Side, Side]) -> None:
    side, _ = sides
    config = uvicorn.Config(side.app, http=http_protocol.Protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    transport, state = Transport(), uvicorn_server.ServerState()
    protocol = http_protocol.Protocol(config=config, server_state=state, app_state={})
    protocol.connection_made(transport)
    protocol.pause_writing()  # as a transport does whose buffer is full
    protocol.data_received(post(close=False) + post(row(3), close=False))
    assert not transport.reading, "one request waits behind another"
    await side.until(lambda: len(state.tasks) == 1)
    assert (transport.written, transport.reading) == (b"", False)
    protocol.resume_writing()
    await side.until(lambda: transport.written.count(b"HTTP/1.1 200") == 2)
    assert transport.written.index(b"[2.0,") < transport.written.index(b"[6.0,")
    assert transport.reading
    protocol.connection_lost(None)
    assert state.connections == set()


async def test_a_connection_closes_when_it_was_idle_for_so_long_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(
        lambda *_: None, http=http_protocol.Protocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=100
    )
    config.load()
    transport, state = Closing(), uvicorn_server.ServerState()
    protocol = http_protocol.Protocol(config=config, server_state=state, app_state={})
    protocol.connection_made(transport)
    protocol.on_response_complete()
    first = protocol.timeout_keep_alive_task
    assert first is not None
    protocol.data_received(b"POST / HTTP/1.1\r\n")
    protocol.timeout_keep_alive_handler()
    assert not transport.closed, "a request is on its way"
    protocol.on_response_complete()
    protocol.timeout_keep_alive_handler()
    assert not transport.closed, "not idle for so long yet"
    later = protocol.timeout_keep_alive_task
    assert later is not None
    assert later.when() > loop.time() + 90
    protocol.timeout_keep_alive = -1
    protocol.timeout_keep_alive_handler()
    assert transport.closed
    protocol.connection_lost(None)


class Closing(Transport):
    closed = False

    def close(self) -> None:
        self.closed = True
