"""The short way for the infer body that nearly everybody sends: a few plain tensors, numbers, no parameters.

Each request that comes small and plain is read here in a few microseconds; whatever is not, or is wrong, is left to
``json_codec``, which reads all there is and has the sentences for what is refused. So nothing is decided here that
is not decided there in the same way: a property test compares the two.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import json_data, messages

_BODY = frozenset(("inputs",))
_BODY_WITH_ID = frozenset(("id", "inputs"))
_TENSOR = frozenset(("name", "shape", "datatype", "data"))
_FLOATS = frozenset((float, int, type(None)))
_FP64 = np.dtype(np.float64)
_MAX_DIMENSIONS = 8


def decode(payload: Any, *, model_name: str, model_version: str) -> messages.InferRequest | None:
    """The request in a parsed body; None when it is not plain."""
    if type(payload) is not dict:
        return None
    identifier = ""
    if payload.keys() != _BODY:
        if payload.keys() != _BODY_WITH_ID:
            return None
        identifier = payload["id"]
        if type(identifier) is not str:
            return None
    items = payload["inputs"]
    if type(items) is not list:
        return None
    if len(items) == 1:
        tensor = _tensor(items[0])
        if tensor is None:
            return None
        tensors: tuple[messages.Tensor, ...] = (tensor,)
    else:
        tensors = _several(items)
        if not tensors:
            return None
    return messages.InferRequest(
        model_name, model_version, identifier, tensors, (), messages.NO_PARAMETERS, binary_outputs=False
    )


def _several(items: list[Any]) -> tuple[messages.Tensor, ...]:
    """The tensors; none when one of them is not plain, or a name is there twice."""
    tensors: dict[str, messages.Tensor] = {}
    for item in items:
        tensor = _tensor(item)
        if tensor is None:
            return ()
        tensors[tensor.name] = tensor
    return tuple(tensors.values()) if len(tensors) == len(items) else ()


def _tensor(item: Any) -> messages.Tensor | None:
    if type(item) is not dict or item.keys() != _TENSOR:
        return None
    name, shape, datatype, data = item["name"], item["shape"], item["datatype"], item["data"]
    if type(name) is not str or not name or type(shape) is not list or type(data) is not list:
        return None
    flat = _flat(data, shape)
    if flat is None:
        return None
    if datatype == "FP64" and set(map(type, flat)) <= _FLOATS:
        array = np.array(flat, _FP64)
    elif type(datatype) is str and datatype in messages.NUMPY_OF:
        try:
            array = json_data.array(flat, datatype, "")
        except errors.SpecError:
            return None
    else:
        return None
    array.shape = tuple(shape)
    return messages.Tensor(name, datatype, array, messages.NO_PARAMETERS)


def _flat(data: list[Any], shape: list[Any]) -> list[Any] | None:
    """The scalars of ``data``, flat or rows of ``shape``; at least one, and as many as ``shape`` has."""
    count = 1
    for dim in shape:
        if type(dim) is not int or dim <= 0:
            return None
        count *= dim
    if len(shape) > _MAX_DIMENSIONS:
        return None
    if data and type(data[0]) is list:
        if len(shape) != 2 or len(data) != shape[0]:
            return None
        width = shape[1]
        for row in data:
            if type(row) is not list or len(row) != width:
                return None
        return data[0] if len(data) == 1 else list(itertools.chain.from_iterable(data))
    return data if len(data) == count else None
