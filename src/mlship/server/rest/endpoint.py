"""What every inference route does: find the model, read the body in time and within limits, decode, infer, encode.

The protocols differ in their codecs only; ``rest_v1``, ``rest_v2`` and ``rest_mlflow`` bring those as a ``Job``.
``begin`` is for a body that is there already: no task if it is small, its answer is told to a callback. ``answer`` is
for all others. A large body is read and a large answer written on a thread for codecs, where the codec pauses between
pieces (``pause_for``), so that the event loop goes on with everybody else's requests.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from mlship import aio, errors
from mlship.protocol import json_slices, messages
from mlship.server import infer, logs, worker
from mlship.server.rest import exchange, routing

LOG = logging.getLogger(__name__)

Decode = Callable[[bytes], messages.InferRequest]
Encode = Callable[[messages.InferResponse, messages.InferRequest], exchange.Response]


class Job(NamedTuple):
    """An inference as its protocol says it: the model, and its codecs."""

    model: str
    version: str
    decode: Decode
    encode: Encode


# Reads a request's path and headers. Raises SpecError.
Prepare = Callable[[exchange.Request], Job]

# Bytes whose JSON takes some milliseconds; and those of a compressed body, which may become a thousand times as many.
LARGE = 256 * 1024
_LARGE_COMPRESSED = 1024


def pause_for(size: int) -> json_slices.Pause | None:
    """What a codec calls between pieces of ``size`` bytes; None: it takes them whole."""
    return _let_others if size > LARGE else None


def _let_others() -> None:
    time.sleep(0)  # Gives the interpreter lock away, without waiting for the switch interval to pass.


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """``max_body_bytes`` is the one limit that REST and gRPC share; ``codecs`` None: all on the event loop."""

    inference: infer.Inference
    max_body_bytes: int
    codecs: worker.Workers | None = None
    tasks: aio.Tasks = dataclasses.field(default_factory=lambda: aio.Tasks(_log_failure))

    def route(self, pattern: str, prepare: Prepare, protocol: str) -> routing.Route:
        """The route of an inference."""
        return routing.Route(
            "POST",
            pattern,
            functools.partial(self.answer, prepare=prepare),
            protocol,
            functools.partial(self.begin, prepare),
        )

    async def answer(self, request: exchange.Request, *, prepare: Prepare) -> exchange.Response:
        """Answer an inference request. Raises MlshipError, in the order in which a request can fail."""
        job = prepare(request)
        deadline = self._found(job, request)
        # Large ones have their place in the queue before they are received; what is refused is not even read.
        has_come = self.inference.expect(job.model, job.version) if exchange.declared(request) > LARGE else None
        try:
            body = await exchange.receive_body(request, limit=self.max_body_bytes, deadline=deadline)
        finally:
            if has_come is not None:
                has_come()
        return await self._through(job, body, deadline)

    async def _through(self, job: Job, body: exchange.Body, deadline: float) -> exchange.Response:
        if len(body.sent) > (LARGE if body.window is None else _LARGE_COMPRESSED):
            has_come = self.inference.expect(job.model, job.version)
            try:
                decoded = await self._aside(lambda: job.decode(body.inflated(self.max_body_bytes)), deadline)
            finally:
                has_come()
        else:
            decoded = job.decode(body.inflated(self.max_body_bytes))
        response = await self.inference.infer(decoded, deadline=deadline)
        return await self._encoded(job, response, decoded, deadline)

    def begin(
        self, prepare: Prepare, request: exchange.Request, done: Callable[[exchange.Response], None]
    ) -> Callable[[], None]:
        """Send a request whose body is there, and is not compressed, on its way; only a large one takes a task.

        Args:
            done: is told the answer, never from within this call.

        Returns:
            What to call when nobody waits any more. Raises as ``answer`` does.
        """
        job = prepare(request)
        deadline = self._found(job, request)
        body = exchange.held_body(request, limit=self.max_body_bytes)
        if len(body) > LARGE:
            return self._aside_told(done, functools.partial(self._through, job, exchange.Body(body), deadline))
        decoded = job.decode(body)
        told = functools.partial(self._told, job, decoded, deadline, done)
        return self.inference.begin(decoded, deadline=deadline, done=told).leave

    def _found(self, job: Job, request: exchange.Request) -> float:
        """The request's deadline. An unknown or unready model is said before a large body has been read for nothing."""
        deadline = self.inference.deadline(request.timeout)
        request.model = self.inference.known(job.model)
        self.inference.models.check(job.model, job.version)
        return deadline

    def _told(
        self,
        job: Job,
        decoded: messages.InferRequest,
        deadline: float,
        done: Callable[[exchange.Response], None],
        outcome: messages.InferResponse | Exception,
    ) -> None:
        try:
            if isinstance(outcome, Exception):
                raise outcome
            if size_of(outcome) > LARGE:
                self._aside_told(done, functools.partial(self._encoded, job, outcome, decoded, deadline))
                return
            response = job.encode(outcome, decoded)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an answer
            response = exchange.failure(error)
        done(response)

    def _aside_told(
        self, done: Callable[[exchange.Response], None], answer: Callable[[], Awaitable[exchange.Response]]
    ) -> Callable[[], None]:
        task = self.tasks.start(_tell(done, answer), name="large")

        def leave() -> None:
            task.cancel()

        return leave

    async def _encoded(
        self, job: Job, response: messages.InferResponse, decoded: messages.InferRequest, deadline: float
    ) -> exchange.Response:
        if size_of(response) <= LARGE:
            return job.encode(response, decoded)
        found: exchange.Response = await self._aside(functools.partial(job.encode, response, decoded), deadline)
        return found

    async def _aside(self, job: Callable[[], Any], deadline: float) -> Any:
        """Do ``job`` on the thread for codecs. Raises Overloaded (DeadlineExceeded) when the time is over first."""
        if self.codecs is None:
            return job()
        try:
            async with asyncio.timeout_at(deadline):
                return await self.codecs.call(job)
        except TimeoutError:
            raise errors.Overloaded(
                "the request's time was over while its large body was being read or written.",
                hint="Give the request more time, or send tensors as binary data.",
                reason=errors.Reason.DEADLINE,
            ) from None

    async def json_body(self, request: exchange.Request) -> bytes:
        """The body of a request that is no inference."""
        return await exchange.read_body(request, limit=self.max_body_bytes, deadline=self.inference.deadline())


def size_of(response: messages.InferResponse) -> int:
    """The bytes of the outputs' arrays."""
    size = 0
    for tensor in response.outputs:
        size += tensor.data.nbytes
    return size


async def _tell(done: Callable[[exchange.Response], None], answer: Callable[[], Awaitable[exchange.Response]]) -> None:
    try:
        response = await answer()
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an answer
        response = exchange.failure(error)
    done(response)


def _log_failure(task: str, error: BaseException) -> None:
    LOG.error("task failed", exc_info=error, extra=logs.fields(task=task))
