"""What follows from what is asked for: rest, wake up, grow, shrink, or stay because something is not known. Pure.

The middle of a decision, between ``propose`` and ``behavior``. Nothing here knows how fast the number may change.
"""

from __future__ import annotations

import dataclasses

from mlship.scale import memory as memories
from mlship.scale import policy as policies
from mlship.scale import propose
from mlship.scale import readings as facts


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted before it is known how fast it may come.

    ``sudden``: no stabilisation holds it up. ``rests``: it may be fewer than the service has while in use.
    """

    replicas: int
    words: str
    sudden: bool = False
    rests: bool = False


def at_rest(policy: policies.Policy, replicas: int) -> bool:
    """Whether so many are what is left when nobody uses the service."""
    return replicas <= policy.rest < policy.floor


def watched(
    policy: policies.Policy, past: memories.Memory, asked: propose.Asked, *, ready: int, now: float
) -> memories.Memory:
    """The memory with what is seen now: use, emergency, and the wake-up that follows from use."""
    active_at = past.active_at if asked.active is False else now
    over = asked.panic is not None and asked.panic >= policy.panic_threshold * max(1, ready)
    panic_at = now if over else past.panic_at
    if panic_at is not None and now - panic_at >= policy.stable:
        panic_at = None
    past = dataclasses.replace(past, active_at=active_at, panic_at=panic_at)
    if at_rest(policy, past.replicas) and asked.active is True and not past.reach:
        reach = min(max(policy.floor, policy.activation), policy.max_replicas)
        return dataclasses.replace(past, reach=reach, reach_until=now + policy.progress)
    return past


def make(
    policy: policies.Policy, past: memories.Memory, asked: propose.Asked, seen: facts.Readings, now: float
) -> Wish:
    """What is wanted now, of a memory that has been through ``watched``."""
    if at_rest(policy, past.replicas):
        return _resting(past, asked, seen)
    held = _held(policy, past, asked, ready=seen.ready, now=now)
    unused = now - past.active_at >= max(policy.cooldown, policy.delay)
    idle = asked.active is False and policy.rest < policy.floor and unused
    if not idle or held:
        return _in_use(policy, past, asked, held)
    if policy.rest == 0 and not seen.gated:
        wish = _in_use(policy, past, asked, held)
        return dataclasses.replace(wish, words="nobody uses it, but the gate that would wake it is not there")
    return Wish(policy.rest, f"nobody has used it for {_unused(policy, past, now)}", sudden=True, rests=True)


def _resting(past: memories.Memory, asked: propose.Asked, seen: facts.Readings) -> Wish:
    if not past.reach:
        words = "nobody uses it" if asked.active is False else "no use of it is known"
        return Wish(past.replicas, words, sudden=True, rests=True)
    if seen.waiting:
        words = "1 caller waits at the gate" if seen.waiting == 1 else f"{seen.waiting} callers wait at the gate"
    else:
        words = asked.words if asked.active is True else "a new service begins"
    return Wish(max(past.reach, asked.wanted), words, sudden=True)


def _in_use(policy: policies.Policy, past: memories.Memory, asked: propose.Asked, held: str) -> Wish:
    wanted, words = asked.wanted, asked.words
    if past.panic_at is not None and asked.panic is not None and asked.panic > wanted:
        wanted, words = asked.panic, asked.panic_words
    least = max(policy.floor, past.reach)
    if wanted < least:
        wanted, words = least, f"{words}; at least {least}"
    if held and wanted <= past.replicas:
        return Wish(past.replicas, f"{words}; {held}" if wanted < past.replicas else words)
    return Wish(wanted, words)


def _held(policy: policies.Policy, past: memories.Memory, asked: propose.Asked, *, ready: int, now: float) -> str:
    """Why nothing may shrink now; empty when it may."""
    if not asked.whole:
        reason = " and ".join(asked.unknown[:3])
    elif now - past.since < policy.stable:
        reason = f"watched for {now - past.since:.0f} of {policy.stable:g} s"
    elif past.panic_at is not None:
        reason = f"the load jumped {now - past.panic_at:.0f} s ago"
    elif past.reach:
        reason = f"{ready} of {past.reach} are ready"
    else:
        return ""
    return f"{reason}, so nothing shrinks"


def _unused(policy: policies.Policy, past: memories.Memory, now: float) -> str:
    """For how long: since the last look that showed use, and the window before it, which such a look covers."""
    windowed = any(metric.shape is policies.Form.LOAD for metric in policy.metrics)
    return f"{now - past.active_at + (policy.stable if windowed else 0.0):.0f} s"
