"""What is known at the moment of a decision. Facts, made by the feeds; a value that is not known is None. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from mlship.scale import window


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """One metric over the whole service.

    ``stable`` is its value over the stable window, ``panic`` over the panic window, where it has one. ``coverage`` is
    the known share of the stable window; a value that was asked for once covers all, and a latency what was watched,
    with or without requests. ``active`` is for sources that say themselves whether they have work. ``failures``
    counts how often in a row it could not be read.
    """

    stable: float | None = None
    panic: float | None = None
    coverage: float = 1.0
    active: bool | None = None
    failures: int = 0

    @property
    def whole(self) -> bool:
        """Whether it says enough to shrink by: a value, over all of the window."""
        return self.stable is not None and self.coverage >= 1.0


UNKNOWN = Reading(coverage=0.0)


def of(series: window.Series, *, panic: int) -> Reading:
    """The reading of a stable window's series; ``panic`` is the length of the panic window in seconds."""
    return Reading(stable=series.average, panic=series.last(panic).average, coverage=series.coverage)


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """A cron trigger, with its times already worked out: does it ask for ``replicas`` now, and until when is that so.

    ``changes_at`` is the next moment at which ``active`` turns; None when it never does.
    """

    name: str
    active: bool
    replicas: int
    changes_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Readings:
    """All that is known of a service.

    ``replicas`` exist, ``ready`` of them serve: those that the values were measured over. ``waiting`` callers are held
    by the gate. ``busy``: whether requests came within the stable window; None when that is not known. ``gated``:
    whether a request would be held at zero instead of failing. A metric that is missing here is unknown.
    """

    replicas: int
    ready: int
    metrics: Mapping[str, Reading] = dataclasses.field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    waiting: int = 0
    busy: bool | None = None
    gated: bool = True
