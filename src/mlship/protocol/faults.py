"""The sentences of refused requests: where, what was expected, what came instead.

Every codec refuses with ``errors.SpecError`` (reason INVALID) made here, so that the wording, the capping of quoted
text and the "did you mean" are the same on REST and gRPC. Nothing in this module runs for a request that is fine.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from mlship import errors

_SHOWN = 80  # characters of a foreign value quoted in a message
_COMPARED = 200  # names a word is compared with: the comparison is slow, and who sends thousands needs no hint
_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer", float: "a number"}


def invalid(where: str, what: str, *, hint: str = "") -> errors.SpecError:
    """The error for a field: ``where`` is its path in the request (``inputs[0].shape``), ``what`` one clause."""
    return errors.SpecError(f"{where}: {what}." if where else f"{what}.", hint=hint)


def unexpected(where: str, expected: str, got: Any) -> errors.SpecError:
    """The error for a field of the wrong kind, or one that is not there (None)."""
    return invalid(where, f"expected {expected}, got {'nothing' if got is None else describe(got)}")


def describe(value: Any) -> str:
    """A JSON value for a sentence: its kind and, where it is short, itself."""
    if value is None:
        return "null"
    kind = _NAMES.get(type(value), type(value).__name__)
    if isinstance(value, dict):
        return kind if value else "an empty object"
    if isinstance(value, list):
        return f"an array of {len(value)}" if value else "an empty array"
    return f"{kind} ({quote(value)})"


def quote(value: Any) -> str:
    """``repr`` of a foreign value, capped."""
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the valid word closest to ``word`` and lists the valid ones (at most twenty)."""
    names = list(known)
    close = difflib.get_close_matches(word[:_SHOWN], names[:_COMPARED], n=1, cutoff=0.6)
    if not close:
        close = [name for name in names if name.lower() == word.lower()]
    listed = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known: {listed}."


def unknown(where: str, keys: Iterable[object], known: Iterable[str]) -> errors.SpecError:
    """The error for fields that the protocol does not have."""
    names = sorted(known)
    word = min(str(key) for key in keys)
    return invalid(where, f"unknown field {quote(word)}", hint=nearest(word, names))
