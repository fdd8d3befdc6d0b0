"""What one decision leaves for the next: all memory of a scaler, small enough for the object's status. Pure.

It is checked when it is read, and forgotten whole when it does not hold together. Forgetting is safe: a scaler without
a memory takes what runs for needed, and shrinks nothing before it has watched for a full window. ``resumed`` is for
a control plane that has just started: what it remembers is right, but it has not watched meanwhile.

Times are Unix seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

# Stabilisation marks are joined so that each of both windows has about this many, however often is decided.
GRAINS = 60
MOST_MARKS = 128


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """What was asked for around ``at``: the fewest and the most replicas."""

    at: float
    low: int
    high: int


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """So many replicas more, or fewer, were decided at ``at``."""

    at: float
    by: int


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """``replicas``: what was decided last. ``since``: watched without a break from then on.

    ``active_at``: when it was last in use, or could have been for all that is known. ``reach`` replicas are insisted
    on until as many have been ready, or ``reach_until``. ``panic_at``: when the load was last an emergency.
    """

    replicas: int
    since: float
    active_at: float
    reach: int = 0
    reach_until: float = 0.0
    panic_at: float | None = None
    marks: tuple[Mark, ...] = ()
    changes: tuple[Change, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form it has in the status."""
        return {
            "replicas": self.replicas,
            "since": self.since,
            "activeAt": self.active_at,
            "reach": self.reach,
            "reachUntil": self.reach_until,
            "panicAt": self.panic_at,
            "marks": [[mark.at, mark.low, mark.high] for mark in self.marks],
            "changes": [[change.at, change.by] for change in self.changes],
        }

    @property
    def newest(self) -> float:
        """The latest moment it speaks of as past."""
        times = (self.since, self.active_at, self.panic_at or 0.0)
        return max(*times, *(mark.at for mark in self.marks), *(change.at for change in self.changes))


def begin(replicas: int, now: float, *, reach: int = 0, reach_until: float = 0.0) -> Memory:
    """The memory of a scaler that knows only how many replicas there are: for all it knows they are needed."""
    return Memory(
        replicas, since=now, active_at=now, reach=reach, reach_until=reach_until, marks=(Mark(now, replicas, replicas),)
    )


def resumed(memory: Memory, now: float) -> Memory:
    """A memory as it is taken up again after a break, or after the clock was set back."""
    fresh = begin(memory.replicas, now, reach=memory.reach, reach_until=memory.reach_until)
    panic_at = None if memory.panic_at is None else min(memory.panic_at, now)
    changes = tuple(change for change in memory.changes if change.at <= now)
    return dataclasses.replace(fresh, panic_at=panic_at, changes=changes)


def read(stored: object) -> Memory | None:
    """The memory in a status as it stands; None when there is none, or it does not hold together."""
    if not isinstance(stored, Mapping):
        return None
    try:
        return _read(stored)
    except (KeyError, TypeError, ValueError):
        return None


def _read(stored: Mapping[str, Any]) -> Memory:
    panic_at = stored["panicAt"]
    found = Memory(
        replicas=_count(stored["replicas"]),
        since=_time(stored["since"]),
        active_at=_time(stored["activeAt"]),
        reach=_count(stored["reach"]),
        reach_until=_time(stored["reachUntil"]),
        panic_at=None if panic_at is None else _time(panic_at),
        marks=tuple(Mark(_time(at), _count(low), _count(high)) for at, low, high in _rows(stored["marks"])),
        changes=tuple(Change(_time(at), _whole(by)) for at, by in _rows(stored["changes"])),
    )
    for times in ([mark.at for mark in found.marks], [change.at for change in found.changes]):
        if times != sorted(times):
            raise ValueError("not in the order of time")
    return found


def _rows(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST_MARKS:
        raise TypeError("not a short list")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value


def _count(value: object) -> int:
    found = _whole(value)
    if found < 0:
        raise ValueError("negative")
    return found


def _time(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError("not a time")
    return float(value)
