"""The traffic of one service: Envoy's counters, read again and again -> requests at a time, requests/s, latency. Pure.

Requests at a time, averaged over the time between two readings, are estimated in two ways, because neither holds alone:

* Little's law: as many requests as came, times as long as the last ones took (at most the time between the readings).
  Good for short requests, of which the gauge sees only the few that happen to be under way.
* The gauge: what was under way at both readings has been under way all the time. Good for requests that take longer
  than a reading, which no histogram has seen yet.

The larger of the two counts. When no request came the mean of both gauge readings does, and also before anything has
ended. Envoy counts whole milliseconds, so half of one is added to each request. Callers that wait at the gate are in
no cluster; whoever reads adds them, as Knative adds those that wait at its activator.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping

from mlship.gateway import stats
from mlship.scale import window

_TRUNCATED = 0.0005


class Flow:
    """What is known of one service's traffic. Bounded by the window: one histogram for each second of it.

    Args:
        seconds: the length of the longest window that will be read.
    """

    def __init__(self, seconds: int = 60) -> None:
        self.seconds = seconds
        self.concurrency = window.Window(seconds)
        self.rate = window.Window(seconds)
        self.instant = 0.0
        self.newest_rate = 0.0
        self._at: float | None = None
        self._clusters: Mapping[str, stats.Cluster] = {}
        self._active = 0
        self._duration: float | None = None
        self._histograms: collections.deque[tuple[int, dict[stats.Bin, int]]] = collections.deque(maxlen=seconds)

    def add(self, at: float, clusters: Mapping[str, stats.Cluster], *, waiting: int = 0) -> None:
        """Put in a reading, made at ``at`` (Unix seconds), and how many callers waited at the gate then."""
        before, passed = self._at, 0.0 if self._at is None else at - self._at
        active = sum(one.active for one in clusters.values())
        begun, ended = self._since(clusters)
        # A first reading says how much is under way; what was counted before it, in no known time, says nothing.
        if before is None or passed <= 0.0:
            self.instant = float(active + waiting)
            self.concurrency.add(at, self.instant)
        else:
            self._ended(at, ended)
            self.instant = self._concurrency(active, begun, passed) + waiting
            self.concurrency.add(at, self.instant)
            self.newest_rate = begun / passed
            self.rate.add(at, self.newest_rate)
        self._at, self._clusters, self._active = at, clusters, active

    def pause(self) -> None:
        """Nobody will read for a while: what is counted meanwhile belongs to no second."""
        self._at = None

    def _since(self, clusters: Mapping[str, stats.Cluster]) -> tuple[int, dict[stats.Bin, int]]:
        """How many requests were begun since the last reading, and the durations of those that ended."""
        begun, ended = 0, dict[stats.Bin, int]()
        for name, now in clusters.items():
            before = self._clusters.get(name, stats.Cluster())
            if now.total < before.total:
                # Envoy was started anew, or knows the cluster anew: it counts from nothing.
                before = stats.Cluster()
            begun += now.total - before.total
            for where, count in now.bins.items():
                more = count - before.bins.get(where, 0)
                if more > 0:
                    ended[where] = ended.get(where, 0) + more
        return begun, ended

    def _ended(self, at: float, ended: dict[stats.Bin, int]) -> None:
        count = sum(ended.values())
        if not count:
            return
        total = math.fsum(_seconds(low, width) * number for (low, width), number in ended.items())
        self._duration = total / count + _TRUNCATED
        second = math.floor(at)
        if self._histograms and self._histograms[-1][0] == second:
            kept = self._histograms[-1][1]
            for where, number in ended.items():
                kept[where] = kept.get(where, 0) + number
        else:
            self._histograms.append((second, ended))

    def _concurrency(self, active: int, begun: int, passed: float) -> float:
        if not begun or self._duration is None:
            return (self._active + active) / 2
        return max(begun * min(self._duration, passed) / passed, float(min(self._active, active)))

    def latency(self, now: float, *, quantile: float, seconds: int) -> float | None:
        """The ``quantile`` of the durations of the last seconds, in seconds; None: nothing ended, or nobody looked."""
        oldest = math.floor(now) - seconds
        merged: dict[stats.Bin, int] = {}
        for second, bins in self._histograms:
            if second > oldest:
                for where, number in bins.items():
                    merged[where] = merged.get(where, 0) + number
        left = quantile * sum(merged.values())
        if not merged:
            return None
        for (low, width), number in sorted(merged.items()):
            if left <= number:
                return (low + width * left / number) / 1000
            left -= number
        low, width = max(merged)
        return (low + width) / 1000


def _seconds(low: float, width: float) -> float:
    """The middle of a bin, in seconds; a bin one millisecond wide holds one value."""
    return (low if width <= 1.0 else low + width / 2) / 1000
