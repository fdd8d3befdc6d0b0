"""Stand-in until schedules are read."""

from __future__ import annotations

from mlship.plan import scaling
from mlship.scale import readings


def at(cron: scaling.Cron, now: float) -> readings.Schedule:
    """What a schedule asks for at ``now``."""
    raise NotImplementedError
