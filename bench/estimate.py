"""How long a run will take, from what is chosen: said before it starts. Pure."""

from __future__ import annotations

from bench import models, replicas, rounds, subjects

_AROUND = 1.2  # seconds beside each load: two checked requests, the load program's start, a last look at memory
_GRACE = 5.0  # what waits when an overload is over is waited for
_BIG = 2.0
_REPLICA_SECONDS = 15.0  # a deployment, three more replicas, its end


def seconds(choices: rounds.Choices) -> float:
    """Seconds of the whole run, environments built."""
    closed = sum(_closed(choices, one) for one in choices.subjects)
    return choices.rounds * (closed + _steady(choices) + _replicas(choices))


def _closed(choices: rounds.Choices, subject: subjects.Subject) -> float:
    found = 0.0
    for model in models.MODELS:
        loads = choices.closed(subject, model)
        each = choices.warm_seconds + choices.seconds + _AROUND
        found += subject.start_seconds + len(loads) * each if loads else 0.0
    return found


def _steady(choices: rounds.Choices) -> float:
    """mlship at the rate of every peer, then each peer once."""
    starts: dict[str, float] = {}
    for one in choices.subjects:
        if one.is_peer:
            starts[one.peer] = max(starts.get(one.peer, 0.0), one.start_seconds)
    ours = next((one for one in choices.subjects if one.name == subjects.OURS), None)
    found = sum(_steady_one(choices, start, rates=1) for start in starts.values())
    return found + (_steady_one(choices, ours.start_seconds, rates=len(starts)) if ours else 0.0)


def _steady_one(choices: rounds.Choices, start: float, *, rates: int) -> float:
    each = choices.seconds + _AROUND
    opened = rates * each if choices.wanted("open") else 0.0
    mixed = 2 * each + _BIG if choices.wanted("mixed") else 0.0
    # One more start, for who needs another server for the big requests.
    iris = 1.3 * start + choices.warm_seconds + opened + mixed if opened or mixed else 0.0
    overload = start + choices.warm_seconds + each + _GRACE if choices.wanted("overload") else 0.0
    return iris + overload


def _replicas(choices: rounds.Choices) -> float:
    ours = any(one.name == subjects.OURS for one in choices.subjects)
    wanted = ours and choices.wanted("replicas")
    return len(models.KINDS) * (_REPLICA_SECONDS + replicas.FURTHER) if wanted else 0.0
