"""What every inference route does: find the model, read the body in time and within limits, decode, infer, encode.

The protocols differ in their codecs only; ``rest_v1``, ``rest_v2`` and ``rest_mlflow`` bring those. A large body is
read and a large answer written on a thread for codecs, where the codec pauses between pieces (``pause_for``), so that
the event loop goes on with everybody else's requests.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

from mlship import errors
from mlship.protocol import json_slices, messages
from mlship.server import infer, worker
from mlship.server.rest import exchange

Decode = Callable[[bytes], messages.InferRequest]
Encode = Callable[[messages.InferResponse, messages.InferRequest], exchange.Response]

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

    async def answer(
        self, request: exchange.Request, *, model: str, version: str, decode: Decode, encode: Encode
    ) -> exchange.Response:
        """Answer an inference request. Raises MlshipError, in the order in which a request can fail."""
        deadline = self.inference.deadline(request.timeout)
        request.model = self.inference.known(model)
        # An unknown or unready model is said before a large body has been read for nothing.
        self.inference.models.get(model, version)
        body = await exchange.receive_body(request, limit=self.max_body_bytes, deadline=deadline)
        if len(body.sent) > (LARGE if body.window is None else _LARGE_COMPRESSED):
            decoded = await self._aside(lambda: decode(body.inflated(self.max_body_bytes)), deadline)
        else:
            decoded = decode(body.inflated(self.max_body_bytes))
        response = await self.inference.infer(decoded, deadline=deadline)
        if size_of(response) > LARGE:
            found: exchange.Response = await self._aside(functools.partial(encode, response, decoded), deadline)
            return found
        return encode(response, decoded)

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
    return sum(tensor.data.nbytes for tensor in response.outputs)
