"""How fast the number may change: stabilisation, the rates of ``behavior``, Knative's factors. Pure.

The second half of a decision. What is asked for goes through a window, so that the number falls only to the most of
what was asked for lately, and rises only to the fewest; then through the rates. The rules are those that Kubernetes
documents for the HorizontalPodAutoscaler and Knative for its autoscaler's limits.
"""

from __future__ import annotations

import dataclasses
import math

from mlship.scale import memory as memories
from mlship.scale import policy as policies

_Marks = tuple[memories.Mark, ...]
_Changes = tuple[memories.Change, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """The fewest and the most replicas one decision may go to, and who says so."""

    low: int
    high: int
    low_words: str
    high_words: str


def remembered(policy: policies.Policy, marks: _Marks, wish: int, now: float) -> _Marks:
    """The marks with what is asked for now, without what the windows no longer need.

    Marks that the shorter window still looks at are joined by its grains, older ones by those of the longer: joined
    more coarsely, what was asked for long ago would count for as long as the longer window's grain.
    """
    windows = [window for window in (policy.behavior.up.window, policy.down_window) if window > 0]
    if not windows:
        return ()
    shorter, longer = min(windows), max(windows)
    kept: list[memories.Mark] = []
    for mark in (*(mark for mark in marks if mark.at > now - longer), memories.Mark(now, wish, wish)):
        grain = (shorter if mark.at > now - shorter else longer) / memories.GRAINS
        if kept and math.floor(kept[-1].at / grain) == math.floor(mark.at / grain):
            last = kept.pop()
            kept.append(memories.Mark(mark.at, min(last.low, mark.low), max(last.high, mark.high)))
        else:
            kept.append(mark)
    return tuple(kept[-memories.MOST_MARKS :])


def stabilised(policy: policies.Policy, marks: _Marks, wish: int, *, current: int, now: float) -> int:
    """Down only to the most that was asked for within the one window, up only to the fewest within the other."""
    up, down = now - policy.behavior.up.window, now - policy.down_window
    fewest = min((mark.low for mark in marks if mark.at > up), default=wish)
    most = max((mark.high for mark in marks if mark.at > down), default=wish)
    return max(min(current, max(most, wish)), min(fewest, wish))


def bounds(policy: policies.Policy, changes: _Changes, *, current: int, ready: int, now: float) -> Bounds:
    """How far one decision may go from ``current``."""
    high, high_words = math.ceil(policy.up_rate * max(1, ready)), f"at most {policy.up_rate:g} times as many at once"
    low = math.floor(max(current, ready) / policy.down_rate)
    low_words = f"at most {policy.down_rate:g} times fewer at once"
    up = _up(policy.behavior.up, changes, current=current, now=now)
    down = _down(policy.behavior.down, changes, current=current, now=now)
    if up is not None and up < high:
        high, high_words = up, "as fast as behavior.scaleUp lets it"
    if down is not None and down > low:
        low, low_words = down, "as fast as behavior.scaleDown lets it"
    return Bounds(low=min(low, current), high=max(high, current), low_words=low_words, high_words=high_words)


def _up(rules: policies.Rules, changes: _Changes, *, current: int, now: float) -> int | None:
    if rules.select is policies.Select.DISABLED:
        return current
    found = []
    for rate in rules.rates:
        # From none, a percentage would never lead anywhere.
        began = max(1, current - _net(changes, now - rate.period))
        more = rate.value if rate.unit is policies.Unit.PODS else math.ceil(began * rate.value / 100)
        found.append(began + more)
    if not found:
        return None
    return max(found) if rules.select is policies.Select.MAX else min(found)


def _down(rules: policies.Rules, changes: _Changes, *, current: int, now: float) -> int | None:
    if rules.select is policies.Select.DISABLED:
        return current
    found = []
    for rate in rules.rates:
        began = current - _net(changes, now - rate.period)
        kept = began - rate.value if rate.unit is policies.Unit.PODS else math.floor(began * (1 - rate.value / 100))
        found.append(max(0, kept))
    if not found:
        return None
    return min(found) if rules.select is policies.Select.MAX else max(found)


def _net(changes: _Changes, after: float) -> int:
    return sum(change.by for change in changes if change.at > after)


def changed(policy: policies.Policy, changes: _Changes, by: int, now: float) -> _Changes:
    """The changes with this one, without those that no period reaches back to."""
    longest = policy.behavior.longest
    kept = [change for change in changes if change.at > now - longest] if longest else []
    if by and longest:
        kept.append(memories.Change(now, by))
    while len(kept) > memories.MOST_MARKS:
        first, second = kept[:2]
        kept[:2] = [memories.Change(second.at, first.by + second.by)]
    return tuple(kept)
