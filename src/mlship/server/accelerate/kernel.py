"""What a converter makes of a model: one function from a matrix to scores, and one from scores to every output.

A kernel answers only what its ``guard`` lets through (finite numbers, for most); the rest is the original's business,
its refusals and their wording among it. ``model`` puts the two together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mlship.protocol import messages

Step = Callable[[messages.Array], messages.Array]


class Unsupported(Exception):
    """This model has no compiled form here; the text says what stands in the way."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A compiled model.

    ``scores``: rows to scores; ``finish``: scores to an output, by its name. ``guard``: whether a matrix is one that
    ``scores`` may answer. ``thresholds``: where it branches, by feature, in the space of its inputs; ``missing``:
    whether NaN and infinities pass the guard. ``approximate``: outputs that go through another implementation of a
    function than the original's: equal bits on some rows say nothing of the others.
    """

    converter: str
    features: int
    scores: Step
    finish: Mapping[str, Step]
    guard: Callable[[messages.Array], bool]
    thresholds: Mapping[int, messages.Array] = dataclasses.field(default_factory=dict)
    missing: bool = False
    approximate: frozenset[str] = frozenset()

    def answer(self, matrix: messages.Array, names: Sequence[str]) -> dict[str, messages.Array]:
        """The outputs named, for a matrix that the guard lets through."""
        scores = self.scores(matrix)
        return {name: self.finish[name](scores) for name in names}


def within(limit: float) -> Callable[[messages.Array], bool]:
    """A guard: every number's size is at most ``limit``; NaN and infinities are not."""

    def all_within(matrix: messages.Array) -> bool:
        # A comparison with NaN is false, and the extremes of an array with NaN are NaN.
        return bool(matrix.max() <= limit and matrix.min() >= -limit)

    return all_within


def finite_or_missing(matrix: messages.Array) -> bool:
    """A guard: no infinities, none in single precision either; NaN stands for a missing value."""
    with np.errstate(over="ignore"):
        return not np.isinf(matrix.astype(np.float32)).any()


def anything(matrix: messages.Array) -> bool:
    """A guard that lets everything through."""
    return True


# What scikit-learn's trees accept: they turn their input into single precision and refuse what does not fit.
SINGLE = within(float(np.finfo(np.float32).max))
FINITE = within(float(np.finfo(np.float64).max))


def labels(classes: messages.Array) -> Callable[[messages.Array], messages.Array]:
    """Class numbers to classes, strings as objects as everywhere in the server."""
    known = classes.astype(object) if classes.dtype.kind in "US" else classes
    return lambda numbers: known.take(numbers)
