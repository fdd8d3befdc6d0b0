"""What each metric asks for, and what they ask for together: the largest wins. Pure.

The first half of a decision. Each metric proposes a number of replicas, or says that it does not know; a cron trigger
does the same. A proposal that is not ``whole`` may raise the number and never lower it. Whether anybody uses the
service is asked of those that can tell: True if one says so, False if all deny it, None otherwise.
"""

from __future__ import annotations

import dataclasses
import math

from mlship.scale import policy as policies
from mlship.scale import readings as facts

# More replicas than any bound: keeps an absurd value from becoming an absurd sum.
_LIMIT = 10**9
# What is a multiple of the aim up to rounding needs no replica more: 21 / (10 * 0.7) is 3.0000000000000004.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """``wanted`` replicas, ``panic`` by the panic window; None is not known.

    ``whole``: it says enough to shrink by. ``tells``: it can tell whether the service is in use, and ``active`` is
    what it says. ``words`` completes "because ...".
    """

    words: str
    wanted: int | None = None
    panic: int | None = None
    panic_words: str = ""
    whole: bool = False
    tells: bool = False
    active: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """All proposals as one. ``wanted`` is 0 when nobody asks for anything; ``unknown`` names who did not know."""

    wanted: int
    words: str
    panic: int | None
    panic_words: str
    active: bool | None
    unknown: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether everybody said enough to shrink by."""
        return not self.unknown


def together(policy: policies.Policy, seen: facts.Readings, current: int) -> Asked:
    """What is asked for, while ``current`` replicas are wanted."""
    made = [of(policy, metric, seen, current) for metric in policy.metrics]
    made += [_scheduled(schedule) for schedule in seen.schedules]
    wanted, words = 0, "nothing is asked for"
    panic, panic_words = None, ""
    for one in made:
        if one.wanted is not None and one.wanted > wanted:
            wanted, words = one.wanted, one.words
        if one.panic is not None and (panic is None or one.panic > panic):
            panic, panic_words = one.panic, one.panic_words
    unknown = tuple(one.words for one in made if not one.whole)
    active = _active(made, seen)
    return Asked(wanted, words, panic=panic, panic_words=panic_words, active=active, unknown=unknown)


def _active(made: list[Proposal], seen: facts.Readings) -> bool | None:
    """Whether anybody has use of it, None: not known, of which requests are a part though no metric may count them."""
    said = [seen.busy, *(one.active for one in made if one.tells)]
    if seen.waiting > 0 or True in said:
        return True
    return None if None in said else False


def of(policy: policies.Policy, metric: policies.Metric, seen: facts.Readings, current: int) -> Proposal:
    """What one metric asks for."""
    reading = seen.metrics.get(metric.name, facts.UNKNOWN)
    active = _uses(metric, reading)
    value = reading.stable
    wanted = None if value is None else _replicas(metric, value, ready=seen.ready, current=current)
    if value is None or wanted is None:
        return _without(policy, metric, reading, seen)
    panic, panic_words = None, ""
    if metric.shape is policies.Form.LOAD and reading.panic is not None and math.isfinite(reading.panic):
        panic = max(_shares(reading.panic, metric.aim), 0)
        panic_words = f"{metric.name} {reading.panic:.4g} over the last {policy.panic:g} s asks for {panic}"
    return Proposal(
        words=_words(metric, value, wanted) if reading.whole else f"{metric.name} is known in part",
        wanted=wanted,
        panic=panic,
        panic_words=panic_words,
        whole=reading.whole,
        tells=metric.activates,
        active=active,
    )


def _uses(metric: policies.Metric, reading: facts.Reading) -> bool | None:
    """Whether a metric shows that the service is in use. A value of a part of the window can show it, not deny it."""
    if reading.active is not None:
        return reading.active
    if not metric.activates or reading.stable is None:
        return None
    if reading.stable > metric.activation or (reading.panic or 0.0) > metric.activation:
        return True
    return False if reading.whole else None


def _without(
    policy: policies.Policy, metric: policies.Metric, reading: facts.Reading, seen: facts.Readings
) -> Proposal:
    """The proposal of a metric that has no value."""
    if metric.kind is policies.Kind.LATENCY and seen.busy is False and reading.failures == 0:
        return Proposal(words=f"{metric.name} has nothing to measure", wanted=0, whole=True)
    fallback = policy.fallback
    if fallback is not None and reading.failures >= fallback.failures:
        words = f"{metric.name} could not be read {reading.failures} times, the fallback is {fallback.replicas}"
        active = True if fallback.replicas else None
        return Proposal(words=words, wanted=fallback.replicas, tells=True, active=active)
    tells = metric.activates or reading.active is not None
    return Proposal(words=f"{metric.name} is not known", tells=tells, active=reading.active)


def _scheduled(schedule: facts.Schedule) -> Proposal:
    words = f"the schedule {schedule.name} asks for {schedule.replicas}"
    wanted = schedule.replicas if schedule.active else 0
    return Proposal(words=words, wanted=wanted, whole=True, tells=True, active=schedule.active)


def _replicas(metric: policies.Metric, value: float, *, ready: int, current: int) -> int | None:
    """How many replicas a value asks for; None when it cannot be said."""
    if not math.isfinite(value):
        return None
    if metric.shape is policies.Form.LOAD:
        return _load(metric, max(value, 0.0), current)
    if metric.shape is policies.Form.AVERAGE and ready <= 0:
        return _shares(max(value, 0.0), metric.aim)
    if ready <= 0:
        return None
    per_replica = value / ready if metric.shape is policies.Form.AVERAGE else value
    ratio = max(per_replica, 0.0) / metric.aim
    if abs(ratio - 1.0) <= metric.tolerance + _ROUNDING:
        return current
    wanted = _shares(ratio * ready, 1.0)
    # A replica that is not ready yet has not taken its part: the number may not go against the direction.
    return max(current, wanted) if ratio > 1.0 else min(current, wanted)


def _load(metric: policies.Metric, value: float, current: int) -> int:
    """Shares of a load. Fewer than now only with room to spare, lest a load between two numbers goes to and fro."""
    needed = _shares(value, metric.aim)
    if needed >= current:
        return needed
    return min(current, _shares(value, metric.aim * (1.0 - metric.tolerance)))


def _shares(value: float, aim: float) -> int:
    shares = value / aim
    return _LIMIT if shares >= _LIMIT else math.ceil(shares - _ROUNDING)


def _words(metric: policies.Metric, value: float, wanted: int) -> str:
    each = "at" if metric.shape is policies.Form.VALUE else "for each"
    aim = f"{each} {metric.aim:.4g}" if each == "at" else f"{metric.aim:.4g} {each}"
    return f"{metric.name} {value:.4g}, to be {aim}, asks for {wanted}"
