"""Which replicas start, serve, wait and stop: the heart of a plan. Pure.

A revision takes over when as many of its replicas are ready as are serving now (or all it shall have, if that is
fewer), so an update never lowers capacity; until then the revision before it serves and keeps its replicas. What
crashed or fails its probe is out of the route at once. A replica that is not wanted is stopped only when the gateway
no longer routes to it: until then it drains. What is on its way out may take its time to finish: nobody waits for it,
a replica that is missing is started under the next free ordinal.

While the target is unknown (the artifact's digest is not known yet, after a restart for instance) nothing is stopped:
nobody could say which of them is the newest.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from mlship.plan import observed

_ENDING = (observed.Phase.TERMINATING, observed.Phase.KILLING)
_Replicas = tuple[observed.Replica, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """What becomes of each replica.

    ``serving`` is the revision that gets the traffic (empty: none) and ``routed`` its replicas that do. ``start`` are
    ordinals of the target; ``keep`` stays as it is. ``stop`` may end now, ``draining`` when the gateway has let go;
    ``ending`` are on their way out.
    """

    serving: str = ""
    routed: _Replicas = ()
    start: tuple[int, ...] = ()
    keep: _Replicas = ()
    stop: _Replicas = ()
    draining: _Replicas = ()
    ending: _Replicas = ()

    @property
    def present(self) -> _Replicas:
        """All that exist, those on their way out included."""
        return (*self.keep, *self.draining, *self.stop, *self.ending)


def is_ready(replica: observed.Replica) -> bool:
    """Whether requests may be sent to it."""
    return replica.phase is observed.Phase.RUNNING and replica.ready and replica.endpoint is not None


def assign(
    service: observed.ServiceKey,
    seen: observed.Observed,
    *,
    target: str,
    startable: bool,
    wanted: int,
    last_ready: str = "",
) -> Assignment:
    """Decide about every replica.

    Args:
        target: the newest revision; empty while it is not known.
        startable: whether replicas of it can be started now.
        wanted: how many replicas of it shall run; 0 ends all.
        last_ready: the revision that served when the status was last written, empty when that is not known.
    """
    alive, ending = _mine(service, seen.replicas)
    if wanted <= 0:
        return _settled(alive, keep=(), routed=(), ending=ending, seen=seen)
    if not target:
        routed = _ready_of(_fallback(alive, seen, last_ready), alive)
        return _settled(alive, keep=alive, routed=routed, ending=ending, seen=seen)
    new, surplus = _of_target(alive, target, wanted)
    older = tuple(one for one in alive if one.id.revision != target)
    before = _fallback(older, seen, last_ready)
    behind = _ready_of(before, older)
    ready = tuple(one for one in (*new, *surplus) if is_ready(one))
    if ready and len(ready) >= min(wanted, len(behind)):
        keep, routed = (*new, *surplus), ready
    else:
        keep, routed = (*new, *surplus, *(one for one in older if one.id.revision == before)), behind
    start = _missing(new, _ours((*alive, *ending), target), wanted) if startable else ()
    return _settled(alive, keep=keep, routed=routed, ending=ending, seen=seen, start=start)


def _of_target(alive: _Replicas, target: str, wanted: int) -> tuple[_Replicas, _Replicas]:
    """The target's wanted replicas, and those beyond that fill in for wanted ones that are not ready."""
    ours = _ours(alive, target)
    new, beyond = ours[:wanted], ours[wanted:]
    missing = wanted - sum(is_ready(one) for one in new)
    return new, tuple(one for one in beyond if is_ready(one))[:missing]


def _missing(new: _Replicas, present: _Replicas, wanted: int) -> tuple[int, ...]:
    """The ordinals to start, so that as many as wanted are there: the lowest that nobody has."""
    taken = {one.id.ordinal for one in present if one.phase is not observed.Phase.EXITED}
    there = sum(one.phase is not observed.Phase.EXITED for one in new)
    free = (ordinal for ordinal in itertools.count() if ordinal not in taken)
    return tuple(itertools.islice(free, wanted - there))


def _ours(found: Iterable[observed.Replica], revision: str) -> _Replicas:
    return tuple(one for one in found if one.id.revision == revision)


def _ready_of(revision: str, found: Iterable[observed.Replica]) -> _Replicas:
    return tuple(one for one in found if one.id.revision == revision and is_ready(one))


def _fallback(found: Sequence[observed.Replica], seen: observed.Observed, last_ready: str) -> str:
    """The one revision among ``found`` that serves while the target cannot; empty when none can or ever did."""
    ready = Counter(one.id.revision for one in found if is_ready(one))
    routed = Counter(one.id.revision for one in found if one.endpoint in seen.gateway.applied)
    names = {one.id.revision for one in found}
    candidates = {name for name in names if ready[name] or name == last_ready}
    ranked = sorted(candidates, key=lambda name: (ready[name] > 0, name == last_ready, routed[name], ready[name], name))
    return ranked[-1] if ranked else ""


def _settled(
    alive: _Replicas,
    *,
    keep: _Replicas,
    routed: _Replicas,
    ending: _Replicas,
    seen: observed.Observed,
    start: tuple[int, ...] = (),
) -> Assignment:
    unwanted = tuple(one for one in alive if one not in keep)
    held = tuple(one for one in unwanted if still_routed(one, seen.gateway))
    return Assignment(
        serving=routed[0].id.revision if routed else "",
        routed=routed,
        start=start,
        keep=keep,
        stop=tuple(one for one in unwanted if one not in held),
        draining=held,
        ending=ending,
    )


def still_routed(replica: observed.Replica, gateway: observed.Gateway) -> bool:
    """Whether the gateway may still send it requests. One that is down sends none, and is not waited for."""
    return gateway.running and replica.endpoint is not None and replica.endpoint in gateway.applied


def _mine(service: observed.ServiceKey, found: Iterable[observed.Replica]) -> tuple[_Replicas, _Replicas]:
    """This service's replicas, each id once, in order: those that live, and those on their way out."""
    unique: dict[observed.ReplicaId, observed.Replica] = {}
    for one in found:
        if one.id.service == service and one.phase is not observed.Phase.STOPPED:
            unique.setdefault(one.id, one)
    ordered = tuple(unique[key] for key in sorted(unique))
    alive = tuple(one for one in ordered if one.phase not in _ENDING)
    return alive, tuple(one for one in ordered if one.phase in _ENDING)
