"""How many replicas: ``decide(policy, seen, memory, now)`` says, nothing else does. Pure and total.

The plan asks here whenever a look is due: when a caller waits at the gate, or ``wake_at`` of the decision before has
come. In this order: what the metrics ask for (``propose``); what follows from that (``wish``); how fast it may come
(``behavior``); the bounds, which hold whatever else is said.

Three rules stand above the algorithm. What is not known shrinks nothing. A scaler that has just begun to watch shrinks
nothing before it has seen a full window. A panic shrinks nothing.

Sources: the public documentation of Knative's autoscaler, of the HorizontalPodAutoscaler and of KEDA; see
docs/decisions/0020-autoscaling.md.
"""

from __future__ import annotations

import dataclasses

from mlship.scale import behavior, propose, wish
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


def decide(policy: policies.Policy, seen: facts.Readings, memory: memories.Memory | None, now: float) -> Decision:
    """How many replicas shall run at ``now`` (Unix seconds). Never raises, and repeats itself exactly.

    Args:
        memory: of the decision before; None for a new service, and for one whose memory was lost.
    """
    past = _reached(policy, _past(policy, seen, memory, now), ready=seen.ready, now=now)
    asked = propose.together(policy, seen, past.replicas)
    past = wish.watched(policy, past, asked, ready=seen.ready, now=now)
    wanted = _bounded(policy, wish.make(policy, past, asked, seen, now))
    final, words = _paced(policy, past, wanted, ready=seen.ready, now=now)
    after = dataclasses.replace(
        past,
        replicas=final,
        marks=behavior.remembered(policy, past.marks, wanted.replicas, now),
        changes=behavior.changed(policy, past.changes, final - past.replicas, now),
    )
    return Decision(final, after, _why(past.replicas, final, words), _wake_at(policy, final, seen, now))


def _past(policy: policies.Policy, seen: facts.Readings, memory: memories.Memory | None, now: float) -> memories.Memory:
    """The memory, or one to begin with."""
    if memory is not None:
        return memories.resumed(memory, now) if memory.newest > now else memory
    if seen.replicas > 0:
        return memories.begin(seen.replicas, now)
    reach = min(max(policy.initial, policy.min_replicas), policy.max_replicas)
    return memories.begin(0, now, reach=reach, reach_until=now + policy.progress)


def _reached(policy: policies.Policy, past: memories.Memory, *, ready: int, now: float) -> memories.Memory:
    """Replicas to be reached are forgotten once they were there, as many as may run, or took too long."""
    if past.reach and (now >= past.reach_until or ready >= min(past.reach, policy.max_replicas)):
        return dataclasses.replace(past, reach=0, reach_until=0.0)
    return past


def _bounded(policy: policies.Policy, wanted: wish.Wish) -> wish.Wish:
    if wanted.replicas <= policy.max_replicas:
        return wanted
    words = f"{wanted.words}; at most {policy.max_replicas}"
    return dataclasses.replace(wanted, replicas=policy.max_replicas, words=words)


def _paced(
    policy: policies.Policy, past: memories.Memory, wanted: wish.Wish, *, ready: int, now: float
) -> tuple[int, str]:
    """How far one goes towards a wish now, and the sentence with what holds it up."""
    current, going, words = past.replicas, wanted.replicas, wanted.words
    if not wanted.sudden:
        going = behavior.stabilised(policy, past.marks, wanted.replicas, current=current, now=now)
        if going != wanted.replicas:
            words = f"{words}; {'more' if going > wanted.replicas else 'fewer'} were asked for a short time ago"
    limits = behavior.bounds(policy, past.changes, current=current, ready=ready, now=now)
    if going > limits.high:
        going, words = limits.high, f"{words}; {limits.high_words}"
    elif going < limits.low:
        going, words = limits.low, f"{words}; {limits.low_words}"
    # Callers wait for those to be reached: rates and windows are for the ones beyond.
    least = policy.rest if wanted.rests else max(policy.floor, past.reach)
    return min(max(going, least), policy.max_replicas), words


def _wake_at(policy: policies.Policy, replicas: int, seen: facts.Readings, now: float) -> float | None:
    """When to look again. One that rests at zero is woken by the gate, unless something must be asked for."""
    times = [schedule.changes_at for schedule in seen.schedules if schedule.changes_at is not None]
    polled = any(metric.kind is policies.Kind.EXTERNAL for metric in policy.metrics)
    fixed = policy.rest == policy.max_replicas == replicas
    if not fixed and (polled or replicas > 0 or not wish.at_rest(policy, replicas)):
        times.append(now + policy.interval)
    return min((time for time in times if time > now), default=None)


def _why(before: int, after: int, words: str) -> str:
    many = "1 replica" if after == 1 else f"{after} replicas"
    return f"{many}: {words}" if before == after else f"{many} instead of {before}: {words}"
