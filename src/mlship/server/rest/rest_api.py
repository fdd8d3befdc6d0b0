"""The REST face: a raw ASGI application over a routing table, for uvicorn in process.

One call is one request: route it, answer it, count it. A client that hangs up cancels its own inference and nobody
else's; whatever a handler raises becomes an answer here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import cast

import mlship
from mlship import errors
from mlship.server import describe, infer, logs, trace
from mlship.server.rest import endpoint, exchange, rest_mlflow, rest_repository, rest_v1, rest_v2, routing

LOG = logging.getLogger(__name__)

# In a scope's extensions: a set of callables that the server calls when the client has gone.
HANGUP = "mlship.hangup"
_CLIENT_GONE = 499


class App:
    """The ASGI application of one model server.

    Args:
        max_body_bytes: the limit of a request's body, before and after inflation.
    """

    def __init__(self, inference: infer.Inference, *, max_body_bytes: int) -> None:
        self._metrics = inference.metrics
        point = endpoint.Endpoint(inference=inference, max_body_bytes=max_body_bytes)
        self._models = inference.models
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
        request = exchange.Request(
            method=scope["method"], headers=dict(scope["headers"]), names={}, scope=scope, receive=receive
        )
        request_id, trace_id = request.request_id, trace.trace_id(request.header(b"traceparent"))
        if request_id or trace_id:
            named = {"request_id": request_id, "trace_id": trace_id}
            logs.REQUEST.set({key: value for key, value in named.items() if value})
        try:
            route, request.names = self._table.find(request.method, _path(scope))
        except errors.MlshipError as error:
            await exchange.respond(send, _refused(error), request_id=request_id)
            return
        if route.protocol:
            await self._counted(request, route, send, request_id, trace_id)
        else:
            await exchange.respond(send, await _answered(route, request), request_id=request_id)

    async def _counted(
        self, request: exchange.Request, route: routing.Route, send: exchange.Send, request_id: str, trace_id: str
    ) -> None:
        begun = time.perf_counter()
        code, sent = _CLIENT_GONE, 0
        self._metrics.begun(route.protocol)
        try:
            response = await _unless_hung_up(route, request)
            if response is not None:
                code, sent = response.status, len(response.body)
                await exchange.respond(send, response, request_id=request_id)
        finally:
            seconds = time.perf_counter() - begun
            self._metrics.answered(
                model=request.model,
                protocol=route.protocol,
                code=str(code),
                seconds=seconds,
                received=request.received,
                sent=sent,
                trace_id=trace_id,
            )
            LOG.debug(
                "request", extra=logs.fields(path=_path(request.scope), code=code, milliseconds=round(seconds * 1e3, 3))
            )

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


def _path(scope: exchange.Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1")


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
    gone = False
    task = cast("asyncio.Task[None]", asyncio.current_task())

    def hang_up() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    try:
        with _told(request.scope, hang_up):
            return await _answered(route, request)
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        return None


@contextlib.contextmanager
def _told(scope: exchange.Scope, hang_up: Callable[[], None]) -> Iterator[None]:
    listeners: set[Callable[[], None]] | None = scope.get("extensions", {}).get(HANGUP)
    if listeners is None:
        yield
        return
    listeners.add(hang_up)
    try:
        yield
    finally:
        listeners.discard(hang_up)
