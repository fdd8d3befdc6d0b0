"""How a gRPC call ends: the codes, and the last header fields of an answer (gRPC over HTTP/2, "Responses"). Pure."""

from __future__ import annotations

import enum
import re

from mlship import errors
from mlship.server import logs
from mlship.server.rpc import headers


class Code(enum.IntEnum):
    """gRPC's status codes, by the names that ``errors.Reason.grpc_code`` gives."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_STATUS_200 = b"\x88"  # the static table's field 8
HEAD = _STATUS_200 + headers.literal(b"content-type", b"application/grpc")
GOOD_END = headers.literal(b"grpc-status", b"0")
ACCEPTED = (b"grpc-accept-encoding", b"identity, deflate, gzip")
_ESCAPED = re.compile(rb"[^ -$&-~]")
_MAX_MESSAGE = 4000  # characters: clients take 8 KiB of fields


class Failure(Exception):
    """A call that ends with a code of gRPC's own making, which no reason of ours has."""

    def __init__(self, code: Code, message: str, *fields: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.code = code
        self.fields = fields


def end(error: Exception) -> bytes:
    """The last fields of a call that ended with ``error``: of ours, a ``Failure``, or whatever a bug raised."""
    if isinstance(error, errors.MlshipError):
        found = [(b"mlship-reason", error.reason.value.encode())]
        if error.retry_after is not None:
            found.append((b"grpc-retry-pushback-ms", str(int(error.retry_after * 1000)).encode()))
        return _fields(Code[error.reason.grpc_code], str(error), found)
    if isinstance(error, Failure):
        return _fields(error.code, str(error), list(error.fields))
    return _fields(Code.INTERNAL, "the server failed on this call; its log says why.", [])


def _fields(code: Code, message: str, more: list[tuple[bytes, bytes]]) -> bytes:
    text = logs.one_line(message, limit=_MAX_MESSAGE).encode("utf-8", "replace")
    escaped = _ESCAPED.sub(lambda found: b"%%%02X" % found[0][0], text)
    fields = [(b"grpc-status", b"%d" % code), (b"grpc-message", escaped), *more]
    return b"".join(headers.literal(name, value) for name, value in fields)


def http(status: int) -> bytes:
    """The fields of an answer to what is no gRPC call."""
    return headers.literal(b":status", b"%d" % status)
