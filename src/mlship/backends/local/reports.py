"""What a model server says of itself, as facts: of its start, on its line, and of compiling its model, in the body of
its acceleration route. Pure.

It comes from a program that runs the user's code, so every part is checked and cut to size; what is not a report is
no fact, and never an error.
"""

from __future__ import annotations

import json
from typing import Any

from mlship import forks
from mlship.plan import observed

_LONGEST = 300
_MOST = 20
_LONGEST_START = 1e6


def read(body: bytes) -> observed.Acceleration | None:
    """The fact in ``body``; None when there is none."""
    try:
        value = json.loads(body)
        return observed.Acceleration(
            state=observed.Answering(value["state"]),
            mode=_text(value["accelerate"]),
            reason=_text(value["reason"]),
            speed_ups=tuple((int(rows), float(times)) for rows, times in list(value["speed_up"].items())[:_MOST]),
            rows=int(value["proof_rows"]),
            difference=float(value["largest_relative_difference"] or 0.0),
            changed=int(value["classes_changed"]),
            outputs=tuple(_text(name) for name in value["outputs"][:_MOST]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def phases(word: forks.Underway | forks.Ready) -> tuple[tuple[str, float], ...]:
    """The phases of a start; none when what is said makes no sense."""
    try:
        said = [(_text(name), float(seconds)) for name, seconds in list(word.phases.items())[:_MOST]]
    except (ValueError, TypeError, AttributeError, OverflowError):
        return ()
    return tuple(said) if all(0.0 <= seconds < _LONGEST_START for _, seconds in said) else ()


def _text(value: Any) -> str:
    return " ".join(str(value).split())[:_LONGEST]
