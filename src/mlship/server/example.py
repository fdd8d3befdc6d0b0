"""One row for a model: for the warm-up, the example route and the curl that the user pastes.

The model's own row where it can name one, else one made from the signature: zeros and empty strings, a free
dimension as 1. A signature that is not known allows none.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server import model as contract


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A row in the form ``Model.infer`` takes; ``genuine`` when the model itself named it."""

    inputs: Mapping[str, messages.Array]
    genuine: bool


def of(model: contract.Model) -> Example | None:
    """The example row of ``model``; None when nothing is known of its inputs. Runs model code: not for the loop."""
    own = getattr(model, "example", None)
    if own is not None and (inputs := own()):
        return Example(inputs=dict(inputs), genuine=True)
    if not model.signature.known or not model.signature.inputs:
        return None
    return Example(inputs=made(model.signature), genuine=False)


def made(signature: messages.Signature) -> dict[str, messages.Array]:
    """A row of zeros and empty strings that fits ``signature``."""
    return {spec.name: _zeros(spec) for spec in signature.inputs if not spec.optional}


def _zeros(spec: messages.TensorSpec) -> messages.Array:
    shape = tuple(1 if size < 0 else size for size in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, "", dtype=object)
    # An input of any datatype takes numbers as well.
    return np.zeros(shape, dtype=messages.NUMPY_OF[spec.datatype or "FP64"])


def infer_body(example: Example) -> dict[str, Any]:
    """A V2 infer body made from ``example``, for JSON."""
    return {"inputs": [_input(name, _as_sent(array)) for name, array in example.inputs.items()]}


def _input(name: str, array: messages.Array) -> dict[str, Any]:
    datatype = messages.datatype_of(array.dtype)
    values = _shortest(array)
    body: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
    try:
        return body | {"data": [value.decode() if isinstance(value, bytes) else value for value in values]}
    except UnicodeDecodeError:
        encoded = [base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode() for value in values]
        return body | {"parameters": {"content_type": "base64"}, "data": encoded}


def _shortest(array: messages.Array) -> list[Any]:
    """The elements as JSON values; narrow floats by their own shortest digits, 4.9 and not 4.900000095367432."""
    if array.dtype in (np.float16, np.float32):
        return [float(str(value)) for value in array.ravel()]
    values: list[Any] = array.ravel().tolist()
    return values


def _as_sent(array: messages.Array) -> messages.Array:
    """An object array of nothing but numbers travels as numbers."""
    if array.dtype.kind == "O" and array.size and all(isinstance(value, bool | int | float) for value in array.flat):
        return np.asarray(array.tolist())
    return array
