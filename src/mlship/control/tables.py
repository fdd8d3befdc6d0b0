"""Lists as ``kubectl get`` wants them: rows of printer columns, the same for every client. Pure.

JSONPath is the small part that printer columns use: ``.a.b``, ``[0]``, ``[*]`` and ``[?(@.type=="Ready")]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mlship.control import objects, resources, store

_STEP = re.compile(r"""\.([A-Za-z_][\w-]*)|\[(\d+|\*)\]|\[\?\(@\.([\w.]+)\s*==\s*["']([^"']*)["']\)\]""")


def wanted(accept: str) -> bool:
    """Whether an Accept header asks for a Table before it asks for plain JSON."""
    first = accept.split(",", 1)[0].replace(" ", "").lower()
    return "as=table" in first


def table(
    resource: resources.Resource, items: Iterable[store.Object], *, version: str, now: float, more: str = ""
) -> dict[str, Any]:
    """The ``Table`` of ``items``; ``more`` is the continue token."""
    metadata = {"resourceVersion": version} | ({"continue": more} if more else {})
    definitions = [
        {"name": "Name", "type": "string", "format": "name", "description": "Name of the object.", "priority": 0},
        *(
            {"name": one.name, "type": one.type, "format": "", "description": one.description, "priority": one.priority}
            for one in resource.columns
        ),
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": [_row(resource, body, now) for body in items],
    }


def _row(resource: resources.Resource, body: store.Object, now: float) -> dict[str, Any]:
    cells = [body["metadata"]["name"], *(_cell(column, body, now) for column in resource.columns)]
    meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
    return {"cells": cells, "object": meta}


def _cell(column: resources.Column, body: store.Object, now: float) -> Any:
    found = values(column.path, body)
    if not found:
        return ""
    if column.type == "date":
        return age(now - objects.seconds(str(found[0])))
    if column.type in ("integer", "number", "boolean") and len(found) == 1:
        return found[0]
    return ",".join(str(one) for one in found)


def age(seconds: float) -> str:
    """A duration as kubectl shows it: the two largest units while they are small, else one."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m" + (f"{whole % 60}s" if whole % 60 else "")
    if whole < 3 * 3600:
        return f"{whole // 60}m"
    if whole < 48 * 3600:
        return f"{whole // 3600}h"
    return f"{whole // 86400}d"


def values(path: str, body: Any) -> list[Any]:
    """What a JSONPath finds; nothing when it finds nothing or is beyond the part that is known."""
    found = [body]
    place = 0
    while place < len(path):
        step = _STEP.match(path, place)
        if step is None:
            return []
        found = [value for one in found for value in _follow(step, one)]
        place = step.end()
    return [one for one in found if one is not None]


def _follow(step: re.Match[str], value: Any) -> list[Any]:
    name, index, field, wanted_value = step.groups()
    if name is not None:
        return [value[name]] if isinstance(value, dict) and name in value else []
    if not isinstance(value, list):
        return []
    if index == "*":
        return value
    if index is not None:
        return value[int(index) : int(index) + 1]
    return [one for one in value if [_text(found) for found in values(f".{field}", one)] == [wanted_value]]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
