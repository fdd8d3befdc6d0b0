"""The MLflow scoring server's protocol: ``/invocations``, ``/ping``, ``/health``, ``/version``.

``/version`` gives this server's version as plain text, where MLflow's server gives its own: clients use it to tell
that somebody is there. The paths name no model, so they serve the only one; with several, the V2 paths name them.
"""

from __future__ import annotations

import functools

import mlship
from mlship import errors
from mlship.protocol import messages, mlflow_codec
from mlship.server import refusals
from mlship.server.rest import endpoint, exchange, routing

PROTOCOL = "mlflow"


def routes(point: endpoint.Endpoint) -> list[routing.Route]:
    """MLflow's part of the routing table."""
    bound = functools.partial(functools.partial, point=point)
    return [
        point.route("/invocations", functools.partial(_invocations, point=point), PROTOCOL),
        routing.Route("GET", "/ping", bound(_ping)),
        routing.Route("GET", "/health", bound(_ping)),
        routing.Route("GET", "/version", bound(_version)),
    ]


def _invocations(request: exchange.Request, *, point: endpoint.Endpoint) -> endpoint.Job:
    model = _sole(point)
    decode = functools.partial(
        mlflow_codec.decode_invocations, content_type=request.header(b"content-type"), model_name=model
    )
    return endpoint.Job(model, "", decode, _encode)


def _sole(point: endpoint.Endpoint) -> str:
    names = point.inference.models.names
    if len(names) != 1:
        raise errors.SpecError(
            f"/invocations names no model, and this server has {refusals.listed(names, 'model')}.",
            hint="Use /v2/models/NAME/infer.",
        )
    return names[0]


def _encode(response: messages.InferResponse, request: messages.InferRequest) -> exchange.Response:
    return exchange.Response(body=mlflow_codec.encode_invocations(response))


async def _ping(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    if reason := point.inference.models.unready:
        raise errors.NotReady(reason)
    return exchange.text("\n")


async def _version(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.text(mlship.__version__)
