"""One HTTP/2 stream, as its user sees it, and what goes out on a connection: whole answers, or as windows allow.

An answer that fits the windows is one write. What does not fit waits at its stream, in order; a stream with something
waiting is known to the ``Sender``, which goes on when the peer opens a window or has read what was written.
"""

from __future__ import annotations

import abc
import asyncio
import collections
from collections.abc import Callable
from typing import Protocol

from mlship.server.rpc import frames

WINDOW = 1024 * 1024  # bytes that the peer may send on a stream before anybody has taken them
_TOGETHER = 64 * 1024  # bytes that wait for the end of the loop's turn
_LAST_FIELDS = frames.END_HEADERS | frames.END_STREAM


class Carrier(Protocol):
    """The connection of a stream."""

    sender: Sender

    def forget(self, stream: Stream) -> None:
        """The stream has ended."""
        ...


class Stream(abc.ABC):
    """One stream. What uses it overrides ``data`` and ``gone`` and calls ``send`` and ``reset``."""

    __slots__ = ("allowed", "connection", "ended", "granted", "id", "on_drained", "open", "out", "trailers")

    def __init__(self, connection: Carrier, number: int) -> None:
        self.connection = connection
        self.id = number
        self.allowed = connection.sender.initial_window  # bytes that may be sent
        self.granted = WINDOW  # bytes that the peer may send
        self.ended = False  # by the peer
        self.open = True  # neither answered nor given up
        self.out: collections.deque[memoryview] = collections.deque()
        self.trailers: bytes | None = None
        self.on_drained: Callable[[], None] | None = None

    @abc.abstractmethod
    def opened(self) -> None:
        """The fields have come, and an answer may be sent."""

    @abc.abstractmethod
    def data(self, chunk: bytes, *, end: bool) -> None:
        """A piece of the request; ``end``: the last one. Whoever is done with bytes calls ``grant``."""

    @abc.abstractmethod
    def cut(self, error: Exception) -> None:
        """The server can wait no longer: end with ``error`` what is not answered yet."""

    @abc.abstractmethod
    def gone(self) -> None:
        """The peer has given the stream up, or the connection has ended: nobody waits for an answer."""

    def grant(self, size: int) -> None:
        """Let the peer send ``size`` bytes more on this stream."""
        if not self.ended and size:
            self.granted += size
            self.connection.sender.write(frames.window_update(self.id, size))

    def send(self, head: bytes, data: bytes, trailers: bytes | None) -> None:
        """Send fields, bytes and, unless None, the last fields; what the peer does not take yet waits here."""
        self.connection.sender.send(self, head, data, trailers)

    def unsend(self) -> None:
        """Forget what the peer has not taken yet of what was sent; last fields may still follow."""
        self.out.clear()
        self.trailers = None
        self.connection.sender.waiting.pop(self.id, None)

    def reset(self, code: frames.Code) -> None:
        """Give the stream up."""
        if self.open:
            self.connection.forget(self)
            self.connection.sender.write(frames.reset(self.id, code))


class Sender:
    """What one connection sends. ``finished`` is told of streams all of whose answer has been sent."""

    def __init__(self, finished: Callable[[Stream], None]) -> None:
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unwritten: list[bytes] = []
        self._size = 0
        self.allowed = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.largest = frames.DEFAULT_FRAME
        self.waiting: dict[int, Stream] = {}
        self.full = False

    def connected(self, transport: asyncio.Transport) -> None:
        """From now on things can be sent."""
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Write frames, in this turn of the loop: answers that are ready together are one write, one system call."""
        if not self._unwritten:
            self._loop.call_soon(self.write_out)
        self._unwritten.append(data)
        self._size += len(data)
        if self._size > _TOGETHER:
            self.write_out()

    def write_out(self) -> None:
        """Write what was put together."""
        parts, self._unwritten, self._size = self._unwritten, [], 0
        if parts and self._transport is not None and not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        """Write what there is, and no more."""
        self.write_out()
        if self._transport is not None:
            self._transport.close()

    def send(self, stream: Stream, head: bytes, data: bytes, trailers: bytes | None) -> None:
        """As ``Stream.send``."""
        number, size = stream.id, len(data)
        if not stream.open:
            return
        parts = [frames.head(frames.HEADERS, frames.END_HEADERS, number, len(head)), head] if head else []
        if stream.out or self.full or size > min(stream.allowed, self.allowed, self.largest):
            self.write(b"".join(parts))
            stream.out.append(memoryview(data))
            stream.trailers = trailers
            self.flush(stream)
            return
        if size:
            stream.allowed -= size
            self.allowed -= size
            parts += (frames.head(frames.DATA, 0, number, size), data)
        if trailers is not None:
            parts += (frames.head(frames.HEADERS, _LAST_FIELDS, number, len(trailers)), trailers)
        self.write(b"".join(parts))
        if trailers is not None:
            self._finished(stream)

    def flush_all(self) -> None:
        for stream in list(self.waiting.values()):
            if self.full or self.allowed <= 0:
                return
            self.flush(stream)

    def flush(self, stream: Stream) -> None:
        """Send what may be sent of what waits in ``stream``."""
        out = stream.out
        while out and not self.full:
            chunk = out[0]
            size = min(len(chunk), stream.allowed, self.allowed, self.largest)
            if size <= 0 < len(chunk):
                break
            if len(chunk):
                stream.allowed -= size
                self.allowed -= size
                self.write(frames.head(frames.DATA, 0, stream.id, size) + chunk[:size])
            if size == len(chunk):
                out.popleft()
            else:
                out[0] = chunk[size:]
        if out:
            self.waiting[stream.id] = stream
            return
        self.waiting.pop(stream.id, None)
        if stream.trailers is not None:
            self.write(frames.frame(frames.HEADERS, _LAST_FIELDS, stream.id, stream.trailers))
            self._finished(stream)
        elif stream.on_drained is not None:
            stream.on_drained()
