"""Counters and histograms that cost next to nothing to fill, for what is counted at every request.

The event loop's thread alone fills them, so they need no lock, and their labels are looked up once and kept; the
families that ``prometheus_client`` writes out are made when somebody asks. Buckets, sums and exemplars mean what they
mean there.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Sequence

from prometheus_client import core, samples

Labels = tuple[str, ...]


def _exemplar(trace_id: str, value: float) -> samples.Exemplar:
    return samples.Exemplar({"trace_id": trace_id}, value, time.time())


class Counter:
    """A number that grows."""

    __slots__ = ("exemplar", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.exemplar: samples.Exemplar | None = None

    def add(self, amount: float = 1.0, trace_id: str = "") -> None:
        self.value += amount
        if trace_id:
            self.exemplar = _exemplar(trace_id, amount)


class Histogram:
    """Observations by bucket; a bucket takes what is at most its bound."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, samples.Exemplar] = {}

    def observe(self, value: float, trace_id: str = "") -> None:
        bucket = bisect.bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if trace_id:
            self.exemplars[bucket] = _exemplar(trace_id, value)


class Counters:
    """Counters of one name, by their labels' values."""

    def __init__(self, name: str, documentation: str, labels: Labels) -> None:
        self._described = (name, documentation, labels)
        self._children: dict[Labels, Counter] = {}

    def of(self, *values: str) -> Counter:
        """The counter with these labels; made when it is asked for first."""
        found = self._children.get(values)
        if found is None:
            found = self._children[values] = Counter()
        return found

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Forget those of which ``wanted`` does not want the first label's value."""
        self._children = {labels: child for labels, child in self._children.items() if wanted(labels[0])}

    def family(self) -> core.Metric:
        name, documentation, labels = self._described
        made = core.CounterMetricFamily(name, documentation, labels=labels)
        for values, child in self._children.items():
            made.add_metric(values, child.value, exemplar=child.exemplar)
        return made


class Histograms:
    """Histograms of one name, by their labels' values."""

    def __init__(self, name: str, documentation: str, labels: Labels, *, bounds: Sequence[float]) -> None:
        self._described = (name, documentation, labels)
        self._bounds = tuple(float(bound) for bound in bounds)
        self._names = [*(str(bound) for bound in self._bounds), "+Inf"]
        self._children: dict[Labels, Histogram] = {}

    def of(self, *values: str) -> Histogram:
        """The histogram with these labels; made when it is asked for first."""
        found = self._children.get(values)
        if found is None:
            found = self._children[values] = Histogram(self._bounds)
        return found

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Forget those of which ``wanted`` does not want the first label's value."""
        self._children = {labels: child for labels, child in self._children.items() if wanted(labels[0])}

    def family(self) -> core.Metric:
        name, documentation, labels = self._described
        made = core.HistogramMetricFamily(name, documentation, labels=labels)
        for values, child in self._children.items():
            buckets: list[tuple[str, float] | tuple[str, float, samples.Exemplar]] = []
            total = 0
            for number, bound in enumerate(self._names):
                total += child.counts[number]
                exemplar = child.exemplars.get(number)
                buckets.append((bound, total) if exemplar is None else (bound, total, exemplar))
            made.add_metric(values, buckets, child.total)
        return made
