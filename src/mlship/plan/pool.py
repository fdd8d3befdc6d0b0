"""A pool: processes that many models share, one pool for each namespace and format. Pure.

Nobody writes a pool: it follows from its members, is there while there are any, and for a while after the last one so
that replacing a model does not end processes. What members say about it (``api.pooled``) is joined by taking the most,
which does not depend on their order. Its processes are replicas of a key of its own, planned like any service's, and
its route is what the members' routes lead to. ``member`` plans the models themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from mlship.plan import actions, member_status, observed, pool_program, reconcile, replicas, revision, routes

GRACE = 30.0
PROCESSES = 2
# A name of a service holds no dot, so neither of these can be one.
_MESH = "modelmesh."
_TRAINED = "trained."


@dataclasses.dataclass(frozen=True, slots=True)
class Membership:
    """What one member says of its pool. None: nothing. ``memory`` in bytes, ``timeout`` in seconds."""

    pool: observed.ServiceKey
    family: str
    timeout: int
    processes: int | None = None
    memory: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A pool as it shall be. ``hot``: the models that every process may get requests for."""

    key: observed.ServiceKey
    family: str
    members: int
    processes: int
    memory: int | None
    timeout: int
    hot: tuple[str, ...] = ()


def key_of(namespace: str, family: str) -> observed.ServiceKey:
    """The pool of a namespace for a format."""
    return observed.ServiceKey(namespace, f"{_MESH}{family}")


def is_pool(key: observed.ServiceKey) -> bool:
    """Whether the key is a pool's that follows from its members."""
    return key.name.startswith(_MESH)


def trained_key(namespace: str, name: str) -> observed.ServiceKey:
    """The key of a TrainedModel, which may have the name of a service."""
    return observed.ServiceKey(namespace, f"{_TRAINED}{name}")


def trained_name(key: observed.ServiceKey) -> str:
    """The name of the TrainedModel a key is of; empty when it is something else's."""
    return key.name.removeprefix(_TRAINED) if key.name.startswith(_TRAINED) else ""


def member_key(pool: observed.ServiceKey, name: str) -> observed.ServiceKey:
    """Whose entry ``name`` in a pool is: a service's, or a TrainedModel's where the pool is itself a service."""
    return observed.ServiceKey(pool.namespace, name) if is_pool(pool) else trained_key(pool.namespace, name)


def gather(key: observed.ServiceKey, said: Iterable[Membership], *, cores: int, hot: Iterable[str] = ()) -> Wanted:
    """The pool that its members ask for: the most of each that any of them says, at most a process for each core."""
    members = tuple(said)
    asked = [one.processes for one in members if one.processes is not None]
    memory = [one.memory for one in members if one.memory is not None]
    return Wanted(
        key=key,
        family=key.name.removeprefix(_MESH),
        members=len(members),
        processes=max(min(max(asked, default=PROCESSES), cores), 1),
        memory=max(memory, default=None),
        timeout=max((one.timeout for one in members), default=0),
        hot=tuple(sorted(hot)),
    )


def plan(wanted: Wanted, seen: observed.Observed, now: float, *, empty_since: float | None) -> reconcile.Plan:
    """Decide about a pool at ``now``. ``empty_since``: when its last member went; None while it has any."""
    idle = empty_since is not None
    until = None if empty_since is None else empty_since + GRACE
    if until is not None and seen.entries:
        # Whoever is enlisted and says nothing could not be understood, or lost its object: ``control.orphans`` knows.
        until = now + GRACE
    if until is not None and (now >= until or not (seen.replicas or seen.entries)):
        return _farewell(wanted.key, seen)
    # While it only waits for a member to come back it stays as it is, whatever the members said.
    spec = pool_program.spec(wanted.family, processes=wanted.processes, memory=wanted.memory, timeout=wanted.timeout)
    assignment = replicas.assign(
        wanted.key,
        seen,
        target="" if idle else revision.short(spec, ""),
        startable=not idle,
        wanted=wanted.processes,
    )
    starts = tuple(
        actions.StartReplica(
            observed.ReplicaId(wanted.key, revision.short(spec, ""), ordinal),
            spec=spec,
            why=f"{wanted.members} model{'s' if wanted.members != 1 else ''} share {wanted.processes} processes",
        )
        for ordinal in assignment.start
    )
    stops = tuple(actions.StopReplica(one.id, why="the pool is to be another now") for one in assignment.stop)
    return reconcile.Plan(
        actions=(*starts, *stops),
        route=_route(wanted, assignment),
        wake_at=until,
        why=("no model says that it is in it; it ends soon unless one does",) if idle else (),
        keep=len(assignment.keep),
        waits=("readiness",) if starts else (),
    )


def _route(wanted: Wanted, assignment: replicas.Assignment) -> routes.ServiceRoute:
    endpoints = tuple(sorted({one.endpoint for one in assignment.routed if one.endpoint is not None}))
    splits = (routes.Split(assignment.serving, weight=100, endpoints=endpoints),) if endpoints else ()
    _, why = member_status.pool_trouble(assignment.present)
    return routes.ServiceRoute(
        service=wanted.key,
        created="",
        timeout=float(max(wanted.timeout, 1)),
        splits=splits,
        message="" if splits else why,
        pool=routes.Pool(hot=wanted.hot),
    )


def _farewell(key: observed.ServiceKey, seen: observed.Observed) -> reconcile.Plan:
    assignment = replicas.assign(key, seen, target="", startable=False, wanted=0)
    return reconcile.Plan(
        actions=tuple(actions.StopReplica(one.id, why="the pool has no models") for one in assignment.stop),
        why=("the pool has no models",),
        finished=not assignment.present,
        waits=("the processes to end",) if assignment.present else (),
    )
