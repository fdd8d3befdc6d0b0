"""How many replicas a plan is made for: asks ``scale.decide``, and looks after its memory between looks. Pure.

Between the facts and ``replicas.assign``. ``Past`` is what one look hands to the next; the shell keeps it. Its memory
also stands in the status, for a control plane that starts, and there only what survives a start is worth a write: the
number, an emergency, what is insisted on, the marks of the rates. A status that changed with every look would wake
everybody who watches. A plan without a past is the first one of a control plane: what the status remembers is taken up
again once, and nothing shrinks before a full window.

A stopped or paused service, and one that shall go, has nothing to decide and forgets: it begins anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mlship.plan import observed, scaling, schedules
from mlship.scale import decide, readings
from mlship.scale import memory as memories
from mlship.scale import policy as policies

# Between two writes of a memory whose number stands, in seconds.
WRITE_EVERY = 10.0
# Between two looks at a service that nobody has used for a window. The feeds tell when somebody does.
CALM_EVERY = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Past:
    """What the looks before have left.

    ``said`` is the sentence of the last change of the number, made at ``changed_at``; ``now_said`` that of the last
    look, at ``looked_at``. ``tried`` is the revision that has got its first replicas. ``written`` is what the status
    has, since ``written_at``. Times are Unix seconds.
    """

    memory: memories.Memory
    said: str = ""
    changed_at: float = 0.0
    now_said: str = ""
    looked_at: float = 0.0
    tried: str = ""
    written: Mapping[str, Any] | None = None
    written_at: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sized:
    """``replicas`` shall run. ``past`` goes into the next look; None: there is nothing to remember.

    ``why`` is empty unless the number changed. ``least``: from so many ready replicas on the service is as ready as
    it shall be, and those beyond are for a load. ``sleeps``: it may rest at zero, so requests are held meanwhile.
    """

    replicas: int
    least: int
    past: Past | None = None
    why: str = ""
    wake_at: float | None = None
    sleeps: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What runs, as the scaler needs to know it.

    ``replicas`` exist, ``ready`` of the revision that serves get traffic. ``updating``: another revision than the
    newest serves. ``newest`` is empty while it is not known, and ``proven`` was ready before.
    """

    replicas: int
    ready: int
    updating: bool = False
    newest: str = ""
    proven: str = ""


def fixed(replicas: int) -> Sized:
    """A number that nothing is decided about."""
    return Sized(replicas, least=replicas)


def size(wanted: scaling.Scaling, running: Running, demand: observed.Demand, past: Past | None, *, now: float) -> Sized:
    """How many replicas shall run at ``now``."""
    policy = wanted.policy
    if wanted.paused is not None:
        return fixed(wanted.paused)
    if policy.rest == policy.max_replicas:
        return fixed(policy.max_replicas)
    sleeps = policy.rest == 0
    policy = _awake(policy) if running.updating else policy
    past, tried = _begun(policy, running, past)
    shown = tuple(schedules.at(cron, now) for cron in wanted.crons)
    seen = readings.Readings(
        replicas=running.replicas,
        ready=running.ready,
        metrics=_measured(wanted, demand),
        schedules=shown,
        waiting=demand.waiting,
        busy=demand.busy,
        gated=demand.gated,
    )
    before = None if past is None else past.memory
    if past is not None and _calm(policy, past, demand, now):
        policy = dataclasses.replace(policy, interval=max(policy.interval, CALM_EVERY))
    made = decide.decide(policy, seen, before, now)
    changed = before is None or made.replicas != before.replicas
    if changed or past is None:
        after = Past(made.memory, said=made.why, changed_at=now, now_said=made.why, looked_at=now, tried=tried)
    else:
        after = dataclasses.replace(past, memory=made.memory, now_said=made.why, looked_at=now, tried=tried)
    after = _written(after, past, changed=changed, now=now)
    return Sized(
        made.replicas,
        least=min(made.replicas, policy.floor),
        past=after,
        why=made.why if changed else "",
        wake_at=made.wake_at,
        sleeps=sleeps,
    )


def _measured(wanted: scaling.Scaling, demand: observed.Demand) -> Mapping[str, readings.Reading]:
    """The readings of what is wanted now. One of the same name that was measured otherwise may be in another unit."""
    known = demand.sources
    if known is None or known == wanted.sources:
        return demand.metrics
    same = {one.metric for one in wanted.sources if one in known}
    return {name: reading for name, reading in demand.metrics.items() if name in same}


def _awake(policy: policies.Policy) -> policies.Policy:
    """While another revision serves nothing goes to rest: what is proven would be gone, and the newest is not."""
    return dataclasses.replace(policy, min_replicas=policy.floor, idle_replicas=None)


def _calm(policy: policies.Policy, past: Past, demand: observed.Demand, now: float) -> bool:
    """Whether nobody has used it, and nothing was changed, for a window."""
    idle = demand.busy is False and not demand.waiting
    return idle and past.memory.panic_at is None and now - past.changed_at > policy.stable


def _begun(policy: policies.Policy, running: Running, past: Past | None) -> tuple[Past | None, str]:
    """The past, without its memory for a sleeping service whose new revision was never started: it begins anew."""
    tried = "" if past is None else past.tried
    if past is None or running.replicas or policy.rest or past.memory.replicas > policy.rest:
        return past, running.newest or tried
    if running.newest and running.newest not in (running.proven, tried):
        return None, running.newest
    return past, running.newest or tried


def _written(after: Past, past: Past | None, *, changed: bool, now: float) -> Past:
    """The past with what the status shall have of it."""
    written = None if past is None else past.written
    content = _as_dict(after)
    due = changed or written is None or after.tried != written.get("revision")
    if not due and past is not None and now - past.written_at >= WRITE_EVERY:
        due = any(content[name] != (written or {}).get(name) for name in _LASTING)
    if due:
        return dataclasses.replace(after, written=content, written_at=now)
    return dataclasses.replace(after, written=written)


# What of a memory outlives ``memory.resumed``.
_LASTING = ("replicas", "reach", "reachUntil", "panicAt", "changes")


def _as_dict(past: Past) -> dict[str, Any]:
    """The form in the status: the memory, and what people and ``read`` want to know beside it."""
    return {**past.memory.as_dict(), "why": past.said, "at": past.changed_at, "revision": past.tried}


def read(stored: object, now: float) -> Past | None:
    """The past of a control plane that has just started, from ``status.mlship.scaling``; None: there is none."""
    memory = memories.read(stored)
    if memory is None or not isinstance(stored, Mapping):
        return None
    why, at, revision = stored.get("why"), stored.get("at"), stored.get("revision")
    return Past(
        memories.resumed(memory, now),
        said=why if isinstance(why, str) else "",
        changed_at=float(at) if isinstance(at, int | float) and not isinstance(at, bool) else 0.0,
        tried=revision if isinstance(revision, str) else "",
        written=stored,
        written_at=now,
    )
