"""What should change: ``plan(desired, seen, now)`` decides, nothing else does. Pure and total.

The middle of the loop: the shell observes, this decides, the backend and the gateway apply, and the result is observed
again. Everything is decided anew from the facts each time, so a lost event, a restart of the control plane or a plan
that was carried out by half needs no special care. No observed world makes it raise: a spec that cannot be carried
out is told in the status, and what serves goes on serving.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any

from mlship import errors
from mlship.api import pooled, scaledobject
from mlship.api import runtime as runtimes
from mlship.api import service as services
from mlship.plan import (
    actions,
    autoscale,
    awaited,
    choice,
    elastic,
    fetching,
    observed,
    pool_program,
    program,
    replicas,
    revision,
    routes,
    scaling,
    status,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Desired(choice.Choices):
    """What the user wants: the service, the runtimes it may select, what scales it, and whether it shall go.

    ``past`` is ``Plan.past`` of the plan before; None for the first one of a control plane, which reads the status.
    """

    deleting: bool = False
    scaled: scaledobject.ScaledObject | None = None
    past: elastic.Past | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one service now.

    ``route`` is None for a service that shall go. ``status`` is in Kubernetes' shape. ``wake_at`` (Unix seconds): plan
    again then, even if nothing happens. ``why`` holds one sentence per reason. ``finished``: a service that shall go
    has nothing left. ``keep`` counts the replicas that stay, ``waits`` names what the plan waits for. ``scaling`` is
    what shall be measured (None: nothing), ``past`` is for the next plan.
    """

    actions: tuple[actions.Action, ...] = ()
    route: routes.ServiceRoute | None = None
    status: dict[str, Any] = dataclasses.field(default_factory=dict)
    wake_at: float | None = None
    why: tuple[str, ...] = ()
    finished: bool = False
    keep: int = 0
    waits: tuple[str, ...] = ()
    scaling: scaling.Scaling | None = None
    past: elastic.Past | None = None

    def summary(self) -> str:
        """One sentence: ``start 1 replica, keep 1; wait for readiness``."""
        starts = sum(isinstance(one, actions.StartReplica) for one in self.actions)
        stops = sum(isinstance(one, actions.StopReplica) for one in self.actions)
        said = ["fetch the model"] if any(isinstance(one, actions.FetchArtifact) for one in self.actions) else []
        said += ["stand by"] if any(isinstance(one, actions.StandBy) for one in self.actions) else []
        said += [f"start {_count(starts)}"] if starts else []
        said += [f"stop {_count(stops)}"] if stops else []
        said += ["enlist it in the pool"] if any(isinstance(one, actions.EnlistModel) for one in self.actions) else []
        said += ["take it out of the pool"] if any(isinstance(one, actions.DelistModel) for one in self.actions) else []
        said += ["forget the model"] if any(isinstance(one, actions.ForgetArtifact) for one in self.actions) else []
        if self.keep:
            said.append(f"keep {self.keep if starts or stops else _count(self.keep)}")
        done = "everything is gone" if self.finished else "nothing to do"
        return f"{', '.join(said) or done}" + (f"; wait for {' and '.join(self.waits)}" if self.waits else "")


def plan(desired: Desired, seen: observed.Observed, now: float) -> Plan:
    """Decide what to do about a service at ``now`` (Unix seconds). Never raises, and repeats itself exactly."""
    service = desired.service
    key = observed.ServiceKey(service.namespace, service.name)
    if desired.deleting:
        return _farewell(service, key, seen, now)
    return _serve(desired, key, seen, now)


@dataclasses.dataclass(frozen=True, slots=True)
class _Meant:
    """What a spec comes down to; with a ``problem`` nothing else is sure."""

    runtime: runtimes.Runtime | None = None
    target: revision.Target | None = None
    memory: revision.Memory | None = None
    scaling: scaling.Scaling | None = None
    problem: status.Problem | None = None


def _serve(desired: Desired, key: observed.ServiceKey, seen: observed.Observed, now: float) -> Plan:
    service = desired.service
    effective = services.effective(service)
    meant = _meant(desired, effective, seen)
    made = meant.target
    sized = _sized(desired, effective, meant, seen=seen, now=now)
    assignment = replicas.assign(
        key,
        seen,
        target=made.name if made else "",
        startable=made.startable if made else False,
        wanted=sized.replicas,
        last_ready=status.last_ready(service.status),
    )
    state = status.Situation(
        service=service,
        seen=seen,
        assignment=assignment,
        wanted=sized.replicas,
        least=sized.least,
        sleeps=sized.sleeps,
        stopped=effective.stopped,
        now=now,
        uri=effective.storage_uri,
        runtime=meant.runtime,
        target=made,
        memory=meant.memory,
        problem=meant.problem,
        scaling=sized.past.written if sized.past else None,
    )
    # A model that sleeps is kept at hand: whoever wakes it waits for its start alone.
    fetches, fetch_at = (
        fetching.due(seen.artifact, state.uri, now)
        if made is not None and (sized.replicas or sized.sleeps)
        else ((), None)
    )
    starts = _starts(state, key, because=sized.why)
    times = [at for at in (fetch_at, sized.wake_at) if at is not None]
    return Plan(
        actions=(*fetches, *_standby(state), *starts, *_stops(state)),
        route=awaited.route(state, effective, key, meant.scaling),
        status=status.build(state),
        wake_at=min(times, default=None),
        why=(*((sized.why,) if sized.why else ()), *_why(state, (*fetches, *starts))),
        keep=len(assignment.keep),
        waits=_waits(state, starting=bool(starts), fetching=bool(fetches)),
        scaling=None if effective.stopped else meant.scaling,
        past=sized.past,
    )


def _meant(desired: Desired, effective: services.Effective, seen: observed.Observed) -> _Meant:
    stored = _stored(desired.service.status, "newest")
    runtime: runtimes.Runtime | None = None
    try:
        runtime = choice.runtime_of(effective, desired)
        spec = pool_program.of_parent(desired.service, effective, runtime) or program.spec_of(effective, runtime)
        # A pool's processes hold different models: a load on one is met by copies of the model, not by more processes.
        pools = pooled.is_parent(desired.service)
        wanted = None if pools else autoscale.scaling_of(desired.service, effective, desired.scaled)
    except errors.MlshipError as error:
        problem = status.Problem(str(error), choice.fault(effective, desired, error))
        return _Meant(runtime, memory=revision.read(stored), problem=problem)
    known = revision.recall(stored, spec)
    made = revision.target(spec, uri=effective.storage_uri, artifact=seen.artifact, memory=known)
    return _Meant(runtime, made, revision.remember(made, effective.storage_uri) or known, wanted)


def _sized(
    desired: Desired, effective: services.Effective, meant: _Meant, *, seen: observed.Observed, now: float
) -> elastic.Sized:
    """How many replicas shall run. Nobody is asked for a stopped service, and one that is not understood stays."""
    if effective.stopped:
        return elastic.fixed(0)
    if pooled.is_parent(desired.service):
        return elastic.fixed(pool_program.processes_of(desired.service, effective))
    past = desired.past or elastic.read(_stored(desired.service.status, "scaling"), now)
    running = _running(desired, meant, seen, past)
    if meant.scaling is None:
        number = past.memory.replicas if past else max(effective.min_replicas, running.replicas)
        return dataclasses.replace(elastic.fixed(number), past=past)
    return elastic.size(meant.scaling, running, seen.demand, past, now=now)


def _running(desired: Desired, meant: _Meant, seen: observed.Observed, past: elastic.Past | None) -> elastic.Running:
    """What runs, as it would be routed if the number stayed as it is."""
    service, newest = desired.service, meant.target.name if meant.target else ""
    proven = status.last_ready(service.status)
    key = observed.ServiceKey(service.namespace, service.name)
    number = past.memory.replicas if past else _most(seen.replicas)
    now = replicas.assign(key, seen, target=newest, startable=False, wanted=max(number, 1), last_ready=proven)
    there = _most((*now.keep, *now.draining, *now.stop))
    updating = bool(newest and now.serving) and now.serving != newest
    return elastic.Running(replicas=there, ready=len(now.routed), updating=updating, newest=newest, proven=proven)


def _most(found: Iterable[observed.Replica]) -> int:
    """How many replicas the revision has that has most of them."""
    return max(collections.Counter(one.id.revision for one in found).values(), default=0)


def _stored(stored: dict[str, Any] | None, name: str) -> object:
    """A part of what mlship itself has written into a status."""
    own = (stored or {}).get("mlship")
    return own.get(name) if isinstance(own, dict) else None


def _standby(state: status.Situation) -> tuple[actions.StandBy, ...]:
    """What a service that sleeps shall have at hand. One that runs has it, since it was started."""
    if state.target is None or state.wanted or state.stopped:
        return ()
    ahead = actions.StandBy(state.target.spec)
    return () if state.seen.standby == ahead.token else (ahead,)


def _starts(state: status.Situation, key: observed.ServiceKey, *, because: str) -> tuple[actions.StartReplica, ...]:
    made = state.target
    if made is None:
        return ()
    why = because or "it is missing"
    if state.assignment.serving not in ("", made.name):
        why = f"revision {made.name} replaces {state.assignment.serving}"
    return tuple(
        actions.StartReplica(
            observed.ReplicaId(key, made.name, ordinal),
            spec=made.spec,
            model_path=made.model_path,
            digest=made.digest,
            why=why,
        )
        for ordinal in state.assignment.start
    )


def _stops(state: status.Situation) -> tuple[actions.StopReplica, ...]:
    return tuple(actions.StopReplica(one.id, why=_not_wanted(state, one)) for one in state.assignment.stop)


def _not_wanted(state: status.Situation, replica: observed.Replica) -> str:
    if state.wanted == 0:
        if state.leaving:
            return "the service is deleted"
        return "the service is stopped" if state.stopped else "no replica shall run"
    if replica.id.revision == state.newest:
        return f"{_count(state.wanted)} shall run"
    return f"revision {state.newest} replaces it"


def _why(state: status.Situation, todo: tuple[actions.Action, ...]) -> tuple[str, ...]:
    said = [one.why for one in todo if isinstance(one, actions.FetchArtifact)]
    if said:
        said = [f"the model is fetched: {said[0]}"]
    assignment = state.assignment
    reason, message = status.waiting_for(state)
    if reason and not state.asleep:
        said.append(message)
    if assignment.serving and assignment.serving != state.newest and state.newest:
        said.append(
            f"revision {assignment.serving} serves until as many replicas of {state.newest} are ready "
            f"({len(assignment.routed)})"
        )
    if assignment.routed and state.newest == "" and state.problem is None:
        said.append("nothing is stopped while it is not known which revision is the newest")
    said += [f"{one.id} is stopped when the gateway no longer routes to it" for one in assignment.draining]
    if assignment.stop and not state.seen.gateway.running:
        said.append("the gateway is not running, so nothing waits until it lets go of a replica")
    artifact = state.seen.artifact
    if artifact is not None and artifact.error and artifact.state is observed.ArtifactState.READY:
        said.append(f"the changed model could not be fetched, the one that is here stays: {artifact.error}")
    return tuple(said)


def _waits(state: status.Situation, *, starting: bool, fetching: bool) -> tuple[str, ...]:
    reason, _ = status.waiting_for(state)
    waits = []
    if fetching or reason == "FetchingModel":
        waits.append("the model")
    elif starting or reason in ("Starting", "Restarting", "Unready"):
        waits.append("readiness")
    if state.assignment.draining:
        waits.append("the gateway to let go")
    if state.assignment.ending:
        waits.append(f"{_count(len(state.assignment.ending))} to end")
    return tuple(waits)


def _farewell(
    service: services.InferenceService, key: observed.ServiceKey, seen: observed.Observed, now: float
) -> Plan:
    """End everything in order: the route, then the replicas, then the artifact's record."""
    assignment = replicas.assign(key, seen, target="", startable=False, wanted=0)
    state = status.Situation(
        service=service, seen=seen, assignment=assignment, wanted=0, stopped=False, now=now, leaving=True
    )
    todo: tuple[actions.Action, ...] = _stops(state)
    if not assignment.present:
        forget = (actions.ForgetArtifact(seen.artifact.uri),) if seen.artifact is not None else ()
        todo = (*forget, *((actions.StandDown(),) if seen.standby else ()))
    return Plan(
        actions=todo,
        status=status.build(state),
        why=_why(state, ()),
        finished=not assignment.present and seen.artifact is None and not seen.standby,
        waits=_waits(state, starting=False, fetching=False),
    )


def _count(number: int) -> str:
    return f"{number} replica" if number == 1 else f"{number} replicas"
