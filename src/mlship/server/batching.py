"""What to do with a queue now: take so many rows, wait, or shed. Pure: the queue's view goes in, a decision comes out.

``Batcher`` asks here whenever a request arrives, a slot becomes free or a wait it was told of is over. A request that
finds a free slot starts at once; what queued while the slots were busy is joined, up to ``max_rows``. Only a latency
budget makes a free slot wait, for the requests that would fill the batch.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """``queue_size``: requests that may wait, beyond those that run. ``slots``: executions at the same time.

    ``max_rows``: rows of a joined execution, 1 joins nothing. ``latency``: seconds that the oldest request of a batch
    may wait for others although a slot is free.
    """

    queue_size: int
    slots: int
    max_rows: int = 1
    latency: float = 0.0

    def __post_init__(self) -> None:
        if self.queue_size < 0 or self.slots < 1:
            raise ValueError(f"a queue needs queue_size >= 0 and slots >= 1, got {self}")
        if self.max_rows < 1 or not self.latency >= 0:
            raise ValueError(f"a queue needs max_rows >= 1 and latency >= 0, got {self}")

    @property
    def joins(self) -> bool:
        """Whether requests are joined at all."""
        return self.max_rows > 1


class View(NamedTuple):
    """What there is to know of a queue: requests waiting, executions running, mean seconds of an execution so far."""

    waiting: int
    running: int
    mean_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Requests that wait and may be joined with each other: their rows, and since when the oldest waits."""

    rows: int
    since: float
    alone: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Take:
    """Start an execution of the group's oldest requests, at most so many rows (always one request at least)."""

    rows: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Not before ``until``, unless more requests of the group come."""

    until: float


def decide(group: Group, limits: Limits, *, now: float) -> Take | Wait:
    """What to do with a group while a slot is free.

    Args:
        now: by the clock of ``group.since``, in seconds.
    """
    if group.alone or not limits.joins:
        return Take(1)
    ripe = group.since + limits.latency
    if group.rows >= limits.max_rows or now >= ripe:
        return Take(limits.max_rows)
    return Wait(ripe)


def free(view: View, limits: Limits) -> bool:
    """Whether one more execution may start."""
    return view.running < limits.slots


def admits(view: View, limits: Limits) -> bool:
    """Whether one more request may join; if not it is shed, before it costs anything.

    Those for whom a slot is free are about to run and do not count as waiting, unless a budget holds them.
    """
    about_to_run = 0 if limits.latency else limits.slots - view.running
    return view.waiting < limits.queue_size + max(0, about_to_run)


def retry_after(view: View, limits: Limits) -> float:
    """Seconds after which the queue, at its mean speed, has become free: whole seconds, at least 1, at most 60."""
    backlog = (view.waiting + 1) * view.mean_seconds / limits.slots
    return float(min(60, max(1, math.ceil(backlog))))
