"""A model in a pool: fetch its bytes, enlist it, tell how it is. Pure; the counterpart of ``reconcile`` for one model.

An update is a new entry once its bytes are here. The entry before stays until then, and the bytes before stay in memory
until the new ones have loaded: what serves goes on serving, and a model that cannot be loaded costs only the update.
The processes are nobody's here: ``pool`` plans them. A service's member is made by ``of_service``, a TrainedModel's by
``trained``; from there both are planned alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from mlship import errors
from mlship.api import pooled
from mlship.api import service as services
from mlship.plan import actions, choice, fetching, member_status, observed, pool, reconcile, replicas, routes, status

_Status = Callable[[member_status.State], dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what the pool shall know of the member; None: it is none (any more)."""

    plan: reconcile.Plan
    membership: pool.Membership | None


def plan(desired: reconcile.Desired, seen: observed.Observed, now: float) -> Planned:
    """Decide about a service in a pool at ``now``. Never raises, and repeats itself exactly."""
    service = desired.service
    wanted = of_service(desired)
    state = member_status.State(wanted, seen, now, leaving=desired.deleting)
    belongs = None
    if wanted.problem is None:
        belongs = None if wanted.stopped else wanted.pool
    elif seen.enlisted is not None:
        # What serves goes on serving, and it does so in the pool it is in.
        belongs = seen.enlisted.pool
    said = None
    if belongs is not None and not desired.deleting:
        said = pool.Membership(
            pool=belongs,
            family=wanted.format,
            timeout=wanted.timeout,
            processes=pooled.processes(service.annotations),
            memory=pooled.memory(service.annotations),
        )
    return Planned(steps(state, status_of=member_status.build), said)


def of_service(desired: reconcile.Desired) -> member_status.Model:
    """What a service says of its model."""
    service = desired.service
    effective = services.effective(service)
    problem: status.Problem | None = None
    runtime = None
    try:
        runtime = choice.runtime_of(effective, desired)
    except errors.MlshipError as error:
        problem = status.Problem(str(error), choice.fault(effective, desired, error))
    return member_status.Model(
        body=service,
        key=observed.ServiceKey(service.namespace, service.name),
        pool=pool.key_of(service.namespace, effective.model_format),
        name=service.name,
        format=effective.model_format,
        uri=effective.storage_uri,
        timeout=max(effective.timeout, 1),
        accelerate=effective.annotations.get(services.ACCELERATE, ""),
        stopped=effective.stopped,
        runtime=runtime,
        problem=problem,
        path=f"/serving/{service.namespace}/{service.name}",
    )


def steps(state: member_status.State, *, status_of: _Status) -> reconcile.Plan:
    """The plan of a member. ``status_of`` writes its status, by its kind."""
    if state.leaving:
        return _farewell(state, status_of)
    wanted, seen = state.model, state.seen
    if wanted.stopped:
        todo: tuple[actions.Action, ...] = _delist(state, "it is stopped")
        wake_at = None
    elif wanted.problem is not None:
        todo, wake_at = (), None
    else:
        todo, wake_at = fetching.due(seen.artifact, wanted.uri, state.now)
        todo = (*todo, *_enlist(state))
    reason, message = state.waits_for()
    todo = (*todo, *_own_replicas(state), *_stand_down(state))
    return reconcile.Plan(
        actions=todo,
        route=_route(state),
        status=status_of(state),
        wake_at=wake_at,
        why=tuple(one.why for one in todo if isinstance(one, actions.FetchArtifact | actions.EnlistModel))
        + ((message,) if reason else ()),
        waits=("the model",) if reason == "FetchingModel" else (),
    )


def _enlist(state: member_status.State) -> tuple[actions.Action, ...]:
    """The entry, once there are bytes for it and where it is another than the one that is there."""
    entry, there = state.entry(), state.seen.enlisted
    if entry is None or (there is not None and (there.pool, there.mark) == (state.model.pool, entry.mark)):
        return ()
    why = "it is not there yet"
    moves: tuple[actions.Action, ...] = ()
    if there is not None and there.pool != state.model.pool:
        why = "it is of another pool now"
        moves = (actions.DelistModel(there.pool, there.name, why=why),)
    elif there is not None:
        why = "its bytes have changed" if there.digest != entry.digest else "what is said of it has changed"
    return (*moves, actions.EnlistModel(state.model.pool, entry, why=why))


def _delist(state: member_status.State, why: str) -> tuple[actions.Action, ...]:
    there = state.seen.enlisted
    return () if there is None else (actions.DelistModel(there.pool, there.name, why=why),)


def _own_replicas(state: member_status.State) -> tuple[actions.Action, ...]:
    """A service that was none of a pool's before: its own replicas end when the pool answers for it."""
    if not state.serves():
        return ()
    why = "the pool answers for it now"
    return tuple(actions.StopReplica(one.id, why=why) for one in state.seen.replicas)


def _stand_down(state: member_status.State) -> tuple[actions.Action, ...]:
    """What was prepared for a start of its own, while it slept and was in no pool."""
    return (actions.StandDown(),) if state.seen.standby else ()


def _route(state: member_status.State) -> routes.ServiceRoute | None:
    """To the pool the model is in. Its own answer only while it is in none: in one, the pool's processes answer."""
    wanted, there = state.model, state.seen.enlisted
    if not wanted.routed:
        return None
    message = ""
    own = tuple(sorted({one.endpoint for one in state.seen.replicas if replicas.is_ready(one) and one.endpoint}))
    if own and not state.serves() and not wanted.stopped:
        split = routes.Split(state.seen.replicas[0].id.revision, weight=100, endpoints=own)
        created = wanted.body.metadata.creation_timestamp or ""
        return routes.ServiceRoute(wanted.key, created=created, timeout=float(wanted.timeout), splits=(split,))
    if there is None or wanted.stopped:
        reason, said = state.waits_for()
        what = "is stopped" if reason == "Stopped" else "is not served yet"
        message = f"{wanted.key} {what}. {said} `{wanted.why_command}` says more."
    return routes.ServiceRoute(
        service=wanted.key,
        created=wanted.body.metadata.creation_timestamp or "",
        timeout=float(wanted.timeout),
        message=message,
        via=wanted.pool if there is None else there.pool,
    )


def _farewell(state: member_status.State, status_of: _Status) -> reconcile.Plan:
    """Out of the pool, then the artifact's record."""
    why, artifact = f"the {state.model.kind} is deleted", state.seen.artifact
    stops = (actions.StopReplica(one.id, why=why) for one in state.seen.replicas)
    todo = (*_delist(state, why), *stops, *_stand_down(state))
    if not todo and artifact is not None:
        todo = (actions.ForgetArtifact(artifact.uri),)
    return reconcile.Plan(
        actions=todo,
        status=status_of(state),
        why=(f"the {state.model.kind} is deleted",),
        finished=not todo and artifact is None,
    )
