"""The local backend: replicas are processes of this machine that listen on Unix sockets. Contract: ``base.Backend``.

It translates: an action into a job for the supervisor or an order to the artifacts, and what those see into facts.
The supervisor is shared: the gateway's Envoy runs under it too, with a key of its own and none of our labels.

    async with a loop: backend = LocalBackend(home, environ=os.environ, on_error=...); await backend.start()
"""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import assert_never

from mlship import aio, errors, home
from mlship.backends import base
from mlship.backends.local import artifacts, changes, expand, jobs, logs, supervisor
from mlship.plan import actions, observed
from mlship.storage import limits

_LABELS = ("namespace", "service", "revision", "ordinal")
_LOGS_KEPT = 5


class LocalBackend:
    """Replicas as processes of this machine.

    Args:
        place: the installation's paths.
        environ: the environment that replicas inherit, ``MLSHIP_*`` excepted.
        on_error: called with a task's name and its exception when something fails that should not.
        clock: Unix seconds that never jump; the default is ``supervisor.steady_clock``.
    """

    def __init__(
        self,
        place: home.Home,
        *,
        environ: Mapping[str, str],
        on_error: Callable[[str, BaseException], None],
        clock: Callable[[], float] | None = None,
        bounds: limits.Limits | None = None,
        look_every: float = artifacts.LOOK_EVERY,
    ) -> None:
        clock = clock or supervisor.steady_clock()
        self._place = place
        self._tasks = aio.Tasks(on_error)
        self._changes = changes.Changes()
        self.supervisor = supervisor.Supervisor(place, environ=environ, on_error=on_error, clock=clock)
        self.supervisor.subscribe(self._process_changed)
        self._artifacts = artifacts.Artifacts(
            place,
            tasks=self._tasks,
            clock=clock,
            changed=self._changes.add,
            bounds=bounds,
            look_every=look_every,
            in_use=lambda service: service in self._replicas,
        )
        self._replicas: dict[observed.ServiceKey, dict[str, observed.ReplicaId]] = {}
        self._owners: dict[str, observed.ServiceKey] = {}
        self._standby: dict[observed.ServiceKey, str] = {}
        self._hidden: dict[observed.ServiceKey, set[str]] = {}
        self._closed = False

    async def start(self) -> None:
        """Adopt what a control plane before this one left. Raises ``errors.BackendError``."""
        await self.supervisor.start()
        for key in self.supervisor.keys:
            sight = self.supervisor.observe(key)
            if sight is not None and (replica := _identity(sight.job)) is not None:
                self._own(key, replica)
                self._hide(replica.service, sight.job.spec)
        await self._artifacts.start()

    async def observe(self, service: observed.ServiceKey) -> base.Facts:
        """See ``base.Backend``."""
        replicas = []
        for key, replica in self._replicas.get(service, {}).items():
            sight = self.supervisor.observe(key)
            if sight is not None:
                replicas.append(_fact(replica, sight))
        replicas.sort(key=lambda replica: replica.id)
        return base.Facts(tuple(replicas), self._artifacts.observe(service), self._standby.get(service, ""))

    async def apply(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        """See ``base.Backend``."""
        if self._closed:
            raise errors.BackendError("the backend is closed.")
        for action in todo:
            match action:
                case actions.FetchArtifact():
                    self._artifacts.bring(service, action.uri)
                case actions.LookAtArtifact():
                    self._artifacts.look(service)
                case actions.ForgetArtifact():
                    self._artifacts.forget(service, action.uri)
                case actions.StartReplica():
                    self._start(action)
                case actions.StopReplica():
                    self.supervisor.stop(_key(action.id))
                case actions.StandBy() | actions.StandDown():
                    self._stand_by(service, action)
                case _:
                    assert_never(action)

    def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """See ``base.Backend``. Ends when the backend is closed."""
        return self._changes.watch({*self._replicas, *self._artifacts.services()})

    def logs(
        self, service: observed.ServiceKey, *, tail: int = 100, follow: bool = False
    ) -> AsyncIterator[base.LogLine]:
        """See ``base.Backend``. Secret values of every replica this backend has seen are redacted."""
        hidden = self._hidden.setdefault(service, set())
        return logs.read(service, self._log_folder(service), tail=tail, follow=follow, secrets=hidden)

    async def close(self) -> None:
        """Let go of everything and leave the replicas running."""
        self._closed = True
        await self._artifacts.close()
        await self._tasks.close()
        await self.supervisor.close()
        self._changes.close()

    def _stand_by(self, service: observed.ServiceKey, action: actions.StandBy | actions.StandDown) -> None:
        if isinstance(action, actions.StandBy):
            self._standby[service] = action.token
            self.supervisor.stand_by(str(service), action.spec)
        else:
            self._standby.pop(service, None)
            self.supervisor.stand_by(str(service), None)
        self._changes.add(service)

    def _start(self, action: actions.StartReplica) -> None:
        if action.model_path and self._artifacts.lost(action.id.service, action.model_path):
            return  # the plan starts it when the bytes are here again
        key = _key(action.id)
        self._own(key, action.id)
        self._hide(action.id.service, action.spec)
        try:
            self.supervisor.ensure(key, self._job(action))
        finally:
            if self.supervisor.observe(key) is None:
                self._disown(key)

    def _job(self, action: actions.StartReplica) -> jobs.Job:
        spec = action.spec
        short = hashlib.sha256(_key(action.id).encode()).hexdigest()[:16]
        http, grpc = (str(self._place.sockets / f"{short}.{kind}") for kind in "hg")
        provided = {
            "MLSHIP_HTTP_SOCKET": http,
            "MLSHIP_GRPC_SOCKET": grpc,
            "MLSHIP_MODEL_PATH": action.model_path,
            "MLSHIP_PROOFS": str(self._place.proofs),
        }
        values = (action.id.service.namespace, action.id.service.name, action.id.revision, str(action.id.ordinal))
        return jobs.Job(
            spec=spec,
            log=self._log_folder(action.id.service) / logs.file_name(action.id),
            address="" if spec.needs_port else f"unix:{http}",
            provided=tuple(provided.items()),
            sockets=(http, grpc),
            labels=tuple(zip(_LABELS, values, strict=True)),
        )

    def _log_folder(self, service: observed.ServiceKey) -> pathlib.Path:
        return self._place.logs / service.namespace / service.name

    def _process_changed(self, key: str) -> None:
        service = self._owners.get(key)
        if service is None:
            return
        if self.supervisor.observe(key) is None:
            self._disown(key)
            self._tasks.start(self._prune(service), name=f"prune logs of {service}")
        self._changes.add(service)

    def _own(self, key: str, replica: observed.ReplicaId) -> None:
        self._owners[key] = replica.service
        if replica.service not in self._replicas:
            self._replicas[replica.service] = {}
            self._artifacts.used(replica.service)
        self._replicas[replica.service][key] = replica

    def _hide(self, service: observed.ServiceKey, spec: actions.ProcessSpec) -> None:
        if found := expand.secrets(spec):
            self._hidden.setdefault(service, set()).update(found)

    def _disown(self, key: str) -> None:
        service = self._owners.pop(key)
        del self._replicas[service][key]
        if not self._replicas[service]:
            del self._replicas[service]

    async def _prune(self, service: observed.ServiceKey) -> None:
        living = list(self._replicas.get(service, {}).values())
        await asyncio.to_thread(logs.prune, self._log_folder(service), living, _LOGS_KEPT)


def _key(replica: observed.ReplicaId) -> str:
    return str(replica)


def _identity(job: jobs.Job) -> observed.ReplicaId | None:
    """Whose replica a job is; None for one that is no replica."""
    labels = dict(job.labels)
    if not all(name in labels for name in _LABELS):
        return None
    namespace, name, revision, ordinal = (labels[label] for label in _LABELS)
    return observed.ReplicaId(observed.ServiceKey(namespace, name), revision, int(ordinal))


def _fact(replica: observed.ReplicaId, sight: supervisor.Sight) -> observed.Replica:
    found = sight.process
    waits = found.phase is observed.Phase.BACKOFF
    return observed.Replica(
        id=replica,
        phase=found.phase,
        since=found.since,
        ready=found.ready,
        endpoint=_endpoint(sight),
        pid=found.pid,
        restarts=found.restarts,
        last_exit=found.last_exit,
        restart_at=found.deadline if waits else None,
        message=found.message,
        acceleration=sight.acceleration if found.ready else None,
        startup=sight.startup,
    )


def _endpoint(sight: supervisor.Sight) -> observed.Endpoint | None:
    if not sight.address:
        return None
    provided = dict(sight.job.provided)
    speaks_grpc = expand.refers_to(sight.job.spec, "MLSHIP_GRPC_SOCKET")
    return observed.Endpoint(sight.address, f"unix:{provided['MLSHIP_GRPC_SOCKET']}" if speaks_grpc else "")


def _check(backend: LocalBackend) -> base.Backend:
    """The contract, checked by the type checker."""
    return backend
