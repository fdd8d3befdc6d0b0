"""The V1 protocol (TensorFlow Serving's, as KServe speaks it): list, status, ``:predict``."""

from __future__ import annotations

import functools

from mlship import errors
from mlship.protocol import messages, v1_codec
from mlship.server.rest import endpoint, exchange, routing

PROTOCOL = "v1"


def routes(point: endpoint.Endpoint) -> list[routing.Route]:
    """The V1 part of the routing table."""
    bound = functools.partial(functools.partial, point=point)
    return [
        routing.Route("GET", "/v1/models", bound(_list)),
        routing.Route("GET", "/v1/models/{model}", bound(_status)),
        routing.Route("GET", "/v1/models/{model}/versions/{version}", bound(_status)),
        point.route("/v1/models/{model}:predict", _predict, PROTOCOL),
        point.route("/v1/models/{model}/versions/{version}:predict", _predict, PROTOCOL),
        routing.Route("POST", "/v1/models/{model}:explain", bound(_explain)),
    ]


async def _list(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.json({"models": point.inference.models.names})


async def _status(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    name = request.names["model"]
    reason = point.inference.models.model_unready(name, request.names.get("version", ""))
    body = {"name": name, "ready": not reason}
    return exchange.json(body | {"error": reason} if reason else body, status=503 if reason else 200)


def _predict(request: exchange.Request) -> endpoint.Job:
    model, version = request.names["model"], request.names.get("version", "")
    decode = functools.partial(v1_codec.decode_predict, model_name=model, model_version=version)
    return endpoint.Job(model, version, decode, _encode)


def _encode(response: messages.InferResponse, request: messages.InferRequest) -> exchange.Response:
    return exchange.Response(body=v1_codec.encode_predict(response))


async def _explain(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    point.inference.models.status(request.names["model"])
    raise errors.SpecError("explanations are not served here.", hint="Use :predict.", reason=errors.Reason.UNSUPPORTED)
