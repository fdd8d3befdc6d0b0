"""Whether a compiled model may stand in for the original: what was compared, and the rule. Pure.

Compared are the answers of both to the proof rows (``proof``), output by output. ``exact`` wants the same bits;
``auto`` wants the same labels and integers, and floats that differ by no more than a millionth of their size. Nothing
here knows how either answer came about, so a wrong converter is caught whatever is wrong with it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlship.protocol import messages

TOLERANCE = 1e-6
# What a compiled model must gain to be worth having, and the numbers of rows at which that is measured.
GAIN = 1.1
SIZES = (1, 64, 1024)


class Mode(enum.StrEnum):
    """What the user wants: ``AUTO`` within the tolerance, ``EXACT`` to the bit, ``OFF`` the original only."""

    AUTO = "auto"
    EXACT = "exact"
    OFF = "off"


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """How far two answers are apart: the largest distance of two floats, absolute and relative to the greater one,
    and how many elements of other datatypes (labels, class numbers) are not equal. ``shape``: not even comparable."""

    absolute: float = 0.0
    relative: float = 0.0
    changed: int = 0
    bits: bool = True
    shape: str = ""

    def joined(self, other: Difference) -> Difference:
        """Both as one: the worse of each."""
        return Difference(
            absolute=max(self.absolute, other.absolute),
            relative=max(self.relative, other.relative),
            changed=self.changed + other.changed,
            bits=self.bits and other.bits,
            shape=self.shape or other.shape,
        )


def compare(original: messages.Array, compiled: messages.Array) -> Difference:
    """The difference of two answers to the same rows."""
    if original.dtype != compiled.dtype or original.shape != compiled.shape:
        said = f"{original.dtype}{list(original.shape)} became {compiled.dtype}{list(compiled.shape)}"
        return Difference(bits=False, shape=said)
    if original.dtype.kind != "f":
        unequal = int(np.count_nonzero(original != compiled))
        kinds = original.dtype.kind == "O" and [type(one) for one in original.flat] != [
            type(one) for one in compiled.flat
        ]
        return Difference(changed=unequal, bits=not unequal and not kinds)
    return _floats(original, compiled)


def _floats(original: messages.Array, compiled: messages.Array) -> Difference:
    same = original.tobytes() == compiled.tobytes()
    if same:
        return Difference()
    left, right = original.astype(np.float64), compiled.astype(np.float64)
    apart = ~((left == right) | (np.isnan(left) & np.isnan(right)))
    if not apart.any():
        return Difference(bits=False)
    left, right = left[apart], right[apart]
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return Difference(absolute=float("inf"), relative=float("inf"), bits=False)
    with np.errstate(over="ignore"):
        absolute = np.abs(left - right)
        relative = absolute / np.maximum(np.abs(left), np.abs(right))
    return Difference(absolute=float(absolute.max()), relative=float(relative.max()), bits=False)


def refusal(mode: Mode, difference: Difference) -> str:
    """Why an output with this difference is not proven; empty when it is."""
    if difference.shape:
        return difference.shape
    if mode is Mode.EXACT:
        return "" if difference.bits else f"bits differ, by up to {difference.relative:.2g} relative"
    if difference.changed:
        return f"{difference.changed} labels changed"
    if not difference.relative <= TOLERANCE:
        return f"differs by up to {difference.relative:.2g} relative, more than {TOLERANCE:g}"
    return ""


def worthwhile(gains: Mapping[int, float]) -> int:
    """The largest number of rows for which compiled is faster; 0: not even for one; -1: for any number.

    Args:
        gains: original's time divided by the compiled one's, by number of rows.
    """
    limit = 0
    for size in SIZES:
        if gains.get(size, 0.0) < GAIN:
            return limit
        limit = size
    return -1


class State(enum.StrEnum):
    """Who answers: nobody asked for more than the original; the proof is still to come; the compiled form; the
    original after all, for the report's reason."""

    OFF = "off"
    PROVING = "proving"
    COMPILED = "compiled"
    ORIGINAL = "original"


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What came of compiling a model. ``reason``: why it is not used, empty when it is; ``outputs``: those proven.

    ``gains``: original's time divided by the compiled one's, by number of rows. ``max_rows``: larger batches go to the
    original (-1: none do). ``seconds``: what the proof took; ``kept``: it was paid by an earlier load.
    """

    mode: Mode
    used: bool = False
    reason: str = ""
    converter: str = ""
    outputs: tuple[str, ...] = ()
    rows: int = 0
    difference: Difference = dataclasses.field(default_factory=Difference)
    gains: Mapping[int, float] = dataclasses.field(default_factory=dict)
    max_rows: int = 0
    seconds: float = 0.0
    pending: bool = False
    kept: bool = False

    @property
    def state(self) -> State:
        if self.mode is Mode.OFF:
            return State.OFF
        if self.pending:
            return State.PROVING
        return State.COMPILED if self.used else State.ORIGINAL

    def wire(self) -> dict[str, Any]:
        """As the route, the log and the proof's file give it."""
        return {
            "accelerate": self.mode.value,
            "state": self.state.value,
            "used": self.used,
            "reason": self.reason,
            "converter": self.converter,
            "outputs": list(self.outputs),
            "proof_rows": self.rows,
            "largest_absolute_difference": self.difference.absolute,
            "largest_relative_difference": self.difference.relative,
            "classes_changed": self.difference.changed,
            "identical_bits": self.difference.bits if self.rows else None,
            "speed_up": {str(size): round(gain, 2) for size, gain in self.gains.items()},
            "max_rows": self.max_rows,
            "seconds": round(self.seconds, 3),
            "kept": self.kept,
        }


def read(wire: Mapping[str, Any]) -> Report:
    """The report of which ``Report.wire`` made ``wire``, as one that was kept.

    Raises KeyError, TypeError, ValueError or AttributeError when it is something else.
    """
    difference = Difference(
        absolute=_number(wire["largest_absolute_difference"]),
        relative=_number(wire["largest_relative_difference"]),
        changed=int(wire["classes_changed"]),
        bits=wire["identical_bits"] is not False,
    )
    return Report(
        Mode(wire["accelerate"]),
        used=bool(wire["used"]),
        reason=str(wire["reason"]),
        converter=str(wire["converter"]),
        outputs=tuple(str(name) for name in wire["outputs"]),
        rows=int(wire["proof_rows"]),
        difference=difference,
        gains={int(size): float(gain) for size, gain in wire["speed_up"].items()},
        max_rows=int(wire["max_rows"]),
        seconds=float(wire["seconds"]),
        kept=True,
    )


def _number(value: Any) -> float:
    # JSON has no infinity.
    return float("inf") if value is None else float(value)
