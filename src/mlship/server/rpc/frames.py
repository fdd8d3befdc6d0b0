"""HTTP/2 frames: their numbers (RFC 9113), and how they are written. Pure."""

from __future__ import annotations

import enum
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">HBBBI")  # the length in two parts, type, flags, stream
HEAD_SIZE = HEAD.size
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")
_TWO = struct.Struct(">II")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
MAX_WINDOW = 2**31 - 1
MAX_FRAME = 2**24 - 1
LAST_STREAM = 2**31 - 1


class Code(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(enum.IntEnum):
    """The settings that matter here."""

    ENABLE_PUSH = 2
    MAX_STREAMS = 3
    INITIAL_WINDOW = 4
    MAX_FRAME = 5
    MAX_HEADER_LIST = 6


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return head(kind, flags, stream, len(payload)) + payload


def head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """The nine bytes in front of a payload of ``size`` bytes."""
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The numbers and values of a SETTINGS frame, whose size is a multiple of six."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, size: int) -> bytes:
    """Leave to send ``size`` more bytes."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(size))


def reset(stream: int, code: Code) -> bytes:
    """The end of a stream that does not end by itself."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last: int, code: Code, text: bytes = b"") -> bytes:
    """The end of a connection: streams above ``last`` have not been looked at."""
    return frame(GOAWAY, 0, 0, _TWO.pack(last, code) + text)


def number(payload: bytes) -> int:
    """The 31 bits that stand for themselves at the beginning of a payload."""
    value: int = _NUMBER.unpack_from(payload)[0]
    return value & 0x7FFF_FFFF
