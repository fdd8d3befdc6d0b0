"""What a schedule asks for now: a fact that follows from the time alone. Pure.

It is on when its last ``start`` came after its last ``end``. So it needs no memory, and a control plane that was not
running at the start knows as much as one that was.
"""

from __future__ import annotations

import functools
import math

from mlship.api import crontab
from mlship.plan import scaling
from mlship.scale import readings


def at(cron: scaling.Cron, now: float) -> readings.Schedule:
    """Whether ``cron`` asks for its replicas at ``now`` (Unix seconds), and when that turns."""
    active, changes_at = _at(cron, math.floor(now))
    return readings.Schedule(cron.name, active=active, replicas=cron.replicas, changes_at=changes_at)


@functools.lru_cache(maxsize=1024)
def _at(cron: scaling.Cron, now: int) -> tuple[bool, float | None]:
    """Cron knows no fractions of a second."""
    start, end = crontab.preceding(cron.start, cron.timezone, now), crontab.preceding(cron.end, cron.timezone, now)
    active = start is not None and (end is None or start > end)
    return active, crontab.following(cron.end if active else cron.start, cron.timezone, now)
