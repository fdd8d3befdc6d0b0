"""What to do with a queue now: take so many, wait, or shed. Pure: the queue's view goes in, one decision comes out.

``Batcher`` asks here whenever a request arrives and whenever a slot becomes free. Today a take is one request per
free slot; joining what queued while the slots were busy changes ``decide`` and nothing else.
"""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """``queue_size``: requests that may wait, beyond those that run. ``slots``: executions at the same time."""

    queue_size: int
    slots: int

    def __post_init__(self) -> None:
        if self.queue_size < 0 or self.slots < 1:
            raise ValueError(f"a queue needs queue_size >= 0 and slots >= 1, got {self}")


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What there is to know of a queue: requests waiting, executions running, mean seconds of an execution so far."""

    waiting: int
    running: int
    mean_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Take:
    """Start an execution of the ``count`` oldest requests."""

    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to start until a request arrives or a slot is free."""


def decide(view: View, limits: Limits) -> Take | Wait:
    """What to do with the requests that wait."""
    if view.waiting and view.running < limits.slots:
        return Take(1)
    return Wait()


def admits(view: View, limits: Limits) -> bool:
    """Whether one more request may join; if not it is shed, before it costs anything."""
    return view.running < limits.slots or view.waiting < limits.queue_size


def retry_after(view: View, limits: Limits) -> float:
    """Seconds after which the queue, at its mean speed, has become free: whole seconds, at least 1, at most 60."""
    backlog = (view.waiting + 1) * view.mean_seconds / limits.slots
    return float(min(60, max(1, math.ceil(backlog))))
