"""Large JSON tensors read and written piece by piece, so that no single step holds the interpreter for long.

A JSON library reads ten megabytes in one call that lets no other thread run. Here the arrays of numbers of a large
infer body are cut out of its text first (``cut``), what is left is parsed as usual, and each array is read in pieces,
``pause`` being called between them. Only what is plainly an array of numbers, flat or of rows, is cut; wherever a
piece is not what it should be, ``Unclear`` is raised and the caller reads the text whole, which also gives the exact
message. The pieces of a valid array, each in brackets, are valid arrays and the other way round, so nothing is read
that the whole would not be. Used by ``json_codec``; ``write`` is the way back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import orjson

from mlship import errors
from mlship.protocol import json_data, messages

Pause = Callable[[], None]

PIECE = 32 * 1024  # bytes of JSON, a tenth of a millisecond
_LEAST = 4 * PIECE  # arrays below this are left where they are
_ROWS_WRITTEN = 8192  # numbers in a piece of an answer
_KEY = b'"data"'
_BLANK = b" \t\r\n"
_MARK = "mlship array "


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
        if end - begin >= _LEAST:
            mark = f"{_MARK}{len(arrays)}"
            arrays[mark] = Array(text, begin, end)
            kept += [text[done:begin], b'"%s"' % mark.encode()]
            done = at = end
    rest = b"".join([*kept, text[done:]]) if arrays else b""
    if not arrays or rest.count(_MARK.encode()) != len(arrays):
        raise Unclear
    return Text(rest=rest, arrays=arrays)


def _value(text: bytes, at: int) -> int:
    """Where the array begins that is the value of the key at ``at``; 0 when it is no key or no array."""
    if text[at - 1 : at] == b"\\":
        return 0
    colon = _skip(text, at + len(_KEY))
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


def read(array: Array, *, datatype: str, where: str, pause: Pause) -> tuple[messages.Array, tuple[int, ...]]:
    """The numbers of an array that was cut out, one-dimensional, and the shape that they had.

    Raises:
        Unclear: it is not an array of numbers, flat or of rows of one length, or not of ``datatype``.
    """
    found: list[messages.Array] = []
    dims: set[tuple[int, ...]] = set()
    rows = 0
    for piece in _pieces(array):
        try:
            flat, shape = json_data.flatten(orjson.loads(piece))
            found.append(json_data.array(flat, datatype, where))
        except (orjson.JSONDecodeError, json_data.Ragged, errors.SpecError) as error:
            raise Unclear from error
        rows += shape[0]
        dims.add(shape[1:])
        pause()
    if len(dims) != 1:
        raise Unclear
    return np.concatenate(found), (rows, *dims.pop())


def _pieces(array: Array) -> Iterator[bytes]:
    """The text of arrays whose elements, one after the other, are those of ``array``."""
    text, at, last = array.text, array.begin + 1, array.end - 1
    inner = _skip(text, at)
    nested = text[inner : inner + 1] == b"["
    while at <= last:
        end = text.find(b"]" if nested else b",", at + PIECE, last)
        end = last if end < 0 else _skip(text, end + nested)
        piece = text[at:end]
        if not piece.strip(_BLANK) or (end < last and text[end : end + 1] != b","):
            raise Unclear
        yield b"[%s]" % piece
        at = end + 1


def write(array: messages.Array, pause: Pause) -> messages.Array | orjson.Fragment:
    """The flat ``array`` in a form that orjson writes: itself, or, when it is large, its JSON, made in pieces."""
    if array.size <= 4 * _ROWS_WRITTEN:
        return array
    pieces = []
    for begin in range(0, array.size, _ROWS_WRITTEN):
        piece = orjson.dumps(array[begin : begin + _ROWS_WRITTEN], option=orjson.OPT_SERIALIZE_NUMPY)
        pieces.append(piece[1:-1])
        pause()
    return orjson.Fragment(b"[%s]" % b",".join(pieces))
