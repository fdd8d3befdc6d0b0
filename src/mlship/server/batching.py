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
    may wait for others although a slot is free. ``most``: requests in execution at the same time, joined or not; 0:
    no limit.
    """

    queue_size: int
    slots: int
    max_rows: int = 1
    latency: float = 0.0
    most: int = 0

    def __post_init__(self) -> None:
        if self.queue_size < 0 or self.slots < 1 or self.most < 0:
            raise ValueError(f"a queue needs queue_size >= 0, slots >= 1 and most >= 0, got {self}")
        if self.max_rows < 1 or not self.latency >= 0:
            raise ValueError(f"a queue needs max_rows >= 1 and latency >= 0, got {self}")

    @property
    def joins(self) -> bool:
        """Whether requests are joined at all."""
        return self.max_rows > 1


class View(NamedTuple):
    """What there is to know of a queue: requests waiting, executions running, mean seconds of an execution so far.

    ``inside``: requests in execution, where there is a limit of them.
    """

    waiting: int
    running: int
    mean_seconds: float = 0.0
    inside: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Requests that wait and may be joined with each other: their rows, since when the oldest waits, how many."""

    rows: int
    since: float
    alone: bool = False
    requests: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Take:
    """Start an execution of the group's oldest requests, at most so many rows (always one request at least).

    ``requests``: at most so many of them; None: no limit.
    """

    rows: int
    requests: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Not before ``until``, unless more requests of the group come."""

    until: float


def decide(group: Group, limits: Limits, *, now: float, inside: int = 0) -> Take | Wait:
    """What to do with a group while a slot is free.

    Args:
        now: by the clock of ``group.since``, in seconds.
        inside: requests in execution, below ``limits.most`` where that is set.
    """
    room = limits.most - inside if limits.most else None
    if group.alone or not limits.joins:
        return Take(1, room)
    ripe = group.since + limits.latency
    full = group.rows >= limits.max_rows or (room is not None and group.requests >= room)
    if full or now >= ripe:
        return Take(limits.max_rows, room)
    return Wait(ripe)


def free(view: View, limits: Limits) -> bool:
    """Whether one more execution may start."""
    return view.running < limits.slots and (not limits.most or view.inside < limits.most)


def admits(view: View, limits: Limits) -> bool:
    """Whether one more request may join; if not it is shed, before it costs anything.

    Those for whom a slot is free are about to run and do not count as waiting, unless a budget holds them.
    """
    about_to_run = 0 if limits.latency else limits.slots - view.running
    if limits.most:
        about_to_run = min(about_to_run, limits.most - view.inside)
    return view.waiting < limits.queue_size + max(0, about_to_run)


def retry_after(view: View, limits: Limits) -> float:
    """Seconds after which the queue, at its mean speed, has become free: whole seconds, at least 1, at most 60."""
    slots = min(limits.slots, limits.most) if limits.most else limits.slots
    backlog = (view.waiting + 1) * view.mean_seconds / slots
    return float(min(60, max(1, math.ceil(backlog))))
