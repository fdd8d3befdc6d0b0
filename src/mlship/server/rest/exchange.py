"""One HTTP request and its answer: the body read within limits, inflated within limits, errors in the wire form.

Between uvicorn's ASGI messages and the handlers of ``rest_*``. Everything a handler raises becomes
``{"error": ...}`` with the code of its reason; nothing of the server's inside leaks into it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

from mlship import errors
from mlship.protocol import json_codec
from mlship.server import logs, refusals

LOG = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
_MEBIBYTE = 1024 * 1024
_MAX_ID = 256
_ASKED, _LEFT = b"x-request-timeout", b"x-envoy-expected-rq-timeout-ms"


class Refused(errors.SpecError):
    """A request refused with a status that no reason has: 408, 415."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Hangup(Exception):
    """The client has gone: nobody is left to answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """An answer; ``headers`` besides content type and length."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclasses.dataclass(slots=True, eq=False)
class Request:
    """A request whose head has been read. ``names`` are the parts of the path that the route leaves open.

    The body is there already (``body``) or comes by ``receive``. ``hangup``: callables that are called when the client
    goes; None where nobody can tell. ``cuts``: callables that are told why the body is waited for no longer; None where
    nobody will say so. ``model`` and ``received`` are filled in on the way, for metrics.
    """

    method: str
    headers: Mapping[bytes, bytes]
    names: Mapping[str, str]
    receive: Receive | None = None
    body: bytes | None = None
    path: str = ""
    hangup: set[Callable[[], None]] | None = None
    cuts: set[Callable[[str], None]] | None = None
    model: str = ""
    received: int = 0

    def header(self, name: bytes) -> str:
        """A header's value, empty when it is not there."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    @property
    def request_id(self) -> str:
        """``X-Request-ID``, if it is one that may be sent back."""
        if b"x-request-id" not in self.headers:
            return ""
        found = self.header(b"x-request-id")
        return found if len(found) <= _MAX_ID and found.isprintable() else ""

    @property
    def timeout(self) -> float | None:
        """Seconds that the caller grants: ``X-Request-Timeout`` (seconds), and what Envoy says is left (ms).

        Raises:
            SpecError: it is not a positive number.
        """
        if _ASKED not in self.headers and _LEFT not in self.headers:
            return None
        asked = _positive(self.header(_ASKED), "X-Request-Timeout")
        left = _positive(self.header(_LEFT), "X-Envoy-Expected-Rq-Timeout-Ms")
        given = [seconds for seconds in (asked, left and left / 1000) if seconds]
        return min(given, default=None)


def _positive(text: str, header: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0 or math.isinf(value):
        raise errors.SpecError(f'header {header} expected a positive number, got "{refusals.shorten(text)}".')
    return value


async def read_body(request: Request, *, limit: int, deadline: float) -> bytes:
    """The whole body, inflated if it came compressed.

    Raises:
        SpecError: too large (413), too slow (408), of an unknown encoding (415), or not what it says it is.
        NotReady: the server could not wait for it any longer.
        Hangup: the client has gone before it was complete.
    """
    return (await receive_body(request, limit=limit, deadline=deadline)).inflated(limit)


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """A body as it came: ``window`` is zlib's, for one that is compressed."""

    sent: bytes
    window: int | None = None

    def inflated(self, limit: int) -> bytes:
        """What was meant. Raises SpecError: over ``limit`` bytes, or not what its encoding says."""
        return self.sent if self.window is None else _inflated(self.sent, self.window, limit)


async def receive_body(request: Request, *, limit: int, deadline: float) -> Body:
    """The whole body as it came. Raises as ``read_body`` does."""
    window = _inflater(request.header(b"content-encoding")) if b"content-encoding" in request.headers else None
    body = await _arrived(request, limit=limit, deadline=deadline)
    request.received = len(body)
    return Body(body, window)


def held_body(request: Request, *, limit: int) -> bytes:
    """The body of a request that came complete and not compressed. Raises SpecError: it is over ``limit`` bytes."""
    body = request.body or b""
    if len(body) > limit:
        raise too_large(len(body), limit)
    request.received = len(body)
    return body


def declared(request: Request) -> int:
    """The length that the request says its body has; 0 when it does not."""
    text = request.header(b"content-length")
    return int(text) if text.isdecimal() else 0


async def _arrived(request: Request, *, limit: int, deadline: float) -> bytes:
    if (size := declared(request)) > limit:
        raise too_large(size, limit)
    if request.receive is None:
        return b""
    loop, cuts = asyncio.get_running_loop(), set() if request.cuts is None else request.cuts
    said = ""

    def cut(why: str) -> None:
        nonlocal said
        said = why
        waiting.reschedule(loop.time())

    try:
        async with asyncio.timeout_at(deadline) as waiting:
            cuts.add(cut)
            return await _collect(request.receive, limit)
    except TimeoutError:
        if said:
            raise errors.NotReady(said, retry_after=1.0) from None
        raise Refused("the request's body did not arrive within the request's time.", status=408) from None
    finally:
        cuts.discard(cut)


async def _collect(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Hangup
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(size, limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(size: int, limit: int) -> errors.SpecError:
    """The refusal of a message over the one limit that REST and gRPC share."""
    return errors.SpecError(
        f"the request has at least {size} bytes, this server takes {limit} ({limit / _MEBIBYTE:.4g} MiB).",
        hint="Send less at once, or start the server with a larger --max-body-bytes.",
        reason=errors.Reason.TOO_LARGE,
    )


def _inflater(encoding: str) -> int | None:
    """zlib's window bits for a content encoding: 47 tells gzip from zlib by itself."""
    if encoding.lower() in ("", "identity"):
        return None
    if encoding.lower() in ("gzip", "x-gzip", "deflate"):
        return 47
    raise Refused(
        f'the body\'s Content-Encoding "{refusals.shorten(encoding)}" is not known here.',
        hint="Use gzip, deflate or none.",
        status=415,
    )


def _inflated(body: bytes, window: int, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=window)
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise errors.SpecError(f"the body is not what its Content-Encoding says, gzip or deflate: {error}.") from error
    if len(data) > limit:
        raise too_large(len(data), limit)
    if not inflater.eof or inflater.unused_data:
        raise errors.SpecError("the compressed body is cut short or has something behind its end.")
    return data


def json(value: Any, *, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status=status, body=orjson.dumps(value))


def text(value: str, *, content_type: bytes = b"text/plain; charset=utf-8") -> Response:
    """A plain text answer."""
    return Response(body=value.encode(), content_type=content_type)


def failure(error: Exception) -> Response:
    """The answer to what a handler raised."""
    if not isinstance(error, errors.MlshipError):
        LOG.error("request failed", exc_info=error)
        error = errors.BackendError(
            "the server failed on this request.", hint="Its log has the traceback, by the request's id."
        )
    status = error.status if isinstance(error, Refused) else error.reason.http_status
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after)).encode()))
    body = json_codec.encode_error(logs.one_line(error.message), hint=error.hint, code=error.reason.value)
    return Response(status=status, body=body, headers=tuple(headers))


def more_headers(response: Response, request_id: str) -> bytes:
    """The lines of the headers of ``response`` besides type and length and, if there was one, the request's id."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in _more(response, request_id))


def _more(response: Response, request_id: str) -> list[tuple[bytes, bytes]]:
    headers = list(response.headers)
    if request_id:
        headers.append((b"x-request-id", request_id.encode("latin-1")))
    return headers


async def respond(send: Send, response: Response, *, request_id: str = "") -> None:
    """Send ``response`` as ASGI's messages."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *_more(response, request_id),
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
