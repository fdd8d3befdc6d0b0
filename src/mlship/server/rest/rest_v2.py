"""The Open Inference Protocol over REST: health, metadata, infer; a model's example row; what came of compiling it."""

from __future__ import annotations

import functools

from mlship import errors
from mlship.protocol import json_codec, messages
from mlship.server import describe, example, refusals
from mlship.server.rest import endpoint, exchange, routing

PROTOCOL = "v2"
OCTETS = b"application/octet-stream"
LENGTH_HEADER = b"inference-header-content-length"


def routes(point: endpoint.Endpoint) -> list[routing.Route]:
    """The V2 part of the routing table."""
    bound = functools.partial(functools.partial, point=point)
    table = [
        routing.Route("GET", "/v2", bound(_server)),
        routing.Route("GET", "/v2/health/live", bound(_live)),
        routing.Route("GET", "/v2/health/ready", bound(_ready)),
        routing.Route("GET", "/v2/models", bound(_list)),
    ]
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        table += [
            routing.Route("GET", model, bound(_metadata)),
            routing.Route("GET", f"{model}/ready", bound(_model_ready)),
            routing.Route("GET", f"{model}/example", bound(_example)),
            routing.Route("GET", f"{model}/acceleration", bound(_acceleration)),
            point.route(f"{model}/infer", _infer, PROTOCOL),
        ]
    return table


def named(request: exchange.Request) -> tuple[str, str]:
    """The model and the version (empty: the default one) of a path."""
    return request.names["model"], request.names.get("version", "")


async def _server(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.json(describe.server())


async def _live(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.json({"live": True})


async def _ready(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    reason = point.inference.models.unready
    if reason:
        return exchange.json({"ready": False, "error": reason}, status=503)
    return exchange.json({"ready": True})


async def _list(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    return exchange.json({"models": point.inference.models.names})


async def _metadata(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    name, version = named(request)
    await point.inference.loaded(name, version)
    return exchange.json(describe.model(point.inference.models, name, version))


async def _model_ready(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    name, version = named(request)
    reason = point.inference.models.model_unready(name, version)
    body = {"name": name, "ready": not reason}
    return exchange.json(body | {"error": reason} if reason else body, status=503 if reason else 200)


async def _example(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    served = await point.inference.loaded(*named(request))
    if served.example is None:
        raise errors.SpecError(
            f"{served.source.label} names no row of its own and nothing is known of its inputs.",
            hint="Describe them in a model.schema.yaml beside the model.",
            reason=errors.Reason.NOT_FOUND,
        )
    return exchange.json(example.infer_body(served.example))


async def _acceleration(request: exchange.Request, *, point: endpoint.Endpoint) -> exchange.Response:
    await point.inference.loaded(*named(request))
    return exchange.json(describe.acceleration(point.inference.models, *named(request)))


def _infer(request: exchange.Request) -> endpoint.Job:
    model, version = request.names["model"], request.names.get("version", "")
    header_length = _header_length(request) if LENGTH_HEADER in request.headers else None
    decode = functools.partial(_decode, model=model, version=version, header_length=header_length)
    return endpoint.Job(model, version, decode, _encode)


def _decode(body: bytes, *, model: str, version: str, header_length: int | None) -> messages.InferRequest:
    return json_codec.decode_infer(
        body,
        model_name=model,
        model_version=version,
        header_length=header_length,
        pause=endpoint.pause_for(len(body) if header_length is None else header_length),
    )


def _header_length(request: exchange.Request) -> int | None:
    text = request.header(LENGTH_HEADER)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise errors.SpecError(
            f'header Inference-Header-Content-Length expected a whole number of bytes, got "{refusals.shorten(text)}".'
        )
    return int(text)


def _encode(response: messages.InferResponse, request: messages.InferRequest) -> exchange.Response:
    body, header_length = json_codec.encode_infer(
        response, request, pause=endpoint.pause_for(endpoint.size_of(response))
    )
    if header_length is None:
        return exchange.Response(body=body)
    return exchange.Response(body=body, content_type=OCTETS, headers=((LENGTH_HEADER, str(header_length).encode()),))
