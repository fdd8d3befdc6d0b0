"""The queue in front of one model: bounded, and every request that is let in ends exactly once.

A caller waits in ``submit`` until its result is there, its deadline passes, it is cancelled, or the queue closes.
The item in the queue owns the caller's future; whoever settles it first wins and the others find it done, so that a
caller who leaves never hurts another. A request whose caller has left is dropped before it runs. What to take, and
when, is decided in ``batching``; where it runs, in ``worker``. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time

from mlship import errors
from mlship.server import batching, worker


@dataclasses.dataclass(slots=True, eq=False)
class _Item:
    call: worker.Call
    future: asyncio.Future[Answer]
    queued_ns: int
    waited_ns: int = 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a request got: ``result`` of the model, and the nanoseconds it waited for a slot."""

    result: worker.Result
    queue_ns: int


class Batcher:
    """Admits, queues and starts the requests of one model.

    Args:
        runner: runs a call off the loop.
        queue_size: how many may wait beyond those that run.
        label: the model, as messages name it.
    """

    def __init__(self, runner: worker.Runner, *, queue_size: int, label: str) -> None:
        self._runner = runner
        self._limits = batching.Limits(queue_size=queue_size, slots=runner.slots)
        self._label = label
        # A dict as ordered set: a caller that leaves takes its item out at once, and the place is free again.
        self._waiting: dict[int, _Item] = {}
        self._started: dict[int, _Item] = {}
        self._closed: str | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_seconds = 0.0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Executions under way, those nobody waits for any more included."""
        return len(self._started)

    def _view(self) -> batching.View:
        return batching.View(waiting=len(self._waiting), running=len(self._started), mean_seconds=self._mean_seconds)

    async def submit(self, call: worker.Call, *, deadline: float) -> Answer:
        """Run ``call`` when a slot is free.

        Args:
            deadline: by the event loop's clock.

        Raises:
            Overloaded: the queue is full (reason Overloaded), or the deadline passed (reason DeadlineExceeded).
            NotReady: the model is being unloaded.
        """
        loop = asyncio.get_running_loop()
        self._admit(loop.time(), deadline)
        item = _Item(call=call, future=loop.create_future(), queued_ns=time.perf_counter_ns())
        self._waiting[id(item)] = item
        self._idle.clear()
        self._pump()
        begun = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                return await item.future
        except TimeoutError:
            raise self._expired(loop.time() - begun, item) from None
        finally:
            self._leave(item)

    def _admit(self, now: float, deadline: float) -> None:
        if self._closed is not None:
            raise errors.NotReady(self._closed)
        view = self._view()
        if not batching.admits(view, self._limits):
            raise errors.Overloaded(
                f"{self._label}: {view.running} requests run and {view.waiting} wait, the queue is full.",
                hint="Repeat later, add replicas, or raise --queue-size or --workers.",
                retry_after=batching.retry_after(view, self._limits),
            )
        if now >= deadline:
            raise errors.Overloaded(
                f"{self._label}: the request's time was over before it could run.", reason=errors.Reason.DEADLINE
            )

    def _expired(self, seconds: float, item: _Item) -> errors.Overloaded:
        where = "while waiting for a free worker" if id(item) in self._waiting else "while the model was running"
        return errors.Overloaded(
            f"{self._label}: no answer within the request's time, it ended after {seconds:.3g} s {where}.",
            hint="Give the request more time (its own timeout, or --request-timeout), or add replicas.",
            reason=errors.Reason.DEADLINE,
        )

    def _leave(self, item: _Item) -> None:
        item.call.abandoned = True
        self._waiting.pop(id(item), None)
        item.future.cancel()
        self._note_idle()

    def _pump(self) -> None:
        while isinstance(decision := batching.decide(self._view(), self._limits), batching.Take):
            for _ in range(decision.count):
                item = self._waiting.pop(next(iter(self._waiting)))
                self._start(item)

    def _start(self, item: _Item) -> None:
        item.waited_ns = time.perf_counter_ns() - item.queued_ns
        self._started[id(item)] = item
        self._runner.start(item.call, lambda result: self._finish(item, result))

    def _finish(self, item: _Item, result: worker.Result) -> None:
        del self._started[id(item)]
        # An exponential mean over about the last ten; it only says when to come back.
        self._mean_seconds += (result.nanoseconds / 1e9 - self._mean_seconds) * 0.1
        if not item.future.done():
            item.future.set_result(Answer(result=result, queue_ns=item.waited_ns))
        self._pump()
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._waiting and not self._started:
            self._idle.set()

    def close(self, why: str) -> None:
        """Let nobody in any more: new requests get ``NotReady(why)``. Those inside go on."""
        self._closed = why

    async def drained(self, deadline: float) -> bool:
        """Wait until nobody is inside, at most until ``deadline`` by the loop's clock; whether that was reached."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abandon(self, why: str) -> None:
        """End everybody who is still inside, with ``NotReady(why)``: for a drain whose time is over.

        Code that runs cannot be stopped; it ends in its own time and its result is dropped.
        """
        self.close(why)
        for item in [*self._waiting.values(), *self._started.values()]:
            item.call.abandoned = True
            if not item.future.done():
                item.future.set_exception(errors.NotReady(why))
        self._waiting.clear()
        self._note_idle()
