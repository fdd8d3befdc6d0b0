"""Repository and statistics over REST, in Triton's wire form (``extension_model_repository``, ``..._statistics``)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import orjson

from mlship import errors
from mlship.server import describe, refusals
from mlship.server.rest import endpoint, exchange, rest_v2, routing


def routes(point: endpoint.Endpoint) -> list[routing.Route]:
    """The repository's part of the routing table."""
    bound = functools.partial(functools.partial, point=point)
    return [
        routing.Route("POST", "/v2/repository/index", bound(_index)),
        routing.Route("POST", "/v2/repository/models/{model}/load", bound(_load)),
        routing.Route("POST", "/v2/repository/models/{model}/unload", bound(_unload)),
        routing.Route("GET", "/mlship/v1/pool", bound(_pool)),
        routing.Route("GET", "/v2/models/stats", bound(_all_statistics)),
        routing.Route("GET", "/v2/models/{model}/stats", bound(_statistics)),
        routing.Route("GET", "/v2/models/{model}/versions/{version}/stats", bound(_statistics)),
    ]


async def _index(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    body = _object(await point.json_body(request), {"ready": bool})
    return exchange.json(describe.index(point.inference.models, ready=body.get("ready", False)))


async def _load(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    check_load_parameters(_parameters(await point.json_body(request)))
    await point.inference.models.load(request.names["model"])
    return exchange.json({"name": request.names["model"], "load": True})


async def _unload(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    check_unload_parameters(_parameters(await point.json_body(request)))
    await point.inference.models.unload(request.names["model"])
    return exchange.json({"name": request.names["model"], "unload": True})


async def _pool(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.json(point.inference.models.report())


async def _all_statistics(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.json({"model_stats": describe.statistics(point.inference.models, "", "")})


async def _statistics(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    name, version = rest_v2.named(request)
    return exchange.json({"model_stats": describe.statistics(point.inference.models, name, version)})


def check_load_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse what a load request may ask of Triton and not of this server. Raises SpecError."""
    if parameters:
        raise errors.SpecError(
            f"a load request takes no parameters here, got {refusals.quoted(sorted(parameters))}.",
            hint="Models are loaded as they lie on disk; change the files there.",
            reason=errors.Reason.UNSUPPORTED,
        )


def check_unload_parameters(parameters: Mapping[str, Any]) -> None:
    """Models here have no dependents, so both values of ``unload_dependents`` mean the same. Raises SpecError."""
    for name, value in parameters.items():
        if name != "unload_dependents" or not isinstance(value, bool):
            raise errors.SpecError(
                f'an unload request takes "unload_dependents" (a boolean), got "{refusals.shorten(name)}".'
            )


def _parameters(body: bytes) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _object(body, {"parameters": dict}).get("parameters", {})
    return found


def _object(body: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    """The JSON object of a small request; an empty body is an empty object. Raises SpecError."""
    if not body.strip():
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.SpecError(f"the body is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise errors.SpecError(f"the body expected a JSON object, got {type(found).__name__}.")
    for name, value in found.items():
        if name not in fields:
            raise refusals.unknown(name, fields, what="field", label="body")
        if not isinstance(value, fields[name]):
            raise errors.SpecError(f'"{name}" expected {fields[name].__name__}, got {type(value).__name__}.')
    return found
