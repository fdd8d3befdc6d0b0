"""A memory survives the status, and one that does not hold together is forgotten whole."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from mlship.scale import memory

NOW = 1_700_000_000.0
FULL = memory.Memory(
    4,
    since=NOW - 100,
    active_at=NOW - 10,
    reach=5,
    reach_until=NOW + 500,
    panic_at=NOW - 20,
    marks=(memory.Mark(NOW - 60, 2, 4), memory.Mark(NOW - 30, 4, 4)),
    changes=(memory.Change(NOW - 60, 2), memory.Change(NOW - 30, -1)),
)


@pytest.mark.parametrize("known", [FULL, memory.begin(0, NOW)])
def test_it_survives_the_status(known: memory.Memory) -> None:
    assert memory.read(json.loads(json.dumps(known.as_dict()))) == known


@pytest.mark.parametrize(
    "spoiled",
    [
        {"replicas": -1},
        {"replicas": True},
        {"replicas": 1.5},
        {"since": "yesterday"},
        {"since": math.nan},
        {"activeAt": -1.0},
        {"activeAt": False},
        {"reach": None},
        {"panicAt": "now"},
        {"marks": None},
        {"marks": [[1.0, 2]]},
        {"marks": [[2.0, 1, 1], [1.0, 1, 1]]},
        {"marks": [[1.0, 1, 1]] * 200},
        {"changes": [[1.0, "x"]]},
        {"changes": [[2.0, 1], [1.0, 1]]},
    ],
)
def test_what_does_not_hold_together_is_forgotten_whole(spoiled: dict[str, Any]) -> None:
    assert memory.read({**FULL.as_dict(), **spoiled}) is None


def test_what_is_no_memory() -> None:
    assert memory.read(None) is None
    assert memory.read([]) is None
    assert memory.read({}) is None
    short = FULL.as_dict()
    del short["since"]
    assert memory.read(short) is None


def test_to_begin_takes_what_runs_for_needed() -> None:
    begun = memory.begin(3, NOW)
    assert (begun.replicas, begun.since, begun.active_at) == (3, NOW, NOW)
    assert begun.marks == (memory.Mark(NOW, 3, 3),)


def test_to_resume_keeps_what_was_decided_and_watches_anew() -> None:
    later = NOW + 30
    again = memory.resumed(FULL, later)
    assert (again.replicas, again.since, again.active_at) == (4, later, later)
    assert (again.panic_at, again.changes, again.reach) == (FULL.panic_at, FULL.changes, 5)
    assert again.marks == (memory.Mark(later, 4, 4),)


def test_after_the_clock_was_set_back_nothing_lies_in_the_future() -> None:
    again = memory.resumed(FULL, NOW - 50)
    assert again.newest == NOW - 50
    assert again.changes == FULL.changes[:1]
    assert dataclasses.replace(FULL, panic_at=None).newest == NOW - 10
