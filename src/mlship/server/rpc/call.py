"""One gRPC call on an HTTP/2 stream: its messages in and out, its deadline, its end (gRPC over HTTP/2).

``Unary`` starts its handler when the one message is complete, as a task that ends with the call: a client that gives
up cancels it. ``Streaming`` starts its handler at once, which takes messages one by one; what it has not taken yet is
bounded by the stream's window. Handlers raise; ``status`` says what that means to the caller.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import dataclasses
import functools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

from mlship import aio, errors
from mlship.server import logs, trace
from mlship.server.rest import exchange
from mlship.server.rpc import http2, status, streams

LOG = logging.getLogger(__name__)

_PREFIX = 5  # bytes in front of each message: whether it is compressed, and its size
_JOINED = 16 * 1024  # bytes of an answer whose parts are one write
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ENCODINGS = (b"gzip", b"deflate")
_ZLIB_OR_GZIP = 47

# An answer is the bytes of a message, in as many parts as spare a copy of large ones.
UnaryHandler = Callable[[bytes, "Call"], Awaitable[tuple[bytes, ...]]]
# Answers by telling the callback, later, and gives what to call when nobody waits any more; or None: not this one.
BeginHandler = Callable[[bytes, "Call", Callable[["tuple[bytes, ...] | Exception"], None]], Callable[[], None] | None]
StreamHandler = Callable[[AsyncIterator[bytes], "Call"], AsyncIterator[tuple[bytes, ...]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """``unary`` or ``stream`` answers. ``timed``: the handler sees to the call's deadline itself.

    ``begin`` is the way without a task, for the calls it takes; ``unary`` is for the others.
    """

    unary: UnaryHandler | None = None
    stream: StreamHandler | None = None
    timed: bool = False
    begin: BeginHandler | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """What a server answers: methods by path, the limit of a message in bytes, and who owns the tasks."""

    methods: Mapping[bytes, Method]
    max_bytes: int
    tasks: aio.Tasks

    def begin(self, connection: http2.Connection, number: int, fields: Mapping[bytes, bytes]) -> streams.Stream:
        """The call that begins with ``fields``."""
        method = self.methods.get(fields.get(b":path", b""))
        if method is None or method.stream is None:
            return Unary(connection, number, fields, self, method)
        return Streaming(connection, number, fields, self, method)


class Call(streams.Stream):
    """A call; handlers may look at ``fields``, the request's header fields, and ``timeout``, in seconds."""

    __slots__ = ("_answering", "_leave", "_table", "_task", "fields", "method", "timeout")

    def __init__(
        self,
        connection: http2.Connection,
        number: int,
        fields: Mapping[bytes, bytes],
        table: Table,
        method: Method | None,
    ) -> None:
        super().__init__(connection, number)
        self.fields = fields
        self.method = method
        self.timeout: float | None = None
        self._table = table
        self._task: asyncio.Task[None] | None = None
        self._leave: Callable[[], None] | None = None
        self._answering = False

    def header(self, name: bytes) -> str:
        """A field's value; empty when there is none."""
        return self.fields.get(name, b"").decode("utf-8", "replace")

    def opened(self) -> None:
        fields = self.fields
        if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            self.send(b"", b"", status.http(415))
        elif fields.get(b":method") != b"POST":
            self.send(b"", b"", status.http(405))
        elif self.method is None:
            path = self.header(b":path")[:200]
            self.fail(status.Failure(status.Code.UNIMPLEMENTED, f"there is no method {path} here."))
        else:
            try:
                if (text := fields.get(b"grpc-timeout")) is not None:
                    self.timeout = _seconds(text)
            except errors.MlshipError as error:
                self.fail(error)
                return
            self.begun()

    def begun(self) -> None:
        """The call is one that can be answered."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` until the call is given up."""
        self._task = self._table.tasks.start(work, name="grpc call")

    def gone(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._leave is not None:
            self._leave()

    def cut(self, error: Exception) -> None:
        # Last fields need no window: who reads slowly is told why the rest of the answer does not come.
        self.unsend()
        self.gone()
        self.fail(error)

    def message(self, parts: tuple[bytes, ...], trailers: bytes | None) -> None:
        """Send a message and, unless None, the end of the call."""
        size = sum(map(len, parts))
        prefix = b"\x00" + size.to_bytes(4, "big")
        head, self._answering = b"" if self._answering else status.HEAD, True
        if size <= _JOINED:
            self.send(head, b"".join((prefix, *parts)), trailers)
            return
        self.send(head, prefix, None)
        for part in parts[:-1]:
            self.send(b"", part, None)
        self.send(b"", parts[-1], trailers)

    def fail(self, error: Exception) -> None:
        """End the call with ``error``."""
        if not isinstance(error, errors.MlshipError | status.Failure):
            LOG.error("call failed", exc_info=error, extra=logs.fields(method=self.header(b":path")))
        end = status.end(error)
        self.send(b"", b"", end if self._answering else status.HEAD + end)

    def check(self, size: int) -> None:
        """Refuses a message that is over the limit, before it has come."""
        if size > self._table.max_bytes:
            raise exchange.too_large(size, self._table.max_bytes)

    def plain(self, message: bytes) -> bytes:
        """A message that came compressed. Raises SpecError and Failure."""
        encoding = self.fields.get(b"grpc-encoding", b"identity")
        if encoding not in _ENCODINGS:
            what = f"messages compressed with {encoding.decode('latin-1')[:80]!r} are not taken."
            raise status.Failure(status.Code.UNIMPLEMENTED, what, status.ACCEPTED)
        return exchange.Body(message, _ZLIB_OR_GZIP).inflated(self._table.max_bytes)

    def name_log_lines(self) -> None:
        """Log lines of this context carry the ids of the request and of its trace from here on."""
        if self.named:
            named = {"request_id": self.header(b"x-request-id"), "trace_id": self.trace_id}
            logs.REQUEST.set({key: value for key, value in named.items() if value})

    @property
    def named(self) -> bool:
        """Whether the request says by what log lines are to name it."""
        return b"x-request-id" in self.fields or b"traceparent" in self.fields

    @property
    def trace_id(self) -> str:
        return trace.trace_id(self.header(b"traceparent")) if b"traceparent" in self.fields else ""


class Unary(Call):
    """One message in, one out."""

    __slots__ = ("_chunks", "_size")

    def begun(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def data(self, chunk: bytes, *, end: bool) -> None:
        self._size += len(chunk)
        if end and not self._chunks:
            self._complete(chunk)
            return
        self._chunks.append(chunk)
        if self._size > streams.WINDOW // 2 or len(self._chunks) == 1:
            try:
                self.check(self._declared())
            except errors.MlshipError as error:
                self.fail(error)
                return
        if end:
            self._complete(b"".join(self._chunks))
        elif self.granted < streams.WINDOW // 2:
            self.grant(streams.WINDOW - self.granted)

    def _declared(self) -> int:
        """The bytes of the message, as far as they are known; more than was said do not belong to it."""
        if len(self._chunks[0]) < _PREFIX:
            self._chunks = [b"".join(self._chunks)]
        first = self._chunks[0]
        size = int.from_bytes(first[1:_PREFIX], "big") if len(first) >= _PREFIX else 0
        if self._size > size + _PREFIX and len(first) >= _PREFIX:
            raise _not_one()
        return size

    def _complete(self, body: bytes) -> None:
        self._chunks = []
        try:
            if len(body) < _PREFIX or int.from_bytes(body[1:_PREFIX], "big") != len(body) - _PREFIX or body[0] > 1:
                raise _not_one()
            self.check(len(body) - _PREFIX)
            message = body[_PREFIX:]
            if body[0]:
                message = self.plain(message)
        except (errors.MlshipError, status.Failure) as error:
            self.fail(error)
            return
        if not self._begins(message):
            self.start(self._run(message))

    def _begins(self, message: bytes) -> bool:
        """Whether the call was sent on its way without a task."""
        if self.method is None or self.method.begin is None:
            return False
        try:
            if self.named:
                # The ids are part of the context from here to the answer, and of nothing else.
                self._leave = contextvars.copy_context().run(self._begin_named, self.method.begin, message)
            else:
                self._leave = self.method.begin(message, self, self._told)
        except Exception as error:  # noqa: BLE001 - the edge, as below
            self.fail(error)
            return True
        return self._leave is not None

    def _begin_named(self, begin: BeginHandler, message: bytes) -> Callable[[], None] | None:
        self.name_log_lines()
        return begin(message, self, self._told)

    def _told(self, outcome: tuple[bytes, ...] | Exception) -> None:
        self._leave = None
        if isinstance(outcome, Exception):
            self.fail(outcome)
        else:
            self.message(outcome, status.GOOD_END)

    async def _run(self, message: bytes) -> None:
        method = self.method
        assert method is not None and method.unary is not None
        self.name_log_lines()
        try:
            if self.timeout is None or method.timed:
                answer = await method.unary(message, self)
            else:
                async with asyncio.timeout(self.timeout):
                    answer = await method.unary(message, self)
        except TimeoutError:
            self.fail(_expired())
        except Exception as error:  # noqa: BLE001 - the edge: it becomes the call's end and, if not ours, a log line
            self.fail(error)
        else:
            self.message(answer, status.GOOD_END)


class Streaming(Call):
    """Messages in and out, in the handler's own time."""

    __slots__ = ("_buffer", "_held", "_messages", "_over", "_woken")

    def begun(self) -> None:
        assert self.method is not None and self.method.stream is not None
        self._buffer = b""
        self._messages: collections.deque[bytes | Exception] = collections.deque()
        self._held = 0
        self._over = False
        self._woken = asyncio.Event()
        self.on_drained = self._woken.set
        self.start(self._run(self.method.stream))

    def data(self, chunk: bytes, *, end: bool) -> None:
        if self._over:
            return  # A message before was refused, and the call with it.
        self._buffer = self._buffer + chunk if self._buffer else chunk
        try:
            while len(self._buffer) >= _PREFIX:
                size = int.from_bytes(self._buffer[1:_PREFIX], "big")
                self.check(size)
                if len(self._buffer) < _PREFIX + size:
                    break
                message = self._buffer[_PREFIX : _PREFIX + size]
                self._messages.append(self.plain(message) if self._buffer[0] else message)
                self._held += _PREFIX + size
                self._buffer = self._buffer[_PREFIX + size :]
            if end and self._buffer:
                raise _not_one()
        except (errors.MlshipError, status.Failure) as error:
            self._messages.append(error)
            self._over = True
        self._over = self._over or end
        self._grant()
        self._woken.set()

    def _grant(self) -> None:
        """Let more come: a window full, without what has come and was not taken yet."""
        aim = streams.WINDOW - self._held
        if not self._over and self.granted < aim // 2:
            self.grant(aim - self.granted)

    async def _taken(self) -> AsyncIterator[bytes]:
        while True:
            while not self._messages:
                if self._over:
                    return
                self._woken.clear()
                await self._woken.wait()
            message = self._messages.popleft()
            if isinstance(message, Exception):
                raise message
            self._held -= _PREFIX + len(message)
            self._grant()
            yield message

    async def _run(self, handler: StreamHandler) -> None:
        self.name_log_lines()
        try:
            async with asyncio.timeout(self.timeout):
                async for answer in handler(self._taken(), self):
                    await self._send(answer)
        except TimeoutError:
            self.fail(_expired())
        except Exception as error:  # noqa: BLE001 - the edge, as above
            self.fail(error)
        else:
            self.send(b"" if self._answering else status.HEAD, b"", status.GOOD_END)

    async def _send(self, answer: tuple[bytes, ...]) -> None:
        self.message(answer, None)
        while self.out:
            self._woken.clear()
            await self._woken.wait()


def _not_one() -> status.Failure:
    return status.Failure(status.Code.INTERNAL, "the request is not one gRPC message: expected its size and then it.")


def _expired() -> errors.Overloaded:
    return errors.Overloaded("the call's deadline has passed.", reason=errors.Reason.DEADLINE)


@functools.lru_cache(maxsize=256)
def _seconds(text: bytes) -> float:
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        shown = text.decode("latin-1")[:80]
        raise errors.SpecError(f'header grpc-timeout expected a number of up to 8 digits and a unit, got "{shown}".')
    return int(found[1]) * _SECONDS[found[2]]
