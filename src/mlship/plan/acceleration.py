"""What the replicas of a service say of compiling its model, for its status and for people. Pure.

A condition ``Accelerated`` and a part of the status beside it; neither is part of Ready, since the original's answers
are as good. ``status`` writes both, ``causes`` the sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlship.api import meta
from mlship.plan import observed

CONDITION = "Accelerated"
_STATES = observed.Answering
# What is said of several replicas is what holds for all: the first of these that any is in.
_ORDER = (_STATES.PROVING, _STATES.ORIGINAL, _STATES.OFF, _STATES.COMPILED)
_REASONS = {_STATES.COMPILED: "Proven", _STATES.PROVING: "Proving", _STATES.ORIGINAL: "NotProven"}
_TRUTHS = {
    _STATES.COMPILED: meta.Truth.TRUE,
    _STATES.PROVING: meta.Truth.UNKNOWN,
    _STATES.ORIGINAL: meta.Truth.FALSE,
}


def of(replicas: Iterable[observed.Replica]) -> observed.Acceleration | None:
    """What they say together; None when none has said anything."""
    said = [one.acceleration for one in sorted(replicas, key=lambda one: one.id) if one.acceleration is not None]
    return min(said, key=lambda one: _ORDER.index(one.state), default=None)


def condition(found: observed.Acceleration | None) -> meta.Condition | None:
    """The condition for a status; None when nothing is known, or compiling is switched off."""
    if found is None or found.state is _STATES.OFF:
        return None
    return meta.Condition(CONDITION, _TRUTHS[found.state], _REASONS[found.state], sentence(found))


def as_dict(found: observed.Acceleration) -> dict[str, Any]:
    """The form it has in the status."""
    value: dict[str, Any] = {"mode": found.mode, "state": found.state.value}
    if found.reason and found.state is _STATES.ORIGINAL:
        value["reason"] = found.reason
    if found.rows:
        value |= {
            "proofRows": found.rows,
            "largestRelativeDifference": found.difference,
            "classesChanged": found.changed,
            "speedUp": {str(rows): times for rows, times in found.speed_ups},
            "outputs": list(found.outputs),
        }
    return value


def sentence(found: observed.Acceleration) -> str:
    """It in plain words."""
    if found.state is _STATES.OFF:
        return "The original answers; compiling is switched off."
    if found.state is _STATES.PROVING:
        return "The original answers while a compiled form is compared with it."
    if found.state is _STATES.ORIGINAL:
        return f"The original answers: {found.reason or 'no reason was given'}."
    gains = [f"{times:g} times faster for {_rows(rows)}" for rows, times in found.speed_ups]
    return f"The compiled form answers{_outputs(found)}: {', '.join([*gains, _same(found)])}."


def _outputs(found: observed.Acceleration) -> str:
    return f" {', '.join(found.outputs)}" if found.outputs else ""


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _same(found: observed.Acceleration) -> str:
    if not found.difference:
        return f"with the original's answers on all {found.rows} rows tried"
    return (
        f"with the original's labels on all {found.rows} rows tried, and numbers that differ "
        f"by {found.difference:.1g} of their size at most"
    )
