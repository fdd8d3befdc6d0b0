"""The gRPC face: the Open Inference Protocol and Triton's additions, on the server of ``rpc``.

Messages are parsed here: one that is no message is the caller's fault. Every error ends a call with the code of its
reason; on a stream it is the answer to one message, in Triton's form, and the stream goes on. ``grpc.health.v1`` is
answered from the same readiness, for Envoy and Kubernetes.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from google.protobuf import json_format

from mlship import errors
from mlship.protocol import grpc_codec, messages, oip
from mlship.server import describe, infer, logs, worker
from mlship.server.rest import endpoint, rest_repository
from mlship.server.rpc import call
from mlship.server.rpc import server as rpc_server

LOG = logging.getLogger(__name__)

PROTOCOL = "grpc"
_HEALTH_CHECK = b"/grpc.health.v1.Health/Check"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
_RESPONSE = oip.message("ModelInferResponse")
_STREAMED = oip.message("ModelStreamInferResponse")

Answer = Callable[[Any], Awaitable[Any]]
Told = Callable[[tuple[bytes, ...] | Exception], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The calls of ``oip.SERVICE``, by the methods' names."""

    inference: infer.Inference
    max_bytes: int
    codecs: worker.Workers | None = None

    def methods(self) -> dict[bytes, call.Method]:
        """The methods the protocol lists, and the standard health check."""
        table = {f"/{oip.SERVICE}/{method.name}".encode(): self._method(method) for method in oip.METHODS}
        return table | {_HEALTH_CHECK: call.Method(unary=self._health)}

    def _method(self, method: oip.Method) -> call.Method:
        if method.stream_in:
            return call.Method(stream=self._stream)
        if method.name == "ModelInfer":
            return call.Method(unary=self._infer, timed=True, begin=self._begin)
        answer: Answer = getattr(self, _ANSWERS[method.name])

        async def unary(raw: bytes, context: call.Call) -> tuple[bytes, ...]:
            return _parts(await answer(grpc_codec.parse(method.request_class, raw)))

        return call.Method(unary=unary)

    # Inference

    async def _infer(self, raw: bytes, context: call.Call) -> tuple[bytes, ...]:
        """The answer to a ModelInferRequest; what is large is read and written on the thread for codecs."""
        begun, code, sent, name = time.perf_counter(), "CANCELLED", 0, ""
        self.inference.metrics.begun(PROTOCOL)
        try:
            deadline = self.inference.deadline(context.timeout)
            if len(raw) > endpoint.LARGE:
                message, raws = await self._aside(grpc_codec.opened, raw)
                name = message.model_name
                decode = functools.partial(grpc_codec.decode_infer, message, raws=raws, pause=_let_others)
                request = await self._aside(decode)
            else:
                message, raws = grpc_codec.opened(raw)
                name = message.model_name
                request = grpc_codec.decode_infer(message, raws=raws)
            response = await self.inference.infer(request, deadline=deadline)
            large = endpoint.size_of(response) > endpoint.LARGE
            answer: tuple[bytes, ...]
            answer = await self._aside(grpc_codec.write, response) if large else grpc_codec.write(response)
            code, sent = "OK", sum(map(len, answer))
        except Exception as error:
            code = _code(error)
            raise
        finally:
            self.inference.metrics.answered(
                model=self.inference.known(name),
                protocol=PROTOCOL,
                code=code,
                seconds=time.perf_counter() - begun,
                received=len(raw),
                sent=sent,
                trace_id=context.trace_id,
            )
        return answer

    def _begin(self, raw: bytes, context: call.Call, done: Told) -> Callable[[], None] | None:
        """As ``_infer``, without a task, for what is small."""
        if len(raw) > endpoint.LARGE:
            return None
        passage = _Passage(self.inference, context, received=len(raw), done=done)
        try:
            message, raws = grpc_codec.opened(raw)
            passage.name = message.model_name
            request = grpc_codec.decode_infer(message, raws=raws)
            deadline = self.inference.deadline(context.timeout)
            begun = self.inference.begin(request, deadline=deadline, done=passage.told)
        except Exception as error:
            passage.counted(_code(error))
            raise

        def leave() -> None:
            begun.leave()
            passage.counted("CANCELLED")

        return leave

    async def _aside(self, job: Callable[..., Any], *arguments: Any) -> Any:
        if self.codecs is None:
            return job(*arguments)
        return await self.codecs.call(functools.partial(job, *arguments))

    async def _stream(self, asked: AsyncIterator[bytes], context: call.Call) -> AsyncIterator[tuple[bytes, ...]]:
        async for raw in asked:
            try:
                response = _RESPONSE.FromString(b"".join(await self._infer(raw, context)))
            except errors.MlshipError as error:
                answer = _STREAMED(error_message=str(error))
            except Exception as error:
                LOG.error("call failed", exc_info=error, extra=logs.fields(method="ModelStreamInfer"))
                answer = _STREAMED(error_message="the server failed on this message; its log says why.")
            else:
                answer = _STREAMED(infer_response=response)
            yield _parts(answer)

    # Health and metadata

    async def server_live(self, message: Any) -> Any:
        return oip.message("ServerLiveResponse")(live=True)

    async def server_ready(self, message: Any) -> Any:
        return oip.message("ServerReadyResponse")(ready=not self.inference.models.unready)

    async def model_ready(self, message: Any) -> Any:
        reason = self.inference.models.model_unready(message.name, message.version)
        return oip.message("ModelReadyResponse")(ready=not reason)

    async def server_metadata(self, message: Any) -> Any:
        return _filled("ServerMetadataResponse", describe.server())

    async def model_metadata(self, message: Any) -> Any:
        await self.inference.loaded(message.name, message.version)
        found = describe.model(self.inference.models, message.name, message.version)
        for tensor in [*found["inputs"], *found["outputs"]]:
            tensor.pop("parameters", None)  # This message has no place for them.
        return _filled("ModelMetadataResponse", found)

    # Repository and statistics

    async def repository_index(self, message: Any) -> Any:
        return _filled(
            "RepositoryIndexResponse", {"models": describe.index(self.inference.models, ready=message.ready)}
        )

    async def repository_load(self, message: Any) -> Any:
        rest_repository.check_load_parameters(message.parameters)
        name = _repository_model(message)
        await self.inference.models.load(name)
        return oip.message("RepositoryModelLoadResponse")(model_name=name, isLoaded=True)

    async def repository_unload(self, message: Any) -> Any:
        parameters = {name: _value(value) for name, value in message.parameters.items()}
        rest_repository.check_unload_parameters(parameters)
        name = _repository_model(message)
        await self.inference.models.unload(name)
        return oip.message("RepositoryModelUnloadResponse")(model_name=name, isUnloaded=True)

    async def statistics(self, message: Any) -> Any:
        found = describe.statistics(self.inference.models, message.name, message.version)
        return _filled("ModelStatisticsResponse", {"model_stats": found})

    # grpc.health.v1, written by hand: its two messages have one field each

    async def _health(self, raw: bytes, context: call.Call) -> tuple[bytes, ...]:
        """``Check`` for the whole server, this service, or a model by its name."""
        return (_SERVING if not self._unhealthy(_health_service(raw)) else _NOT_SERVING,)

    def _unhealthy(self, service: str) -> str:
        if service in ("", oip.SERVICE):
            return self.inference.models.unready
        return self.inference.models.model_unready(service)


class _Passage:
    """A call on its way without a task: counts it and writes its answer."""

    __slots__ = ("_begun", "_context", "_done", "_inference", "_received", "name")

    def __init__(self, inference: infer.Inference, context: call.Call, *, received: int, done: Told) -> None:
        self._context = context
        self._begun = time.perf_counter()
        self._inference = inference
        self._received = received
        self._done = done
        self.name = ""
        inference.metrics.begun(PROTOCOL)

    def told(self, outcome: messages.InferResponse | Exception) -> None:
        """What came of it."""
        answer: tuple[bytes, ...] | Exception
        try:
            answer = outcome if isinstance(outcome, Exception) else grpc_codec.write(outcome)
        except Exception as error:  # noqa: BLE001 - it ends the call
            answer = error
        if isinstance(answer, Exception):
            self.counted(_code(answer))
        else:
            self.counted("OK", sum(map(len, answer)))
        self._done(answer)

    def counted(self, code: str, sent: int = 0) -> None:
        """It has ended."""
        self._inference.metrics.answered(
            model=self._inference.known(self.name),
            protocol=PROTOCOL,
            code=code,
            seconds=time.perf_counter() - self._begun,
            received=self._received,
            sent=sent,
            trace_id=self._context.trace_id,
        )


def _code(error: Exception) -> str:
    return error.reason.grpc_code if isinstance(error, errors.MlshipError) else "INTERNAL"


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


def server(service: Service) -> rpc_server.Server:
    """A gRPC server for ``service``, not listening yet."""
    return rpc_server.Server(service.methods(), max_bytes=service.max_bytes)


def _let_others() -> None:
    time.sleep(0)  # Gives the interpreter lock away, without waiting for the switch interval to pass.


def _parts(message: Any) -> tuple[bytes, ...]:
    return (message.SerializeToString(),)


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
