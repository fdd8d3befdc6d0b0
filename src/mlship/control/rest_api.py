"""The control API: which path goes to which handler, who may ask, and what is counted of each request.

Paths, verbs and shapes are the Kubernetes API's, so that kubectl, SDKs and GitOps tools work against a laptop; what it
has no shape for is under ``/mlship/v1``. One application serves both listeners; the loopback port's is wrapped so that
nothing but ``Bearer TOKEN`` gets through, while the Unix socket's mode is its guard.
"""

from __future__ import annotations

import functools
import hmac
import time
from typing import Any

from starlette import applications, exceptions, requests, responses, routing, types

from mlship import errors
from mlship.control import discovery, extras, metrics, parts, reading, replies, writing

_OBJECT = ["GET", "PUT", "PATCH", "DELETE"]


def build(behind: parts.Parts) -> types.ASGIApp:
    """The application, without a guard."""
    paths = [*_about(behind), *_objects(behind), *_own(extras.Extras(behind))]
    application = applications.Starlette(routes=paths, exception_handlers={exceptions.HTTPException: _http_failure})
    return _Counted(application, behind.meter)


def guard(application: types.ASGIApp, token: str) -> types.ASGIApp:
    """``application`` for whoever sends ``Authorization: Bearer TOKEN``; all others get 401."""
    expected = f"Bearer {token}".encode()

    async def guarded(scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        if scope["type"] == "http":
            given = requests.Request(scope).headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, expected):
                refused = errors.SpecError(
                    "this address asks for a bearer token.",
                    hint="Send the content of $MLSHIP_HOME/token as 'Authorization: Bearer TOKEN'.",
                    reason=errors.Reason.UNAUTHORIZED,
                )
                await replies.failure(refused)(scope, receive, send)
                return
        await application(scope, receive, send)

    return guarded


def _about(behind: parts.Parts) -> list[routing.Route]:
    catalog = behind.catalog

    def fixed(body: Any) -> Any:
        async def handler(request: requests.Request) -> responses.Response:
            return replies.json(body)

        return handler

    async def group(request: requests.Request) -> responses.Response:
        return _found(discovery.group(catalog, request.path_params["group"]), request)

    async def group_resources(request: requests.Request) -> responses.Response:
        given = request.path_params
        return _found(discovery.group_resources(catalog, given["group"], given["version"]), request)

    async def namespaces(request: requests.Request) -> responses.Response:
        names = {"default"}
        for resource in catalog.all:
            found = await behind.kept.names(resource.id)
            names |= {namespace or "default" for namespace, _ in found.pairs}
        items = [discovery.namespace(name) for name in sorted(names)]
        version = str(await behind.kept.version())
        return replies.json(
            {"kind": "NamespaceList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}
        )

    async def namespace(request: requests.Request) -> responses.Response:
        return replies.json(discovery.namespace(request.path_params["name"]))

    async def healthy(request: requests.Request) -> responses.Response:
        return responses.PlainTextResponse("ok")

    handlers = {
        "/version": fixed(discovery.version()),
        "/healthz": healthy,
        "/livez": healthy,
        "/readyz": healthy,
        "/api": fixed(discovery.core_versions()),
        "/api/v1": fixed(discovery.core_resources()),
        "/api/v1/namespaces": namespaces,
        "/api/v1/namespaces/{name}": namespace,
        "/apis": fixed(discovery.groups(catalog)),
        "/apis/{group}": group,
        "/apis/{group}/{version}": group_resources,
    }
    return [_route(path, handler, "GET") for path, handler in handlers.items()]


def _objects(behind: parts.Parts) -> list[routing.Route]:
    read, write = reading.Reading(behind), writing.Writing(behind)
    found = []
    # The namespaced paths first: "namespaces" could also be read as a plural.
    for base in ("/apis/{group}/{version}/namespaces/{namespace}/{plural}", "/apis/{group}/{version}/{plural}"):
        one = base + "/{name}"
        found += [
            _route(base, read.collection, "GET"),
            _route(base, write.create, "POST"),
            _route(base, write.delete_collection, "DELETE"),
            *(
                _route(path, handler, method)
                for path in (one, f"{one}/status")
                for method, handler in (("GET", read.one), ("PUT", write.replace), ("PATCH", write.patch))
            ),
            _route(one, write.delete, "DELETE"),
        ]
    return found


def _own(more: extras.Extras) -> list[routing.Route]:
    base = "/mlship/v1/namespaces/{namespace}"
    return [
        *(
            _route(f"{base}/{plural}/{{name}}/why", functools.partial(more.why, plural=plural), "GET")
            for plural in extras.EXPLAINED
        ),
        *(
            _route(f"{base}/{plural}/{{name}}/introduction", functools.partial(more.introduction, plural=plural), "GET")
            for plural in extras.SERVING
        ),
        _route(f"{base}/inferenceservices/{{name}}/logs", more.logs, "GET"),
        _route("/mlship/v1/top", more.top, "GET"),
        _route("/mlship/v1/plan", more.plan, "POST"),
        _route("/mlship/v1/status", more.status, "GET"),
        _route("/mlship/v1/shutdown", more.shutdown, "POST"),
        _route("/metrics", more.metrics, "GET"),
    ]


def _route(path: str, handler: replies.Handler, method: str) -> routing.Route:
    return routing.Route(path, replies.guarded(handler), methods=[method])


def _found(body: dict[str, Any] | None, request: requests.Request) -> responses.Response:
    if body is None:
        raise errors.SpecError(f"nothing is served at {request.url.path}", reason=errors.Reason.NOT_FOUND)
    return replies.json(body)


async def _http_failure(request: requests.Request, error: Exception) -> responses.Response:
    """Starlette's own refusals, unknown paths and wrong methods, in the form of all others."""
    code = error.status_code if isinstance(error, exceptions.HTTPException) else 500
    if code == 405:
        reason, text = errors.Reason.METHOD_NOT_ALLOWED, f"{request.method} is not possible on {request.url.path}"
    else:
        reason, text = errors.Reason.NOT_FOUND, f"nothing is served at {request.url.path}"
    return replies.failure(errors.SpecError(text, reason=reason))


class _Counted:
    """Counts every request by method and code, and the seconds to the start of its answer."""

    def __init__(self, application: types.ASGIApp, meter: metrics.Metrics) -> None:
        self._application = application
        self._metrics = meter

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in ("GET", "POST", *_OBJECT) else "other"
        started = time.perf_counter()

        async def counted(message: types.Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(method, str(message["status"])).inc()
                self._metrics.request_seconds.labels(method).observe(time.perf_counter() - started)
            await send(message)

        await self._application(scope, receive, counted)
