from __future__ import annotations

import asyncio
import dataclasses
import selectors
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship import errors
from mlship.server import batcher, worker


class Runner:
    """Keeps calls until the test ends them, and counts how many ran at once."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.pending: list[tuple[worker.Call, worker.Done]] = []
        self.started: list[worker.Call] = []

    def start(self, call: worker.Call, done: worker.Done) -> None:
        assert len(self.pending) < self.slots
        assert not call.abandoned, "a request nobody waits for was started"
        self.started.append(call)
        self.pending.append((call, done))

    def end(self, error: BaseException | None = None) -> None:
        call, done = self.pending.pop(0)
        done(worker.Result(error=error) if error else worker.Result(outputs={"y": call.inputs["x"]}))


def call(number: int) -> worker.Call:
    return worker.Call(inputs={"x": np.asarray([number])})


def make(slots: int = 1, queue_size: int = 10) -> tuple[batcher.Batcher, Runner]:
    runner = Runner(slots)
    return batcher.Batcher(runner, queue_size=queue_size, label='model "m"'), runner


class _Selector(selectors.DefaultSelector):
    """Where the loop would wait, its clock jumps."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nothing else is to be done."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def virtual(main: Any) -> Any:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_caller_gets_its_own_answer() -> None:
    queue, runner = make(slots=2)
    tasks = [asyncio.create_task(queue.submit(call(number), deadline=1e9)) for number in range(3)]
    await settled()
    assert (queue.running, queue.waiting) == (2, 1)
    for _ in range(3):
        runner.end()
        await settled()
    answers = [(await task).result.outputs for task in tasks]
    assert [outputs["y"].tolist() for outputs in answers if outputs] == [[0], [1], [2]]


async def test_a_full_queue_sheds_with_a_time_to_come_back() -> None:
    queue, runner = make(slots=1, queue_size=1)
    tasks = [asyncio.create_task(queue.submit(call(number), deadline=1e9)) for number in range(2)]
    await settled()
    with pytest.raises(errors.Overloaded, match="1 requests run and 1 wait") as caught:
        await queue.submit(call(2), deadline=1e9)
    assert caught.value.reason is errors.Reason.OVERLOADED
    assert caught.value.retry_after == 1.0
    for _ in tasks:
        runner.end()
        await settled()
    await asyncio.gather(*tasks)


async def test_a_cancelled_caller_frees_its_place_and_hurts_nobody() -> None:
    queue, runner = make(slots=1, queue_size=1)
    running, waiting = [asyncio.create_task(queue.submit(call(number), deadline=1e9)) for number in range(2)]
    await settled()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    follower = asyncio.create_task(queue.submit(call(7), deadline=1e9))
    await settled()
    running.cancel()
    await settled()
    assert queue.running == 1, "code that runs cannot be stopped, its slot stays taken"
    assert runner.started[0].abandoned, "a worker that has not begun yet leaves it out"
    runner.end()
    await settled()
    runner.end()
    outputs = (await follower).result.outputs
    assert outputs is not None
    assert outputs["y"].tolist() == [7]
    assert len(runner.started) == 2


def test_an_expired_request_is_dropped_before_it_runs() -> None:
    async def main() -> None:
        queue, runner = make(slots=1)
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(queue.submit(call(0), deadline=loop.time() + 100))
        await settled()
        with pytest.raises(errors.Overloaded, match="while waiting for a free worker") as caught:
            await queue.submit(call(1), deadline=loop.time() + 2)
        assert caught.value.reason is errors.Reason.DEADLINE
        runner.end()
        await first
        assert len(runner.started) == 1
        with pytest.raises(errors.Overloaded, match="was over before it could run"):
            await queue.submit(call(2), deadline=loop.time())

    virtual(main())


def test_a_deadline_that_passes_while_the_model_runs_is_said_so() -> None:
    async def main() -> None:
        queue, runner = make()
        with pytest.raises(errors.Overloaded, match="ended after 3 s while the model was running"):
            await queue.submit(call(0), deadline=asyncio.get_running_loop().time() + 3)
        runner.end()

    virtual(main())


async def test_a_models_own_timeout_error_is_its_answer() -> None:
    queue, runner = make()
    task = asyncio.create_task(queue.submit(call(0), deadline=1e9))
    await settled()
    runner.end(TimeoutError("model"))
    assert isinstance((await task).result.error, TimeoutError)


async def test_a_closed_queue_finishes_what_is_inside_and_lets_nobody_in() -> None:
    queue, runner = make(slots=1)
    tasks = [asyncio.create_task(queue.submit(call(number), deadline=1e9)) for number in range(2)]
    await settled()
    queue.close("the model is being unloaded.")
    with pytest.raises(errors.NotReady, match="being unloaded"):
        await queue.submit(call(3), deadline=1e9)
    loop = asyncio.get_running_loop()
    draining = asyncio.create_task(queue.drained(loop.time() + 30))
    runner.end()
    await settled()
    assert (queue.waiting, queue.running) == (0, 1)
    assert not draining.done(), "one still runs"
    runner.end()
    assert await draining
    await asyncio.gather(*tasks)


def test_a_drain_whose_time_is_over_ends_everybody() -> None:
    async def main() -> None:
        queue, runner = make(slots=1)
        tasks = [asyncio.create_task(queue.submit(call(number), deadline=1e9)) for number in range(2)]
        await settled()
        queue.close("going away.")
        assert not await queue.drained(asyncio.get_running_loop().time() + 5)
        queue.abandon("time is over.")
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [errors.NotReady, errors.NotReady]
        assert len(runner.started) == 1
        runner.end()
        assert await queue.drained(asyncio.get_running_loop().time() + 5)

    virtual(main())


@dataclasses.dataclass
class Ends:
    """How often each request ended, and how."""

    seen: dict[int, list[str]] = dataclasses.field(default_factory=dict)

    async def watch(self, queue: batcher.Batcher, number: int, seconds: float) -> None:
        how = "cancelled"
        try:
            answer = await queue.submit(call(number), deadline=asyncio.get_running_loop().time() + seconds)
            if answer.result.outputs is None:
                how = "failed"
            else:
                how = "answered"
                assert answer.result.outputs["y"].tolist() == [number], "somebody else's answer"
        except errors.MlshipError as error:
            how = error.reason.value
        finally:
            self.seen.setdefault(number, []).append(how)


STEPS = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from([0.5, 3.0, 1000.0])),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("end"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.4, 1.0])),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("abandon"), st.none()),
)


async def act(steps: list[tuple[str, Any]], slots: int, queue_size: int) -> Ends:
    queue, runner = make(slots=slots, queue_size=queue_size)
    ends, tasks = Ends(), []
    for kind, value in steps:
        if kind == "submit":
            tasks.append(asyncio.create_task(ends.watch(queue, len(tasks), value)))
        elif kind == "cancel" and tasks:
            tasks[value % len(tasks)].cancel()
        elif kind == "end" and runner.pending:
            runner.end(ValueError("no") if value else None)
        elif kind == "time":
            await asyncio.sleep(value)
        elif kind == "close":
            queue.close("closed.")
        elif kind == "abandon":
            queue.abandon("over.")
        await asyncio.sleep(0)
        assert queue.waiting <= queue_size
    while runner.pending:
        runner.end()
        await settled()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await queue.drained(asyncio.get_running_loop().time() + 1), "somebody is still inside"
    assert set(ends.seen) | {number for number, task in enumerate(tasks) if task.cancelled()} == set(range(len(tasks)))
    return ends


@settings(deadline=None, max_examples=200)
@given(steps=st.lists(STEPS, max_size=40), slots=st.integers(1, 3), queue_size=st.integers(0, 4))
def test_every_submitted_request_ends_exactly_once(steps: list[tuple[str, Any]], slots: int, queue_size: int) -> None:
    ends = virtual(act(steps, slots, queue_size))
    assert all(len(how) == 1 for how in ends.seen.values())
