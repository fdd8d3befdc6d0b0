"""The queue in front of one model: bounded, and every request that is let in ends exactly once.

``enter`` lets a request in; what became of it is told once, to its ``done``: its result, that its deadline passed, or
that the queue closed. Who goes before that (``leave``) is told nothing and hurts nobody: a request that nobody waits
for is dropped before it runs. A join that fails gives nobody an answer: its requests go back to the head of the line
and run one by one. What to take, and when, is decided in ``batching``; where it runs, in ``worker``; how calls are
joined, in ``joining``.

Requests are not started as they come but when the event loop has read all that lay there: what came together runs
together. One timer watches the earliest deadline of all who are inside, rather than one for each request: with the
usual equal timeouts it goes off about once in a timeout. All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

from mlship import errors
from mlship.server import batching, calls, joining, line, logs, worker

LOG = logging.getLogger(__name__)

Answer = line.Answer
Item = line.Item


@dataclasses.dataclass(frozen=True, slots=True)
class Execution:
    """A call of the model that gave answers: to so many requests, of so many rows, in so many nanoseconds."""

    requests: int
    rows: int
    nanoseconds: int


def _unheard(execution: Execution) -> None:
    """Nobody counts."""


class Batcher:
    """Admits, queues, joins and starts the requests of one model.

    Args:
        runner: runs calls off the loop.
        limits: how many may wait, run and be joined; ``slots`` is the runner's.
        label: the model, as messages name it.
        executed: is told of every execution that gave answers.
    """

    def __init__(
        self,
        runner: worker.Runner,
        *,
        limits: batching.Limits,
        label: str,
        executed: Callable[[Execution], None] = _unheard,
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._label = label
        self._executed = executed
        self._line = line.Line(self._key)
        self._started: dict[int, Sequence[line.Item]] = {}
        self._numbers = itertools.count()
        self._closed: str | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_seconds = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._watched = math.inf
        self._wake: asyncio.TimerHandle | None = None
        self._pump_soon = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # Requests that are being read: they have a place in the queue already.
        self._expected = 0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._line)

    @property
    def running(self) -> int:
        """Executions under way, those nobody waits for any more included."""
        return len(self._started)

    @property
    def idle(self) -> bool:
        """Whether nobody is inside and nobody is about to come in."""
        return not (self._line or self._started or self._expected)

    def _view(self) -> batching.View:
        waiting = len(self._line) + self._expected
        inside = sum(map(len, self._started.values())) if self._limits.most else 0
        return batching.View(waiting, running=len(self._started), mean_seconds=self._mean_seconds, inside=inside)

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _key(self, call: calls.Call) -> joining.Key | None:
        return joining.key(call) if self._limits.joins else None

    def enter(self, call: calls.Call, *, deadline: float, rows: int, done: line.Done) -> Item:
        """Let ``call`` in: it runs when a slot is free, by itself or joined with others like it.

        Args:
            deadline: by the event loop's clock.
            rows: how many the call brings; a batch is filled up to so many.
            done: is told once what became of it, never from within this call; it must not raise.

        Raises:
            Overloaded: the queue is full (reason Overloaded), or the deadline passed (reason DeadlineExceeded).
            NotReady: the model is being unloaded.
        """
        loop = self._loop or self._find_loop()
        now = loop.time()
        if len(self._line) + self._expected >= self._limits.queue_size or now >= deadline or self._closed is not None:
            self._admit(now, deadline)
        item = Item(call, done, rows, now, deadline, time.perf_counter_ns(), contextvars.copy_context())
        if deadline < self._watched:
            self._watch_until(deadline, loop)
        self._line.add(item)
        if not self._pump_soon:
            self._idle.clear()
            self._soon(loop)
        return item

    def leave(self, item: Item) -> None:
        """Nobody waits for ``item`` any more; nothing happens when it has its answer."""
        item.call.abandoned = True
        item.done = None
        self._line.remove(item)
        self._note_idle()

    @property
    def full(self) -> bool:
        """Whether nobody would be let in now."""
        return not batching.admits(self._view(), self._limits)

    def expect(self) -> Callable[[], None]:
        """Keep a place for a request whose body is still to be read, so that none is read only to be refused.

        Returns:
            What gives the place back: to be called once, right before the request enters or when it will not.
        Raises as ``enter`` does.
        """
        self._admit(0.0, math.inf)
        self._expected += 1
        return self._expected_has_come

    def _expected_has_come(self) -> None:
        self._expected -= 1

    def _admit(self, now: float, deadline: float) -> None:
        view = self._view()
        if self._closed is not None:
            raise errors.NotReady(self._closed)
        if not batching.admits(view, self._limits):
            raise errors.Overloaded(
                f"{self._label}: {view.running} executions run and {view.waiting} requests wait, the queue is full.",
                hint="Repeat later, add replicas, or raise --queue-size, --workers or --max-concurrency.",
                retry_after=batching.retry_after(view, self._limits),
            )
        if now >= deadline:
            raise errors.Overloaded(
                f"{self._label}: the request's time was over before it could run.", reason=errors.Reason.DEADLINE
            )

    # Deadlines

    def _watch_until(self, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watched = deadline
        self._watch = loop.call_at(deadline, self._expire, loop) if deadline < math.inf else None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        # Timers may go off a little early by the clock that they were set with.
        now = max(loop.time(), self._watched)
        inside = [item for item in self._inside() if item.done is not None]
        for item in inside:
            if item.deadline <= now:
                self._end(item, now, _WAITING if item in self._line else "while the model was running")
        self._watch_until(min((item.deadline for item in inside if item.deadline > now), default=math.inf), loop)
        self._note_idle()

    def _end(self, item: Item, now: float, where: str) -> None:
        error = errors.Overloaded(
            f"{self._label}: no answer within the request's time, it ended after {now - item.since:.3g} s {where}.",
            hint="Give the request more time (its own timeout, or --request-timeout), or add replicas.",
            reason=errors.Reason.DEADLINE,
        )
        self._fail(item, error)

    def _fail(self, item: Item, error: errors.MlshipError) -> None:
        item.call.abandoned = True
        self._line.remove(item)
        item.settle(error)

    def _inside(self) -> Iterator[Item]:
        return itertools.chain(list(self._line), *self._started.values())

    # Executions

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._pump_soon:
            self._pump_soon = True
            loop.call_soon(self._pump, loop)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pump_soon = False
        while len(self._line) and batching.free(self._view(), self._limits):
            together = self._ripe(loop)
            if together is None:
                return
            if together and self._start(together, loop):
                # It ran on this very thread: whoever has come meanwhile is read before the next one runs.
                if len(self._line):
                    self._soon(loop)
                return

    def _ripe(self, loop: asyncio.AbstractEventLoop) -> list[Item] | None:
        """The requests to start now, without those whose time is over; None when there is nothing to start yet."""
        now = loop.time()
        if not self._limits.latency and (sole := self._line.sole()) is not None:
            return self._in_time([sole], now)
        groups = self._line.groups() if self._limits.latency else [self._line.head()]
        waits = []
        for key, group in groups:
            decision = batching.decide(group, self._limits, now=now, inside=self._view().inside)
            if isinstance(decision, batching.Take):
                return self._in_time(self._line.take(key, decision.rows, most=decision.requests), now)
            waits.append(decision.until)
        self._wake_at(min(waits), loop)
        return None

    def _in_time(self, taken: list[Item], now: float) -> list[Item]:
        for item in taken:
            if item.deadline <= now:
                self._end(item, now, _WAITING)
        return [item for item in taken if item.done is not None]

    def _wake_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = loop.call_at(when, self._pump, loop)

    def _start(self, together: Sequence[Item], loop: asyncio.AbstractEventLoop) -> bool:
        """Begin an execution; whether it has ended already."""
        begun = time.perf_counter_ns()
        for item in together:
            item.waited_ns = begun - item.queued_ns
        number = next(self._numbers)
        self._started[number] = together
        self._runner.start([item.call for item in together], functools.partial(self._finish, number, loop))
        return number not in self._started

    def _finish(self, number: int, loop: asyncio.AbstractEventLoop, results: Sequence[calls.Result]) -> None:
        together = self._started.pop(number)
        self._count(together, results)
        again = []
        for item, result in zip(together, results, strict=True):
            if result.again is calls.Again.NO:
                item.settle(Answer(result, item.waited_ns))
            elif item.done is not None:
                again.append(item)
        if any(result.again is calls.Again.NOT_BY_ROWS for result in results):
            self._join_no_more()
        if again:
            self._line.put_back(again)
        if len(self._line):
            self._soon(loop)
        self._note_idle()

    def _count(self, together: Sequence[Item], results: Sequence[calls.Result]) -> None:
        spent = max(result.nanoseconds for result in results)
        # An exponential mean over about the last ten; it only says when to come back.
        self._mean_seconds += (spent / 1e9 - self._mean_seconds) * 0.1
        rows = [item.rows for item, result in zip(together, results, strict=True) if result.outputs is not None]
        if rows:
            self._executed(Execution(requests=len(rows), rows=sum(rows), nanoseconds=spent))

    def _join_no_more(self) -> None:
        if self._limits.joins:
            self._limits = dataclasses.replace(self._limits, max_rows=1, latency=0.0)
            LOG.warning("requests are joined no more", extra=logs.fields(model=self._label, why=_NOT_BY_ROWS))

    # The end

    def _note_idle(self) -> None:
        if not len(self._line) and not self._started:
            self._idle.set()
            if self._closed is not None:
                self._forget_timers()

    def _forget_timers(self) -> None:
        # They would keep the model in memory after it was unloaded.
        for timer in (self._watch, self._wake):
            if timer is not None:
                timer.cancel()
        self._watch = self._wake = None
        self._watched = math.inf
        # Nor may the line and this hold each other: memory is to come back with the last request.
        self._line = line.Line(joining.key)

    def close(self, why: str) -> None:
        """Let nobody in any more: new requests get ``NotReady(why)``. Those inside go on."""
        self._closed = why
        self._note_idle()

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
        for item in self._inside():
            self._fail(item, errors.NotReady(why, retry_after=1.0))
        self._note_idle()


_WAITING = "while waiting for a free worker"
_NOT_BY_ROWS = (
    "its outputs have not one row for each row of its inputs: every request runs by itself from now on; "
    "a signature whose shapes do not begin with -1 (in model.schema.yaml) says so from the start"
)
