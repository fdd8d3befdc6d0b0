"""Rows as the bodies that the servers take, and labels from their answers. Pure but for NumPy.

Three dialects: ``v2`` (the Open Inference Protocol in JSON), ``binary`` (its binary tensors), ``rows`` (an object of
rows, for frameworks where the JSON is one's own). gRPC bodies are V2's ModelInferRequest behind gRPC's five-byte frame.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from mlship.protocol import oip

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """What is posted. ``head`` is the length of the JSON part of a binary body, 0 for all others."""

    data: bytes
    content_type: str = "application/json"
    head: int = 0

    @property
    def headers(self) -> dict[str, str]:
        extra = {"Inference-Header-Content-Length": str(self.head)} if self.head else {}
        return {"Content-Type": self.content_type, **extra}


def body(dialect: str, rows: Floats) -> Body:
    """Raises KeyError for a dialect that does not exist."""
    return DIALECTS[dialect](rows)


def _v2(rows: Floats) -> Body:
    tensor = {"name": "input-0", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return Body(json.dumps({"inputs": [tensor]}).encode())


def _rows(rows: Floats) -> Body:
    return Body(json.dumps({"rows": rows.tolist()}).encode())


def _binary(rows: Floats) -> Body:
    data = rows.astype("<f8").tobytes()
    size = {"binary_data_size": len(data)}
    tensor = {"name": "input-0", "shape": list(rows.shape), "datatype": "FP64", "parameters": size}
    # Binary both ways, as Triton's own client asks for it.
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Body(head + data, content_type="application/octet-stream", head=len(head))


DIALECTS = {"v2": _v2, "binary": _binary, "rows": _rows}


def labels(answer: bytes, *, head: int = 0) -> list[int]:
    """The labels in an answer of any of the servers. Raises ValueError, KeyError or TypeError for what has none.

    Args:
        head: the length of the JSON part of a binary answer (its Inference-Header-Content-Length), else 0.
    """
    found = json.loads(answer[:head] if head else answer)
    if isinstance(found, dict):
        found = found["predictions"] if "predictions" in found else _output(found["outputs"][0], answer[head:])
    return [int(label) for label in np.asarray(found).ravel()]


_NUMBERS = {"INT64": "<i8", "INT32": "<i4", "FP64": "<f8", "FP32": "<f4"}


def _output(tensor: dict[str, Any], rest: bytes) -> object:
    """A V2 tensor's elements, from its JSON or, when it has none there, from what follows it."""
    if "data" in tensor:
        return tensor["data"]
    return np.frombuffer(rest[: int(tensor["parameters"]["binary_data_size"])], _NUMBERS[tensor["datatype"]])


def infer_message(model: str, rows: Floats) -> bytes:
    """A ModelInferRequest with raw contents."""
    message = oip.message("ModelInferRequest")(model_name=model)
    message.inputs.add(name="input-0", datatype="FP64", shape=list(rows.shape))
    message.raw_input_contents.append(rows.astype("<f8").tobytes())
    return bytes(message.SerializeToString())


def grpc_labels(answer: bytes) -> list[int]:
    """The labels in a ModelInferResponse, raw or not. Raises ValueError for what has none."""
    message = oip.message("ModelInferResponse")()
    message.ParseFromString(answer)
    if not message.outputs:
        raise ValueError("an answer without outputs")
    output = message.outputs[0]
    if message.raw_output_contents:
        return [int(label) for label in np.frombuffer(message.raw_output_contents[0], _NUMBERS[output.datatype])]
    contents = output.contents
    found = contents.int64_contents or contents.int_contents or contents.fp64_contents or contents.fp32_contents
    return [int(label) for label in found]


def grpc_frame(message: bytes) -> bytes:
    """A message as it travels in a gRPC call: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message
