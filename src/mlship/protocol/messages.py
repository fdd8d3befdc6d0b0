"""The one request and the one response inside the server; codecs at the rim turn wire forms into these and back.

Tensors are NumPy arrays in row-major order. The datatypes are the Open Inference Protocol's; BYTES elements live in
an object array of ``bytes`` (or ``str``, encoded as UTF-8 on the way out).
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Scalar = bool | int | float | str
NO_PARAMETERS: Mapping[str, Scalar] = types.MappingProxyType({})


def _none() -> Mapping[str, Scalar]:
    return NO_PARAMETERS


Array = npt.NDArray[Any]

NUMPY_OF: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
_DATATYPE_OF = {dtype: name for name, dtype in NUMPY_OF.items()}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The OIP datatype of a NumPy dtype; strings, objects and dates are BYTES. Raises KeyError for the others."""
    if dtype.kind in "OSUTM":
        return "BYTES"
    return _DATATYPE_OF[dtype.newbyteorder("=")]


# The three below are made for every request. They are facts like all others, and nobody changes them; but ``frozen``
# would cost a microsecond for each, a tenth of what a small request costs in all.


@dataclasses.dataclass(slots=True, eq=False)
class Tensor:
    """A named array; ``data.shape`` is its shape. ``parameters`` are those of the wire without binary_data*."""

    name: str
    datatype: str
    data: Array
    parameters: Mapping[str, Scalar] = dataclasses.field(default_factory=_none)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape


@dataclasses.dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output the caller asks for. ``binary``: True or False when the caller said so, None when not."""

    name: str
    binary: bool | None = None
    parameters: Mapping[str, Scalar] = dataclasses.field(default_factory=_none)


@dataclasses.dataclass(slots=True, eq=False)
class InferRequest:
    """A decoded request. ``binary_outputs`` is the request's default for outputs that do not say."""

    model_name: str
    model_version: str = ""
    id: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, Scalar] = dataclasses.field(default_factory=_none)
    binary_outputs: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class InferResponse:
    """A response ready for a codec."""

    model_name: str
    model_version: str = ""
    id: str = ""
    outputs: tuple[Tensor, ...] = ()
    parameters: Mapping[str, Scalar] = dataclasses.field(default_factory=_none)


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model says of one input or output. A dimension of -1 is free; the first is the batch where there is one.

    An empty ``datatype`` takes numbers as well as strings (a column of which nothing is known): it comes as sent.
    ``content_type`` is MLServer's hint (np, pd, str ...); ``optional`` inputs may be left out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content_type: str = ""
    optional: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """A model's inputs and outputs. ``known`` False: nothing could be found out, anything is let through.

    ``columns``: feature names, in order, when the model takes one matrix (or frame) with named columns: a request may
    then send one matrix, or one tensor per column. ``frame``: the model wants a pandas DataFrame with those columns.
    ``default_outputs``: the outputs given when the caller names none.
    ``batched``: the first dimension of every input and output is the batch, so that requests may be joined.
    """

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    default_outputs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    frame: bool = False
    batched: bool = True
    known: bool = True
