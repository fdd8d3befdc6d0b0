"""What runs for a service of which no object is stored. Pure but for the clock it is given.

A deleted service is drained before its object goes, so this happens only when the state database was lost or put
back. Ending a healthy model because of lost memory would be the worse mistake: whoever applies the YAML again within
the grace finds the replicas still running; after it, nobody wants them.
"""

from __future__ import annotations

from collections.abc import Callable

from mlship.plan import actions, observed

GRACE = 600.0


class Orphans:
    """Knows since when each service has been without an object."""

    def __init__(self, clock: Callable[[], float], *, grace: float = GRACE) -> None:
        self._clock = clock
        self._grace = grace
        self._since: dict[observed.ServiceKey, float] = {}

    def claimed(self, key: observed.ServiceKey) -> None:
        """The service has an object (again)."""
        self._since.pop(key, None)

    def plan(
        self, key: observed.ServiceKey, seen: observed.Observed
    ) -> tuple[tuple[actions.Action, ...], float | None]:
        """What to end now, and when to look again (Unix seconds)."""
        if not seen.replicas and seen.artifact is None:
            self._since.pop(key, None)
            return ((actions.StandDown(),) if seen.standby else ()), None
        now = self._clock()
        until = self._since.setdefault(key, now) + self._grace
        if now < until:
            return (), until
        why = "no such service is stored"
        stops = [actions.StopReplica(replica.id, why=why) for replica in seen.replicas]
        forgets = [actions.ForgetArtifact(seen.artifact.uri)] if seen.artifact else []
        return (*stops, *forgets), None
