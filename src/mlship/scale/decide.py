"""How many replicas: ``decide(policy, readings, memory, now)`` says, nothing else does. Pure and total.

The plan asks here whenever a look is due, a caller waits at the gate, or ``wake_at`` of the decision before has come.
In this order: what the metrics ask for (``propose``); is it an emergency, does anybody use the service; what follows
from that; how fast may it go there (``behavior``); the bounds, which hold whatever else is said.

Three rules stand above the algorithm. What is not known never shrinks anything. A scaler that has just begun to watch
shrinks nothing before it has seen a full window. A panic never shrinks anything.

Sources: the public documentation of Knative's autoscaler, of the HorizontalPodAutoscaler and of KEDA; see
docs/decisions/0020-autoscaling.md.
"""

from __future__ import annotations

import dataclasses

from mlship.scale import behavior, propose
from mlship.scale import memory as memories
from mlship.scale import policy as policies
from mlship.scale import readings as facts


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """``replicas`` shall run; ``memory`` goes into the next decision; ``why`` is one sentence with the numbers.

    ``wake_at`` (Unix seconds): decide again then, even if nothing happens; None: only when something does.
    """

    replicas: int
    memory: memories.Memory
    why: str
    wake_at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Wish:
    """What is wanted before it is known how fast it may come. ``sudden``: no stabilisation holds it up."""

    replicas: int
    words: str
    sudden: bool = False
    rests: bool = False


def decide(
    policy: policies.Policy, seen: facts.Readings, memory: memories.Memory | None, now: float
) -> Decision:
    """How many replicas shall run at ``now`` (Unix seconds). Never raises, and repeats itself exactly.

    Args:
        memory: of the decision before; None for a new service, and for one whose memory was lost.
    """
    past = _reached(_past(policy, seen, memory, now), seen, now)
    asked = propose.together(policy, seen, past.replicas)
    past = _watched(policy, past, asked, seen, now)
    wish = _wish(policy, past, asked, seen, now)
    final, words = _paced(policy, past, wish, ready=seen.ready, now=now)
    after = dataclasses.replace(
        past,
        replicas=final,
        marks=behavior.remembered(policy, past.marks, wish.replicas, now),
        changes=behavior.changed(policy, past.changes, final - past.replicas, now),
    )
    return Decision(final, after, _why(past.replicas, final, words), _wake_at(policy, after, seen, now))


def _past(
    policy: policies.Policy, seen: facts.Readings, memory: memories.Memory | None, now: float
) -> memories.Memory:
    """The memory, or one to begin with."""
    if memory is not None:
        return memories.resumed(memory, now) if memory.newest > now else memory
    if seen.replicas > 0:
        return memories.begin(seen.replicas, now)
    reach = max(policy.initial, policy.min_replicas)
    return memories.begin(0, now, reach=reach, reach_until=now + policy.progress)


def _reached(past: memories.Memory, seen: facts.Readings, now: float) -> memories.Memory:
    """Replicas to be reached are forgotten once they were there, or took too long."""
    if past.reach and (now >= past.reach_until or seen.ready >= past.reach):
        return dataclasses.replace(past, reach=0, reach_until=0.0)
    return past


def _watched(
    policy: policies.Policy, past: memories.Memory, asked: propose.Asked, seen: facts.Readings, now: float
) -> memories.Memory:
    """The memory with what was seen now: use, emergency, and the wake-up that follows from use."""
    active_at = past.active_at if asked.active is False else now
    over = asked.panic is not None and asked.panic >= policy.panic_threshold * max(1, seen.ready)
    panic_at = now if over else past.panic_at
    if panic_at is not None and now - panic_at >= policy.stable:
        panic_at = None
    past = dataclasses.replace(past, active_at=active_at, panic_at=panic_at)
    if _rests(policy, past.replicas) and asked.active is True and not past.reach:
        reach = min(max(policy.floor, policy.activation), policy.max_replicas)
        return dataclasses.replace(past, reach=reach, reach_until=now + policy.progress)
    return past


def _rests(policy: policies.Policy, replicas: int) -> bool:
    return replicas <= policy.rest < policy.floor


def _wish(
    policy: policies.Policy, past: memories.Memory, asked: propose.Asked, seen: facts.Readings, now: float
) -> _Wish:
    """What follows from what is asked for."""
    current = past.replicas
    if _rests(policy, current) and not past.reach:
        return _Wish(current, "nobody uses it" if asked.active is False else "no use of it is known", rests=True)
    if _rests(policy, current):
        words = f"{_callers(seen.waiting)} at the gate" if seen.waiting else asked.words
        words = words if asked.active is True else "a new service begins"
        return _Wish(max(past.reach, asked.wanted), words, sudden=True)
    wanted, words = asked.wanted, asked.words
    if past.panic_at is not None and asked.panic is not None and asked.panic > wanted:
        wanted, words = asked.panic, asked.panic_words
    for least, reason in ((policy.floor, "minReplicas"), (past.reach, "those it began with are not ready yet")):
        if least > wanted:
            wanted, words = least, reason if reason != "minReplicas" else f"{words}; at least {least}"
    held = _held(policy, past, asked, seen, now)
    idle = asked.active is False and policy.rest < policy.floor and now - past.active_at >= policy.cooldown
    if idle and not held and (seen.gated or policy.rest > 0):
        words = f"nobody has used it for {_ago(policy, past, now)}"
        return _Wish(policy.rest, words, sudden=True, rests=True)
    if held and wanted <= current:
        return _Wish(current, f"{words}; {held}" if wanted < current else words)
    return _Wish(wanted, words)


def _held(
    policy: policies.Policy, past: memories.Memory, asked: propose.Asked, seen: facts.Readings, now: float
) -> str:
    """Why nothing may shrink now; empty when it may."""
    if not asked.whole:
        return f"{' and '.join(asked.unknown[:3])}, so nothing shrinks"
    if now - past.since < policy.stable:
        return f"watched for {now - past.since:.0f} of {policy.stable:g} s, so nothing shrinks"
    if past.panic_at is not None:
        return f"the load jumped {now - past.panic_at:.0f} s ago, so nothing shrinks"
    if past.reach and seen.ready < past.reach:
        return f"{seen.ready} of {past.reach} are ready, so nothing shrinks"
    return ""


def _paced(
    policy: policies.Policy, past: memories.Memory, wish: _Wish, *, ready: int, now: float
) -> tuple[int, str]:
    """How far one goes towards a wish now, and the sentence's end."""
    current, words = past.replicas, wish.words
    wanted = min(wish.replicas, policy.max_replicas)
    if wanted < wish.replicas:
        words = f"{words}; at most {policy.max_replicas}"
    going = wanted
    if not wish.sudden:
        going = behavior.stabilised(policy, past.marks, wanted, current=current, now=now)
        if going != wanted:
            words = f"{words}; not so soon after {'more' if going > wanted else 'fewer'} were asked for"
    limits = behavior.bounds(policy, past.changes, current=current, ready=ready, now=now)
    # A caller waits for these: the rates are for those beyond.
    high = max(limits.high, past.reach) if wish.sudden else limits.high
    if going > high:
        going, words = high, f"{words}; {limits.high_words}"
    elif going < limits.low:
        going, words = limits.low, f"{words}; {limits.low_words}"
    least = policy.rest if wish.rests else policy.floor
    return min(max(going, least), policy.max_replicas), words


def _wake_at(policy: policies.Policy, past: memories.Memory, seen: facts.Readings, now: float) -> float | None:
    """When to look again. One that rests is woken by the gate, unless there is something that must be asked for."""
    times = [schedule.changes_at for schedule in seen.schedules if schedule.changes_at is not None]
    polled = any(metric.kind is policies.Kind.EXTERNAL for metric in policy.metrics)
    fixed = policy.rest == policy.max_replicas == past.replicas
    if not fixed and (polled or not _rests(policy, past.replicas)):
        times.append(now + policy.interval)
    later = [time for time in times if time > now]
    return min(later) if later else None


def _why(before: int, after: int, words: str) -> str:
    many = f"{after} replica" if after == 1 else f"{after} replicas"
    return f"{many}: {words}" if before == after else f"{many} instead of {before}: {words}"


def _ago(policy: policies.Policy, past: memories.Memory, now: float) -> str:
    """How long nobody has used it: the window that showed nothing, and the time since it began to."""
    windowed = any(policies.TRAITS[one.kind].form is policies.Form.LOAD for one in policy.metrics)
    return f"{now - past.active_at + (policy.stable if windowed else 0):.0f} s"


def _callers(number: int) -> str:
    return "1 caller waits" if number == 1 else f"{number} callers wait"
