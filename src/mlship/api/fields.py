"""The scalar types of the objects, and the base class of all of them.

Kubernetes is strict: a string is never a number, an unknown field is an error, and a quantity is a whole number or a
string but never a float. Pydantic's defaults are not, so every field of ``api`` uses one of these.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
import pydantic_core
from pydantic import alias_generators

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

# Kubernetes' own pattern (apimachinery, resource.Quantity), with named groups.
QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))?"
)

# Longer numbers and larger exponents mean nothing, and computing with them takes for ever.
MAX_QUANTITY = 64
MAX_EXPONENT = 30


class Spec(pydantic.BaseModel):
    """Base of every part of an object: immutable, camelCase outside, unknown fields refused."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=alias_generators.to_camel,
        protected_namespaces=(),
    )


def opt(description: str, **more: Any) -> Any:
    """An optional field that is None when absent, with its sentence for the reference page."""
    return pydantic.Field(default=None, description=description, **more)


def req(description: str, **more: Any) -> Any:
    """A required field, with its sentence for the reference page."""
    return pydantic.Field(description=description, **more)


def _int_or_string(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise pydantic_core.PydanticCustomError("int_or_string", "expected a whole number or a string")
    return value


def _quantity(value: object) -> object:
    if isinstance(value, float):
        raise pydantic_core.PydanticCustomError("quantity_float", "expected a whole number or a string")
    _int_or_string(value)
    text = str(value)[: MAX_QUANTITY + 1]
    match = QUANTITY.fullmatch(text)
    if match is None or len(text) > MAX_QUANTITY or _exponent(match["suffix"]) > MAX_EXPONENT:
        raise pydantic_core.PydanticCustomError("quantity_form", "is not a Kubernetes quantity")
    return value


def _exponent(suffix: str | None) -> float:
    return abs(float(suffix[1:])) if suffix and len(suffix) > 1 and suffix[0] in "eE" and suffix[1] != "i" else 0.0


Str = Annotated[str, pydantic.Strict()]
Bool = Annotated[bool, pydantic.Strict()]
Int = Annotated[int, pydantic.Strict(), pydantic.Field(ge=-INT64_MAX - 1, le=INT64_MAX)]
Int32 = Annotated[int, pydantic.Strict(), pydantic.Field(ge=-INT32_MAX - 1, le=INT32_MAX)]
IntOrStr = Annotated[
    Any,
    pydantic.PlainValidator(_int_or_string),
    pydantic.WithJsonSchema({"x-kubernetes-int-or-string": True}),
]
Quantity = Annotated[
    Any,
    pydantic.PlainValidator(_quantity),
    pydantic.WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": f"^{QUANTITY.pattern}$"}),
]
StrMap = dict[Str, Str]
