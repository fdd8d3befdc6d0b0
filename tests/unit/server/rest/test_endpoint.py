from __future__ import annotations

import gzip
import pathlib
import random
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mlship import errors
from mlship.protocol import messages
from mlship.server import infer, loading, machinery, repository
from mlship.server.rest import endpoint, exchange


@pytest.fixture
def point() -> Any:
    engine = machinery.Machinery.start(1)
    models = repository.Repository(engine, queue_size=1, drain_seconds=1.0)
    inference = infer.Inference(models, request_timeout=5.0)
    yield endpoint.Endpoint(inference=inference, max_body_bytes=10, codecs=engine.codecs)
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


class Model:
    platform = "test"
    signature = messages.Signature(
        inputs=(messages.TensorSpec("x", "UINT8", (-1,)),), outputs=(messages.TensorSpec("y", "UINT8", (-1,)),)
    )

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        return {"y": inputs["x"]}

    def close(self) -> None:
        pass


@pytest_asyncio.fixture
async def loaded() -> AsyncIterator[endpoint.Endpoint]:
    engine = machinery.Machinery.start(1)
    models = repository.Repository(engine, queue_size=1, drain_seconds=1.0, open_model=lambda source: Model())
    models.register(loading.Source(name="m", version="1", path=pathlib.Path("/nowhere")))
    await models.load_all()
    inference = infer.Inference(models, request_timeout=30.0)
    yield endpoint.Endpoint(inference=inference, max_body_bytes=10_000_000, codecs=engine.codecs)
    await models.close()
    assert engine.close(10)


@pytest.mark.parametrize(
    ("sent", "headers", "read", "written"),
    [
        (b"x" * 9, {}, True, True),
        (b"x" * (endpoint.LARGE + 1), {}, False, False),
        (gzip.compress(b"x" * (endpoint.LARGE + 1)), {b"content-encoding": b"gzip"}, True, False),
        (gzip.compress(random.Random(1).randbytes(5000)), {b"content-encoding": b"gzip"}, False, True),
    ],
)
async def test_large_bodies_are_read_and_written_off_the_loop(
    loaded: endpoint.Endpoint, sent: bytes, headers: dict[bytes, bytes], read: bool, written: bool
) -> None:
    here: list[bool] = []

    def decode(body: bytes) -> messages.InferRequest:
        here.append(threading.current_thread() is threading.main_thread())
        return messages.InferRequest("m", inputs=(messages.Tensor("x", "UINT8", np.frombuffer(body, np.uint8)),))

    def encode(response: messages.InferResponse, decoded: messages.InferRequest) -> exchange.Response:
        here.append(threading.current_thread() is threading.main_thread())
        return exchange.Response(body=response.outputs[0].data.tobytes())

    made = exchange.Request(method="POST", headers=headers, names={}, body=sent)
    answer = await loaded.answer(made, model="m", version="", decode=decode, encode=encode)
    assert answer.body == (gzip.decompress(sent) if headers else sent)
    assert here == [read, written]


async def test_a_large_body_has_a_deadline_too(loaded: endpoint.Endpoint) -> None:
    release = threading.Event()

    def decode(body: bytes) -> messages.InferRequest:
        assert release.wait(30)
        raise ValueError("nobody is told")

    made = exchange.Request(
        method="POST", headers={b"x-request-timeout": b"0.05"}, names={}, body=b"x" * (endpoint.LARGE + 1)
    )
    try:
        with pytest.raises(errors.Overloaded) as caught:
            await loaded.answer(made, model="m", version="", decode=decode, encode=lambda *_: pytest.fail(""))
    finally:
        release.set()
    assert caught.value.reason is errors.Reason.DEADLINE


async def test_what_a_large_body_is_refused_for_is_said(loaded: endpoint.Endpoint) -> None:
    def decode(body: bytes) -> messages.InferRequest:
        raise errors.SpecError("not so")

    made = exchange.Request(method="POST", headers={}, names={}, body=b"x" * (endpoint.LARGE + 1))
    with pytest.raises(errors.SpecError, match="not so"):
        await loaded.answer(made, model="m", version="", decode=decode, encode=lambda *_: pytest.fail(""))
