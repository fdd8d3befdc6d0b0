"""The REST face: a raw ASGI application over a routing table, for uvicorn in process.

One call is one request: route it, answer it, count it. A client that hangs up cancels its own inference and nobody
else's; whatever a handler raises becomes an answer here and nowhere else.
"""

from __future__ import annotations

import abc
import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import mlship
from mlship import errors
from mlship.server import describe, infer, logs, trace, worker
from mlship.server.rest import endpoint, exchange, rest_mlflow, rest_repository, rest_v1, rest_v2, routing

LOG = logging.getLogger(__name__)

# Sends an answer, with the request's id if it had one that may be sent back.
Reply = Callable[[exchange.Response, str], Awaitable[None]]
Found = tuple[routing.Route, Mapping[str, str]]

# In a scope's extensions: a set of callables that the server calls when the client has gone.
HANGUP = "mlship.hangup"
_CLIENT_GONE = 499
_CODES = {200: "200"}
_MAX_PATHS = 1024


class App:
    """The ASGI application of one model server.

    Args:
        max_body_bytes: the limit of a request's body, before and after inflation.
        codecs: where large bodies are read and written; None: on the event loop.
    """

    def __init__(
        self, inference: infer.Inference, *, max_body_bytes: int, codecs: worker.Workers | None = None
    ) -> None:
        self._metrics = inference.metrics
        self._inference = inference
        point = endpoint.Endpoint(inference=inference, max_body_bytes=max_body_bytes, codecs=codecs)
        self._models = inference.models
        # Paths that were asked for lately; what callers write is bounded.
        self.known: dict[bytes, Found] = {}
        self._cuts: set[Callable[[str], None]] = set()
        self._table = routing.Table(
            [
                *rest_v1.routes(point),
                *rest_v2.routes(point),
                *rest_repository.routes(point),
                *rest_mlflow.routes(point),
                routing.Route("GET", "/metrics", self._exposition),
                routing.Route("GET", "/", self._root),
            ]
        )

    async def __call__(self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        request = exchange.Request(
            method=scope["method"],
            headers=dict(scope["headers"]),
            names={},
            receive=receive,
            path=raw.decode("latin-1"),
            hangup=scope.get("extensions", {}).get(HANGUP),
            cuts=self._cuts,
        )

        async def reply(response: exchange.Response, request_id: str) -> None:
            await exchange.respond(send, response, request_id=request_id)

        await self._serve(request, reply)

    def cut(self, why: str) -> None:
        """Wait no longer for bodies that are still coming: their requests are answered with ``NotReady(why)``."""
        for told in list(self._cuts):
            told(why)

    async def _serve(self, request: exchange.Request, reply: Reply) -> None:
        try:
            route, request.names = self._table.find(request.method, request.path)
        except errors.MlshipError as error:
            await reply(_refused(error), _named(request)[0])
            return
        if route.protocol:
            await self.infer(request, route, reply)
        else:
            request_id, _ = _named(request)
            await reply(await _answered(route, request), request_id)

    def inference(self, raw_path: bytes) -> Found | None:
        """The inference route that takes a POST at ``raw_path`` and its open parts; None when there is none."""
        found = self.known.get(raw_path)
        if found is None:
            try:
                found = self._table.find("POST", raw_path.decode("latin-1"))
            except errors.MlshipError:
                return None
            if not found[0].protocol:
                return None
            if len(self.known) >= _MAX_PATHS:
                self.known.clear()
            self.known[raw_path] = found
        return found

    def crowded(self, found: Found) -> bool:
        """Whether a request at this route would be refused at once: then its body need not be waited for."""
        names = found[1]
        return "model" in names and self._inference.crowded(names["model"], names.get("version", ""))

    async def infer(self, request: exchange.Request, route: routing.Route, reply: Reply) -> None:
        """Answer and count a request for an inference; a client that has gone before gets no ``reply``."""
        request_id, trace_id = _named(request)
        begun = time.perf_counter()
        code, sent = _CLIENT_GONE, 0
        self._metrics.begun(route.protocol)
        try:
            response = await _unless_hung_up(route, request)
            if response is not None:
                code, sent = response.status, len(response.body)
                await reply(response, request_id)
        finally:
            self.count(request, route, (code, sent), time.perf_counter() - begun, trace_id)

    def count(
        self, request: exchange.Request, route: routing.Route, answer: tuple[int, int], seconds: float, trace_id: str
    ) -> None:
        """Count a request that was answered with ``answer``: its code and the bytes of its body."""
        code, sent = answer
        self._metrics.answered(
            model=request.model,
            protocol=route.protocol,
            code=_CODES.get(code) or str(code),
            seconds=seconds,
            received=request.received,
            sent=sent,
            trace_id=trace_id,
        )
        if LOG.isEnabledFor(logging.DEBUG):
            extra = logs.fields(path=request.path, code=code, milliseconds=round(seconds * 1e3, 3))
            LOG.debug("request", extra=extra)

    def begun(self, protocol: str) -> None:
        """An inference request has arrived."""
        self._metrics.begun(protocol)

    async def _exposition(self, request: exchange.Request) -> exchange.Response:
        body, content_type = self._metrics.render(request.header(b"accept"))
        return exchange.Response(body=body, content_type=content_type.encode())

    async def _root(self, request: exchange.Request) -> exchange.Response:
        # KServe's V1 client takes "status": "alive" at the root for liveness.
        return exchange.json(
            {
                "name": describe.NAME,
                "version": mlship.__version__,
                "status": "alive",
                "models": describe.index(self._models, ready=False),
                "paths": self._table.patterns,
            }
        )


class Flight(abc.ABC):
    """An inference request, its body there, between its arrival and its answer: no task, no coroutine.

    ``tell`` is called once with the answer, from ``start`` or later; not at all when the client has gone before.
    """

    __slots__ = ("_app", "_begun", "_leave", "_over", "_request", "_request_id", "_route", "_trace_id")

    def __init__(self, app: App, request: exchange.Request, route: routing.Route) -> None:
        self._app = app
        self._request = request
        self._route = route
        self._leave: Callable[[], None] | None = None
        self._over = False
        self._request_id = self._trace_id = ""

    @abc.abstractmethod
    def tell(self, response: exchange.Response, request_id: str) -> None:
        """Send the answer, with the request's id if it had one that may be sent back."""

    def start(self) -> None:
        """Send the request on its way."""
        headers = self._request.headers
        if b"x-request-id" in headers or b"traceparent" in headers:
            # The ids are part of the context from here to the answer, and of nothing else.
            contextvars.copy_context().run(self._start_named)
        else:
            self._start()

    def _start_named(self) -> None:
        self._request_id, self._trace_id = _named(self._request)
        self._start()

    def _start(self) -> None:
        request, route = self._request, self._route
        self._begun = time.perf_counter()
        self._app.begun(route.protocol)
        try:
            self._leave = route.begin(request, self._answered)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an answer and, if ours, a log line
            self._answered(_refused(error))
            return
        if request.hangup is not None:
            request.hangup.add(self._hung_up)

    def _answered(self, response: exchange.Response) -> None:
        if not self._over:
            self._end(response.status, len(response.body))
            self.tell(response, self._request_id)

    def _hung_up(self) -> None:
        if not self._over:
            if self._leave is not None:
                self._leave()
            self._end(_CLIENT_GONE, 0)

    def _end(self, code: int, sent: int) -> None:
        self._over = True
        # A connection that stays keeps its last request: that must not keep a model which has left.
        self._leave = None
        if self._request.hangup is not None:
            self._request.hangup.discard(self._hung_up)
        seconds = time.perf_counter() - self._begun
        self._app.count(self._request, self._route, (code, sent), seconds, self._trace_id)


def _named(request: exchange.Request) -> tuple[str, str]:
    """The ids of the request and of its trace; log lines of this task carry them from here on."""
    request_id = request.request_id
    trace_id = trace.trace_id(request.header(b"traceparent")) if b"traceparent" in request.headers else ""
    if request_id or trace_id:
        named = {"request_id": request_id, "trace_id": trace_id}
        logs.REQUEST.set({key: value for key, value in named.items() if value})
    return request_id, trace_id


async def _answered(route: routing.Route, request: exchange.Request) -> exchange.Response:
    try:
        return await route.handler(request)
    except exchange.Hangup:
        return exchange.Response(status=_CLIENT_GONE)
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an answer and, if ours, a log line
        return _refused(error)


def _refused(error: Exception) -> exchange.Response:
    response = exchange.failure(error)
    if isinstance(error, routing.MethodNotAllowed):
        return exchange.Response(
            status=response.status, body=response.body, headers=((b"allow", error.allow.encode()),)
        )
    return response


async def _unless_hung_up(route: routing.Route, request: exchange.Request) -> exchange.Response | None:
    """The answer, or None when the client has gone before there was one."""
    listeners = request.hangup
    if listeners is None:
        return await _answered(route, request)
    gone = False
    task = cast("asyncio.Task[None]", asyncio.current_task())

    def hang_up() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    listeners.add(hang_up)
    try:
        return await _answered(route, request)
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        return None
    finally:
        listeners.discard(hang_up)
