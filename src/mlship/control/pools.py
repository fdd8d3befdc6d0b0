"""Who is in which pool, and what becomes of each: the shell's memory around ``plan.pool``.

A pool has no object. It follows from what its members' plans said of it last, so this knows everything again as soon
as every member was looked at once; the loop plans no pool before. When a pool lost its last member, and which of its
models are popular, is remembered here alone: lost in a restart, the first is a longer grace, the second a copy less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from mlship.plan import observed, pool, pool_popular, reconcile, replicas


@dataclasses.dataclass(slots=True)
class _Pool:
    members: dict[observed.ServiceKey, pool.Membership] = dataclasses.field(default_factory=dict)
    empty_since: float | None = None
    popular: pool_popular.Memory = dataclasses.field(default_factory=pool_popular.Memory)


class Pools:
    """The pools of an installation.

    Args:
        clock: Unix seconds.
        cores: of this machine; a pool has no more processes.
    """

    def __init__(self, clock: Callable[[], float], *, cores: int) -> None:
        self._clock = clock
        self._cores = cores
        self._pools: dict[observed.ServiceKey, _Pool] = {}
        self._of: dict[observed.ServiceKey, pool.Membership] = {}
        self._serving: dict[observed.ServiceKey, bool] = {}

    def note(self, member: observed.ServiceKey, said: pool.Membership | None) -> tuple[observed.ServiceKey, ...]:
        """What a member's plan said of its pool; the pools that are to be planned for it."""
        before = self._of.get(member)
        if before == said:
            return ()
        concerned = []
        if before is not None:
            del self._of[member]
            held = self._pools[before.pool]
            del held.members[member]
            if not held.members:
                held.empty_since = self._clock()
            concerned.append(before.pool)
        if said is not None:
            self._of[member] = said
            held = self._pools.setdefault(said.pool, _Pool())
            held.members[member], held.empty_since = said, None
            concerned.append(said.pool)
        return tuple(dict.fromkeys(concerned))

    def keys(self) -> Iterable[observed.ServiceKey]:
        """The pools there are."""
        return tuple(self._pools)

    def members(self, key: observed.ServiceKey) -> Iterable[observed.ServiceKey]:
        """The members of a pool."""
        held = self._pools.get(key)
        return () if held is None else tuple(held.members)

    def plan(self, key: observed.ServiceKey, seen: observed.Observed) -> reconcile.Plan:
        """What to do about a pool now."""
        now = self._clock()
        held = self._pools.setdefault(key, _Pool(empty_since=now))
        ready = sum(replicas.is_ready(one) for one in seen.replicas)
        held.popular = pool_popular.decide(held.popular, seen.requests, now, processes=ready)
        wanted = pool.gather(key, held.members.values(), cores=self._cores, hot=held.popular.hot)
        made = pool.plan(wanted, seen, now, empty_since=held.empty_since)
        if made.finished:
            del self._pools[key]
            self._serving.pop(key, None)
        elif held.members and wanted.processes > 1:
            made = dataclasses.replace(made, wake_at=now + pool_popular.EVERY)
        return made

    def turned(self, key: observed.ServiceKey, seen: observed.Observed) -> bool:
        """Whether a pool (a service that serves TrainedModels is one, too) serves now and did not, or the reverse."""
        ready = {one.endpoint for one in seen.replicas if replicas.is_ready(one)}
        serves = bool(ready & seen.gateway.reached)
        before = self._serving.get(key)
        self._serving[key] = serves
        return before is not None and before is not serves
