"""Which objects a request is about: Kubernetes label selectors (equality and set based) and field selectors. Pure.

Grammar and meaning follow the Kubernetes documentation "Labels and Selectors": requirements are joined by commas and
must all hold; ``!=`` and ``notin`` hold for objects without the label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mlship import errors

Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_EQUALITY = re.compile(rf"\s*({_KEY})\s*(==|=|!=)\s*({_VALUE})?\s*\Z")
_SET = re.compile(rf"\s*({_KEY})\s+(in|notin)\s*\(\s*([^()]*)\)\s*\Z")
_EXISTS = re.compile(rf"\s*(!?)\s*({_KEY})\s*\Z")
_FIELDS = ("metadata.name", "metadata.namespace")


def labels(text: str) -> Requirement:
    """The predicate on labels that ``text`` states; the empty text holds for all. Raises SpecError."""
    requirements = [_requirement(part, text) for part in _split(text)]
    return lambda given: all(holds(given) for holds in requirements)


def fields(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """The predicate on objects that ``text`` states about their name and namespace. Raises SpecError."""
    wanted: list[tuple[str, str, bool]] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found = re.fullmatch(r"([\w.]+)\s*(==|=|!=)\s*(\S*)", part)
        if found is None or found[1] not in _FIELDS:
            raise errors.SpecError(
                f"fieldSelector {part!r} is not supported.", hint=f"Known fields: {', '.join(_FIELDS)}."
            )
        wanted.append((found[1].removeprefix("metadata."), found[3], found[2] != "!="))
    return lambda body: all((body["metadata"].get(name, "") == value) is equal for name, value, equal in wanted)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def _requirement(part: str, whole: str) -> Requirement:
    if found := _EQUALITY.match(part):
        return _equal(found[1], found[3] or "", equal=found[2] != "!=")
    if found := _SET.match(part):
        values = frozenset(value.strip() for value in found[3].split(","))
        return _among(found[1], values, inside=found[2] == "in")
    if found := _EXISTS.match(part):
        return _exists(found[2], present=not found[1])
    raise errors.SpecError(
        f"labelSelector {whole[:300]!r}: {part.strip()[:100]!r} is no requirement.",
        hint="Write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, joined by commas.",
    )


def _equal(key: str, value: str, *, equal: bool) -> Requirement:
    return (lambda given: given.get(key) == value) if equal else (lambda given: given.get(key) != value)


def _among(key: str, values: frozenset[str], *, inside: bool) -> Requirement:
    return (lambda given: given.get(key) in values) if inside else (lambda given: given.get(key) not in values)


def _exists(key: str, *, present: bool) -> Requirement:
    return lambda given: (key in given) is present
