"""Core Kubernetes types that mlship only checks and passes on, compiled from the table in ``podspec``.

An InferenceService has 11,000 fields, nearly all of them PodSpec. Those we act on are classes in ``container``; the
rest is known by name and type so that a misspelt ``tolerations[0].efect`` is refused with the nearest name, and kept
exactly as the user wrote it. A shape is one string: ``"key:str! operator:str values:[str]"``; ``!`` marks required
fields, ``[x]`` a list, ``{x}`` a map of strings to x, a capitalised name another shape.
"""

from __future__ import annotations

import functools
from typing import Any

import pydantic
import pydantic_core
from pydantic_core import core_schema

from mlship.api import fields, podspec

_SCALARS: dict[str, Any] = {
    "str": fields.Str,
    "int": fields.Int,
    "bool": fields.Bool,
    "quantity": fields.Quantity,
    "intstr": fields.IntOrStr,
    "any": dict[str, Any],
}


class Shape:
    """An annotation: ``Annotated[dict[str, Any], Shape("Affinity")]`` checks by the table and keeps the dict."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: pydantic.GetCoreSchemaHandler
    ) -> pydantic_core.CoreSchema:
        return _compile(self.name, handler)


def members(name: str) -> dict[str, tuple[str, bool]]:
    """The fields of a shape: name -> (type, required)."""
    return dict(_members(podspec.SHAPES[name]))


@functools.cache
def _members(body: str) -> tuple[tuple[str, tuple[str, bool]], ...]:
    pairs = (item.split(":", 1) for item in body.split())
    return tuple((key, (kind.removesuffix("!"), kind.endswith("!"))) for key, kind in pairs)


def _compile(kind: str, handler: pydantic.GetCoreSchemaHandler) -> pydantic_core.CoreSchema:
    if kind.startswith("["):
        return core_schema.list_schema(_compile(kind[1:-1], handler), strict=True)
    if kind.startswith("{"):
        return core_schema.dict_schema(core_schema.str_schema(strict=True), _compile(kind[1:-1], handler), strict=True)
    if kind in _SCALARS:
        return handler.generate_schema(_SCALARS[kind])
    found = {
        name: core_schema.typed_dict_field(_compile(inner, handler), required=required)
        for name, (inner, required) in _members(podspec.SHAPES[kind])
    }
    return core_schema.typed_dict_schema(found, extra_behavior="forbid", strict=True)
