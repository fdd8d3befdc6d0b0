"""What was measured lately: one value for each second, as far back as the longest window asks. Pure.

The feeds put samples in as they scrape them, and the scaler reads averages out: over its stable window, and over the
panic window at the end of that. Time is an argument. A second without a sample takes the value before it, for ``hold``
seconds at most; after that it is unknown. Unknown is not 0: a replica that has stopped answering may be the busiest.

``total``, ``mean`` and ``highest`` put the replicas of a service together, second by second. A replica counts while it
lives. Where one that lives is silent, the whole is unknown, since a sum without it would be too small.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Series:
    """One value for each second, the oldest first; None is unknown.

    ``born`` and ``died`` are positions: what is measured lived from the one up to, not including, the other.
    """

    values: tuple[float | None, ...]
    born: int
    died: int

    @property
    def average(self) -> float | None:
        """Of the seconds that are known; None when none is."""
        known = [value for value in self.values if value is not None]
        return math.fsum(known) / len(known) if known else None

    @property
    def maximum(self) -> float | None:
        """The largest second; None when none is known."""
        return max((value for value in self.values if value is not None), default=None)

    @property
    def coverage(self) -> float:
        """The share of seconds that are known, 0 to 1."""
        return sum(value is not None for value in self.values) / len(self.values) if self.values else 0.0

    def last(self, seconds: int) -> Series:
        """The newest seconds of it."""
        cut = max(0, len(self.values) - seconds)
        return Series(self.values[cut:], born=max(0, self.born - cut), died=max(0, self.died - cut))

    def alive(self, position: int) -> bool:
        """Whether what is measured lived in that second."""
        return self.born <= position < self.died


class Window:
    """Samples of one metric of one replica, or of a service as a whole. Bounded: ``seconds`` and ``hold`` of them."""

    __slots__ = ("_born", "_counts", "_died", "_hold", "_newest", "_seconds", "_sums")

    def __init__(self, seconds: int = 60, *, hold: int = 5) -> None:
        if seconds < 1 or hold < 0:
            raise ValueError(f"a window needs seconds >= 1 and hold >= 0, got {seconds} and {hold}")
        self._seconds, self._hold = seconds, hold
        self._clear()

    def _clear(self) -> None:
        size = self._seconds + self._hold
        self._sums, self._counts = [0.0] * size, [0] * size
        self._born: int | None = None
        self._died: int | None = None
        self._newest: int | None = None

    def add(self, at: float, value: float) -> None:
        """Put in a sample. What is no finite number is no sample: a query answers NaN when it has nothing to say.

        Samples may come late, as long as their second is in the window. A clock that was set back by more than the
        window begins it anew.
        """
        if not math.isfinite(value):
            return
        second, size = math.floor(at), len(self._sums)
        if self._newest is not None and second <= self._newest - size:
            self._clear()
        if self._newest is None or self._born is None:
            self._newest = self._born = second
        for skipped in range(max(self._newest + 1, second - size + 1), second + 1):
            self._sums[skipped % size], self._counts[skipped % size] = 0.0, 0
        self._newest, self._born = max(self._newest, second), min(self._born, second)
        self._sums[second % size] += value
        self._counts[second % size] += 1

    def end(self, at: float) -> None:
        """What is measured lives no longer: from now on it is not unknown, it is not there."""
        self._died = math.floor(at)

    def expired(self, now: float) -> bool:
        """Whether it ended so long ago that nothing of it is left in the window."""
        return self._died is not None and self._died <= math.floor(now) - self._seconds

    def series(self, now: float, seconds: int) -> Series:
        """The last ``seconds`` up to and including that of ``now``; at most those the window was made for."""
        seconds = min(seconds, self._seconds)
        end = math.floor(now) + 1
        start = end - seconds
        born = end if self._born is None else self._born
        died = end if self._died is None else min(self._died, end)
        sums, counts, size = self._sums, self._counts, len(self._sums)
        newest = start - size if self._newest is None else self._newest
        values: list[float | None] = []
        standing: float | None = None
        age = 0
        for second in range(start - self._hold, end):
            count = counts[second % size] if newest - size < second <= newest else 0
            if count:
                standing, age = sums[second % size] / count, 0
            else:
                age += 1
            if second >= start:
                values.append(standing if age <= self._hold and second < died else None)
        return Series(tuple(values), born=max(0, born - start), died=max(0, died - start))

    def average(self, now: float, seconds: int) -> float | None:
        """See ``Series.average``."""
        return self.series(now, seconds).average

    def maximum(self, now: float, seconds: int) -> float | None:
        """See ``Series.maximum``."""
        return self.series(now, seconds).maximum

    def coverage(self, now: float, seconds: int) -> float:
        """See ``Series.coverage``."""
        return self.series(now, seconds).coverage


def total(parts: Iterable[Series]) -> Series:
    """The sum over replicas: of requests in work, of requests for each second, of requests that wait."""
    return _joined(tuple(parts), math.fsum)


def mean(parts: Iterable[Series]) -> Series:
    """The mean over replicas: of shares of a processor or of memory."""
    return _joined(tuple(parts), lambda values: math.fsum(values) / len(values))


def highest(parts: Iterable[Series]) -> Series:
    """The largest of the replicas: of latencies, whose percentiles cannot be added."""
    return _joined(tuple(parts), max)


def _joined(parts: tuple[Series, ...], how: Callable[[Sequence[float]], float]) -> Series:
    length = len(parts[0].values) if parts else 0
    if any(len(part.values) != length for part in parts):
        raise ValueError(f"series of different lengths: {sorted({len(part.values) for part in parts})}")
    values: list[float | None] = []
    for position in range(length):
        found = [part.values[position] for part in parts if part.alive(position)]
        known = [value for value in found if value is not None]
        values.append(how(known) if known and len(known) == len(found) else None)
    born = min((part.born for part in parts), default=length)
    return Series(tuple(values), born=born, died=max((part.died for part in parts), default=length))
