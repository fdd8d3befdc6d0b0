"""The two ways to change part of an object: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902). Pure.

Neither changes its arguments. Every failure is a SpecError that names the operation and the path.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from mlship import errors
from mlship.control import store


def merge(target: Any, patch: Any) -> Any:
    """``target`` with ``patch`` merged in: objects merge key by key, null removes a key, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def apply(target: Any, operations: Any) -> Any:
    """``target`` with the JSON Patch ``operations`` applied in order. Raises SpecError; then nothing is applied."""
    if not isinstance(operations, list):
        raise errors.SpecError(f"a JSON Patch is a list of operations, not a {type(operations).__name__}")
    document = copy.deepcopy(target)
    for number, operation in enumerate(operations):
        if not isinstance(operation, dict):
            raise errors.SpecError(f"operation {number} of the JSON Patch is not an object")
        document = _one(document, number, operation)
    return document


def _one(document: Any, number: int, operation: dict[str, Any]) -> Any:
    verb = _VERBS.get(str(operation.get("op")))
    if verb is None:
        raise errors.SpecError(
            f"operation {number} of the JSON Patch has op {operation.get('op')!r}.", hint=f"Known: {', '.join(_VERBS)}."
        )
    try:
        return verb(document, operation)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise store.Unprocessable(
            f"operation {number} of the JSON Patch ({operation.get('op')} {operation.get('path')!r}) failed: "
            f"{_plain(error)}"
        ) from error


def _plain(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _pointer(operation: dict[str, Any], field: str = "path") -> list[str]:
    text = operation[field]
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise ValueError(f"{field} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(container: list[Any], step: str, *, end: bool) -> int:
    if step == "-" and end:
        return len(container)
    if not step.isdigit() or (len(step) > 1 and step[0] == "0"):
        raise ValueError(f"{step!r} is no list index")
    index = int(step)
    if index > len(container) - (0 if end else 1):
        raise IndexError(f"index {index} is beyond the end of a list of {len(container)}")
    return index


def _get(document: Any, pointer: list[str]) -> Any:
    for step in pointer:
        if isinstance(document, list):
            document = document[_index(document, step, end=False)]
        elif isinstance(document, dict):
            document = document[step]
        else:
            raise ValueError(f"there is nothing below {step!r}")
    return document


def _put(document: Any, pointer: list[str], value: Any) -> Any:
    if not pointer:
        return value
    container = _get(document, pointer[:-1])
    if isinstance(container, list):
        container.insert(_index(container, pointer[-1], end=True), value)
    elif isinstance(container, dict):
        container[pointer[-1]] = value
    else:
        raise ValueError("its parent is neither an object nor a list")
    return document


def _drop(document: Any, pointer: list[str]) -> Any:
    if not pointer:
        raise ValueError("the whole document cannot be removed")
    container = _get(document, pointer[:-1])
    if isinstance(container, list):
        del container[_index(container, pointer[-1], end=False)]
    elif isinstance(container, dict):
        del container[pointer[-1]]
    else:
        raise ValueError("its parent is neither an object nor a list")
    return document


def _add(document: Any, operation: dict[str, Any]) -> Any:
    return _put(document, _pointer(operation), copy.deepcopy(operation["value"]))


def _remove(document: Any, operation: dict[str, Any]) -> Any:
    return _drop(document, _pointer(operation))


def _replace(document: Any, operation: dict[str, Any]) -> Any:
    pointer = _pointer(operation)
    value = copy.deepcopy(operation["value"])
    _get(document, pointer)
    return _put(_drop(document, pointer), pointer, value) if pointer else value


def _move(document: Any, operation: dict[str, Any]) -> Any:
    source, target = _pointer(operation, "from"), _pointer(operation)
    if target[: len(source)] == source and target != source:
        raise ValueError("a value cannot be moved into itself")
    value = _get(document, source)
    return _put(_drop(document, source), target, value)


def _copy(document: Any, operation: dict[str, Any]) -> Any:
    return _put(document, _pointer(operation), copy.deepcopy(_get(document, _pointer(operation, "from"))))


def _test(document: Any, operation: dict[str, Any]) -> Any:
    found = _get(document, _pointer(operation))
    expected = operation["value"]
    if found != expected or isinstance(found, bool) is not isinstance(expected, bool):
        raise ValueError("the value there is another one")
    return document


_VERBS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
