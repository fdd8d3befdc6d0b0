"""How long to wait before the next try, and the clock that waiting uses. The clock is an argument, for tests.

Delays double from half a second to a cap, each multiplied by a random factor, so that many replicas that lost the same
server do not come back in step. What the server asks for (Retry-After) is honoured up to the cap.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable

_FIRST = 0.5
CAP = 20.0
_SLICE = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """Time as seen by a fetch: a clock, a way to sleep, and jitter in 0..1."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def wait(self, seconds: float, check: Callable[[], None] = lambda: None) -> None:
        """Sleep in slices, with ``check`` (which may raise to stop) before each."""
        end = self.clock() + seconds
        check()
        while (left := end - self.clock()) > 0:
            self.sleep(min(left, _SLICE))
            check()


def delay(failures: int, *, jitter: float, retry_after: float | None = None) -> float:
    """Seconds before the try that follows ``failures`` (1 or more) failures in a row; ``jitter`` in 0..1."""
    doubled = min(CAP, _FIRST * 2.0 ** min(failures - 1, 16))
    spread = doubled * (0.5 + 0.5 * jitter)
    return spread if retry_after is None else max(spread, min(retry_after, CAP))
