from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import logging
import selectors
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import queues
from mlship import errors
from mlship.protocol import messages
from mlship.server import batcher, batching, joining, worker


class Runner:
    """Keeps calls until the test ends them, and counts how many ran at once."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.pending: list[tuple[Sequence[worker.Call], worker.Done]] = []
        self.started: list[worker.Call] = []
        self.model = Model()

    @property
    def sizes(self) -> list[int]:
        return [len(together) for together, _ in self.pending]

    def start(self, together: Sequence[worker.Call], done: worker.Done) -> None:
        assert len(self.pending) < self.slots
        assert not any(call.abandoned for call in together), "a request nobody waits for was started"
        assert len({joining.key(call) for call in together}) == 1, "calls that do not fit were joined"
        self.started += together
        self.pending.append((together, done))

    def end(self, error: BaseException | None = None) -> None:
        """Run the oldest execution now; the model raises ``error``."""
        together, done = self.pending.pop(0)
        self.model.error = error
        done(joining.run(self.model, together))


class Model:
    """Gives the rows back; negative ones are bad; ``sums``: it looks at all its rows together."""

    signature = messages.Signature()
    platform = "test"
    error: BaseException | None = None
    sums = False

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Mapping[str, messages.Array]:
        if self.error is not None:
            raise self.error
        if (inputs["x"] < 0).any():
            raise errors.SpecError("negative")
        return {"y": inputs["x"].sum(keepdims=True) if self.sums else inputs["x"]}

    def close(self) -> None: ...


def call(number: int, **parameters: messages.Scalar) -> worker.Call:
    return worker.Call(inputs={"x": np.asarray([number])}, parameters=parameters)


def make(
    slots: int = 1, queue_size: int = 10, max_rows: int = 1, latency: float = 0.0, most: int = 0
) -> tuple[batcher.Batcher, Runner]:
    runner = Runner(slots)
    limits = batching.Limits(queue_size=queue_size, slots=slots, max_rows=max_rows, latency=latency, most=most)
    return batcher.Batcher(runner, limits=limits, label='model "m"'), runner


def values(answer: batcher.Answer) -> list[int]:
    assert answer.result.outputs is not None
    return list(answer.result.outputs["y"].tolist())


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
    tasks = [asyncio.create_task(queues.submit(queue, call(number), deadline=1e9)) for number in range(3)]
    await settled()
    assert (queue.running, queue.waiting) == (2, 1)
    for _ in range(3):
        runner.end()
        await settled()
    answers = [(await task).result.outputs for task in tasks]
    assert [outputs["y"].tolist() for outputs in answers if outputs] == [[0], [1], [2]]


async def test_a_full_queue_sheds_with_a_time_to_come_back() -> None:
    queue, runner = make(slots=1, queue_size=1)
    tasks = [asyncio.create_task(queues.submit(queue, call(number), deadline=1e9)) for number in range(2)]
    await settled()
    with pytest.raises(errors.Overloaded, match="1 executions run and 1 requests wait") as caught:
        await queues.submit(queue, call(2), deadline=1e9)
    assert caught.value.reason is errors.Reason.OVERLOADED
    assert caught.value.retry_after == 1.0
    for _ in tasks:
        runner.end()
        await settled()
    await asyncio.gather(*tasks)


async def test_a_cancelled_caller_frees_its_place_and_hurts_nobody() -> None:
    queue, runner = make(slots=1, queue_size=1)
    running, waiting = [asyncio.create_task(queues.submit(queue, call(number), deadline=1e9)) for number in range(2)]
    await settled()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    follower = asyncio.create_task(queues.submit(queue, call(7), deadline=1e9))
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
        first = asyncio.create_task(queues.submit(queue, call(0), deadline=loop.time() + 100))
        await settled()
        with pytest.raises(errors.Overloaded, match="while waiting for a free worker") as caught:
            await queues.submit(queue, call(1), deadline=loop.time() + 2)
        assert caught.value.reason is errors.Reason.DEADLINE
        runner.end()
        await first
        assert len(runner.started) == 1
        with pytest.raises(errors.Overloaded, match="was over before it could run"):
            await queues.submit(queue, call(2), deadline=loop.time())

    virtual(main())


def test_a_deadline_that_passes_while_the_model_runs_is_said_so() -> None:
    async def main() -> None:
        queue, runner = make()
        with pytest.raises(errors.Overloaded, match="ended after 3 s while the model was running"):
            await queues.submit(queue, call(0), deadline=asyncio.get_running_loop().time() + 3)
        runner.end()

    virtual(main())


async def test_a_models_own_timeout_error_is_its_answer() -> None:
    queue, runner = make()
    task = asyncio.create_task(queues.submit(queue, call(0), deadline=1e9))
    await settled()
    runner.end(TimeoutError("model"))
    assert isinstance((await task).result.error, TimeoutError)


async def test_a_closed_queue_finishes_what_is_inside_and_lets_nobody_in() -> None:
    queue, runner = make(slots=1)
    tasks = [asyncio.create_task(queues.submit(queue, call(number), deadline=1e9)) for number in range(2)]
    await settled()
    queue.close("the model is being unloaded.")
    with pytest.raises(errors.NotReady, match="being unloaded"):
        await queues.submit(queue, call(3), deadline=1e9)
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
        tasks = [asyncio.create_task(queues.submit(queue, call(number), deadline=1e9)) for number in range(2)]
        await settled()
        queue.close("going away.")
        assert not await queue.drained(asyncio.get_running_loop().time() + 5)
        queue.abandon("time is over.")
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [(type(one), getattr(one, "retry_after", None)) for one in found] == [(errors.NotReady, 1.0)] * 2
        assert len(runner.started) == 1
        runner.end()
        assert await queue.drained(asyncio.get_running_loop().time() + 5)

    virtual(main())


async def ended(runner: Runner) -> None:
    runner.end()
    await settled()


async def queued(queue: batcher.Batcher, *asked: worker.Call) -> list[asyncio.Task[batcher.Answer]]:
    tasks = [asyncio.create_task(queues.submit(queue, one, deadline=1e9, rows=joining.rows(one))) for one in asked]
    await settled()
    return tasks


async def one_then(queue: batcher.Batcher, *asked: worker.Call) -> list[asyncio.Task[batcher.Answer]]:
    """The first runs, the others come after it."""
    return [*await queued(queue, asked[0]), *await queued(queue, *asked[1:])]


async def test_a_lone_request_starts_at_once_and_what_queued_meanwhile_is_the_next_batch() -> None:
    queue, runner = make(max_rows=3)
    tasks = await one_then(queue, *(call(number) for number in range(6)))
    assert (runner.sizes, queue.waiting) == ([1], 5)
    await ended(runner)
    assert (runner.sizes, queue.waiting) == ([3], 2)
    await ended(runner)
    assert (runner.sizes, queue.waiting) == ([2], 0)
    await ended(runner)
    assert [values(await task) for task in tasks] == [[number] for number in range(6)]


async def test_what_comes_together_runs_together() -> None:
    queue, runner = make(max_rows=3)
    tasks = await queued(queue, *(call(number) for number in range(4)))
    assert (runner.sizes, queue.waiting) == ([3], 1)
    while runner.pending:
        await ended(runner)
    assert [values(await task) for task in tasks] == [[number] for number in range(4)]


async def test_no_more_requests_run_at_once_than_there_may_be_joined_or_not() -> None:
    queue, runner = make(slots=3, max_rows=8, most=4)
    tasks = await one_then(queue, *(call(number) for number in range(9)))
    assert (runner.sizes, queue.waiting) == ([1, 3], 5)
    await ended(runner)
    assert (runner.sizes, queue.waiting) == ([3, 1], 4)
    await ended(runner)
    assert (runner.sizes, queue.waiting) == ([1, 3], 1)
    while runner.pending:
        await ended(runner)
    assert [values(await task) for task in tasks] == [[number] for number in range(9)]


async def test_with_a_limit_of_requests_fewer_are_let_in() -> None:
    queue, _ = make(slots=3, queue_size=1, most=1)
    tasks = await queued(queue, call(0), call(1))
    assert (queue.running, queue.waiting) == (1, 1)
    with pytest.raises(errors.Overloaded, match="--max-concurrency"):
        await queues.submit(queue, call(2), deadline=1e9)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_client_of_a_batch_who_goes_away_costs_the_others_nothing() -> None:
    queue, runner = make(max_rows=8)
    first, *batch = await one_then(queue, *(call(number) for number in range(4)))
    await ended(runner)
    assert runner.sizes == [3]
    batch[1].cancel()
    await asyncio.gather(batch[1], return_exceptions=True)
    await ended(runner)
    assert [values(await task) for task in (first, batch[0], batch[2])] == [[0], [1], [3]]
    assert batch[1].cancelled()


async def test_only_calls_that_fit_each_other_are_joined_and_the_oldest_goes_first() -> None:
    queue, runner = make(max_rows=8)
    tasks = await one_then(queue, call(0), call(1, a=1), call(2, a=True), call(3, a=1), call(4, a=True))
    sizes = []
    while runner.pending:
        sizes += runner.sizes
        await ended(runner)
    assert sizes == [1, 2, 2]
    assert [values(await task) for task in tasks] == [[number] for number in range(5)]


async def test_one_bad_row_fails_alone() -> None:
    queue, runner = make(max_rows=8)
    tasks = await one_then(queue, *(call(number) for number in (0, 1, -2, 3)))
    await ended(runner)
    assert runner.sizes == [3]
    await ended(runner)
    while runner.pending:
        assert runner.sizes == [1]
        await ended(runner)
    answers = await asyncio.gather(*tasks)
    assert isinstance(answers[2].result.error, errors.SpecError)
    assert [values(answers[place]) for place in (0, 1, 3)] == [[0], [1], [3]]
    follow = await one_then(queue, *(call(number) for number in (5, 6, 7)))
    await ended(runner)
    assert runner.sizes == [2], "others are joined again"
    await ended(runner)
    await asyncio.gather(*follow)


async def test_a_model_that_does_not_answer_by_rows_is_joined_no_more(caplog: pytest.LogCaptureFixture) -> None:
    queue, runner = make(max_rows=8)
    runner.model.sums = True
    tasks = await one_then(queue, *(call(number) for number in range(6)))
    sizes = []
    with caplog.at_level(logging.WARNING):
        while runner.pending:
            sizes += runner.sizes
            await ended(runner)
    assert sizes == [1, 5, 1, 1, 1, 1, 1]
    assert [values(await task) for task in tasks] == [[number] for number in range(6)]
    assert [record.message for record in caplog.records] == ["requests are joined no more"]
    tasks = await one_then(queue, *(call(number) for number in range(3)))
    await ended(runner)
    assert runner.sizes == [1]
    await ended(runner)
    await ended(runner)
    await asyncio.gather(*tasks)


def test_a_budget_holds_a_lone_request_for_company_and_no_longer() -> None:
    async def main() -> None:
        queue, runner = make(max_rows=3, latency=0.5)
        loop = asyncio.get_running_loop()
        lone = await queued(queue, call(0))
        assert runner.sizes == []
        await asyncio.sleep(0.6)
        assert runner.sizes == [1]
        runner.end()
        begun = loop.time()
        three = await queued(queue, call(1), call(2), call(3))
        assert (runner.sizes, loop.time()) == ([3], begun)
        runner.end()
        assert [values(await task) for task in (*lone, *three)] == [[0], [1], [2], [3]]

    virtual(main())


def test_the_expired_of_a_batch_do_not_run() -> None:
    async def main() -> None:
        queue, runner = make(max_rows=8)
        loop = asyncio.get_running_loop()
        tasks = await queued(queue, call(9))
        tasks += [
            asyncio.create_task(queues.submit(queue, call(number), deadline=loop.time() + seconds))
            for number, seconds in enumerate((100, 1, 100))
        ]
        await asyncio.sleep(2)
        await ended(runner)
        assert [one.inputs["x"].tolist() for one in runner.pending[0][0]] == [[0], [2]]
        await ended(runner)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[2], errors.Overloaded)

    virtual(main())


async def test_what_an_execution_answered_is_told() -> None:
    told: list[batcher.Execution] = []
    runner = Runner(1)
    limits = batching.Limits(queue_size=9, slots=1, max_rows=8)
    queue = batcher.Batcher(runner, limits=limits, label="m", executed=told.append)
    wide = worker.Call(inputs={"x": np.asarray([1, 2, 3])})
    tasks = await one_then(queue, call(0), call(1), wide)
    await ended(runner)
    await ended(runner)
    await asyncio.gather(*tasks)
    assert [(one.requests, one.rows) for one in told] == [(1, 1), (2, 4)]


@dataclasses.dataclass
class Ends:
    """How often each request ended, and how."""

    seen: dict[int, list[str]] = dataclasses.field(default_factory=dict)

    async def watch(self, queue: batcher.Batcher, number: int, how_much: tuple[float, str, int]) -> None:
        seconds, key, size = how_much
        rows = [number * 10 + row for row in range(size)] if size > 0 else [-number - 1]
        asked = worker.Call(inputs={"x": np.asarray(rows)}, parameters={"key": key})
        how = "cancelled"
        try:
            answer = await queues.submit(
                queue, asked, deadline=asyncio.get_running_loop().time() + seconds, rows=len(rows)
            )
            if answer.result.outputs is None:
                how = "failed"
                bad = isinstance(answer.result.error, errors.SpecError)
                assert bad == (size < 0) or isinstance(answer.result.error, ValueError), "somebody else's failure"
            else:
                how = "answered"
                assert size > 0
                assert answer.result.outputs["y"].tolist() == rows, "somebody else's answer"
        except errors.MlshipError as error:
            how = error.reason.value
        finally:
            self.seen.setdefault(number, []).append(how)


SUBMIT = st.tuples(
    st.just("submit"),
    st.tuples(
        st.sampled_from([1000.0, 1000.0, 3.0, 0.5]), st.sampled_from(["a", "a", "b"]), st.sampled_from([1, 2, 5, -1])
    ),
)
# Many more arrive than go, or there would be little to join.
STEPS = st.one_of(
    SUBMIT,
    SUBMIT,
    SUBMIT,
    SUBMIT,
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("end"), st.sampled_from([False, False, False, True])),
    st.tuples(st.just("time"), st.sampled_from([0.0, 0.4, 1.0])),
)
SHUTDOWNS = st.lists(st.one_of(st.tuples(st.sampled_from(["close", "abandon"]), st.none()), STEPS), max_size=5)


LIMITS = st.fixed_dictionaries(
    {
        "slots": st.integers(1, 3),
        "queue_size": st.integers(0, 6),
        "max_rows": st.sampled_from([1, 2, 8]),
        "latency": st.sampled_from([0.0, 0.3]),
        "most": st.sampled_from([0, 0, 1, 3]),
    }
)


async def act(steps: list[tuple[str, Any]], limits: dict[str, Any]) -> Ends:
    queue, runner = make(**limits)
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
        assert queue.waiting <= max(1, limits["queue_size"]) + limits["slots"] * limits["max_rows"], "the line grows"
        assert not limits["most"] or sum(runner.sizes) <= limits["most"], "more at once than there may be"
    for _ in range(200):
        if runner.pending:
            runner.end()
        await asyncio.sleep(0.05)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one for one in found if one is not None and not isinstance(one, asyncio.CancelledError)] == []
    assert await queue.drained(asyncio.get_running_loop().time() + 1), "somebody is still inside"
    assert set(ends.seen) | {number for number, task in enumerate(tasks) if task.cancelled()} == set(range(len(tasks)))
    return ends


@settings(deadline=None, max_examples=200)
@given(steps=st.lists(STEPS, min_size=10, max_size=40), shutdown=SHUTDOWNS, limits=LIMITS)
def test_every_submitted_request_ends_exactly_once(
    steps: list[tuple[str, Any]], shutdown: list[tuple[str, Any]], limits: dict[str, Any]
) -> None:
    ends = virtual(act([*steps, *shutdown], limits))
    assert all(len(how) == 1 for how in ends.seen.values())


async def test_one_who_enters_is_told_once_and_never_at_once() -> None:
    queue, runner = make()
    told: list[Any] = []
    item = queue.enter(call(7), deadline=1e9, rows=1, done=told.append)
    assert told == []
    await settled()
    runner.end()
    assert [values(answer) for answer in told] == [[7]]
    queue.leave(item)
    item.settle(errors.NotReady("again"))
    assert len(told) == 1


async def test_one_who_leaves_is_told_nothing() -> None:
    queue, runner = make()
    told: list[Any] = []
    inside, waiting = (queue.enter(call(number), deadline=1e9, rows=1, done=told.append) for number in range(2))
    await settled()
    queue.leave(waiting)
    queue.leave(inside)
    runner.end()
    await settled()
    assert (told, queue.waiting, queue.running, len(runner.started)) == ([], 0, 0, 1)


async def test_an_answer_is_told_in_the_context_of_who_asked() -> None:
    queue, runner = make(max_rows=4)
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    told: list[str] = []
    for name in ("a", "b"):
        contextvars.copy_context().run(_enter_as, queue, (who, name, told))
    await settled()
    runner.end()
    assert (told, who.get()) == (["a", "b"], "nobody")


def _enter_as(queue: batcher.Batcher, asked: tuple[contextvars.ContextVar[str], str, list[str]]) -> None:
    who, name, told = asked
    who.set(name)
    queue.enter(call(1), deadline=1e9, rows=1, done=lambda _: told.append(who.get()))


async def test_an_execution_that_ends_where_it_began_lets_the_loop_go_on_before_the_next() -> None:
    class Inline(Runner):
        def start(self, together: Sequence[worker.Call], done: worker.Done) -> None:
            super().start(together, done)
            self.end()

    runner = Inline(1)
    queue = batcher.Batcher(runner, limits=batching.Limits(queue_size=9, slots=1, max_rows=2), label="m")
    order: list[str] = []
    for number in range(3):
        queue.enter(call(number), deadline=1e9, rows=1, done=lambda _: order.append("answer"))
        asyncio.get_running_loop().call_soon(order.append, "loop")
    await settled()
    assert order == ["answer", "answer", "loop", "loop", "loop", "answer"]


async def test_a_place_is_kept_for_a_request_that_is_being_read() -> None:
    queue, runner = make(slots=1, queue_size=1)
    (running,) = await queued(queue, call(0))
    has_come = queue.expect()
    for late in (queue.expect, lambda: queue.enter(call(1), deadline=1e9, rows=1, done=lambda _: None)):
        with pytest.raises(errors.Overloaded, match="1 executions run and 1 requests wait"):
            late()
    has_come()
    (waiting,) = await queued(queue, call(2))
    await ended(runner)
    await ended(runner)
    assert [values(await task) for task in (running, waiting)] == [[0], [2]]
    queue.close("closed.")
    with pytest.raises(errors.NotReady):
        queue.expect()
