"""Raw tensor bytes and arrays: the binary tensor extension of REST and the raw contents of gRPC share this form.

Elements are little-endian and row-major; BOOL is one byte, each BYTES element is its length in four bytes and then
itself. Source: the "binary tensor data" extension of the Open Inference Protocol. Numeric tensors are views of the
received buffer (read-only, no copy) unless the buffer is not aligned for their type.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from mlship import errors
from mlship.protocol import elements, faults, messages

_LITTLE = {name: dtype.newbyteorder("<") for name, dtype in messages.NUMPY_OF.items() if name != "BYTES"}
_LENGTH = struct.Struct("<I")


def decode(raw: bytes | memoryview, *, datatype: str, shape: tuple[int, ...], where: str) -> messages.Array:
    """The array in ``raw``. Raises ``errors.SpecError`` when the bytes are not exactly those of ``shape``."""
    if datatype == "BYTES":
        return _decode_elements(raw, shape=shape, where=where)
    dtype = _LITTLE[datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        what = f"expected {expected} bytes for {datatype} of shape {list(shape)}, got {len(raw)}"
        raise faults.invalid(where, what)
    if datatype == "BOOL":
        flags: messages.Array = np.frombuffer(raw, np.uint8) != 0
        return flags.reshape(shape)
    array = np.frombuffer(raw, dtype)
    if not array.flags.aligned:
        array = array.copy()
    return array.astype(messages.NUMPY_OF[datatype], copy=False).reshape(shape)


def _decode_elements(raw: bytes | memoryview, *, shape: tuple[int, ...], where: str) -> messages.Array:
    count = math.prod(shape)
    if count * _LENGTH.size > len(raw):
        what = (
            f"expected {count} BYTES elements for shape {list(shape)}, each with a 4-byte length, got {len(raw)} bytes"
        )
        raise faults.invalid(where, what)
    view = memoryview(raw)
    found = np.empty(count, dtype=object)
    at = 0
    for index in range(count):
        begin = at + _LENGTH.size
        if begin > len(view):
            raise _truncated(where, index, count)
        at = begin + _LENGTH.unpack_from(view, begin - _LENGTH.size)[0]
        if at > len(view):
            raise _truncated(where, index, count)
        found[index] = bytes(view[begin:at])
    if at != len(view):
        raise faults.invalid(where, f"{len(view) - at} bytes are left over after {count} BYTES elements")
    return found.reshape(shape)


def _truncated(where: str, index: int, count: int) -> errors.SpecError:
    return faults.invalid(where, f"truncated: element {index} of {count} BYTES elements runs past the end of the data")


def encode(tensor: messages.Tensor) -> bytes:
    """The raw bytes of an output. Raises ``errors.ModelError`` for an element that BYTES cannot carry."""
    if tensor.datatype == "BYTES":
        parts: list[bytes] = []
        for element in elements.of(tensor):
            item = element if type(element) is bytes else elements.raw(element, tensor.name)
            parts.append(_LENGTH.pack(len(item)))
            parts.append(item)
        return b"".join(parts)
    return np.ascontiguousarray(tensor.data, dtype=_LITTLE[tensor.datatype]).tobytes()
