"""How much faster one way to do a piece of work is than another, on a machine that has other work to do. Pure but for
the work itself and the clocks, which are handed in.

The least time of several calls is taken: whatever else runs can only add to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

Clock = Callable[[], float]
# The slow way and the quick one.
Pair = tuple[Callable[[], Any], Callable[[], Any]]

_FEWEST, _MOST = 5, 50


@dataclasses.dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds of any beginning: ``computing`` of this process, for budgets; ``wall`` for what is compared."""

    computing: Clock
    wall: Clock


def gains(
    both: Callable[[int], Pair | None], sizes: Iterable[int], *, clocks: Clocks, seconds: float
) -> dict[int, float]:
    """The slow way's time over the quick one's, by size; up to the first size that has no pair or for which nothing is
    left of ``seconds``."""
    deadline = clocks.computing() + seconds
    found: dict[int, float] = {}
    for size in sizes:
        pair = both(size)
        if pair is None or clocks.computing() >= deadline:
            break
        share = (deadline - clocks.computing()) / 4
        slow, quick = (_least(work, clocks, share) for work in pair)
        found[size] = slow / max(quick, 1e-9)
    return found


def _least(work: Callable[[], Any], clocks: Clocks, seconds: float) -> float:
    end = clocks.computing() + seconds
    least, calls = float("inf"), 0
    while calls < _FEWEST or (calls < _MOST and clocks.computing() < end):
        begun = clocks.wall()
        work()
        least = min(least, clocks.wall() - begun)
        calls += 1
    return least
