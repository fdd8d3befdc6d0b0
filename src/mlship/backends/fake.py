"""A world in memory that keeps the promises of a backend: for tests, and for saying what a plan would do.

Time is its own: nothing happens until ``time.advance``, and then everything that falls due happens in order. Replicas
take ``start_seconds`` to become ready, artifacts ``fetch_seconds`` to arrive; ``outcome``, ``crash``, ``unready`` and
``artifacts`` bring in trouble. The world holds a gateway too, which takes routes over after ``route_seconds``, because
what may be stopped depends on it.

It refuses what cannot be (``ImpossibleWorld``) instead of going along: a replica that is started as something else than
it is, a model path that nobody fetched, a crash of what does not run. ``rehearsal`` plays plans to their end in it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence

from mlship import errors
from mlship.backends import base, consistency, fake_artifacts, timeline
from mlship.plan import actions, observed, routes

Phase, State = observed.Phase, observed.ArtifactState

KEPT_LINES = 1000
_LONGEST_BACKOFF = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a start. ``exit`` None: it is ready after the usual time; else it ends so after it.

    ``hangs``: it never gets ready, and its probe says ``message``.
    """

    exit: observed.Exit | None = None
    hangs: bool = False
    message: str = ""


@dataclasses.dataclass(slots=True)
class _Service:
    replicas: dict[observed.ReplicaId, observed.Replica] = dataclasses.field(default_factory=dict)
    started: dict[observed.ReplicaId, actions.StartReplica] = dataclasses.field(default_factory=dict)
    route: routes.ServiceRoute | None = None
    published: bool = False
    applied: frozenset[observed.Endpoint] = frozenset()
    log: list[base.LogLine] = dataclasses.field(default_factory=list)
    standby: str = ""


class Fake:
    """The world. All times are seconds of its own clock, ``time``."""

    def __init__(
        self,
        *,
        now: float = 1_700_000_000.0,
        start_seconds: float = 2.0,
        stop_seconds: float = 1.0,
        fetch_seconds: float = 1.0,
        route_seconds: float = 0.1,
    ) -> None:
        self.time = timeline.Timeline(now)
        self.start_seconds = start_seconds
        self.stop_seconds = stop_seconds
        self.route_seconds = route_seconds
        self.gateway_running = True
        self._services: dict[observed.ServiceKey, _Service] = {}
        self.artifacts = fake_artifacts.Artifacts(self.time, fetch_seconds=fetch_seconds, changed=self._changed)
        self._outcomes: dict[str, Outcome] = {}
        self._watchers: list[tuple[set[observed.ServiceKey], asyncio.Event]] = []
        self._closed = False

    # The five verbs.

    async def observe(self, service: observed.ServiceKey) -> base.Facts:
        """See ``base.Backend``."""
        return self.facts(service)

    async def apply(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        """See ``base.Backend``."""
        self.begin(service, todo)

    async def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """See ``base.Backend``."""
        news = (set(self._services), asyncio.Event())
        news[1].set()
        self._watchers.append(news)
        try:
            while not self._closed:
                await news[1].wait()
                news[1].clear()
                while news[0]:
                    yield news[0].pop()
        finally:
            self._watchers.remove(news)

    async def logs(
        self, service: observed.ServiceKey, *, tail: int = 100, follow: bool = False
    ) -> AsyncIterator[base.LogLine]:
        """See ``base.Backend``. Lines to come show up with the next change of the service."""
        held = self._services.get(service)
        if held is None or not held.log:
            raise errors.SpecError(f"There are no logs of {service}.", reason=errors.Reason.NOT_FOUND)
        for line in _tails(held.log, tail):
            yield line
        shown = len(held.log)
        if not follow:
            return
        async for key in self.watch():
            if key == service:
                for line in held.log[shown:]:
                    yield line
                shown = len(held.log)

    async def close(self) -> None:
        """See ``base.Backend``."""
        self._closed = True
        for _, event in self._watchers:
            event.set()

    # The same without a loop, for tests of decisions and for rehearsals.

    def facts(self, service: observed.ServiceKey) -> base.Facts:
        """What ``observe`` tells."""
        held = self._services.get(service)
        replicas = held.replicas if held is not None else {}
        found = tuple(replicas[key] for key in sorted(replicas))
        standby = held.standby if held is not None else ""
        return base.Facts(replicas=found, artifact=self.artifacts.of(service), standby=standby)

    def seen(self, service: observed.ServiceKey) -> observed.Observed:
        """The facts of backend and gateway, as ``plan`` takes them."""
        facts = self.facts(service)
        held = self._services.get(service)
        applied = held.applied if held is not None and self.gateway_running else frozenset()
        gateway = observed.Gateway(
            running=self.gateway_running,
            url="http://localhost:8080",
            applied=applied,
            message="" if self.gateway_running else "Envoy is not answering.",
        )
        return observed.Observed(
            replicas=facts.replicas, artifact=facts.artifact, gateway=gateway, standby=facts.standby
        )

    def begin(self, service: observed.ServiceKey, todo: Sequence[actions.Action]) -> None:
        """What ``apply`` does."""
        if self._closed:
            raise errors.BackendError("The backend is closed.")
        held = self._services.setdefault(service, _Service())
        for action in todo:
            match action:
                case actions.FetchArtifact():
                    self.artifacts.fetch(service, action.uri)
                case actions.LookAtArtifact():
                    pass  # this world notices a changed source at once
                case actions.ForgetArtifact():
                    self.artifacts.forget(service, action.uri)
                case actions.StartReplica():
                    self._start(service, held, action)
                case actions.StopReplica():
                    self._stop(service, held, action)
                case actions.StandBy():
                    held.standby = action.token
                    self._changed(service)
                case actions.StandDown():
                    held.standby = ""
                    self._changed(service)

    def route(self, service: observed.ServiceKey, route: routes.ServiceRoute | None) -> None:
        """Have the gateway carry ``route``: it may use both until it has taken the new one over."""
        held = self._services.setdefault(service, _Service())
        if held.published and held.route == route:
            return
        endpoints = _endpoints(route)
        known = {one.endpoint for one in held.replicas.values()}
        if missing := endpoints - known:
            raise consistency.ImpossibleWorld(f"{service}: a route to {sorted(missing)}, where no replica is")
        held.route, held.published = route, True
        held.applied |= endpoints
        self.time.later(self.route_seconds, ("route", service), lambda: self._route_applied(service, endpoints))

    def carries(self, service: observed.ServiceKey) -> frozenset[observed.Endpoint]:
        """The endpoints that the gateway may send requests to."""
        held = self._services.get(service)
        return held.applied if held is not None else frozenset()

    # Trouble, and how the world is told about it.

    def outcome(self, of: str, outcome: Outcome) -> None:
        """What becomes of starts of an artifact (its digest) or of a revision."""
        self._outcomes[of] = outcome

    def crash(
        self, replica: observed.ReplicaId, *, code: int | None = None, signal: int | None = None, last_line: str = ""
    ) -> None:
        """End the process of a replica; it is started again after a back-off."""
        held = self._held(replica)
        if held.phase not in (Phase.STARTING, Phase.RUNNING):
            raise consistency.ImpossibleWorld(f"{replica} is {held.phase} and cannot crash")
        self._ended(replica, observed.Exit(at=self.time.now, code=code, signal=signal, last_line=last_line))

    def unready(self, replica: observed.ReplicaId, message: str) -> None:
        """Have a running replica fail its probe."""
        held = self._held(replica)
        if held.phase is not Phase.RUNNING:
            raise consistency.ImpossibleWorld(f"{replica} is {held.phase} and answers no probe")
        self._put(dataclasses.replace(held, ready=False, message=message))

    def recover(self, replica: observed.ReplicaId) -> None:
        """Have a running replica answer its probe again."""
        held = self._held(replica)
        if held.phase is not Phase.RUNNING:
            raise consistency.ImpossibleWorld(f"{replica} is {held.phase} and answers no probe")
        self._put(dataclasses.replace(held, ready=True, message=""))

    def seed(self, service: observed.ServiceKey, seen: observed.Observed) -> None:
        """Begin with a world as found elsewhere. Raises ImpossibleWorld when it contradicts itself."""
        if service in self._services:
            raise consistency.ImpossibleWorld(f"{service} is there already")
        consistency.consistent(service, seen)
        held = self._services[service] = _Service(applied=seen.gateway.applied)
        self.gateway_running = seen.gateway.running
        held.replicas = {one.id: one for one in seen.replicas}
        if seen.artifact is not None:
            self.artifacts.seed(service, seen.artifact)
        for one in seen.replicas:
            self._go_on(one)

    def _go_on(self, replica: observed.Replica) -> None:
        if replica.phase in (Phase.INITIAL, Phase.STARTING):
            self.time.later(self.start_seconds, replica.id, lambda: self._started(replica.id, Outcome()))
        elif replica.phase is Phase.BACKOFF:
            self.time.later(
                max((replica.restart_at or 0.0) - self.time.now, 0.0), replica.id, lambda: self._again(replica.id)
            )
        elif replica.phase in (Phase.TERMINATING, Phase.KILLING):
            self.time.later(self.stop_seconds, replica.id, lambda: self._gone(replica.id))

    # Replicas.

    def _start(self, key: observed.ServiceKey, held: _Service, action: actions.StartReplica) -> None:
        if action.id.service != key:
            raise consistency.ImpossibleWorld(f"{action.id} does not belong to {key}")
        known = held.replicas.get(action.id)
        if known is not None and known.phase in (Phase.TERMINATING, Phase.KILLING):
            raise consistency.ImpossibleWorld(f"{action.id} is {known.phase}: a second one of that id cannot be")
        if known is not None and known.phase not in (Phase.STOPPED, Phase.EXITED):
            before = held.started.get(action.id)
            if before is not None and (before.spec, before.digest) != (action.spec, action.digest):
                raise consistency.ImpossibleWorld(f"{action.id} runs already, and it is something else")
            return
        artifact = self.artifacts.of(key)
        if action.model_path and (artifact is None or artifact.path != action.model_path):
            raise consistency.ImpossibleWorld(f"{action.id} shall load {action.model_path}, which nobody has fetched")
        held.started[action.id] = action
        name = f"{action.id.service.namespace}.{action.id.service.name}-{action.id.revision}-{action.id.ordinal}"
        endpoint = observed.Endpoint(http=f"unix:/run/{name}.http", grpc=f"unix:/run/{name}.grpc")
        self._begin(observed.Replica(action.id, Phase.STARTING, since=self.time.now, endpoint=endpoint))

    def _begin(self, replica: observed.Replica) -> None:
        started = self._services[replica.id.service].started.get(replica.id)
        outcome = self._outcomes.get(replica.id.revision)
        if outcome is None and started is not None:
            outcome = self._outcomes.get(started.digest)
        chosen = outcome or Outcome()
        self._put(
            dataclasses.replace(
                replica,
                phase=Phase.STARTING,
                since=self.time.now,
                ready=False,
                restart_at=None,
                message="",
                pid=_pid(replica),
                startup=observed.Startup(observed.How.COLD, began_at=self.time.now),
            )
        )
        self.time.later(self.start_seconds, replica.id, lambda: self._started(replica.id, chosen))

    def _started(self, key: observed.ReplicaId, outcome: Outcome) -> None:
        replica = self._held(key)
        if outcome.exit is not None:
            self._ended(key, dataclasses.replace(outcome.exit, at=self.time.now))
        elif outcome.hangs:
            self._put(dataclasses.replace(replica, phase=Phase.STARTING, message=outcome.message))
        else:
            endpoint = replica.endpoint or observed.Endpoint(http=f"unix:/run/{key.revision}-{key.ordinal}.http")
            self._note(key, "ready")
            began = replica.startup.began_at if replica.startup is not None else replica.since
            startup = observed.Startup(
                observed.How.COLD, began, (("load", self.time.now - began),), ready_at=self.time.now
            )
            self._put(
                dataclasses.replace(
                    replica, phase=Phase.RUNNING, since=self.time.now, ready=True, endpoint=endpoint,
                    pid=_pid(replica), startup=startup,
                )
            )  # fmt: skip

    def _ended(self, key: observed.ReplicaId, ended: observed.Exit) -> None:
        replica = self._held(key)
        wait = min(2.0**replica.restarts, _LONGEST_BACKOFF)
        if ended.last_line:
            self._note(key, ended.last_line)
        self._put(
            dataclasses.replace(
                replica,
                phase=Phase.BACKOFF,
                since=self.time.now,
                ready=False,
                pid=None,
                last_exit=ended,
                restart_at=self.time.now + wait,
            )
        )
        self.time.later(wait, key, lambda: self._again(key))

    def _again(self, key: observed.ReplicaId) -> None:
        replica = self._held(key)
        self._begin(dataclasses.replace(replica, restarts=replica.restarts + 1))

    def _stop(self, key: observed.ServiceKey, held: _Service, action: actions.StopReplica) -> None:
        replica = held.replicas.get(action.id)
        if replica is None or replica.phase in (Phase.TERMINATING, Phase.KILLING):
            return
        self._put(
            dataclasses.replace(replica, phase=Phase.TERMINATING, since=self.time.now, ready=False, restart_at=None)
        )
        self.time.later(self.stop_seconds, action.id, lambda: self._gone(action.id))

    def _gone(self, key: observed.ReplicaId) -> None:
        held = self._services[key.service]
        del held.replicas[key]
        held.started.pop(key, None)
        self._changed(key.service)

    # Bookkeeping.

    def _held(self, key: observed.ReplicaId) -> observed.Replica:
        held = self._services.get(key.service)
        if held is None or key not in held.replicas:
            raise consistency.ImpossibleWorld(f"{key} was never started")
        return held.replicas[key]

    def _put(self, replica: observed.Replica) -> None:
        self._services[replica.id.service].replicas[replica.id] = replica
        self._changed(replica.id.service)

    def _note(self, key: observed.ReplicaId, text: str) -> None:
        log = self._services[key.service].log
        log.append(base.LogLine(key, text))
        del log[:-KEPT_LINES]

    def _route_applied(self, key: observed.ServiceKey, endpoints: frozenset[observed.Endpoint]) -> None:
        self._services[key].applied = endpoints
        self._changed(key)

    def _changed(self, key: observed.ServiceKey) -> None:
        for keys, event in self._watchers:
            keys.add(key)
            event.set()


def _endpoints(route: routes.ServiceRoute | None) -> frozenset[observed.Endpoint]:
    return frozenset(one for split in route.splits for one in split.endpoints) if route is not None else frozenset()


def _tails(log: Iterable[base.LogLine], tail: int) -> Iterable[base.LogLine]:
    """The last lines of each replica, in the order they were written."""
    kept: list[base.LogLine] = []
    counts: dict[observed.ReplicaId, int] = {}
    for line in reversed(list(log)):
        counts[line.replica] = counts.get(line.replica, 0) + 1
        if counts[line.replica] <= tail:
            kept.append(line)
    return reversed(kept)


def _pid(replica: observed.Replica) -> int:
    return 1000 + int(hashlib.sha256(str(replica.id).encode()).hexdigest()[:4], 16) + replica.restarts
