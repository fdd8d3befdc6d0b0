"""Large JSON tensors read and written piece by piece, so that no single step holds the interpreter for long.

A JSON library reads ten megabytes in one call that lets no other thread run, and makes a Python object of every
number. Here the arrays of numbers of an infer body are cut out of its text first (``cut``), what is left is parsed as
usual, and each array is read in pieces by simdjson, straight into a buffer, ``pause`` being called between them; the
shape is read off brackets and commas. Only what is plainly an array of numbers, flat or of arrays, is cut; wherever a
piece is not what it should be, ``Unclear`` is raised and the caller reads the text whole, which also gives the exact
message. The pieces of a valid array, each in brackets, are valid arrays and the other way round, so nothing is read
that the whole would not be. Used by ``json_codec``; ``write`` is the way back.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import simdjson

from mlship import errors
from mlship.protocol import json_data, messages

Pause = Callable[[], None]

PIECE = 32 * 1024  # bytes of JSON, a tenth of a millisecond
LEAST = 8 * 1024  # bytes; arrays below this are left where they are
_ROWS_WRITTEN = 8192  # numbers in a piece of an answer
_KEY = b'"data"'
_BLANK = b" \t\r\n"
_MARK = "mlship array "
_BUFFERS = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("u", np.uint64)}
_IN_NUMBERS = b"+-.0123456789Ee \t\r\n"


class Unclear(Exception):
    """The text is to be read whole. It never leaves the codecs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """An infer body with its large arrays cut out: ``rest`` has a string in the place of each, a key of ``arrays``."""

    rest: bytes
    arrays: Mapping[str, Array]


@dataclasses.dataclass(frozen=True, slots=True)
class Array:
    """The text of a JSON array: ``text[begin:end]``, not copied."""

    text: bytes
    begin: int
    end: int


def cut(text: bytes) -> Text:
    """``text`` with the values of its large ``data`` arrays cut out. Raises ``Unclear`` when there are none."""
    kept: list[bytes] = []
    arrays: dict[str, Array] = {}
    done = at = 0
    while (at := text.find(_KEY, at)) >= 0:
        begin = _value(text, at)
        at += len(_KEY)
        end = _end(text, begin) if begin else 0
        if end - begin >= LEAST:
            mark = f"{_MARK}{len(arrays)}"
            arrays[mark] = Array(text, begin, end)
            kept += [text[done:begin], b'"%s"' % mark.encode()]
            done = at = end
    rest = b"".join([*kept, text[done:]]) if arrays else b""
    if not arrays or rest.count(_MARK.encode()) != len(arrays):
        raise Unclear
    return Text(rest=rest, arrays=arrays)


def value_of(text: bytes, key: bytes) -> int:
    """Where the array begins that is the value of ``key``, quotes included, at its first place; 0: there is none."""
    at = text.find(key)
    return _value(text, at, key) if at >= 0 else 0


def _value(text: bytes, at: int, key: bytes = _KEY) -> int:
    """Where the array begins that is the value of the key at ``at``; 0 when it is no key or no array."""
    if text[at - 1 : at] == b"\\":
        return 0
    colon = _skip(text, at + len(key))
    if text[colon : colon + 1] != b":":
        return 0
    begin = _skip(text, colon + 1)
    return begin if text[begin : begin + 1] == b"[" else 0


def _skip(text: bytes, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _end(text: bytes, begin: int) -> int:
    """Behind the array at ``begin``, if there are neither strings nor objects in it; else 0."""
    brace = text.find(b"}", begin)
    quote = text.find(b'"', begin, brace if brace >= 0 else len(text))
    stop = quote if quote >= 0 else brace
    if stop < 0:
        return 0
    end = text.rfind(b"]", begin, stop) + 1
    return end if not text[end:stop].strip(_BLANK + b",") else 0


def read(
    array: Array, *, datatype: str, where: str, pause: Pause | None = None
) -> tuple[messages.Array, tuple[int, ...]]:
    """The numbers of an array that was cut out, one-dimensional, and the shape that they had.

    Raises:
        Unclear: it is not an array of numbers, flat or of arrays of one shape, or not of ``datatype``.
    """
    parser = simdjson.Parser()
    found: list[messages.Array] = []
    insides: set[tuple[int, ...]] = set()
    rows = 0
    for piece in _pieces(array):
        numbers, dims = _numbers(parser, piece, datatype, where)
        found.append(numbers)
        insides.add(dims[1:])
        rows += dims[0]
        if pause is not None:
            pause()
    if len(insides) != 1:
        raise Unclear
    return found[0] if len(found) == 1 else np.concatenate(found), (rows, *insides.pop())


def _numbers(
    parser: simdjson.Parser, piece: bytes, datatype: str, where: str
) -> tuple[messages.Array, tuple[int, ...]]:
    """The numbers of the array in whose brackets ``piece`` would stand, and its shape. Raises ``Unclear``."""
    text = b"[%s]" % piece
    kind = messages.NUMPY_OF[datatype].kind
    try:
        if kind in _BUFFERS:
            wide, dims = _buffered(parser, text, kind)
            return json_data.narrowed(wide, datatype, where), dims
    except (ValueError, TypeError, RuntimeError):
        pass  # null, 1.0 among integers, integers of more than 64 bits, rows unlike, or no JSON: orjson knows.
    except errors.SpecError as error:
        raise Unclear from error
    try:
        flat, shape = json_data.flatten(orjson.loads(text))
        return json_data.array(flat, datatype, where), shape
    except (orjson.JSONDecodeError, json_data.Ragged, errors.SpecError) as error:
        raise Unclear from error


def _buffered(parser: simdjson.Parser, text: bytes, kind: str) -> tuple[messages.Array, tuple[int, ...]]:
    """As 64 bits each, and their shape. Raises ValueError, TypeError or RuntimeError where that is not all there is."""
    # The parser reads nothing more for as long as something of its last answer lives; here it ends with the call.
    parsed: Any = parser.parse(text)
    of_type, dtype = _BUFFERS[kind]
    wide: messages.Array = np.frombuffer(parsed.as_buffer(of_type=of_type), dtype=dtype)
    if b"[" not in text[1:]:
        return wide, (wide.size,)
    dims: tuple[int, ...] | None
    if text.count(b"[", 1) == len(parsed):
        widths = set(map(len, parsed))
        dims = (len(parsed), *widths) if len(widths) == 1 else None
    else:
        dims = _shape(text[1:-1])
    if dims is None or math.prod(dims) != wide.size:
        raise ValueError("the rows are not alike")
    return wide, dims


def _shape(piece: bytes) -> tuple[int, ...] | None:
    """The shape of the array in whose brackets ``piece`` would stand, by brackets and commas alone; None: ragged."""
    signs = piece.translate(None, _IN_NUMBERS)
    depth = len(signs) - len(signs.lstrip(b"["))
    inner: list[int] = []
    pattern = b""
    for closing in range(1, depth + 1):
        # The first array that is so many levels deep: so many of the pattern, with commas between them.
        size = signs.find(b"]" * closing) + closing - 1 - (depth - closing + 1)
        count, left = divmod(size + 1, len(pattern) + 1)
        if left or count < 1:
            return None
        inner.insert(0, count)
        pattern = b"[%s]" % b",".join([pattern] * count)
    count, left = divmod(len(signs) + 1, len(pattern) + 1)
    if left or b",".join([pattern] * count) != signs:
        return None
    return (count, *inner)


def _pieces(array: Array) -> Iterator[bytes]:
    """The text of arrays whose elements, one after the other, are those of ``array``."""
    text, at, last = array.text, array.begin + 1, array.end - 1
    depth = _depth(text, at)
    border = re.compile(rb"(?:\][ \t\r\n]*){%d}," % depth)
    while at <= last:
        found = border.search(text, at + PIECE, last)
        end = last if found is None else found.end() - 1
        piece = text[at:end]
        if not piece.strip(_BLANK):
            raise Unclear
        yield piece
        at = end + 1


def _depth(text: bytes, at: int) -> int:
    """How many arrays begin at ``at`` before the first number."""
    depth = 0
    while text[(at := _skip(text, at)) : at + 1] == b"[":
        depth += 1
        at += 1
    return depth


def write(array: messages.Array, pause: Pause | None) -> messages.Array | orjson.Fragment:
    """A number array in a form that orjson writes: itself, or, when it is large, its JSON, made in pieces."""
    if pause is None or array.size <= 4 * _ROWS_WRITTEN:
        return array
    rows = max(1, _ROWS_WRITTEN * len(array) // array.size)
    pieces = []
    for begin in range(0, len(array), rows):
        piece = orjson.dumps(array[begin : begin + rows], option=orjson.OPT_SERIALIZE_NUMPY)
        pieces.append(piece[1:-1])
        pause()
    return orjson.Fragment(b"[%s]" % b",".join(pieces))
