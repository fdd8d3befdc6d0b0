"""Checked reads of a decoded JSON body: an object, a string, a shape, a datatype, parameters.

Used by every REST codec right after ``orjson.loads`` and, for shapes and parameters, by the gRPC codec. Each reader
returns the plain value or raises ``errors.SpecError`` with the field's path; the checks on the way are a type
comparison each, so that small requests stay cheap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from mlship import errors
from mlship.protocol import faults, messages

MAX_DIMENSIONS = 32  # NumPy 1's limit; NumPy 2 allows 64
MAX_ELEMENTS = 2**48  # far above any body; keeps NumPy's own size arithmetic from overflowing

MAX_DEPTH = 64  # of objects and arrays in data that is kept as JSON; orjson writes 254 levels

_DATATYPES = frozenset(messages.NUMPY_OF)
_SCALARS = frozenset((bool, int, float, str))
_WORDS = {"NaN": "NaN", "nan": "NaN", "Inf": "Infinity", "inf": "Infinity"}

# Parameters of Triton's extensions that change where data lives or what comes back: ignored, the answer is wrong.
_REFUSED = {
    "shared_memory_region": "the shared memory extension is not supported",
    "shared_memory_byte_size": "the shared memory extension is not supported",
    "shared_memory_offset": "the shared memory extension is not supported",
    "classification": "the classification extension is not supported",
    "sequence_id": "the sequence extension is not supported",
    "sequence_start": "the sequence extension is not supported",
    "sequence_end": "the sequence extension is not supported",
}
_SEND_INSTEAD = {
    "classification": "Ask for the scores and sort them on your side.",
    "sequence_id": "Send each request whole; models keep no state between requests.",
}


def parse(text: bytes | memoryview) -> Any:
    """A JSON document as Python values. Raises ``errors.SpecError`` that says where it broke and why."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _broken(text, error) from error


def _broken(text: bytes | memoryview, error: orjson.JSONDecodeError) -> errors.SpecError:
    if not len(text):
        return faults.invalid("body", "expected a JSON object, got nothing")
    place = f"line {error.lineno} column {error.colno}"
    ahead = error.doc[error.pos : error.pos + 3] if isinstance(error.doc, str) else ""
    word = _WORDS.get(ahead)
    if word is not None:
        hint = f"JSON has no {word}: send null for a missing number, or send the tensor as binary data."
        return faults.invalid("body", f"{word} at {place} is not JSON", hint=hint)
    return faults.invalid("body", f"not valid JSON at {place}: {error.msg[:120]}")


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A JSON object."""
    if type(value) is not dict:
        raise faults.unexpected(where, "an object", value)
    return value


def sequence(value: Any, where: str) -> list[Any]:
    """A JSON array."""
    if type(value) is not list:
        raise faults.unexpected(where, "an array", value)
    return value


def shallow(value: Any, where: str) -> None:
    """Refuses JSON nested deeper than ``MAX_DEPTH``: it could be read, but not written again in an answer."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level if type(item) in (dict, list) for inner in _inside(item)]
        if not level:
            return
    raise faults.invalid(where, f"expected objects and arrays at most {MAX_DEPTH} levels deep")


def _inside(item: Any) -> Iterable[Any]:
    return item.values() if type(item) is dict else item


def name(value: Any, where: str) -> str:
    """A string with at least one character."""
    if type(value) is not str or not value:
        raise faults.unexpected(where, "a non-empty string", value)
    return value


def datatype(value: Any, where: str) -> str:
    """One of the protocol's datatypes that NumPy can hold; for anything else the nearest is named."""
    if type(value) is not str:
        raise faults.unexpected(where, "a datatype", value)
    if value not in _DATATYPES:
        if value == "BF16":
            raise faults.invalid(where, "BF16 is not supported: NumPy has no such type", hint="Send FP32 or FP16.")
        hint = faults.nearest(value, messages.NUMPY_OF)
        raise faults.invalid(where, f"unknown datatype {faults.quote(value)}", hint=hint)
    return value


def shape(value: Any, where: str) -> tuple[int, ...]:
    """A shape: dimensions are integers, none negative, in number and product within what an array can have."""
    dims = tuple(sequence(value, where))
    for dim in dims:
        if type(dim) is not int or dim < 0:
            raise faults.unexpected(where, "dimensions that are integers of at least 0", dim)
    return bounded(dims, where)


def bounded(dims: tuple[int, ...], where: str) -> tuple[int, ...]:
    """``dims`` again, refused when no array could have them."""
    if len(dims) > MAX_DIMENSIONS:
        raise faults.invalid(where, f"expected at most {MAX_DIMENSIONS} dimensions, got {len(dims)}")
    if math.prod(dim or 1 for dim in dims) > MAX_ELEMENTS:
        raise faults.invalid(where, f"too large: {faults.quote(list(dims))} is more than {MAX_ELEMENTS} elements")
    return dims


def distinct(names: Sequence[str], where: str) -> None:
    """Refuses a name that is there twice."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise faults.invalid(where, f"{faults.quote(twice)} is there twice; expected each name once")


def parameters(value: Any, where: str) -> dict[str, messages.Scalar]:
    """Parameters: an object of strings, numbers and booleans; null values count as left out."""
    if value is None:
        return {}
    found = mapping(value, where)
    result: dict[str, messages.Scalar] = {}
    for key, item in found.items():
        if item is None:
            continue
        if type(item) not in _SCALARS:
            raise faults.unexpected(f"{where}.{key[:80]}", "a string, a number or a boolean", item)
        result[key] = item
    return result


def supported(given: Mapping[str, messages.Scalar], where: str) -> None:
    """Refuses the parameters of extensions that the server does not have and that would change the answer."""
    for key in given.keys() & _REFUSED.keys():
        if given[key]:
            raise faults.invalid(f"{where}.{key}", _REFUSED[key], hint=_SEND_INSTEAD.get(key, "Leave it out."))


def flag(given: dict[str, messages.Scalar], key: str, where: str) -> bool | None:
    """Takes the boolean ``key`` out of ``given``; None when it was not there."""
    value = given.pop(key, None)
    if value is not None and type(value) is not bool:
        raise faults.unexpected(f"{where}.{key}", "a boolean", value)
    return value
