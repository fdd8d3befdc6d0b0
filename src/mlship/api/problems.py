"""What is wrong with an object, said so that a person can act: where, why, and what to write instead.

Everything in this package that judges an object answers with ``Problem`` values instead of raising, so that one run
reports all of them. ``load`` adds file, line and column; the command line prints ``str(problem)``; the control API
puts them into the ``causes`` of a 400. A problem with severity ``NOTICE`` refuses nothing: it tells the user that a
field is accepted and has no effect here, because nothing may be ignored in silence.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
from collections.abc import Iterable, Sequence

from mlship import errors

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SHOWN_PROBLEMS = 20


class Severity(enum.StrEnum):
    """Whether a problem stops the object from being accepted, or is only told."""

    REFUSE = "refuse"
    NOTICE = "notice"


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or without effect), with its place.

    ``path`` is the field as keys and indices; ``field`` prints it. ``file``, ``line`` and ``column`` (both from 1)
    and ``document`` (from 1) are empty or 0 when the object did not come from a text. No secret value is in here.
    """

    path: Path
    reason: str
    hint: str = ""
    severity: Severity = Severity.REFUSE
    file: str = ""
    line: int = 0
    column: int = 0
    document: int = 0

    @property
    def field(self) -> str:
        """The path as people write it: ``spec.predictor.containers[0].env[1].name``."""
        return show_path(self.path)

    def __str__(self) -> str:
        place = ":".join(part for part in (self.file, str(self.line) if self.line else "") if part)
        sentence = "; ".join(part for part in (self.reason, self.hint) if part)
        return ": ".join(part for part in (place, self.field, sentence) if part)


class InvalidObject(errors.SpecError):
    """An object that cannot be accepted. ``problems`` holds every reason, in the order of the text."""

    def __init__(self, problems: Sequence[Problem], *, reason: errors.Reason | None = None) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:_SHOWN_PROBLEMS]]
        if len(self.problems) > _SHOWN_PROBLEMS:
            lines.append(f"and {len(self.problems) - _SHOWN_PROBLEMS} more")
        super().__init__("\n".join(lines), reason=reason)


def show_path(path: Path) -> str:
    """``("spec", "env", 0, "a.b/c")`` as ``spec.env[0]["a.b/c"]``."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            shown += f".{part}" if shown else part
        else:
            shown += f'["{cap(part, 80)}"]'
    return shown


def refuse(path: Path, reason: str, hint: str = "") -> Problem:
    """A problem that stops the object."""
    return Problem(path, reason, hint)


def notice(path: Path, reason: str, hint: str = "") -> Problem:
    """A problem that is only told."""
    return Problem(path, reason, hint, Severity.NOTICE)


def said(error: errors.MlshipError) -> tuple[str, str]:
    """The message and hint of an error as reason and hint of a problem, which stand in one sentence."""
    return error.message.removesuffix("."), error.hint[:1].lower() + error.hint[1:].removesuffix(".")


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The known name closest to a wrong one, however it is capitalised; empty when none is close."""
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(_fold(name), name)
    found = difflib.get_close_matches(_fold(wrong), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else ""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A hint with the nearest name, or empty."""
    name = nearest(wrong, known)
    return f"did you mean {name}?" if name else ""


def one_of(names: Sequence[str]) -> str:
    """``a, b or c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} or {names[-1]}"


def cap(text: str, limit: int = 120) -> str:
    """Foreign text, cut to a length that fits a sentence."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
