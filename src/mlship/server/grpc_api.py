"""The gRPC face: the Open Inference Protocol and Triton's additions, as generic handlers over the codec's messages.

Messages are parsed here, not by grpc: so that a message over the limit names the setting, and one that is no message
is the caller's fault and not the server's. Every error ends a call with the code of its reason; on a stream it is the
answer to one message, in Triton's form, and the stream goes on. ``grpc.health.v1`` is answered from the same
readiness, for Envoy and Kubernetes.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf import message as protobuf

from mlship import errors
from mlship.protocol import grpc_codec, oip
from mlship.server import describe, infer, logs, trace
from mlship.server.rest import exchange, rest_repository

LOG = logging.getLogger(__name__)

PROTOCOL = "grpc"
# Up to here an oversized message is read, so that the refusal can name the setting; beyond it grpc itself refuses.
_READ_BEYOND = 16 * 1024 * 1024
_MAX_GRPC = 2**31 - 1
_HEALTH = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"

Context = Any  # grpc.aio.ServicerContext, whose type parameters say nothing here
Unary = Callable[[Any, Context], Awaitable[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The calls of ``oip.SERVICE``, by the methods' names."""

    inference: infer.Inference
    max_bytes: int

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The handlers of all methods the protocol lists."""
        table = {method.name: self._handler(method) for method in oip.METHODS}
        return grpc.method_handlers_generic_handler(oip.SERVICE, table)

    def _handler(self, method: oip.Method) -> grpc.RpcMethodHandler[Any, Any]:
        serialize = method.response_class.SerializeToString
        if method.stream_in:
            return grpc.stream_stream_rpc_method_handler(self._stream, None, serialize)
        answer: Unary = self._infer if method.name == "ModelInfer" else getattr(self, _ANSWERS[method.name])

        async def call(raw: bytes, context: Context) -> Any:
            with_request = _named_request(context)
            try:
                return await answer(self._parse(method.request_class, raw), context)
            except errors.MlshipError as error:
                await _abort(context, error)
            except Exception as error:
                LOG.error("call failed", exc_info=error, extra=logs.fields(method=method.name, **with_request))
                await context.abort(grpc.StatusCode.INTERNAL, "the server failed on this call; its log says why.")

        return grpc.unary_unary_rpc_method_handler(call, None, serialize)

    def _parse(self, kind: type[Any], raw: bytes) -> Any:
        if len(raw) > self.max_bytes:
            raise exchange.too_large(len(raw), self.max_bytes)
        try:
            return kind.FromString(raw)
        except protobuf.DecodeError as error:
            raise errors.SpecError(f"the request is no {kind.DESCRIPTOR.full_name}: {error}.") from error

    # Inference

    async def _infer(self, message: Any, context: Context) -> Any:
        seconds = context.time_remaining()
        begun, code, sent = time.perf_counter(), "CANCELLED", 0
        self.inference.metrics.begun(PROTOCOL)
        try:
            request = grpc_codec.decode_infer(message)
            deadline = self.inference.deadline(seconds)
            response = grpc_codec.encode_infer(await self.inference.infer(request, deadline=deadline), request)
            code, sent = "OK", response.ByteSize()
        except errors.MlshipError as error:
            code = error.reason.grpc_code
            raise
        except Exception:
            code = "INTERNAL"
            raise
        finally:
            self.inference.metrics.answered(
                model=self.inference.known(message.model_name),
                protocol=PROTOCOL,
                code=code,
                seconds=time.perf_counter() - begun,
                received=message.ByteSize(),
                sent=sent,
                trace_id=trace.trace_id(_metadata(context).get("traceparent", "")),
            )
        return response

    async def _stream(self, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        request_class, answer_class = oip.message("ModelInferRequest"), oip.message("ModelStreamInferResponse")
        named = _named_request(context)
        async for raw in messages:
            try:
                response = await self._infer(self._parse(request_class, raw), context)
            except errors.MlshipError as error:
                yield answer_class(error_message=str(error))
            except Exception as error:
                LOG.error("call failed", exc_info=error, extra=logs.fields(method="ModelStreamInfer", **named))
                yield answer_class(error_message="the server failed on this message; its log says why.")
            else:
                yield answer_class(infer_response=response)

    # Health and metadata

    async def server_live(self, message: Any, context: Context) -> Any:
        return oip.message("ServerLiveResponse")(live=True)

    async def server_ready(self, message: Any, context: Context) -> Any:
        return oip.message("ServerReadyResponse")(ready=not self.inference.models.unready)

    async def model_ready(self, message: Any, context: Context) -> Any:
        reason = self.inference.models.model_unready(message.name, message.version)
        return oip.message("ModelReadyResponse")(ready=not reason)

    async def server_metadata(self, message: Any, context: Context) -> Any:
        return _filled("ServerMetadataResponse", describe.server())

    async def model_metadata(self, message: Any, context: Context) -> Any:
        found = describe.model(self.inference.models, message.name, message.version)
        for tensor in [*found["inputs"], *found["outputs"]]:
            tensor.pop("parameters", None)  # This message has no place for them.
        return _filled("ModelMetadataResponse", found)

    # Repository and statistics

    async def repository_index(self, message: Any, context: Context) -> Any:
        return _filled(
            "RepositoryIndexResponse", {"models": describe.index(self.inference.models, ready=message.ready)}
        )

    async def repository_load(self, message: Any, context: Context) -> Any:
        rest_repository.check_load_parameters(message.parameters)
        name = _repository_model(message)
        await self.inference.models.load(name)
        return oip.message("RepositoryModelLoadResponse")(model_name=name, isLoaded=True)

    async def repository_unload(self, message: Any, context: Context) -> Any:
        parameters = {name: _value(value) for name, value in message.parameters.items()}
        rest_repository.check_unload_parameters(parameters)
        name = _repository_model(message)
        await self.inference.models.unload(name)
        return oip.message("RepositoryModelUnloadResponse")(model_name=name, isUnloaded=True)

    async def statistics(self, message: Any, context: Context) -> Any:
        found = describe.statistics(self.inference.models, message.name, message.version)
        return _filled("ModelStatisticsResponse", {"model_stats": found})

    # grpc.health.v1, written by hand: its two messages have one field each

    def health(self) -> grpc.GenericRpcHandler[Any, Any]:
        """``Check`` for the whole server, this service, or a model by its name."""

        async def check(raw: bytes, context: Context) -> bytes:
            try:
                return _SERVING if not self._unhealthy(_health_service(raw)) else _NOT_SERVING
            except errors.MlshipError as error:
                await _abort(context, error)
                raise

        return grpc.method_handlers_generic_handler(_HEALTH, {"Check": grpc.unary_unary_rpc_method_handler(check)})

    def _unhealthy(self, service: str) -> str:
        if service in ("", oip.SERVICE):
            return self.inference.models.unready
        return self.inference.models.model_unready(service)


_ANSWERS: Mapping[str, str] = {
    "ServerLive": "server_live",
    "ServerReady": "server_ready",
    "ModelReady": "model_ready",
    "ServerMetadata": "server_metadata",
    "ModelMetadata": "model_metadata",
    "RepositoryIndex": "repository_index",
    "RepositoryModelLoad": "repository_load",
    "RepositoryModelUnload": "repository_unload",
    "ModelStatistics": "statistics",
}


def server(service: Service) -> grpc.aio.Server:
    """A gRPC server for ``service``, not listening yet."""
    limit = min(_MAX_GRPC, service.max_bytes + _READ_BEYOND)
    options = [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    made = grpc.aio.server(options=options)
    made.add_generic_rpc_handlers((service.handlers(), service.health()))
    return made


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _named_request(context: Context) -> dict[str, str]:
    """What the log lines of this call are named by; grpc.aio runs each call in a context of its own."""
    metadata = _metadata(context)
    named = {
        "request_id": metadata.get("x-request-id", ""),
        "trace_id": trace.trace_id(metadata.get("traceparent", "")),
    }
    found = {key: value for key, value in named.items() if value}
    logs.REQUEST.set(found)
    return found


async def _abort(context: Context, error: errors.MlshipError) -> None:
    trailing: list[tuple[str, str]] = [("mlship-reason", error.reason.value)]
    if error.retry_after is not None:
        trailing.append(("grpc-retry-pushback-ms", str(int(error.retry_after * 1000))))
    code = grpc.StatusCode[error.reason.grpc_code]
    await context.abort(code, logs.one_line(str(error)), tuple(trailing))


def _filled(name: str, values: dict[str, Any]) -> Any:
    return json_format.ParseDict(values, oip.message(name)())


def _repository_model(message: Any) -> str:
    """Triton's field 2; KServe's own proto has the model's name in field 1, which is Triton's repository name."""
    name: str = message.model_name or message.repository_name
    return name


def _value(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _health_service(raw: bytes) -> str:
    """The ``service`` (field 1, a string) of a HealthCheckRequest. Raises SpecError."""
    if not raw:
        return ""
    if raw[0] != 0x0A or len(raw) < 2 or raw[1] != len(raw) - 2 or raw[1] > 127:
        raise errors.SpecError("the request is no grpc.health.v1.HealthCheckRequest of at most 127 characters.")
    return raw[2:].decode(errors="replace")
