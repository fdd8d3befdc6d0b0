"""The sentences that refuse a name: expected these, got that, did you mean.

Shared by the modules that hold a request against what the server has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from mlship import errors

_MAX_NAMES = 12


def unknown(name: str, known: Iterable[str], *, what: str, label: str) -> errors.SpecError:
    """The refusal of a name, with the nearest valid one."""
    names = list(known)
    near = difflib.get_close_matches(name[:200], names, n=1)
    hint = f'Did you mean "{near[0]}"?' if near else ""
    article = "an" if what[0] in "aeiou" else "a"
    return errors.SpecError(
        f'{label}: expected {listed(names, what)}, got {article} {what} named "{shorten(name)}".', hint=hint
    )


def listed(names: Iterable[str], what: str) -> str:
    """``input "a"``, ``inputs "a", "b"``, ``no request parameter``; long lists are cut."""
    found = list(names)
    if not found:
        return f"no {what}"
    return f"{what}{'s' if len(found) > 1 else ''} {quoted(found)}"


def quoted(names: Sequence[str]) -> str:
    """``"a", "b"``, cut after a dozen."""
    shown = ", ".join(f'"{shorten(name)}"' for name in names[:_MAX_NAMES])
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown


def shorten(text: str, limit: int = 80) -> str:
    """Foreign text, capped for a message."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
