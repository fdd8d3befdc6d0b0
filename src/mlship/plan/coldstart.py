"""What a start was made of, from the wish for it to the first answer: facts of many places put together. Pure.

    wished ── download, decide ──► acted ── supervise, fork | import, listen, load, warm-up ──► ready ── endpoint ──►
    applied ── answer ──► answered

``look`` is shown every look at a service and keeps what it needs of it in a ``Memory``; a start that is over comes out
as a ``ColdStart``, once. The phases sum to the whole. What the replica says of itself (``observed.Startup``) fills the
time between the beginning of its start and its first good probe; what is left of that is ``supervise``: threads,
records, the pause until the probe; ``zygote`` is the wait for one that still imports, and ``retry`` the tries that
ended badly before. A start without a wish is that of a replica which ended and was started again by its supervisor; it
waits in ``back-off`` first.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Mapping, Sequence

from mlship.plan import observed

KEPT = 5
_SAID = {"wait": "zygote", "fork": "fork", "import": "import", "listening": "listen", "load": "load"}
_ALIVE = frozenset(
    {observed.Phase.INITIAL, observed.Phase.STARTING, observed.Phase.RUNNING, observed.Phase.BACKOFF}
)  # fmt: skip


class Why(enum.StrEnum):
    """Who wished for it: a caller who waits at the gate, the scaler, the plan that misses it, or nobody but its end."""

    CALLER = "caller"
    SCALE = "scale"
    MISSING = "missing"
    RESTART = "restart"


@dataclasses.dataclass(frozen=True, slots=True)
class ColdStart:
    """One start that is over. ``phases``: names and seconds in their order, all after ``wished_at``.

    ``fetched`` bytes took ``fetch_seconds``, when a fetch was part of it. ``traceparent`` is the waiting caller's.
    """

    replica: observed.ReplicaId
    how: observed.How
    why: Why
    wished_at: float
    phases: tuple[tuple[str, float], ...]
    fetched: int = 0
    fetch_seconds: float = 0.0
    traceparent: str = ""

    @property
    def seconds(self) -> float:
        """The whole."""
        return sum(seconds for _, seconds in self.phases)


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """That a replica be there, and since when (Unix seconds)."""

    at: float
    why: Why
    traceparent: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What is kept of one service from look to look; all by replicas that are there, so that it does not grow.

    ``since``: starts that began before are somebody else's to tell. ``counted``: when the newest start of each began
    that has come out. ``answered_at``: when the gate let a waiting caller go on.
    """

    since: float
    wish: Wish | None = None
    acted: Mapping[observed.ReplicaId, tuple[Wish, float]] = dataclasses.field(default_factory=dict)
    applied: Mapping[observed.ReplicaId, float] = dataclasses.field(default_factory=dict)
    counted: Mapping[observed.ReplicaId, float] = dataclasses.field(default_factory=dict)
    answered_at: float | None = None
    newest: tuple[ColdStart, ...] = ()


def look(
    memory: Memory, seen: observed.Observed, *, wanted: int, starts: Collection[observed.ReplicaId], now: float
) -> tuple[Memory, tuple[ColdStart, ...]]:
    """One look at a service: the memory after it, and the starts that are over now, oldest first.

    Args:
        wanted: how many replicas shall run.
        starts: the replicas whose start was asked for just now.
    """
    wish = _wish(memory, seen, wanted=wanted, now=now)
    acted = {**memory.acted, **dict.fromkeys(starts, (wish or Wish(now, Why.MISSING), now))}
    known = {one.id for one in seen.replicas} | set(starts)
    applied = {one.id: memory.applied.get(one.id, now) for one in seen.replicas if one.endpoint in seen.gateway.applied}
    kept = Memory(
        since=memory.since,
        wish=None if starts else wish,
        acted={one: value for one, value in acted.items() if one in known},
        applied=applied,
        counted={one: value for one, value in memory.counted.items() if one in known},
        answered_at=memory.answered_at,
    )
    over = tuple(made for one in seen.replicas if (made := _over(kept, one, seen, now)) is not None)
    return dataclasses.replace(
        kept,
        acted={one: value for one, value in kept.acted.items() if all(made.replica != one for made in over)},
        counted={**kept.counted, **{one.id: _began(one) for one in seen.replicas if _has(over, one.id)}},
        answered_at=None if over else kept.answered_at,
        newest=(*memory.newest, *over)[-KEPT:],
    ), over


def _has(over: Iterable[ColdStart], replica: observed.ReplicaId) -> bool:
    return any(made.replica == replica for made in over)


def _began(replica: observed.Replica) -> float:
    return replica.startup.began_at if replica.startup is not None else 0.0


def _wish(memory: Memory, seen: observed.Observed, *, wanted: int, now: float) -> Wish | None:
    """The wish that stands: the first reason to have one more replica than there are."""
    alive = [one for one in seen.replicas if one.phase in _ALIVE]
    if seen.demand.waiting and not alive:
        return memory.wish or Wish(now, Why.CALLER)
    if wanted <= len(alive):
        return None
    artifact = seen.artifact
    if artifact is not None and artifact.state is observed.ArtifactState.FAILED:
        return None  # how long the user takes to mend it is no start
    why = Why.SCALE if any(one.ready for one in alive) else Why.MISSING
    return memory.wish or Wish(now, why)


def _over(memory: Memory, replica: observed.Replica, seen: observed.Observed, now: float) -> ColdStart | None:
    """The start of ``replica``, if it is over and has not come out yet."""
    startup, applied = replica.startup, memory.applied.get(replica.id)
    if startup is None or startup.ready_at is None or applied is None or startup.began_at < memory.since:
        return None
    if memory.counted.get(replica.id) == startup.began_at:
        return None
    wish, acted_at = memory.acted.get(replica.id) or _again(replica, startup)
    answered = applied
    if wish.why is Why.CALLER:
        if memory.answered_at is None and seen.demand.waiting:
            return None
        answered = now if memory.answered_at is None else memory.answered_at
    artifact = seen.artifact
    fetch = _fetch(artifact, wish.at, answered)
    retry = _retry(replica, startup, acted_at)
    phases = [*_before(wish, acted_at, fetch), *retry, *_during(startup, acted_at + sum(spent for _, spent in retry))]
    applied = max(applied, startup.ready_at)
    phases.append(("endpoint", applied - startup.ready_at))
    if wish.why is Why.CALLER:
        phases.append(("answer", max(answered - applied, 0.0)))
    return ColdStart(
        replica=replica.id,
        how=startup.how,
        why=wish.why,
        wished_at=wish.at,
        phases=tuple(phases),
        fetched=artifact.size if fetch is not None and artifact is not None else 0,
        fetch_seconds=fetch[1] - fetch[0] if fetch is not None else 0.0,
        traceparent=wish.traceparent,
    )


def _again(replica: observed.Replica, startup: observed.Startup) -> tuple[Wish, float]:
    """The wish of a replica that its supervisor has started again: its end."""
    ended = replica.last_exit.at if replica.last_exit is not None else startup.began_at
    return Wish(min(ended, startup.began_at), Why.RESTART), startup.began_at


def _fetch(artifact: observed.Artifact | None, begin: float, end: float) -> tuple[float, float] | None:
    """From when to when the model was fetched, if that was between ``begin`` and ``end``, in part at least."""
    if artifact is None or artifact.fetched_at is None or not begin < artifact.fetched_at <= end:
        return None
    return artifact.fetched_at - artifact.seconds, artifact.fetched_at


def _before(wish: Wish, acted_at: float, fetch: tuple[float, float] | None) -> list[tuple[str, float]]:
    """From the wish to the action."""
    whole = max(acted_at - wish.at, 0.0)
    if wish.why is Why.RESTART:
        return [("back-off", whole)]
    download = 0.0
    if fetch is not None:
        download = max(min(fetch[1], acted_at) - max(fetch[0], wish.at), 0.0)
    found = [("download", download)] if download else []
    return [*found, ("decide", whole - download)]


def _retry(replica: observed.Replica, startup: observed.Startup, acted_at: float) -> list[tuple[str, float]]:
    """The time that tries before the last one took, which ended badly, and the pauses between them."""
    ended = replica.last_exit
    if ended is None or not acted_at < ended.at <= startup.began_at:
        return []
    return [("retry", startup.began_at - acted_at)]


def _during(startup: observed.Startup, acted_at: float) -> list[tuple[str, float]]:
    """From the action to readiness."""
    assert startup.ready_at is not None
    whole = max(startup.ready_at - acted_at, 0.0)
    said: dict[str, float] = {}
    for name, seconds in startup.phases:
        known = _SAID.get(name, name)
        said[known] = said.get(known, 0.0) + seconds
    total = sum(said.values())
    if total > whole:  # clocks of two processes
        said = {name: seconds * whole / total for name, seconds in said.items()}
        total = whole
    return [("supervise", whole - total), *said.items()]


def recalled(replicas: Iterable[observed.Replica]) -> ColdStart | None:
    """The newest start as far as the replicas' own records tell it: after a restart of the control plane."""
    found = [one for one in replicas if one.startup is not None and one.startup.ready_at is not None]
    newest = max(found, key=_began, default=None)
    if newest is None or newest.startup is None:
        return None
    began = newest.startup.began_at
    return ColdStart(newest.id, newest.startup.how, Why.MISSING, began, tuple(_during(newest.startup, began)))


def sentence(start: ColdStart) -> str:
    """It in one line: ``112 ms = decide 3, fork 12, load 24, endpoint 4 (download 1.2 GB at 310 MB/s)``."""
    factor, unit = (1.0, "s") if start.seconds >= 10 else (1000.0, "ms")
    shown = [(name, _number(seconds * factor, unit)) for name, seconds in start.phases]
    parts = ", ".join(f"{name} {number}" for name, number in shown if number != "0")
    said = f"{_number(start.seconds * factor, unit)} {unit}" + (f" = {parts}" if parts else "")
    if start.fetched:
        rate = f" at {_bytes(start.fetched / start.fetch_seconds)}/s" if start.fetch_seconds > 0 else ""
        said += f" (download {_bytes(start.fetched)}{rate})"
    return said


def _number(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit == "s" else f"{value:.0f}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


@dataclasses.dataclass(frozen=True, slots=True)
class Underway:
    """What a service that is waking is at, as words that follow its name, and since how many seconds."""

    doing: str
    seconds: float


def underway(seen: observed.Observed, now: float) -> Underway | None:
    """What is between a caller and an answer; None when replicas answer, or nothing is under way."""
    replicas = [one for one in seen.replicas if one.phase in _ALIVE]
    ready = [one for one in replicas if one.ready]
    if ready:
        if any(one.endpoint in seen.gateway.applied for one in ready):
            return None
        return Underway("telling the gateway", _since(ready, now))
    starting = [one for one in replicas if one.phase is not observed.Phase.BACKOFF]
    if starting:
        return Underway(_doing(starting), _since(starting, now))
    if replicas:
        last = replicas[0]
        return Underway(f"starting again, the last start failed: {last.message}", max(now - last.since, 0.0))
    artifact = seen.artifact
    if artifact is not None and artifact.state is observed.ArtifactState.FETCHING:
        size = f", {_bytes(artifact.done)}" + (f" of {_bytes(artifact.total)}" if artifact.total else "")
        return Underway("fetching the model" + (size if artifact.done else ""), 0.0)
    return None


def _since(replicas: Sequence[observed.Replica], now: float) -> float:
    return max(now - min(_began(one) or one.since for one in replicas), 0.0)


def _doing(replicas: Sequence[observed.Replica]) -> str:
    """The farthest that one of them is."""
    said = {name for one in replicas if one.startup is not None for name, _ in one.startup.phases}
    if "load" in said:
        return "answering its first probe"
    return "loading the model" if said else "starting a process"
