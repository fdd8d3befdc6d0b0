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
from mlship.plan import actions, causes, member, member_status, observed, pool, pool_causes, reconcile, scaled, trained

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
        in_pool = pooled.is_member(wanted.service)
        shared = in_pool or pooled.is_parent(wanted.service)
        scalers = told(world.scaled, wanted.service.name, read=self._read, there=True, pooled=shared)
        if in_pool:
            planned = member.plan(wanted, seen, now)
            return _decision(planned.plan, membership=planned.membership, scalers=scalers)
        return _decision(reconcile.plan(wanted, seen, now), leaves=seen.enlisted, scalers=scalers)

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
    made: reconcile.Plan,
    *,
    membership: pool.Membership | None = None,
    leaves: observed.Enlisted | None = None,
    scalers: tuple[seams.Told, ...] = (),
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
        scalers=scalers,
    )


class Reader:
    """Reads stored objects that many services share, such as runtimes, once for each version; complains once, too."""

    def __init__(self, *, most: int = 1024) -> None:
        self._most = most
        self._known: dict[tuple[str, str], meta.Object | None] = {}

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
    """The ScaledObject that has the say about the service."""
    found = read.understood(world.scaled, scaledobject.ScaledObject)
    return next(iter(scaled.ranked(found, world.service["metadata"]["name"])), None)


def told(
    bodies: Sequence[store.Object], service: str, *, read: Reader, there: bool, pooled: bool = False
) -> tuple[seams.Told, ...]:
    """What the ScaledObjects among ``bodies`` that target a service are told of it; those that know it are left out."""
    stored = {body["metadata"]["name"]: body for body in bodies}
    mine = scaled.ranked(read.understood(bodies, scaledobject.ScaledObject), service)
    found = []
    for one, standing in zip(mine, scaled.standings(mine, there=there, pooled=pooled), strict=True):
        status, body = scaled.status(one, standing, first=mine[0].name), stored[one.name]
        if status != body.get("status"):
            found.append(seams.Told(one.name, body["metadata"].get("uid", ""), status))
    return tuple(found)


def target_of(body: store.Object) -> str:
    """The service that a stored ScaledObject targets; empty: none, or it is not understood."""
    found = understood((body,), scaledobject.ScaledObject)
    return found[0].target if found else ""


def may_target(body: store.Object) -> tuple[str, str]:
    """The services that a stored ScaledObject may target, as it stands: to know without reading it whole."""
    ref = (body.get("spec") or {}).get("scaleTargetRef") or {}
    name = str(ref.get("name") or "")
    return name, name.removesuffix(scaledobject.PREDICTOR)


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
