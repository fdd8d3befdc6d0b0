"""From samples to medians, the best configuration of each peer, and ratios. Pure."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from bench import facts


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """The medians over all rounds of one subject under one load, how many rounds there were, and the run's part."""

    subject: str
    load: str
    rounds: int
    figures: Mapping[str, float]
    part: str = "1"


Medians = Mapping[tuple[str, str], Row]  # by (subject, load)


def medians(samples: Iterable[facts.Sample]) -> dict[tuple[str, str], Row]:
    """One row for each subject and load. A figure that was not a number in a round counts in none."""
    found: dict[tuple[str, str], list[facts.Sample]] = {}
    for sample in samples:
        found.setdefault((sample.subject, sample.load), []).append(sample)
    return {
        key: Row(key[0], key[1], len({one.round for one in several}), _figures(several), several[-1].part)
        for key, several in found.items()
    }


def _figures(several: Sequence[facts.Sample]) -> dict[str, float]:
    names = dict.fromkeys(name for one in several for name in one.figures)
    values = {name: [one.figures[name] for one in several if name in one.figures] for name in names}
    finite = {name: [value for value in column if math.isfinite(value)] for name, column in values.items()}
    return {name: statistics.median(column) for name, column in finite.items() if column}


def figure(rows: Medians, *, subject: str, load: str, name: str) -> float | None:
    """None when it was not measured."""
    row = rows.get((subject, load))
    return None if row is None else row.figures.get(name)


@dataclasses.dataclass(frozen=True, slots=True)
class Best:
    """The best configuration of a peer under a load, by one figure."""

    subject: str
    value: float


def best(rows: Medians, subjects: Iterable[str], *, load: str, name: str, high: bool) -> Best | None:
    """The subject with the highest (or lowest) figure; None when none of them has it."""
    found = [
        Best(subject, value)
        for subject in subjects
        if (value := figure(rows, subject=subject, load=load, name=name)) is not None
    ]
    if not found:
        return None
    return max(found, key=lambda one: one.value) if high else min(found, key=lambda one: one.value)


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """Ours over theirs; None when either is missing or theirs is nothing."""
    if ours is None or theirs is None or theirs == 0:
        return None
    return ours / theirs
