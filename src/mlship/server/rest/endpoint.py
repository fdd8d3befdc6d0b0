"""What every inference route does: find the model, read the body in time and within limits, decode, infer, encode.

The protocols differ in their codecs only; ``rest_v1``, ``rest_v2`` and ``rest_mlflow`` bring those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mlship.protocol import messages
from mlship.server import infer
from mlship.server.rest import exchange

Decode = Callable[[bytes], messages.InferRequest]
Encode = Callable[[messages.InferResponse, messages.InferRequest], exchange.Response]


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """``max_body_bytes`` is the one limit that REST and gRPC share."""

    inference: infer.Inference
    max_body_bytes: int

    async def answer(
        self, request: exchange.Request, *, model: str, version: str, decode: Decode, encode: Encode
    ) -> exchange.Response:
        """Answer an inference request. Raises MlshipError, in the order in which a request can fail."""
        deadline = self.inference.deadline(request.timeout)
        request.model = self.inference.known(model)
        # An unknown or unready model is said before a large body has been read for nothing.
        self.inference.models.get(model, version)
        body = await exchange.read_body(request, limit=self.max_body_bytes, deadline=deadline)
        decoded = decode(body)
        response = await self.inference.infer(decoded, deadline=deadline)
        return encode(response, decoded)

    async def json_body(self, request: exchange.Request) -> bytes:
        """The body of a request that is no inference."""
        return await exchange.read_body(request, limit=self.max_body_bytes, deadline=self.inference.deadline())
