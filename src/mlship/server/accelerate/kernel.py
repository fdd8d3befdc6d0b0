"""What a converter makes of a model: one function from a matrix to scores, and one from scores to every output.

A kernel answers only what its ``guard`` lets through (finite numbers, for most); the rest is the original's business,
its refusals and their wording among it. ``model`` puts the two together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mlship.protocol import messages

# Beyond so many numbers BLAS may start threads for a product that is not worth them.
_SMALL = 4096
# Below the square of the largest number of single precision, in the precision of either input.
_SINGLE_SQUARE = 1e38
Step = Callable[[messages.Array], messages.Array]


class Unsupported(Exception):
    """This model has no compiled form here; the text says what stands in the way."""


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """What of a kernel is dear to make again, to be kept beside its proof: bytes, and what must be known of them."""

    data: bytes = b""
    notes: Mapping[str, str | int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A compiled model.

    ``scores``: rows to scores; ``finish``: scores to an output, by its name. ``guard``: whether a matrix is one that
    ``scores`` may answer. ``thresholds``: where it branches, by feature, in the space of its inputs, or nothing when
    it was made from a kept ``form``; ``missing``: whether NaN and infinities pass the guard. ``approximate``: outputs
    that go through another implementation of a function than the original's: equal bits on some rows say nothing of
    the others.
    """

    converter: str
    features: int
    scores: Step
    finish: Mapping[str, Step]
    guard: Callable[[messages.Array], bool]
    thresholds: Mapping[int, messages.Array] = dataclasses.field(default_factory=dict)
    missing: bool = False
    approximate: frozenset[str] = frozenset()
    form: Form = Form()

    def answer(self, matrix: messages.Array, names: Sequence[str]) -> dict[str, messages.Array]:
        """The outputs named, for a matrix that the guard lets through."""
        scores = self.scores(matrix)
        return {name: self.finish[name](scores) for name in names}


def within(limit: float) -> Callable[[messages.Array], bool]:
    """A guard: every number's size is at most ``limit``; NaN and infinities are not."""
    # The sum of squares is one pass of BLAS where extremes are two of NumPy; no number is greater than its root. It
    # says no to some that are within the limit: the extremes decide those.
    enough = 0.99 * min(limit, 1e150) ** 2

    def all_within(matrix: messages.Array) -> bool:
        if matrix.size <= _SMALL and np.vdot(matrix, matrix) <= enough:
            return True
        # A comparison with NaN is false, and the extremes of an array with NaN are NaN.
        return bool(matrix.max() <= limit and matrix.min() >= -limit)

    return all_within


def within_or_missing(limit: float) -> Callable[[messages.Array], bool]:
    """A guard: every number's size is at most ``limit``, NaN stands for a missing value; infinities are not."""
    numbers = within(limit)

    def all_within(matrix: messages.Array) -> bool:
        return numbers(matrix) or bool((np.isnan(matrix) | (np.abs(matrix) <= limit)).all())

    return all_within


def finite_or_missing(matrix: messages.Array) -> bool:
    """A guard: no infinities, none in single precision either; NaN stands for a missing value."""
    return _surely_single(matrix) or bool(not np.isinf(_single(matrix)).any())


def _surely_single(matrix: messages.Array) -> bool:
    return bool(matrix.size <= _SMALL and np.vdot(matrix, matrix) < _SINGLE_SQUARE)


def _single(matrix: messages.Array) -> messages.Array:
    with np.errstate(over="ignore"):
        return matrix.astype(np.float32)


def anything(matrix: messages.Array) -> bool:
    """A guard that lets everything through."""
    return True


# What scikit-learn's trees accept: they turn their input into single precision and refuse what does not fit.
SINGLE = within(float(np.finfo(np.float32).max))
FINITE = within(float(np.finfo(np.float64).max))


def labels(classes: messages.Array) -> Callable[[messages.Array], messages.Array]:
    """Class numbers, or of two classes whether it is the second, to classes; strings as objects as everywhere."""
    known = classes.astype(object) if classes.dtype.kind in "US" else classes
    return lambda numbers: known.take(numbers)
