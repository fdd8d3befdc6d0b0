"""A server with a few methods on a real socket, and a client that writes its frames by hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import hpack
import pytest

from mlship import errors
from mlship.server import listen, logs
from mlship.server.rpc import call, frames, server

MAX_BYTES = 3_000_000
CALL = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Test/Echo"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


class Place:
    """A running server: where, its methods, and what they have seen."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        unary = {"Echo": self.echo, "Large": self.large, "Wait": self.wait, "Fail": self.fail}
        methods = {f"/test.Test/{name}".encode(): call.Method(unary=found) for name, found in unary.items()}
        methods[b"/test.Test/Begin"] = call.Method(unary=self.echo, begin=self.begin)
        methods[b"/test.Test/Stream"] = call.Method(stream=self.stream)
        self.server = server.Server(methods, max_bytes=MAX_BYTES)

    async def echo(self, raw: bytes, context: call.Call) -> tuple[bytes, ...]:
        return (raw,)

    def begin(
        self, raw: bytes, context: call.Call, done: Callable[[tuple[bytes, ...] | Exception], None]
    ) -> Callable[[], None] | None:
        if raw == b"task":
            return None
        if raw == b"no":
            raise errors.SpecError("not this one")
        names = dict(logs.REQUEST.get())
        outcome = errors.NotReady("not yet") if raw == b"later no" else (raw, str(sorted(names)).encode())
        if raw != b"never":
            asyncio.get_running_loop().call_soon(done, outcome)
        self.begun.set()
        return self.cancelled.set

    async def large(self, raw: bytes, context: call.Call) -> tuple[bytes, ...]:
        return (b"head", b"x" * int(raw), b"", b"tail")

    async def wait(self, raw: bytes, context: call.Call) -> tuple[bytes, ...]:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return (b"waited",)

    async def fail(self, raw: bytes, context: call.Call) -> tuple[bytes, ...]:
        if raw == b"bug":
            raise RuntimeError("a secret of the server's")
        raise errors.Overloaded(f"too much: {raw.decode()} 100 %", retry_after=1.5)

    async def stream(self, messages: AsyncIterator[bytes], context: call.Call) -> AsyncIterator[tuple[bytes, ...]]:
        async for message in messages:
            if message == b"fail":
                raise errors.SpecError("as asked")
            if message == b"wait":
                self.begun.set()
                await self.go.wait()
            yield (message.upper(),)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    listener = listen.tcp("127.0.0.1", 0)
    found = Place(listener.getsockname()[1])
    await found.server.listen(listener)
    yield found
    found.go.set()
    await found.server.stop(1.0)


@dataclasses.dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: dict[str, str] = dataclasses.field(default_factory=dict)


class Client:
    """Frames out, frames in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def headers(self, stream: int, fields: Any = CALL, *, flags: int = frames.END_HEADERS) -> bytes:
        return frames.frame(frames.HEADERS, flags, stream, self.encoder.encode(fields))

    def call(self, stream: int, message: bytes = b"hello", *, path: str = "", more: Any = ()) -> bytes:
        """A whole call."""
        fields = [(name, path if path and name == ":path" else value) for name, value in CALL]
        data = frames.frame(frames.DATA, frames.END_STREAM, stream, framed(message))
        return self.headers(stream, [*fields, *more]) + data

    async def next(self) -> Frame:
        """The next frame."""
        async with asyncio.timeout(30):
            head = await self.reader.readexactly(9)
            high, low, kind, flags, stream = struct.unpack(">HBBBI", head)
            payload = await self.reader.readexactly(high << 8 | low)
        found = Frame(kind, flags, stream, payload)
        if kind == frames.HEADERS:
            found.fields = dict(self.decoder.decode(payload))
        return found

    async def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of this kind."""
        while True:
            found = await self.next()
            if found.kind == kind and stream in (None, found.stream):
                return found

    async def answer(self, stream: int) -> tuple[bytes, dict[str, str]]:
        """The message bytes and the last fields of a stream; what comes for others is passed over."""
        data = b""
        while True:
            found = await self.next()
            if found.stream == stream and found.kind == frames.DATA:
                data += found.payload
            elif found.stream == stream and found.kind == frames.RST_STREAM:
                return data, {"reset": str(frames.number(found.payload))}
            elif found.stream == stream and found.kind == frames.HEADERS and found.flags & frames.END_STREAM:
                return data, found.fields

    async def over(self) -> Frame:
        """The GOAWAY, after which nothing comes."""
        found = await self.until(frames.GOAWAY)
        with contextlib.suppress(ConnectionResetError):  # It was closed with something unread.
            async with asyncio.timeout(30):
                await self.reader.read()
        return found


def framed(message: bytes, *, compressed: int = 0) -> bytes:
    return bytes((compressed,)) + len(message).to_bytes(4, "big") + message


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    made = Client(reader, writer)
    made.send(frames.PREFACE, frames.settings({}))
    yield made
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
def message() -> Callable[..., bytes]:
    return framed
