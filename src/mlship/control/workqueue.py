"""When each service is looked at: one serial queue per key, coalescing, delays, and back-off after failures.

``Schedule`` decides and is pure: time is an argument, nothing waits. ``Queue`` gives it a clock, workers and a bell.
What it keeps, checked as properties in tests/unit/control/test_workqueue.py: a key is never with two workers; a key
added while it is being worked on is worked on again; a key that is due is handed out.

Two kinds of news. A change of what is wanted (``urgent``) interrupts any sleep, a failure's back-off included: it may
be the cure. A change of what is observed interrupts a plain sleep but not a back-off, or a failure that itself changes
what is observed would spin.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import itertools
import math
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SPARE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait after the n-th failure in a row: ``first`` doubled each time, at most ``last``."""

    first: float = 0.5
    last: float = 60.0

    def after(self, failures: int) -> float:
        """``failures`` counts from 1."""
        return min(self.first * 2.0 ** min(failures - 1, 30), self.last)


@dataclasses.dataclass(slots=True)
class _Entry:
    due: float = math.inf
    running: bool = False
    urgent: bool = False
    failures: int = 0
    ticket: int = 0


class Schedule(Generic[K]):
    """Which key is due when. Every method is one transition; ``now`` is any clock that does not run backwards.

    A transition costs the logarithm of the number of keys, or less. What is not due yet is in one heap; what is due
    waits in line, a second heap, for who fell due first need not have come first: news of a key that is being worked
    on count from when they came, and are put in line when the work ends. The first heap is not searched when a key's
    time changes: the key gets a new ticket, and what carries an old one is passed over. So that they stay few, the
    heap is now and then made anew.
    """

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff()
        self._entries: dict[K, _Entry] = {}
        self._later: list[tuple[float, int, K]] = []
        self._line: list[tuple[float, int, K]] = []
        self._tickets = itertools.count(1)

    def add(self, key: K, now: float, *, urgent: bool = True) -> None:
        """Have ``key`` worked on now, or right after the work that is under way."""
        entry = self._entries.setdefault(key, _Entry())
        if urgent or entry.running or not entry.failures:
            entry.urgent = entry.urgent or urgent
            self._advance(now)
            if entry.due > now:
                self._file(key, entry, now)

    def take(self, now: float) -> K | None:
        """The key that has been due longest and is with nobody; it is with the caller until ``done``."""
        self._advance(now)
        if not self._line:
            return None
        _, _, key = heapq.heappop(self._line)
        entry = self._entries[key]
        entry.running = True
        entry.urgent = False
        entry.due = math.inf
        return key

    def done(self, key: K, now: float, *, wake_at: float | None = None) -> None:
        """The work on ``key`` succeeded; look again at ``wake_at``, or when it is added."""
        entry = self._finish(key)
        entry.failures = 0
        if wake_at is not None:
            entry.due = min(entry.due, wake_at)
        if entry.due == math.inf:
            del self._entries[key]
        else:
            self._file(key, entry, entry.due)

    def failed(self, key: K, now: float) -> float:
        """The work on ``key`` failed; it is due again after a back-off, which is returned in seconds.

        What was observed meanwhile waits for the back-off too: it may be the failure's own echo. Urgent news does not.
        """
        entry = self._finish(key)
        entry.failures += 1
        delay = 0.0 if entry.urgent else self._backoff.after(entry.failures)
        self._file(key, entry, now + delay)
        return delay

    def next_due(self) -> float:
        """When the next key that is with nobody is due; infinity when none is."""
        self._drop_old()
        return min(heap[0][0] if heap else math.inf for heap in (self._line, self._later))

    def depth(self, now: float) -> int:
        """How many keys are due and wait for a worker."""
        self._advance(now)
        return len(self._line)

    def _file(self, key: K, entry: _Entry, due: float) -> None:
        """Have ``key`` be due then; while it is being worked on, that is only noted."""
        entry.due = due
        if entry.running:
            return
        entry.ticket = next(self._tickets)
        heapq.heappush(self._later, (due, entry.ticket, key))
        if len(self._later) > 2 * len(self._entries) + _SPARE:
            self._later = [one for one in self._later if self._holds(one)]
            heapq.heapify(self._later)

    def _advance(self, now: float) -> None:
        """Put in line what has fallen due."""
        self._drop_old()
        while self._later and self._later[0][0] <= now:
            due = heapq.heappop(self._later)
            self._entries[due[2]].ticket = 0
            heapq.heappush(self._line, due)
            self._drop_old()

    def _drop_old(self) -> None:
        while self._later and not self._holds(self._later[0]):
            heapq.heappop(self._later)

    def _holds(self, filed: tuple[float, int, K]) -> bool:
        """Whether it is the newest word about its key."""
        entry = self._entries.get(filed[2])
        return entry is not None and entry.ticket == filed[1]

    def _finish(self, key: K) -> _Entry:
        entry = self._entries.get(key)
        if entry is None or not entry.running:
            raise RuntimeError(f"{key!r} is finished and was not taken")
        entry.running = False
        return entry


Handler = Callable[[K], Awaitable[float | None]]


class Queue(Generic[K]):
    """A schedule with workers.

    Args:
        handler: works on a key and returns the loop time at which to look again, or None. When it raises, the key
            backs off and ``on_error`` is told; other keys go on.
        on_error: gets the key, the exception and the seconds until the next try.
    """

    def __init__(
        self, handler: Handler[K], *, on_error: Callable[[K, Exception, float], None], backoff: Backoff | None = None
    ) -> None:
        self._handler = handler
        self._on_error = on_error
        self._schedule: Schedule[K] = Schedule(backoff)
        self._bell = asyncio.Condition()
        self._closed = False

    async def add(self, key: K, *, urgent: bool = True) -> None:
        """Have ``key`` worked on soon; many calls before that are one."""
        async with self._bell:
            self._schedule.add(key, _now(), urgent=urgent)
            self._bell.notify()

    def depth(self) -> int:
        """How many keys wait for a worker."""
        return self._schedule.depth(_now())

    async def run(self, *, workers: int) -> None:
        """Work until ``close``; then finish what is under way and return."""
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(), name=f"worker-{number}")

    async def close(self) -> None:
        """Hand out no more keys."""
        async with self._bell:
            self._closed = True
            self._bell.notify_all()

    async def _work(self) -> None:
        while (key := await self._next()) is not None:
            try:
                wake_at = await self._handler(key)
            except Exception as error:  # noqa: BLE001 - one failing key must not end the others; on_error tells it
                delay = self._schedule.failed(key, _now())
                self._on_error(key, error, delay)
            else:
                self._schedule.done(key, _now(), wake_at=wake_at)
            async with self._bell:
                self._bell.notify_all()

    async def _next(self) -> K | None:
        async with self._bell:
            while not self._closed:
                if (key := self._schedule.take(_now())) is not None:
                    return key
                await self._sleep(self._schedule.next_due())
        return None

    async def _sleep(self, until: float) -> None:
        timeout = None if until == math.inf else max(until - _now(), 0.0)
        try:
            async with asyncio.timeout(timeout):
                await self._bell.wait()
        except TimeoutError:
            return


def _now() -> float:
    return asyncio.get_running_loop().time()
