"""A backend and a gateway that do at once what they are asked for: what is left is what the control plane itself costs.

Replicas are ready when they are started, artifacts complete when they are fetched, routes carried when published; each
change is told, as the real ones tell it. Nothing here walks over all services, so that a curve over their number is
the control plane's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence

from mlship.backends import base
from mlship.backends.local import changes
from mlship.plan import actions, observed


class Backend:
    """``base.Backend`` in memory. ``applied`` is called with each service and its actions, before they take effect."""

    def __init__(self, applied: Callable[[observed.ServiceKey, Sequence[actions.Action]], object]) -> None:
        self._applied = applied
        self._replicas: dict[observed.ServiceKey, dict[observed.ReplicaId, observed.Replica]] = {}
        self._artifacts: dict[observed.ServiceKey, observed.Artifact] = {}
        self._standby: dict[observed.ServiceKey, str] = {}
        self._changes = changes.Changes()

    async def observe(self, service: observed.ServiceKey) -> base.Facts:
        """See ``base.Backend``."""
        found = tuple(self._replicas.get(service, {}).values())
        standby = self._standby.get(service, "")
        return base.Facts(replicas=found, artifact=self._artifacts.get(service), standby=standby)

    async def apply(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        """See ``base.Backend``."""
        self._applied(service, todo)
        for action in todo:
            match action:
                case actions.FetchArtifact(uri):
                    self._artifacts[service] = observed.Artifact(
                        uri, observed.ArtifactState.READY, digest="sha256:1", path="/m"
                    )
                case actions.ForgetArtifact():
                    self._artifacts.pop(service, None)
                case actions.StartReplica(replica):
                    where = observed.Endpoint(f"unix:/run/{replica.service}-{replica.ordinal}.h")
                    self._replicas.setdefault(service, {})[replica] = observed.Replica(
                        replica, observed.Phase.RUNNING, time.time(), ready=True, endpoint=where, pid=1
                    )
                case actions.StopReplica(replica):
                    self._replicas.get(service, {}).pop(replica, None)
                    if not self._replicas.get(service):
                        self._replicas.pop(service, None)
                case actions.StandBy():
                    self._standby[service] = action.token
                case actions.StandDown():
                    self._standby.pop(service, None)
                case actions.LookAtArtifact():
                    pass
        self._changes.add(service)

    def running(self, service: observed.ServiceKey) -> int:
        """How many replicas a service has."""
        return len(self._replicas.get(service, ()))

    def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """See ``base.Backend``."""
        return self._changes.watch({*self._replicas, *self._artifacts})

    def logs(
        self, service: observed.ServiceKey, *, tail: int = 100, follow: bool = False
    ) -> AsyncIterator[base.LogLine]:
        """See ``base.Backend``: there are none."""
        raise NotImplementedError

    async def close(self) -> None:
        """See ``base.Backend``."""
        self._changes.close()
