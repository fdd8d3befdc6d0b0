from __future__ import annotations

import asyncio
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


def request(body: bytes, headers: dict[bytes, bytes] | None = None) -> exchange.Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return exchange.Request(method="POST", headers=headers or {}, names={}, receive=receive)


def job(decode: endpoint.Decode, encode: endpoint.Encode, *, model: str = "m") -> endpoint.Prepare:
    return lambda request: endpoint.Job(model, "", decode, encode)


async def test_an_unknown_model_is_refused_before_its_body_is_read(point: endpoint.Endpoint) -> None:
    made = request(b"x" * 100)
    with pytest.raises(errors.SpecError) as caught:
        await point.answer(
            made, prepare=job(lambda body: pytest.fail("read"), lambda *_: pytest.fail(""), model="nobody")
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

    made = request(sent, headers)
    answer = await loaded.answer(made, prepare=job(decode, encode))
    assert answer.body == (gzip.decompress(sent) if headers else sent)
    assert here == [read, written]


async def test_a_large_body_has_a_deadline_too(loaded: endpoint.Endpoint) -> None:
    release = threading.Event()

    def decode(body: bytes) -> messages.InferRequest:
        assert release.wait(30)
        raise ValueError("nobody is told")

    made = request(b"x" * (endpoint.LARGE + 1), {b"x-request-timeout": b"0.05"})
    try:
        with pytest.raises(errors.Overloaded) as caught:
            await loaded.answer(made, prepare=job(decode, lambda *_: pytest.fail("")))
    finally:
        release.set()
    assert caught.value.reason is errors.Reason.DEADLINE


async def test_what_a_large_body_is_refused_for_is_said(loaded: endpoint.Endpoint) -> None:
    def decode(body: bytes) -> messages.InferRequest:
        raise errors.SpecError("not so")

    made = request(b"x" * (endpoint.LARGE + 1))
    with pytest.raises(errors.SpecError, match="not so"):
        await loaded.answer(made, prepare=job(decode, lambda *_: pytest.fail("")))


def held(body: bytes) -> exchange.Request:
    return exchange.Request(method="POST", headers={}, names={}, body=body)


async def told(point: endpoint.Endpoint, made: exchange.Request, prepare: endpoint.Prepare) -> exchange.Response:
    future: asyncio.Future[exchange.Response] = asyncio.get_running_loop().create_future()
    point.begin(prepare, made, future.set_result)
    assert not future.done(), "told from within"
    async with asyncio.timeout(30):
        return await future


def plain(body: bytes) -> messages.InferRequest:
    return messages.InferRequest("m", inputs=(messages.Tensor("x", "UINT8", np.frombuffer(body, np.uint8)),))


async def test_a_body_that_is_there_is_answered_without_a_task(loaded: endpoint.Endpoint) -> None:
    before = asyncio.all_tasks()
    made = held(b"abc")
    answer = await told(loaded, made, job(plain, lambda *_: exchange.Response(body=b"y")))
    assert (answer.body, made.model, made.received) == (b"y", "m", 3)
    assert asyncio.all_tasks() == before


async def test_what_its_encoder_raises_becomes_the_answer(loaded: endpoint.Endpoint) -> None:
    def encode(*_: Any) -> exchange.Response:
        raise errors.ModelError("no such value")

    answer = await told(loaded, held(b"abc"), job(plain, encode))
    assert (answer.status, b"no such value" in answer.body) == (500, True)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_large_answer_to_a_small_body_is_written_off_the_loop(loaded: endpoint.Endpoint, fails: bool) -> None:
    here: list[bool] = []

    def encode(*_: Any) -> exchange.Response:
        here.append(threading.current_thread() is threading.main_thread())
        if fails:
            raise errors.ModelError("too much")
        return exchange.Response(body=b"large")

    def decode(body: bytes) -> messages.InferRequest:
        return plain(b"x" * (endpoint.LARGE + 1))

    answer = await told(loaded, held(b"abc"), job(decode, encode))
    assert (answer.status, here) == ((500, [False]) if fails else (200, [False]))


@pytest.mark.parametrize("fails", [False, True])
async def test_a_large_body_that_is_there_is_read_off_the_loop(loaded: endpoint.Endpoint, fails: bool) -> None:
    here: list[bool] = []

    def decode(body: bytes) -> messages.InferRequest:
        here.append(threading.current_thread() is threading.main_thread())
        if fails:
            raise errors.SpecError("not so")
        return plain(body[:3])

    made = held(b"x" * (endpoint.LARGE + 1))
    answer = await told(loaded, made, job(decode, lambda *_: exchange.Response(body=b"y")))
    assert (answer.status, here) == ((400 if fails else 200), [False])


async def test_a_large_body_for_a_full_queue_is_refused_before_it_is_read(loaded: endpoint.Endpoint) -> None:
    release, begun = threading.Event(), threading.Event()

    def decode(body: bytes) -> messages.InferRequest:
        begun.set()
        assert release.wait(30)
        return plain(b"abc")

    def answered(prepare: endpoint.Prepare) -> asyncio.Task[exchange.Response]:
        return asyncio.create_task(loaded.answer(request(b"x" * (endpoint.LARGE + 1)), prepare=prepare))

    try:
        inside = [answered(job(decode, lambda *_: exchange.Response(body=b"y"))) for _ in range(2)]
        async with asyncio.timeout(30):
            while not begun.is_set():
                await asyncio.sleep(0)
            with pytest.raises(errors.Overloaded, match="the queue is full"):
                await answered(job(lambda _: pytest.fail("read"), lambda *_: pytest.fail("")))
    finally:
        release.set()
    assert [(await one).body for one in inside] == [b"y", b"y"]
    ((_, kept),) = loaded.inference.models.statistics()
    assert (kept.fail.count, kept.success.count) == (1, 2)


async def test_a_large_body_that_is_declared_for_a_full_queue_is_not_even_received(loaded: endpoint.Endpoint) -> None:
    async def receive() -> dict[str, Any]:
        pytest.fail("received")

    places = [loaded.inference.expect("m", "") for _ in range(2)]
    declared = {b"content-length": str(endpoint.LARGE + 1).encode()}
    made = exchange.Request(method="POST", headers=declared, names={}, receive=receive)
    with pytest.raises(errors.Overloaded, match="the queue is full"):
        await loaded.answer(made, prepare=job(lambda _: pytest.fail("read"), lambda *_: pytest.fail("")))
    assert loaded.inference.crowded("m")
    for has_come in places:
        has_come()
    assert not loaded.inference.crowded("m")
    assert loaded.inference.crowded("nobody")


async def test_who_leaves_a_large_body_behind_is_told_nothing(loaded: endpoint.Endpoint) -> None:
    made = held(b"x" * (endpoint.LARGE + 1))
    loaded.begin(job(plain, lambda *_: pytest.fail("")), made, lambda _: pytest.fail("told"))()
    async with asyncio.timeout(30):
        while len(loaded.tasks):
            await asyncio.sleep(0)


async def test_who_leaves_is_told_nothing(loaded: endpoint.Endpoint) -> None:
    leave = loaded.begin(job(plain, lambda *_: pytest.fail("")), held(b"abc"), lambda _: pytest.fail("told"))
    leave()
    leave()
    ((_, kept),) = loaded.inference.models.statistics()
    assert kept.fail.count == 1


async def test_a_held_body_has_the_limit_of_every_body(point: endpoint.Endpoint) -> None:
    with pytest.raises(errors.SpecError, match="10 "):
        exchange.held_body(held(b"x" * 11), limit=point.max_body_bytes)
