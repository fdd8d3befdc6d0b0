from __future__ import annotations

from typing import Any

import pytest

from mlship import errors
from mlship.server import infer, machinery, repository
from mlship.server.rest import endpoint, exchange


@pytest.fixture
def point() -> Any:
    engine = machinery.Machinery.start(1)
    models = repository.Repository(engine, queue_size=1, drain_seconds=1.0)
    yield endpoint.Endpoint(inference=infer.Inference(models, request_timeout=5.0), max_body_bytes=10)
    assert engine.close(10)


def request(body: bytes) -> exchange.Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return exchange.Request(method="POST", headers={}, names={}, receive=receive)


async def test_an_unknown_model_is_refused_before_its_body_is_read(point: endpoint.Endpoint) -> None:
    made = request(b"x" * 100)
    with pytest.raises(errors.SpecError) as caught:
        await point.answer(
            made, model="nobody", version="", decode=lambda body: pytest.fail("read"), encode=lambda *_: pytest.fail("")
        )
    assert caught.value.reason is errors.Reason.NOT_FOUND
    assert (made.model, made.received) == ("", 0)


async def test_the_limit_is_that_of_every_body(point: endpoint.Endpoint) -> None:
    assert await point.json_body(request(b"{}")) == b"{}"
    with pytest.raises(errors.SpecError, match="10 "):
        await point.json_body(request(b"x" * 11))
