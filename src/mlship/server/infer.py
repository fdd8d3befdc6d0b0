"""The one path of a request between the codecs: model, binding, queue, worker, packing. REST and gRPC both call it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import batcher, logs, metrics, repository, worker
from mlship.server.fit import binding

LOG = logging.getLogger(__name__)


class Inference:
    """Answers decoded requests.

    Args:
        request_timeout: seconds a request may take when it does not ask for less (``--request-timeout``).
    """

    def __init__(
        self, models: repository.Repository, *, request_timeout: float, counters: metrics.Metrics | None = None
    ) -> None:
        self.models = models
        self.metrics = counters or metrics.Metrics()
        self._timeout = request_timeout

    def deadline(self, seconds: float | None = None) -> float:
        """The end of a request that begins now, by the loop's clock; ``seconds`` is what its caller asked for."""
        granted = self._timeout if seconds is None else min(self._timeout, seconds)
        return asyncio.get_running_loop().time() + granted

    def known(self, name: str) -> str:
        """``name`` as a label of metrics: only names that this server has."""
        return name if name in self.models.names else metrics.UNKNOWN_MODEL

    async def infer(self, request: messages.InferRequest, *, deadline: float) -> messages.InferResponse:
        """The answer to ``request``.

        Raises:
            SpecError: the request does not fit, or the model says so.
            NotReady, Overloaded: the model or its queue.
            ModelError: the model failed; the cause is logged.
        """
        begun = time.perf_counter_ns()
        served = self.models.get(request.model_name, request.model_version)
        deadline = _earlier(deadline, request)
        inputs = binding.bind(request, served.signature)
        call = worker.Call(
            inputs=inputs,
            outputs=binding.outputs(request, served.signature),
            parameters=binding.parameters(request, served.parameters),
        )
        bound = time.perf_counter_ns()
        try:
            rows = binding.rows(inputs, served.signature)
            answer = await self._submit(served, call, deadline, rows)
            packing = time.perf_counter_ns()
            response = _response(request, answer.result, served)
        except BaseException:
            served.statistics.failed(time.perf_counter_ns() - begun)
            raise
        ended = time.perf_counter_ns()
        self.metrics.inferred(served.source.name, rows=rows)
        served.statistics.succeeded(
            rows=rows,
            now_ms=time.time_ns() // 1_000_000,
            total=ended - begun,
            queue=answer.queue_ns,
            parts=(bound - begun, answer.result.nanoseconds, ended - packing),
        )
        return response

    async def _submit(self, served: repository.Served, call: worker.Call, deadline: float, rows: int) -> batcher.Answer:
        try:
            return await served.batcher.submit(call, deadline=deadline, rows=rows)
        except errors.Overloaded as error:
            if error.reason is errors.Reason.DEADLINE:
                self.metrics.expired(served.source.name)
            else:
                self.metrics.shed(served.source.name)
            raise


def _earlier(deadline: float, request: messages.InferRequest) -> float:
    """``deadline``, or the one of the request's own ``timeout``: microseconds, as in Triton; 0 means none."""
    timeout = request.parameters.get("timeout", 0)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
        raise errors.SpecError('request parameter "timeout" expected a whole number of microseconds.')
    if not timeout:
        return deadline
    return min(deadline, asyncio.get_running_loop().time() + timeout / 1e6)


def _response(
    request: messages.InferRequest, result: worker.Result, served: repository.Served
) -> messages.InferResponse:
    return messages.InferResponse(
        model_name=served.source.name,
        model_version=served.source.version,
        id=request.id,
        outputs=tuple(_tensor(name, array, served) for name, array in _outputs(result, served).items()),
    )


def _outputs(result: worker.Result, served: repository.Served) -> Mapping[str, messages.Array]:
    label = f'model "{served.source.name}"'
    if result.error is not None and not isinstance(result.error, errors.SpecError):
        LOG.error("model failed", exc_info=result.error, extra=logs.fields(model=served.source.name))
    if isinstance(result.error, errors.MlshipError):
        raise result.error
    if result.error is not None:
        said = logs.one_line(f"{type(result.error).__name__}: {result.error}", limit=300)
        raise errors.ModelError(f"{label} failed: {said}", hint="The server's log has the traceback.") from result.error
    if not isinstance(result.outputs, Mapping):
        raise errors.ModelError(f"{label} gave {type(result.outputs).__name__} where outputs by name were expected.")
    return result.outputs


def _tensor(name: str, data: messages.Array, served: repository.Served) -> messages.Tensor:
    array = np.asarray(data)
    try:
        datatype = messages.datatype_of(array.dtype)
    except KeyError as error:
        raise errors.ModelError(
            f'model "{served.source.name}": output "{name}" is of type {array.dtype}, which no tensor can carry.'
        ) from error
    spec = next((spec for spec in served.signature.outputs if spec.name == name), None)
    parameters = {"content_type": spec.content_type} if spec is not None and spec.content_type else {}
    return messages.Tensor(name=name, datatype=datatype, data=array, parameters=parameters)
