"""The MLflow scoring server's protocol: ``/invocations``, ``/ping``, ``/health``, ``/version``.

``/version`` gives this server's version as plain text, where MLflow's server gives its own: clients use it to tell
that somebody is there. The paths name no model, so they serve the only one. Of several, the path
``/v2/models/NAME/invocations`` names one; so does the host ``NAME-NAMESPACE.DOMAIN``, where the gateway says in a
header that the host means a model, and of which namespace: who knows nothing but ``/invocations`` finds its model.
"""

from __future__ import annotations

import dataclasses
import functools

import mlship
from mlship import errors
from mlship.protocol import messages, mlflow_codec
from mlship.server import refusals
from mlship.server.rest import endpoint, exchange, routing

PROTOCOL = "mlflow"
# The gateway's word that the host of a request is that of a model, in this namespace.
NAMESPACE_HEADER = b"mlship-namespace"
_PREDICTOR = "-predictor"


def routes(point: endpoint.Endpoint) -> list[routing.Route]:
    """MLflow's part of the routing table."""
    bound = functools.partial(functools.partial, point=point)
    return [
        point.route("/invocations", functools.partial(_invocations, point=point), PROTOCOL),
        *(
            point.route(f"{model}/invocations", _invocations_of, PROTOCOL)
            for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        ),
        routing.Route("GET", "/ping", bound(_ping)),
        routing.Route("GET", "/health", bound(_ping)),
        routing.Route("GET", "/version", bound(_version)),
    ]


def _invocations(request: exchange.Request, *, point: endpoint.Endpoint) -> endpoint.Job:
    return _job(request, _of_host(request, point) or _sole(point), "")


def _invocations_of(request: exchange.Request) -> endpoint.Job:
    return _job(request, request.names["model"], request.names.get("version", ""))


def _job(request: exchange.Request, model: str, version: str) -> endpoint.Job:
    decode = functools.partial(_decode, content_type=request.header(b"content-type"), model=model, version=version)
    return endpoint.Job(model, version, decode, _encode)


def _of_host(request: exchange.Request, point: endpoint.Endpoint) -> str:
    """The model that the host means, whether there is one of that name or not; empty where it means none."""
    space = request.header(NAMESPACE_HEADER)
    name, dash, named = request.header(b"host").partition(".")[0].rpartition(f"-{space}")
    if not space or not dash or named:
        return ""
    return name if point.inference.models.knows(name) else name.removesuffix(_PREDICTOR)


def _sole(point: endpoint.Endpoint) -> str:
    names = point.inference.models.names
    if len(names) != 1:
        raise errors.SpecError(
            f"/invocations names no model, and this server has {refusals.listed(names, 'model')}.",
            hint="Use /v2/models/NAME/invocations.",
        )
    return names[0]


def _decode(body: bytes, *, content_type: str, model: str, version: str) -> messages.InferRequest:
    pause = endpoint.pause_for(len(body))
    found = mlflow_codec.decode_invocations(body, content_type=content_type, model_name=model, pause=pause)
    return dataclasses.replace(found, model_version=version) if version else found


def _encode(response: messages.InferResponse, request: messages.InferRequest) -> exchange.Response:
    pause = endpoint.pause_for(endpoint.size_of(response))
    return exchange.Response(body=mlflow_codec.encode_invocations(response, pause=pause))


async def _ping(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    if reason := point.inference.models.unready:
        raise errors.NotReady(reason)
    return exchange.text("\n")


async def _version(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.text(mlship.__version__)
