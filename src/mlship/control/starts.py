"""Cold starts as the control plane sees them: their phases for the metrics, for ``mlship why`` and, where wanted, as
traces. Beside the loop: it is shown what the loop looks at, and decides nothing (``plan.coldstart`` does)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mlship.control import metrics, seams
from mlship.plan import actions, coldstart, observed

Export = Callable[[coldstart.ColdStart], None]


class Starts:
    """The newest starts of every service.

    Args:
        export: told of each start that is over; None: nobody wants them as traces.
        clock: Unix seconds.
    """

    def __init__(self, meter: metrics.Metrics, *, clock: Callable[[], float], export: Export | None = None) -> None:
        self._meter = meter
        self._export = export
        self._began = clock()
        self._held: dict[observed.ServiceKey, coldstart.Memory] = {}
        self._fetched: dict[observed.ServiceKey, float] = {}

    def wished(self, key: observed.ServiceKey, *, at: float, traceparent: str = "") -> None:
        """A first caller waits for the service since ``at``: the gate's word, more exact than the next look."""
        held = self._of(key)
        if held.wish is None:
            wish = coldstart.Wish(at, coldstart.Why.CALLER, traceparent)
            self._held[key] = dataclasses.replace(held, wish=wish, answered_at=None)

    def answered(self, key: observed.ServiceKey, *, at: float) -> None:
        """The gate let callers of the service go on; the first time after a wish counts."""
        held = self._of(key)
        if held.answered_at is None and any(wish.why is coldstart.Why.CALLER for wish, _ in held.acted.values()):
            self._held[key] = dataclasses.replace(held, answered_at=at)

    def look(self, key: observed.ServiceKey, seen: observed.Observed, decision: seams.Decision, *, now: float) -> None:
        """The loop has looked at a service and acted."""
        asked = tuple(one.id for one in decision.actions if isinstance(one, actions.StartReplica))
        self._held[key], over = coldstart.look(self._of(key), seen, wanted=_wanted(decision), starts=asked, now=now)
        for start in over:
            self._count(start)
        self._count_fetch(key, seen.artifact)

    def newest(self, key: observed.ServiceKey) -> tuple[coldstart.ColdStart, ...]:
        """The last starts of a service, oldest first."""
        held = self._held.get(key)
        return () if held is None else held.newest

    def forget(self, key: observed.ServiceKey) -> None:
        """The service is gone."""
        self._held.pop(key, None)
        self._fetched.pop(key, None)

    def _of(self, key: observed.ServiceKey) -> coldstart.Memory:
        return self._held.get(key) or coldstart.Memory(since=self._began)

    def _count(self, start: coldstart.ColdStart) -> None:
        self._meter.cold_starts.labels(start.how.value, start.why.value).inc()
        for name, seconds in (*start.phases, ("total", start.seconds)):
            self._meter.cold_start_seconds.labels(name).observe(seconds)
        if self._export is not None:
            self._export(start)

    def _count_fetch(self, key: observed.ServiceKey, artifact: observed.Artifact | None) -> None:
        if artifact is None or artifact.fetched_at is None or self._fetched.get(key) == artifact.fetched_at:
            return
        self._fetched[key] = artifact.fetched_at
        if artifact.seconds > 0:
            self._meter.fetch_rate.observe(artifact.size / artifact.seconds)


def _wanted(decision: seams.Decision) -> int:
    """How many replicas the plan wants, as its status says."""
    own = (decision.status or {}).get("mlship") or {}
    return int((own.get("replicas") or {}).get("wanted", 0))
