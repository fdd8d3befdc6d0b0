"""The goals, as data, and whether a run met them. Pure.

A goal compares a figure of mlship with the same figure of the best configuration of each peer in the same run, or with
a figure of its own. What was not measured is said to be so; it never counts as met.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import summary

PYTRITON = "pytriton"
EVERY_OTHER = "every other peer"
BEST = "the best peer"
SELF = "itself"
ORIGINAL = "mlship-original"
REPLICAS = "mlship-replicas"


class Verdict(enum.Enum):
    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """``subject``'s ``figure`` under ``load`` over that of ``against`` (under ``base``): at least or at most ``bound``.

    Attributes:
        against: a peer's name, one of the words above, or None: the figure itself is held against the bound.
        over: the name of the other's figure, when it is not the same.
        clean: a figure of ours that must be 0, or the goal is missed whatever the ratio.
    """

    text: str
    load: str
    figure: str
    bound: float
    at_least: bool
    against: str | None = None
    base: str = ""
    subject: str = "mlship"
    over: str = ""
    clean: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a goal; ``value`` is the ratio or the figure, ``other`` who it was held against.

    ``ours`` and ``theirs`` are the two figures of the ratio; ``note`` is what the verdict needs beside them.
    """

    goal: Goal
    verdict: Verdict
    value: float | None = None
    other: str = ""
    ours: float | None = None
    theirs: float | None = None
    note: str = ""


def _rate(text: str, load: str, bound: float, against: str, **more: str) -> Goal:
    return Goal(f"{text}, requests/s, against {against}", load, "rate", bound, at_least=True, against=against, **more)


def _own(text: str, load: str, figure: str, bound: float, **more: Any) -> Goal:
    """At most ``bound``, of itself or against another figure of its own."""
    return Goal(text, load, figure, bound, at_least=False, **more)


_KINDS = ("scikit-learn", "XGBoost", "LightGBM", "ONNX")
_OVERLOAD = {"load": "overload", "against": SELF}

GOALS = (
    _rate("iris, 64 clients", "iris-64", 4, PYTRITON),
    _rate("iris, 64 clients", "iris-64", 10, EVERY_OTHER),
    _own("iris, 64 clients, p99 in ms", "iris-64", "p99_ms", 10),
    _rate("iris, 64 clients, through Envoy", "iris-64", 1.8, PYTRITON, subject="mlship-envoy"),
    _own(
        f"iris, 1 client, p50, original model, against {BEST}", "iris-1", "p50_ms", 0.8, against=BEST, subject=ORIGINAL
    ),
    _own(f"iris, 1 client, p50, compiled, against {BEST}", "iris-1", "p50_ms", 0.3, against=BEST),
    _rate("forest, 1 row, 64 clients", "forest-64", 6, PYTRITON),
    _rate("forest, 1 row, 64 clients", "forest-64", 15, EVERY_OTHER),
    _own(f"forest, 1 row, 1 client, p50, against {BEST}", "forest-1", "p50_ms", 0.05, against=BEST),
    _rate("forest, 1000 x 30, 8 clients", "forest-rows", 2, PYTRITON),
    _rate("forest, 1000 x 30, 8 clients", "forest-rows", 4, EVERY_OTHER),
    _rate("forest, 1000 x 30, binary against JSON", "forest-rows-binary", 1.5, SELF, base="forest-rows"),
    _rate("iris, gRPC, 64 calls at a time", "iris-grpc-64", 3, BEST),
    _own(
        "iris beside one 10 MB request a second, p99 against alone",
        "mixed",
        "p99_ms",
        2,
        against=SELF,
        base="alone",
        clean="big_failed",
    ),
    Goal("overload, goodput against capacity", figure="rate", over="capacity", bound=0.9, at_least=True, **_OVERLOAD),
    Goal(
        "overload, p99 of the accepted against the time to answer a full queue",
        figure="p99_ms",
        over="bound_ms",
        bound=2,
        at_least=False,
        **_OVERLOAD,
    ),
    Goal(
        "overload, memory after it against before it",
        figure="after_mib",
        over="before_mib",
        bound=1.2,
        at_least=False,
        **_OVERLOAD,
    ),
    *(
        _own(f"{kind}, start of a replica to its first answer, ms", f"replicas-{kind}", "fork_ms", 80, subject=REPLICAS)
        for kind in _KINDS
    ),
    _own(f"memory serving iris, against {BEST}", "cold-iris", "pss_mib", 0.7, against=BEST),
    *(
        _own(
            f"{kind}, private memory of a further replica, MiB", f"replicas-{kind}", "private_mib", 15, subject=REPLICAS
        )
        for kind in _KINDS
    ),
)


def check(rows: summary.Medians, peers: Mapping[str, Sequence[str]], goals: Iterable[Goal] = GOALS) -> list[Outcome]:
    """Each goal's outcome. ``peers`` has the subjects of each peer, mlship's not among them."""
    return [_check(goal, rows, peers) for goal in goals]


def _check(goal: Goal, rows: summary.Medians, peers: Mapping[str, Sequence[str]]) -> Outcome:
    ours = summary.figure(rows, subject=goal.subject, load=goal.load, name=goal.figure)
    theirs, other = _other(goal, rows, peers)
    value = ours if goal.against is None else summary.ratio(ours, theirs)
    if value is None:
        return Outcome(goal, Verdict.NOT_MEASURED, other=other, ours=ours, theirs=theirs)
    holds = operator.ge if goal.at_least else operator.le
    verdict = Verdict.MET if holds(value, goal.bound) else Verdict.MISSED
    bad = summary.figure(rows, subject=goal.subject, load=goal.load, name=goal.clean) if goal.clean else None
    if bad:
        return Outcome(goal, Verdict.MISSED, value, other, ours, theirs, f"{bad:g} {goal.clean}")
    return Outcome(goal, verdict, value, other, ours, theirs)


def _other(goal: Goal, rows: summary.Medians, peers: Mapping[str, Sequence[str]]) -> tuple[float | None, str]:
    """The figure that the goal is held against, and whose it is."""
    name, load = goal.over or goal.figure, goal.base or goal.load
    if goal.against is None:
        return None, ""
    if goal.against == SELF:
        return summary.figure(rows, subject=goal.subject, load=load, name=name), goal.subject
    wanted = {EVERY_OTHER: [peer for peer in peers if peer != PYTRITON], BEST: list(peers)}.get(
        goal.against, [goal.against]
    )
    candidates = [subject for peer in wanted for subject in peers.get(peer, ())]
    # The best of them all is the hardest to beat: a goal against every one of them is a goal against that one.
    found = summary.best(rows, candidates, load=load, name=name, high=goal.at_least)
    return (found.value, found.subject) if found else (None, "")


def open_loop(peers: Iterable[str], *, bound: float = 0.5) -> list[Goal]:
    """p99 at 70 % of each peer's own capacity: mlship was given that peer's rate, too."""
    return [
        Goal(
            f"iris, p99 at 70 % of {peer}'s capacity, open loop",
            f"open-{peer}",
            "p99_ms",
            bound,
            at_least=False,
            against=peer,
        )
        for peer in peers
    ]
