"""Which models of a pool are asked for so much that every process shall answer for them. Pure.

Each model lives in one process, so that the pool's memory holds as many as it can. One whose requests alone are more
than a process's fair part of the pool's would keep that process busy while others idle: it gets a copy everywhere, on
first use. What makes a model popular lies well above what keeps it so, and it must have been quiet for a while: a copy
that comes and goes costs a load each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

EVERY = 5.0
# Requests a second below which no process is ever full; and what is left of both bounds for one that is popular.
LEAST = 20.0
STAYS = 0.5
QUIET = 60.0
# Of the rate, what the newest interval counts.
_WEIGHT = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from one decision to the next. ``at`` None: nothing yet.

    ``counts``: requests so far; ``rates``: a second, smoothed; ``hot``: the popular, with when each was last busy.
    """

    at: float | None = None
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    hot: Mapping[str, float] = dataclasses.field(default_factory=dict)


def decide(before: Memory, counts: Mapping[str, int], now: float, *, processes: int) -> Memory:
    """The popular models at ``now``.

    Args:
        counts: requests that each model has had; one that has fewer than before was counted anew, by a new process.
        processes: how many the pool has; with one, there is nothing to spread over.
    """
    if before.at is None or now - before.at < EVERY:
        return before if before.at is not None else Memory(now, dict(counts))
    rates = _rates(before, counts, now - before.at)
    total = sum(rates.values())
    hot: dict[str, float] = {}
    for name, rate in rates.items() if processes > 1 else ():
        share = rate / total if total else 0.0
        factor = STAYS if name in before.hot else 1.0
        if rate >= LEAST * factor and share >= factor / processes:
            hot[name] = now
        elif name in before.hot and now - before.hot[name] < QUIET:
            hot[name] = before.hot[name]
    return Memory(now, dict(counts), rates, hot)


def _rates(before: Memory, counts: Mapping[str, int], seconds: float) -> dict[str, float]:
    rates: dict[str, float] = {}
    for name, count in counts.items():
        since = count - before.counts.get(name, 0)
        newest = (since if since >= 0 else count) / seconds
        rate = _WEIGHT * newest + (1.0 - _WEIGHT) * before.rates.get(name, 0.0)
        if rate >= 0.01:
            rates[name] = rate
    return rates
