"""A large JSON body whose tensors are in one array of rows, read piece by piece: V1 and MLflow.

As in ``json_slices``, no step holds the interpreter for long. Here the rows may be anything, strings and objects
too: the array is cut out of the body, taken apart where one row ends and the next begins, and each piece is read as if
it were all rows there are; then the tensors of the pieces are joined. That gives what the whole would give as long as
the pieces agree on their kinds; where they do not, or a piece is no JSON, ``json_slices.Unclear`` sends the caller
to read the text whole. A piece that is valid JSON ends outside of strings and of inner arrays, so a border is either
right or noticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import json_slices, messages

Load = Callable[[bytes], Any]
Read = Callable[[dict[str, Any]], tuple[messages.Tensor, ...]]

PIECE = json_slices.PIECE
_MARK = "mlship rows"
_BORDERS = {b"[": re.compile(rb"\][ \t\r\n]*,(?=[ \t\r\n]*\[)"), b"{": re.compile(rb"\}[ \t\r\n]*,(?=[ \t\r\n]*\{)")}
_BETWEEN_VALUES = re.compile(rb",")
_NUMBERS = {"INT64", "FP64"}
_TRIES = 16  # borders in a row that turned out to be inside of something


def tensors(
    text: bytes, keys: Sequence[bytes], *, load: Load, read: Read, pause: json_slices.Pause
) -> tuple[dict[str, Any], tuple[messages.Tensor, ...]]:
    """The body without its rows, and the tensors of all rows.

    Args:
        keys: in quotes, as the text has them; the first that has an array is taken.
        load: reads JSON.
        read: the tensors of a body that has some of the rows.

    Raises:
        json_slices.Unclear: the text is to be read whole.
    """
    begin = next((at for at in (json_slices.value_of(text, key) for key in keys) if at), 0)
    end = text.rfind(b"]") + 1
    if not begin or end <= begin or text.count(_MARK.encode()):
        raise json_slices.Unclear
    found: list[tuple[messages.Tensor, ...]] = []
    try:
        body = load(b'%s"%s"%s' % (text[:begin], _MARK.encode(), text[end:]))
        holder, key = _holder(body)
        for rows in _rows(text, begin + 1, end - 1, load):
            holder[key] = rows
            found.append(read(body))
            pause()
    except errors.SpecError as error:
        raise json_slices.Unclear from error
    return body, _joined(found)


def _holder(body: Any) -> tuple[dict[str, Any], str]:
    """The object that has the mark, and where: the body itself or one in it."""
    if type(body) is dict:
        for holder in (body, *(value for value in body.values() if type(value) is dict)):
            for key, value in holder.items():
                if value == _MARK:
                    return holder, key
    raise json_slices.Unclear


def _rows(text: bytes, at: int, last: int, load: Load) -> Iterator[list[Any]]:
    """The elements of the array whose inside is ``text[at:last]``, some at a time."""
    first = text[at : min(last, at + PIECE)].lstrip(b" \t\r\n")[:1]
    border = _BORDERS.get(first, _BETWEEN_VALUES)
    while at < last:
        search = at + PIECE
        for _ in range(_TRIES):
            found = border.search(text, search, last)
            end = last if found is None else found.end() - 1
            try:
                rows = load(b"[%s]" % text[at:end])
            except errors.SpecError:
                if found is None:
                    raise
                search = found.end()
            else:
                break
        else:
            raise json_slices.Unclear
        if not rows:
            raise json_slices.Unclear
        yield rows
        at = end + 1
        if end < last <= at:
            raise json_slices.Unclear  # A comma and nothing behind it.


def _joined(found: list[tuple[messages.Tensor, ...]]) -> tuple[messages.Tensor, ...]:
    if not found or len({tuple(tensor.name for tensor in piece) for piece in found}) != 1:
        raise json_slices.Unclear
    return tuple(_one(list(column)) for column in zip(*found, strict=True))


def _one(pieces: list[messages.Tensor]) -> messages.Tensor:
    """The tensor of which these are the parts. Raises ``Unclear`` where the whole might be of another kind."""
    first = pieces[0]
    kinds = {piece.datatype for piece in pieces}
    if len({piece.shape[1:] for piece in pieces}) != 1 or any(piece.parameters != first.parameters for piece in pieces):
        raise json_slices.Unclear
    if len(kinds) > 1 and kinds != _NUMBERS:
        raise json_slices.Unclear
    # Whole numbers in one piece and others in another are numbers; what else differs, the whole must say.
    datatype = "FP64" if len(kinds) > 1 else first.datatype
    if datatype == "BYTES" and len(pieces) > 1 and any(type(piece.data.flat[0]) is bytes for piece in pieces):
        raise json_slices.Unclear  # Base64, of which all must be.
    return messages.Tensor(first.name, datatype, np.concatenate([piece.data for piece in pieces]), first.parameters)
