"""When the source of each artifact is looked at: every few seconds while somebody uses it, in turn while nobody does.

A service at rest shall cost nothing, and ten thousand of them next to nothing. So what is not in use shares a fixed
number of looks a second: with few services that makes no difference, with many each waits longer for its turn. What
comes into use is looked at when its last look is longer ago than it would be in use.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import zlib
from collections.abc import Callable

from mlship import aio
from mlship.plan import observed

LOOKS_A_SECOND = 10.0
_LONGEST_WAIT = 3600.0


class Looks:
    """The turns of services. All methods are for the event loop's thread.

    Args:
        every: seconds between two looks at what is in use.
        in_use: whether replicas of a service run.
    """

    def __init__(self, *, every: float, in_use: Callable[[observed.ServiceKey], bool]) -> None:
        self._every = every
        self._in_use = in_use
        # The number of a service's turn, and when it had the last one; a turn with an older number is passed over.
        self._turns: dict[observed.ServiceKey, tuple[int, float]] = {}
        self._heap: list[tuple[float, int, observed.ServiceKey]] = []
        self._numbers = itertools.count(1)
        self._bell = asyncio.Event()

    def add(self, service: observed.ServiceKey) -> None:
        """Begin to give turns to a service. The first ones are spread, so that a start is no stampede."""
        if service not in self._turns:
            self._file(service, self._wait(service) * (zlib.crc32(str(service).encode()) % 1000 + 1) / 1000)

    def used(self, service: observed.ServiceKey) -> None:
        """The service has come into use."""
        if service in self._turns:
            _, last = self._turns[service]
            # A time that is over goes before all that are less so.
            self._file(service, last + self._every - _now(), last=last)

    def drop(self, service: observed.ServiceKey) -> None:
        """No more turns."""
        self._turns.pop(service, None)

    async def next(self) -> observed.ServiceKey:
        """Wait for the next turn; whose it is. That service has its next one counted from now."""
        while True:
            self._bell.clear()
            while self._heap and self._turns.get(self._heap[0][2], (0, 0.0))[0] != self._heap[0][1]:
                heapq.heappop(self._heap)
            wait = self._heap[0][0] - _now() if self._heap else _LONGEST_WAIT
            if wait <= 0:
                service = heapq.heappop(self._heap)[2]
                self._file(service, self._wait(service))
                return service
            await aio.wait_event(self._bell, min(wait, _LONGEST_WAIT))

    def _wait(self, service: observed.ServiceKey) -> float:
        return self._every if self._in_use(service) else max(self._every, len(self._turns) / LOOKS_A_SECOND)

    def _file(self, service: observed.ServiceKey, wait: float, *, last: float | None = None) -> None:
        number = next(self._numbers)
        self._turns[service] = (number, _now() if last is None else last)
        heapq.heappush(self._heap, (_now() + wait, number, service))
        if self._heap[0][1] == number:
            self._bell.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
