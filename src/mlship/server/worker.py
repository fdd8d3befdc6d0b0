"""Where model code runs: worker threads, and one private event loop for models whose ``infer`` gives a coroutine.

The server's event loop runs no code of users, and of the models that only compute (``quick``) no more than a moment's
worth. A ``Runner`` takes the calls of one execution and later hands their
results to ``done``, in the server loop's thread, exactly once; whatever the model's code raises, ``SystemExit``
included, is part of the results. Threads are daemons: code that never returns cannot keep the process from ending
after its drain time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import queue
import resource
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from mlship.server import calls, joining, pace
from mlship.server import model as contract

THREAD_PREFIX = "mlship-worker"
# Coroutines of one model that may be under way at once; they mostly wait for something else.
ASYNC_SLOTS = 64

Call = calls.Call
Result = calls.Result
Outputs = calls.Outputs

# One result for each call of the execution, in their order.
Done = Callable[[Sequence[Result]], None]


class Runner(Protocol):
    """Runs calls of one model off the server's event loop."""

    @property
    def slots(self) -> int:
        """How many calls may be under way at once."""
        ...

    def start(self, together: Sequence[Call], done: Done) -> None:
        """Begin one execution; ``done`` is called in the server loop's thread, possibly before this returns. To be
        called from that thread.

        Args:
            together: one call, or several of one ``joining.key`` where the model takes that.
        """
        ...


class Workers:
    """A fixed set of threads that run jobs in the order they came. The jobs waiting are bounded by who submits them.

    Each thread begins with ``prepare``, which must not raise.
    """

    def __init__(self, threads: int, *, prepare: Callable[[], None] | None = None) -> None:
        self.size = threads
        self._prepare = prepare
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{THREAD_PREFIX}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        if self._prepare is not None:
            self._prepare()
        while (job := self._jobs.get()) is not None:
            job()
            # A thread that waits must not hold on to what it did last: a model that has left would stay in memory.
            del job

    def submit(self, job: Callable[[], None]) -> None:
        """Queue ``job``, which must not raise."""
        self._jobs.put(job)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` on a worker and return or raise what it does; a cancelled caller leaves it running."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.submit(lambda: _settle(loop, future, function))
        return await future

    def close(self, seconds: float) -> bool:
        """Let the threads end after the jobs already queued; whether all did within ``seconds``."""
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
    value, error = None, None
    try:
        value = function()
    except BaseException as caught:  # noqa: BLE001 - it travels to whoever waits
        error = caught
    tell(loop, _resolve, future, value, error)


def _resolve(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, StopIteration | SystemExit | KeyboardInterrupt):
        # A future refuses the first, and the others would end the server's loop.
        future.set_exception(RuntimeError(f"model code raised {error!r}"))
    else:
        future.set_exception(error)


def tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    """Have ``loop`` call ``callback``, from any thread; nothing happens when the loop has ended."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise
        # The server has ended while model code ran on: nobody waits for this result.


@dataclasses.dataclass(frozen=True, slots=True)
class ThreadRunner:
    """Runs a plain model on the workers."""

    model: contract.Model
    workers: Workers
    loop: asyncio.AbstractEventLoop
    slots: int

    def start(self, together: Sequence[Call], done: Done) -> None:
        self.workers.submit(functools.partial(self._run, together, done))

    def _run(self, together: Sequence[Call], done: Done) -> None:
        tell(self.loop, done, joining.run(self.model, together))


def _used() -> tuple[float, int]:
    """This thread's seconds of computing, and how often it gave its processor away by itself, to wait."""
    usage = resource.getrusage(_THREAD)
    return usage.ru_utime + usage.ru_stime, usage.ru_nvcsw


# Only Linux tells a thread's own; elsewhere the process's other threads count as well, which costs some executions
# their place on the event loop and nothing else.
_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


@dataclasses.dataclass(frozen=True, slots=True)
class QuickRunner:
    """Runs a model that only computes: on the event loop while that is short (``pace``), on the workers otherwise."""

    model: contract.Model
    workers: Workers
    loop: asyncio.AbstractEventLoop
    slots: int
    pace: pace.Pace = dataclasses.field(default_factory=pace.Pace)

    def start(self, together: Sequence[Call], done: Done) -> None:
        rows = joining.size(together)
        if not self.pace.short(rows):
            self.workers.submit(functools.partial(self._aside, together, done, rows))
            return
        begun, (computed, sleeps) = time.perf_counter(), _used()
        results = joining.run(self.model, together)
        computed_now, sleeps_now = _used()
        computed = computed_now - computed
        besides = time.perf_counter() - begun - computed
        self.pace.inline(rows, computed, slept=besides if sleeps_now > sleeps else 0.0)
        done(results)

    def _aside(self, together: Sequence[Call], done: Done, rows: int) -> None:
        # The thread's own computing time: the wait for the interpreter is what running inline would save.
        begun = time.thread_time()
        results = joining.run(self.model, together)
        tell(self.loop, self._back, results, done, (rows, time.thread_time() - begun))

    def _back(self, results: Sequence[Result], done: Done, took: tuple[int, float]) -> None:
        self.pace.aside(*took)
        done(results)


@dataclasses.dataclass(frozen=True, slots=True)
class LoopRunner:
    """Runs a coroutine model on the private loop: many calls side by side, never joined."""

    model: contract.Model
    private: PrivateLoop
    loop: asyncio.AbstractEventLoop
    slots: int

    def start(self, together: Sequence[Call], done: Done) -> None:
        (call,) = together
        self.private.submit(self._run(call, done))

    async def _run(self, call: Call, done: Done) -> None:
        tell(self.loop, done, [Result() if call.abandoned else await self._infer(call)])

    async def _infer(self, call: Call) -> Result:
        begun = time.perf_counter_ns()
        infer = cast("Callable[..., Awaitable[Outputs]]", self.model.infer)
        try:
            outputs = await infer(call.inputs, outputs=call.outputs, parameters=call.parameters)
        except BaseException as error:  # noqa: BLE001 - it travels to whoever waits
            return Result(error=error, nanoseconds=time.perf_counter_ns() - begun)
        return Result(outputs=outputs, nanoseconds=time.perf_counter_ns() - begun)


class PrivateLoop:
    """One thread with an event loop of its own, started when the first coroutine model is loaded."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, coroutine: Any) -> None:
        """Run ``coroutine`` there; it must not raise."""
        asyncio.run_coroutine_threadsafe(coroutine, self._running())

    def run(self, coroutine: Any) -> Any:
        """Run ``coroutine`` there and wait for its result: for worker threads, at warm-up."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running()).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name=f"{THREAD_PREFIX}-coroutines", daemon=True
            )
            self._thread.start()
        return self._loop

    def close(self, seconds: float) -> bool:
        """Cancel what still runs and stop the loop; whether its thread ended within ``seconds``."""
        if self._loop is None or self._thread is None:
            return True
        ending = asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)
        ending.add_done_callback(lambda _: self._stop())
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        self._loop.close()
        return True

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def is_coroutine(model: contract.Model) -> bool:
    """Whether the model's ``infer`` gives a coroutine."""
    return bool(getattr(model, "is_async", False)) or inspect.iscoroutinefunction(model.infer)


def runner(model: contract.Model, *, workers: Workers, private: PrivateLoop, loop: asyncio.AbstractEventLoop) -> Runner:
    """The runner that fits ``model``, decided once when it is loaded."""
    if (own := getattr(model, "runner", None)) is not None:
        return cast("Runner", own(loop))
    if is_coroutine(model):
        slots = getattr(model, "concurrent", ASYNC_SLOTS)
        return LoopRunner(model=model, private=private, loop=loop, slots=max(1, slots))
    slots = min(workers.size, getattr(model, "concurrent", 1))
    kind = QuickRunner if getattr(model, "quick", False) else ThreadRunner
    return kind(model=model, workers=workers, loop=loop, slots=max(1, slots))
