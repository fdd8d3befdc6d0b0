"""BYTES elements of a model's outputs on their way out: to raw bytes, to JSON text, to JSON values.

A model may put anything into an object array. Bytes and text go out as they are, dates as ISO 8601 text, every other
value as its JSON text (V2, gRPC) or as the JSON value itself (V1, MLflow); what JSON cannot carry is the model's
fault and says so. Used by every codec when a response is encoded.
"""

from __future__ import annotations

import base64
import decimal
from typing import Any

import numpy as np
import orjson

from mlship import errors
from mlship.protocol import messages

OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def of(tensor: messages.Tensor) -> list[Any]:
    """The elements in row-major order; dates as ISO 8601 text."""
    flat = tensor.data.ravel()
    if flat.dtype.kind == "M":
        dates: list[Any] = np.datetime_as_string(flat).tolist()
        return [None if text == "NaT" else text for text in dates]
    return flat.tolist()


def raw(element: Any, output: str) -> bytes:
    """One element as bytes: text as UTF-8, values that are neither text nor bytes as JSON text.

    Raises:
        errors.SpecError: a missing value: the form that was asked for has no place for it, JSON has.
        errors.ModelError: a value that has no JSON.
    """
    if isinstance(element, bytes):
        return bytes(element)
    if isinstance(element, str):
        return _utf8(element, output)
    if element is None:
        what = f"The output {output!r} has a missing value, which binary BYTES cannot carry."
        raise errors.SpecError(what, hint="Ask for this output as JSON over REST.")
    return dumps(element, output)


def texts(values: list[Any], output: str) -> tuple[list[str | None], bool]:
    """The elements as JSON strings (None stays null), and whether they had to be written in base64.

    One element that is not UTF-8 puts all of them in base64, so that a reader has one rule for the tensor.
    """
    try:
        return [None if value is None else _text(value, output) for value in values], False
    except UnicodeDecodeError:
        encoded = [None if value is None else base64.b64encode(raw(value, output)).decode("ascii") for value in values]
        return encoded, True


def _text(value: Any, output: str) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    return dumps(value, output).decode()


def dumps(value: Any, output: str = "") -> bytes:
    """JSON bytes of a response or of one of its values. Raises ``errors.ModelError`` for what JSON cannot carry."""
    try:
        return orjson.dumps(value, default=_plain, option=OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        where = f"The model's output {output!r}" if output else "The model's answer"
        cause = error.__cause__ or error
        raise errors.ModelError(f"{where} has a value that JSON cannot carry: {str(cause)[:200]}.") from error


def _plain(value: Any) -> Any:
    """What orjson does not know by itself; bytes that are not text take TensorFlow Serving's form for them."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(f"a {type(value).__name__} is not a JSON value")


def _utf8(text: str, output: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise errors.ModelError(f"The model's output {output!r} has text that is not valid Unicode.") from error
