"""The one line of a log that says why its process ended, for the status and for ``mlship why``.

Structured lines come first: the last one of level error is made a sentence. Then the last line of the last Python
traceback, then whatever was written last.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from mlship.backends.local import logfiles

LOOKED_AT = 64 * 1024
_LONGEST = 300
_ERRORS = frozenset({"error", "critical", "fatal"})
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = "+| "


def of(path: pathlib.Path, *, since: int = 0, secrets: Iterable[str] = ()) -> str:
    """Why the process whose output begins at byte ``since`` of the log ended; empty when it wrote nothing.

    A log that is shorter than ``since`` was rotated meanwhile and is read from its start. Raises OSError.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return ""
    with file:
        size = file.seek(0, os.SEEK_END)
        begin = max(since if since <= size else 0, size - LOOKED_AT)
        file.seek(begin)
        text = file.read(LOOKED_AT).decode("utf-8", errors="replace")
    secrets = tuple(secrets)
    return find([logfiles.clean(line, secrets) for line in text.split("\n")])


def find(lines: Sequence[str]) -> str:
    """The telling one among ``lines``, oldest first, as one line of at most 300 characters."""
    found = _last_error(lines) or _last_of_traceback(lines) or _last_written(lines)
    return found if len(found) <= _LONGEST else found[: _LONGEST - 3] + "..."


def _last_error(lines: Sequence[str]) -> str:
    for line in reversed(lines):
        if line.startswith("{") and (value := _object(line)) is not None:
            level = value.get("level") or value.get("severity") or value.get("levelname")
            if str(level).lower() in _ERRORS and (sentence := _sentence(value)):
                return sentence
    return ""


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _sentence(value: dict[str, Any]) -> str:
    what = _text(value, "message", "event", "msg")
    error = _text(value, "error", "exception", "exc_info")
    hint = _text(value, "hint")
    said = f"{what}: {error}" if what and error and error not in what else what or error
    return f"{said} {hint}" if said and hint and hint not in said else said


def _text(value: dict[str, Any], *names: str) -> str:
    """The first of the fields that says something; of a whole traceback its last line."""
    for name in names:
        said = value.get(name)
        if isinstance(said, str) and said.strip():
            return said.strip().splitlines()[-1].strip()
    return ""


def _last_of_traceback(lines: Sequence[str]) -> str:
    starts = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    if not starts:
        return ""
    after = (_unframed(line) for line in lines[starts[-1] + 1 :])
    return next((line.strip() for line in after if line.strip() and not line.startswith(" ")), "")


def _unframed(line: str) -> str:
    """A line of an exception group's traceback without the frame drawn around it."""
    bare = line.lstrip(" ")
    return bare[2:] if bare.startswith("| ") else ("" if bare.startswith("+-") else line)


def _last_written(lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip(_FRAME + "-")), "")
