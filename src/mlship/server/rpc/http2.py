"""HTTP/2 without TLS, the server's side of one connection, as much of it as gRPC needs (RFC 9113).

An asyncio protocol: bytes come, frames are cut out of them, and each stream is told of its data, its end and its
reset by plain calls (``Stream``). There is no queue between the socket and the call, and an answer that fits is one
write. What a peer can make this side hold is bounded: streams, header bytes, windows, and the answers that it does
not read (reading stops while writing is stopped). What breaks the protocol ends the connection with GOAWAY and the
reason in it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import cast

from mlship.server.rpc import frames, headers, streams

MAX_STREAMS = 4096
MAX_FRAME = 64 * 1024
_CONNECTION_WINDOW = 16 * 1024 * 1024
_MAX_BLOCK = headers.MAX_LIST  # bytes of one header block; and no more frames than these
_MAX_CONTINUATIONS = 64
# Calls given up by the client in a row, none answered in between: more is not a client but an attack.
_MAX_RESETS = 2 * MAX_STREAMS
_PREFACE_SECONDS = 10.0
_LAST_PING_SECONDS = 1.0
_LAST_PING = b"\x00\x00goaway"

_HELLO = frames.settings(
    {
        frames.Setting.MAX_STREAMS: MAX_STREAMS,
        frames.Setting.INITIAL_WINDOW: streams.WINDOW,
        frames.Setting.MAX_FRAME: MAX_FRAME,
        frames.Setting.MAX_HEADER_LIST: headers.MAX_LIST,
    }
) + frames.window_update(0, _CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
_SETTINGS_ACK = frames.frame(frames.SETTINGS, frames.ACK, 0)


class Broken(Exception):
    """The peer has broken the protocol: the connection ends."""

    def __init__(self, code: frames.Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Everybody:
    """The connections of a server. ``nobody`` is set while there are none."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.nobody = asyncio.Event()
        self.nobody.set()

    def add(self, connection: Connection) -> None:
        """It has come."""
        self.connections.add(connection)
        self.nobody.clear()

    def remove(self, connection: Connection) -> None:
        """It has gone."""
        self.connections.discard(connection)
        if not self.connections:
            self.nobody.set()


Begin = Callable[["Connection", int, Mapping[bytes, bytes]], streams.Stream]


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        begin: makes the stream for a request's header fields.
        everybody: the connections of the server; this one is in it for as long as it lives.
    """

    def __init__(self, begin: Begin, everybody: Everybody) -> None:
        self._begin = begin
        self._everybody = everybody
        self._loop = asyncio.get_running_loop()
        self._decoder = headers.Decoder()
        self._rest = b""
        self._greeted = False
        self._expects_preface = True
        self._streams: dict[int, streams.Stream] = {}
        self._last = 0
        self._block: headers.Block | None = None
        self._received = 0
        self._leaving = False
        self._said_goodbye = False
        self._resets = 0
        self._late: asyncio.TimerHandle | None = None
        self.sender = streams.Sender(self._finished)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.sender.connected(self._transport)
        self._everybody.add(self)
        self._late = self._loop.call_later(_PREFACE_SECONDS, self._transport.abort)
        made = transport.get_extra_info("socket")
        if made is not None and made.family != socket.AF_UNIX:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.write(_HELLO)

    def connection_lost(self, exc: Exception | None) -> None:
        self._everybody.remove(self)
        if self._late is not None:
            self._late.cancel()
        for stream in list(self._streams.values()):
            self.forget(stream)
            stream.gone()

    def pause_writing(self) -> None:
        self.sender.full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.sender.full = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self.sender.flush_all()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if self._transport.is_closing():
            return
        try:
            self._rest = data if not (self._greeted or self._greet(data)) else self._frames(data)
        except Broken as error:
            self._break(error)

    def _greet(self, data: bytes) -> bool:
        """Whether the preface is there; only the rest of it is left to ``_frames``."""
        if data[: len(frames.PREFACE)] != frames.PREFACE[: len(data)]:
            raise Broken(frames.Code.PROTOCOL_ERROR, "this port speaks gRPC: HTTP/2 without TLS")
        self._greeted = len(data) >= len(frames.PREFACE)
        if self._greeted and self._late is not None:
            self._late.cancel()
        return self._greeted

    def _frames(self, data: bytes) -> bytes:
        """Take the frames in ``data``; what is left is the beginning of one."""
        at, end = 0, len(data)
        if self._expects_preface:
            at, self._expects_preface = len(frames.PREFACE), False
        while end - at >= frames.HEAD_SIZE:
            high, low, kind, flags, number = frames.HEAD.unpack_from(data, at)
            size = high << 8 | low
            if size > MAX_FRAME:
                raise Broken(frames.Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            begin = at + frames.HEAD_SIZE
            if begin + size > end:
                break
            at = begin + size
            self._frame(kind, flags, number & frames.LAST_STREAM, data[begin:at])
        return data[at:]

    # Frames

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or number != self._block.number):
            raise Broken(frames.Code.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._headers(flags, number, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind in _RARE:
            _RARE[kind](self, flags, number, payload)
        # What is left is of kinds that nobody knows, and is passed over.

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._received += size
        if self._received >= _CONNECTION_WINDOW // 4:
            self.sender.write(frames.window_update(0, self._received))
            self._received = 0
        stream = self._streams.get(number)
        if stream is None:
            if not number or number > self._last:
                raise Broken(frames.Code.PROTOCOL_ERROR, f"data for stream {number}, which was never begun")
            return  # Answered or given up before all of it had come.
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        stream.granted -= size
        if stream.granted < 0:
            raise Broken(frames.Code.FLOW_CONTROL_ERROR, "more data than was allowed")
        if stream.ended:
            raise Broken(frames.Code.STREAM_CLOSED, f"data behind the end of stream {number}")
        stream.ended = bool(flags & frames.END_STREAM)
        if size != len(payload):
            stream.grant(size - len(payload))
        stream.data(payload, end=stream.ended)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise Broken(frames.Code.PROTOCOL_ERROR, f"fields for stream {number}, which no client can begin")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.PRIORITISED:
            payload = payload[5:]
        if not flags & frames.END_HEADERS:
            self._block = headers.Block(number, flags, payload)
            return
        self._fields(flags, number, payload)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise Broken(frames.Code.PROTOCOL_ERROR, "the continuation of nothing")
        block.text += payload
        block.count += 1
        if len(block.text) > _MAX_BLOCK or block.count > _MAX_CONTINUATIONS:
            raise Broken(frames.Code.ENHANCE_YOUR_CALM, f"more than {_MAX_BLOCK} bytes of header fields")
        if flags & frames.END_HEADERS:
            self._block = None
            self._fields(block.flags, number, block.text)

    def _fields(self, flags: int, number: int, block: bytes) -> None:
        try:
            found = self._decoder.decode(block)
        except headers.Malformed as error:
            raise Broken(frames.Code.COMPRESSION_ERROR, str(error)) from error
        except headers.TooLarge:
            text = f"more than {headers.MAX_LIST} bytes of header fields"
            raise Broken(frames.Code.ENHANCE_YOUR_CALM, text) from None
        if number > self._last:
            self._open(flags, number, found)
            return
        stream = self._streams.get(number)
        if stream is None:
            return  # The last fields of a request that was answered before they came.
        if stream.ended or not flags & frames.END_STREAM:
            raise Broken(frames.Code.PROTOCOL_ERROR, f"fields in the midst of stream {number}")
        stream.ended = True
        stream.data(b"", end=True)

    def _open(self, flags: int, number: int, found: Mapping[bytes, bytes]) -> None:
        self._last = number
        if self._said_goodbye or len(self._streams) >= MAX_STREAMS:
            self.sender.write(frames.reset(number, frames.Code.REFUSED_STREAM))
            return
        stream = self._begin(self, number, found)
        self._streams[number] = stream
        stream.ended = bool(flags & frames.END_STREAM)
        stream.opened()
        if stream.ended and number in self._streams:
            stream.data(b"", end=True)

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4 or not number or number > self._last:
            raise Broken(frames.Code.PROTOCOL_ERROR, f"a reset of stream {number}, which was never begun")
        stream = self._streams.get(number)
        if stream is None:
            return
        self.forget(stream)
        stream.gone()
        self._resets += 1
        if self._resets > _MAX_RESETS:
            raise Broken(frames.Code.ENHANCE_YOUR_CALM, "calls are begun only to be given up")

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & frames.ACK and payload):
            raise Broken(frames.Code.FRAME_SIZE_ERROR, "settings that are none")
        if flags & frames.ACK:
            return
        for key, value in frames.read_settings(payload):
            self._set(key, value)
        self.sender.write(_SETTINGS_ACK)

    def _set(self, key: int, value: int) -> None:
        if key == frames.Setting.INITIAL_WINDOW:
            if value > frames.MAX_WINDOW:
                raise Broken(frames.Code.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
            more, self.sender.initial_window = value - self.sender.initial_window, value
            for stream in self._streams.values():
                stream.allowed += more
            if more > 0:
                self.sender.flush_all()
        elif key == frames.Setting.MAX_FRAME:
            if not frames.DEFAULT_FRAME <= value <= frames.MAX_FRAME:
                raise Broken(frames.Code.PROTOCOL_ERROR, f"frames of {value} bytes")
            self.sender.largest = value

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise Broken(frames.Code.FRAME_SIZE_ERROR, "a ping that is none")
        if not flags & frames.ACK:
            self.sender.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _LAST_PING and self._leaving:
            self._goodbye()

    def _window_update(self, number: int, payload: bytes) -> None:
        size = frames.number(payload) if len(payload) == 4 else 0
        if not number:
            self.sender.allowed += size
            if not size or self.sender.allowed > frames.MAX_WINDOW:
                raise Broken(frames.Code.FLOW_CONTROL_ERROR, f"a window made {size} bytes larger")
            self.sender.flush_all()
            return
        if number > self._last:
            raise Broken(frames.Code.PROTOCOL_ERROR, f"a window for stream {number}, which was never begun")
        stream = self._streams.get(number)
        if stream is not None:
            stream.allowed += size
            if not size or stream.allowed > frames.MAX_WINDOW:
                raise Broken(frames.Code.FLOW_CONTROL_ERROR, f"a window made {size} bytes larger")
            self.sender.flush(stream)

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise Broken(frames.Code.PROTOCOL_ERROR, "clients cannot push")

    def _pass_over(self, flags: int, number: int, payload: bytes) -> None:
        """Priorities, and a client's GOAWAY: it ends the connection by itself when it has its answers."""

    def _finished(self, stream: streams.Stream) -> None:
        """All has been sent."""
        if not stream.ended:
            self.sender.write(frames.reset(stream.id, frames.Code.NO_ERROR))
        self._resets = 0
        self.forget(stream)

    def forget(self, stream: streams.Stream) -> None:
        """The stream has ended."""
        stream.open = False
        stream.out.clear()
        self._streams.pop(stream.id, None)
        self.sender.waiting.pop(stream.id, None)
        if self._said_goodbye and not self._streams:
            self.sender.close()

    # The end

    def leave(self) -> None:
        """No new calls, what is under way is answered, then the connection ends."""
        if self._leaving:
            return
        self._leaving = True
        if not self._greeted:
            self.sender.close()
            return
        # In two steps, so that calls that are on their way are still taken.
        self.sender.write(frames.goaway(frames.LAST_STREAM, frames.Code.NO_ERROR))
        self.sender.write(frames.frame(frames.PING, 0, 0, _LAST_PING))
        self._late = self._loop.call_later(_LAST_PING_SECONDS, self._goodbye)

    def cut(self, error: Exception) -> None:
        """End every call with ``error``."""
        for stream in list(self._streams.values()):
            stream.cut(error)

    def abort(self) -> None:
        """End now."""
        self._transport.abort()

    def _goodbye(self) -> None:
        if self._said_goodbye:
            return
        self._said_goodbye = True
        self.sender.write(frames.goaway(self._last, frames.Code.NO_ERROR))
        if not self._streams:
            self.sender.close()

    def _break(self, error: Broken) -> None:
        self._rest = b""
        self.sender.write(frames.goaway(self._last, error.code, str(error).encode()))
        self.sender.close()


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Broken(frames.Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]


_RARE: Mapping[int, Callable[[Connection, int, int, bytes], None]] = {
    frames.RST_STREAM: Connection._reset,
    frames.SETTINGS: Connection._settings,
    frames.PUSH_PROMISE: Connection._push_promise,
    frames.PING: Connection._ping,
    frames.CONTINUATION: Connection._continuation,
    frames.PRIORITY: Connection._pass_over,
    frames.GOAWAY: Connection._pass_over,
}
