"""The one path of a request between the codecs: model, binding, queue, worker, packing. REST and gRPC both take it.

``begin`` sends a request on its way and tells its ``done`` what came of it, without a task for each request;
``infer`` is the same for who can wait.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages
from mlship.server import batcher, logs, metrics, repository, worker
from mlship.server.fit import binding

LOG = logging.getLogger(__name__)

# Is called once, with the answer or with what raising it would say.
Done = Callable[[messages.InferResponse | Exception], None]


class Passage:
    """One request inside: between its way into the queue and its answer."""

    __slots__ = ("_begun", "_bound", "_done", "_inference", "_item", "_queue", "_request", "_rows", "_served")

    def __init__(
        self, inference: Inference, request: messages.InferRequest, served: repository.Served, done: Done
    ) -> None:
        self._begun = time.perf_counter_ns()
        self._inference = inference
        self._request = request
        self._served = served
        self._done: Done | None = done

    def enter(self, deadline: float) -> None:
        """Bind the request and let it in. Raises MlshipError."""
        request, served = self._request, self._served
        rows = served.plain.rows(request) if served.plain is not None else 0
        if rows:
            tensor = request.inputs[0]
            call = worker.Call(inputs={tensor.name: tensor.data}, plain=True)
        else:
            inputs = binding.bind(request, served.signature)
            call = worker.Call(
                inputs=inputs,
                outputs=binding.outputs(request, served.signature),
                parameters=binding.parameters(request, served.parameters),
            )
            rows = binding.rows(inputs, served.signature)
        self._rows = rows
        self._bound = time.perf_counter_ns()
        self._queue = served.batcher
        try:
            self._item = self._queue.enter(call, deadline=deadline, rows=rows, done=self._ended)
        except errors.MlshipError as error:
            self._failed(error)
            raise

    def _ended(self, outcome: batcher.Answer | errors.MlshipError) -> None:
        if self._done is None:
            return
        done, self._done = self._done, None
        if not isinstance(outcome, batcher.Answer):
            self._failed(outcome)
            done(outcome)
            return
        served = self._served
        packing = time.perf_counter_ns()
        try:
            response = _response(self._request, outcome.result, served)
        except Exception as error:  # noqa: BLE001 - it travels to whoever waits
            self._failed()
            done(error)
            return
        ended = time.perf_counter_ns()
        self._inference.metrics.inferred(served.source.name, rows=self._rows)
        served.statistics.succeeded(
            rows=self._rows,
            now_ms=time.time_ns() // 1_000_000,
            total=ended - self._begun,
            queue=outcome.queue_ns,
            parts=(self._bound - self._begun, outcome.result.nanoseconds, ended - packing),
        )
        done(response)

    def _failed(self, error: errors.MlshipError | None = None) -> None:
        self._served.statistics.failed(time.perf_counter_ns() - self._begun)
        if error is not None:
            self._inference.refused(self._served.source.name, error)

    def leave(self) -> None:
        """Nobody waits any more: ``done`` is not called. Nothing happens when it was already."""
        if self._done is not None:
            self._done = None
            self._queue.leave(self._item)
            self._failed()


class Later:
    """One request for a model that is loaded first: it waits for that, and then goes the way of all others."""

    __slots__ = ("_deadline", "_done", "_inference", "_passage", "_request", "_waiter")

    def __init__(self, inference: Inference, request: messages.InferRequest, *, deadline: float, done: Done) -> None:
        self._inference, self._request = inference, request
        self._deadline, self._done = deadline, done
        self._passage: Passage | None = None
        self._waiter = inference.models.wait(
            request.model_name, request.model_version, deadline=deadline, done=self._told
        )

    def _told(self, outcome: repository.Served | errors.MlshipError) -> None:
        try:
            if isinstance(outcome, errors.MlshipError):
                self._inference.refused(self._request.model_name, outcome)
                raise outcome
            passage = Passage(self._inference, self._request, outcome, self._done)
            passage.enter(self._deadline)
            self._passage = passage
        except Exception as error:  # noqa: BLE001 - it travels to whoever waits
            self._done(error)

    def leave(self) -> None:
        """Nobody waits any more: the place is free."""
        if self._passage is not None:
            self._passage.leave()
        else:
            self._inference.models.leave(self._waiter)


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
        self._loop: asyncio.AbstractEventLoop | None = None

    def deadline(self, seconds: float | None = None) -> float:
        """The end of a request that begins now, by the loop's clock; ``seconds`` is what its caller asked for."""
        granted = self._timeout if seconds is None else min(self._timeout, seconds)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time() + granted

    def known(self, name: str) -> str:
        """``name`` as a label of metrics: only names that this server has."""
        return name if self.models.knows(name) else metrics.UNKNOWN_MODEL

    def begin(self, request: messages.InferRequest, *, deadline: float, done: Done) -> Passage | Later:
        """Send ``request`` on its way; ``done`` is told what came of it, never from within this call.

        Raises:
            SpecError: the request does not fit.
            NotReady, Overloaded: the model or its queue; the latter two can also be told to ``done``, as can that the
                request's data (SpecError) or the model (ModelError; the cause is logged) is at fault.
        """
        served = self.models.find(request.model_name, request.model_version)
        if request.parameters:
            deadline = _earlier(deadline, request)
        if served is None:
            return Later(self, request, deadline=deadline, done=done)
        passage = Passage(self, request, served, done)
        passage.enter(deadline)
        return passage

    def refused(self, name: str, error: errors.MlshipError) -> None:
        """Count a request that found no place, or whose time was over."""
        if isinstance(error, errors.Overloaded):
            count = self.metrics.expired if error.reason is errors.Reason.DEADLINE else self.metrics.shed
            count(name)

    async def loaded(self, name: str, version: str) -> repository.Served:
        """The model, loaded if need be. Raises SpecError, and MlshipError: why it cannot be."""
        served = self.models.find(name, version)
        if served is not None:
            return served
        future: asyncio.Future[repository.Served] = asyncio.get_running_loop().create_future()
        told = functools.partial(_resolve, future)
        waiter = self.models.wait(name, version, deadline=self.deadline(), done=told)
        try:
            return await future
        finally:
            self.models.leave(waiter)

    def crowded(self, model: str, version: str = "") -> bool:
        """Whether a request for the model would be refused at once, for want of it or of a place in its queue."""
        try:
            return self.models.crowded(model, version)
        except errors.MlshipError:
            return True

    def expect(self, model: str, version: str) -> Callable[[], None]:
        """Keep a place in the model's queue for a request that is still to be read; see ``Batcher.expect``."""
        try:
            return self.models.expect(model, version)
        except errors.Overloaded as error:
            self.refused(model, error)
            raise

    async def infer(self, request: messages.InferRequest, *, deadline: float) -> messages.InferResponse:
        """The answer to ``request``. Raises what ``begin`` does and what that tells ``done``."""
        future: asyncio.Future[messages.InferResponse] = asyncio.get_running_loop().create_future()
        passage = self.begin(request, deadline=deadline, done=functools.partial(_resolve, future))
        try:
            return await future
        finally:
            passage.leave()
            if future.done() and not future.cancelled():
                future.exception()  # A caller who is cancelled just now has not looked; the loop would complain.


def _resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


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
    outputs = result.outputs
    if result.error is not None or type(outputs) is not dict:
        outputs = _outputs(result, served)
    source = served.source
    tensors = tuple([_tensor(name, array, served) for name, array in outputs.items()])
    return messages.InferResponse(source.name, source.version, request.id, tensors)


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
    array = data if type(data) is np.ndarray else np.asarray(data)
    try:
        datatype = messages.datatype_of(array.dtype)
    except KeyError as error:
        raise errors.ModelError(
            f'model "{served.source.name}": output "{name}" is of type {array.dtype}, which no tensor can carry.'
        ) from error
    return messages.Tensor(name, datatype, array, served.output_parameters.get(name, _NONE))


_NONE: Mapping[str, messages.Scalar] = {}
