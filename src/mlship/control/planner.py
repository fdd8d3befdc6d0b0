"""The planner the loop is given: stored objects -> typed ones -> ``plan.reconcile``, and ``plan.causes`` for the why.

The one place of the shell that knows the shape of both. A stored runtime that this version no longer understands is
left out of the choice and named in the log; a stored service that it no longer understands is an error of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar

from mlship import errors
from mlship.api import extras, load, meta, pooled, runtime, scaledobject, service
from mlship.control import seams, store
from mlship.plan import actions, causes, member, member_status, observed, pool, pool_causes, reconcile, trained

log = logging.getLogger("mlship.planner")

T = TypeVar("T", bound=meta.Object)


class Planner:
    """``seams.Planner`` over the pure plan."""

    def __init__(self) -> None:
        self._read = Reader()

    def decide(self, world: seams.World, seen: observed.Observed, *, now: float) -> seams.Decision:
        """See ``seams.Planner``."""
        if world.service["kind"] == "TrainedModel":
            return _decision(trained.plan(trained_of(world), seen, now))
        wanted = desired(world, self._read)
        if pooled.is_member(wanted.service):
            planned = member.plan(wanted, seen, now)
            return _decision(planned.plan, membership=planned.membership)
        return _decision(reconcile.plan(wanted, seen, now), leaves=seen.enlisted)

    def explain(self, world: seams.World, seen: observed.Observed, *, now: float) -> Sequence[causes.Cause]:
        """See ``seams.Planner``."""
        stored = world.service.get("status")
        if world.service["kind"] == "TrainedModel":
            model = trained.of_trained(trained_of(world))
            return pool_causes.chain(member_status.State(model, seen, now), stored, kind="TrainedModel")
        wanted = desired(world, self._read)
        if pooled.is_member(wanted.service):
            state = member_status.State(member.of_service(wanted), seen, now)
            return pool_causes.chain(state, stored, kind="InferenceService")
        return causes.chain(wanted.service, seen, stored, now, past=world.past)


def _decision(
    made: reconcile.Plan, *, membership: pool.Membership | None = None, leaves: observed.Enlisted | None = None
) -> seams.Decision:
    """A plan as the loop needs it. ``leaves``: the pool that a service was in and is in no more."""
    todo = made.actions
    if leaves is not None and (made.route is None or made.route.leads):
        todo = (*todo, actions.DelistModel(leaves.pool, leaves.name, why="it is in no pool any more"))
    return seams.Decision(
        actions=todo,
        route=made.route,
        status=made.status or None,
        wake_at=made.wake_at,
        why=made.why,
        finished=made.finished and leaves is None,
        summary=made.summary(),
        scaling=made.scaling,
        past=made.past,
        membership=membership,
    )


class Reader:
    """Reads stored objects that many services share, such as runtimes, once for each version; complains once, too."""

    def __init__(self, *, most: int = 1024) -> None:
        self._most = most
        self._known: dict[tuple[str, str], meta.Object | None] = {}
        self._said: dict[str, None] = {}

    def warn(self, sentence: str) -> None:
        """Say it in the log, once: what is planned is planned again each second."""
        if sentence in self._said:
            return
        if len(self._said) >= self._most:
            del self._said[next(iter(self._said))]
        self._said[sentence] = None
        log.warning("%s", sentence)

    def understood(self, bodies: Sequence[store.Object], kind: type[T]) -> tuple[T, ...]:
        """As the function of this name; one that was read before is neither read nor complained about again."""
        return tuple(found for body in bodies if isinstance(found := self._one(body, kind), kind))

    def _one(self, body: store.Object, kind: type[T]) -> meta.Object | None:
        mark = (body["metadata"].get("uid", ""), body["metadata"].get("resourceVersion", ""))
        if not all(mark):  # not stored, so nothing tells it from another of its name
            return next(iter(understood((body,), kind)), None)
        if mark not in self._known:
            if len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
            self._known[mark] = next(iter(understood((body,), kind)), None)
        return self._known[mark]


def desired(world: seams.World, read: Reader) -> reconcile.Desired:
    """The typed form of what is stored. Raises SpecError when the service is no longer understood."""
    return reconcile.Desired(
        service=_typed(world.service, service.InferenceService),
        namespaced=read.understood(world.namespaced, runtime.ServingRuntime),
        cluster=read.understood(world.cluster, runtime.ClusterServingRuntime),
        deleting="deletionTimestamp" in world.service["metadata"],
        scaled=_scaled(world, read),
        past=world.past,
    )


def trained_of(world: seams.World) -> trained.Desired:
    """The typed form of a stored TrainedModel and its parent. Raises SpecError when it is no longer understood."""
    parent = world.parent
    return trained.Desired(
        model=_typed(world.service, extras.TrainedModel),
        parent=None if parent is None else _typed(parent, service.InferenceService),
        parent_leaving=parent is not None and "deletionTimestamp" in parent["metadata"],
        deleting="deletionTimestamp" in world.service["metadata"],
    )


def _scaled(world: seams.World, read: Reader) -> scaledobject.ScaledObject | None:
    """The ScaledObject that targets the service; of several the oldest, and the log names the others."""
    name = world.service["metadata"]["name"]
    # Only those whose target may be it are worth reading whole: there may be one for each service.
    near = [one for one in world.scaled if _named(one) in (name, f"{name}{scaledobject.PREDICTOR}")]
    mine = [one for one in read.understood(near, scaledobject.ScaledObject) if one.target == name]
    mine.sort(key=lambda one: (one.metadata.creation_timestamp or "", one.name))
    if len(mine) > 1:
        others = ", ".join(one.name for one in mine[1:])
        service = f"{world.service['metadata']['namespace']}/{name}"
        read.warn(f"{service} is scaled by ScaledObject {mine[0].name}; {others} is left out")
    return mine[0] if mine else None


def _named(body: store.Object) -> object:
    """What a stored ScaledObject names as its target, as it stands."""
    spec = body.get("spec")
    ref = spec.get("scaleTargetRef") if isinstance(spec, dict) else None
    return ref.get("name") if isinstance(ref, dict) else None


def target_of(body: store.Object) -> str:
    """The service that a stored ScaledObject targets; empty: none, or it is not understood."""
    found = understood((body,), scaledobject.ScaledObject)
    return found[0].target if found else ""


def _typed(body: store.Object, kind: type[T]) -> T:
    found = load.parse(body)
    if not isinstance(found, kind):
        raise errors.SpecError(f"{body['metadata']['name']} is a {body['kind']}, {kind.__name__} was expected")
    return found


def understood(bodies: Sequence[store.Object], kind: type[T]) -> tuple[T, ...]:
    """The typed form of stored objects; those that this version does not understand are left out and logged."""
    found = []
    for body in bodies:
        try:
            found.append(_typed(body, kind))
        except errors.SpecError as error:
            log.warning("%s %s is left out of the choice: %s", body["kind"], body["metadata"]["name"], error)
    return tuple(found)
