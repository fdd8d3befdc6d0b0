"""Which models are to blame when the process died, and which are kept out for it: pure.

A process that dies leaves on record what each of its threads was busy with (``marks``). Everybody on record gets a
strike, unless some of them had one already: then those are the likelier cause and the others get none. A model with a
strike runs alone among such models (``marks``), so that the next death names one of them. With ``limit`` strikes a
model is kept out until its entry or file is replaced, or ``FORGET`` has passed since the last strike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

LIMIT = 2
FORGET = 24 * 3600.0

Key = tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A model that a thread was busy with. ``identity`` tells it from what was listed under its name before."""

    key: Key
    identity: str
    doing: str


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A model's strikes; ``at``: the last one, in seconds since the epoch; ``doing``: what it did then."""

    identity: str
    strikes: int
    at: float
    doing: str


Records = Mapping[Key, Record]


def strikes(records: Records, key: Key, identity: str, *, now: float) -> int:
    """The strikes that count against a model."""
    found = records.get(key)
    if found is None or found.identity != identity or now - found.at > FORGET:
        return 0
    return found.strikes


def after_death(records: Records, marks: Iterable[Mark], *, now: float) -> dict[Key, Record]:
    """The records after the process has died with ``marks`` on it."""
    there = {mark.key: mark for mark in marks}
    before = {key: strikes(records, key, mark.identity, now=now) for key, mark in there.items()}
    suspects = [key for key, count in before.items() if count]
    kept = {key: record for key, record in records.items() if now - record.at <= FORGET}
    for key in suspects or there:
        mark = there[key]
        kept[key] = Record(mark.identity, before[key] + 1, now, mark.doing)
    return kept
