"""The goals, as data, and whether a run met them. Pure.

A goal compares a figure of mlship with the same figure of the best configuration of each peer in the same run, or with
a figure of its own. What was not measured is said to be so; it never counts as met.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
from collections.abc import Iterable, Mapping, Sequence

from bench import summary

PYTRITON = "pytriton"
EVERY_OTHER = "every other peer"
BEST = "the best peer"
SELF = "itself"


class Verdict(enum.Enum):
    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """``subject``'s ``figure`` under ``load`` over that of ``against`` (under ``base``): at least or at most ``bound``.

    ``against`` is a peer's name, one of the words above, or None: the figure itself is held against the bound.
    """

    text: str
    load: str
    figure: str
    bound: float
    at_least: bool
    against: str | None = None
    base: str = ""
    subject: str = "mlship"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a goal; ``value`` is the ratio or the figure, ``other`` who it was held against."""

    goal: Goal
    verdict: Verdict
    value: float | None = None
    other: str = ""


def _rate(text: str, load: str, bound: float, against: str, **more: str) -> Goal:
    return Goal(f"{text}, requests/s, against {against}", load, "rate", bound, at_least=True, against=against, **more)


def _p50(text: str, load: str, bound: float) -> Goal:
    return Goal(f"{text}, p50, against {BEST}", load, "p50_ms", bound, at_least=False, against=BEST)


GOALS = (
    _rate("iris, 64 clients", "iris-64", 4, PYTRITON),
    _rate("iris, 64 clients", "iris-64", 10, EVERY_OTHER),
    Goal("iris, 64 clients, p99 in ms", "iris-64", "p99_ms", 10, at_least=False),
    _rate("iris, 64 clients, through Envoy", "iris-64", 1.8, PYTRITON, subject="mlship-envoy"),
    _p50("iris, 1 client", "iris-1", 0.8),
    _rate("forest, 1 row, 64 clients", "forest-64", 6, PYTRITON),
    _rate("forest, 1 row, 64 clients", "forest-64", 15, EVERY_OTHER),
    _p50("forest, 1 row, 1 client", "forest-1", 0.05),
    _rate("forest, 1000 x 30, 8 clients", "forest-rows", 2, PYTRITON),
    _rate("forest, 1000 x 30, 8 clients", "forest-rows", 4, EVERY_OTHER),
    _rate("forest, 1000 x 30, binary against JSON", "forest-rows-binary", 1.5, SELF, base="forest-rows"),
    _rate("iris, gRPC, 64 calls at a time", "iris-grpc-64", 3, BEST),
    Goal(
        "iris beside one 10 MB request a second, p99 against alone",
        "mixed",
        "p99_ms",
        2,
        at_least=False,
        against=SELF,
        base="alone",
    ),
    Goal(
        "overload at twice the capacity, goodput against capacity",
        "overload",
        "rate",
        0.9,
        at_least=True,
        against=SELF,
        base="forest-rows",
    ),
    Goal(
        "overload, largest memory against that before it",
        "overload",
        "peak_mib",
        1.5,
        at_least=False,
        against=SELF,
        base="forest-rows",
    ),
    Goal(f"memory serving iris, against {BEST}", "cold-iris", "pss_mib", 0.7, at_least=False, against=BEST),
)


def check(rows: summary.Medians, peers: Mapping[str, Sequence[str]], goals: Iterable[Goal] = GOALS) -> list[Outcome]:
    """Each goal's outcome. ``peers`` has the subjects of each peer, mlship's not among them."""
    return [_check(goal, rows, peers) for goal in goals]


def _check(goal: Goal, rows: summary.Medians, peers: Mapping[str, Sequence[str]]) -> Outcome:
    ours = summary.figure(rows, subject=goal.subject, load=goal.load, name=goal.figure)
    theirs, other = _other(goal, rows, peers)
    value = ours if goal.against is None else summary.ratio(ours, theirs)
    if value is None:
        return Outcome(goal, Verdict.NOT_MEASURED)
    holds = operator.ge if goal.at_least else operator.le
    return Outcome(goal, Verdict.MET if holds(value, goal.bound) else Verdict.MISSED, value, other)


def _other(goal: Goal, rows: summary.Medians, peers: Mapping[str, Sequence[str]]) -> tuple[float | None, str]:
    """The figure that the goal is held against, and whose it is."""
    name, load = goal.figure, goal.base or goal.load
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
