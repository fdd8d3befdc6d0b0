from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from mlship.protocol import messages
from mlship.server import pace, worker


class Model:
    """Says on which thread it ran, and does what its function does."""

    platform = "test"
    signature = messages.Signature(known=False)

    def __init__(self, function: Any = None, **extras: Any) -> None:
        self.function = function or (lambda: None)
        self.threads: list[str] = []
        for name, value in extras.items():
            setattr(self, name, value)

    def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        self.function()
        return {"y": inputs["x"]}

    def close(self) -> None:
        pass


class Async(Model):
    async def infer(self, inputs: Any, *, outputs: Any, parameters: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        await asyncio.sleep(0)
        self.function()
        return {"y": inputs["x"]}


@pytest.fixture
def workers() -> Iterator[worker.Workers]:
    made = worker.Workers(2)
    yield made
    assert made.close(10)


@pytest.fixture
def private() -> Iterator[worker.PrivateLoop]:
    made = worker.PrivateLoop()
    yield made
    assert made.close(10)


async def result_of(runner: worker.Runner, call: worker.Call | None = None) -> worker.Result:
    future: asyncio.Future[worker.Result] = asyncio.get_running_loop().create_future()

    def done(results: Sequence[worker.Result]) -> None:
        assert threading.current_thread() is threading.main_thread()
        (result,) = results
        future.set_result(result)

    runner.start([call or worker.Call(inputs={"x": np.asarray([1])})], done)
    async with asyncio.timeout(30):
        return await future


def runner_of(model: Any, workers: worker.Workers, private: worker.PrivateLoop) -> worker.Runner:
    return worker.runner(model, workers=workers, private=private, loop=asyncio.get_running_loop())


async def test_a_model_runs_on_a_worker_thread(workers: worker.Workers, private: worker.PrivateLoop) -> None:
    model = Model()
    result = await result_of(runner_of(model, workers, private))
    assert result.outputs is not None
    assert result.nanoseconds > 0
    assert model.threads[0].startswith(worker.THREAD_PREFIX)


async def test_a_quick_model_runs_on_the_loop_once_that_is_known_to_be_short(
    workers: worker.Workers, private: worker.PrivateLoop
) -> None:
    model = Model(quick=True)
    runner = runner_of(model, workers, private)
    assert isinstance(runner, worker.QuickRunner)
    for _ in range(3):
        await result_of(runner)
    here = threading.current_thread().name
    assert [name == here for name in model.threads] == [False, True, True]


async def test_a_quick_model_that_is_slow_stays_on_the_workers(
    workers: worker.Workers, private: worker.PrivateLoop
) -> None:
    def compute() -> None:
        end = time.thread_time() + 2 * pace.BUDGET
        while time.thread_time() < end:
            pass

    model = Model(compute, quick=True)
    runner = runner_of(model, workers, private)
    for _ in range(3):
        await result_of(runner)
    assert all(name.startswith(worker.THREAD_PREFIX) for name in model.threads)


async def test_a_quick_model_that_sleeps_goes_to_the_workers(
    workers: worker.Workers, private: worker.PrivateLoop
) -> None:
    model = Model(lambda: time.sleep(2 * pace.STALL), quick=True)
    runner = runner_of(model, workers, private)
    for _ in range(3):
        await result_of(runner)
    here = threading.current_thread().name
    assert [name == here for name in model.threads] == [False, True, False]


async def test_what_a_quick_model_raises_on_the_loop_is_its_result(
    workers: worker.Workers, private: worker.PrivateLoop
) -> None:
    def fail() -> None:
        raise SystemExit(3)

    runner = runner_of(Model(fail, quick=True), workers, private)
    found = [await result_of(runner) for _ in range(3)]
    assert [type(one.error) for one in found] == [SystemExit] * 3


@pytest.mark.parametrize("extras", [{}, {"is_async": True}])
async def test_a_coroutine_model_runs_on_the_private_loop(
    workers: worker.Workers, private: worker.PrivateLoop, extras: dict[str, Any]
) -> None:
    model = Async(**extras)
    runner = runner_of(model, workers, private)
    assert runner.slots == worker.ASYNC_SLOTS
    assert (await result_of(runner)).outputs is not None
    assert model.threads == [f"{worker.THREAD_PREFIX}-coroutines"]


async def test_slots_are_what_the_model_allows_and_the_threads_give(
    workers: worker.Workers, private: worker.PrivateLoop
) -> None:
    assert runner_of(Model(), workers, private).slots == 1
    assert runner_of(Model(concurrent=99), workers, private).slots == 2
    assert runner_of(Async(concurrent=3), workers, private).slots == 3


# A coroutine cannot raise StopIteration: Python makes it a RuntimeError.
RAISED = [(kind, error) for kind in (Model, Async) for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt())]


@pytest.mark.parametrize(("kind", "error"), [*RAISED, (Model, StopIteration())])
async def test_whatever_the_model_raises_is_its_result_and_the_thread_lives_on(
    workers: worker.Workers, private: worker.PrivateLoop, kind: Any, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    runner = runner_of(kind(fail), workers, private)
    assert (await result_of(runner)).error is error
    assert (await result_of(runner)).error is error


@pytest.mark.parametrize("kind", [Model, Async])
async def test_an_abandoned_call_is_left_out(workers: worker.Workers, private: worker.PrivateLoop, kind: Any) -> None:
    model = kind()
    result = await result_of(runner_of(model, workers, private), worker.Call(inputs={}, abandoned=True))
    assert (result.outputs, result.error, model.threads) == (None, None, [])


async def test_call_returns_or_raises_what_the_function_does(workers: worker.Workers) -> None:
    assert await workers.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await workers.call(lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="SystemExit"):
        await workers.call(sys.exit)


async def test_closing_waits_at_most_so_long_for_code_that_does_not_end() -> None:
    stuck, release = worker.Workers(1), threading.Event()
    stuck.submit(lambda: release.wait(30) and None)
    assert not stuck.close(0.01)
    release.set()
    assert stuck.close(10)


async def test_a_private_loop_ends_with_coroutines_under_way(workers: worker.Workers) -> None:
    private = worker.PrivateLoop()
    cancelled, started = threading.Event(), threading.Event()

    async def forever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    private.submit(forever())
    assert started.wait(10)
    assert private.close(10)
    assert cancelled.is_set()


def test_a_result_after_the_loop_has_ended_is_dropped(private: worker.PrivateLoop) -> None:
    ran = threading.Event()
    loop = asyncio.new_event_loop()
    loop.close()
    workers = worker.Workers(1)
    runner = worker.runner(Model(ran.set), workers=workers, private=private, loop=loop)  # type: ignore[arg-type]
    runner.start([worker.Call(inputs={"x": np.asarray([1])})], lambda results: None)
    assert ran.wait(10)
    assert workers.close(10)
