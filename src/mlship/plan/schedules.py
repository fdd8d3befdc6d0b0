"""What a schedule asks for now: a fact that follows from the time alone. Pure.

KEDA's rule: it is on when its next ``end`` comes before its next ``start``. So it needs no memory, and a control plane
that was not running at the start knows as much as one that was.
"""

from __future__ import annotations

import functools
import math

from mlship.api import crontab
from mlship.plan import scaling
from mlship.scale import readings


def at(cron: scaling.Cron, now: float) -> readings.Schedule:
    """Whether ``cron`` asks for its replicas at ``now`` (Unix seconds), and when that turns."""
    start = _following(cron.start, cron.timezone, math.floor(now))
    end = _following(cron.end, cron.timezone, math.floor(now))
    # What never starts is never on; what never ends stays on only if it can have started, which nobody can tell.
    active = start is not None and end is not None and end <= start
    return readings.Schedule(cron.name, active=active, replicas=cron.replicas, changes_at=end if active else start)


@functools.lru_cache(maxsize=1024)
def _following(expression: str, timezone: str, now: int) -> float | None:
    return crontab.following(expression, timezone, now)
